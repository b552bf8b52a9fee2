package blackbox

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Recorder is the worker's end of a box. Begin and Done belong to the goroutine that
// runs calls; Finish and Sent are called under one lock of the caller's, by whatever
// goroutine. Both pairs may be used at the same time. None of them allocates, or asks
// the system: Begin, Done and Sent are an atomic store each, Finish is a copy and one.
//
// A nil Recorder records nothing, and Finish always has room in it.
type Recorder struct {
	mem  []byte
	head *header
	used int // of the records; in memory of our own, so that nobody can scribble over it
}

// Open takes the box that a parent has left at descriptor fd, and closes that, so that
// no child can inherit it. A descriptor that is no box is left alone.
func Open(fd int) (*Recorder, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("look at descriptor %d for a black box: %w", fd, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size != size {
		return nil, fmt.Errorf("descriptor %d is no black box: it is not a file of %d bytes", fd, size)
	}
	mem, err := mapShared(fd)
	if err != nil {
		return nil, fmt.Errorf("map the black box at descriptor %d: %w", fd, err)
	}
	r := &Recorder{mem: mem, head: headerOf(mem)}
	if r.head.magic != magic {
		return nil, errors.Join(fmt.Errorf("descriptor %d is no black box of this build: it begins with %#x", fd, r.head.magic), unix.Munmap(mem))
	}
	_ = unix.Close(fd)
	r.head.opened.Store(1)
	return r, nil
}

// Close unmaps the box. A worker process need not: its end does.
func (r *Recorder) Close() error {
	if r == nil || r.mem == nil {
		return nil
	}
	mem := r.mem
	r.mem, r.head = nil, nil
	return unix.Munmap(mem)
}

// Begin notes that the call id, which is not 0, runs from now on.
func (r *Recorder) Begin(id uint64) {
	if r != nil {
		r.head.running.Store(id)
	}
}

// Done notes that no call runs. The outcome of the one that ran must have been
// recorded, or have left, before.
func (r *Recorder) Done() {
	if r != nil {
		r.head.running.Store(0)
	}
}

// Finish records the outcome of a call. Ids must rise. It returns false, and records
// nothing, if there is no room; then whatever has been recorded must leave, and this
// outcome with it.
func (r *Recorder) Finish(rec Record) bool {
	if r == nil {
		return true
	}
	if !rec.fits(size - recordsAt - r.used) {
		return false
	}
	b := r.mem[recordsAt+r.used:]
	binary.NativeEndian.PutUint64(b, rec.ID)
	binary.NativeEndian.PutUint64(b[8:], uint64(rec.Start))
	binary.NativeEndian.PutUint64(b[16:], uint64(rec.Elapsed))
	put16(b[24:], mark)
	put16(b[26:], int(rec.Code))
	put16(b[28:], len(rec.Message))
	put16(b[30:], len(rec.Data))
	n := copy(b[recordHead:], rec.Message)
	copy(b[recordHead+n:], rec.Data)
	r.used += rec.size()
	r.head.used.Store(uint64(r.used)) // last: the record counts from here on
	return true
}

// Sent forgets all records: their outcomes have left in whole. What is forgotten too
// early is lost with the worker; what is forgotten too late the parent knows already.
func (r *Recorder) Sent() {
	if r != nil && r.used > 0 {
		r.used = 0
		r.head.used.Store(0)
	}
}
