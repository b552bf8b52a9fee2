package command

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A quoting says how a value is written where its placeholder stands.
type quoting uint8

const (
	quoteNot           quoting = iota // no shell reads it, or it is a number where only a number fits
	quoteWord                         // plain text of a script; bare if harmless
	quoteGlued                        // plain text, but what stands beside it could change the meaning of a bare word
	quoteInDouble                     // between double quotes
	quoteInDoubleAfter                // the same, right after $name, which must not grow
	quoteInSingle                     // between single quotes
	quoteNumber                       // in arithmetic, which evaluates whatever it holds
)

// append writes value as the shell has to read it.
func (q quoting) append(dst []byte, value string) []byte {
	switch q {
	case quoteWord:
		return appendWord(dst, value, !isReserved(value))
	case quoteGlued:
		return appendSingle(dst, value)
	case quoteInDouble:
		return appendInDouble(dst, value)
	case quoteInDoubleAfter:
		return appendInDouble(append(dst, `""`...), value)
	case quoteInSingle:
		return appendInSingle(dst, value)
	case quoteNumber:
		return append(append(append(dst, '('), value...), ')')
	}
	return append(dst, value...)
}

// check refuses a value for which there is no way to write it.
func (q quoting) check(value string) error {
	if q == quoteNumber && !wholeNumber().MatchString(value) {
		return fmt.Errorf("%.80q stands in arithmetic, where only a whole number is safe", value)
	}
	return nil
}

var wholeNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[-+]?[0-9]+$`) })

// checkQuoting refuses the shells that are known to read quotes in another way than sh: what is safe there is not known
// here. An unknown name passes, since it will most often be one more sh.
func checkQuoting(shell string) error {
	switch path.Base(shell) {
	case "fish", "csh", "tcsh", "rc", "es", "nu", "xonsh", "elvish", "pwsh", "powershell", "python", "python3", "perl":
		return fmt.Errorf("the shell %s does not read quotes as sh does, so no value can be put in safely: "+
			"use sh, dash, bash, ksh or zsh", shell)
	}
	return nil
}

// parseScript parses a shell command line, and appends {} when it has no placeholder.
func parseScript(text string, named bool) ([]piece, error) {
	pieces, err := lexScript(text, named)
	if err != nil || slices.ContainsFunc(pieces, isPlaceholder) {
		return pieces, err
	}
	if text, err = trimForItem(text); err != nil {
		return nil, err
	}
	return lexScript(text+" {}", named)
}

// trimForItem makes sure that what is appended to text becomes an argument of its last command: a newline at the end
// would make the item a command of its own, and so would an operator.
func trimForItem(text string) (string, error) {
	trimmed := strings.TrimRight(text, " \t\n")
	if escapes := len(trimmed) - len(strings.TrimRight(trimmed, `\`)); escapes%2 == 1 {
		if trimmed == text {
			return "", errors.New("the shell command line ends in a backslash: say with {} where the item belongs")
		}
		return text[:len(trimmed)+1], nil
	}
	last := len(trimmed) - 1
	if strings.IndexByte(";&|(", trimmed[last]) >= 0 && (last == 0 || trimmed[last-1] != '\\') {
		return "", fmt.Errorf("the shell command line ends in %q, so that the item would be run as a command of its own: "+
			"say with {} where the item belongs", trimmed[last:])
	}
	return trimmed, nil
}

// lexScript cuts a shell command line at its placeholders and decides for each how its values are quoted:
//
//	where it stands           what is written
//	plain text, $(...), (...) the value in single quotes, or bare when it is harmless: Quote
//	"..."                     the value with a backslash before each \ " $ and `
//	'...'                     the value with '\'' for each '
//	right after a backslash   refused: the backslash would apply to the quoting
//	`...`                     refused: how quotes nest there depends on the shell
//	$'...'                    refused: not every shell knows it
//	${...}                    refused: quotes mean different things there; but ${1} and ${name} are the shell's own
//	$((...)), ((...))         the value in parentheses; a call whose value is no whole number fails
//	a comment                 refused: a newline in the value would end it
//	after <<                  refused: the body of a here-document cannot be quoted
//	after >&                  refused, but for 2>&1 and its like: bash expands the word twice
//
// The numbers {#} and {%} are harmless in $'...', ${...}, arithmetic and comments, and are written there as they are.
//
// Where shells disagree about where a construct ends, everything after it is refused. A value is safe only against the
// shell that reads this text: eval, ssh and sh -c within it read their words once more, and so do let, [[ A -eq B ]] and
// the subscripts of arrays in bash. They need quotes or checks of their own.
func lexScript(text string, named bool) ([]piece, error) {
	l := lexer{text: text, named: named, stack: []context{inPlain}, wordStart: true, nameEnd: -1}
	for l.pos < len(l.text) {
		if err := l.step(); err != nil {
			return nil, err
		}
	}
	l.pieces = appendLiteral(l.pieces, l.text[l.start:])
	return l.pieces, l.checkClosed()
}

