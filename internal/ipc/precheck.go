package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxDepth bounds how deep arrays and maps may nest. The msgpack library recurses
// once a level and a Go stack overflow cannot be recovered from.
const maxDepth = 60

// errTruncated says that a declared length runs past the end of the frame.
var errTruncated = errors.New("a value is longer than the frame that holds it")

// Precheck reports whether b is exactly one well-formed msgpack value whose
// declared lengths fit into b and which nests at most 60 levels deep; an array or
// a map is a level also when it is empty, as it is to those who write it. Nothing may
// be handed to the msgpack library that did not pass: the library allocates what a
// header declares and recurses without a limit. It allocates nothing, and takes
// a few nanoseconds a value; the contents of strings are skipped.
func Precheck(b []byte) error {
	// left[d] is how many values are still due at depth d.
	var left [maxDepth + 1]uint64
	depth := 0
	left[0] = 1
	pos := 0
	for {
		for left[depth] == 0 {
			if depth == 0 {
				if pos != len(b) {
					return fmt.Errorf("%d bytes follow the value", len(b)-pos)
				}
				return nil
			}
			depth--
		}
		left[depth]--
		head, skip, children, err := header(b[pos:])
		if err != nil {
			return err
		}
		pos += head
		if skip > uint64(len(b)-pos) {
			return errTruncated
		}
		pos += int(skip)
		if depth == maxDepth && isContainer(b[pos-int(skip)-head]) {
			return fmt.Errorf("values nest deeper than %d levels", maxDepth)
		}
		if children == 0 {
			continue
		}
		// Every child takes a byte at least, so a count beyond the rest is a lie.
		if children > uint64(len(b)-pos) {
			return errTruncated
		}
		depth++
		left[depth] = children
	}
}

// isContainer reports whether c begins an array or a map.
func isContainer(c byte) bool {
	return c >= 0x80 && c <= 0x9f || c >= 0xc0 && c <= 0xdf && shapes[c-0xc0].kind >= array
}

// header reads one msgpack header: its own length, how many bytes of content
// follow it, and how many values do.
func header(b []byte) (head int, skip, children uint64, err error) {
	if len(b) == 0 {
		return 0, 0, 0, errTruncated
	}
	c := b[0]
	switch {
	case c <= 0x7f || c >= 0xe0: // fixint
		return 1, 0, 0, nil
	case c <= 0x8f: // fixmap
		return 1, 0, 2 * uint64(c&0x0f), nil
	case c <= 0x9f: // fixarray
		return 1, 0, uint64(c & 0x0f), nil
	case c <= 0xbf: // fixstr
		return 1, uint64(c & 0x1f), 0, nil
	}
	shape := shapes[c-0xc0]
	if shape.kind == invalid {
		return 0, 0, 0, fmt.Errorf("byte 0x%02x begins no msgpack value", c)
	}
	head = 1 + int(shape.length)
	if len(b) < head {
		return 0, 0, 0, errTruncated
	}
	n := uint64(shape.fixed)
	switch shape.length {
	case 1:
		n += uint64(b[1])
	case 2:
		n += uint64(binary.BigEndian.Uint16(b[1:]))
	case 4:
		n += uint64(binary.BigEndian.Uint32(b[1:]))
	}
	switch shape.kind {
	case array:
		return head, 0, n, nil
	case mapping:
		return head, 0, 2 * n, nil
	}
	return head, n, 0, nil
}

const (
	invalid = iota
	content // n bytes follow
	array   // n values follow
	mapping // n pairs follow
)

// shapes describes the headers 0xc0 to 0xdf: how many bytes of length follow the
// first byte, and what is to be added to that length (an extension's type byte,
// or the width of a number).
var shapes = [32]struct {
	kind, length, fixed uint8
}{
	0x00: {content, 0, 0},                                               // nil
	0x01: {invalid, 0, 0},                                               // never used
	0x02: {content, 0, 0},                                               // false
	0x03: {content, 0, 0},                                               // true
	0x04: {content, 1, 0}, 0x05: {content, 2, 0}, 0x06: {content, 4, 0}, // bin
	0x07: {content, 1, 1}, 0x08: {content, 2, 1}, 0x09: {content, 4, 1}, // ext
	0x0a: {content, 0, 4}, 0x0b: {content, 0, 8}, // float
	0x0c: {content, 0, 1}, 0x0d: {content, 0, 2}, 0x0e: {content, 0, 4}, 0x0f: {content, 0, 8}, // uint
	0x10: {content, 0, 1}, 0x11: {content, 0, 2}, 0x12: {content, 0, 4}, 0x13: {content, 0, 8}, // int
	0x14: {content, 0, 2}, 0x15: {content, 0, 3}, 0x16: {content, 0, 5}, 0x17: {content, 0, 9}, 0x18: {content, 0, 17}, // fixext
	0x19: {content, 1, 0}, 0x1a: {content, 2, 0}, 0x1b: {content, 4, 0}, // str
	0x1c: {array, 2, 0}, 0x1d: {array, 4, 0},
	0x1e: {mapping, 2, 0}, 0x1f: {mapping, 4, 0},
}
