// Package memory is memory that processes share: one file without a name, which every process
// maps where it needs it. The hub holds the [Arena], which says where blocks lie; every process,
// the hub's included, has a [Memory], which maps them. What a block means, who has it and when it
// is freed is the business of others.
package memory

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned for a block of a Memory or an Arena that was closed.
var ErrClosed = errors.New("the shared memory was closed")

// Memory is one process's view of the file. Its methods may be called from any goroutine.
type Memory struct {
	mu       sync.Mutex // guards all that follows, and the segments of all blocks
	file     *os.File
	segments map[int64]*mapping // by offset
	closed   bool
}

// mapping is a segment, which small blocks share.
type mapping struct {
	bytes  []byte
	blocks int // that use it
}

// Block is a piece of shared memory in the address space of this process.
type Block struct {
	memory  *Memory
	bytes   []byte
	segment int64 // where the mapping begins that it shares, or ownMapping
}

const ownMapping = -1

// Open makes a view of a file. It has a descriptor of its own: file stays the caller's.
func Open(file *os.File) (*Memory, error) {
	own, err := duplicate(file)
	if err != nil {
		return nil, fmt.Errorf("open the shared memory: %w", err)
	}
	return &Memory{file: own, segments: make(map[int64]*mapping)}, nil
}

func duplicate(file *os.File) (own *os.File, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if failed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// Map maps length bytes of the file. A block of up to Small bytes costs some 100 ns if another one
// of its segment (1 MiB) has been mapped before; a longer one some microseconds, and its pages a
// fault each when they are first touched. Offsets that an Arena cannot have given, and bytes that
// the file does not have, are errors.
func (m *Memory) Map(offset, length int64) (*Block, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b *Block
	err := checkPlace(offset, length)
	switch {
	case m.closed:
		err = ErrClosed
	case err != nil:
	case length > Small:
		b, err = m.mapAlone(offset, length)
	default:
		b, err = m.mapSmall(offset, length)
	}
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory at %d: %w", length, offset, err)
	}
	return b, nil
}

// checkPlace says why an offset and a length cannot be those of a block.
func checkPlace(offset, length int64) error {
	switch {
	case offset < 0 || length < 1 || length > math.MaxInt || offset > math.MaxInt64-length:
		return errors.New("there is no such place")
	case length > Small && offset%unit != 0:
		return fmt.Errorf("it does not begin at a multiple of %d", unit)
	case length <= Small && (offset%smallest != 0 || offset/segment != (offset+length-1)/segment):
		return fmt.Errorf("it does not begin at a multiple of %d, or crosses one of %d", smallest, segment)
	}
	return nil
}

func (m *Memory) mapAlone(offset, length int64) (*Block, error) {
	bytes, err := m.mapFile(offset, length)
	if err != nil {
		return nil, err
	}
	return &Block{memory: m, bytes: bytes, segment: ownMapping}, nil
}

func (m *Memory) mapSmall(offset, length int64) (*Block, error) {
	start := offset / segment * segment
	s := m.segments[start]
	if s == nil {
		bytes, err := m.mapFile(start, segment)
		if err != nil {
			return nil, err
		}
		s = &mapping{bytes: bytes}
		m.segments[start] = s
	}
	s.blocks++
	from, to := offset-start, offset-start+length
	return &Block{memory: m, bytes: s.bytes[from:to:to], segment: start}, nil
}

// mapFile maps what the file has: to touch what it does not have would kill the process. It never
// shrinks, which is sealed where the system can do that.
func (m *Memory) mapFile(offset, length int64) ([]byte, error) {
	info, err := m.file.Stat()
	if err != nil {
		return nil, err
	}
	if have := info.Size(); have < offset+length {
		return nil, fmt.Errorf("its file has only %d bytes", have)
	}
	return unix.Mmap(int(m.file.Fd()), offset, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Close gives everything up that no block uses. What a block uses stays until its Unmap. Closing
// twice is fine.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	for start := range m.segments {
		m.trim(start)
	}
	return m.file.Close()
}

// trim unmaps a segment that nobody uses any more.
func (m *Memory) trim(start int64) {
	if s := m.segments[start]; m.closed && s.blocks == 0 {
		delete(m.segments, start)
		_ = unix.Munmap(s.bytes) // it fails only if it is none
	}
}

// Bytes is the memory itself, nil after Unmap. Whoever reads and writes it beside others sees to
// the order, with a lock or with atomic instructions.
func (b *Block) Bytes() []byte { return b.bytes }

// Word is the word number i, from 0, of the memory. It panics if there is none.
func (b *Block) Word(i int) *uint64 {
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(b.bytes[8*i : 8*i+8])))
}

// Unmap gives the block up; nobody may touch what Bytes and Word have returned any more. It may be
// called again, by any goroutine, but not while another one calls Bytes or Word. It frees nothing:
// others may have the same block.
func (b *Block) Unmap() {
	m := b.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case b.bytes == nil:
	case b.segment == ownMapping:
		_ = unix.Munmap(b.bytes) // it fails only if it is none
	default:
		m.segments[b.segment].blocks--
		m.trim(b.segment)
	}
	b.bytes = nil
}
