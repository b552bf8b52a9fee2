package command

import "strings"

// Quote returns word as one word of a POSIX shell: bare when it is harmless in every shell, in single quotes otherwise.
// It is correct for all bytes but NUL, which no shell can hold.
//
// Written by hand because the libraries either refuse bytes that are not UTF-8 or leave a leading # bare.
func Quote(word string) string {
	if isBare(word) {
		return word
	}
	return string(appendSingle(make([]byte, 0, len(word)+8), word))
}

// QuoteArgv returns argv as one line that can be pasted into a POSIX shell and runs the same words there. The first word
// is quoted also when it looks like an assignment or is a word of the shell's own grammar.
func QuoteArgv(argv []string) string {
	var line []byte
	for i, word := range argv {
		if i > 0 {
			line = append(line, ' ')
		}
		line = appendWord(line, word, i > 0 || !isReserved(word))
	}
	return string(line)
}

// appendWord appends word, bare if it may be and is harmless, else in single quotes.
func appendWord(dst []byte, word string, mayBeBare bool) []byte {
	if mayBeBare && isBare(word) {
		return append(dst, word...)
	}
	return appendSingle(dst, word)
}

// appendSingle appends word in single quotes, whatever it holds.
func appendSingle(dst []byte, word string) []byte {
	dst = append(dst, '\'')
	dst = appendInSingle(dst, word)
	return append(dst, '\'')
}

// appendInSingle appends word as it has to look between single quotes: they cannot hold their own kind, so each one
// ends the quotes, stands escaped, and opens them again.
func appendInSingle(dst []byte, word string) []byte {
	for {
		i := strings.IndexByte(word, '\'')
		if i < 0 {
			return append(dst, word...)
		}
		dst = append(dst, word[:i]...)
		dst = append(dst, `'\''`...)
		word = word[i+1:]
	}
}

// appendInDouble appends word as it has to look between double quotes, where four bytes keep a meaning.
func appendInDouble(dst []byte, word string) []byte {
	for i := range len(word) {
		switch c := word[i]; c {
		case '\\', '"', '$', '`':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// isBare reports whether word means itself to every shell without quotes.
func isBare(word string) bool {
	for i := range len(word) {
		if !isBareByte(word[i]) {
			return false
		}
	}
	return word != ""
}

// isBareByte leaves out =, % ~ and ^ on purpose: A=b assigns, and zsh and others give the rest a meaning.
func isBareByte(c byte) bool {
	switch {
	case isAlnum(c):
		return true
	case c == '_', c == '@', c == '+', c == ':', c == ',', c == '.', c == '/', c == '-':
		return true
	}
	return false
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isReserved reports whether some shell reads word as part of its grammar where a command is expected. The words of
// punctuation ({ } ! [[) are absent: they are never bare.
func isReserved(word string) bool {
	switch word {
	case "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "in",
		"function", "select", "time", "coproc", "repeat", "foreach", "end", "nocorrect":
		return true
	}
	return false
}
