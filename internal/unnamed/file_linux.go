package unnamed

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// File returns a file of size bytes, all zero, that lives in memory and takes it only as it is
// written to. The name is for people who look at what a process has open. The caller owns the file,
// may seal it where the system lets it, and may be given an unlinked file of the disk where there
// is no memory to be had.
func File(name string, size int64) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	// Kernels from 6.3 on may insist to be told that nobody will execute it; others do
	// not know that flag.
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil { // an old kernel, or a sandbox that forbids it
		return temporary(size)
	}
	file := os.NewFile(uintptr(fd), name)
	if err := file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("size it: %w", err), file.Close())
	}
	return file, nil
}
