package memory

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// checkNumbers compares words with plain variables, and the two ways to work on words with each other.
func checkNumbers[T Number](t *testing.T, letter Type, numbers *rapid.Generator[T]) {
	t.Helper()
	if got := TypeOf[T](); got != letter {
		t.Errorf("the type is %v, want %v", got, letter)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		var w, v uint64
		Store(&w, a)
		letter.Store(&v, toWord(a))
		same := func(what string, got, want T) {
			if toWord(got) != toWord(want) || w != toWord(want) || v != w || letter.Load(&v) != v {
				t.Fatalf("after %s it is %v, and the words are %x and %x, want %v", what, got, w, v, want)
			}
		}
		same("store", Load[T](&w), a)
		if letter.Add(&v, toWord(b)) != v {
			t.Fatal("the sum is not what the word holds")
		}
		same("add", Add(&w, b), a+b)
		if CompareAndSwap(&w, a+b, a) != letter.CompareAndSwap(&v, toWord(a+b), toWord(a)) {
			t.Fatal("one was swapped")
		}
		same("swap", Load[T](&w), a)
		if a != b && (CompareAndSwap(&w, b, b) || letter.CompareAndSwap(&v, toWord(b), toWord(b))) {
			t.Fatal("what it does not hold was swapped")
		}
	})
}

func TestWordsAreNumbers(t *testing.T) {
	checkNumbers(t, 'b', rapid.Int8())
	checkNumbers(t, 'h', rapid.Int16())
	checkNumbers(t, 'i', rapid.Int32())
	checkNumbers(t, 'q', rapid.Int64())
	checkNumbers(t, 'q', rapid.Int())
	checkNumbers(t, 'B', rapid.Uint8())
	checkNumbers(t, 'H', rapid.Uint16())
	checkNumbers(t, 'I', rapid.Uint32())
	checkNumbers(t, 'Q', rapid.Uint64())
	checkNumbers(t, 'Q', rapid.Uint())
	checkNumbers(t, 'f', rapid.Float32())
	checkNumbers(t, 'd', rapid.Float64())
	type celsius float32
	checkNumbers(t, 'f', rapid.Map(rapid.Float32(), func(f float32) celsius { return celsius(f) }))
}

func TestAWordIsLaidOutAsTheProtocolSays(t *testing.T) {
	for what, pair := range map[string][2]uint64{
		"sign":          {toWord(int8(-1)), math.MaxUint64},
		"no sign":       {toWord(uint8(255)), 255},
		"float32":       {toWord(float32(1)), 0x3f800000},
		"float64":       {toWord(float64(1)), 0x3ff0000000000000},
		"int8 wraps":    {toWord(add(int8(127), 1)), toWord(int8(-128))},
		"uint16 wraps":  {toWord(add(uint16(0), math.MaxUint16)), 65535},
		"uint8 borrows": {toWord(add(uint8(1), 255)), 0},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: it is %x, want %x", what, pair[0], pair[1])
		}
	}
}

func add[T Number](a, b T) T {
	var w uint64
	Store(&w, a)
	return Add(&w, b)
}

func TestABoolIsZeroOrOne(t *testing.T) {
	w := uint64(0xff00)
	b := TypeOf[bool]()
	if b != '?' || b.Load(&w) != 1 || !b.CompareAndSwap(&w, 7, 0) || w != 0 {
		t.Errorf("%v holds %x, want 0", b, w)
	}
	if b.Add(&w, 0) != 0 || b.Add(&w, 9) != 1 || b.Add(&w, 1) != 1 || b.Add(&w, 0) != 1 || w != 1 {
		t.Errorf("it holds %x, want 1", w)
	}
	if b.CompareAndSwap(&w, 0, 1) {
		t.Error("what it does not hold was swapped")
	}
}

// A peer can write what it likes. That must not keep a loop of Load and CompareAndSwap going.
func TestAScribbledWordCanBeSwapped(t *testing.T) {
	w := uint64(0x1234_5678_9abc_def0)
	if old := Load[int8](&w); old != -16 || !CompareAndSwap(&w, old, 5) || w != 5 {
		t.Errorf("it was %d and is %x", old, w)
	}
	w = math.Float64bits(math.NaN())
	if !CompareAndSwap(&w, math.NaN(), 1) || CompareAndSwap(&w, -1, 0.0) {
		t.Error("floats are not compared by their bits")
	}
}

func TestTypes(t *testing.T) {
	for letter, size := range map[Type]int64{
		'b': 1, 'B': 1, '?': 1, 'h': 2, 'H': 2, 'i': 4, 'I': 4, 'f': 4, 'l': 8, 'L': 8, 'q': 8, 'Q': 8, 'd': 8,
	} {
		if !letter.Valid() || letter.Size() != size {
			t.Errorf("%v is valid: %v", letter, letter.Valid())
		}
	}
	for _, letter := range []Type{0, 'c', 'u', 'D', 255} {
		if letter.Valid() {
			t.Errorf("%v is valid", letter)
		}
	}
}

var sink uint64

func BenchmarkWord(b *testing.B) {
	b.Run("Add int64", benchmarkAdd[int64])
	b.Run("Add int32", benchmarkAdd[int32])
	b.Run("Add float64", benchmarkAdd[float64])
	b.Run("Load int64", func(b *testing.B) {
		w := new(uint64)
		for b.Loop() {
			sink += uint64(Load[int64](w))
		}
	})
	for _, letter := range []Type{'q', 'i', 'd'} {
		b.Run("Add by letter "+letter.String(), func(b *testing.B) {
			w := new(uint64)
			for b.Loop() {
				letter.Add(w, 1)
			}
		})
	}
}

func benchmarkAdd[T Number](b *testing.B) {
	w := new(uint64)
	for b.Loop() {
		Add(w, T(1))
	}
	sink += *w
}
