// Package blackbox is a worker's flight recorder: memory that it shares with its
// parent and that outlives it. Results of tiny calls gather in the worker before they
// leave, so that they do not cost a system call each; the box keeps them from being
// lost with it, so that a death costs the call that was running and no other. The
// worker holds a [Recorder], the parent a [Box].
//
// The box is 64 KiB, in the byte order of the machine, which both ends share:
//
//	offset  size
//	     0     8  magic, which carries the version of this layout
//	     8     8  running: the id of the call that runs, or 0; stored atomically
//	    16     8  used: how many bytes of records count; stored atomically
//	    24     8  opened: 1 once a worker has opened the box; stored atomically
//	    32    32  not used
//	    64        records, one behind the other
//
// A record, which begins at a multiple of 8:
//
//	 0     8  id of the call
//	 8     8  start
//	16     8  elapsed
//	24     2  mark, always the same
//	26     2  code
//	28     2  n, bytes of the message
//	30     2  m, bytes of the data
//	32   n+m  message, data
//
// A record counts from the moment when used is stored behind its last byte, and all
// records stop counting when used is stored as 0. A process that is killed has done
// what comes before some instruction, in each of its threads, and nothing of what
// comes after it; and nothing moves across an atomic store. So whatever the moment of
// death, the parent finds whole records.
package blackbox

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	size       = 64 << 10
	magic      = 0x31786f62_6c6f7067 // "gpolbox1", read from the left on a little-endian machine
	recordsAt  = 64
	recordHead = 32
	mark       = 0xb0c5
	align      = 8
	lastID     = 1<<53 - 1 // of the ids that a protocol of ours has
)

// header is the beginning of the box.
type header struct {
	magic   uint64
	running atomic.Uint64
	used    atomic.Uint64
	opened  atomic.Uint64
}

// headerOf needs mem to be a whole mapping: pages are aligned.
func headerOf(mem []byte) *header { return (*header)(unsafe.Pointer(unsafe.SliceData(mem))) }

// Record is how one call ended. The numbers mean what they mean in a result frame.
type Record struct {
	ID      uint64
	Code    uint8
	Message string
	Data    []byte
	Start   int64 // Unix time in nanoseconds
	Elapsed int64 // nanoseconds
}

func (r *Record) size() int {
	return recordHead + (len(r.Message)+len(r.Data)+align-1)/align*align
}

// fits reports whether the record can be written down in room bytes. Each length is
// looked at alone first, so that their sum cannot overflow.
func (r *Record) fits(room int) bool {
	return len(r.Message) < size && len(r.Data) < size && r.size() <= room
}

// mapShared maps a file of the box's size.
func mapShared(fd int) ([]byte, error) {
	return unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func put16(b []byte, n int) { binary.NativeEndian.PutUint16(b, uint16(n)) }

func get16(b []byte) int { return int(binary.NativeEndian.Uint16(b)) }
