package worker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Guard moves the frames away from where a task could touch them: it returns
// private copies of descriptors 0 and 1, puts /dev/null on 0 and standard error on
// 1. Whatever is printed afterwards, by Go, by C or by a child, goes to standard
// error and cannot break the protocol. It must run before anything reads or prints.
func Guard() (in, out *os.File, err error) {
	private := func(fd int, name string) (*os.File, error) {
		// From 10 on: scripts like to use 3 to 9.
		moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			return nil, fmt.Errorf("move descriptor %d out of the tasks' reach: %w", fd, err)
		}
		// A goroutine that waits for it must not keep the processor to itself: a read
		// that blocks its thread holds up the runner until the runtime notices.
		if err := unix.SetNonblock(moved, true); err != nil {
			return nil, fmt.Errorf("let reads of descriptor %d wait without a thread: %w", fd, err)
		}
		return os.NewFile(uintptr(moved), name), nil
	}
	if in, err = private(0, "frames in"); err != nil {
		return nil, nil, err
	}
	if out, err = private(1, "frames out"); err != nil {
		return nil, nil, err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s for the tasks' input: %w", os.DevNull, err)
	}
	defer unix.Close(null)
	if err := dup2(null, 0); err != nil {
		return nil, nil, fmt.Errorf("put %s on descriptor 0: %w", os.DevNull, err)
	}
	if err := dup2(2, 1); err != nil {
		return nil, nil, fmt.Errorf("put standard error on descriptor 1: %w", err)
	}
	return in, out, nil
}
