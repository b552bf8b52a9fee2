package worker

import (
	"syscall"

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

// maxRSS is in KiB.
func maxRSS(u syscall.Rusage) int { return int(u.Maxrss) }

// ioctlWaiting asks how many bytes a pipe holds.
const ioctlWaiting = unix.TIOCINQ
