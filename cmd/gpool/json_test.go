package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// texts are byte strings in which whole, broken and cut characters are all likely.
var texts = rapid.Custom(func(t *rapid.T) []byte {
	part := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }),
		rapid.SliceOfN(rapid.Byte(), 0, 6),
		rapid.SampledFrom([][]byte{{0xE2, 0x82}, {0xF0, 0x9F, 0x98}, {0xC0, 0x80}, {0xED, 0xA0, 0x80}, {0xF4, 0x90, 0x80, 0x80}}),
	)
	return bytes.Join(rapid.SliceOfN(part, 0, 5).Draw(t, "parts"), nil)
})

// cut splits text at random places, some of them the same.
func cut(t *rapid.T, text []byte) (pieces [][]byte) {
	for len(text) > 0 {
		n := rapid.IntRange(0, min(len(text), 5)).Draw(t, "piece")
		pieces = append(pieces, text[:n:n])
		text = text[n:]
	}
	return pieces
}

func TestUTF8Check(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		var check utf8Check
		for _, piece := range cut(t, text) {
			check.add(piece)
		}
		if got, want := check.valid(), utf8.Valid(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	})
}

func TestEscaper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := bytes.ToValidUTF8(texts.Draw(t, "text"), nil)
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		w.WriteByte('"')
		for _, piece := range cut(t, text) {
			if n, err := (escaper{w}).Write(piece); n != len(piece) || err != nil {
				t.Fatalf("wrote %d of %q: %v", n, piece, err)
			}
		}
		w.WriteByte('"')
		w.Flush()
		var got string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != string(text) {
			t.Errorf("%q became %s: %v", text, out.Bytes(), err)
		}
	})
}
