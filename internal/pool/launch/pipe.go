package launch

import "os"

// HighPipe makes a pipe that is not in the place of a standard stream, in a process that
// has closed one: a child would inherit it as such, and a write to it could raise SIGPIPE.
func HighPipe() (r, w *os.File, err error) {
	for {
		r, w, err = os.Pipe()
		if err != nil || (isHigh(r) && isHigh(w)) {
			return r, w, err
		}
		defer r.Close()
		defer w.Close()
	}
}

func isHigh(f *os.File) (high bool) {
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { high = fd > 2 })
	}
	return high
}
