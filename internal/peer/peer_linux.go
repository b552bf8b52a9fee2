package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// Of returns the process and the user at the other end of conn, from the kernel. Of a server
// it is the process that has begun to listen. The pid is 0 if it is in no namespace that we see.
func Of(conn *net.UnixConn) (pid, uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return 0, 0, e
	}
	if err != nil {
		return 0, 0, err
	}
	return int(cred.Pid), int(cred.Uid), nil
}
