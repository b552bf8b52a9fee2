// Package journal keeps records in an append-only file that survives the death of its only writer,
// kill -9 included. It knows nothing of what is in a record. Parent only.
//
// A record is safe as soon as Append has returned: the system has it then. It is not forced to the disk,
// which would cost milliseconds, so a power failure or a crash of the system may lose the last
// seconds, or damage the file; Open notices that.
package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
)

// Journal is a journal that is open. One goroutine at a time, and one writer of the file: it is not
// locked here. It owns its descriptor, which no child inherits.
type Journal struct {
	path   string
	file   file
	size   int64  // where the last whole record ends
	cut    int64  // bytes of a torn record that Open threw away
	broken string // the file that Open made of what it could not read
	stuck  error  // something torn lies behind size: what came after it would be lost
	buf    []byte
}

// file is what a journal needs of an os.File to write. Each write says where: after one that failed
// the file's own position would be behind the end.
type file interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// keptBuffer is how large a buffer may be to be kept for the next Append, and flushAt how much Rewrite
// collects for one write.
const (
	keptBuffer = 1 << 20
	flushAt    = 256 << 10
)

// Append writes the records at the end, in one write. It is all or nothing while the process lives:
// what a full disk took of them is taken back. If that fails too, this and every later Append fails with
// the same error until a Rewrite has worked. A crash during Append may leave the first few of the
// records. One that is longer than MaxRecord is an error, and nothing is written. It costs a copy of
// the records and some microseconds.
func (j *Journal) Append(records ...[]byte) error {
	if j.stuck != nil {
		return j.stuck
	}
	for _, record := range records {
		if err := j.collect(record); err != nil {
			j.dropBuffer()
			return err
		}
	}
	return j.flush()
}

// collect puts a record into the buffer.
func (j *Journal) collect(record []byte) error {
	if len(record) > MaxRecord {
		return fmt.Errorf("write the journal %s: a record of %d bytes is too long; the limit is %d", j.path, len(record), MaxRecord)
	}
	j.buf = appendRecord(j.buf, record)
	return nil
}

// flush writes the buffer out, or nothing of it.
func (j *Journal) flush() error {
	defer j.dropBuffer()
	if len(j.buf) == 0 {
		return nil
	}
	if _, err := j.file.WriteAt(j.buf, j.size); err != nil {
		return j.takeBack(fmt.Errorf("write the journal %s: %w", j.path, reason(err)))
	}
	j.size += int64(len(j.buf))
	return nil
}

// takeBack cuts off what a failed write has left, and returns the error to be told.
func (j *Journal) takeBack(err error) error {
	cutErr := j.file.Truncate(j.size)
	if cutErr == nil {
		return err
	}
	j.stuck = fmt.Errorf("%w; and the torn record could not be cut off: %w; nothing is written until the journal has been rewritten",
		err, reason(cutErr))
	return j.stuck
}

func (j *Journal) dropBuffer() {
	j.buf = j.buf[:0]
	if cap(j.buf) > keptBuffer {
		j.buf = nil
	}
}

// Rewrite replaces all records by others, to make the file shorter: it writes them into a new file
// beside it, PATH.new, and renames that. A crash leaves the old records or the new ones, never a mix. If it
// fails, the old ones stand and the journal goes on. The bytes of a record are used until the next one
// is asked for; records must not use the journal. It costs a write of all of them.
func (j *Journal) Rewrite(records iter.Seq[[]byte]) error {
	next, err := create(j.path + newSuffix)
	if err == nil {
		err = next.replace(j.path, records)
	}
	if err != nil {
		return fmt.Errorf("rewrite the journal %s, which stays as it was: %w", j.path, err)
	}
	_ = j.file.Close() // it has no name any more: nothing can be lost
	j.file, j.size, j.stuck = next.file, next.size, nil
	return nil
}

// create makes an empty journal, without a look at what was at path.
func create(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, reason(err))
	}
	return &Journal{path: path, file: f}, nil
}

// replace fills an empty journal and puts it in the place of the one at path. If it cannot, or
// records panics, nothing is left of the new file.
func (j *Journal) replace(path string, records iter.Seq[[]byte]) (err error) {
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, j.file.Close(), os.Remove(j.path))
		}
	}()
	if err := j.fill(records); err != nil {
		return err
	}
	if err := os.Rename(j.path, path); err != nil {
		return err
	}
	done = true
	return nil
}

// fill writes the first line and the records.
func (j *Journal) fill(records iter.Seq[[]byte]) error {
	j.buf = append(j.buf, firstLine...)
	for record := range records {
		if err := j.collect(record); err != nil {
			return err
		}
		if len(j.buf) < flushAt {
			continue
		}
		if err := j.flush(); err != nil {
			return err
		}
	}
	return j.flush()
}

// Size is how long the file is, in bytes: a reason to Rewrite it.
func (j *Journal) Size() int64 { return j.size }

// Cut is how many bytes of a torn record Open has cut off. Nobody had been told that this record
// was written. What Open has put aside is not counted.
func (j *Journal) Cut() int64 { return j.cut }

// Broken is the path of the file into which Open has put the part of the journal that it could not trust,
// from the first damaged record on; or "". That may have been acknowledged records: tell the user.
func (j *Journal) Broken() string { return j.broken }

// Close gives the file up. Nothing is waiting to be written.
func (j *Journal) Close() error {
	if err := j.file.Close(); err != nil {
		return fmt.Errorf("close the journal %s: %w", j.path, reason(err))
	}
	return nil
}

// reason takes the part of an error that the message around it has not said already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
