package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"gpool/internal/ipc"
	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

// zero is 0 in msgpack.
var zero = []byte{0}

// float32Code begins a float of 32 bits.
const float32Code = 0xca

// errOverflow says that a sum is no msgpack number.
var errOverflow = errors.New("the sum does not fit 64 bits")

// errNoArray says that nothing can be appended to a value.
var errNoArray = errors.New("what is there is not an array")

// fail answers with what has become of arithmetic, or of an array: FaultOverflow or FaultType.
func (a *ask) fail(err error, doing string, args ...any) {
	code := wire.FaultType
	if errors.Is(err, errOverflow) {
		code = wire.FaultOverflow
	}
	a.refuse(code, "%s: %v", fmt.Sprintf(doing, args...), err)
}

// add returns the sum of two msgpack numbers, as one. Whole numbers are exact from the least int64
// to the greatest uint64, and errOverflow beyond. If one is a float, so is the sum, of 64
// bits: a whole number is rounded to the nearest float for it, and a sum that is too large is infinite.
func add(x, y []byte) ([]byte, error) {
	a, err := readNumber(x)
	if err != nil {
		return nil, fmt.Errorf("what is there %w", err)
	}
	b, err := readNumber(y)
	if err != nil {
		return nil, fmt.Errorf("what is to be added %w", err)
	}
	if a.isFloat || b.isFloat {
		sum := a.real() + b.real()
		if y[0] == float32Code && (x[0] == float32Code || !a.isFloat) { // of float32s: as the one who adds has it
			short := float32(sum)
			return value.Append(nil, &short)
		}
		return value.Append(nil, &sum)
	}
	low, carry := bits.Add64(a.low, b.low, 0)
	high, _ := bits.Add64(a.high, b.high, carry)
	switch {
	case high == 0:
		return value.Append(nil, &low)
	case high == math.MaxUint64 && low > math.MaxInt64:
		sum := int64(low)
		return value.Append(nil, &sum)
	}
	return nil, errOverflow
}

// number is a float, or a whole number of 128 bits with a sign, so that the sum of any two of
// msgpack's fits.
type number struct {
	isFloat   bool
	float     float64
	high, low uint64
}

func (n number) real() float64 {
	switch {
	case n.isFloat:
		return n.float
	case n.high != 0:
		return float64(int64(n.low))
	}
	return float64(n.low)
}

// readNumber reads a msgpack number, which may be anything that somebody has sent.
func readNumber(b []byte) (number, error) {
	if len(b) == 0 || !beginsNumber(b[0]) {
		return number{}, errors.New("is not a number")
	}
	var v any
	if err := value.Decode(b, &v); err != nil {
		return number{}, fmt.Errorf("cannot be read as a number: %w", err)
	}
	switch v := v.(type) {
	case float64:
		return number{isFloat: true, float: v}, nil
	case uint64:
		return number{low: v}, nil
	case int64:
		return number{high: uint64(v >> 63), low: uint64(v)}, nil
	}
	return number{}, errors.New("is not a number")
}

// beginsNumber reports whether the first byte of a msgpack value says that it is a number. It is
// looked at first since a large value of another kind would be decoded for nothing.
func beginsNumber(c byte) bool { return c <= 0x7f || c >= 0xe0 || c >= 0xca && c <= 0xd3 }

// extend returns a msgpack array with elements added, and how many it then has. No bytes, and nil,
// are the empty array. It copies the array: a value that was handed out must stay as it is.
func extend(array []byte, elements [][]byte) ([]byte, int, error) {
	n, body, err := splitArray(array)
	if err != nil {
		return nil, 0, err
	}
	if n > len(body) { // each takes a byte at least
		return nil, 0, errNoArray
	}
	n += len(elements)
	size := len(array) + 5
	for _, e := range elements {
		size += len(e)
	}
	longer := append(value.AppendArray(make([]byte, 0, size), n), body...)
	for _, e := range elements {
		longer = append(longer, e...)
	}
	if err := ipc.Precheck(longer); err != nil {
		return nil, 0, fmt.Errorf("the elements together are not a msgpack array: %w", err)
	}
	return longer, n, nil
}

// splitArray returns how many elements an array says it has, and what follows its header, unchecked.
func splitArray(b []byte) (n int, body []byte, err error) {
	switch {
	case len(b) == 0, len(b) == 1 && b[0] == value.Nil:
		return 0, nil, nil
	case b[0]&0xf0 == 0x90:
		return int(b[0] & 0x0f), b[1:], nil
	case b[0] == 0xdc && len(b) >= 3:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], nil
	case b[0] == 0xdd && len(b) >= 5:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], nil
	}
	return 0, nil, errNoArray
}
