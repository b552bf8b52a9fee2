//go:build !linux

package launch

import "syscall"

// canLook says whether exitWatch can.
const canLook = false

// exitWatch does nothing here: these systems cannot look at a process that has ended
// and leave it to be reaped.
type exitWatch struct{}

func (exitWatch) attach(*syscall.SysProcAttr) {}

// ended returns at once. Nothing is known of the end before the process is waited
// for, and its session is not searched afterwards: a worker that dies by itself may
// leave its command running. When the pool kills it, it searches first.
func (exitWatch) ended(int) (clean bool) { return true }

// maxRSS is in KiB; here the kernel counts bytes.
func maxRSS(u *syscall.Rusage) int { return int(u.Maxrss >> 10) }
