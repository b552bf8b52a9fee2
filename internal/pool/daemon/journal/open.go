package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// What lies beside a journal.
const (
	newSuffix    = ".new"    // what Rewrite is writing, or has left in a crash
	brokenSuffix = ".broken" // what Open has put aside; the second one is ".broken.2"
)

// Open opens the journal at path, or makes one that only its owner may read, and hands each whole record to
// replay, in order; its bytes are valid during the call. An error of replay ends Open with it.
//
// A torn record at the end, which a killed writer leaves, is cut off and counted by Cut. A damaged record,
// which only a bad disk, a power failure or another program leaves, ends the journal: it and all behind
// it are put into a file of their own beside it (see Broken), because what is behind a gap cannot be
// trusted, but may be wanted.
//
// A file that is no journal, or is of another version, is an error. An error leaves the file with all that was in it.
// Open reads the file once and needs memory for one record.
func Open(path string, replay func(record []byte) error) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal %s: %w", path, reason(err))
	}
	j := &Journal{path: path, file: f}
	if err := j.load(f, replay); err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", path, err), f.Close())
	}
	return j, nil
}

// load reads the file and makes it ready for Append. It changes nothing before all is read.
func (j *Journal) load(f *os.File, replay func(record []byte) error) error {
	size, err := sizeOf(f)
	if err != nil {
		return err
	}
	begun, err := readFirstLine(f)
	if err != nil {
		return err
	}
	if !begun {
		return errors.Join(j.removeNew(), j.begin(size))
	}
	const start = int64(len(firstLine))
	end, how, err := scan(io.NewSectionReader(f, start, size-start), size-start, replay)
	if err != nil {
		return err
	}
	j.size = start + end
	if err := j.removeNew(); err != nil {
		return err
	}
	return j.settle(f, size, how)
}

// sizeOf refuses what has no size, such as a FIFO.
func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("it is no regular file; name another one")
	}
	return info.Size(), nil
}

// readFirstLine reports whether the file has a whole first line. One that has only the beginning of it
// belongs to a writer that was killed before it had written a record.
func readFirstLine(f *os.File) (bool, error) {
	var b [len(firstLine)]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	line := string(b[:n])
	if strings.HasPrefix(firstLine, line) {
		return line == firstLine, nil
	}
	if strings.HasPrefix(line, family) {
		return false, fmt.Errorf("it begins with %q, so another version of gpool has written it, and this one reads %q; use that gpool, or move the file away",
			line, firstLine)
	}
	return false, fmt.Errorf("it begins with %q and is no journal of gpool; name another file, or move this one away", line)
}

// begin writes the first line, over the beginning of one if there is that.
func (j *Journal) begin(size int64) error {
	if _, err := j.file.WriteAt([]byte(firstLine), 0); err != nil {
		return fmt.Errorf("write its first line: %w", reason(err))
	}
	j.size, j.cut = int64(len(firstLine)), size
	return nil
}

// settle makes the file end with its last whole record.
func (j *Journal) settle(f *os.File, size int64, how ending) error {
	switch how {
	case torn:
		j.cut = size - j.size
	case damaged:
		if err := j.putAside(io.NewSectionReader(f, j.size, size-j.size)); err != nil {
			return err
		}
	}
	if how == whole {
		return nil
	}
	if err := f.Truncate(j.size); err != nil {
		return fmt.Errorf("cut it to %d bytes: %w", j.size, reason(err))
	}
	return nil
}

// putAside copies the rest of the file into a new one. A crash before the file is cut leaves one
// copy too many, and never one too few.
func (j *Journal) putAside(rest io.Reader) error {
	aside, err := createNumbered(j.path + brokenSuffix)
	if err != nil {
		return fmt.Errorf("make a file for what is behind a damaged record: %w", err)
	}
	_, err = io.Copy(aside, rest)
	if err = errors.Join(err, aside.Close()); err != nil {
		return errors.Join(fmt.Errorf("put aside what is behind a damaged record: %w", err), os.Remove(aside.Name()))
	}
	j.broken = aside.Name()
	return nil
}

// createNumbered makes a file at path, or at path.2, path.3 and so on if there is one.
func createNumbered(path string) (*os.File, error) {
	name := path
	for n := 2; ; n++ {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		name = fmt.Sprintf("%s.%d", path, n)
	}
}

// removeNew removes what a Rewrite left that was killed. The journal has never been that file.
func (j *Journal) removeNew() error {
	err := os.Remove(j.path + newSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is left of a rewrite: %w", err)
	}
	return nil
}
