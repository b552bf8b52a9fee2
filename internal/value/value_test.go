package value

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

type inner struct {
	A int8
	B []string
}

type Base struct{ ID int }

type record struct {
	Name    string `msgpack:"name"`
	Count   uint8
	Ratio   float32
	Inner   inner
	Next    *record
	Tags    map[string]int
	Any     any
	Err     error
	At      time.Time
	Fixed   [3]byte
	Pair    [2]int
	Skipped chan int `msgpack:"-"`
	Maybe   string   `msgpack:",omitempty"`
	Took    time.Duration
	hidden  int
}

type embedding struct {
	*Base
	inner
	C bool
}

type tuple struct {
	_msgpack struct{} `msgpack:",as_array"`
	X, Y     int
}

type omitting struct {
	_msgpack struct{} `msgpack:",as_array,omitempty"`
	X, Y     int
}

// onPointer has its methods on the pointer.
type onPointer struct{ n int }

func (p *onPointer) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeInt(int64(p.n)) }
func (p *onPointer) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	p.n, err = d.DecodeInt()
	return err
}

type panics struct{}

func (panics) EncodeMsgpack(*msgpack.Encoder) error  { panic("encode") }
func (*panics) DecodeMsgpack(*msgpack.Decoder) error { panic("decode") }

type writesTwo struct{}

func (writesTwo) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeMulti(1, 2) }

type readsNothing struct{}

func (readsNothing) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeNil() }
func (*readsNothing) DecodeMsgpack(*msgpack.Decoder) error  { return nil }

type (
	hiddenOnly struct{ a, b int }
	list       []list
	loop       *loop
	celsius    float64
	selfEmbed  struct{ *SelfEmbed }
	SelfEmbed  struct{ *SelfEmbed2 }
	SelfEmbed2 struct{ *SelfEmbed }
	twice      struct{ A, B int }
	sameName   struct {
		A int `msgpack:"x"`
		B int `msgpack:"x"`
	}
	shadows struct {
		Base
		ID string
	}
	hiddenPointer struct {
		*inner
	}
	interned struct {
		A string `msgpack:",intern"`
	}
)

func TestAppendRefuses(t *testing.T) {
	refuse := func(name string, wanted string, run func([]byte) ([]byte, error)) {
		t.Run(name, func(t *testing.T) {
			dst := []byte("kept")
			out, err := run(dst)
			if err == nil || !strings.Contains(err.Error(), wanted) {
				t.Errorf("error %v, want one with %q", err, wanted)
			}
			if string(out) != "kept" {
				t.Errorf("dst became %q", out)
			}
		})
	}
	refuse("chan", "chan int has no encoding", appending(make(chan int)))
	refuse("func field", "struct { F func() }.F is of type func(), which has no encoding", appending(struct{ F func() }{}))
	refuse("complex", "complex128 has no encoding", appending(1i))
	refuse("uintptr", "uintptr", appending([]uintptr{1}))
	refuse("hidden", "only unexported fields", appending(hiddenOnly{}))
	refuse("hidden below", "value.hiddenOnly", appending(map[string]any{"a": []any{hiddenOnly{}}}))
	refuse("mutex field", ".Mu has only unexported", appending(struct{ Mu sync.Mutex }{}))
	refuse("error in any", "errors.errorString has only unexported", appending[any](errors.New("x")))
	refuse("chan in any", `key "a": chan int has no encoding`, appending(map[string]any{"a": make(chan int)}))
	refuse("same name", `as another field is`, appending(sameName{}))
	refuse("shadowed", `as another field is`, appending(shadows{}))
	refuse("embeds itself", "embeds itself", appending(selfEmbed{}))
	refuse("hidden pointer", "unexported", appending(hiddenPointer{}))
	refuse("intern", "intern", appending(interned{}))
	refuse("loop type", "only to itself", appending(loop(nil)))
	refuse("panic", "a panic: encode", appending(panics{}))
	refuse("two values", "is not msgpack", appending([]writesTwo{{}}))
	refuse("empty raw", "is not msgpack", appending([]msgpack.RawMessage{{}}))

	cyclic := &record{}
	cyclic.Next = cyclic
	refuse("cycle", "nest deeper", appending(cyclic))
	self := []any{nil}
	self[0] = self
	refuse("any cycle", "nest deeper", appending(self))
	own := list{nil}
	own[0] = own
	refuse("list cycle", "nest deeper", appending(own))
	m := map[string]any{}
	m["m"] = m
	refuse("map cycle", "nest deeper", appending[any](m))
	var x any
	x = &x
	refuse("pointer cycle", "nest deeper", appending(x))
	refuse("deep raw", "deeper", appending([]any{msgpack.RawMessage(nested(60))}))
}

