package gpool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"gpool/internal/pool/hub/wire"
)

// Listener takes connections of other processes, also on other machines: Python's multiprocessing.connection.Listener. Each is a [Conn]. It is a hub
// of its own, of which the ends are pipes; so what was sent before Accept is there, and an accepted end may travel as every handle.
type Listener struct {
	manager *Manager
	waiting Queue[Conn]
	closed  atomic.Bool
}

// accepted is the queue by which ends arrive.
const accepted = "accept"

// Listen listens at an address as [ListenManager] has them, with the same keys. An address that is in use is syscall.EADDRINUSE.
func Listen(address string, key []byte) (*Listener, error) {
	m, err := ListenManager(address, key)
	if err != nil {
		return nil, err
	}
	return &Listener{manager: m, waiting: NewQueue[Conn](m, 0, Named(accepted))}, nil
}

// Accept returns the next connection, and waits for one until ctx ends, or the listener is closed: [ErrClosed].
func (l *Listener) Accept(ctx context.Context) (Conn, error) {
	c, err := l.waiting.Get(ctx)
	if l.closed.Load() && errors.Is(err, ErrHubGone) {
		err = ErrClosed
	}
	return c, err
}

// Address is where it listens.
func (l *Listener) Address() string { return l.manager.Address() }

// Close ends the listener and all of its connections. Twice is fine.
func (l *Listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	return l.manager.Close()
}

// Dial connects with a [Listener]. The end that it returns is closed when its process ends.
func Dial(ctx context.Context, address string, key []byte) (Conn, error) {
	m, err := DialManager(ctx, address, key)
	if err != nil {
		return Conn{}, err
	}
	theirs, ours := newPipe(m, bothWays, bothWays)
	if _, err := ours.call(ctx, ours.touch()); err != nil && !refused(err, wire.FaultBusy) {
		return Conn{}, err
	}
	if err := NewQueue[Conn](m, 0, Named(accepted)).Put(ctx, theirs); err != nil {
		return Conn{}, fmt.Errorf("gpool: connect with the listener at %s: %w", address, err)
	}
	return ours, nil
}

// touch makes a request that only notes that this process uses the end.
func (c Conn) touch() *wire.Request {
	r, _ := c.ask(wire.PipePoll)
	return r
}

// AuthKey makes a key that nobody guesses.
func AuthKey() []byte { return []byte(rand.Text() + rand.Text()) }
