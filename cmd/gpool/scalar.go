package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"gpool/internal/value"
)

// How the values of shared state look to a shell.

// encoded is a value that can always be encoded.
func encoded[T any](v T) []byte {
	b, err := value.Append(nil, &v)
	if err != nil {
		panic(fmt.Sprintf("encode a plain value: %v", err)) // a string, bytes or a number
	}
	return b
}

// asText is the text of a shell as a Go program reads it: a string, or bytes if it is not UTF-8.
func asText(text string) []byte {
	if utf8.ValidString(text) {
		return encoded(text)
	}
	return encoded([]byte(text))
}

// asScalar is asText, but for a number in the very form in which it would be printed: that is
// stored as one, so that incr works, and Go reads an int or a float. 007, 1e3 and +1 stay text.
func asScalar(text string) []byte {
	if number, ok := asNumber(text); ok && asLine(number) == text {
		return number
	}
	return asText(text)
}

// asNumber is a number, in any decimal form.
func asNumber(text string) ([]byte, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return encoded(n), true
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return encoded(n), true
	}
	f, err := strconv.ParseFloat(text, 64)
	return encoded(f), err == nil && !strings.ContainsAny(text, "_xXnN") // 1_0, 0x1p4, NaN, Inf
}

// asLine is a value as it is printed: text and bytes as they are, all else as JSON. What is no
// value, which only another program can have put there, is printed as it is.
func asLine(b []byte) string {
	text, err := value.AppendText(nil, b)
	if err != nil {
		return string(b)
	}
	return string(text)
}

// asJSON is a value as JSON.
func asJSON(b []byte) json.RawMessage {
	text, err := value.AppendJSON(nil, b)
	if err != nil {
		return asJSON(encoded(b))
	}
	return text
}
