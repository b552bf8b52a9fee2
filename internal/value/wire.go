package value

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"

	"gpool/internal/ipc"
)

// maxDepth is how deep arrays and maps may nest: what ipc.Precheck accepts.
const maxDepth = 60

var errTooDeep = fmt.Errorf("values nest deeper than %d levels, or in a cycle", maxDepth)

// timestamp is the extension type of a point in time.
const timestamp = -1

func appendUint(dst []byte, u uint64) []byte {
	switch {
	case u <= math.MaxInt8:
		return append(dst, byte(u))
	case u <= math.MaxUint8:
		return append(dst, 0xcc, byte(u))
	case u <= math.MaxUint16:
		return append(dst, 0xcd, byte(u>>8), byte(u))
	case u <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(u))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), u)
}

func appendInt(dst []byte, i int64) []byte {
	switch {
	case i >= 0:
		return appendUint(dst, uint64(i))
	case i >= -32:
		return append(dst, byte(i))
	case i >= math.MinInt8:
		return append(dst, 0xd0, byte(i))
	case i >= math.MinInt16:
		return append(dst, 0xd1, byte(i>>8), byte(i))
	case i >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(i))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(i))
}

func appendFloat32(dst []byte, f float32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0xca), math.Float32bits(f))
}

func appendFloat64(dst []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(f))
}

func appendNil(dst []byte) []byte { return append(dst, Nil) }

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// appendLength writes a length as two or four bytes behind the code for it. A
// length beyond 32 bits is cut, and ipc.Precheck then refuses the value; no frame
// could carry it.
func appendLength(dst []byte, n int, two, four byte) []byte {
	if n <= math.MaxUint16 {
		return append(dst, two, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, four), uint32(n))
}

func appendStrHeader(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	}
	return appendLength(dst, n, 0xda, 0xdb)
}

func appendStr(dst []byte, s string) []byte {
	return append(appendStrHeader(dst, len(s)), s...)
}

// appendBin writes b as bin, and a nil b as nil, so that both come back.
func appendBin(dst, b []byte) []byte {
	if b == nil {
		return appendNil(dst)
	}
	return append(appendBinHeader(dst, len(b)), b...)
}

func appendBinHeader(dst []byte, n int) []byte {
	if n <= math.MaxUint8 {
		return append(dst, 0xc4, byte(n))
	}
	return appendLength(dst, n, 0xc5, 0xc6)
}

func appendMapHeader(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, 0x80|byte(n))
	}
	return appendLength(dst, n, 0xde, 0xdf)
}

func appendTime(dst []byte, t time.Time) []byte {
	seconds, nanos := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case seconds>>32 == 0 && nanos == 0:
		return binary.BigEndian.AppendUint32(append(dst, 0xd6, 0xff), uint32(seconds))
	case seconds>>34 == 0:
		return binary.BigEndian.AppendUint64(append(dst, 0xd7, 0xff), nanos<<34|seconds)
	}
	dst = binary.BigEndian.AppendUint32(append(dst, 0xc7, 12, 0xff), uint32(nanos))
	return binary.BigEndian.AppendUint64(dst, seconds)
}

// Nil is what stands for the value of a task that has none, and for no argument.
const Nil = 0xc0

// Returned is what a task has returned, as one value: an empty one is nil. It is an error if it is
// not one value: the program of the task may be anybody's.
func Returned(src []byte) ([]byte, error) {
	if len(src) == 0 {
		return []byte{Nil}, nil
	}
	if err := ipc.Precheck(src); err != nil {
		return nil, fmt.Errorf("what it returned is not one msgpack value: %w", err)
	}
	return src, nil
}

// AppendString appends s as a str value. The bytes of s need not be UTF-8; there
// must be less than 4 GiB of them.
func AppendString(dst []byte, s string) []byte { return appendStr(dst, s) }

// AppendArray appends the header of an array; the caller appends n values next.
func AppendArray(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, 0x90|byte(n))
	}
	return appendLength(dst, n, 0xdc, 0xdd)
}

