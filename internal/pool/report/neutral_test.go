package report

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// What the systems take for orders, written down again in the way in which they look for it.
var (
	gitlabTakes = regexp.MustCompile(`section_(start|end):[0-9]`)
	lineEnds    = regexp.MustCompile("\r\n|\r|\n")
)

// githubTakes reports whether GitHub's runner would run a command in one of its lines, if
// every name were one of a command.
func githubTakes(line string) bool {
	line = strings.TrimLeftFunc(strings.ToValidUTF8(line, "\uFFFD"), unicode.IsSpace)
	rest, is := strings.CutPrefix(line, "::")
	if !is {
		return false
	}
	name, _, is := strings.Cut(rest, "::")
	name, _, _ = strings.Cut(name, " ")
	return is && name != "" && letter(name[0])
}

// taken returns the first order in text, or "".
func taken(text string) string {
	for _, word := range []string{"##[", "##vso[", "##teamcity["} {
		if strings.Contains(text, word) {
			return word
		}
	}
	if order := gitlabTakes.FindString(text); order != "" {
		return order
	}
	for _, line := range lineEnds.Split(strings.TrimPrefix(text, "\uFEFF"), -1) {
		if githubTakes(line) {
			return line
		}
	}
	return ""
}

// filtered is what a filter makes of the pieces.
func filtered(t rapid.TB, pieces ...[]byte) string {
	t.Helper()
	var out bytes.Buffer
	f := NewFilter(&out)
	for _, piece := range pieces {
		if n, err := f.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write of %d bytes: %d, %v", len(piece), n, err)
		}
	}
	return out.String()
}

func TestNeutral(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"plain\n":                      "plain\n",
		"::error::x":                   ":: error::x",
		"::error file=a,line=1::x\n":   ":: error file=a,line=1::x\n",
		"a\n \t::set-output name=a::b": "a\n \t:: set-output name=a::b",
		"50%\r::add-mask::x":           "50%\r:: add-mask::x",
		"\u00a0\u2003::debug::x":       "\u00a0\u2003:: debug::x",
		"\ufeff::debug::x":             "\ufeff:: debug::x",
		"\v\f::debug::x\r\n::debug::":  "\v\f:: debug::x\r\n:: debug::",
		"::STOP-commands::x":           ":: STOP-commands::x",
		"std::string s; a ::b":         "std::string s; a ::b",
		"::1 localhost\n:: packages":   "::1 localhost\n:: packages",
		":::error::x":                  ":::error::x",
		":: error::x":                  ":: error::x",
		": :error::x":                  ": :error::x",
		"x ##[error]y":                 "x ## [error]y",
		"###[group]y":                  "### [group]y",
		"## [a] #[b] # #[c]":           "## [a] #[b] # #[c]",
		"##vso[task.x]##vso [":         "##vso [task.x]##vso [",
		"##teamcity[x y='z']":          "##teamcity [x y='z']",
		"##\n[x]":                      "##\n[x]",
		"\x1b[0Ksection_start:1:a[collapsed=true]\r\x1b[0KA": "\x1b[0Ksection_start :1:a[collapsed=true]\r\x1b[0KA",
		"\rsection_end:1:a\r\x1b[0K":                         "\rsection_end :1:a\r\x1b[0K",
		"section_middle: a[0]: b":                            "section_middle: a[0]: b",
	} {
		if got := neutral(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		for cut := range len(text) {
			checkFilter(t, []byte(text), cut)
		}
		if got := filtered(t, bytes.SplitAfter([]byte(text), nil)...); got != want {
			t.Errorf("%q character by character became %q, want %q", text, got, want)
		}
	}
}

