package wire

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/ipc"
)

func encoded[T any](m *T, fields []field[T]) []byte {
	e := ipc.NewEncoder()
	encode(e, m, fields)
	return e.Copy()
}

func anyValues(t *rapid.T) [][]byte {
	return rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 1, 5).Draw(t, "values")
}

func TestRequestsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Request{
			Op: Op(rapid.String().Draw(t, "op")), Object: rapid.StringN(0, 20, 4096).Draw(t, "object"),
			Wait: rapid.Bool().Draw(t, "wait"), Hold: rapid.Bool().Draw(t, "hold"), Flag: rapid.Bool().Draw(t, "flag"),
			Action: rapid.Bool().Draw(t, "action"), Side: rapid.Uint8().Draw(t, "side"), Owner: rapid.Uint64().Draw(t, "owner"),
			Init: rapid.Int64().Draw(t, "init"), N: rapid.Int64().Draw(t, "n"), M: rapid.Int64().Draw(t, "m"),
			With: rapid.StringN(0, 20, 4096).Draw(t, "with"),
		}
		if rapid.Bool().Draw(t, "has values") {
			r.Key, r.Values = []byte("key"), anyValues(t)
		}
		b := encoded(r, requestFields)
		got, err := decodeRequest(ipc.NewDecoder(), ipc.Question{Method: string(r.Op), Payload: b})
		if err != nil {
			t.Fatal(err)
		}
		clear(b) // nothing may alias the frame
		if got.Key == nil && r.Values == nil || len(got.Key) == 0 {
			got.Key = r.Key
		}
		if !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v became %+v", r, got)
		}
	})
}

func TestRepliesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Reply{
			Fault: FaultCode(rapid.StringN(0, 20, 4096).Draw(t, "fault")), Text: rapid.String().Draw(t, "text"),
			Flag: rapid.Bool().Draw(t, "flag"), N: rapid.Int64().Draw(t, "n"), M: rapid.Int64().Draw(t, "m"),
		}
		if rapid.Bool().Draw(t, "has values") {
			r.Values = anyValues(t)
		}
		var got Reply
		if err := decodeReply(ipc.NewDecoder(), ipc.Answer{Payload: encoded(r, replyFields), Message: r.Text}, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&got, r) {
			t.Fatalf("%+v became %+v", r, got)
		}
	})
}

// TestGoldenBytes holds what travels to what has travelled so far.
func TestGoldenBytes(t *testing.T) {
	for want, m := range map[string]*Request{
		"90":       {Op: Describe},
		"92a17801": {Op: LockAcquire, Object: "x", Wait: true},
		"9da1710100000000000000" + "00" + "a0" + "c400" + "92c40161c400": {Object: "q", Wait: true, Values: [][]byte{{'a'}, nil}},
		"99a173000100000002" + "0301":                                    {Object: "s", Hold: true, Owner: 2, Init: 3, N: 1},
	} {
		if got := hex.EncodeToString(encoded(m, requestFields)); got != want {
			t.Errorf("%+v is %s, not %s", m, got, want)
		}
	}
	for want, m := range map[string]*Reply{
		"90":                      {},
		"91a462757379":            {Fault: FaultBusy},
		"95a001" + "fe0091c40178": {Flag: true, N: -2, Values: [][]byte{{'x'}}},
	} {
		if got := hex.EncodeToString(encoded(m, replyFields)); got != want {
			t.Errorf("%+v is %s, not %s", m, got, want)
		}
	}
}

func TestBrokenPayloads(t *testing.T) {
	many := ipc.NewEncoder()
	many.Array(13)
	for _, f := range requestFields[:12] {
		f.put(many, &Request{})
	}
	many.Array(mostValues + 1)
	for range mostValues + 1 {
		many.Uint(0)
	}
	long := encoded(&Request{Object: strings.Repeat("x", longName+1)}, requestFields)
	for name, b := range map[string][]byte{
		"nothing": nil, "no array": {0x01}, "a number for a name": {0x91, 0x01}, "a flag of 2": {0x92, 0xa0, 0x02},
		"two values": {0x90, 0x90}, "cut": {0x92, 0xa0}, "a side of 256": {0x96, 0xa0, 0, 0, 0, 0, 0xcd, 1, 0},
		"an array that is not there": {0xdd, 0xff, 0xff, 0xff, 0xff}, "many values": many.Encoded(), "a long name": long,
		"a negative owner": {0x97, 0xa0, 0, 0, 0, 0, 0, 0xff},
	} {
		if r, err := decodeRequest(ipc.NewDecoder(), ipc.Question{Method: "x.y", Payload: b}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	newer := append([]byte{0xdc, 0, 15, 0xa1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0xc4, 0, 0x90}, 0x91, 0x01, 0xc0)
	if r, err := decodeRequest(ipc.NewDecoder(), ipc.Question{Payload: newer}); err != nil || r.Object != "x" {
		t.Errorf("fields of a newer peer: %+v, %v", r, err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(encoded(&Request{Object: "x", Wait: true, Values: [][]byte{{1}}}, requestFields))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(ipc.NewDecoder(), ipc.Question{Payload: b})
		if err != nil {
			return
		}
		again, err := decodeRequest(ipc.NewDecoder(), ipc.Question{Payload: encoded(r, requestFields)})
		if err != nil || again.Object != r.Object || len(again.Values) != len(r.Values) || again.Owner != r.Owner {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(encoded(&Reply{Flag: true, N: -1, Values: [][]byte{{1}}}, replyFields))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Reply
		if decodeReply(ipc.NewDecoder(), ipc.Answer{Payload: b}, &r) != nil {
			return
		}
		if err := decodeReply(ipc.NewDecoder(), ipc.Answer{Payload: encoded(&r, replyFields)}, &again); err != nil || again.N != r.N {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