func appending[T any](v T) func([]byte) ([]byte, error) {
	return func(dst []byte) ([]byte, error) { return Append(dst, &v) }
}

func nested(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }

func TestDepthAgrees(t *testing.T) {
	var v any
	for range maxDepth {
		v = []any{v}
	}
	b, err := Append(nil, &v)
	if err != nil || !bytes.Equal(b, nested(maxDepth)) {
		t.Fatalf("60 levels: %x, %v", b, err)
	}
	var back any
	if err := Decode(b, &back); err != nil || !reflect.DeepEqual(v, back) {
		t.Fatalf("60 levels back: %v", err)
	}
	v = []any{v}
	if _, err := Append(nil, &v); err == nil {
		t.Error("61 levels were written")
	}
}

func TestDecodeRefuses(t *testing.T) {
	refuse := func(name, src, wanted string, run func([]byte) error) {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(src)
			if err != nil {
				t.Fatal(err)
			}
			if err := run(b); err == nil || !strings.Contains(err.Error(), wanted) {
				t.Errorf("error %v, want one with %q", err, wanted)
			}
		})
	}
	refuse("trailing", "0102", "1 bytes follow", decoding[int])
	refuse("truncated", "cd01", "longer than the frame", decoding[int])
	refuse("lie", "ddffffffff", "longer than the frame", decoding[[]int])
	refuse("deep", hex.EncodeToString(nested(61)), "deeper", decoding[any])
	refuse("string for int", "a161", "a string was found where int was expected", decoding[int])
	refuse("float for int", "cb3ff0000000000000", "the float 1 was found where int was expected", decoding[int])
	refuse("int8", "cd012c", "300 does not fit int8", decoding[int8])
	refuse("int16", "d2fffe0000", "-131072 does not fit int16", decoding[int16])
	refuse("int32", "cf0000000100000000", "4294967296 does not fit int32", decoding[int32])
	refuse("int64", "cfffffffffffffffff", "18446744073709551615 does not fit int64", decoding[int64])
	refuse("uint", "ff", "-1 does not fit uint", decoding[uint])
	refuse("uint8", "cd0100", "256 does not fit uint8", decoding[uint8])
	refuse("uint16", "ce00010000", "does not fit uint16", decoding[uint16])
	refuse("uint32", "cf0000000100000000", "does not fit uint32", decoding[uint32])
	refuse("uint64", "d080", "-128 does not fit uint64", decoding[uint64])
	refuse("inexact", "cf0020000000000001", "9007199254740993 is not exact as float64", decoding[float64])
	refuse("inexact 32", "ce01000001", "16777217 is not exact as float32", decoding[float32])
	refuse("float32", "cb7fefffffffffffff", "does not fit float32", decoding[float32])
	refuse("bool", "01", "the whole number 1 was found where bool", decoding[bool])
	refuse("string", "91c0", "an array of 1 was found where string", decoding[string])
	refuse("bytes", "01", "where []byte was expected", decoding[[]byte])
	refuse("struct{}", "01", "where nil was expected", decoding[struct{}])
	refuse("time", "01", "where time.Time was expected", decoding[time.Time])
	refuse("time length", "d5ff0000", "an extension of type -1", decoding[time.Time])
	refuse("[]int", "9201a161", "element 1: a string was found where int", decoding[[]int])
	refuse("[]int in []int", "929101a161", "element 0: an array of 1 was", decoding[[]int])
	refuse("[]string", "81a16101", "a map of 1 was found where []string", decoding[[]string])
	refuse("ext in any", "d40500", "an extension of type 5", decoding[any])
	refuse("same text", "8201c0a131c0", "the same text", decoding[any])
	refuse("[]any", "01", "where []any was expected", decoding[[]any])
	refuse("map", "01", "where map[string]any was expected", decoding[map[string]any])
	refuse("field", "81a5436f756e74cd0100", "field Count: 256 does not fit uint8", decoding[record])
	refuse("nested field", "81a5496e6e657281a141cd0080", "field Inner: field A: 128 does not fit int8", decoding[record])
	refuse("array for struct", "9101", "which has 13 fields,", decoding[record])
	refuse("field name", "810101", "the name of a field", decoding[record])
	refuse("array length", "81a4506169729101", "where [2]int", decoding[record])
	refuse("byte array length", "81a54669786564c40101", "where [3]uint8", decoding[record])
	refuse("error", "81a345727201", "where error was expected", decoding[record])
	// The library takes the contents of the extension for a map of 2 billion.
	refuse("map in an extension", "c70505df7fffffff", "where map[int]int", decoding[map[int]int])
	refuse("unhashable", "8190c0", "an array or a map", decoding[map[any]int])
	refuse("unhashable array", "819190c0", "an array or a map", decoding[map[[1]any]int])
	refuse("map element", "81a161a162", `key "a": a string was found where int`, decoding[map[string]int])
	refuse("stringer", "a161", "where fmt.Stringer was expected", decoding[fmt.Stringer])
	refuse("panic", "01", "a panic: decode", decoding[panics])
	refuse("unread", "01", "unread", decoding[readsNothing])
	refuse("no decoder", "01", "none to decode", decoding[writesTwo])
	refuse("chan", "c0", "has no encoding", decoding[chan int])
	refuse("own", "a161", "", decoding[onPointer])
}

