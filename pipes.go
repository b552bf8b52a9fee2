package gpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"gpool/internal/pool/hub/wire"
)

// Conn is one end of a pipe between processes: it sends and receives messages, whole, in order. Any number of processes may use one end; a message is received once.
//
// An end is closed by Close, and when the last process that has used it ends. Then the other end receives what is left, and after that [io.EOF]; sending
// to it is [io.ErrClosedPipe]. So close the end that you have passed on, if you have used it.
type Conn struct{ ref }

// The directions of an end, in the handle.
const (
	bothWays = "both"
	readOnly = "read"
	sendOnly = "send"
)

// The errors of an end that goes one way.
var (
	ErrReadOnly  = errors.New("gpool: this end of the pipe only receives")
	ErrWriteOnly = errors.New("gpool: this end of the pipe only sends")
)

// pipeRoom is how many bytes of messages wait in one direction before Send does.
const pipeRoom = 1 << 20

// Pipe makes a pipe and returns its ends: Python's Pipe(). In each direction 1 MiB of messages may wait, or one that is longer.
func Pipe(h Hub) (a, b Conn) { return newPipe(h, bothWays, bothWays) }

// OneWayPipe makes a pipe in one direction, as Python's Pipe(duplex=False): what w sends r receives.
func OneWayPipe(h Hub) (r, w Conn) { return newPipe(h, readOnly, sendOnly) }

func newPipe(h Hub, first, second string) (a, b Conn) {
	end := newHandle(h, "pipe", pipeRoom, nil)
	return Conn{end.side(0, first)}, Conn{end.side(1, second)}
}

// side is one end of a pipe.
func (h ref) side(n int, way string) ref {
	return ref{&object{post: h.at.post, kind: h.at.kind, name: h.at.name, init: h.at.init, more: fmt.Sprintf("%d%s", n, way)}}
}

// ask makes a request of one end, if it goes this way.
func (c Conn) ask(op wire.Op) (*wire.Request, error) {
	r := c.request(op)
	if c.at == nil {
		return r, ErrNoHandle
	}
	if len(c.at.more) != 5 || c.at.more[0] != '0' && c.at.more[0] != '1' {
		return r, fmt.Errorf("gpool: %q is no end of a pipe", c.at.more)
	}
	r.Side = c.at.more[0] - '0'
	switch way := c.at.more[1:]; {
	case way == readOnly && op == wire.PipeSend:
		return r, ErrReadOnly
	case way == sendOnly && (op == wire.PipeRecv || op == wire.PipePoll):
		return r, ErrWriteOnly
	}
	return r, nil
}

// pipeFault has the errors that Go programs expect of pipes.
func pipeFault(err error) error {
	fault, ok := errors.AsType[*wire.Fault](err)
	switch {
	case refused(err, wire.FaultBroken):
		return fmt.Errorf("%w: %w", io.ErrClosedPipe, err)
	case ok && fault.Code == wire.FaultEnd:
		return io.EOF
	}
	return err
}

// Send sends a value, which any process receives with [Receive]. It waits while the other end is behind by 1 MiB, until ctx ends; then it
// returns the cause of that, and nothing was sent.
func (c Conn) Send(ctx context.Context, v any) error {
	b, err := encodeShared(&v, c.ref)
	if err != nil {
		return err
	}
	return c.send(ctx, b)
}

// SendBytes sends bytes as they are; none is a message, too.
func (c Conn) SendBytes(ctx context.Context, b []byte) error {
	return c.send(ctx, append([]byte{}, b...))
}

func (c Conn) send(ctx context.Context, b []byte) error {
	r, err := c.ask(wire.PipeSend)
	if err != nil {
		return err
	}
	r.Wait, r.Values = true, [][]byte{b}
	_, err = c.call(ctx, r)
	return pipeFault(err)
}

// Receive receives a value from a [Conn], and waits for one until ctx ends; then it returns the cause of that, and no message is lost. After the last message of an end that
// was closed the error is [io.EOF].
func Receive[T any](ctx context.Context, c Conn) (v T, err error) {
	b, err := c.ReceiveBytes(ctx, 0)
	if err == nil {
		err = decodeShared(b, &v, c.ref)
	}
	return v, err
}

// ReceiveBytes receives a message as it was sent, of so many bytes at most; 0 is any number. One that is longer is [ErrTooLong], and stays.
func (c Conn) ReceiveBytes(ctx context.Context, limit int) ([]byte, error) {
	r, err := c.ask(wire.PipeRecv)
	if err != nil {
		return nil, err
	}
	r.Wait, r.N = true, int64(limit)
	reply, err := c.call(ctx, r)
	if err != nil || len(reply.Values) == 0 {
		return nil, pipeFault(err)
	}
	return reply.Values[0], nil
}

// ReceiveInto receives a message into buf and returns its length. One that is longer than buf is [ErrTooLong], and stays.
func (c Conn) ReceiveInto(ctx context.Context, buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, fmt.Errorf("gpool: receive into no bytes: %w", ErrTooLong)
	}
	b, err := c.ReceiveBytes(ctx, len(buf))
	return copy(buf, b), err
}

// Poll waits until there is a message, or an end, and returns true; or false when ctx has ended before. It takes nothing: somebody else may receive the message.
func (c Conn) Poll(ctx context.Context) (bool, error) {
	r, err := c.ask(wire.PipePoll)
	if err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		ctx = context.Background() // it says at once how things are
	} else {
		r.Wait = true
	}
	_, err = c.call(ctx, r)
	if refused(err, wire.FaultBusy) || err != nil && ctx.Err() != nil {
		return false, nil
	}
	return err == nil, err
}

// Close closes this end, for all who use it. Twice is fine.
func (c Conn) Close() error {
	r, err := c.ask(wire.PipeClose)
	if err != nil {
		return err
	}
	_, err = c.call(context.Background(), r)
	return err
}

// WaitConns waits until one of some ends has a message or has ended, or until ctx ends, and returns those that have, in order; none, and
// no error, if ctx has ended first. Python calls it multiprocessing.connection.wait; for other things use select: Process.Done and Future.Done are channels.
func WaitConns(ctx context.Context, conns ...Conn) (ready []Conn, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var polls sync.WaitGroup
	is := make([]bool, len(conns))
	errs := make([]error, len(conns))
	for i, c := range conns {
		polls.Go(func() {
			if is[i], errs[i] = c.Poll(ctx); is[i] || errs[i] != nil {
				cancel()
			}
		})
	}
	polls.Wait()
	for i, c := range conns {
		if is[i] {
			ready = append(ready, c)
		}
	}
	return ready, errors.Join(errs...)
}

// MarshalBinary makes the handle a value that can travel.
func (c Conn) MarshalBinary() ([]byte, error) { return c.marshal() }

// MarshalText is [Conn.MarshalBinary], for JSON and the like.
func (c Conn) MarshalText() ([]byte, error) { return c.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (c *Conn) UnmarshalBinary(b []byte) error { return c.unmarshal(b, "pipe") }

// UnmarshalText reads what MarshalText has written.
func (c *Conn) UnmarshalText(text []byte) error { return c.UnmarshalBinary(text) }