// checkClosed refuses a template with something left open. A shell would complain too, but for every call, and bash
// has been seen to run lines of a value after its complaint.
func (l *lexer) checkClosed() error {
	sure := l.refuse == "" && slices.ContainsFunc(l.pieces, isPlaceholder)
	if opening := l.top().opening(); sure && opening != "" {
		return fmt.Errorf("the shell command line opens %s, but does not close it", opening)
	}
	return nil
}

// A context is one of the nested constructs that a shell can be in.
type context uint8

const (
	inPlain      context = iota // the bottom of the stack
	inParens                    // (...)
	inSubst                     // $(...)
	inDouble                    // "..."
	inSingle                    // '...'
	inANSI                      // $'...'
	inParam                     // ${...}
	inArith                     // $((...)) or ((...))
	inArithParen                // (...) within arithmetic
	inBackticks                 // `...`
	inComment                   // # ...
)

// opening is how the context starts, or empty if it needs no end.
func (c context) opening() string {
	switch c {
	case inParens, inArithParen:
		return "a parenthesis"
	case inSubst:
		return "$("
	case inDouble:
		return "double quotes"
	case inSingle:
		return "single quotes"
	case inANSI:
		return "$'"
	case inParam:
		return "${"
	case inArith:
		return "(("
	case inBackticks:
		return "backticks"
	}
	return ""
}

// lexer follows just so much of the shell's grammar as tells where quotes begin and end.
type lexer struct {
	text   string
	named  bool
	pos    int     // the next byte to read
	start  int     // where the literal text since the last placeholder starts
	pieces []piece // everything before start
	stack  []context
	// wordStart says that a # at pos would start a comment.
	wordStart bool
	// nameEnd is where the last $name ended: text that follows at once would make the name longer.
	nameEnd int
	// refuse is set where this lexer and a shell might part ways: from there on it takes no placeholder.
	refuse string
}

func (l *lexer) top() context   { return l.stack[len(l.stack)-1] }
func (l *lexer) push(c context) { l.stack = append(l.stack, c) }
func (l *lexer) pop()           { l.stack = l.stack[:len(l.stack)-1] }

func (l *lexer) at(s string) bool { return strings.HasPrefix(l.text[l.pos:], s) }

// step reads one token. Every step moves on by at least one byte.
func (l *lexer) step() error {
	if l.text[l.pos] == '{' {
		return l.brace()
	}
	switch l.top() {
	case inSingle:
		l.closeAt('\'')
	case inComment:
		l.closeAt('\n')
	case inANSI:
		return l.ansi()
	case inBackticks:
		return l.backticks()
	case inDouble:
		return l.double()
	case inParam:
		return l.param()
	case inArith, inArithParen:
		return l.arith()
	default:
		return l.plain()
	}
	return nil
}

// closeAt leaves a context in which only one byte has a meaning.
func (l *lexer) closeAt(end byte) {
	if l.text[l.pos] == end {
		l.pop()
		l.wordStart = end == '\n'
	}
	l.pos++
}

func (l *lexer) plain() error {
	c := l.text[l.pos]
	atWordStart := l.wordStart
	l.wordStart = strings.IndexByte(" \t\n;&|()<>", c) >= 0
	switch c {
	case '\\':
		l.wordStart = atWordStart && l.at("\\\n")
		return l.backslash()
	case '$':
		l.dollar()
		return nil
	case '\'':
		l.push(inSingle)
	case '"':
		l.push(inDouble)
	case '`':
		l.push(inBackticks)
	case '(':
		l.openParen()
		return nil
	case ')':
		l.closeParen()
	case '<':
		l.less()
		return nil
	case '&':
		l.duplicate()
	case '#':
		if atWordStart {
			l.push(inComment)
		}
	case 'c':
		l.caseWord(atWordStart)
	}
	l.pos++
	return nil
}

func (l *lexer) openParen() {
	if l.at("((") {
		l.push(inArith)
		l.pos += 2
		return
	}
	l.push(inParens)
	l.pos++
}