// checkFilter checks what is always true, for text cut at the places.
func checkFilter(t rapid.TB, text []byte, cuts ...int) {
	whole := filtered(t, text)
	if order := taken(whole); order != "" {
		t.Fatalf("%q became %q, which has the order %q", text, whole, order)
	}
	var pieces [][]byte
	done := 0
	for _, cut := range cuts {
		pieces, done = append(pieces, text[done:cut]), cut
	}
	if got := filtered(t, append(pieces, text[done:])...); got != whole {
		t.Fatalf("%q cut at %v became %q, in one piece %q", text, cuts, got, whole)
	}
	if got := filtered(t, []byte(whole)); got != whole {
		t.Fatalf("%q became %q, and that %q", text, whole, got)
	}
	rest := text
	for _, c := range []byte(whole) {
		if len(rest) > 0 && rest[0] == c {
			rest = rest[1:]
		} else if c != ' ' {
			t.Fatalf("%q became %q: more was changed than spaces put in", text, whole)
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%q became %q: %q is missing", text, whole, rest)
	}
}

func TestFilterBreaksAllOrdersHoweverTheyAreCut(t *testing.T) {
	words := rapid.SampledFrom([]string{
		":", "::", "#", "##", "[", "]", "vso", "teamcity", "section_", "start", "end", "error", "group",
		"\n", "\r", "\r\n", " ", "\t", "\v", "1", "x", "\x1b[0K", "\u00a0", "\u2028", "\u3000", "\ufeff", "\xe2", "\x80", "\x00",
		"::error::", "##[group]", "##vso[", "##teamcity[", "section_start:1:a", "section_end:1:a", "line of text",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(strings.Join(rapid.SliceOfN(words, 0, 30).Draw(t, "words"), ""))
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 40).Draw(t, "cuts")
		slices.Sort(cuts)
		checkFilter(t, text, cuts...)
	})
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte("a\n ::error::b\r##[x]##vso[ section_start:1:a"), uint16(3), uint16(12))
	f.Add([]byte("\x1b[0Ksection_end:1:a\r\x1b[0K##teamcity[\u2003::a::"), uint16(9), uint16(9))
	f.Fuzz(func(t *testing.T, text []byte, a, b uint16) {
		cuts := []int{int(a) % (len(text) + 1), int(b) % (len(text) + 1)}
		slices.Sort(cuts)
		checkFilter(t, text, cuts...)
	})
}

func TestFilterHoldsNothingBack(t *testing.T) {
	var out bytes.Buffer
	f := NewFilter(&out)
	for i, c := range []byte("a\n::x ##[y") {
		before := out.Len()
		if _, err := f.Write([]byte{c}); err != nil || out.Bytes()[out.Len()-1] != c || out.Len() == before {
			t.Fatalf("after byte %d: %q, %v", i, out.String(), err)
		}
	}
}

func TestFilterPassesPlainBytesInOneWrite(t *testing.T) {
	var got [][]byte
	f := NewFilter(writeFunc(func(b []byte) (int, error) { got = append(got, b); return len(b), nil }))
	plain := []byte("std::vector[0]: plain\n")
	if _, err := f.Write(plain); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || &got[0][0] != &plain[0] {
		t.Errorf("%d writes, or a copy", len(got))
	}
	_, _ = f.Write([]byte("##[a] ##[b] ##[c]"))
	if len(got) != 2 {
		t.Errorf("%d writes for two", len(got))
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

func TestFilterPassesErrorsOn(t *testing.T) {
	full := errors.New("full")
	f := NewFilter(writeFunc(func([]byte) (int, error) { return 0, full }))
	if n, err := f.Write([]byte("##[a]")); n != 0 || !errors.Is(err, full) {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := f.EndLine(); !errors.Is(err, full) {
		t.Errorf("EndLine: %v", err)
	}
}

func TestFilterEndLine(t *testing.T) {
	var out bytes.Buffer
	f := NewFilter(&out)
	for _, text := range []string{"", "a", "", "b\n", "::"} {
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := f.EndLine(); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(f, "error::")
	if got := out.String(); got != "a\nb\n::\nerror::" {
		t.Errorf("%q", got)
	}
}

func BenchmarkFilter(b *testing.B) {
	for name, line := range map[string]string{
		"plain":  "the quick brown fox jumps over the lazy dog, and over again until it is tired\n",
		"colons": `2026-01-02 12:34:56 [info] std::map::at "a": [1, 2], "b": {"c": "d"}` + "\n",
		"orders": "::error::one ##[two] section_start:3:three ##vso[four]\n",
		"cr":     "\r 45% of all",
	} {
		b.Run(name, func(b *testing.B) {
			piece := []byte(strings.Repeat(line, 32<<10/len(line)))
			f := NewFilter(io.Discard)
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Write(piece)
			}
		})
	}
}
