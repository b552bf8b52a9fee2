package memory

import (
	"math"
	"reflect"
	"sync/atomic"
	"unsafe"
)

// Number is what a word can hold.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 |
		~float32 | ~float64
}

// Scalar is what an array can be of.
type Scalar interface{ Number | ~bool }

// A word holds one Number in 64 bits: whole numbers extended with their sign, or with zeros if
// they have none, floats as the bits of a float64, float32 as its bits in the lower half.
//
// The functions below are the only arithmetic on words. Any number of goroutines and processes may
// use them on one word at the same time; they take effect one after the other. They cost no more
// than the atomic instruction: what depends on T is decided by the compiler.

// Load returns what a word holds.
func Load[T Number](w *uint64) T { return fromWord[T](atomic.LoadUint64(w)) }

// Store sets a word.
func Store[T Number](w *uint64, v T) { atomic.StoreUint64(w, toWord(v)) }

// Add adds delta to a word and returns the sum. Whole numbers wrap at the width of T, as in C:
// 127 and 1 are -128 as int8.
func Add[T Number](w *uint64, delta T) T {
	if whole[T]() && unsafe.Sizeof(delta) == 8 {
		return T(atomic.AddUint64(w, uint64(delta)))
	}
	for {
		old := atomic.LoadUint64(w)
		sum := fromWord[T](old) + delta
		if atomic.CompareAndSwapUint64(w, old, toWord(sum)) {
			return sum
		}
	}
}

// CompareAndSwap sets a word to new if it holds old, and reports whether it did. Floats are
// compared by their bits: a NaN is itself, and 0 is not -0.
func CompareAndSwap[T Number](w *uint64, old, new T) bool {
	for {
		// A word that somebody has scribbled over holds what its lower bits say. So it is
		// compared as T; else Load and CompareAndSwap could disagree about it for ever.
		now := atomic.LoadUint64(w)
		if toWord(fromWord[T](now)) != toWord(old) {
			return false
		}
		if atomic.CompareAndSwapUint64(w, now, toWord(new)) {
			return true
		}
	}
}

// whole reports whether T has no fractions. The compiler knows the answer.
func whole[T Number]() bool { return T(1)/2 == 0 }

func toWord[T Number](v T) uint64 {
	switch {
	case whole[T]():
		return uint64(v)
	case unsafe.Sizeof(v) == 4:
		return uint64(math.Float32bits(float32(v)))
	}
	return math.Float64bits(float64(v))
}

func fromWord[T Number](w uint64) T {
	switch {
	case whole[T]():
		return T(w)
	case unsafe.Sizeof(T(0)) == 4:
		return T(math.Float32frombits(uint32(w)))
	}
	return T(math.Float64frombits(w))
}

// Type is the type of a word or of the elements of an array: the letter that Python's array module
// has for it, or ? for bool. l and L are 64 bits, as in C on the systems that gpool runs on.
type Type byte

// letters are the types by their kinds in Go.
var letters = map[reflect.Kind]Type{
	reflect.Int8: 'b', reflect.Int16: 'h', reflect.Int32: 'i', reflect.Int64: 'q',
	reflect.Uint8: 'B', reflect.Uint16: 'H', reflect.Uint32: 'I', reflect.Uint64: 'Q',
	reflect.Float32: 'f', reflect.Float64: 'd', reflect.Bool: '?',
}

// TypeOf returns the type of T. It looks into a map: call it once for each handle.
func TypeOf[T Scalar]() Type {
	t := reflect.TypeFor[T]()
	switch wide := t.Size() == 8; {
	case t.Kind() == reflect.Int && wide:
		return 'q'
	case t.Kind() == reflect.Int:
		return 'i'
	case t.Kind() == reflect.Uint && wide:
		return 'Q'
	case t.Kind() == reflect.Uint:
		return 'I'
	}
	return letters[t.Kind()]
}

// arithmetic is what can be done with a word of one type, for those who know it only at run time.
type arithmetic struct {
	size   int64
	load   func(w *uint64) uint64
	store  func(w *uint64, v uint64)
	add    func(w *uint64, delta uint64) uint64
	change func(w *uint64, old, new uint64) bool
}

// arithmeticOf makes the functions above work on words.
func arithmeticOf[T Number]() *arithmetic {
	return &arithmetic{
		size:  int64(unsafe.Sizeof(T(0))),
		load:  func(w *uint64) uint64 { return toWord(Load[T](w)) },
		store: func(w *uint64, v uint64) { Store(w, fromWord[T](v)) },
		add:   func(w *uint64, delta uint64) uint64 { return toWord(Add(w, fromWord[T](delta))) },
		change: func(w *uint64, old, new uint64) bool {
			return CompareAndSwap(w, fromWord[T](old), fromWord[T](new))
		},
	}
}

// truth is the arithmetic of bool: what is not 0 is 1, and a sum is true if a summand is.
var truth = &arithmetic{
	size:  1,
	load:  func(w *uint64) uint64 { return bit(atomic.LoadUint64(w)) },
	store: func(w *uint64, v uint64) { atomic.StoreUint64(w, bit(v)) },
	add: func(w *uint64, delta uint64) uint64 {
		return bit(atomic.OrUint64(w, bit(delta)) | bit(delta))
	},
	change: func(w *uint64, old, new uint64) bool {
		for {
			now := atomic.LoadUint64(w)
			if bit(now) != bit(old) {
				return false
			}
			if atomic.CompareAndSwapUint64(w, now, bit(new)) {
				return true
			}
		}
	},
}

func bit(w uint64) uint64 {
	if w != 0 {
		return 1
	}
	return 0
}

var types = [256]*arithmetic{
	'b': arithmeticOf[int8](), 'B': arithmeticOf[uint8](),
	'h': arithmeticOf[int16](), 'H': arithmeticOf[uint16](),
	'i': arithmeticOf[int32](), 'I': arithmeticOf[uint32](),
	'l': arithmeticOf[int64](), 'L': arithmeticOf[uint64](),
	'q': arithmeticOf[int64](), 'Q': arithmeticOf[uint64](),
	'f': arithmeticOf[float32](), 'd': arithmeticOf[float64](), '?': truth,
}

// Valid reports whether there is such a type. The other methods panic if there is not.
func (t Type) Valid() bool { return types[t] != nil }

func (t Type) String() string { return string(rune(t)) }

// Size is how many bytes an element of an array takes. A word always takes 8.
func (t Type) Size() int64 { return types[t].size }

// Load returns what a word holds, as a word. It and its three companions do what the functions of
// the same name do, for some nanoseconds more.
func (t Type) Load(w *uint64) uint64 { return types[t].load(w) }

// Store sets a word to v, of which the bits count that the type has.
func (t Type) Store(w *uint64, v uint64) { types[t].store(w, v) }

// Add adds a word to a word and returns the sum.
func (t Type) Add(w *uint64, delta uint64) uint64 { return types[t].add(w, delta) }

// CompareAndSwap sets a word to new if it holds old, and reports whether it did.
func (t Type) CompareAndSwap(w *uint64, old, new uint64) bool { return types[t].change(w, old, new) }
