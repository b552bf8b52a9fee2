package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Row is the item that a template is rendered with.
type Row struct {
	Columns []string
	Names   []string // only for rows that were JSON objects; as long as Columns
}

// Mode says how the words of a Spec become an argv.
type Mode int

const (
	// Direct means that the words are an argv, executed without a shell.
	Direct Mode = iota
	// Script means that the one word is a shell command line with placeholders.
	Script
	// ItemIsScript means that each item is itself a shell command line, and that there are no words.
	ItemIsScript
	// Literal is Direct without placeholders: the words are the argv of every call, byte by byte, and no row is appended.
	Literal
)

// Spec is what the user asked to run: what all the calls of one job share.
type Spec struct {
	Mode      Mode
	Words     []string
	Shell     string   // path of the shell for Script and ItemIsScript
	Path      string   // resolved program of Words[0] in Direct and Literal mode, "" when it must be looked up per call; no business of a template
	Names     []string // column names of a header line; nil without
	NamedRows bool     // rows may carry their own names (JSON objects)
	Env       []string // extra environment KEY=VALUE; no business of a template
	Dir       string   // working directory; no business of a template
}

// Values is what one call puts into a template.
type Values struct {
	Row  Row
	Seq  uint64 // {#}
	Slot int    // {%}
}

// Template is a Spec made ready: parsed once, rendered for every call. It is immutable and safe for concurrent use.
//
// The placeholders are those of GNU parallel: {} {.} {/} {//} {/.} for the row, {1} {-1} {3/.} and so on for a column,
// {#} for the number of the call and {%} for that of its slot; and {name} with the same suffixes where rows have names.
// They are replaced in one pass: a value that holds {} is never looked at again. Anything else in braces is plain text.
// A template without any placeholder gets the row appended, all its columns as words.
//
// In Direct mode a word that is exactly {} (or {.} and so on) becomes one word per column; within a longer word the
// columns are joined by a blank. In Script mode every value is quoted for the place where it stands, by the table at
// lexScript. Literal mode knows no placeholders.
type Template struct {
	mode    Mode
	shell   string
	words   [][]piece // Direct and Literal: the pieces of each word
	script  []piece   // Script
	columns int
	header  []string
}

// Parse checks a Spec and makes its template.
func Parse(s Spec) (*Template, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	t := &Template{mode: s.Mode, shell: s.Shell, header: s.Names}
	var err error
	switch s.Mode {
	case Direct:
		t.words = parseWords(s.Words, s.named())
	case Literal:
		t.words = literalWords(s.Words)
	case Script:
		t.script, err = parseScript(s.Words[0], s.named())
	}
	if err != nil {
		return nil, err
	}
	if err := t.bind(s); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *Spec) named() bool { return s.Names != nil || s.NamedRows }

func (s *Spec) check() error {
	for _, word := range s.Words {
		if strings.IndexByte(word, 0) >= 0 {
			return fmt.Errorf("the word %q of the command holds a NUL byte, which no command argument may hold", word)
		}
	}
	switch s.Mode {
	case Direct, Literal:
		return s.checkDirect()
	case Script:
		return s.checkScript()
	case ItemIsScript:
		if len(s.Words) > 0 {
			return fmt.Errorf("each item is a shell command line of its own, so the command %q has no place", s.Words[0])
		}
		return s.checkShell()
	}
	return fmt.Errorf("unknown way of running a command: mode %d", s.Mode)
}

func (s *Spec) checkDirect() error {
	if len(s.Words) == 0 {
		return errors.New("there is no command to run")
	}
	if s.Words[0] == "" {
		return errors.New("the name of the command is empty")
	}
	return nil
}

func (s *Spec) checkScript() error {
	if len(s.Words) == 0 || strings.TrimSpace(s.Words[0]) == "" {
		return errors.New("the shell command line is empty")
	}
	if len(s.Words) > 1 {
		return fmt.Errorf("a shell command line is one word, but %q follows it: quote the whole line", s.Words[1])
	}
	if err := s.checkShell(); err != nil {
		return err
	}
	return checkQuoting(s.Shell)
}

