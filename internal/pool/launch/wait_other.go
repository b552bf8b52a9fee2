//go:build !linux

package launch

import "syscall"

// ended returns at once: these systems cannot look at a process that has ended and
// leave it to be reaped, so nothing is known of its end before it is waited for, and
// its session is not searched afterwards. A worker's commands end with it all the
// same when it was killed by the pool, which searches first.
func ended(int) (clean bool) { return true }

// maxRSS is in KiB; here the kernel counts bytes.
func maxRSS(u *syscall.Rusage) int { return int(u.Maxrss >> 10) }
