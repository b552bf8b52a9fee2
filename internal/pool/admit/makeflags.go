package admit

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Auth is the address of a jobserver: a named pipe, or two descriptors that make has left open.
type Auth struct {
	Path        string // of the named pipe, empty for descriptors
	Read, Write int    // negative: make has shut us out
	Jobs        int    // what -j of make says, 0 if it says nothing
}

// String is the address in make's own form.
func (a *Auth) String() string {
	if a.Path != "" {
		return fifoPrefix + a.Path
	}
	return fmt.Sprintf("%d,%d", a.Read, a.Write)
}

const fifoPrefix = "fifo:"

// UnavailableError says that there is a jobserver, and why we cannot use it. The caller decides
// how to go on without; its message should say so.
type UnavailableError struct {
	Auth string // the address, as make has given it
	Why  string
}

func (e *UnavailableError) Error() string {
	advice := "put + before the recipe line, or let it contain $(MAKE), so that make leaves its jobserver open"
	if strings.HasPrefix(e.Auth, fifoPrefix) {
		advice = "the make that made it may have ended; start this from its recipe"
	}
	return fmt.Sprintf("the jobserver of make at %q is out of reach: %s; %s", e.Auth, e.Why, advice)
}

// ParseMakeFlags finds the jobserver in the value of the variable MAKEFLAGS; the last one counts.
// nil if there is none. An *UnavailableError if its address is of a kind that we cannot use, or
// none at all. Nothing is opened: see Check.
func ParseMakeFlags(flags string) (*Auth, error) {
	address, found, jobs := "", false, 0
	for _, word := range makeWords(flags) {
		if word == "--" { // variables follow, which are the user's
			break
		}
		for _, option := range []string{"--jobserver-auth=", "--jobserver-fds="} {
			if value, ok := strings.CutPrefix(word, option); ok {
				address, found = value, true
			}
		}
		if n, ok := jobsOf(word); ok {
			jobs = n
		}
	}
	if !found {
		return nil, nil
	}
	auth, err := parseAuth(address)
	if err != nil {
		return nil, err
	}
	auth.Jobs = jobs
	return auth, nil
}

// makeWords splits MAKEFLAGS as make writes it: at blanks, unless a backslash stands before them.
func makeWords(flags string) (words []string) {
	var word strings.Builder
	escaped := false
	for _, b := range []byte(flags + " ") {
		switch {
		case escaped:
			word.WriteByte(b)
			escaped = false
		case b == '\\':
			escaped = true
		case b != ' ' && b != '\t' && b != '\n':
			word.WriteByte(b)
		case word.Len() > 0:
			words = append(words, word.String())
			word.Reset()
		}
	}
	return words
}

// jobsOf reads -j4, -j, --jobs=4 and --jobs.
func jobsOf(word string) (n int, ok bool) {
	number, ok := strings.CutPrefix(word, "-j")
	if !ok {
		number, ok = strings.CutPrefix(word, "--jobs")
		number = strings.TrimPrefix(number, "=")
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		n = 0
	}
	return n, ok && (err == nil || number == "")
}

// parseAuth reads fifo:PATH or R,W. Windows makes give the name of a semaphore.
func parseAuth(address string) (*Auth, error) {
	if path, ok := strings.CutPrefix(address, fifoPrefix); ok {
		if path == "" || strings.ContainsRune(path, 0) {
			return nil, &UnavailableError{address, "that names no pipe"}
		}
		return &Auth{Path: path}, nil
	}
	left, right, ok := strings.Cut(address, ",")
	if !ok {
		return nil, &UnavailableError{address, "it is neither two descriptors nor fifo:PATH, but perhaps the name of a Windows semaphore, which is not supported"}
	}
	r, errR := strconv.ParseInt(left, 10, 32)
	w, errW := strconv.ParseInt(right, 10, 32)
	if errR != nil || errW != nil {
		return nil, &UnavailableError{address, "these are no two descriptors"}
	}
	return &Auth{Read: int(r), Write: int(w)}, nil
}

// Check is an *UnavailableError if the jobserver cannot be used. To be called early: descriptors
// that make has closed are soon those of something else, which Check sees through unless it
// has been inherited as well, and is a pipe.
func (a *Auth) Check() error {
	why := ""
	switch {
	case a.Path != "":
		why = checkFifo(a.Path)
	case a.Read < 0 || a.Write < 0:
		why = "make has switched it off for this command"
	default:
		if why = checkPipe(a.Read, unix.O_RDONLY); why == "" {
			why = checkPipe(a.Write, unix.O_WRONLY)
		}
	}
	if why != "" {
		return &UnavailableError{a.String(), why}
	}
	return nil
}

func checkFifo(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err.Error()
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return "that is no named pipe"
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		return err.Error()
	}
	return ""
}

// checkPipe says why fd is not an inherited pipe that is open for the given direction.
func checkPipe(fd, direction int) string {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Sprintf("descriptor %d is closed", fd)
	}
	closing, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	switch err := unix.Fstat(fd, &st); {
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || closing&unix.FD_CLOEXEC != 0:
		return fmt.Sprintf("descriptor %d is no pipe of make's", fd)
	case flags&unix.O_ACCMODE != direction && flags&unix.O_ACCMODE != unix.O_RDWR:
		return fmt.Sprintf("descriptor %d is open for the wrong direction", fd)
	}
	return ""
}

// Lift moves the jobserver's descriptors out of the way of those that workers are given from 3
// on, and returns the MAKEFLAGS that name the new ones, for the environment of workers: so a make
// that a command runs is a client of the same jobserver. The new descriptors stay open in every
// process that is started from now on; the old ones in none. A named pipe needs nothing of the
// kind, and flags come back as they are. To be called before Open, and once. The error is that
// of Check.
func (a *Auth) Lift(flags string) (string, error) {
	if err := a.Check(); err != nil {
		return "", err
	}
	if a.Path != "" {
		return flags, nil
	}
	const low = 100
	var lifted [2]int
	for i, fd := range []int{a.Read, a.Write} {
		var err error
		if lifted[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, low); err != nil {
			return "", &UnavailableError{a.String(), fmt.Sprintf("descriptor %d cannot be copied: %v", fd, err)}
		}
	}
	unix.CloseOnExec(a.Read)
	unix.CloseOnExec(a.Write)
	a.Read, a.Write = lifted[0], lifted[1]
	options, variables := cutVariables(flags)
	return options + " --jobserver-auth=" + a.String() + variables, nil
}

// cutVariables cuts MAKEFLAGS before what was set on make's command line.
func cutVariables(flags string) (options, variables string) {
	if i := strings.Index(flags+" ", " -- "); i >= 0 {
		return flags[:i], flags[i:]
	}
	return flags, ""
}

// WithoutJobserver is MAKEFLAGS for commands that the jobserver does not reach, since they run in a
// process that make has not started, and that may outlive it: without its address, and without -j.
func WithoutJobserver(flags string) string {
	options, variables := cutVariables(flags)
	words := slices.DeleteFunc(strings.Fields(options), func(word string) bool {
		return strings.HasPrefix(word, "--jobserver") || strings.HasPrefix(word, "-j")
	})
	return strings.Join(words, " ") + variables
}

// tooMany bounds how many tokens are asked for, whoever asks.
const tooMany = math.MaxUint16
