package admit

import "testing"

func TestCPUQuota(t *testing.T) {
	second := map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountOfSecond}
	first := map[string]string{"proc/self/cgroup": "4:cpu,cpuacct:/a\n0::/\n", "proc/self/mountinfo": mountsOfFirst}
	for name, c := range map[string]struct {
		files map[string]string
		want  int
	}{
		"no cgroup":                   {nil, 0},
		"no limit":                    {with(second, map[string]string{"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}), 0},
		"half a CPU":                  {with(second, map[string]string{"sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"}), 1},
		"one and a half":              {with(second, map[string]string{"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}), 2},
		"that of the one above":       {with(second, map[string]string{"sys/fs/cgroup/a/b/cpu.max": "800000 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}), 3},
		"garbage":                     {with(second, map[string]string{"sys/fs/cgroup/a/b/cpu.max": "-5 0 x\n"}), 0},
		"the first version":           {with(first, map[string]string{"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}), 1},
		"the first version, no limit": {with(first, map[string]string{"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}), 0},
	} {
		if got := tree(t, c.files).cpuQuota(); got != c.want {
			t.Errorf("%s: %d CPUs, want %d", name, got, c.want)
		}
	}
}
