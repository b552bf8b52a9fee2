package memory

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// taken is how many bytes of memory, or of the disk, a file takes.
func taken(t *testing.T, f *os.File) int64 {
	t.Helper()
	var info unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &info); err != nil {
		t.Fatal(err)
	}
	return 512 * info.Blocks
}
