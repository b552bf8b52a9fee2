package launch

import "golang.org/x/sys/unix"

// niceness is that of this process. The kernel says 20 minus it, so that it is never
// below zero.
func niceness() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n
}
