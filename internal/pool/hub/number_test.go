package hub

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/ipc"
	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

// packed is a Go value in msgpack.
func packed[T any](t interface{ Fatal(...any) }, v T) string {
	b, err := value.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAdd(t *testing.T) {
	tests := []struct{ x, y, want any }{
		{int64(1), int64(2), int64(3)},
		{int64(1), int64(-2), int64(-1)},
		{int64(-200), int64(500), int64(300)},
		{int64(math.MaxInt64), int64(1), uint64(1 << 63)},
		{uint64(1 << 63), int64(-1), int64(math.MaxInt64)},
		{uint64(math.MaxUint64), int64(math.MinInt64), int64(math.MaxInt64)},
		{uint64(math.MaxUint64), int64(0), uint64(math.MaxUint64)},
		{int64(math.MinInt64 + 1), int64(-1), int64(math.MinInt64)},
		{int64(1), 0.5, 1.5},
		{-0.5, uint64(math.MaxUint64), 0x1p64},
		{int64(-3), 0.5, -2.5},
		{float32(0.5), 0.25, 0.75},
		{math.MaxFloat64, math.MaxFloat64, math.Inf(1)},
	}
	for _, test := range tests {
		x, y, want := packed(t, test.x), packed(t, test.y), packed(t, test.want)
		if got, err := add([]byte(x), []byte(y)); err != nil || string(got) != want {
			t.Errorf("%v + %v = %x, %v; want %x", test.x, test.y, got, err, want)
		}
		if got, err := add([]byte(y), []byte(x)); err != nil || string(got) != want {
			t.Errorf("%v + %v = %x, %v; want %x", test.y, test.x, got, err, want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	number := []byte(packed(t, 1))
	for _, b := range []string{"", "\xc0", "\xc3", "\xa11", "\x91\x01", "\x01\x01", "\xd3\x00", "\xcb", "\xc1", "\xd6\xff\x00\x00\x00\x00"} {
		for _, pair := range [][2][]byte{{number, []byte(b)}, {[]byte(b), number}} {
			if got, err := add(pair[0], pair[1]); err == nil || errors.Is(err, errOverflow) {
				t.Errorf("%x + %x = %x, %v; want an error of type", pair[0], pair[1], got, err)
			}
		}
	}
	for _, pair := range [][2]any{{uint64(math.MaxUint64), 1}, {int64(math.MinInt64), -1}, {uint64(math.MaxUint64), uint64(math.MaxUint64)}} {
		if got, err := add([]byte(packed(t, pair[0])), []byte(packed(t, pair[1]))); !errors.Is(err, errOverflow) {
			t.Errorf("%v + %v = %x, %v; want an overflow", pair[0], pair[1], got, err)
		}
	}
}

// Whole numbers add as math/big has it, within what msgpack can say.
func TestAddIsExact(t *testing.T) {
	least, most := big.NewInt(math.MinInt64), new(big.Int).SetUint64(math.MaxUint64)
	whole := rapid.OneOf(
		rapid.Map(rapid.Int64(), big.NewInt),
		rapid.Map(rapid.Uint64(), func(u uint64) *big.Int { return new(big.Int).SetUint64(u) }))
	write := func(t *rapid.T, i *big.Int) string {
		if i.IsInt64() {
			return packed(t, i.Int64())
		}
		return packed(t, i.Uint64())
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y := whole.Draw(t, "x"), whole.Draw(t, "y")
		sum := new(big.Int).Add(x, y)
		got, err := add([]byte(write(t, x)), []byte(write(t, y)))
		if sum.Cmp(least) < 0 || sum.Cmp(most) > 0 {
			if !errors.Is(err, errOverflow) {
				t.Fatalf("%s is %x, %v; want an overflow", sum, got, err)
			}
		} else if err != nil || string(got) != write(t, sum) {
			t.Fatalf("%s is %x, %v", sum, got, err)
		}
	})
}

func TestExtend(t *testing.T) {
	many := packed(t, make([]int, 15))
	tests := []struct {
		name, array string
		add         []string
		want        any
	}{
		{"nothing there", "", []string{packed(t, 1)}, []int{1}},
		{"nil", "\xc0", []string{packed(t, "a"), packed(t, "b")}, []string{"a", "b"}},
		{"an array", packed(t, []int{1, 2}), []string{packed(t, 3)}, []int{1, 2, 3}},
		{"nothing more", packed(t, []int{1, 2}), nil, []int{1, 2}},
		{"a longer header", many, []string{packed(t, 0)}, make([]int, 16)},
		{"a header of four bytes", packed(t, make([]int, 65535)), []string{packed(t, 0)}, make([]int, 65536)},
		{"and again", packed(t, make([]int, 65536)), []string{packed(t, 0)}, make([]int, 65537)},
	}
	for _, test := range tests {
		old := bytes.Clone([]byte(test.array))
		var elements [][]byte
		for _, e := range test.add {
			elements = append(elements, []byte(e))
		}
		got, n, err := extend([]byte(test.array), elements)
		all, _ := value.Elements(got)
		if err != nil || string(got) != packed(t, test.want) || n != len(all) {
			t.Errorf("%s: %x of %d, %v", test.name, got, n, err)
		}
		if string(old) != test.array {
			t.Errorf("%s: the array was changed", test.name)
		}
	}
}

func TestExtendRefuses(t *testing.T) {
	deep := bytes.Repeat([]byte{0x91}, 60)
	for _, test := range [][]string{ // an array, and elements
		{"\x01", "\x01"}, {"\xa1a", "\x01"}, {"\x80", "\x01"}, // no array
		{"\x92\x01", "\x01"}, {"\xdc\x00", "\x01"}, {"\xdd\xff\xff\xff\xff\x01", "\x01"}, // half an array
		{"\xdd\xff\xff\xff\xff", "\x91", "\x01"},                                   // a length beyond 32 bits
		{"\x90", ""}, {"\x90", "\xc1"}, {"\x90", "\x01\x02"}, {"\x90", "\x92\x01"}, // no element
		{"\x90", string(deep) + "\x01"}, // too deep within another
	} {
		var elements [][]byte
		for _, e := range test[1:] {
			elements = append(elements, []byte(e))
		}
		if got, n, err := extend([]byte(test[0]), elements); err == nil {
			t.Errorf("%x with %x is %x of %d", test[0], elements, got, n)
		}
	}
}

// Whatever bytes come, there is an error or a result that is well formed and as told.
func FuzzNumber(f *testing.F) {
	for _, seed := range [][2]string{
		{"\x01", "\xff"}, {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\x01"}, {"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "\xca\x00\x00\x00\x00"},
		{"\x92\x01\x02", "\xa1a"}, {"\xc0", "\x91\x01"}, {"\xdd\xff\xff\xff\xff\x01", "\x01"}, {"", ""},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		if sum, err := add(x, y); err == nil {
			if _, err := readNumber(sum); err != nil {
				t.Fatalf("%x + %x = %x: %v", x, y, sum, err)
			}
		}
		longer, n, err := extend(x, [][]byte{y})
		if err != nil {
			return
		}
		all, err := value.Elements(longer)
		if err != nil || ipc.Precheck(longer) != nil || len(all) != n {
			t.Fatalf("%x with %x is %x, %d elements of %d, %v", x, y, longer, len(all), n, err)
		}
	})
}

// The faults are told apart.
func TestArithmeticFaults(t *testing.T) {
	_, a, _ := two(t)
	a.done(wire.DictSet, key("k"), values(packed(t, uint64(math.MaxUint64))))
	a.refused(wire.FaultOverflow, wire.DictIncr, key("k"), values(packed(t, 1)))
	a.refused(wire.FaultType, wire.DictIncr, key("k"), values(packed(t, "1")))
	a.refused(wire.FaultType, wire.DictAppend, key("k"), values(packed(t, "1")))
	wantTexts(t, a.done(wire.DictGet, key("k")), packed(t, uint64(math.MaxUint64)))
	a.done(wire.ListAppend, values(packed(t, int64(math.MinInt64)), packed(t, "a")))
	a.refused(wire.FaultOverflow, wire.ListIncr, values(packed(t, -1)))
	a.refused(wire.FaultType, wire.ListIncr, count(1), values(packed(t, -1)))
}
