package launch

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canLook says whether exitWatch can.
const canLook = true

// exitWatch waits for the end of a process by a descriptor of it, in the runtime's
// poller: two hundred workers take no two hundred threads.
type exitWatch struct{ pidfd int }

func (w *exitWatch) attach(attr *syscall.SysProcAttr) {
	w.pidfd = -1 // a kernel without such descriptors leaves it
	attr.PidFD = &w.pidfd
}

// ended waits until the process has ended, leaves it to be reaped, and reports
// whether it exited with 0.
func (w *exitWatch) ended(pid int) (clean bool) {
	if w.pidfd >= 0 && unix.SetNonblock(w.pidfd, true) == nil {
		file := os.NewFile(uintptr(w.pidfd), "pidfd")
		defer file.Close()
		if conn, err := file.SyscallConn(); err == nil {
			_ = conn.Read(func(uintptr) bool {
				var ok bool
				clean, ok = look(pid, unix.WNOHANG)
				return ok
			})
		}
	}
	clean, _ = look(pid, 0) // returns at once, unless the poller could not be used
	return clean
}

// look asks for the end of a process without reaping it; ok is false if it lives.
func look(pid, flags int) (clean, ok bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|flags, nil)
		if err != unix.EINTR {
			break
		}
	}
	child := (*childInfo)(unsafe.Pointer(&info))
	const exited = 1 // CLD_EXITED
	return info.Code == exited && child.status == 0, info.Signo != 0
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
