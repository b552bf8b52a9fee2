// Package unnamed makes files that have no name: memory that processes share by handing its
// descriptor on. Nothing is left of one when the last descriptor and the last mapping are gone,
// however the processes end.
package unnamed

import (
	"errors"
	"fmt"
	"os"
)

// memoryDir is a file system in memory, where there is one.
const memoryDir = "/dev/shm"

// temporary returns a file of size bytes that has lost its name. It is not written to the disk if
// there is a file system in memory to put it on.
func temporary(size int64) (*os.File, error) {
	file, err := os.CreateTemp(memoryDir, "gpool-*")
	if err != nil {
		file, err = os.CreateTemp("", "gpool-*")
	}
	if err != nil {
		return nil, fmt.Errorf("make a temporary file (TMPDIR chooses where): %w", err)
	}
	if err := errors.Join(os.Remove(file.Name()), file.Truncate(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink and size a temporary file: %w", err), file.Close())
	}
	return file, nil
}
