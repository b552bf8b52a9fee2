package report

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// What follows writes JSON by appending, without reflection: a call costs a report about a
// microsecond. Every appendX adds to b and returns it, as package strconv does.

// jsonHex are the digits of an escaped control character.
const jsonHex = "0123456789abcdef"

// appendString adds s as a JSON string. What is no UTF-8 becomes U+FFFD; those who must
// not lose a byte use [appendText].
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
				b = append(b, s[from:i]...)
				b = appendEscape(b, c)
				from = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\ufffd"...)
			from = i + 1
		}
		i += size
	}
	return append(append(b, s[from:]...), '"')
}

// appendEscape adds one ASCII character that may not stand in a JSON string as it is.
func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', jsonHex[c>>4], jsonHex[c&15])
}

// appendBase64 adds s as a JSON string in standard base64.
func appendBase64(b []byte, s string) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, []byte(s))
	return append(b, '"')
}

// appendKey adds the key of a field that is not the first one of its object.
func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendUint(b []byte, key string, n uint64) []byte {
	return strconv.AppendUint(appendKey(b, key), n, 10)
}

// appendText adds a field with bytes that were meant as text: under key, or in base64
// under key_base64 if they are no UTF-8, and not at all if there are none.
func appendText(b []byte, key, s string) []byte {
	switch {
	case s == "":
		return b
	case utf8.ValidString(s):
		return appendString(appendKey(b, key), s)
	}
	return appendBase64(appendKey(b, key+"_base64"), s)
}

// appendTexts adds a field with an array of such bytes; one that is no UTF-8 puts all of
// them in base64, so that a reader need not look at each.
func appendTexts(b []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	appendOne := appendString
	for _, s := range list {
		if !utf8.ValidString(s) {
			key, appendOne = key+"_base64", appendBase64
			break
		}
	}
	b = append(appendKey(b, key), '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOne(b, s)
	}
	return append(b, ']')
}

// appendMicros adds microseconds as seconds, with all six decimals: exact, where a float
// of seconds since 1970 is at its limit.
func appendMicros(b []byte, micros int64) []byte {
	micros = max(0, micros)
	b = strconv.AppendInt(b, micros/1e6, 10)
	b = append(b, '.')
	for unit := int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+micros/unit%10))
	}
	return b
}

func appendSeconds(b []byte, key string, d time.Duration) []byte {
	return appendMicros(appendKey(b, key), d.Microseconds())
}

// appendMoment adds seconds since 1970; the zero time is 0.
func appendMoment(b []byte, key string, t time.Time) []byte {
	b = appendKey(b, key)
	if t.IsZero() {
		return append(b, '0')
	}
	return appendMicros(b, t.UnixMicro())
}

// appendAttempt adds the fields of an attempt, each with a comma before it.
func appendAttempt(b []byte, a *Attempt) []byte {
	b = appendInt(b, "attempt", int64(a.N))
	b = appendString(appendKey(b, "status"), string(a.Status))
	b = appendInt(b, "exit", int64(a.Exit))
	b = appendInt(b, "signal", int64(a.Signal))
	if a.Error != "" {
		b = appendString(appendKey(b, "error"), a.Error)
	}
	b = appendInt(b, "slot", int64(a.Slot))
	b = appendInt(b, "worker_pid", int64(a.Pid))
	b = appendMoment(b, "start", a.Start)
	b = appendSeconds(b, "runtime", a.Elapsed)
	b = appendSeconds(b, "user", a.User)
	b = appendSeconds(b, "system", a.System)
	b = appendInt(b, "max_rss", a.MaxRSS)
	b = appendInt(b, "stdout_bytes", a.Stdout)
	return appendInt(b, "stderr_bytes", a.Stderr)
}

// appendEarlier adds the attempts before the last, as objects in an array, if there are any.
func appendEarlier(b []byte, earlier []Attempt) []byte {
	if len(earlier) == 0 {
		return b
	}
	b = append(appendKey(b, "earlier"), '[')
	for i := range earlier {
		start := len(b)
		b = appendAttempt(b, &earlier[i])
		b[start] = '{' // in the place of its first comma
		b = append(b, '}', ',')
	}
	b[len(b)-1] = ']'
	return b
}
