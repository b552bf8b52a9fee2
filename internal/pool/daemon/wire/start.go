package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a server may take to begin, and Open in all.
	patience = 10 * time.Second
	// readyVar tells a server that it was started by Start, which waits for a word on readyFD.
	readyVar = "GPOOL_READY"
	readyFD  = 3
	// longestWord bounds what is read of it.
	longestWord = 64 << 10
)

// The words of a server; behind wordFailed comes why. A zero byte ends each.
const (
	wordReady  = "ready"
	wordTaken  = "taken"
	wordFailed = "failed "
)

// notForServer are variables of ours that say what this process is, which the server is not: it may
// be started from within a call of another pool.
var notForServer = []string{
	"GPOOL_ID", "GPOOL_POOL", "GPOOL_SEQ", "GPOOL_SLOT", "GPOOL_ATTEMPT", "PARALLEL_SEQ", "PARALLEL_JOBSLOT",
	"GPOOL_HUB", "GPOOL_ABANDONED", "GPOOL_WORKER", "GPOOL_BOX", "GPOOL_PROCS", readyVar,
}

// Start runs argv, whose first word is a path, as the server of a pool, and waits until it says by
// Ready that it listens, or for ten seconds. If it says why it does not, that is the error; if
// another server was faster there is none. The server has a session of its own, the working
// directory / and the null device as its standard streams.
func Start(p Place, argv []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start a server of the pool %q: %w", p.Name, err)
	}
	defer r.Close()
	server, err := launch(argv, w)
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start a server of the pool %q: %w", p.Name, err)
	}
	ended := make(chan struct{})
	go func() { // until it ends, or we do: in a process that lives on it must not stay a zombie
		defer close(ended)
		_ = server.Wait()
	}()
	word, err := readWord(r, ended)
	switch reason, failed := strings.CutPrefix(word, wordFailed); {
	case word == wordReady || word == wordTaken:
		return nil
	case failed:
		return fmt.Errorf("the server of the pool %q cannot begin: %s", p.Name, reason)
	case err == nil:
		return fmt.Errorf("what was started as the server of the pool %q says %q, and is none: %s",
			p.Name, word, strings.Join(argv, " "))
	}
	return silent(p, server, ended)
}

// silent says what has become of a server that has said nothing. The end of its pipe comes a bit
// before that of its process.
func silent(p Place, server *exec.Cmd, ended <-chan struct{}) error {
	select {
	case <-ended:
		return fmt.Errorf("the server of the pool %q ended before it listened, with %v: run %s to see why",
			p.Name, server.ProcessState, strings.Join(server.Args, " "))
	case <-time.After(time.Second):
		return fmt.Errorf("the server of the pool %q (pid %d) has not said within %v that it listens: try again, "+
			"or end it with kill %d", p.Name, server.Process.Pid, patience, server.Process.Pid)
	}
}

func launch(argv []string, ready *os.File) (*exec.Cmd, error) {
	path, err := filepath.Abs(argv[0]) // the server's directory is another
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: argv, Dir: "/",
		Env:         append(serverEnv(os.Environ()), readyVar+"="+strconv.Itoa(readyFD)),
		ExtraFiles:  []*os.File{ready}, // the first one becomes readyFD
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	return cmd, cmd.Start()
}

func serverEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(notForServer, name)
	})
}

// readWord reads the word of a server. Its process may end while others hold the pipe open.
func readWord(r *os.File, ended <-chan struct{}) (string, error) {
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	read := make(chan struct{})
	defer close(read)
	go func() {
		select {
		case <-ended: // what it has said is in the pipe
			_ = r.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		case <-read:
		}
	}()
	var word []byte
	for piece := make([]byte, 4<<10); len(word) < longestWord; {
		n, err := r.Read(piece)
		word = append(word, piece[:n]...)
		if w, _, whole := bytes.Cut(word, []byte{0}); whole {
			return string(w), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("more than %d bytes: %w", longestWord, io.ErrShortBuffer)
}

// Open connects to the server of a pool, and starts it by argv if there is none, see Start. Of
// many clients that do so at the same time all get the same server. It gives up after ten seconds.
// The errors are those of Dial and Start, but for ErrNoServer.
func Open(ctx context.Context, p Place, version string, argv []string) (*Client, error) {
	until := time.Now().Add(patience)
	for {
		c, err := Dial(ctx, p, version)
		if !errors.Is(err, ErrNoServer) {
			return c, err
		}
		if err := Start(p, argv); err != nil {
			return nil, err
		}
		c, err = Dial(ctx, p, version)
		if !errors.Is(err, ErrNoServer) {
			return c, err
		}
		if time.Now().After(until) {
			return nil, unreachable(p)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("connect to the pool %q: %w", p.Name, err)
		}
	}
}

// unreachable says that the lock is held by a server to which nobody can connect.
func unreachable(p Place) error {
	who := "its pid is not known"
	if lock, err := os.Open(p.Lock); err == nil {
		who = holder(lock)
		_ = lock.Close()
	}
	return fmt.Errorf("the server of the pool %q (%s) holds the lock %s, but does not listen on %s, "+
		"or ends again and again: end it with kill, and try again", p.Name, who, p.Lock, p.Socket)
}

// Ready tells Start that the server listens, or why it does not: ErrTaken is good news there.
// Before that it closes what else the process has inherited, and would hold open for hours, such as
// the lock of a shell script. It must come before the server starts a child. In a process that was
// not started by Start, or the second time, it does nothing.
//
// It is the server that closes them, and not the client that keeps them back: the client may start
// commands of its own meanwhile that need theirs, such as the jobserver of make.
func Ready(err error) {
	if os.Getenv(readyVar) != strconv.Itoa(readyFD) {
		return
	}
	_ = os.Unsetenv(readyVar)
	closeInherited()
	word := wordReady
	switch {
	case errors.Is(err, ErrTaken):
		word = wordTaken
	case err != nil:
		word = wordFailed + strings.ReplaceAll(err.Error(), "\x00", "?")
	}
	pipe := os.NewFile(readyFD, "ready")
	_, _ = pipe.Write(append([]byte(word), 0)) // if nobody waits any more nobody needs it
	_ = pipe.Close()
}

// closeInherited closes the descriptors of others above readyFD, and keeps that from children. All
// that this process has opened itself is closed on exec, as Go does it.
func closeInherited() {
	for _, fd := range openDescriptors() {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		switch {
		case err != nil || flags&unix.FD_CLOEXEC != 0:
		case fd == readyFD:
			unix.CloseOnExec(fd)
		case fd > readyFD:
			_ = unix.Close(fd)
		}
	}
}

// openDescriptors lists the descriptors that are open, and perhaps some that are not.
func openDescriptors() (list []int) {
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if fd, err := strconv.Atoi(e.Name()); err == nil {
				list = append(list, fd)
			}
		}
		return list
	}
	for fd := range 1024 {
		list = append(list, fd)
	}
	return list
}