func decoding[T any](b []byte) error {
	var v, zero T
	err := Decode(b, &v)
	if err != nil && !reflect.DeepEqual(v, zero) {
		return fmt.Errorf("v is not zero after %w", err)
	}
	return err
}

// roundTrip encodes v, has the library decode it as well if it can, and returns
// what Decode made of it.
func roundTrip[T any](t *testing.T, v T) T {
	t.Helper()
	b, err := Append([]byte("head"), &v)
	if err != nil {
		t.Fatalf("append %#v: %v", v, err)
	}
	b = bytes.TrimPrefix(b, []byte("head"))
	back := *new(T)
	if err := Decode(b, &back); err != nil {
		t.Fatalf("decode %x to %T: %v", b, v, err)
	}
	// Nothing may alias the wire.
	for i := range b {
		b[i] = 0xff
	}
	return back
}

func same[T any](t *testing.T, values ...T) {
	t.Helper()
	for _, v := range values {
		if back := roundTrip(t, v); !reflect.DeepEqual(back, v) {
			t.Errorf("%#v came back as %#v", v, back)
		}
	}
}

func TestRoundTrips(t *testing.T) {
	same(t, 0, 1, 31, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32+1, math.MaxInt,
		-1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32-1, math.MinInt)
	same[int8](t, -128, 127)
	same[int16](t, -32768, 32767)
	same[int32](t, math.MinInt32, math.MaxInt32)
	same[int64](t, math.MinInt64, math.MaxInt64)
	same[uint](t, 0, math.MaxUint)
	same[uint8](t, 0, 255)
	same[uint16](t, 65535)
	same[uint32](t, math.MaxUint32)
	same[uint64](t, math.MaxUint64, 1<<63)
	same[float32](t, 0, 1.5, math.MaxFloat32, float32(math.Inf(-1)))
	same(t, 0, 0.1, -1e300, math.Inf(1))
	same(t, true, false)
	same(t, "", "a", "\xff\x00", strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 256), strings.Repeat("x", 65536))
	same(t, nil, []byte{}, []byte{0, 255}, make([]byte, 256), make([]byte, 65536))
	same(t, struct{}{})
	same(t, nil, []int{}, []int{1, -1, 1 << 40}, make([]int, 16), make([]int, 65536))
	same(t, nil, []int64{}, []int64{1, math.MinInt64})
	same(t, nil, []float64{}, []float64{1, 0.5})
	same(t, nil, []string{}, []string{"", "a"})
	same(t, nil, any(int64(1)), any(uint64(math.MaxUint64)), any("a"), any([]byte("b")), any(1.0), any(true),
		any([]any{nil, int64(1)}), any(map[string]any{"a": []any{}}))
	same(t, nil, []any{}, []any{"a", nil, false})
	same(t, nil, map[string]any{}, map[string]any{"a": int64(-5), "b": map[string]any{"c": 1.5}})
	same(t, time.Duration(math.MinInt64))
	same(t, celsius(36.6))
	same(t, map[celsius]inner{1: {}, -1: {B: []string{}}})
	same(t, nil, map[string]int{}, map[string]int{"a": 1, "b": 2})
	same(t, map[[2]int8]bool{{1, 2}: true, {1, 1}: false})
	same(t, embedding{}, embedding{Base: &Base{7}, inner: inner{A: 1, B: []string{"x"}}, C: true})
	same(t, tuple{X: 1, Y: -1})
	same(t, list{nil, {}, {{}}})
	same(t, nil, errors.New("text"))
	same(t, omitting{Y: 1})
	same(t, map[any]int{"a": 1, int64(1): 2, true: 3, nil: 4})
	if nan := roundTrip(t, map[float64]int{math.NaN(): 1}); len(nan) != 1 {
		t.Errorf("%v", nan)
	}
	same(t, []*int{nil, new(int)})
	same(t, onPointer{5})
	same(t, map[string]onPointer{"a": {5}})
	same(t, []onPointer{{1}, {2}})
	same(t, netip.MustParseAddr("10.0.0.1"))
	same(t, map[netip.Addr]int{netip.MustParseAddr("10.0.0.1"): 1, netip.MustParseAddr("::1"): 2})
	same(t, url.URL{Scheme: "http", Host: "h"})
	same(t, msgpack.RawMessage{0x93, 1, 2, 3})
	same(t, time.Time{}, time.Unix(1, 0), time.Unix(1, 5), time.Unix(1<<33, 999999999), time.Unix(-1, 1), time.Unix(1<<40, 0))
	r := record{Name: "n", Count: 255, Ratio: 0.1, Inner: inner{A: -1}, Next: &record{Err: errors.New("x")},
		Tags: map[string]int{"z": 1}, Any: []any{[]byte("b"), int64(200)}, At: time.Unix(5, 6), Fixed: [3]byte{1, 2, 3},
		Pair: [2]int{1 << 40, -1}, Took: time.Second, Maybe: "m"}
	same(t, r)
	same(t, []*record{&r, nil})
}

