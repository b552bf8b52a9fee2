package report

import (
	"bytes"
	"io"
	"iter"
	"slices"
)

// A CI system reads orders out of the log: what a command prints may open groups, set
// outputs, mask words or report errors in the name of the job. What is taken for an order:
//
//   - GitHub: "::name" at the beginning of a line, after white space. Its runner ends
//     lines at LF, CR LF and a lone CR, trims what Unicode calls white space, and takes the
//     name up to the next space or "::"; without a name there is no command.
//   - GitHub, and Azure, in their older form: "##[name]" anywhere in a line; the page that
//     shows the log folds and colours by it, too.
//   - Azure "##vso[", TeamCity "##teamcity[": anywhere in a line.
//   - GitLab: "section_start:" and "section_end:" with digits after them, anywhere.
//
// One space in the right place ends all of these: ":: error", "## [group]",
// "##vso [", "section_start :1". All are treated alike wherever gpool runs, because logs are
// copied and systems run inside of each other.
//
// GitHub has an order of its own for this, stop-commands with a token that nobody can
// guess. It is not used. It stops commands, but not the "##[group]" that the page acts on.
// stdout and stderr of a step are read by two readers that share one switch, so what came
// before a stop on one of them may arrive after it on the other. And a gpool that is killed
// would leave the rest of the step without commands.
//
// Either way the orders that a command gives on purpose are lost as well, add-mask above all.

// Filter passes bytes on to a writer, and breaks what a CI system would take for an order
// by a space. All other bytes stay as they are, and nothing is held back: what was written
// has left. The result does not depend on how the bytes are cut into pieces, and what went
// through one filter goes through the next unchanged.
//
// There is one Filter for each place where bytes end, not for each stream: an order may be
// put together from two streams that go to the same place. One goroutine.
type Filter struct {
	w       io.Writer
	orders  orders
	midLine bool
	cuts    []int
	out     []byte
}

// NewFilter makes a filter in front of w, at the beginning of a line.
func NewFilter(w io.Writer) *Filter { return &Filter{w: w} }

// Write implements [io.Writer]: one Write to the writer behind, of the very same bytes if
// there is nothing to break. Its errors are those of that writer.
func (f *Filter) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	f.midLine = b[len(b)-1] != '\n'
	f.cuts = f.orders.find(f.cuts[:0], b)
	out := b
	if len(f.cuts) > 0 {
		f.out = insertSpaces(f.out[:0], b, f.cuts)
		out = f.out
	}
	if _, err := f.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// EndLine ends the line if there is one under way, so that what follows, of another call or
// of gpool, begins a line of its own.
func (f *Filter) EndLine() error {
	if !f.midLine {
		return nil
	}
	_, err := f.Write([]byte{'\n'})
	return err
}

// order writes an order of gpool's own, as it is, on a line of its own. It ends with a
// newline, so that no order can go on behind it.
func (f *Filter) order(text string) error {
	if err := f.EndLine(); err != nil {
		return err
	}
	_, err := io.WriteString(f.w, text)
	return err
}

// neutral is what a Filter makes of a text that stands alone.
func neutral(text string) string {
	b := []byte(text)
	return string(insertSpaces(nil, b, new(orders).find(nil, b)))
}

// insertSpaces appends b to out, with a space before each of the places.
func insertSpaces(out, b []byte, cuts []int) []byte {
	done := 0
	for _, cut := range cuts {
		out = append(append(out, b[done:cut]...), ' ')
		done = cut
	}
	return append(out, b[done:]...)
}

// orders finds the places in a stream of bytes where a space ends an order. It is pure, and
// remembers what an order that is cut between two pieces takes.
type orders struct {
	colons int    // that the line begins with, elsewhere if with anything else
	recent []byte // the last bytes
}

const (
	elsewhere  = 3                    // more colons than "::", or other text
	recentMost = len("section_start") // the longest of the words below
)

// A bracket or a colon completes the order that one of these words begins.
var (
	bracketWords = []string{"##", "##vso", "##teamcity"}
	colonWords   = []string{"section_start", "section_end"}
)

// find takes the next piece and appends the places to cuts, in order. What is plain costs
// two searches for a byte.
func (o *orders) find(cuts []int, b []byte) []int {
	for i := range indices(b, '[') {
		if o.follows(b[:i], bracketWords) {
			cuts = append(cuts, i)
		}
	}
	for i := range indices(b, ':') {
		if o.follows(b[:i], colonWords) {
			cuts = append(cuts, i)
		}
		if i > 0 && b[i-1] == ':' && i+1 < len(b) && letter(b[i+1]) && beginsLine(b[:i-1]) {
			cuts = append(cuts, i+1)
		}
	}
	if i := o.head(b); i >= 0 {
		cuts = append(cuts, i)
	}
	o.colons = lead(o.colons, b)
	o.remember(b)
	slices.Sort(cuts)
	return cuts
}

// indices are the places of c in b.
func indices(b []byte, c byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for done := 0; ; done++ {
			i := bytes.IndexByte(b[done:], c)
			if i < 0 || !yield(done+i) {
				return
			}
			done += i
		}
	}
}

// follows reports whether the bytes so far, with b, end with one of the words.
func (o *orders) follows(b []byte, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		if len(b) >= len(word) {
			return string(b[len(b)-len(word):]) == word
		}
		early, late := word[:len(word)-len(b)], word[len(word)-len(b):]
		return string(b) == late && bytes.HasSuffix(o.recent, []byte(early))
	})
}

// remember keeps the end of b for the next piece.
func (o *orders) remember(b []byte) {
	o.recent = append(o.recent, b[max(0, len(b)-recentMost):]...)
	if over := len(o.recent) - recentMost; over > 0 {
		o.recent = append(o.recent[:0], o.recent[over:]...)
	}
}

// head is where the name of a command begins on the line that an earlier piece has begun, or -1.
// Lines that begin within a piece are left to beginsLine.
func (o *orders) head(b []byte) int {
	colons := o.colons
	for i, c := range b {
		if colons == 2 && letter(c) {
			return i
		}
		if colons = step(colons, c); colons == elsewhere || newline(c) {
			break
		}
	}
	return -1
}

// beginsLine reports whether there are only blanks between the end of b and a newline in it.
func beginsLine(b []byte) bool {
	for _, c := range slices.Backward(b) {
		if newline(c) {
			return true
		}
		if !blank(c) {
			return false
		}
	}
	return false
}

// lead is how many colons the line begins with after b, if it began with so many before.
func lead(colons int, b []byte) int {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		colons, b = 0, b[i+1:]
	}
	if i := bytes.LastIndexByte(b, '\r'); i >= 0 {
		colons, b = 0, b[i+1:]
	}
	for _, c := range b {
		if colons = step(colons, c); colons == elsewhere {
			break
		}
	}
	return colons
}

// step is lead for one byte.
func step(colons int, c byte) int {
	switch {
	case newline(c):
		return 0
	case c == ':' && colons < elsewhere:
		return colons + 1
	case colons == 0 && blank(c):
		return 0
	}
	return elsewhere
}

func newline(c byte) bool { return c == '\n' || c == '\r' }

// blank reports whether c may belong to white space. All bytes beyond ASCII do: there are
// spaces among them, in sequences that a piece may cut, and the byte order mark. That breaks a
// few harmless lines ("ß::a") and is simple enough to be right.
func blank(c byte) bool { return c <= ' ' || c >= 0x80 }

// letter reports whether a command's name can begin with c. "::1" and ":: text" name none.
func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
