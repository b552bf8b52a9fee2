package report

import (
	"bytes"
	"unicode/utf8"
)

const (
	escape = 0x1b
	bell   = 0x07
)

// xmlBad stands for what XML 1.0 cannot have: most control characters, not even as
// references, and bytes that are no UTF-8.
const xmlBad = "\ufffd"

// appendXML adds text that a program printed, for the inside of an element or, if quoted,
// of an attribute. Escape sequences of terminals vanish. A carriage return, with or without
// a line feed, becomes a line feed, as an XML parser would have it, so the states of a
// progress bar are lines. Other control characters and invalid bytes become U+FFFD.
//
// It is pure, and reads every byte at most twice.
func appendXML(b, text []byte, quoted bool) []byte {
	for i := 0; i < len(text); {
		if text[i] == escape {
			if n := escapeSequence(text[i:]); n > 0 {
				i += n
				continue
			}
		}
		r, size := utf8.DecodeRune(text[i:])
		i += size
		if r == '\r' {
			if i < len(text) && text[i] == '\n' {
				continue
			}
			r = '\n'
		}
		b = appendXMLRune(b, r, quoted)
	}
	return b
}

// appendXMLRune adds one character. In an attribute line feeds and tabs are references: a
// parser takes them for blanks otherwise.
func appendXMLRune(b []byte, r rune, quoted bool) []byte {
	switch {
	case r == '&':
		return append(b, "&amp;"...)
	case r == '<':
		return append(b, "&lt;"...)
	case r == '>': // because of ]]>
		return append(b, "&gt;"...)
	case r == '"' && quoted:
		return append(b, "&quot;"...)
	case r == '\n' && quoted:
		return append(b, "&#10;"...)
	case r == '\t' && quoted:
		return append(b, "&#9;"...)
	case r == '\n' || r == '\t':
		return append(b, byte(r))
	case isControl(r) || r == 0xfffe || r == 0xffff:
		return append(b, xmlBad...)
	}
	return utf8.AppendRune(b, r) // U+FFFD for invalid bytes
}

// isControl reports whether r is a control character, of either set.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// escapeSequence is the length of the escape sequence that b begins with, or 0 if that is
// none, or cut off: colours and cursor moves (ESC [), titles and links (ESC ] and the other
// strings, which have an end of their own), and short ones.
func escapeSequence(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '[':
		return sequenceEnd(b, 2, 0x40)
	case ']', 'P', 'X', '^', '_':
		return stringEnd(b)
	}
	return sequenceEnd(b, 1, 0x30)
}

// sequenceEnd is the length of a sequence whose parameters start at from and whose last
// byte is the first one that is at least last.
func sequenceEnd(b []byte, from int, last byte) int {
	for i := from; i < len(b); i++ {
		switch {
		case b[i] >= last && b[i] < 0x7f:
			return i + 1
		case b[i] < 0x20 || b[i] >= 0x7f:
			return 0
		}
	}
	return 0
}

// stringEnd is the length of a sequence that ends with BEL or ESC \. Text of a later line
// is no part of one, whatever its beginning says.
func stringEnd(b []byte) int {
	for i := 2; i < len(b); i++ {
		switch {
		case b[i] == bell:
			return i + 1
		case b[i] == escape && i+1 < len(b) && b[i+1] == '\\':
			return i + 2
		case b[i] < 0x20:
			return 0
		}
	}
	return 0
}

// tailMost is how many bytes of a stream of an attempt a report shows: the last ones, since
// that is where programs say what is wrong.
const tailMost = 64 << 10

// tail keeps the last bytes of a stream that comes in pieces of any size. It takes at most
// a little more than twice what it keeps, so that a byte is moved once at most.
type tail struct {
	kept  []byte
	total int64
}

func (t *tail) add(b []byte) {
	t.total += int64(len(b))
	b = b[max(0, len(b)-tailMost):]
	if len(t.kept)+len(b) > 2*tailMost {
		n := copy(t.kept, t.kept[max(0, len(t.kept)-tailMost):])
		t.kept = t.kept[:n]
	}
	t.kept = append(t.kept, b...)
}

// bytes is what is shown of the stream, from the beginning of a character if it was cut.
func (t *tail) bytes() []byte {
	b := t.kept[max(0, len(t.kept)-tailMost):]
	if int64(len(b)) == t.total {
		return b
	}
	for range utf8.UTFMax - 1 {
		if len(b) == 0 || utf8.RuneStart(b[0]) {
			break
		}
		b = b[1:]
	}
	return b
}

// oneLine makes a name of what may hold line feeds and tabs: they become blanks.
func oneLine(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, b)
}