// closeParen ignores a ) without its (: at the bottom that is a pattern of case, or an error that the shell will report.
func (l *lexer) closeParen() {
	if len(l.stack) == 1 {
		return
	}
	if l.top() == inSubst {
		l.wordStart = false
	}
	l.pop()
}

// caseWord gives up on case within $(...), because the ) of its patterns looks like the end of the substitution.
func (l *lexer) caseWord(atWordStart bool) {
	if !atWordStart || !l.at("case") || !slices.Contains(l.stack, inSubst) {
		return
	}
	if rest := l.text[l.pos+len("case"):]; rest != "" && strings.IndexByte(" \t\n\\", rest[0]) >= 0 {
		l.refuse = "follows the word case within $(...), whose end is hard to tell: move the case out of $(...)"
	}
}

func (l *lexer) less() {
	switch {
	case l.at("<<<"):
		l.pos += 3
	case l.at("<<"):
		l.refuse = "follows a here-document (<<), in which no value can be quoted: " +
			"pass the value as an argument, or feed it through a pipe: printf '%s\\n' {} | COMMAND"
		l.pos += 2
	default:
		l.pos++
	}
}

// duplicate guards >&WORD: bash expands such a word twice, so that even a quoted value would run as code. What holds no
// value, as in 2>&1 or >&$fd, is harmless.
func (l *lexer) duplicate() {
	if l.pos == 0 || strings.IndexByte("<>", l.text[l.pos-1]) < 0 {
		return
	}
	word := strings.TrimLeft(l.text[l.pos+1:], " \t")
	rest := strings.TrimLeft(word, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-$./")
	if rest == word || rest != "" && strings.IndexByte(" \t\n;&|()<>", rest[0]) < 0 {
		l.refuse = "follows >&, whose word bash expands twice: write >FILE 2>&1 instead"
	}
}

// backslash skips the byte that a backslash stands before, unless that is a placeholder.
func (l *lexer) backslash() error {
	if l.pos > 0 && l.at("\\\n") && strings.IndexByte("$<(", l.text[l.pos-1]) >= 0 {
		l.refuse = "follows a line that is continued in the middle of a shell operator: join the two lines"
	}
	if _, n := scanPlaceholder(l.text[l.pos+1:], l.named); n > 0 {
		return fmt.Errorf("the shell command line has a backslash right before the placeholder %s, "+
			`where it would undo the quoting of the value: leave it out, or write \\ for a backslash`, l.text[l.pos+1:l.pos+1+n])
	}
	l.pos = min(l.pos+2, len(l.text))
	return nil
}

// dollar reads what starts with $ in plain text, in double quotes, in ${...} or in arithmetic.
func (l *lexer) dollar() {
	rest := l.text[l.pos+1:]
	switch {
	case strings.HasPrefix(rest, "(("):
		l.open(inArith, 3)
	case strings.HasPrefix(rest, "("):
		l.open(inSubst, 2)
		l.wordStart = true
	case strings.HasPrefix(rest, "{"):
		// The brace belongs to the shell: ${1} is its parameter, never a placeholder.
		l.open(inParam, 2)
	case strings.HasPrefix(rest, "'") && l.top() <= inSubst:
		l.open(inANSI, 2)
	case strings.HasPrefix(rest, "'") && l.top() == inParam:
		l.refuse = "follows $'...' within ${...}, which shells read in different ways: use a variable for the quoted part"
		l.pos++
	case strings.HasPrefix(rest, "["):
		l.refuse = "follows $[, which only some shells read as arithmetic: use $((...))"
		l.pos += 2
	default:
		l.pos += 1 + nameLength(rest)
		l.nameEnd = l.pos
	}
}

func (l *lexer) open(c context, length int) {
	l.push(c)
	l.pos += length
}

// nameLength is the length of the parameter's name that follows a $.
func nameLength(s string) int {
	if s != "" && strings.IndexByte("@*#?-$!", s[0]) >= 0 {
		return 1
	}
	n := 0
	for n < len(s) && (s[n] == '_' || isAlnum(s[n])) {
		n++
	}
	return n
}

func (l *lexer) double() error {
	switch l.text[l.pos] {
	case '\\':
		return l.backslash()
	case '$':
		l.dollar()
		return nil
	case '`':
		l.push(inBackticks)
	case '"':
		l.pop()
		l.wordStart = false
	}
	l.pos++
	return nil
}

func (l *lexer) ansi() error {
	switch l.text[l.pos] {
	case '\\':
		if l.at(`\'`) {
			l.refuse = `follows $'...' with a \' in it, which shells read in different ways: use "'" for the quote`
		}
		return l.backslash()
	case '\'':
		l.pop()
		l.wordStart = false
	}
	l.pos++
	return nil
}

func (l *lexer) backticks() error {
	switch l.text[l.pos] {
	case '\\':
		return l.backslash()
	case '`':
		l.pop()
		l.wordStart = false
	}
	l.pos++
	return nil
}

// param reads ${...}. Quotes within it are plain outside of double quotes; inside of them shells disagree.
func (l *lexer) param() error {
	c := l.text[l.pos]
	if (c == '\'' || c == '"') && slices.Contains(l.stack, inDouble) {
		l.refuse = `follows quotes within "${...}", which shells read in different ways: use a variable for the quoted part`
	}
	switch c {
	case '\\':
		return l.backslash()
	case '$':
		l.dollar()
		return nil
	case '\'':
		l.push(inSingle)
	case '"':
		l.push(inDouble)
	case '`':
		l.push(inBackticks)
	case '}':
		l.pop()
		l.wordStart = false
	}
	l.pos++
	return nil
}

// arith reads arithmetic up to its )). Where that turns out to be two commands in parentheses, or holds quotes, this
// lexer cannot know any more what a shell makes of the rest.
func (l *lexer) arith() error {
	const unsure = "follows quotes or commands within ((...)): write a blank between the two parentheses, or leave the quotes out"
	switch l.text[l.pos] {
	case '\\', '\'', '"', '`':
		l.refuse = unsure
	case '$':
		l.dollar()
		return nil
	case '(':
		l.push(inArithParen)
	case ')':
		switch {
		case l.top() == inArithParen:
			l.pop()
		case l.at("))"):
			l.pop()
			l.wordStart = false
			l.pos++
		default:
			l.refuse = unsure
			l.pop()
		}
	}
	l.pos++
	return nil
}

// brace reads a { that is not part of ${: a placeholder, or just a brace.
func (l *lexer) brace() error {
	p, n := scanPlaceholder(l.text[l.pos:], l.named)
	l.wordStart = false
	if n == 0 {
		l.pos++
		return nil
	}
	quote, problem := l.quoting(&p, n)
	if problem != "" {
		return fmt.Errorf("the placeholder %s of the shell command line %s", l.text[l.pos:l.pos+n], problem)
	}
	p.quote = quote
	l.pieces = append(appendLiteral(l.pieces, l.text[l.start:l.pos]), p)
	l.pos += n
	l.start = l.pos
	return nil
}

// quoting is the table at lexScript. The second result says why there is no safe way, and what to try.
func (l *lexer) quoting(p *piece, length int) (quoting, string) {
	if l.refuse != "" {
		return 0, l.refuse
	}
	switch c := l.top(); c {
	case inSingle:
		return quoteInSingle, ""
	case inDouble:
		if l.nameEnd == l.pos {
			return quoteInDoubleAfter, ""
		}
		return quoteInDouble, ""
	case inPlain, inParens, inSubst:
		if l.mayBeBare(l.pos + length) {
			return quoteWord, ""
		}
		return quoteGlued, ""
	default:
		if !p.ofItem() && c != inBackticks {
			return quoteNot, ""
		}
		if c == inArith || c == inArithParen {
			return quoteNumber, ""
		}
		return 0, refusal(c)
	}
}

// mayBeBare looks at both sides of the placeholder in front: 2 before > is a descriptor, root after ~ is a home, and
// text after $name makes another name.
func (l *lexer) mayBeBare(end int) bool {
	before := l.pos == 0 || l.nameEnd != l.pos && strings.IndexByte(" \t\n;&|()<>=/:", l.text[l.pos-1]) >= 0
	after := end == len(l.text) || strings.IndexByte(" \t\n;&|)/.", l.text[end]) >= 0
	return before && after
}

func refusal(c context) string {
	switch c {
	case inBackticks:
		return "stands in backticks, where no value can be quoted safely: use $(...) instead"
	case inANSI:
		return "stands in $'...', where no value can be quoted safely: end the quotes before it, as in $'\\t'{}"
	case inParam:
		return "stands in a ${...} expansion, where no value can be quoted safely: assign it to a variable first, " +
			"as in v={}; echo \"${x:-$v}\""
	default:
		return "stands in a comment, which a newline in the value would end: take the comment out"
	}
}
