//go:build !linux

package launch

import (
	"os/exec"
	"strconv"
	"strings"
)

// resident is how many bytes of memory a process holds at present, or 0. These systems
// tell only by a library that is not linked here, so ps is asked: some milliseconds.
func resident(pid int) int64 {
	text, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
