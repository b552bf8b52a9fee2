package worker

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func dup2(from, to int) error { return unix.Dup2(from, to) }

// newPipe returns a pipe that no child inherits by accident. Both ends block: the
// command would not expect anything else of its output.
func newPipe() (r, w int, err error) {
	var p [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(p[:]); err != nil {
		return -1, -1, err
	}
	syscall.CloseOnExec(p[0])
	syscall.CloseOnExec(p[1])
	return p[0], p[1], nil
}

// startProcess starts a command as the leader of a process group of its own. These
// systems have no descriptor of a process: exitFD is -1, and the caller asks now
// and then.
func startProcess(path string, argv []string, attr *syscall.ProcAttr) (pid, exitFD int, err error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: true}
	pid, err = syscall.ForkExec(path, argv, attr)
	return pid, -1, err
}

func ignoreChildren() {}

// watch waits for descriptors.
type watch struct{}

func newWatch() (*watch, error) { return &watch{}, nil }

func (*watch) close() {}

func (*watch) add(int) error { return nil }

func (*watch) poll(fds []unix.PollFd, milliseconds int) (int, error) {
	return unix.Poll(fds, milliseconds)
}

func pollNow(fds []unix.PollFd, most time.Duration) (int, error) {
	return unix.Poll(fds, int(most/time.Millisecond))
}

func closeNow(fd int) { _ = unix.Close(fd) }

func reapNow(pid int, ws *syscall.WaitStatus, usage *syscall.Rusage) (int, error) {
	return syscall.Wait4(pid, ws, syscall.WNOHANG, usage)
}

// maxRSS is in KiB; here the kernel counts bytes.
func maxRSS(u syscall.Rusage) int { return int(u.Maxrss >> 10) }

// ioctlWaiting asks how many bytes a pipe holds.
const ioctlWaiting = 0x4004667f // FIONREAD
