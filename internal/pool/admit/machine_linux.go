package admit

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// kernel reads what the kernel says of itself below a root: "/", or a tree of a test.
type kernel struct{ root string }

var here = kernel{"/"}

func readLoad() (float64, error)      { return here.load() }
func freeMemory() (int64, error)      { return here.free() }
func totalMemory() (bytes int64)      { return here.total() }
func (k kernel) path(p string) string { return k.root + p }

// largest bounds what is read of a file: nothing that we ask for is longer, but for mounts.
const largest = 1 << 20

// read returns the text of a file, empty if it cannot be read.
func (k kernel) read(path string) string {
	file, err := os.Open(k.path(path))
	if err != nil {
		return ""
	}
	defer file.Close()
	buf := make([]byte, 4096)
	for n := 0; ; {
		got, err := file.Read(buf[n:])
		n += got
		if err != nil || n == largest {
			return string(buf[:n])
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, n)...)
		}
	}
}

// number reads a file that holds one number; false for "max" and for what is none.
func (k kernel) number(path string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(k.read(path)), 10, 64)
	return n, err == nil && n >= 0
}

// field returns the number behind a name in lines of names and numbers.
func field(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != name {
			continue
		}
		n, err := strconv.ParseInt(words[1], 10, 64)
		return n, err == nil && n >= 0
	}
	return 0, false
}

// load is the average over the last minute, of the whole machine.
func (k kernel) load() (float64, error) {
	word, _, _ := strings.Cut(k.read("proc/loadavg"), " ")
	load, err := strconv.ParseFloat(word, 64)
	if err != nil || !(load >= 0) {
		return 0, fmt.Errorf("find out the load: /proc/loadavg begins with %.20q; without /proc there is no --load", word)
	}
	return load, nil
}

// free is the memory that a call can have: the least of what the machine has left without
// swapping, and of what each cgroup above us has left.
func (k kernel) free() (int64, error) {
	kilobytes, ok := field(k.read("proc/meminfo"), "MemAvailable:")
	if !ok {
		return 0, fmt.Errorf("find out the free memory: /proc/meminfo has no MemAvailable; without it there is no --memfree")
	}
	free := saturatedKilo(kilobytes)
	for _, l := range k.levels("memory") {
		if limit, used, ok := k.memory(l); ok {
			free = min(free, max(0, limit-used))
		}
	}
	return free, nil
}

// total is the memory that there is: of the machine, or of the smallest cgroup above us; 0 if
// it is not known.
func (k kernel) total() int64 {
	kilobytes, _ := field(k.read("proc/meminfo"), "MemTotal:")
	total := saturatedKilo(kilobytes)
	for _, l := range k.levels("memory") {
		if limit, _, ok := k.memory(l); ok {
			total = min(total, limit)
		}
	}
	return total
}

// memory returns the limit of a cgroup, and what of its use cannot be had back: files that have
// not been used for a while go first when memory is short. False if there is no limit.
func (k kernel) memory(l level) (limit, used int64, ok bool) {
	names := struct{ limit, used, files string }{"memory.max", "memory.current", "inactive_file"}
	if !l.unified {
		names.limit, names.used, names.files = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
	}
	limit, limited := k.number(l.dir + "/" + names.limit)
	used, known := k.number(l.dir + "/" + names.used)
	if !limited || !known || limit >= 1<<60 { // the first version's word for no limit
		return 0, 0, false
	}
	files, _ := field(k.read(l.dir+"/memory.stat"), names.files)
	return limit, max(0, used-files), true
}

func saturatedKilo(kilobytes int64) int64 { return min(kilobytes, math.MaxInt64>>10) << 10 }
