package input

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"gpool/internal/command"
)

// Row is one item of the input.
type Row struct {
	command.Row
	Line int64  // 1-based number of the record's first line in its file; 0 when it came from the command line
	File string // "" for arguments, "standard input" or the path
	Err  error  // set: this row is bad; its call fails with this error and the rest goes on
}

// Source hands out rows in order. It is not safe for concurrent use.
//
// Next waits for the first row only and returns between 1 and max rows, further ones only as far as they are already
// buffered. After the last row it returns io.EOF and no rows. Any other error is the input's own failure, which ends the
// source; the rows before it have been handed out by then. The returned slice is the caller's.
type Source interface {
	Next(max int) ([]Row, error)
	Close() error
}

// RowFormat says how a record becomes the columns of a row.
type RowFormat int

const (
	// WholeLine makes each record one column, with all its bytes.
	WholeLine RowFormat = iota
	// Columns splits each record at a separator.
	Columns
	// CSV reads records by RFC 4180. Fields may hold newlines, of which \r\n arrives as \n.
	CSV
	// JSONL reads an array or an object from each record.
	JSONL
	// JSONText makes each record that is not blank one column, for somebody else to read.
	JSONText
)

// Format says how bytes become rows.
type Format struct {
	Null   bool           // records end with NUL instead of newline
	Rows   RowFormat      // how a record becomes columns
	Sep    *regexp.Regexp // the separator of Columns; nil is a TAB
	Header bool           // the first record of each file names the columns
}

// stdinName is what Row.File and errors call standard input.
const stdinName = "standard input"

// Open returns a source that reads the files one after the other; "-" and no files at all mean stdin. All files are
// opened here, so that a missing one is an error before the first call runs, but nothing is read yet, except for the
// header line of the first file that is not empty: its names are the second result. The source closes the files, but
// not stdin.
func Open(files []string, stdin io.Reader, f Format) (Source, []string, error) {
	if f.Null && f.Rows == CSV {
		return nil, nil, errors.New("CSV records end with a newline, not with NUL: leave one of the two out")
	}
	if len(files) == 0 {
		files = []string{"-"}
	}
	opened, err := openFiles(files, stdin)
	if err != nil {
		return nil, nil, err
	}
	s := &fileSource{format: f, files: opened}
	if f.Header {
		if err := s.openNext(); err != nil && err != io.EOF {
			return nil, nil, errors.Join(err, s.Close())
		}
	}
	return s, s.names, nil
}

// file is an input that has been opened.
type file struct {
	name   string
	reader io.Reader
	close  func() error
}

// openFiles opens all files or none.
func openFiles(paths []string, stdin io.Reader) ([]file, error) {
	var files []file
	for _, path := range paths {
		f, err := openFile(path, stdin)
		if err == nil && path == "-" {
			err = checkOnce(files)
		}
		if err != nil {
			return nil, errors.Join(err, closeFiles(files))
		}
		files = append(files, f)
	}
	return files, nil
}

// checkOnce refuses a second "-": it would read nothing, silently.
func checkOnce(files []file) error {
	for _, f := range files {
		if f.name == stdinName {
			return errors.New("standard input is named twice, but it can be read only once: name it once")
		}
	}
	return nil
}

func openFile(path string, stdin io.Reader) (file, error) {
	if path == "-" {
		return file{stdinName, stdin, func() error { return nil }}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return file{}, fmt.Errorf("read the input: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: name a file", path)
	}
	if err != nil {
		return file{}, errors.Join(fmt.Errorf("read the input: %w", err), f.Close())
	}
	return file{path, f, f.Close}, nil
}

func closeFiles(files []file) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}
