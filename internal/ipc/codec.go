package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Encoder writes msgpack values into a buffer of its own that it reuses. It
// allocates only when that buffer grows. One goroutine at a time.
type Encoder struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
}

// NewEncoder returns an empty encoder.
func NewEncoder() *Encoder {
	e := &Encoder{}
	e.enc = msgpack.NewEncoder(&e.buf)
	return e
}

// A bytes.Buffer never fails to take a write, so an error here is a bug of ours.
func must(err error) {
	if err != nil {
		panic("ipc: encoding into memory failed: " + err.Error())
	}
}

// Array begins an array of n values.
func (e *Encoder) Array(n int) { must(e.enc.EncodeArrayLen(n)) }

// Uint writes a whole number in as few bytes as it needs.
func (e *Encoder) Uint(u uint64) { must(e.enc.EncodeUint(u)) }

// Int writes a whole number in as few bytes as it needs.
func (e *Encoder) Int(i int64) { must(e.enc.EncodeInt(i)) }

// Str writes s as a str value. The bytes of s need not be UTF-8.
func (e *Encoder) Str(s string) { must(e.enc.EncodeString(s)) }

// Bytes writes b as a bin value; nil is the empty one.
func (e *Encoder) Bytes(b []byte) {
	must(e.enc.EncodeBytesLen(len(b)))
	e.buf.Write(b)
}

// BytesOf writes s as a bin value, without a copy.
func (e *Encoder) BytesOf(s string) {
	must(e.enc.EncodeBytesLen(len(s)))
	e.buf.WriteString(s)
}

// Len is the number of bytes written since Reset.
func (e *Encoder) Len() int { return e.buf.Len() }

// Encoded returns what was written; it is valid until the next call.
func (e *Encoder) Encoded() []byte { return e.buf.Bytes() }

// Copy returns what was written, as a slice of the caller's own.
func (e *Encoder) Copy() []byte { return Clone(e.buf.Bytes()) }

// Reset forgets what was written and keeps the memory.
func (e *Encoder) Reset() { e.buf.Reset() }

// Decoder reads msgpack values from one slice. Its methods return zero values
// after the first error, which Err keeps: read a whole message, then ask once. It
// must only be given what passed [Precheck]. One goroutine at a time.
type Decoder struct {
	data []byte
	r    bytes.Reader
	dec  *msgpack.Decoder
	err  error
}

// NewDecoder returns a decoder without data; Reset gives it some.
func NewDecoder() *Decoder {
	d := &Decoder{}
	d.dec = msgpack.NewDecoder(&d.r)
	return d
}

// Reset begins to read b, which has passed Precheck.
func (d *Decoder) Reset(b []byte) {
	d.data, d.err = b, nil
	d.r.Reset(b)
}

// Err is the first error since Reset.
func (d *Decoder) Err() error { return d.err }

func (d *Decoder) fail(err error) {
	if d.err == nil {
		if errors.Is(err, io.EOF) {
			err = errTruncated
		}
		d.err = err
	}
}

// peek returns the next header byte without taking it.
func (d *Decoder) peek() (byte, bool) {
	if d.err != nil {
		return 0, false
	}
	if d.r.Len() == 0 {
		d.fail(io.EOF)
		return 0, false
	}
	return d.data[len(d.data)-d.r.Len()], true
}

// Array reads the header of an array and returns how many values it has.
func (d *Decoder) Array() int {
	c, ok := d.peek()
	if !ok {
		return 0
	}
	if !msgpcode.IsFixedArray(c) && c != msgpcode.Array16 && c != msgpcode.Array32 {
		d.fail(fmt.Errorf("an array was expected, not a value that begins with 0x%02x", c))
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

// IsArray reports whether the next value is an array.
func (d *Decoder) IsArray() bool {
	c, ok := d.peek()
	return ok && (msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32)
}

// Uint reads a whole number that is not negative. The library converts without
// checking, so the sign is looked at here.
func (d *Decoder) Uint() uint64 {
	i, u := d.number()
	if i < 0 {
		d.fail(fmt.Errorf("%d is negative where a count or an id was expected", i))
		return 0
	}
	return u
}

// Int reads a whole number that fits 63 bits and a sign.
func (d *Decoder) Int() int64 {
	i, u := d.number()
	if i >= 0 && u > 1<<63-1 {
		d.fail(fmt.Errorf("%d does not fit a signed number", u))
		return 0
	}
	return i
}

// number reads any msgpack integer, as its signed and its unsigned 64 bits; the
// signed ones are negative only if the number is.
func (d *Decoder) number() (int64, uint64) {
	c, ok := d.peek()
	if !ok {
		return 0, 0
	}
	switch {
	case c <= msgpcode.PosFixedNumHigh, c >= msgpcode.NegFixedNumLow,
		c >= msgpcode.Uint8 && c <= msgpcode.Int64:
	default:
		d.fail(fmt.Errorf("a whole number was expected, not a value that begins with 0x%02x", c))
		return 0, 0
	}
	u, err := d.dec.DecodeUint64()
	if err != nil {
		d.fail(err)
		return 0, 0
	}
	if c == msgpcode.Uint64 && u > 1<<63-1 {
		return 0, u
	}
	return int64(u), u
}

// Bytes reads a bin or str value. The slice is part of what Reset was given: it
// lives as long as that does.
func (d *Decoder) Bytes() []byte {
	c, ok := d.peek()
	if !ok {
		return nil
	}
	if !msgpcode.IsBin(c) && !msgpcode.IsString(c) {
		d.fail(fmt.Errorf("a string was expected, not a value that begins with 0x%02x", c))
		return nil
	}
	body, _ := d.pass() // a frame may have a thousand of them, and the library takes longer
	return body
}

// pass passes over a header and the bytes that belong to it, which it returns, and how many values follow
// in it.
func (d *Decoder) pass() (body []byte, children uint64) {
	at := len(d.data) - d.r.Len()
	head, n, children, err := header(d.data[at:])
	if err == nil && n > uint64(d.r.Len()-head) {
		err = errTruncated
	}
	if err == nil {
		_, err = d.r.Seek(int64(head)+int64(n), io.SeekCurrent)
	}
	if err != nil {
		d.fail(err)
		return nil, 0
	}
	at += head
	end := at + int(n)
	return d.data[at:end:end], children
}

// Str reads a bin or str value as a string of its own.
func (d *Decoder) Str() string { return string(d.Bytes()) }

// Skip passes over n values, which a newer peer may have added. It walks the
// headers itself: the library's Skip recurses and copies what it skips.
func (d *Decoder) Skip(n int) {
	for due := uint64(max(n, 0)); due > 0 && d.err == nil; due-- {
		_, children := d.pass()
		due += children
	}
}