func TestDecodeAccepts(t *testing.T) {
	accept := func(name, src string, want any, run func([]byte) (any, error)) {
		t.Run(name, func(t *testing.T) {
			b, _ := hex.DecodeString(src)
			got, err := run(b)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %#v, %v, want %#v", got, err, want)
			}
		})
	}
	accept("empty", "", 0, reading[int])
	accept("empty struct", "", record{}, reading[record])
	accept("nil int", "c0", 0, reading[int])
	accept("nil time", "81a24174c0", record{}, reading[record])
	accept("wide int", "d3ffffffffffffffff", int8(-1), reading[int8])
	accept("int64 in uint", "d30000000000000001", uint8(1), reading[uint8])
	accept("int in float", "cd0100", 256.0, reading[float64])
	accept("2^63 in float", "cf8000000000000000", float64(1<<63), reading[float64])
	accept("negative in float", "d38000000000000000", -float64(1<<63), reading[float64])
	accept("float32 in float64", "ca3fc00000", 1.5, reading[float64])
	accept("rounded", "cb3fb999999999999a", float32(0.1), reading[float32])
	accept("bin as string", "c40161", "a", reading[string])
	accept("str as bytes", "a161", []byte("a"), reading[[]byte])
	accept("float64 in a float32 field", "81a5526174696fcb3fb999999999999a", record{Ratio: 0.1}, reading[record])
	accept("unknown field", "82a178c0a3416e7901", record{Any: int64(1)}, reading[record])
	accept("repeated field", "82a3416e79a161a3416e7901", record{Any: int64(1)}, reading[record])
	accept("array", "920102", twice{1, 2}, reading[twice])
	accept("empty array", "90", twice{}, reading[twice])
	accept("200 in any", "ccc8", int64(200), reading[any])
	accept("bytes in any", "91c40161", []any{[]byte("a")}, reading[[]any])
	accept("keys", "8401c0c3c0c0c091a161c0", map[string]any{"1": nil, "true": nil, "null": nil, `["a"]`: nil}, reading[any])
}

