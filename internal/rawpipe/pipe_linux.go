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
}

// New returns a pipe over a file that the runtime can wait for: one that was opened, or made by os.NewFile, without blocking. The file
// stays the caller's.
func New(f *os.File) (*Pipe, error) {
	raw, err := f.SyscallConn()
	return &Pipe{f, raw}, err
}

// Read is that of an io.Reader.
func (p *Pipe) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	failed := p.raw.Read(func(fd uintptr) bool {
		n, err = ReadNow(int(fd), b)
		return err != unix.EAGAIN
	})
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
	for n < len(b) && err == nil {
		failed := p.raw.Write(func(fd uintptr) bool {
			got, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n))
			switch errno {
			case 0:
				n += int(got)
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				err = p.broken("write", errno)
			}
			return true
		})
		if failed != nil {
			err = closed(failed)
		}
	}
	return n, err
}

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
