package joblog

import "bytes"

// In the normal form of a command a NUL stands before what no byte can be that came out of quotes:
// a character that means something to the shell, the end of a word, a text that is none.
const special = 0

// appendWords appends a normal form of a command as a log has it (NULs for newlines). Commands
// that are the same words for a shell have the same one, however they are quoted, so `echo a\ b` equals
// `echo 'a b'`; `echo $HOME` does not equal `echo '$HOME'`. A command that is not understood stays text,
// with its runs of blanks made one. The result is about as long as the command.
func appendWords(dst, command []byte) []byte {
	w := words{in: command, out: dst}
	if w.split() {
		return w.out
	}
	dst = append(dst, special, '!')
	for i, field := range bytes.FieldsFunc(command, func(r rune) bool { return r == ' ' || r == '\t' }) {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, field...)
	}
	return dst
}

// words undoes the quoting of a POSIX shell. It is no parser: operators and expansions are only told
// from the same characters in quotes.
type words struct {
	in, out []byte
	begun   bool // a word is open; it may be empty so far
	ended   bool // one was ended before
}

// split takes the whole command and reports whether all its quotes are closed.
func (w *words) split() bool {
	for len(w.in) > 0 {
		c := w.take()
		if c == ' ' || c == '\t' {
			w.ended = w.ended || w.begun
			w.begun = false
			continue
		}
		if c == '\\' && len(w.in) > 0 && w.in[0] == 0 { // a line that goes on in the next one
			w.take()
			continue
		}
		w.begin()
		if !w.unquoted(c) {
			return false
		}
	}
	return true
}

// begin makes sure that a word is open.
func (w *words) begin() {
	if !w.begun && w.ended {
		w.out = append(w.out, special, ' ')
	}
	w.begun = true
}

// unquoted takes c, which stands outside of quotes, and what belongs to it.
func (w *words) unquoted(c byte) bool {
	switch c {
	case '\'':
		return w.single()
	case '"':
		return w.double()
	case '\\':
		return w.escaped()
	case '$':
		if len(w.in) > 0 && w.in[0] == '\'' { // $'…' is not in every shell
			return false
		}
		w.out = append(w.out, special, c)
	case 0, '`', ';', '&', '|', '<', '>', '(', ')', '*', '?', '[':
		w.out = append(w.out, special, shown(c))
	default:
		w.out = append(w.out, c)
	}
	return true
}

// escaped takes what follows a backslash outside of quotes.
func (w *words) escaped() bool {
	if len(w.in) == 0 {
		return false
	}
	w.out = append(w.out, w.take())
	return true
}

func (w *words) single() bool {
	end := bytes.IndexByte(w.in, '\'')
	if end < 0 {
		return false
	}
	for _, c := range w.in[:end] {
		w.out = append(w.out, shown(c))
	}
	w.in = w.in[end+1:]
	return true
}

// double takes what stands in double quotes, where four characters keep their meaning.
func (w *words) double() bool {
	for len(w.in) > 0 {
		switch c := w.take(); c {
		case '"':
			return true
		case '$', '`':
			w.out = append(w.out, special, c)
		case '\\':
			w.inDouble()
		default:
			w.out = append(w.out, shown(c))
		}
	}
	return false
}

// inDouble takes what follows a backslash in double quotes: before most characters it is itself.
func (w *words) inDouble() {
	if len(w.in) == 0 {
		return
	}
	switch w.in[0] {
	case '$', '`', '"', '\\':
		w.out = append(w.out, w.take())
	case 0:
		w.take()
	default:
		w.out = append(w.out, '\\')
	}
}

func (w *words) take() byte {
	c := w.in[0]
	w.in = w.in[1:]
	return c
}

// shown undoes what the log does to newlines.
func shown(c byte) byte {
	if c == 0 {
		return '\n'
	}
	return c
}
