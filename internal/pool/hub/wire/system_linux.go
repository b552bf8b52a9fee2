package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	longestSocket = 107 // bytes of the path of a socket, or of an abstract name with its @
	abstractNames = true
)

func setSilence(fd int, limit time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
}
