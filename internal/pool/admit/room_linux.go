package admit

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Room returns how many more processes and threads may be started, -1 if no limit is known, and
// which limit that is, in words that fit behind "because". It looks at every cgroup above us, at
// the machine, and at the user's own limit; only for the last, which does not hold for root,
// it has to read the whole table of processes, some microseconds each.
func Room() (processes int, why string) {
	t := here.room()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err == nil && limit.Cur < math.MaxInt32 && os.Getuid() != 0 {
		t.limit(int64(limit.Cur), here.threadsOf(os.Getuid()), fmt.Sprintf("the user may have %d processes (ulimit -u)", limit.Cur))
	}
	return t.left, t.why
}

// room is the least of the limits that files tell.
func (k kernel) room() tightest {
	t := noLimit()
	for _, l := range k.levels("pids") {
		limit, limited := k.number(l.dir + "/pids.max")
		used, known := k.number(l.dir + "/pids.current")
		if limited && known {
			t.limit(limit, used, fmt.Sprintf("the cgroup /%s may have %d processes (pids.max)", l.dir, limit))
		}
	}
	used := k.entities()
	for _, name := range []string{"threads-max", "pid_max"} {
		if limit, ok := k.number("proc/sys/kernel/" + name); ok && used > 0 {
			t.limit(limit, used, fmt.Sprintf("the machine may have %d (kernel.%s)", limit, name))
		}
	}
	return t
}

// entities is how many threads the whole machine has, by /proc/loadavg; 0 if it does not say.
func (k kernel) entities() int64 {
	words := strings.Fields(k.read("proc/loadavg"))
	if len(words) < 4 {
		return 0
	}
	_, all, _ := strings.Cut(words[3], "/")
	n, _ := strconv.ParseInt(all, 10, 64)
	return n
}

// threadsOf counts the threads of a user, as the limit does.
func (k kernel) threadsOf(uid int) (n int64) {
	entries, _ := os.ReadDir(k.path("proc"))
	for _, entry := range entries {
		if entry.Name()[0] < '0' || entry.Name()[0] > '9' {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid {
			threads, _ := field(k.read("proc/"+entry.Name()+"/status"), "Threads:")
			n += max(1, threads)
		}
	}
	return n
}
