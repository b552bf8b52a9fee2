package admit

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reopen opens the pipe behind a descriptor anew, so that it can have flags of its own. It fails
// without /proc, and for a pipe of another user.
func reopen(fd int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}
