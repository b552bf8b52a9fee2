package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ended waits until the process has ended, leaves it to be reaped, and reports
// whether it exited with 0.
func ended(pid int) (clean bool) {
	var info unix.Siginfo
	for {
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	child := (*childInfo)(unsafe.Pointer(&info))
	const exited = 1 // CLD_EXITED
	return info.Code == exited && child.status == 0
}

// childInfo is a siginfo_t of SIGCHLD: signal, error and code, which machines of 64
// bits pad to an even number, and what the library keeps as bytes.
type childInfo struct {
	_      [3 + unsafe.Sizeof(uintptr(0))/8]int32
	_, _   int32 // pid and uid
	status int32
}

// maxRSS is in KiB.
func maxRSS(u *syscall.Rusage) int { return int(u.Maxrss) }
