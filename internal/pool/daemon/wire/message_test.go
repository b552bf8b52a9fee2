package wire

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gpool/internal/value"
)

// TestMessagesSurvive: what one side sends is what the other gets, whatever bytes are in it.
func TestMessagesSurvive(t *testing.T) {
	t.Run("Submission", survives[Submission])
	t.Run("Accepted", survives[Accepted])
	t.Run("Lookup", survives[Lookup])
	t.Run("Awaiting", survives[Awaiting])
	t.Run("Awaited", survives[Awaited])
	t.Run("Following", survives[Following])
	t.Run("Info", survives[Info])
	t.Run("Telling", survives[Telling])
	t.Run("Status", survives[Status])
	t.Run("Size", survives[Size])
	t.Run("Leasing", survives[Leasing])
	t.Run("Nothing", survives[Nothing])
}

func survives[T any](t *testing.T) {
	check := func(t rapid.TB, sent T) {
		b, err := value.Append(nil, &sent)
		if err != nil {
			t.Fatalf("%+v: %v", sent, err)
		}
		var got T
		if err := value.Decode(b, &got); err != nil {
			t.Fatalf("%+v: %v", sent, err)
		}
		if !reflect.DeepEqual(sent, got) {
			t.Fatalf("%+v became %+v", sent, got)
		}
	}
	var zero T
	check(t, zero)
	rapid.Check(t, func(t *rapid.T) {
		var sent T
		fill(t, reflect.ValueOf(&sent).Elem())
		check(t, sent)
	})
}

// fill sets v, of one of the kinds that messages have, to anything.
func fill(t *rapid.T, v reflect.Value) {
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		if rapid.Bool().Draw(t, "set") {
			*at = time.Unix(rapid.Int64Range(-1e11, 1e11).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanos"))
		}
		return
	case *[]byte:
		*at = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		n := rapid.IntRange(-1, 3).Draw(t, "length")
		if n < 0 {
			return // nil, which is not the same as empty
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(string(rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "string")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, math.MaxUint64).Draw(t, "uint"))
	default:
		t.Fatalf("messages have no %s", v.Type())
	}
}

// TestMessagesOfOthers: fields that are missing are zero, those that nobody knows are skipped,
// and everything else must fit.
func TestMessagesOfOthers(t *testing.T) {
	type later struct{ IDs, Other []string }
	b, err := value.Append(nil, &later{IDs: []string{"a"}, Other: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	var got Awaiting
	if err := value.Decode(b, &got); err != nil || len(got.IDs) != 1 || got.Any || !got.Until.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"\x05", "\xa1x", "\x81\xa3IDs\x05", "\x81\xa3IDs\x91\x05", "\x81\xa5Until\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "\x80\x80"} {
		if err := value.Decode([]byte(wrong), &got); err == nil {
			t.Errorf("%q became %+v", wrong, got)
		}
	}
}

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		result Result
		want   int
	}{
		{Result{Outcome: Succeeded}, 0},
		{Result{Outcome: Failed, Exit: 3}, 3},
		{Result{Outcome: Failed, Exit: 139, Signal: 11}, 139},
		{Result{Outcome: Failed, Exit: -1}, 1},
		{Result{Outcome: NotStarted, Exit: 127}, 127},
		{Result{Outcome: NotStarted, Exit: -1}, 1},
		{Result{Outcome: TimedOut, Exit: 143, Signal: 15}, 124},
		{Result{Outcome: Cancelled, Exit: -1}, 143},
		{Result{Outcome: Terminated}, 143},
		{Result{Outcome: WorkerDied, Exit: -1}, 137},
		{Result{Outcome: OutOfMemory}, 137},
		{Result{Outcome: Lost}, 125},
		{Result{Outcome: NoSpace, Exit: 0}, 125},
	} {
		if got := c.result.Code(); got != c.want {
			t.Errorf("%+v has the code %d, not %d", c.result, got, c.want)
		}
	}
}
