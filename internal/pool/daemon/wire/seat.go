package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/peer"
)

// ErrTaken says that a pool has a server already.
var ErrTaken = errors.New("it has a server already")

// Seat is the right to be the server of a pool: its lock, and its socket. One process has it at
// a time, until Close or its end, whatever that is.
type Seat struct {
	place    Place
	lock     *os.File
	listener *net.UnixListener
	socket   fs.FileInfo // of the listener
	closed   chan struct{}
	close    func() error // once
}

// Claim makes this process the server of a pool, whose clients can connect from now on. It fails
// with ErrTaken, wrapped, if there is one. What a server that was killed has left is removed.
func Claim(p Place) (*Seat, error) {
	lock, err := claimLock(p.Lock)
	if err != nil {
		return nil, fmt.Errorf("become the server of the pool %q: %w", p.Name, err)
	}
	listener, err := listen(p.Socket)
	if err == nil {
		err = notePid(lock)
	}
	if err != nil {
		if listener != nil {
			_ = os.Remove(p.Socket)
			_ = listener.Close()
		}
		_ = lock.Close() // the file stays: the next one takes it over
		return nil, fmt.Errorf("become the server of the pool %q: %w", p.Name, err)
	}
	s := &Seat{place: p, lock: lock, listener: listener, closed: make(chan struct{})}
	s.socket, _ = os.Lstat(p.Socket)
	s.close = sync.OnceValue(s.leave)
	return s, nil
}

// ClaimSpool makes the spool of a pool, and makes it ours until the file that it returns is
// closed. It fails with ErrTaken, wrapped, if a server lives that has lost its seat, since somebody has
// removed the folder with it, as a logout may do: see Recall.
func (p Place) ClaimSpool() (*os.File, error) {
	if err := p.MakeSpool(); err != nil {
		return nil, err
	}
	lock, err := claimLock(p.spoolLock())
	if err == nil {
		err = notePid(lock)
	}
	if err != nil {
		return nil, fmt.Errorf("become the owner of the spool of the pool %q: %w", p.Name, err)
	}
	return lock, nil
}

// Holds reports whether the spool is still there that a lock of ClaimSpool is of.
func (p Place) Holds(lock *os.File) bool { return isAt(lock, p.spoolLock()) }

func (p Place) spoolLock() string { return filepath.Join(p.Spool, "lock") }

// Recall asks the owner of a spool to take its seat again, which must be free: with SIGHUP.
func (p Place) Recall() {
	if lock, err := os.Open(p.spoolLock()); err == nil {
		defer lock.Close()
		if unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
			return // nobody has it, and the pid in it is that of somebody else by now
		}
	}
	b, err := os.ReadFile(p.spoolLock())
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(string(b)); err == nil && pid > 1 {
		_ = unix.Kill(pid, unix.SIGHUP)
	}
}

// claimLock takes the lock. A server that ends removes the file that it has locked, so that what
// was locked here may be a file that nobody else will find: then it is tried again.
func claimLock(path string) (*os.File, error) {
	for {
		lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w (%s)", ErrTaken, holder(lock))
		}
		if err == nil && isAt(lock, path) {
			return lock, nil
		}
		_ = lock.Close()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// isAt reports whether path still is the file f.
func isAt(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Lstat(path)
	return err == nil && os.SameFile(ours, theirs)
}

// notePid writes our pid into the lock file, for the messages of those who find it locked.
func notePid(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

// holder names the process that has noted its pid in a lock file.
func holder(lock *os.File) string {
	b := make([]byte, 20)
	n, _ := lock.ReadAt(b, 0)
	if pid, err := strconv.ParseUint(strings.TrimSpace(string(b[:n])), 10, 31); err == nil {
		return fmt.Sprintf("pid %d", pid)
	}
	return "its pid is not known"
}

// listen replaces the socket of a server that has gone. The lock is held; but where old files are
// swept out of /tmp the lock file of a living server may have gone, too, and its socket still answers.
func listen(socket string) (*net.UnixListener, error) {
	info, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way, and no socket (%v): remove it", socket, info.Mode())
	default:
		if answers(socket) {
			return nil, fmt.Errorf("%w, which has lost its lock file", ErrTaken)
		}
		if err := os.Remove(socket); err != nil {
			return nil, err
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // Close removes it first
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = os.Remove(socket)
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// answers reports whether a process listens on a socket. EAGAIN is one whose queue is full.
func answers(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil || errors.Is(err, syscall.EAGAIN)
}

// Accept waits for the next connection of our own user; those of others are closed without a word.
// After Close its error is net.ErrClosed, wrapped. If the system is short of descriptors or memory
// it waits until there are some.
func (s *Seat) Accept() (*net.UnixConn, error) {
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			if _, uid, err := peer.Of(conn); err == nil && uid == os.Geteuid() {
				return conn, nil
			}
			_ = conn.Close()
		case !passes(err):
			return nil, fmt.Errorf("accept connections to the pool %q: %w", s.place.Name, err)
		default:
			s.rest()
		}
	}
}

// passes reports whether an error of accept is of the moment.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Seat) rest() {
	select {
	case <-s.closed:
	case <-time.After(50 * time.Millisecond):
	}
}

// Close gives the seat up. Clients that come later find no server, and may start one, which gets
// the seat only when all of this is done; so we must be done with the spool before. Connections
// that were accepted stay. It may be called more than once.
func (s *Seat) Close() error { return s.close() }

// leave removes the socket first, so that nobody connects to a queue that is not served any more,
// and the lock file while it is locked: once it is not, it may be another server's.
func (s *Seat) leave() error {
	close(s.closed)
	errs := []error{s.listener.Close()}
	if there, err := os.Lstat(s.place.Socket); err == nil && s.socket != nil && os.SameFile(there, s.socket) {
		errs = append(errs, remove(s.place.Socket)) // else it is that of a server after us
	}
	if isAt(s.lock, s.place.Lock) {
		errs = append(errs, remove(s.place.Lock))
	}
	if err := errors.Join(append(errs, s.lock.Close())...); err != nil {
		return fmt.Errorf("give up the socket and the lock of the pool %q: %w", s.place.Name, err)
	}
	return nil
}

// remove removes a file that may have gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