func reading[T any](b []byte) (any, error) {
	var v T
	err := Decode(b, &v)
	return v, err
}

// TestDecodeForgets checks that the old contents of the target do not show through.
func TestDecodeForgets(t *testing.T) {
	old := map[string]int{"old": 1}
	m := old
	b, _ := hex.DecodeString("81a16101")
	if err := Decode(b, &m); err != nil || len(m) != 1 || len(old) != 1 || m["a"] != 1 {
		t.Errorf("m is %v, old is %v, %v", m, old, err)
	}
	r := record{Name: "old"}
	if err := Decode([]byte{0x80}, &r); err != nil || r.Name != "" {
		t.Errorf("%+v, %v", r, err)
	}
	var x any = 5
	if err := Decode([]byte{0xa1, 'a'}, &x); err != nil || x != "a" {
		t.Errorf("%v, %v", x, err)
	}
	if err := Decode([]byte{0xa1, 'a'}, &r.Count); err == nil || r.Count != 0 {
		t.Errorf("%v, %v", r.Count, err)
	}
}

// TestAsTheLibrary is the golden check: the library writes the same bytes for what
// it writes in a fixed order, and reads ours.
func TestAsTheLibrary(t *testing.T) {
	asLibrary(t, 0, 127, 128, 255, 256, 1<<16, 1<<32, -1, -32, -33, -128, -129, -32769, math.MinInt)
	asLibrary[uint64](t, 0, math.MaxUint64)
	asLibrary[int8](t, -128, 127)
	asLibrary[float32](t, 0.1)
	asLibrary(t, 0.1, math.Inf(1))
	asLibrary(t, true, false)
	asLibrary(t, "", "a", strings.Repeat("x", 32), strings.Repeat("x", 256), strings.Repeat("x", 65536))
	asLibrary(t, nil, []byte{}, []byte{1}, make([]byte, 256), make([]byte, 65536))
	asLibrary(t, nil, []int{}, []int{1, 300}, make([]int, 16), make([]int, 65536))
	asLibrary(t, nil, []int64{1, -1 << 40})
	asLibrary(t, nil, []float64{1})
	asLibrary(t, nil, []string{}, []string{"a"})
	asLibrary(t, map[string]any{"b": "x", "a": true, "c": []any{nil}}, nil, map[string]any{})
	asLibrary(t, map[string]string{"b": "x", "a": "y"})
	asLibrary(t, map[int]string{1: "x"})
	asLibrary(t, tuple{X: 1, Y: 2})
	asLibrary(t, twice{1, 2})
	asLibrary(t, omitting{Y: 1})
	asLibrary(t, embedding{Base: &Base{1}, inner: inner{A: 1}, C: true})
	asLibrary(t, record{}, record{Next: &record{Name: "x"}, Tags: map[string]int{"a": 1}, Err: errors.New("e"), Maybe: "m"})
	asLibrary(t, time.Time{}, time.Unix(1, 0), time.Unix(1, 5), time.Unix(1<<33, 7), time.Unix(-1, 1))
	asLibrary(t, onPointer{300})
	asLibrary(t, netip.MustParseAddr("::1"))
	asLibrary(t, struct {
		A any            `msgpack:",omitempty"`
		B twice          `msgpack:",omitempty"`
		C time.Time      `msgpack:",omitempty"`
		D *int           `msgpack:",omitempty"`
		E map[string]int `msgpack:",omitempty"`
		F struct{}       `msgpack:",omitempty"`
		G [0]int         `msgpack:",omitempty"`
		H error          `msgpack:",omitempty"`
	}{})
}

