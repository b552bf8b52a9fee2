// Package session ends everything that a worker has started. A worker leads a
// session of its own, which its commands and their children inherit and leave only
// by becoming daemons on purpose; so the session's id finds them all, also those
// that a dead worker can no longer name. Used by both processes.
package session

import (
	"os"

	"golang.org/x/sys/unix"
)

// passes bounds how often Kill looks again for processes that were forked while it
// was looking.
const passes = 5

// Kill sends SIGKILL to every process of the session sid but the process spare
// (0: none), and returns how many it found. It reads the table of processes, about
// a microsecond for each process of the machine, so it is for bad days only. The
// session's leader must be alive or not yet waited for: its pid, which is the
// session's id, could otherwise belong to somebody else.
func Kill(sid, spare int) int {
	found := map[int]bool{}
	for range passes {
		fresh := 0
		for _, pid := range processes() {
			if pid == spare || found[pid] {
				continue
			}
			if s, err := unix.Getsid(pid); err != nil || s != sid {
				continue
			}
			if unix.Kill(pid, unix.SIGKILL) == nil {
				found[pid] = true
				fresh++
			}
		}
		if fresh == 0 {
			break
		}
	}
	return len(found)
}

// Own returns the id of the session that this process leads, and false if it leads
// none: then nothing may be killed by session.
func Own() (int, bool) {
	pid := os.Getpid()
	sid, err := unix.Getsid(0)
	return pid, err == nil && sid == pid
}
