package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	longestSocket = 107 // bytes of the path of a socket, or of an abstract name with its @
	abstractNames = true
	closeOnExec   = unix.MSG_CMSG_CLOEXEC // for descriptors that come; 0 where that must be done by package net
)

func setSilence(fd int, limit time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
}
