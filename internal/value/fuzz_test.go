package value

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"gpool/internal/ipc"
)

func FuzzDecode(f *testing.F) {
	r := record{Name: "n", Next: &record{}, Tags: map[string]int{"a": 1}, Any: []any{int64(1), []byte("x"), map[string]any{"k": 1.5}}, At: time.Unix(1, 2)}
	for _, seed := range []func([]byte) ([]byte, error){
		appending(r), appending([]record{r}), appending(5), appending("text"), appending(map[string]int{"a": 1, "b": 300}),
		appending([]any{nil, 1, "x", time.Unix(5, 5)}), appending(embedding{Base: &Base{1}}), appending([]float64{1, 2}),
	} {
		b, err := seed(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xc7, 5, 5, 0xdf, 0x7f, 0xff, 0xff, 0xff})
	f.Add(nested(60))
	f.Add(append(bytes.Repeat([]byte{0x91}, 60), 0x90))
	f.Add(append(bytes.Repeat([]byte{0x81, 0xa4, 'N', 'e', 'x', 't'}, 60), 0xc0))
	f.Add(append(bytes.Repeat([]byte{0x81, 0xa4, 'N', 'e', 'x', 't'}, 59), 0x80))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		for _, try := range []func(*testing.T, []byte){
			decodes[int8], decodes[uint64], decodes[float32], decodes[string], decodes[[]byte], decodes[[]int], decodes[[]string],
			decodes[any], decodes[[]any], decodes[map[string]any], decodes[record], decodes[[]record], decodes[*record],
			decodes[map[string]int], decodes[map[any]any], decodes[map[int8][]string], decodes[embedding], decodes[list],
			decodes[time.Time], decodes[onPointer], decodes[[]msgpack.RawMessage], decodes[[4]any],
		} {
			runtime.ReadMemStats(&before)
			try(t, b)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > uint64(400*len(b)+1<<20) {
				t.Fatalf("%d bytes took %d of memory", len(b), took)
			}
		}
		if out, err := AppendJSON(nil, b); err == nil && !json.Valid(out) {
			t.Fatalf("%s is no JSON", out)
		}
		_, _ = AppendText(nil, b)
		_, _ = Elements(b)
	})
}

// decodes checks that what could be decoded can be encoded, to the same value.
func decodes[T any](t *testing.T, b []byte) {
	var v, again T
	if Decode(b, &v) != nil {
		return
	}
	out, err := Append(nil, &v)
	if errors.Is(err, errTooDeep) && ipc.Precheck(append([]byte{0x91}, b...)) != nil {
		return // at the last level a struct had no field that is a level of its own, and its encoding has
	}
	if err != nil {
		t.Fatalf("%T was decoded but cannot be encoded: %v", v, err)
	}
	if err := Decode(out, &again); err != nil {
		t.Fatalf("%x of %T: %v", out, v, err)
	}
	if second, _ := Append(nil, &again); !bytes.Equal(out, second) {
		t.Fatalf("%T: %x became %x", v, out, second)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`null`, `[1,-2.5,"a\u00e9\n",{"k":[true,false,{}]}]`, `-0`, `1e5`, `18446744073709551615`, `"\ud83d\ude00"`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		wire, err := FromJSON(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("%q was taken", text)
		}
		first, err := AppendJSON(nil, wire)
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromJSON(first)
		if err != nil || !bytes.Equal(again, wire) {
			t.Fatalf("%s became %s, %v", text, first, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, first); err != nil || !bytes.Equal(compact.Bytes(), first) {
			t.Fatalf("%s is not compact", first)
		}
	})
}
