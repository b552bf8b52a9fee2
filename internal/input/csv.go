package input

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"

	"gpool/internal/command"
)

// csvReader reads the rows of one CSV file.
type csvReader struct {
	name    string
	ending  *ending
	in      *bufio.Reader // csv.Reader reads from this very buffer, as it is large enough
	csv     *csv.Reader
	line    int64 // the last line of the last record
	started bool
	err     error // the end of the file or its failure, for good
}

func newCSVReader(f file) *csvReader {
	e := &ending{reader: f.reader}
	in := bufio.NewReaderSize(e, bufferSize)
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	return &csvReader{name: f.name, ending: e, in: in, csv: r}
}

// ending remembers how the reading ended, which csv.Reader does not tell when the record at the end is broken.
type ending struct {
	reader io.Reader
	err    error
}

// Read implements io.Reader.
func (e *ending) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.reader.Read(p)
	e.err = err
	return n, err
}

func (c *csvReader) read(max int, wait bool) ([]Row, error) {
	var rows []Row
	for len(rows) < max && c.err == nil && (wait && len(rows) == 0 || c.ready()) {
		row, err := c.one()
		if err != nil {
			c.err = err
			break
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, c.err
	}
	return rows, nil
}

// ready reports whether a whole record is buffered: a newline outside of quotes, on a line that csv.Reader will not
// pass over as empty.
func (c *csvReader) ready() bool {
	text, _ := c.in.Peek(c.in.Buffered())
	for {
		i := endOfRecord(text)
		if i < 0 {
			return false
		}
		if line := bytes.TrimSuffix(text[:i], []byte("\r")); len(line) > 0 {
			return true
		}
		text = text[i+1:]
	}
}

func endOfRecord(text []byte) int {
	quoted := false
	for i, b := range text {
		switch {
		case b == '"':
			quoted = !quoted
		case b == '\n' && !quoted:
			return i
		}
	}
	return -1
}

// one waits for a record.
func (c *csvReader) one() (Row, error) {
	c.skipMark()
	fields, err := c.csv.Read()
	if err != nil {
		return c.broken(err)
	}
	first, _ := c.csv.FieldPos(0)
	last, _ := c.csv.FieldPos(len(fields) - 1)
	c.line = int64(last)
	return Row{Row: command.Row{Columns: fields}, Line: int64(first), File: c.name}, nil
}

// skipMark drops the byte order mark that spreadsheets put first, where it would become part of the first name. It
// looks at one byte before it asks for more, so as not to wait for three.
func (c *csvReader) skipMark() {
	if c.started {
		return
	}
	c.started = true
	if b, _ := c.in.Peek(1); len(b) == 0 || b[0] != 0xEF {
		return
	}
	if b, _ := c.in.Peek(3); string(b) == "\ufeff" {
		_, _ = c.in.Discard(3) // cannot fail: so much is buffered
	}
}

// broken tells a bad record, after which the next one can be found, from the end of the input.
func (c *csvReader) broken(err error) (Row, error) {
	if err == io.EOF {
		return Row{}, io.EOF
	}
	atEnd := c.ending.err != nil && c.in.Buffered() == 0
	if atEnd && c.ending.err != io.EOF {
		return Row{}, failed(c.name, fmt.Sprintf("line %d", c.line), c.line, c.ending.err)
	}
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return Row{}, failed(c.name, fmt.Sprintf("line %d", c.line), c.line, err)
	}
	if atEnd && errors.Is(err, csv.ErrQuote) && parse.Line > parse.StartLine {
		return Row{}, fmt.Errorf("read %s: the record in line %d opens a quote that is not closed by the end of the file, "+
			"so the lines after it cannot be told apart: close the quote, or write two for one that is meant",
			c.name, parse.StartLine)
	}
	c.line = int64(parse.Line)
	return Row{Line: int64(parse.StartLine), File: c.name, Err: fmt.Errorf("line %d of %s is not CSV, at column %d of line %d: %w",
		parse.StartLine, c.name, parse.Column, parse.Line, parse.Err)}, nil
}