func (s *Spec) checkShell() error {
	if s.Shell == "" {
		return errors.New("there is no shell to run the command line with")
	}
	return nil
}

// parseWords parses an argv, and appends {} when no word has a placeholder.
func parseWords(words []string, named bool) [][]piece {
	parsed := make([][]piece, 0, len(words)+1)
	found := false
	for _, word := range words {
		pieces := parseWord(word, named)
		found = found || slices.ContainsFunc(pieces, isPlaceholder)
		parsed = append(parsed, pieces)
	}
	if !found {
		parsed = append(parsed, []piece{{kind: kindRow}})
	}
	return parsed
}

func literalWords(words []string) [][]piece {
	list := make([][]piece, len(words))
	for i, word := range words {
		list[i] = []piece{{text: word}}
	}
	return list
}

// parseWord never returns an empty slice: the empty word is one empty literal.
func parseWord(word string, named bool) []piece {
	var pieces []piece
	start := 0
	for i := 0; i < len(word); {
		p, n := scanPlaceholder(word[i:], named)
		if n == 0 {
			i++
			continue
		}
		pieces = appendLiteral(pieces, word[start:i])
		pieces = append(pieces, p)
		i += n
		start = i
	}
	if len(pieces) == 0 {
		return []piece{{text: word}}
	}
	return appendLiteral(pieces, word[start:])
}

func appendLiteral(pieces []piece, text string) []piece {
	if text == "" {
		return pieces
	}
	return append(pieces, piece{text: text})
}

func isPlaceholder(p piece) bool { return p.kind != kindLiteral }

