package memory

import (
	"errors"
	"fmt"
	"math"
	"os"

	"gpool/internal/unnamed"
)

// MaxLimit is the most bytes that an Arena can have.
const MaxLimit = 1 << 40

// ErrNoRoom is wrapped by the error for a block that the limit has no room for.
var ErrNoRoom = errors.New("no room")

// Arena is the owner's side of shared memory: it allocates blocks. One goroutine at a time.
//
// Its file takes memory only as it is written to; what a block had is given back when it is
// freed. A block is zero when it is allocated, whatever was there.
type Arena struct {
	file   *os.File
	view   *Memory
	heap   *heap
	length int64 // of the file
	sealed bool  // it lives in memory of its own, and nobody can cut it
}

// NewArena makes an empty arena for up to limit bytes, or, if limit is 0, for half of the memory
// of the machine. The limit is rounded up to a MiB, and counts what lies between blocks, too. Close
// ends the arena.
func NewArena(limit int64) (*Arena, error) {
	if limit <= 0 {
		limit = machineMemory() / 2
	}
	file, err := unnamed.File("gpool shared memory", segment)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	return newArena(file, limit)
}

// newArena takes over a file that is one segment long.
func newArena(file *os.File, limit int64) (*Arena, error) {
	view, err := Open(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	limit = (min(limit, MaxLimit) + segment - 1) / segment * segment
	return &Arena{file: file, view: view, heap: newHeap(limit), length: segment, sealed: seal(file)}, nil
}

// File is the file for other processes to open. It stays the arena's, which closes it.
func (a *Arena) File() *os.File { return a.file }

// Used is how many bytes all blocks have together, rounded up to what they take.
func (a *Arena) Used() int64 { return a.heap.used }

// Limit is how many bytes there can be.
func (a *Arena) Limit() int64 { return a.heap.limit }

// Alloc finds a place for a block, which is not 0, and writes first to its beginning. The rest is
// zero. It costs about a microsecond, and what it takes to write first.
func (a *Arena) Alloc(length int64, first []byte) (offset int64, err error) {
	if length < 1 || int64(len(first)) > length {
		return 0, fmt.Errorf("a block of %d bytes cannot begin with %d", length, len(first))
	}
	offset, ok := a.heap.alloc(length)
	if !ok {
		return 0, fmt.Errorf("there is %w for %d bytes more of shared memory: %d of %d are used",
			ErrNoRoom, length, a.heap.used, a.heap.limit)
	}
	if err := a.prepare(offset, length, first); err != nil {
		a.Free(offset)
		return 0, fmt.Errorf("allocate %d bytes of shared memory: %w", length, err)
	}
	return offset, nil
}

// prepare sees to it that a block is in the file, and has its first bytes.
func (a *Arena) prepare(offset, length int64, first []byte) error {
	if err := a.grow(); err != nil {
		return err
	}
	if !a.sealed {
		// A file of a file system that is full would fault when it is written to.
		if err := reserve(a.file, offset, length); err != nil {
			return fmt.Errorf("%w; TMPDIR chooses where temporary files are", err)
		}
	}
	if length > Small {
		_, err := a.file.WriteAt(first, offset)
		return err
	}
	b, err := a.view.Map(offset, length)
	if err != nil {
		return err
	}
	defer b.Unmap()
	// Here and not when it is freed, so that nobody who has kept it too long can spoil it.
	clear(b.Bytes()[copy(b.Bytes(), first):])
	return nil
}

// grow makes the file as long as the heap needs it. It doubles, so that it happens seldom; it costs no memory.
func (a *Arena) grow() error {
	length := a.length
	for length < a.heap.top {
		length = min(2*length, a.heap.limit)
	}
	if length == a.length {
		return nil
	}
	if info, err := a.file.Stat(); err == nil && info.Size() > length { // somebody who maps it has made it longer, and it cannot shrink
		length = min(info.Size(), a.heap.limit)
	} else if err := a.file.Truncate(length); err != nil {
		return fmt.Errorf("make its file %d bytes long: %w", length, err)
	}
	a.length = length
	return nil
}

// Free ends a block, which nobody may use any more. What is not a block is a mistake of the
// caller's, and panics. Space that cannot be made zero is not used again. It costs about a
// microsecond, and with a large block more, in proportion to what was written of it, or to its
// length where files cannot have holes.
func (a *Arena) Free(offset int64) {
	empty, ok := a.heap.free(offset)
	if !ok {
		panic(fmt.Sprintf("memory: there is no block at %d to free", offset))
	}
	// What lies beyond the end of the file was never written to.
	if n := min(empty.length, a.length-empty.start); n > 0 && a.erase(empty.start, n) != nil {
		return
	}
	a.heap.give(empty)
}

// erase makes a part of the file zero.
func (a *Arena) erase(offset, n int64) error {
	if punchHole(a.file, offset, n) == nil {
		return nil
	}
	zeros := make([]byte, unit)
	for end := offset + n; offset < end; offset += unit {
		if _, err := a.file.WriteAt(zeros, offset); err != nil {
			return err
		}
	}
	return nil
}

// Map maps a block for the arena's owner.
func (a *Arena) Map(offset, length int64) (*Block, error) { return a.view.Map(offset, length) }

// Close ends the arena. Memory that others have mapped stays theirs until they unmap it.
func (a *Arena) Close() error { return errors.Join(a.view.Close(), a.file.Close()) }

// orMuch is n, or what counts as much memory if that is not known.
func orMuch(n uint64, err error) int64 {
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 8 << 30
	}
	return int64(n)
}
