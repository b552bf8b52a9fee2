package admit

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tokens is the jobserver as a keeper sees it: it never waits for a token. To set O_NONBLOCK on a
// pipe that was inherited would set it for make too, so the pipe is opened anew where that can
// be done, and else a relay waits in our place.
type tokens struct {
	read, write int
	relay       *relay // nil: read is ours alone, and does not block
}

func openTokens(address string) (*tokens, error) {
	auth, err := parseAuth(address)
	if err != nil {
		return nil, err
	}
	if err := auth.Check(); err != nil {
		return nil, err
	}
	if auth.Path == "" {
		if fd, err := reopen(auth.Read); err == nil {
			return &tokens{read: fd, write: auth.Write}, nil
		}
		return relayed(auth.Read, auth.Write)
	}
	t := &tokens{}
	// In this order: a pipe without a reader cannot be opened for writing without waiting.
	if t.read, err = unix.Open(auth.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		t.write, err = unix.Open(auth.Path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open the jobserver's pipe %s: %w", auth.Path, err)
	}
	return t, nil
}

// poll returns the descriptor that is readable when there is a token; wanted says whether one is.
func (t *tokens) poll(wanted bool) int {
	switch {
	case t.relay != nil:
		t.relay.want(wanted)
		return t.read
	case wanted:
		return t.read
	}
	return -1
}

// take reads a token; false if there is none.
func (t *tokens) take() (token byte, ok bool, err error) {
	var buf [1]byte
	n, err := retried(func() (int, error) { return unix.Read(t.read, buf[:]) })
	switch {
	case n == 1:
		return buf[0], true, nil
	case err == unix.EAGAIN:
		return 0, false, nil
	case err == nil:
		err = errors.New("it has ended")
	}
	return 0, false, fmt.Errorf("read a token from the jobserver: %w", err)
}

// giveBack writes a token. The pipe has room for it, which it has come from; if somebody else
// filled it, this waits.
func (t *tokens) giveBack(token byte) error {
	for {
		_, err := retried(func() (int, error) { return unix.Write(t.write, []byte{token}) })
		if err == nil {
			return nil
		}
		if err != unix.EAGAIN {
			return fmt.Errorf("write a token back to the jobserver: %w", err)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(t.write), Events: unix.POLLOUT}}, 1000)
	}
}

// close stops to take tokens, and returns those that had been taken for nobody.
func (t *tokens) close() (late []byte) {
	if t.relay == nil {
		return nil
	}
	t.relay.end()
	for {
		token, ok, _ := t.take()
		if !ok {
			return late
		}
		late = append(late, token)
	}
}

// relay reads tokens from a pipe that blocks and is not ours, into one that is and does not. It
// looks before it reads, but if somebody takes the token in between, it is stuck until there is
// another one; so it has a goroutine of its own, and the keeper's end does not wait for it.
// Then a token could be lost: if it comes in the very moment in which the process exits.
type relay struct {
	from, to int
	wanted   atomic.Bool
	asked    chan struct{} // holds one; closed at the end
	done     chan struct{}
}

func relayed(read, write int) (*tokens, error) {
	var private [2]int
	if err := unix.Pipe(private[:]); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	if err := unix.SetNonblock(private[0], true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	r := &relay{from: read, to: private[1], asked: make(chan struct{}, 1), done: make(chan struct{})}
	go r.run()
	return &tokens{read: private[0], write: write, relay: r}, nil
}

// want says whether a token is wanted.
func (r *relay) want(wanted bool) {
	if r.wanted.Swap(wanted) == wanted || !wanted {
		return
	}
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

func (r *relay) run() {
	defer close(r.done)
	for range r.asked {
		for r.wanted.Load() {
			if err := r.move(); err != nil {
				_ = unix.Close(r.to) // the keeper sees an end, and says so
				return
			}
		}
	}
}

// move moves one token, if one comes within a short time: the wish for it may have ended.
func (r *relay) move() error {
	fds := []unix.PollFd{{Fd: int32(r.from), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 50); err == unix.EINTR || n == 0 && err == nil || !r.wanted.Load() {
		return nil
	}
	var token [1]byte
	n, err := retried(func() (int, error) { return unix.Read(r.from, token[:]) })
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil || n == 0:
		return errors.Join(errors.New("the jobserver has ended"), err)
	}
	r.wanted.Store(false) // until the keeper, which has seen this one, wants another
	_, err = unix.Write(r.to, token[:])
	return err
}

// end lets the relay go, and waits for it unless it is stuck.
func (r *relay) end() {
	r.wanted.Store(false)
	close(r.asked)
	select {
	case <-r.done:
	case <-time.After(200 * time.Millisecond):
	}
}
