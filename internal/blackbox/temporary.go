package blackbox

import (
	"errors"
	"fmt"
	"os"
)

// memoryDir is a file system in memory, where there is one.
const memoryDir = "/dev/shm"

// temporary returns a file of the box's size that has lost its name. It is not written
// to the disk if there is a file system in memory to put it on.
func temporary() (*os.File, error) {
	file, err := os.CreateTemp(memoryDir, "gpool-*")
	if err != nil {
		file, err = os.CreateTemp("", "gpool-*")
	}
	if err != nil {
		return nil, fmt.Errorf("make a temporary file (TMPDIR chooses where): %w", err)
	}
	if err := errors.Join(os.Remove(file.Name()), file.Truncate(size)); err != nil {
		file.Close()
		return nil, fmt.Errorf("unlink and size a temporary file: %w", err)
	}
	return file, nil
}
