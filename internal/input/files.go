package input

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ahead is how many rows are made of buffered text at once, even if fewer are wanted: a batch costs a handful of
// allocations, whatever its size. It never makes anyone wait.
const ahead = 256

// A rowReader reads the rows of one file. With wait it returns at least one row or an error; without, it may return
// nothing and never waits. It returns rows or an error, never both.
type rowReader interface {
	read(max int, wait bool) ([]Row, error)
}

// fileSource reads files one after the other. It owns them.
type fileSource struct {
	format Format
	files  []file    // those not finished; the first one is being read if reader is set
	reader rowReader // nil between files
	names  []string  // of the first header, and the file that it was in
	from   string
	made   []Row // made but not handed out
	err    error // the end, to be told after the last row
}

// Next implements Source.
func (s *fileSource) Next(max int) ([]Row, error) {
	max = atLeastOne(max)
	if len(s.made) == 0 {
		s.fill(max)
	}
	if len(s.made) == 0 {
		return nil, s.err
	}
	if len(s.made) < max {
		s.topUp(max)
	}
	n := min(max, len(s.made))
	rows := s.made[:n:n]
	s.made = s.made[n:]
	return rows, nil
}

func atLeastOne(n int) int { return max(n, 1) }

// fill waits for rows, from the next file if need be, or sets err.
func (s *fileSource) fill(want int) {
	for s.err == nil && len(s.made) == 0 {
		if s.reader == nil {
			s.err = s.openNext()
			continue
		}
		rows, err := s.reader.read(max(want, ahead), true)
		s.made = s.check(rows)
		if err == io.EOF {
			err = s.closeFirst()
		}
		s.err = err
	}
}

// topUp adds what the current file has buffered.
func (s *fileSource) topUp(want int) {
	for s.reader != nil && len(s.made) < want {
		rows, err := s.reader.read(want-len(s.made), false)
		if err != nil || len(rows) == 0 {
			return // an error stays with the reader, and fill will meet it again
		}
		s.made = append(slices.Clip(s.made), s.check(rows)...)
	}
}

// openNext makes the first of files the current one; files without even a header are passed over. It returns io.EOF
// when there is no file left.
func (s *fileSource) openNext() error {
	for len(s.files) > 0 {
		s.reader = newRowReader(s.files[0], s.format)
		if !s.format.Header {
			return nil
		}
		rows, err := s.reader.read(1, true)
		if err == nil {
			return s.header(rows[0])
		}
		if err != io.EOF {
			return err
		}
		if err := s.closeFirst(); err != nil {
			return err
		}
	}
	return io.EOF
}

// header takes the names from the first file, and holds the others against them.
func (s *fileSource) header(row Row) error {
	switch {
	case row.Err != nil:
		return fmt.Errorf("read the header: %w", row.Err)
	case row.Names != nil:
		return fmt.Errorf("the header in %s of %s is a JSON object: objects name their columns themselves, so leave --header out",
			place(s.format, row.Line), row.File)
	case s.names == nil:
		s.names, s.from = row.Columns, row.File
	case !slices.Equal(s.names, row.Columns):
		return fmt.Errorf("%s has the header %s, but %s has %s: files that are read together need the same header",
			row.File, strings.Join(row.Columns, ", "), s.from, strings.Join(s.names, ", "))
	}
	return nil
}

// check marks the rows that do not fit the header.
func (s *fileSource) check(rows []Row) []Row {
	if s.names == nil {
		return rows
	}
	for i := range rows {
		row := &rows[i]
		if row.Err == nil && row.Names == nil && len(row.Columns) != len(s.names) {
			row.Err = fmt.Errorf("%s of %s has %s, but the header has %d",
				place(s.format, row.Line), row.File, count(len(row.Columns), "column"), len(s.names))
		}
	}
	return rows
}

func (s *fileSource) closeFirst() error {
	err := s.files[0].close()
	s.files, s.reader = s.files[1:], nil
	return err
}

// Close implements Source.
func (s *fileSource) Close() error {
	err := closeFiles(s.files)
	s.files, s.reader, s.made = nil, nil, nil
	if s.err == nil {
		s.err = errors.New("the input is closed")
	}
	return err
}

func newRowReader(f file, format Format) rowReader {
	switch format.Rows {
	case CSV:
		return newCSVReader(f)
	case JSONL, JSONText:
		return &jsonReader{newRecords(f, format), format}
	case Columns:
		return &columnReader{newRecords(f, format), format.Sep}
	}
	return &lineReader{newRecords(f, format)}
}

// place names a record in an error.
func place(f Format, line int64) string {
	if f.Null {
		return fmt.Sprintf("record %d", line)
	}
	return fmt.Sprintf("line %d", line)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// failed words the failure of reading a file.
func failed(name, last string, line int64, err error) error {
	if line == 0 {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return fmt.Errorf("read %s after %s: %w", name, last, err)
}
