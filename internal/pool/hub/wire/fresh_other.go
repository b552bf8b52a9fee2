//go:build !linux

package wire

import (
	"fmt"
	"os"
	"path/filepath"
)

// Fresh is an address for a hub of this process that nobody else has or guesses: a socket in a
// folder of its own, which Listen's listener removes when it is closed.
func Fresh() (Address, error) {
	dir, err := os.MkdirTemp("", "gpool-hub-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the socket of a hub (TMPDIR chooses where): %w", err)
	}
	return Address("unix:" + filepath.Join(dir, "hub")), nil
}
