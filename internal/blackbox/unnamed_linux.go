package blackbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unnamed returns a file of the box's size that lives in memory. It is sealed where the
// system can do that: if the worker cut it, the parent would fault when it reads.
func unnamed() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	// Kernels from 6.3 on may insist to be told that nobody will execute it; others do
	// not know that flag.
	fd, err := unix.MemfdCreate("gpool", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("gpool", flags)
	}
	if err != nil { // an old kernel, or a sandbox that forbids it
		return temporary()
	}
	file := os.NewFile(uintptr(fd), "black box")
	if err := file.Truncate(size); err != nil {
		file.Close()
		return nil, fmt.Errorf("size it: %w", err)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	return file, nil
}
