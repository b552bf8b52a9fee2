package input

import (
	"bufio"
	"bytes"
	"io"
	"regexp"
	"strings"

	"gpool/internal/command"
)

// bufferSize bounds what is read ahead, and how much text the rows of one batch keep alive together.
const bufferSize = 64 << 10

// records cuts a file at newlines or NULs. There is no limit to the length of a record: a long one grows as its bytes
// come.
type records struct {
	file   file
	format Format
	in     *bufio.Reader
	end    byte
	read   int64 // records handed out
	err    error // the end of the file or its failure, for good
}

func newRecords(f file, format Format) *records {
	r := &records{file: f, format: format, in: bufio.NewReaderSize(f.reader, bufferSize), end: '\n'}
	if format.Null {
		r.end = 0
	}
	return r
}

// next returns up to max records and the number of the first. It waits for the first one if told to, and for no other.
func (r *records) next(max int, wait bool) ([]string, int64, error) {
	var batch []string
	number := r.read + 1
	if wait {
		first, err := r.one()
		if err != nil {
			return nil, 0, err
		}
		batch = append(batch, first)
	}
	batch = r.buffered(batch, max-len(batch))
	r.read += int64(len(batch))
	return batch, number, nil
}

// one waits for a whole record. Text that a read error cut off is no record: it must not run as an item.
func (r *records) one() (string, error) {
	if r.err != nil {
		return "", r.err
	}
	part, err := r.in.ReadSlice(r.end)
	if err == nil {
		return string(part[:len(part)-1]), nil
	}
	var long strings.Builder
	for err == bufio.ErrBufferFull {
		long.Write(part)
		part, err = r.in.ReadSlice(r.end)
	}
	long.Write(part)
	switch err {
	case nil:
		return long.String()[:long.Len()-1], nil
	case io.EOF:
		r.err = io.EOF
		if long.Len() == 0 {
			return "", io.EOF
		}
		return long.String(), nil
	}
	r.err = failed(r.file.name, place(r.format, r.read), r.read, err)
	return "", r.err
}

// buffered appends up to max records that are whole in the buffer. They share one string.
func (r *records) buffered(batch []string, max int) []string {
	ready, _ := r.in.Peek(r.in.Buffered())
	size, n := 0, 0
	for n < max {
		i := bytes.IndexByte(ready[size:], r.end)
		if i < 0 {
			break
		}
		size += i + 1
		n++
	}
	if n == 0 {
		return batch
	}
	text := string(ready[:size])
	_, _ = r.in.Discard(size) // cannot fail: so much is buffered
	grown := make([]string, len(batch), len(batch)+n)
	copy(grown, batch)
	for range n {
		i := strings.IndexByte(text, r.end)
		grown = append(grown, text[:i])
		text = text[i+1:]
	}
	return grown
}

// row makes the row with the given number of columns that are given.
func (r *records) row(columns []string, number int64) Row {
	return Row{Row: command.Row{Columns: columns}, Line: number, File: r.file.name}
}

// lineReader makes each record a row of one column.
type lineReader struct{ records *records }

func (l *lineReader) read(max int, wait bool) ([]Row, error) {
	batch, number, err := l.records.next(max, wait)
	if err != nil || len(batch) == 0 {
		return nil, err
	}
	rows := make([]Row, len(batch))
	for i := range rows {
		// The batch itself is the block that all the columns lie in.
		rows[i] = l.records.row(batch[i:i+1:i+1], number+int64(i))
	}
	return rows, nil
}

// columnReader splits each record at a separator.
type columnReader struct {
	records *records
	sep     *regexp.Regexp
}

func (c *columnReader) read(max int, wait bool) ([]Row, error) {
	batch, number, err := c.records.next(max, wait)
	if err != nil || len(batch) == 0 {
		return nil, err
	}
	rows := make([]Row, len(batch))
	var block []string
	if c.sep == nil {
		block = make([]string, 0, len(batch)+countTabs(batch))
	}
	for i, record := range batch {
		var columns []string
		if c.sep != nil {
			columns = c.sep.Split(record, -1)
		} else {
			start := len(block)
			block = appendTabbed(block, record)
			columns = block[start:len(block):len(block)]
		}
		rows[i] = c.records.row(columns, number+int64(i))
	}
	return rows, nil
}

func countTabs(batch []string) int {
	n := 0
	for _, record := range batch {
		n += strings.Count(record, "\t")
	}
	return n
}

func appendTabbed(block []string, record string) []string {
	for {
		i := strings.IndexByte(record, '\t')
		if i < 0 {
			return append(block, record)
		}
		block = append(block, record[:i])
		record = record[i+1:]
	}
}
