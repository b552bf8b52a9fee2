package admit

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Room returns how many more processes may be started, -1 if no limit is known, and which limit
// that is, in words that fit behind "because". Threads have a limit of their own here, for each
// process, that a worker does not come near to.
func Room() (processes int, why string) {
	t := noLimit()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil || limit.Cur >= math.MaxInt32 {
		return t.left, t.why
	}
	table, err := unix.SysctlKinfoProcSlice("kern.proc.uid", os.Getuid())
	if err != nil {
		return t.left, t.why
	}
	t.limit(int64(limit.Cur), int64(len(table)), fmt.Sprintf("the user may have %d processes (ulimit -u)", limit.Cur))
	return t.left, t.why
}
