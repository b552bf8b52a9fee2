package joblog

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"strings"
	"unicode"
)

// Mode says which calls of an earlier run a resumed run need not run again.
type Mode int

// The modes.
const (
	SkipLogged    Mode = iota // all that are in the log, however they ended
	SkipSucceeded             // only those that succeeded
)

// History is what a log says is done. One goroutine. Nil is the history of a new log.
//
// It takes some 40 bytes of memory for each different command of gpool's, and some 70 for each number
// of another program's, however long the commands are.
type History struct {
	Rows      int   // whole rows, of any program
	Ours      int   // those of them that gpool wrote
	Failed    int   // rows of calls that did not succeed
	Malformed int   // lines that are no rows; they count for nothing
	FirstBad  int   // the first of these, the header being line 1
	Torn      int64 // bytes of a last line without its end; they count for nothing

	mode   Mode
	counts map[key]uint32       // calls of ours that are done and not taken yet, by command
	left   int                  // their sum
	failed map[key]struct{}     // failed calls of ours that count, by command and Seq
	placed map[uint64]placement // calls of others, by Seq
	log    io.ReaderAt          // to quote commands from
	buf    []byte
}

// placement is what a log says about a Seq of another program.
type placement struct {
	words uint64 // of its last command
	at    int64  // where the row of that command lies in the log
	done  bool
}

// key stands for a command: 128 bits of its SHA-256, so that no two commands are taken for one another,
// whatever is in the log.
type key [16]byte

func keyOf(command []byte) key {
	sum := sha256.Sum256(command)
	return key(sum[:])
}

// numbered returns a key for the command under this Seq.
func (k key) numbered(seq uint64) key {
	binary.LittleEndian.PutUint64(k[:], binary.LittleEndian.Uint64(k[:])^seq)
	return k
}

// wordsOf stands for the words of a command. 64 bits do: all that depends on it is a warning.
func (h *History) wordsOf(command []byte) uint64 {
	h.buf = appendWords(h.buf[:0], command)
	k := keyOf(h.buf)
	return binary.LittleEndian.Uint64(k[:])
}

func newHistory(log io.ReaderAt, mode Mode) *History {
	return &History{mode: mode, log: log, counts: map[key]uint32{}, failed: map[key]struct{}{},
		placed: map[uint64]placement{}}
}

// Done reports whether a call need not run, and books that it was asked for: of a command that was
// done twice, the first two calls are done. It is asked once for each call, in input order.
// differs is "" unless the call is done because of its number only, and the log has another command
// there: that one, shortened and fit for a message. O(1), and a read of the log if it differs.
func (h *History) Done(seq uint64, command string) (done bool, differs string) {
	if h == nil {
		return false, ""
	}
	logged := appendCommand(nil, command)
	p := h.placed[seq]
	switch {
	case p.done && p.words == h.wordsOf(logged):
		return true, ""
	case h.take(keyOf(logged), seq):
		return true, ""
	case p.done:
		return true, h.quote(p.at)
	}
	return false, ""
}

// Left returns how many calls that gpool logged as done were not asked for: their items are gone or
// changed.
func (h *History) Left() int {
	if h == nil {
		return 0
	}
	return h.left
}

// take uses up one of the calls that are done under this command. A call that failed under its own number
// is not one of them, so that of equal calls the one that failed is run again, and no other.
func (h *History) take(k key, seq uint64) bool {
	n := h.counts[k]
	if n == 0 {
		return false
	}
	if _, failed := h.failed[k.numbered(seq)]; failed && h.mode == SkipSucceeded {
		return false
	}
	h.counts[k] = n - 1
	h.left--
	return true
}

// addOurs books a row that gpool wrote. A success is never run again, so each one is a call of its own.
// A failure may be: the same command under the same number after it is no second call.
// Neither is it one if another program has logged the same call before.
func (h *History) addOurs(e *entry) {
	h.Ours++
	if p, there := h.placed[e.seq]; there && p.words == e.words {
		delete(h.placed, e.seq)
	}
	numbered := e.command.numbered(e.seq)
	_, again := h.failed[numbered]
	if e.succeeded {
		delete(h.failed, numbered)
	} else {
		h.failed[numbered] = struct{}{}
	}
	counts := !again
	if h.mode == SkipSucceeded {
		counts = e.succeeded
	}
	if counts {
		h.counts[e.command]++
		h.left++
	}
}

// addOther books a row that another program wrote. If it has run a call again that failed under gpool,
// that is the same call.
func (h *History) addOther(e *entry) {
	if _, again := h.failed[e.command.numbered(e.seq)]; again && h.mode == SkipLogged && h.counts[e.command] > 0 {
		h.counts[e.command]--
		h.left--
	}
	done := h.placed[e.seq].done || e.succeeded || h.mode == SkipLogged
	h.placed[e.seq] = placement{words: e.words, at: e.at, done: done}
}

// quoted is how much of a command is quoted in a message, in bytes.
const quoted = 80

// quote returns the command of the row at this offset, shortened.
func (h *History) quote(at int64) string {
	line := make([]byte, 1024) // the other columns of a row are short
	n, _ := h.log.ReadAt(line, at)
	row, _, _ := strings.Cut(string(line[:n]), "\n")
	f := strings.SplitN(row, "\t", columns)
	if len(f) < columns {
		return "another command"
	}
	return shorten(f[columns-1])
}

// shorten makes text from a file fit for a message: on one line, without bytes that a terminal obeys.
func shorten(text string) string {
	cut := ""
	if len(text) > quoted {
		text, cut = text[:quoted], "…"
	}
	text = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if text == "" {
		return "nothing"
	}
	return text + cut
}
