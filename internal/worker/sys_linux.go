package worker

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func dup2(from, to int) error { return unix.Dup3(from, to, 0) }

// newPipe returns a pipe that no child inherits by accident. Both ends block: the
// command would not expect anything else of its output.
func newPipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	return p[0], p[1], nil
}

// startProcess starts a command as the leader of a process group of its own. exitFD
// becomes readable when it has ended.
func startProcess(path string, argv []string, attr *syscall.ProcAttr) (pid, exitFD int, err error) {
	exitFD = -1
	attr.Sys = &syscall.SysProcAttr{Setpgid: true, PidFD: &exitFD}
	pid, err = syscall.ForkExec(path, argv, attr)
	return pid, exitFD, err
}

// ignoreChildren keeps SIGCHLD from interrupting this process for each command that ends, as the runtime's handler for it, which does
// nothing, would. Commands are waited for as before: nobody ignores the signal in so many words.
func ignoreChildren() {
	var byDefault [4]uintptr // struct sigaction of the kernel: SIG_DFL, which for SIGCHLD is nothing
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
}

// watch waits for descriptors as a goroutine does, and not as a thread in the kernel: a thread that waits there keeps the runtime's
// monitor awake, which looks at it every 20 µs, at the cost of the command that runs meanwhile. It is an epoll
// instance that the runtime's own poller watches. One goroutine.
type watch struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
}

func newWatch() (*watch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime does not watch it
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	w := &watch{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *watch) close() { _ = w.file.Close() }

// add begins to watch a descriptor, until it is closed. Below 0 there is none.
func (w *watch) add(fd int) error {
	if fd < 0 {
		return nil
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &event)
}

// poll is poll(2) over descriptors that were added; below 0 it waits for ever.
func (w *watch) poll(fds []unix.PollFd, milliseconds int) (n int, err error) {
	if milliseconds >= 0 {
		_ = w.file.SetReadDeadline(time.Now().Add(time.Duration(milliseconds) * time.Millisecond))
		defer func() { _ = w.file.SetReadDeadline(time.Time{}) }()
	}
	failed := w.raw.Read(func(uintptr) bool {
		n, err = pollNow(fds, 0)
		return n > 0 || err != nil
	})
	if err == nil && failed != nil && !errors.Is(failed, os.ErrDeadlineExceeded) {
		err = failed
	}
	return n, err
}

// pollNow is poll(2) over any descriptors for a moment, which the runtime is not told of: while it waits no other
// goroutine of a worker with one thread runs.
func pollNow(fds []unix.PollFd, most time.Duration) (int, error) {
	at := unix.NsecToTimespec(int64(most))
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// The calls below return at once, so the runtime need not prepare for a wait.

func closeNow(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func reapNow(pid int, ws *syscall.WaitStatus, usage *syscall.Rusage) (int, error) {
	var status int32
	got, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&status)), unix.WNOHANG, uintptr(unsafe.Pointer(usage)), 0, 0)
	*ws = syscall.WaitStatus(status)
	if errno != 0 {
		return -1, errno
	}
	return int(got), nil
}

// maxRSS is in KiB.
func maxRSS(u syscall.Rusage) int { return int(u.Maxrss) }

// ioctlWaiting asks how many bytes a pipe holds.
const ioctlWaiting = unix.TIOCINQ
