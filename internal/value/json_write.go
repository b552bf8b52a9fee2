package value

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the msgpack value src as compact JSON to dst; on an error it
// returns dst as it was. A bin is its base64, NaN and the infinities are strings,
// a timestamp is RFC 3339 in UTC, any other extension {"ext":TYPE,"data":BASE64}.
// A key that is not a string becomes its JSON text. Bytes that are not UTF-8 become
// U+FFFD. A float keeps a fraction or an exponent, so that FromJSON reads a float
// again, and has the digits to be read back the same. An empty src is null.
func AppendJSON(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return append(dst, "null"...), nil
	}
	if err := precheck(src); err != nil {
		return dst, err
	}
	out, _ := appendJSON(dst, src)
	return out, nil
}

// AppendText appends the msgpack value src for people to dst: a str or bin as it
// is, nil as nothing, anything else as JSON but without the quotes that a time, a
// NaN or an infinity has there.
func AppendText(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return dst, nil
	}
	if err := precheck(src); err != nil {
		return dst, err
	}
	t, _ := next(src)
	switch t.kind {
	case kindNil:
		return dst, nil
	case kindStr, kindBin:
		return append(dst, t.body...), nil
	}
	out, _ := appendUnquoted(dst, src)
	return out, nil
}

// appendUnquoted appends the first value of b as JSON; of one that is a string
// there, such as a timestamp, without the quotes.
func appendUnquoted(dst, b []byte) (out, rest []byte) {
	start := len(dst)
	dst, rest = appendJSON(dst, b)
	if dst[start] != '"' {
		return dst, rest
	}
	return append(dst[:start], dst[start+1:len(dst)-1]...), rest
}

// appendJSON writes the first value of b, which was prechecked.
func appendJSON(dst, b []byte) (out, rest []byte) {
	t, rest := next(b)
	switch t.kind {
	case kindBool:
		return strconv.AppendBool(dst, t.u == 1), rest
	case kindWhole:
		if t.negative {
			return strconv.AppendInt(dst, int64(t.u), 10), rest
		}
		return strconv.AppendUint(dst, t.u, 10), rest
	case kindFloat32, kindFloat64:
		return appendJSONFloat(dst, t), rest
	case kindStr:
		return appendJSONString(dst, t.body), rest
	case kindBin:
		return appendBase64(dst, t.body), rest
	case kindArray:
		return appendJSONArray(dst, t.n, rest)
	case kindMap:
		return appendJSONMap(dst, t.n, rest)
	case kindExt:
		return appendJSONExt(dst, t), rest
	}
	return append(dst, "null"...), rest
}

func appendJSONArray(dst []byte, n int, rest []byte) (out, after []byte) {
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, rest = appendJSON(dst, rest)
	}
	return append(dst, ']'), rest
}

func appendJSONMap(dst []byte, n int, rest []byte) (out, after []byte) {
	dst = append(dst, '{')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, rest = appendJSONKey(dst, rest)
		dst = append(dst, ':')
		dst, rest = appendJSON(dst, rest)
	}
	return append(dst, '}'), rest
}

func appendJSONKey(dst, b []byte) (out, rest []byte) {
	start := len(dst)
	dst, rest = appendJSON(dst, b)
	if dst[start] == '"' {
		return dst, rest
	}
	text := string(dst[start:])
	return appendJSONString(dst[:start], []byte(text)), rest
}

// appendJSONFloat chooses between the notations as encoding/json does.
func appendJSONFloat(dst []byte, t token) []byte {
	f, _ := t.toFloat(64)
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	width := 64
	if t.kind == kindFloat32 {
		width = 32
	}
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, width)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, width)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

func appendBase64(dst, body []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, body)
	return append(dst, '"')
}

func appendJSONExt(dst []byte, t token) []byte {
	if at, ok := t.toTime(); ok {
		dst = append(dst, '"')
		dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"')
	}
	dst = append(dst, `{"ext":`...)
	dst = strconv.AppendInt(dst, int64(t.ext), 10)
	dst = append(dst, `,"data":`...)
	return append(appendBase64(dst, t.body), '}')
}

func appendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		plain := 0
		for plain < len(s) && isPlain(s[plain]) {
			plain++
		}
		dst = append(dst, s[:plain]...)
		if s = s[plain:]; len(s) == 0 {
			break
		}
		if s[0] < utf8.RuneSelf {
			dst = appendEscape(dst, s[0])
			s = s[1:]
			continue
		}
		r, size := utf8.DecodeRune(s)
		dst = utf8.AppendRune(dst, r)
		s = s[size:]
	}
	return append(dst, '"')
}

func isPlain(c byte) bool {
	return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