// Elements returns the encoded elements of the array that src holds. They alias
// src. An empty src and nil have none.
func Elements(src []byte) ([][]byte, error) {
	if len(src) == 0 {
		return nil, nil
	}
	if err := precheck(src); err != nil {
		return nil, err
	}
	t, rest := next(src)
	if t.kind == kindNil {
		return nil, nil
	}
	if t.kind != kindArray {
		return nil, mismatch(t, "an array")
	}
	elements := make([][]byte, t.n)
	for i := range elements {
		after := skip(rest)
		size := len(rest) - len(after)
		elements[i] = rest[:size:size]
		rest = after
	}
	return elements, nil
}

func precheck(src []byte) error {
	if err := ipc.Precheck(src); err != nil {
		return fmt.Errorf("read a msgpack value: %w", err)
	}
	return nil
}

type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindWhole
	kindFloat32
	kindFloat64
	kindStr
	kindBin
	kindArray
	kindMap
	kindExt
)

// token is one msgpack header, and the contents of what has no children.
type token struct {
	kind     kind
	negative bool   // of a whole number: u is then the bits of an int64
	ext      int8   // the type of an extension
	u        uint64 // a whole number, the bits of a float, or 1 for true
	n        int    // how many elements or pairs follow
	body     []byte // of str, bin and ext; aliases the wire
}

// next splits off one header. b must have passed precheck: the lengths in it are
// not looked at again.
func next(b []byte) (token, []byte) {
	c := b[0]
	switch {
	case c <= 0x7f:
		return token{kind: kindWhole, u: uint64(c)}, b[1:]
	case c >= 0xe0:
		return token{kind: kindWhole, u: uint64(int64(int8(c))), negative: true}, b[1:]
	case c <= 0x8f:
		return token{kind: kindMap, n: int(c & 0x0f)}, b[1:]
	case c <= 0x9f:
		return token{kind: kindArray, n: int(c & 0x0f)}, b[1:]
	case c <= 0xbf:
		return withBody(kindStr, b[1:], int(c&0x1f))
	}
	switch c {
	case 0xc2, 0xc3:
		return token{kind: kindBool, u: uint64(c & 1)}, b[1:]
	case 0xca:
		return token{kind: kindFloat32, u: number(b[1:5])}, b[5:]
	case 0xcb:
		return token{kind: kindFloat64, u: number(b[1:9])}, b[9:]
	case 0xcc, 0xcd, 0xce, 0xcf:
		end := 1 + 1<<(c-0xcc)
		return token{kind: kindWhole, u: number(b[1:end])}, b[end:]
	case 0xd0, 0xd1, 0xd2, 0xd3:
		end := 1 + 1<<(c-0xd0)
		unused := 64 - 8*(end-1)
		i := int64(number(b[1:end])<<unused) >> unused
		return token{kind: kindWhole, u: uint64(i), negative: i < 0}, b[end:]
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return extension(b[1:], 1<<(c-0xd4))
	case 0xc4, 0xc5, 0xc6:
		n, rest := length(b, c-0xc4)
		return withBody(kindBin, rest, n)
	case 0xc7, 0xc8, 0xc9:
		n, rest := length(b, c-0xc7)
		return extension(rest, n)
	case 0xd9, 0xda, 0xdb:
		n, rest := length(b, c-0xd9)
		return withBody(kindStr, rest, n)
	case 0xdc, 0xdd:
		n, rest := length(b, c-0xdb)
		return token{kind: kindArray, n: n}, rest
	case 0xde, 0xdf:
		n, rest := length(b, c-0xdd)
		return token{kind: kindMap, n: n}, rest
	}
	return token{kind: kindNil}, b[1:]
}

func number(b []byte) (u uint64) {
	for _, c := range b {
		u = u<<8 | uint64(c)
	}
	return u
}

// length reads the length of 1<<power bytes behind a header's first byte.
func length(b []byte, power byte) (int, []byte) {
	end := 1 + 1<<power
	return int(number(b[1:end])), b[end:]
}

func withBody(k kind, b []byte, n int) (token, []byte) {
	return token{kind: k, body: b[:n]}, b[n:]
}

func extension(b []byte, n int) (token, []byte) {
	return token{kind: kindExt, ext: int8(b[0]), body: b[1 : 1+n]}, b[1+n:]
}