func asLibrary[T any](t *testing.T, values ...T) {
	t.Helper()
	for _, v := range values {
		ours, err := Append(nil, &v)
		if err != nil {
			t.Fatalf("append %#v: %v", v, err)
		}
		var buf bytes.Buffer
		e := msgpack.NewEncoder(&buf)
		e.UseCompactInts(true)
		e.SetSortMapKeys(true)
		if err := e.Encode(&v); err != nil {
			t.Fatalf("the library, of %#v: %v", v, err)
		}
		if !bytes.Equal(ours, buf.Bytes()) {
			t.Errorf("%#v:\nours    %x\nlibrary %x", v, ours, buf.Bytes())
		}
		var back T
		if err := msgpack.Unmarshal(ours, &back); err != nil {
			t.Errorf("the library cannot read %x: %v", ours, err)
		}
	}
}

func TestMapsAreOrdered(t *testing.T) {
	words := map[string]int{}
	deep := struct{ M map[int]map[string]any }{map[int]map[string]any{}}
	for i := range 50 {
		words[fmt.Sprint("w", i*7919%100)] = i
		deep.M[i*31%50-20] = map[string]any{"x": map[celsius]int{celsius(i): 1, -1: 2}}
	}
	first, _ := Append(nil, &words)
	firstDeep, _ := Append(nil, &deep)
	for range 20 {
		if again, _ := Append(nil, &words); !bytes.Equal(first, again) {
			t.Fatal("two encodings of one map differ")
		}
		if again, _ := Append(nil, &deep); !bytes.Equal(firstDeep, again) {
			t.Fatal("two encodings of one struct differ")
		}
	}
	text, _ := AppendJSON(nil, first)
	if !bytes.HasPrefix(text, []byte(`{"w0":0,"w12":48,"w13":`)) {
		t.Errorf("%s", text)
	}
}

// TestBlowUp checks that a value which refers to its parts 2^40 times ends.
func TestBlowUp(t *testing.T) {
	v := any([]any{})
	for range 40 {
		v = []any{v, v}
	}
	e := encoder{limit: 1 << 20}
	if err := e.put(reflect.ValueOf(&v).Elem(), infoOf(reflect.TypeFor[any]()).shape); err != errTooLarge {
		t.Errorf("error %v", err)
	}
}

// TestNoGoroutines pairs with field.reach: the library would start one here.
func TestNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	same(t, embedding{Base: &Base{1}})
	same(t, []any{map[string]any{}})
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines became %d", before, after)
	}
}

