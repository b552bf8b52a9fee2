//go:build !race

package rawpipe

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pipe is one end of a pipe. One goroutine may read and one may write at a time; deadlines and Close are those of the file.
type Pipe struct {
	file *os.File
	raw  syscall.RawConn
	// The runtime is given the same two functions each time, so that a call costs no memory.
	tryRead, tryWrite func(fd uintptr) bool
	read, write       transfer
}

// transfer is a call that is under way.
type transfer struct {
	b   []byte
	n   int
	err error
}

// New returns a pipe over a file that the runtime can wait for: one that was opened, or made by os.NewFile, without blocking. The file
// stays the caller's.
func New(f *os.File) (*Pipe, error) {
	raw, err := f.SyscallConn()
	p := &Pipe{file: f, raw: raw}
	p.tryRead = func(fd uintptr) bool {
		t := &p.read
		t.n, t.err = ReadNow(int(fd), t.b)
		return t.err != unix.EAGAIN
	}
	p.tryWrite = func(fd uintptr) bool {
		for t := &p.write; t.n < len(t.b) && t.err == nil; {
			got, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&t.b[t.n])), uintptr(len(t.b)-t.n))
			switch errno {
			case 0:
				t.n += int(got)
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				t.err = errno
			}
		}
		return true
	}
	return p, err
}

// Read is that of an io.Reader.
func (p *Pipe) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.read = transfer{b: b}
	failed := p.raw.Read(p.tryRead)
	n, err = p.read.n, p.read.err
	p.read = transfer{}
	switch {
	case failed != nil:
		return 0, closed(failed)
	case err != nil:
		return 0, p.broken("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is that of an io.Writer: it waits until all of b was taken.
func (p *Pipe) Write(b []byte) (n int, err error) {
	p.write = transfer{b: b}
	failed := p.raw.Write(p.tryWrite)
	n, err = p.write.n, p.write.err
	p.write = transfer{}
	switch {
	case failed != nil:
		return n, closed(failed)
	case err != nil:
		return n, p.broken("write", err)
	}
	return n, nil
}

// Widen asks the system to let 256 KiB wait in a pipe. It may say no.
func Widen(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 256<<10) }

// closed is the error of a file that cannot be waited for, in the words of package os.
func closed(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}

func (p *Pipe) broken(op string, err error) error {
	return &os.PathError{Op: op, Path: p.file.Name(), Err: err}
}

// ReadNow reads from a descriptor that does not block, or has something to say. It returns 0 at the end.
func ReadNow(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
