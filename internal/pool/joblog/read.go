package joblog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine is how long a row may be, in bytes; a longer line is no row. A system starts no command that
// would need one, and a file without newlines must not take all memory.
const maxLine = 16 << 20

// entry is a row in a few bytes.
type entry struct {
	seq       uint64
	command   key
	words     uint64
	at        int64
	succeeded bool
}

// reading reads a log. Who wrote a row is known from the rows beside it: see the package's comment.
type reading struct {
	history *History
	pending []entry // marked rows that are too few so far to be ours
	ours    bool    // so many were that further ones are
}

// read reads a log of size bytes. It returns where its last whole line ends: 0 if there is no whole
// header. An error means that the file cannot be read, or is no log.
func read(log io.ReaderAt, size int64, mode Mode) (h *History, end int64, err error) {
	h = newHistory(log, mode)
	if end, err = readHeader(log, size); err != nil || end == 0 {
		h.Torn = size
		return h, 0, err
	}
	r := reading{history: h}
	lines := lineReader{in: bufio.NewReaderSize(io.NewSectionReader(log, end, size-end), 64<<10), end: end}
	for number := 2; ; number++ {
		at := lines.end
		line, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		r.line(number, line, at)
	}
	r.close()
	h.Torn = size - lines.end
	return h, lines.end, nil
}

// readHeader returns where the header ends, or 0 if the log was torn before that.
func readHeader(log io.ReaderAt, size int64) (int64, error) {
	head := make([]byte, min(size, 256))
	if _, err := log.ReadAt(head, 0); err != nil && err != io.EOF {
		return 0, err
	}
	line, _, whole := bytes.Cut(head, []byte{'\n'})
	if whole && bytes.HasPrefix(line, []byte("Seq\tHost\tStarttime\t")) && bytes.Count(line, []byte{'\t'}) == columns-1 {
		return int64(len(line)) + 1, nil
	}
	written := bytes.TrimRight(head, "\x00")
	if len(written) < len(header) && strings.HasPrefix(header, string(written)) && zeros(log, int64(len(head)), size) {
		return 0, nil
	}
	return 0, fmt.Errorf("it is no joblog: its first line is %q", shorten(string(line)))
}

// zeros reports whether a log has nothing but zeros from at to size. A crash may leave them where
// nothing was written yet.
func zeros(log io.ReaderAt, at, size int64) bool {
	buf := make([]byte, 4<<10)
	for at < size {
		n, _ := log.ReadAt(buf[:min(size-at, int64(len(buf)))], at)
		if n == 0 || len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return false
		}
		at += int64(n)
	}
	return true
}

// line takes a line of the log, which begins at this offset.
func (r *reading) line(number int, line []byte, at int64) {
	row, err := parse(line)
	if err != nil {
		if r.history.Malformed == 0 {
			r.history.FirstBad = number
		}
		r.history.Malformed++
		return
	}
	r.history.Rows++
	e := entry{seq: row.Seq, at: at, succeeded: row.Succeeded()}
	if !e.succeeded {
		r.history.Failed++
	}
	isMarked := marked(&row.Row)
	if isMarked || len(r.history.failed) > 0 {
		e.command = keyOf(row.command)
	}
	if _, placed := r.history.placed[row.Seq]; !isMarked || !r.ours || placed {
		e.words = r.history.wordsOf(row.command)
	}
	r.add(e, isMarked)
}

// add decides whose row it is, or leaves that open until more is known.
func (r *reading) add(e entry, isMarked bool) {
	switch {
	case !isMarked:
		r.flush(r.history.addOther)
		r.ours = false
		r.history.addOther(&e)
	case r.ours:
		r.history.addOurs(&e)
	default:
		r.pending = append(r.pending, e)
		if len(r.pending) == minRun {
			r.flush(r.history.addOurs)
			r.ours = true
		}
	}
}

// close decides about the rows at the end. All rows of a log that is shorter than a run may be ours.
func (r *reading) close() {
	if len(r.pending) == r.history.Rows {
		r.flush(r.history.addOurs)
		return
	}
	r.flush(r.history.addOther)
}

func (r *reading) flush(add func(*entry)) {
	for i := range r.pending {
		add(&r.pending[i])
	}
	r.pending = r.pending[:0]
}

// lineReader reads whole lines.
type lineReader struct {
	in   *bufio.Reader
	long []byte // a line that is longer than the buffer of in
	end  int64  // where the last whole line ends
}

// next returns the next line without its newline, valid until it is called again, and io.EOF after the
// last one, also if more follows that is no whole line. Of a line above maxLine it returns nothing.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	length := int64(0)
	for {
		part, err := l.in.ReadSlice('\n')
		length += int64(len(part))
		if errors.Is(err, bufio.ErrBufferFull) {
			if length <= maxLine {
				l.long = append(l.long, part...)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		l.end += length
		switch {
		case length > maxLine:
			return nil, nil
		case length == int64(len(part)):
			return part[:len(part)-1], nil
		}
		l.long = append(l.long, part...)
		return l.long[:len(l.long)-1], nil
	}
}

// lastLineEnd returns where the last whole line of a log ends that is size bytes long.
func lastLineEnd(log io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size > 0 {
		part := buf[:min(size, int64(len(buf)))]
		size -= int64(len(part))
		if _, err := log.ReadAt(part, size); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return size + int64(i) + 1, nil
		}
	}
	return 0, nil
}
