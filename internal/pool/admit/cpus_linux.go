package admit

import (
	"math"
	"strconv"
	"strings"
)

func cpuQuota() int { return here.cpuQuota() }

// cpuQuota is the least quota of CPU time of the cgroups above us, as a number of CPUs
// that is rounded up; 0 if there is none.
func (k kernel) cpuQuota() (least int) {
	for _, l := range k.levels("cpu") {
		quota, period := k.bandwidth(l)
		if quota <= 0 || period <= 0 {
			continue
		}
		if n := int(math.Ceil(float64(quota) / float64(period))); least == 0 || n < least {
			least = n
		}
	}
	return least
}

// bandwidth is how much time a cgroup may use in a period, both in microseconds; 0 for
// any.
func (k kernel) bandwidth(l level) (quota, period int64) {
	if l.unified { // "max 100000" or "50000 100000"
		words := strings.Fields(k.read(l.dir + "/cpu.max"))
		if len(words) == 2 {
			quota, _ = strconv.ParseInt(words[0], 10, 64)
			period, _ = strconv.ParseInt(words[1], 10, 64)
		}
		return quota, period
	}
	quota, _ = k.number(l.dir + "/cpu.cfs_quota_us") // -1 for any
	period, _ = k.number(l.dir + "/cpu.cfs_period_us")
	return quota, period
}
