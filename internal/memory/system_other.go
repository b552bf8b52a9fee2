//go:build !linux

package memory

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func seal(*os.File) bool { return false }

func punchHole(*os.File, int64, int64) error { return errors.ErrUnsupported }

func reserve(*os.File, int64, int64) error { return nil }

// machineMemory is how much memory the machine has, in bytes.
func machineMemory() int64 { return orMuch(unix.SysctlUint64("hw.memsize")) }
