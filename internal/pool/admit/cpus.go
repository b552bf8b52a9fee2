package admit

import (
	"os"
	"runtime"
)

// CPUs is how many CPUs this process may use: by its affinity, and by the quota of each
// cgroup above it, rounded up. The Go runtime knows both, but never says less than 2 for a
// quota. What somebody has set as GOMAXPROCS stands. It costs some 50 µs.
func CPUs() int {
	n := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" && n > 1 {
		if quota := cpuQuota(); quota > 0 {
			n = min(n, quota)
		}
	}
	return n
}