// skip returns what follows the first value of b.
func skip(b []byte) []byte {
	for due := 1; due > 0; due-- {
		var t token
		t, b = next(b)
		switch t.kind {
		case kindArray:
			due += t.n
		case kindMap:
			due += 2 * t.n
		}
	}
	return b
}

// toBool, toInt, toUint, toFloat and toTime convert what t holds, nil being zero,
// and report whether they could without loss; mismatch words the error.
func (t token) toBool() (bool, bool) {
	return t.u == 1, t.kind == kindBool || t.kind == kindNil
}

func (t token) toInt(width int) (int64, bool) {
	i, unused := int64(t.u), 64-width
	fits := i<<unused>>unused == i && (t.negative || i >= 0)
	return i, t.kind == kindNil || t.kind == kindWhole && fits
}

func (t token) toUint(width int) (uint64, bool) {
	fits := !t.negative && t.u<<(64-width)>>(64-width) == t.u
	return t.u, t.kind == kindNil || t.kind == kindWhole && fits
}

func (t token) toFloat(width int) (float64, bool) {
	switch t.kind {
	case kindNil:
		return 0, true
	case kindFloat32:
		return float64(math.Float32frombits(uint32(t.u))), true
	case kindFloat64:
		f := math.Float64frombits(t.u)
		grew := width == 32 && math.IsInf(float64(float32(f)), 0) && !math.IsInf(f, 0)
		return f, !grew
	case kindWhole:
		return t.wholeToFloat(width)
	}
	return 0, false
}

// wholeToFloat converts a number whose significant bits fit the mantissa.
func (t token) wholeToFloat(width int) (float64, bool) {
	size, f := t.u, float64(t.u)
	if t.negative {
		size, f = -t.u, float64(int64(t.u))
	}
	mantissa := 53
	if width == 32 {
		mantissa = 24
	}
	return f, bits.Len64(size)-bits.TrailingZeros64(size) <= mantissa || size == 0
}

func (t token) toTime() (time.Time, bool) {
	if t.kind == kindNil {
		return time.Time{}, true
	}
	if t.kind != kindExt || t.ext != timestamp {
		return time.Time{}, false
	}
	var at time.Time
	switch len(t.body) {
	case 4:
		at = time.Unix(int64(number(t.body)), 0)
	case 8:
		u := number(t.body)
		at = time.Unix(int64(u&(1<<34-1)), int64(u>>34))
	case 12:
		at = time.Unix(int64(number(t.body[4:])), int64(number(t.body[:4])))
	default:
		return time.Time{}, false
	}
	// The zero time has no zone, so that it equals time.Time{}.
	if at.IsZero() {
		return time.Time{}, true
	}
	return at, true
}

func (t token) isText() bool {
	return t.kind == kindStr || t.kind == kindBin || t.kind == kindNil
}

// mismatch says that t cannot become what was expected.
func mismatch(t token, expected string) error {
	return fmt.Errorf("%s was found where %s was expected", t.describe(), expected)
}

// misfit is mismatch for where a number was expected, and may have been found.
func misfit(t token, expected string, float bool) error {
	switch {
	case t.kind == kindWhole && float:
		return fmt.Errorf("%s is not exact as %s", t.whole(), expected)
	case t.kind == kindWhole:
		return fmt.Errorf("%s does not fit %s", t.whole(), expected)
	case t.kind == kindFloat64 && float:
		return fmt.Errorf("%s does not fit %s", t.describe(), expected)
	}
	return mismatch(t, expected)
}

func (t token) whole() string {
	if t.negative {
		return strconv.FormatInt(int64(t.u), 10)
	}
	return strconv.FormatUint(t.u, 10)
}

func (t token) describe() string {
	switch t.kind {
	case kindNil:
		return "nil"
	case kindBool:
		return "a bool"
	case kindWhole:
		return "the whole number " + t.whole()
	case kindFloat32, kindFloat64:
		f, _ := t.toFloat(64)
		return "the float " + strconv.FormatFloat(f, 'g', -1, 64)
	case kindStr:
		return "a string"
	case kindBin:
		return "a byte string"
	case kindArray:
		return fmt.Sprintf("an array of %d", t.n)
	case kindMap:
		return fmt.Sprintf("a map of %d", t.n)
	}
	return fmt.Sprintf("an extension of type %d", t.ext)
}
