//go:build !linux

package unnamed

import "os"

// File returns a file of size bytes, all zero, that was unlinked. The name is not used here. The
// caller owns the file.
func File(name string, size int64) (*os.File, error) { return temporary(size) }
