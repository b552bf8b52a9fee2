package blackbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"gpool/internal/unnamed"
)

// Box is the parent's end. One goroutine at a time.
type Box struct {
	mem []byte // nil once closed
}

// New makes a box. The file is for the worker, which inherits it and gives its
// descriptor to Open; the caller closes it once the worker has been started. The box
// needs no descriptor, and takes memory only as it is written to. It has no name, so
// nothing is left of it however the two processes end.
func New() (*Box, *os.File, error) {
	file, err := unnamed.File("black box", size)
	if err != nil {
		return nil, nil, fmt.Errorf("make a black box: %w", err)
	}
	seal(file)
	mem, err := mapShared(int(file.Fd()))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("map a black box: %w", err), file.Close())
	}
	headerOf(mem).magic = magic
	return &Box{mem: mem}, file, nil
}

// Close gives the memory back. It may be called more than once.
func (b *Box) Close() error {
	if b.mem == nil {
		return nil
	}
	mem := b.mem
	b.mem = nil
	return unix.Munmap(mem)
}

// Read returns the call that was running when the worker ended, or 0, and the
// outcomes of finished ones that may not have left it, by rising ids. It is called
// when the worker has ended, and when all that it wrote has been read.
//
// An outcome may have been received already, and so may that of running: the worker
// may have died after it wrote and before it noted so. Whoever reads passes over what
// has been answered; running is the victim only if it has no outcome at all. Calls
// that are neither have not begun, also if running is beyond them: they were given
// back, and word of that was lost.
//
// The copies are the caller's. The worker may have scribbled over the box: from the
// first record on that cannot be one of Finish there is none.
func (b *Box) Read() (running uint64, finished []Record) {
	raw := b.snapshot()
	if raw == nil {
		return 0, nil
	}
	return parse(raw)
}

// Opened says whether a worker has opened the box. One that has not, because it is
// written in another language, has recorded nothing: its box says nothing about what
// it was doing.
func (b *Box) Opened() bool {
	raw := b.snapshot()
	return raw != nil && binary.NativeEndian.Uint64(raw[24:]) != 0
}

// snapshot copies what counts of the box, so that it is read only once, whoever else
// still has it mapped. It returns nil if there is nothing to read.
func (b *Box) snapshot() (raw []byte) {
	if b.mem == nil {
		return nil
	}
	// Where a file cannot be sealed somebody may have cut it; then reading it faults.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			raw = nil
		}
	}()
	head := headerOf(b.mem)
	used := head.used.Load()
	if used > size-recordsAt {
		used = 0
	}
	raw = bytes.Clone(b.mem[:recordsAt+used])
	binary.NativeEndian.PutUint64(raw[16:], used) // as it was checked
	return raw
}

// parse reads a copy of the box's beginning, which holds at least its head.
func parse(raw []byte) (running uint64, finished []Record) {
	if binary.NativeEndian.Uint64(raw) != magic {
		return 0, nil
	}
	running = binary.NativeEndian.Uint64(raw[8:])
	if running > lastID {
		running = 0
	}
	last := uint64(0)
	for rest := raw[recordsAt:]; len(rest) >= recordHead; {
		rec, n := record(rest)
		if n == 0 || rec.ID <= last {
			break
		}
		last, rest = rec.ID, rest[n:]
		finished = append(finished, rec)
		if rec.ID == running {
			running = 0 // it died between Finish and Done
		}
	}
	return running, finished
}

// record reads the record at the beginning of b, which holds a head, and returns how
// long it is, or 0 if it is none.
func record(b []byte) (rec Record, n int) {
	code, message, data := get16(b[26:]), get16(b[28:]), get16(b[30:])
	rec = Record{
		ID:      binary.NativeEndian.Uint64(b),
		Code:    uint8(code),
		Start:   int64(binary.NativeEndian.Uint64(b[8:])),
		Elapsed: int64(binary.NativeEndian.Uint64(b[16:])),
	}
	end := recordHead + message + data
	if get16(b[24:]) != mark || code > 255 || rec.ID == 0 || rec.ID > lastID || end > len(b) {
		return Record{}, 0
	}
	rec.Message = string(b[recordHead : recordHead+message])
	rec.Data = bytes.Clone(b[recordHead+message : end])
	return rec, min(rec.size(), len(b))
}
