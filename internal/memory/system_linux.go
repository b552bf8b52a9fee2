package memory

import (
	"os"

	"golang.org/x/sys/unix"
)

// seal keeps a file from being cut by a process that has it open. Only a file that lives in memory
// and never had a name can be sealed.
func seal(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return err == nil
}

// punchHole makes part of a file zero, and gives back what it took.
func punchHole(f *os.File, at, n int64) error {
	return allocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
}

// reserve takes the space of part of a file now. A file system that cannot do that promises nothing.
func reserve(f *os.File, at, n int64) error {
	err := allocate(f, 0, at, n)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

func allocate(f *os.File, mode uint32, at, n int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), mode, at, n); err != unix.EINTR {
			return err
		}
	}
}

// machineMemory is how much memory the machine has, in bytes.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	err := unix.Sysinfo(&info)
	return orMuch(uint64(info.Totalram)*uint64(info.Unit), err)
}
