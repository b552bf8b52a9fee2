package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	longestSocket = 103 // bytes of the path of a socket
	abstractNames = false
	closeOnExec   = 0
)

func setSilence(fd int, limit time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RXT_CONNDROPTIME, int(limit.Seconds()))
}
