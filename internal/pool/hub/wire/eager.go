package wire

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// An answer that comes within some microseconds is not worth going to sleep for: to be woken takes longer than
// the hub takes to answer. So both sides ask again for a moment whether something has come, if the last wait was a short one; that halves the time of
// a request (go test -bench LockPair) and costs eagerTime of a CPU, once, when it was wrong.
const (
	eagerTime = 30 * time.Microsecond
	shortWait = 100 * time.Microsecond
)

// eager asks for bytes that are expected, over and over for a moment. none is true if nothing has come.
func (c *conn) eager(b, rights []byte) (n, got int, none bool, err error) {
	if c.raw == nil || rights != nil && closeOnExec == 0 {
		return 0, 0, true, nil
	}
	for from := time.Now(); ; runtime.Gosched() {
		if e := c.raw.Control(func(fd uintptr) { n, got, none, err = receiveNow(int(fd), b, rights) }); e != nil {
			return 0, 0, false, e
		}
		if !none || time.Since(from) > eagerTime {
			return n, got, none, err
		}
	}
}

// receiveNow receives what is there. It reports none also at the end of the stream, of which a read that waits tells in
// the words that everybody knows.
func receiveNow(fd int, b, rights []byte) (n, got int, none bool, err error) {
	if rights == nil {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
	} else {
		n, got, _, _, err = unix.Recvmsg(fd, b, rights, unix.MSG_DONTWAIT|closeOnExec)
	}
	if err != nil || n <= 0 {
		return 0, 0, true, nil
	}
	return n, got, false, nil
}
