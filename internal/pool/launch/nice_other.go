//go:build !linux

package launch

import "golang.org/x/sys/unix"

// niceness is that of this process.
func niceness() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return n
}