func TestConcurrentTypes(t *testing.T) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			type fresh struct {
				R []record
				O onPointer
			}
			v := fresh{R: []record{{Name: "a"}}}
			b, err := Append(nil, &v)
			if err == nil {
				err = Decode(b, &v)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestElements(t *testing.T) {
	if _, err := Elements([]byte{1}); err == nil || !strings.Contains(err.Error(), "where an array was expected") {
		t.Errorf("error %v", err)
	}
	if _, err := Elements([]byte{0x92, 1}); err == nil {
		t.Error("a truncated array was taken")
	}
	for _, none := range [][]byte{nil, {0xc0}, {0x90}} {
		if e, err := Elements(none); err != nil || len(e) != 0 {
			t.Errorf("%x: %v, %v", none, e, err)
		}
	}
	for _, n := range []int{3, 16, 70000} {
		b := AppendArray(nil, n)
		for i := range n {
			b = AppendArray(b, 2)
			b = AppendString(b, fmt.Sprint(i))
			b, _ = Append(b, &map[string]any{"a": []any{i}})
		}
		elements, err := Elements(b)
		if err != nil || len(elements) != n {
			t.Fatalf("%d: %d, %v", n, len(elements), err)
		}
		pair, err := Elements(elements[n-1])
		var s string
		if err != nil || len(pair) != 2 || Decode(pair[0], &s) != nil || s != fmt.Sprint(n-1) {
			t.Errorf("%v, %v, %q", pair, err, s)
		}
		if cap(elements[0]) != len(elements[0]) {
			t.Error("an append to an element would write over the next")
		}
	}
}

func TestTypeName(t *testing.T) {
	if got := TypeName[map[string][]record](); got != "map[string][]value.record" {
		t.Error(got)
	}
}

func TestPlainTypesDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	noAllocations(t, buf, 1<<40)
	noAllocations(t, buf, uint16(300))
	noAllocations(t, buf, 1.5)
	noAllocations(t, buf, true)
	noAllocations(t, buf, struct{}{})
	noAllocations(t, buf, time.Second)
	appendsWithout(t, buf, "text")
	appendsWithout(t, buf, make([]byte, 1024))
	appendsWithout(t, buf, []int{1, 2})
	appendsWithout(t, buf, []int64{1, 2})
	appendsWithout(t, buf, []float64{1, 2})
	appendsWithout(t, buf, []string{"a"})
}

func appendsWithout[T any](t *testing.T, buf []byte, v T) {
	t.Helper()
	if n := testing.AllocsPerRun(100, func() {
		own := v
		_, _ = Append(buf, &own)
	}); n != 0 {
		t.Errorf("Append of %T allocates %v times", v, n)
	}
}

func noAllocations[T any](t *testing.T, buf []byte, v T) {
	t.Helper()
	appendsWithout(t, buf, v)
	b, _ := Append(nil, &v)
	if n := testing.AllocsPerRun(100, func() {
		var own T
		_ = Decode(b, &own)
	}); n != 0 {
		t.Errorf("Decode of %T allocates %v times", v, n)
	}
}

// TestDecodeOwned: large bytes are a part of what they came in, and nothing else is.
func TestDecodeOwned(t *testing.T) {
	large := bytes.Repeat([]byte("x"), largeBytes)
	for _, v := range [][]byte{nil, []byte("small"), large} {
		src, err := Append(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		if err := DecodeOwned(src, &got); err != nil || !bytes.Equal(got, v) || (got == nil) != (v == nil) {
			t.Fatalf("%d bytes became %d: %v", len(v), len(got), err)
		}
		src[len(src)-1]++
		if aliases := len(got) > 0 && got[len(got)-1] != 'x' && len(v) == len(large); aliases != (len(v) == len(large)) {
			t.Errorf("%d bytes: aliases is %v", len(v), aliases)
		}
		if cap(got) > max(len(got), 8) {
			t.Errorf("an append would write into what lies behind: %d of %d", len(got), cap(got))
		}
	}
	text, _ := Append(nil, &[]string{string(large)})
	var got []byte
	if err := DecodeOwned(text, &got); err == nil {
		t.Error("an array was read as bytes")
	}
	if err := DecodeOwned(text[:len(text)-1], &got); err == nil {
		t.Error("a value that is cut short was read")
	}
}
