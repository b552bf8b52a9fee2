package admit

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// tree makes a /proc and /sys of a test.
func tree(t *testing.T, files map[string]string) kernel {
	t.Helper()
	root := t.TempDir() + "/"
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return kernel{root}
}

const (
	mountOfSecond = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
	mountsOfFirst = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
		"39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
	meminfo = "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB\n"
)

func with(files map[string]string, more map[string]string) map[string]string {
	all := maps.Clone(files)
	maps.Copy(all, more)
	return all
}

func TestFreeMemory(t *testing.T) {
	second := map[string]string{
		"proc/meminfo":        meminfo,
		"proc/self/cgroup":    "0::/a.slice/b.scope\n",
		"proc/self/mountinfo": mountOfSecond,
	}
	first := with(second, map[string]string{
		"proc/self/cgroup":    "9:name=systemd:/\n4:memory:/a/b\n0::/\n",
		"proc/self/mountinfo": mountsOfFirst,
	})
	const available = 8000000 << 10
	for _, c := range []struct {
		name        string
		files       map[string]string
		free, total int64
	}{
		{"no cgroup", map[string]string{"proc/meminfo": meminfo}, available, 16000000 << 10},
		{"no limit", with(second, map[string]string{
			"sys/fs/cgroup/a.slice/b.scope/memory.max": "max\n", "sys/fs/cgroup/a.slice/b.scope/memory.current": "5\n"}), available, 16000000 << 10},
		{"our own", with(second, map[string]string{
			"sys/fs/cgroup/a.slice/b.scope/memory.max": "1000\n", "sys/fs/cgroup/a.slice/b.scope/memory.current": "900\n",
			"sys/fs/cgroup/a.slice/b.scope/memory.stat": "anon 5\ninactive_file 300\nactive_file 9\n"}), 400, 1000},
		{"one above is tighter", with(second, map[string]string{
			"sys/fs/cgroup/a.slice/b.scope/memory.max": "1000\n", "sys/fs/cgroup/a.slice/b.scope/memory.current": "100\n",
			"sys/fs/cgroup/a.slice/memory.max": "2000\n", "sys/fs/cgroup/a.slice/memory.current": "1950\n"}), 50, 1000},
		{"more used than allowed", with(second, map[string]string{
			"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "1001\n"}), 0, 1000},
		{"garbage", with(second, map[string]string{
			"sys/fs/cgroup/memory.max": "-5\n", "sys/fs/cgroup/memory.current": "x\n"}), available, 16000000 << 10},
		{"the first version", with(first, map[string]string{
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "800\n",
			"sys/fs/cgroup/memory/a/memory.stat":             "inactive_file 1\ntotal_inactive_file 100\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "8\n"}), 300, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := tree(t, c.files)
			if free, err := k.free(); err != nil || free != c.free {
				t.Errorf("%d bytes are free, %v; want %d", free, err, c.free)
			}
			if total := k.total(); total != c.total {
				t.Errorf("%d bytes in all, want %d", total, c.total)
			}
		})
	}
}

func TestUnknownMachines(t *testing.T) {
	k := tree(t, map[string]string{"proc/meminfo": "MemTotal: 5 kB\n", "proc/loadavg": "nan 1 1"})
	if _, err := k.free(); err == nil {
		t.Error("no MemAvailable is an error")
	}
	if _, err := k.load(); err == nil {
		t.Error("a load that is no number is an error")
	}
	if got := k.room(); got.left != -1 {
		t.Errorf("there is no limit, and room for %d processes", got.left)
	}
}

func TestLoadOfTheKernel(t *testing.T) {
	k := tree(t, map[string]string{"proc/loadavg": "9.13 0.06 0.79 1/87 29652\n"})
	if load, err := k.load(); err != nil || load != 9.13 {
		t.Errorf("the load is %v, %v", load, err)
	}
	if _, err := readLoad(); err != nil {
		t.Errorf("the load here: %v", err)
	}
	if free, err := freeMemory(); err != nil || free <= 0 {
		t.Errorf("the free memory here: %d, %v", free, err)
	}
}

// TestLevelsOfAContainer: the mount shows a part of the hierarchy only.
func TestLevelsOfAContainer(t *testing.T) {
	for _, c := range []struct{ name, cgroup, root, want string }{
		{"below the root of the mount", "/docker/x/job", "/docker/x", "sys/fs/cgroup/job sys/fs/cgroup "},
		{"the root itself", "/docker/x", "/docker/x", "sys/fs/cgroup "},
		{"outside of it", "/../other", "/docker/x", "sys/fs/cgroup "},
		{"a longer name", "/docker/xy", "/docker/x", "sys/fs/cgroup "},
		{"a blank in a name", "/my job", "/", "sys/fs/cgroup/my job sys/fs/cgroup "},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := tree(t, map[string]string{
				"proc/self/cgroup":    "0::" + c.cgroup + "\n",
				"proc/self/mountinfo": "31 23 0:28 " + c.root + " /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			})
			got := ""
			for _, l := range k.levels("memory") {
				got += l.dir + " "
			}
			if got != c.want {
				t.Errorf("levels are %q, want %q", got, c.want)
			}
		})
	}
}

func TestRoomIsTheTightestLimit(t *testing.T) {
	base := map[string]string{
		"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountOfSecond,
		"proc/loadavg": "0 0 0 1/200 5\n", "proc/sys/kernel/threads-max": "1000\n", "proc/sys/kernel/pid_max": "32768\n",
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int
	}{
		{"the machine", base, 800},
		{"our cgroup", with(base, map[string]string{"sys/fs/cgroup/a/b/pids.max": "50\n", "sys/fs/cgroup/a/b/pids.current": "20\n"}), 30},
		{"one above", with(base, map[string]string{"sys/fs/cgroup/a/b/pids.max": "max\n", "sys/fs/cgroup/a/b/pids.current": "20\n",
			"sys/fs/cgroup/a/pids.max": "25\n", "sys/fs/cgroup/a/pids.current": "30\n"}), 0},
		{"the first version", with(base, map[string]string{"proc/self/cgroup": "8:pids:/x\n0::/\n", "proc/self/mountinfo": mountsOfFirst,
			"sys/fs/cgroup/pids/x/pids.max": "7\n", "sys/fs/cgroup/pids/x/pids.current": "2\n"}), 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := tree(t, c.files).room(); got.left != c.want || got.why == "" {
				t.Errorf("room for %d because %q, want %d", got.left, got.why, c.want)
			}
		})
	}
	if n := here.threadsOf(os.Getuid()); n < 2 {
		t.Errorf("this user has %d threads, and this test alone has more", n)
	}
}

func TestHugeFilesAreCut(t *testing.T) {
	k := tree(t, map[string]string{"huge": string(make([]byte, 3*largest)), "odd": string(make([]byte, 5000))})
	if n := len(k.read("huge")); n != largest {
		t.Errorf("%d bytes were read, want %d", n, largest)
	}
	if n := len(k.read("odd")); n != 5000 {
		t.Errorf("%d bytes were read, want 5000", n)
	}
}

func FuzzMounts(f *testing.F) {
	f.Add(mountOfSecond, "/a/b")
	f.Add(mountsOfFirst, "/../..")
	f.Fuzz(func(t *testing.T, line, group string) {
		m, ok := parseMount(line)
		if !ok {
			return
		}
		if all := m.levels(group, true); len(all) == 0 || len(all) > 64 {
			t.Errorf("%d levels", len(all))
		}
	})
}