// bind checks the placeholders against what is known before the first row, and notes the largest column.
func (t *Template) bind(s Spec) error {
	for _, pieces := range slices.Concat(t.words, [][]piece{t.script}) {
		for i := range pieces {
			if err := t.bindPiece(&pieces[i], s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Template) bindPiece(p *piece, s Spec) error {
	switch {
	case p.kind == kindColumn:
		t.columns = max(t.columns, p.n, -p.n)
	case p.kind == kindName && !s.NamedRows:
		i, err := findHeader(s.Names, p.text)
		if err != nil {
			return err
		}
		p.kind, p.n, p.text = kindColumn, i+1, ""
	}
	return nil
}

func findHeader(names []string, name string) (int, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("the template names {%s}, but the header has the columns %s", name, list(names))
	}
	if j := slices.Index(names[i+1:], name); j >= 0 {
		return 0, fmt.Errorf("the template names {%s}, but the header has two columns of that name: use {%d} or {%d}",
			name, i+1, i+j+2)
	}
	return i, nil
}

// list keeps an error readable when there are very many names.
func list(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Columns returns the largest number, without its sign, of the positional placeholders, or 0 when there are none. Where
// the width of the rows is known beforehand, the caller can refuse a template that needs more.
func (t *Template) Columns() int { return t.columns }

// HasSlot reports whether what a call runs depends on the slot of its worker.
func (t *Template) HasSlot() bool {
	isSlot := func(p piece) bool { return p.kind == kindSlot }
	return slices.ContainsFunc(t.words, func(w []piece) bool { return slices.ContainsFunc(w, isSlot) }) || slices.ContainsFunc(t.script, isSlot)
}

// FixedProgram returns the program that every call runs, when it is known before the first row: in Literal mode, and in
// Direct mode if the first word has no placeholder.
func (t *Template) FixedProgram() (string, bool) {
	if len(t.words) == 0 || t.words[0][0].kind != kindLiteral || len(t.words[0]) > 1 {
		return "", false
	}
	return t.words[0][0].text, true
}

// Render returns the argv of one call. The slice is the caller's.
func (t *Template) Render(v Values) ([]string, error) {
	switch t.mode {
	case Script:
		return t.renderScript(&v)
	case ItemIsScript:
		return t.renderItem(&v)
	}
	return t.renderDirect(&v)
}

func (t *Template) renderDirect(v *Values) ([]string, error) {
	argv := make([]string, 0, len(t.words)+max(0, len(v.Row.Columns)-1))
	for _, pieces := range t.words {
		var err error
		if argv, err = t.appendWords(argv, pieces, v); err != nil {
			return nil, err
		}
		// Else the next word would slip into the place of the program.
		if len(argv) == 0 {
			return nil, errors.New("the row has no columns, so there is no command to run")
		}
	}
	return argv, nil
}

// appendWords appends what one word of the template becomes. The short ways out spare the common words a copy.
func (t *Template) appendWords(argv []string, pieces []piece, v *Values) ([]string, error) {
	p := &pieces[0]
	if len(pieces) > 1 || p.kind == kindSeq || p.kind == kindSlot {
		var onStack [256]byte
		word, err := t.appendPieces(onStack[:0], pieces, v)
		return append(argv, string(word)), err
	}
	if p.kind == kindLiteral {
		return append(argv, p.text), nil
	}
	values, err := t.lookUp(p, &v.Row)
	if err != nil {
		return nil, err
	}
	for _, value := range values {
		argv = append(argv, p.op.apply(value))
	}
	return argv, nil
}

func (t *Template) renderScript(v *Values) ([]string, error) {
	var onStack [512]byte
	text, err := t.appendPieces(onStack[:0], t.script, v)
	if err != nil {
		return nil, err
	}
	return []string{t.shell, "-c", string(text)}, nil
}

func (t *Template) renderItem(v *Values) ([]string, error) {
	line := strings.Join(v.Row.Columns, " ")
	if err := checkNUL(line); err != nil {
		return nil, err
	}
	return []string{t.shell, "-c", line}, nil
}

func (t *Template) appendPieces(dst []byte, pieces []piece, v *Values) ([]byte, error) {
	for i := range pieces {
		p := &pieces[i]
		switch p.kind {
		case kindLiteral:
			dst = append(dst, p.text...)
			continue
		case kindSeq:
			dst = p.quote.append(dst, strconv.FormatUint(v.Seq, 10))
			continue
		case kindSlot:
			dst = p.quote.append(dst, strconv.Itoa(v.Slot))
			continue
		}
		values, err := t.lookUp(p, &v.Row)
		if err != nil {
			return nil, err
		}
		for j, value := range values {
			if j > 0 {
				dst = append(dst, ' ')
			}
			value = p.op.apply(value)
			if err := p.quote.check(value); err != nil {
				return nil, err
			}
			dst = p.quote.append(dst, value)
		}
	}
	return dst, nil
}

// lookUp returns the columns that a placeholder of item kind stands for, as a part of the row's own slice.
func (t *Template) lookUp(p *piece, row *Row) ([]string, error) {
	values := row.Columns
	if p.kind != kindRow {
		i, err := t.index(p, row)
		if err != nil {
			return nil, err
		}
		values = row.Columns[i : i+1]
	}
	for _, value := range values {
		if err := checkNUL(value); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (t *Template) index(p *piece, row *Row) (int, error) {
	if p.kind == kindName {
		return t.indexOfName(p.text, row)
	}
	i := p.n - 1
	if p.n < 0 {
		i = len(row.Columns) + p.n
	}
	if i < 0 || i >= len(row.Columns) {
		return 0, fmt.Errorf("the template names column %d, but the row has %s", p.n, count(len(row.Columns), "column"))
	}
	return i, nil
}

// indexOfName looks from the end, because in a JSON object with a repeated key the last one counts. A row without names
// of its own falls back on the header.
func (t *Template) indexOfName(name string, row *Row) (int, error) {
	names := row.Names
	if names == nil {
		names = t.header
	}
	for i := min(len(names), len(row.Columns)) - 1; i >= 0; i-- {
		if names[i] == name {
			return i, nil
		}
	}
	if len(names) == 0 {
		return 0, fmt.Errorf("the template names {%s}, but the row has no names", name)
	}
	return 0, fmt.Errorf("the template names {%s}, but the row has the keys %s", name, list(names))
}

func checkNUL(value string) error {
	if strings.IndexByte(value, 0) >= 0 {
		return errors.New("the item holds a NUL byte, which no command argument may hold")
	}
	return nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
