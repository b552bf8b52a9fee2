package shelf

import (
	"os"

	"golang.org/x/sys/unix"
)

// punchHole frees the disk space behind part of a file. It is a saving and no duty:
// file systems without holes keep the space until the file is closed.
func punchHole(f *os.File, at, n int64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
}
