package command

import (
	"strconv"
	"strings"
)

// A piece is a stretch of a template: literal text, or a placeholder and how its value is quoted.
type piece struct {
	kind  kind
	op    pathOp
	quote quoting
	n     int    // kindColumn: 1 is the first column, -1 the last
	text  string // kindLiteral: the text; kindName: the name; else empty
}

type kind uint8

const (
	kindLiteral kind = iota
	kindRow          // {}
	kindColumn       // {3}, {-1}, and {name} once the header has told its column
	kindName         // {name}, looked up in every row
	kindSeq          // {#}
	kindSlot         // {%}
)

// ofItem reports whether the piece stands for something of the row, rather than for a number that gpool chose.
func (p *piece) ofItem() bool { return p.kind == kindRow || p.kind == kindColumn || p.kind == kindName }

// A pathOp is what the suffix of a placeholder does to its value.
type pathOp uint8

const (
	opNone   pathOp = iota
	opNoExt         // {.}
	opBase          // {/}
	opDir           // {//}
	opBaseNo        // {/.}
)

// scanPlaceholder reads the placeholder at the start of text, which starts with a brace, and returns it and its length.
// A length of 0 means that there is none: the brace is just a brace.
func scanPlaceholder(text string, named bool) (piece, int) {
	if text == "" || text[0] != '{' {
		return piece{}, 0
	}
	end := strings.IndexByte(text, '}')
	if end < 0 {
		return piece{}, 0
	}
	p, ok := parsePlaceholder(text[1:end], named)
	if !ok {
		return piece{}, 0
	}
	return p, end + 1
}

func parsePlaceholder(body string, named bool) (piece, bool) {
	switch body {
	case "#":
		return piece{kind: kindSeq}, true
	case "%":
		return piece{kind: kindSlot}, true
	}
	head, op := cutPathOp(body)
	if head == "" {
		return piece{kind: kindRow, op: op}, true
	}
	if n, ok := parseColumn(head); ok {
		return piece{kind: kindColumn, op: op, n: n}, true
	}
	if named && isIdentifier(head) {
		return piece{kind: kindName, op: op, text: head}, true
	}
	return piece{}, false
}

// cutPathOp takes the path suffix off the body of a placeholder. The longer suffixes come first.
func cutPathOp(body string) (string, pathOp) {
	if head, ok := strings.CutSuffix(body, "//"); ok {
		return head, opDir
	}
	if head, ok := strings.CutSuffix(body, "/."); ok {
		return head, opBaseNo
	}
	if head, ok := strings.CutSuffix(body, "/"); ok {
		return head, opBase
	}
	if head, ok := strings.CutSuffix(body, "."); ok {
		return head, opNoExt
	}
	return body, opNone
}

// parseColumn reads 3 or -1. Neither 0 nor 03 nor +3 names a column: they stay literal text.
func parseColumn(s string) (int, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || isAlnum(c) && (c < '0' || c > '9')
		if !letter && (i == 0 || c != '-' && !isAlnum(c)) {
			return false
		}
	}
	return s != ""
}

// apply gives the part of path that op asks for, exactly as GNU parallel does (the edges are in the tests). It returns
// a part of path and never allocates.
func (op pathOp) apply(path string) string {
	switch op {
	case opNoExt:
		return cutExt(path)
	case opBase:
		return base(path)
	case opDir:
		return dir(path)
	case opBaseNo:
		return cutExt(base(path))
	}
	return path
}

// cutExt drops the last dot and what follows, unless a slash follows it. A name that starts with its only dot is all
// extension: .profile becomes the empty string, as in GNU parallel.
func cutExt(path string) string {
	if i := strings.LastIndexAny(path, "./"); i >= 0 && path[i] == '.' {
		return path[:i]
	}
	return path
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// dir is Perl's dirname, which GNU parallel uses: trailing slashes do not count, and no directory is ".".
func dir(path string) string {
	path = trimSlashes(path)
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "."
	}
	return trimSlashes(path[:i+1])
}

// trimSlashes drops trailing slashes, but leaves a path of nothing else one of them.
func trimSlashes(path string) string {
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}
