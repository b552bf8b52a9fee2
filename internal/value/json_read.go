package value

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// FromJSON turns exactly one JSON value into msgpack. Nothing is lost in silence:
// a whole number stays one and must fit 64 bits, any other number is a float64 that
// must not overflow, -0 too because no integer is it; text must be UTF-8 and its
// escapes complete. The keys of an object keep their order. Errors name the offset.
func FromJSON(text []byte) ([]byte, error) {
	r := jsonReader{text: text, out: make([]byte, 0, len(text))}
	if err := r.value(); err != nil {
		return nil, fmt.Errorf("read JSON at byte %d: %w", r.at, err)
	}
	if r.space(); r.at < len(text) {
		return nil, fmt.Errorf("read JSON at byte %d: %s follows the value", r.at, r.found())
	}
	return r.out, nil
}

// jsonReader reads by hand what encoding/json would read token by token, because
// that replaces bad text without a word and boxes every token.
type jsonReader struct {
	text  []byte
	at    int // at the start of what is wrong, after an error
	out   []byte
	depth int
}

func (r *jsonReader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end, which no JSON contains.
func (r *jsonReader) peek() byte {
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

// found words what is at r.at.
func (r *jsonReader) found() string {
	if r.at >= len(r.text) {
		return "the end"
	}
	c, _ := utf8.DecodeRune(r.text[r.at:])
	return strconv.QuoteRune(c)
}

func (r *jsonReader) unexpected(expected string) error {
	return fmt.Errorf("%s was found where %s was expected", r.found(), expected)
}

func (r *jsonReader) value() error {
	r.space()
	switch c := r.peek(); {
	case c == '{':
		return r.container('}', 0x80, 0xde, r.pair)
	case c == '[':
		return r.container(']', 0x90, 0xdc, r.value)
	case c == '"':
		return r.str()
	case c == '-' || isDigit(c):
		return r.number()
	case c == 't':
		return r.literal("true", 0xc3)
	case c == 'f':
		return r.literal("false", 0xc2)
	case c == 'n':
		return r.literal("null", Nil)
	}
	return r.unexpected("a value")
}

func (r *jsonReader) literal(word string, code byte) error {
	for i := range len(word) {
		if r.peek() != word[i] {
			return r.unexpected(word)
		}
		r.at++
	}
	r.out = append(r.out, code)
	return nil
}

// container reads items up to the closing byte. Their number is known only then,
// so room is kept for the shortest header and made for a longer one.
func (r *jsonReader) container(closing, short, long byte, item func() error) error {
	if r.depth == maxDepth {
		return fmt.Errorf("values nest deeper than %d levels", maxDepth)
	}
	r.depth++
	r.at++
	head, n := len(r.out), 0
	r.out = append(r.out, 0)
	for r.space(); r.peek() != closing; r.space() {
		if n > 0 {
			if r.peek() != ',' {
				return r.unexpected("a comma or " + strconv.QuoteRune(rune(closing)))
			}
			r.at++
		}
		if err := item(); err != nil {
			return err
		}
		n++
	}
	r.at++
	r.depth--
	if n < 16 {
		r.out[head] = short | byte(n)
		return nil
	}
	var header [5]byte
	r.out = slices.Replace(r.out, head, head+1, appendLength(header[:0], n, long, long+1)...)
	return nil
}

func (r *jsonReader) pair() error {
	if r.space(); r.peek() != '"' {
		return r.unexpected("a key in double quotes")
	}
	if err := r.str(); err != nil {
		return err
	}
	if r.space(); r.peek() != ':' {
		return r.unexpected("a colon")
	}
	r.at++
	return r.value()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (r *jsonReader) digits() bool {
	start := r.at
	for isDigit(r.peek()) {
		r.at++
	}
	return r.at > start
}

func (r *jsonReader) number() error {
	start := r.at
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == '0' {
		r.at++
	} else if !r.digits() {
		return r.unexpected("a digit")
	}
	whole := true
	if r.peek() == '.' {
		whole = false
		r.at++
		if !r.digits() {
			return r.unexpected("a digit")
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		whole = false
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		if !r.digits() {
			return r.unexpected("a digit")
		}
	}
	digits := string(r.text[start:r.at])
	err := r.convert(digits, whole)
	if err != nil {
		r.at = start
	}
	return err
}

// convert writes a number whose syntax was checked.
func (r *jsonReader) convert(digits string, whole bool) error {
	if digits == "-0" {
		r.out = appendFloat64(r.out, math.Copysign(0, -1))
		return nil
	}
	if !whole {
		f, err := strconv.ParseFloat(digits, 64)
		if err != nil {
			return fmt.Errorf("the number %s does not fit a float64", digits)
		}
		r.out = appendFloat64(r.out, f)
		return nil
	}
	if i, err := strconv.ParseInt(digits, 10, 64); err == nil {
		r.out = appendInt(r.out, i)
		return nil
	}
	u, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return fmt.Errorf("the whole number %s does not fit 64 bits", digits)
	}
	r.out = appendUint(r.out, u)
	return nil
}

// str reads a string. One without escapes, as most are, is copied at once.
func (r *jsonReader) str() error {
	r.at++
	start := r.at
	for r.at < len(r.text) && isPlain(r.text[r.at]) {
		r.at++
	}
	if r.peek() == '"' {
		r.out = append(appendStrHeader(r.out, r.at-start), r.text[start:r.at]...)
		r.at++
		return nil
	}
	return r.longStr(start)
}

// longStr reads a string that is not only plain ASCII; r.at is behind a plain part.
func (r *jsonReader) longStr(start int) error {
	s := append([]byte(nil), r.text[start:r.at]...)
	for {
		switch c := r.peek(); {
		case r.at == len(r.text):
			return errors.New("the end was found within a string")
		case c == '"':
			r.at++
			r.out = append(appendStrHeader(r.out, len(s)), s...)
			return nil
		case c == '\\':
			var err error
			if s, err = r.escape(s); err != nil {
				return err
			}
		case c < ' ':
			return fmt.Errorf("the control byte 0x%02x is not allowed within a string", c)
		default:
			_, size := utf8.DecodeRune(r.text[r.at:])
			if c >= utf8.RuneSelf && size == 1 {
				return fmt.Errorf("byte 0x%02x is not UTF-8", c)
			}
			s = append(s, r.text[r.at:r.at+size]...)
			r.at += size
		}
	}
}

func (r *jsonReader) escape(s []byte) ([]byte, error) {
	r.at++
	c := r.peek()
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r.at--
		return r.unicode(s)
	default:
		return nil, r.unexpected("an escape")
	}
	r.at++
	return append(s, c), nil
}

// unicode reads one \u escape, or the two of a surrogate pair. Half a pair is an
// error: no UTF-8 stands for it.
func (r *jsonReader) unicode(s []byte) ([]byte, error) {
	start := r.at
	first, ok := r.hex4()
	if !ok {
		return nil, r.unexpected("a \\u and four hexadecimal digits")
	}
	if !utf16.IsSurrogate(first) {
		return utf8.AppendRune(s, first), nil
	}
	second, _ := r.hex4()
	whole := utf16.DecodeRune(first, second)
	if whole == utf8.RuneError {
		r.at = start
		return nil, errors.New("half a surrogate pair")
	}
	return utf8.AppendRune(s, whole), nil
}

// hex4 reads \uXXXX, and stops at the byte that does not belong to it.
func (r *jsonReader) hex4() (c rune, ok bool) {
	for _, expected := range `\u` {
		if rune(r.peek()) != expected {
			return 0, false
		}
		r.at++
	}
	for range 4 {
		digit, err := strconv.ParseUint(string(r.peek()), 16, 8)
		if err != nil {
			return 0, false
		}
		c = c<<4 | rune(digit)
		r.at++
	}
	return c, true
}
