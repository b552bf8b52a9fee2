package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/peer"
	"gpool/internal/value"
)

var (
	// ErrNoServer says that nobody listens where a pool lives.
	ErrNoServer = errors.New("it has no server")
	// ErrServerGone says that the connection ended before the answer.
	ErrServerGone = errors.New("the server has gone")
)

// VersionError says that the server of a pool, or a client, is another gpool than this one.
type VersionError struct {
	Pool         string
	Pid          int // of the server
	Theirs, Ours string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the server of the pool %q (pid %d) is gpool %s, and this is gpool %s: "+
		"end it with the gpool that started it (gpool pool close && gpool pool join), or with kill %d, "+
		"which ends the calls that run and leaves those that wait to the next server", e.Pool, e.Pid, e.Theirs, e.Ours, e.Pid)
}

// ForeignError says that the socket of a pool belongs to another user. Nothing was sent to it.
type ForeignError struct {
	Socket string
	UID    int // whose it is
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("a process of the user with the id %d listens on %s, where a pool of yours should be: "+
		"set XDG_RUNTIME_DIR to a folder of your own", e.UID, e.Socket)
}

// Client is the client's side of a connection to the server of a pool. Its methods, and Ask, may be
// called from any goroutines. Two goroutines belong to it, which end with the connection.
type Client struct {
	conn *net.UnixConn
	pool string
	pid  int
	open chan struct{} // has an element for each question that is without an answer
	// out is what will be sent. It has room for every open question and its cancel, so that no one
	// has to wait for a server that does not read.
	out   chan func(*ipc.Encoder)
	done  chan struct{} // closed when the connection has ended and err is set
	wrote chan struct{} // closed when nothing is written any more
	err   error         // why the connection ended, if not in order

	mu      sync.Mutex
	last    uint64 // id of a question
	waiting map[uint64]chan<- ipc.Answer
}

// Dial connects to the server of a pool. It fails with ErrNoServer, wrapped, if nobody listens, or
// the server ends just now; with a *VersionError if it is another gpool; and with a *ForeignError
// if the socket belongs to another user. It takes some seconds if the server does not answer.
func Dial(ctx context.Context, p Place, version string) (*Client, error) {
	c, err := dial(ctx, p, version)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		var other *VersionError
		var foreign *ForeignError
		if !errors.As(err, &other) && !errors.As(err, &foreign) {
			err = fmt.Errorf("connect to the pool %q: %w", p.Name, err)
		}
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, p Place, version string) (*Client, error) {
	conn, err := connect(ctx, p.Socket)
	if err != nil {
		return nil, err
	}
	stop := interrupt(ctx, conn)
	defer stop()
	pid, err := greetServer(conn, p, version)
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return newClient(conn, p.Name, pid), nil
}

// newClient takes over a connection on which both have greeted.
func newClient(conn *net.UnixConn, pool string, pid int) *Client {
	c := &Client{
		conn: conn, pool: pool, pid: pid,
		open: make(chan struct{}, mostOpen), out: make(chan func(*ipc.Encoder), 2*mostOpen),
		done: make(chan struct{}), wrote: make(chan struct{}), waiting: make(map[uint64]chan<- ipc.Answer),
	}
	go c.read()
	go c.write()
	return c
}

// connect tries again while the queue of the socket is full.
func connect(ctx context.Context, socket string) (*net.UnixConn, error) {
	until := time.Now().Add(helloTime)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		switch {
		case err == nil:
			return conn.(*net.UnixConn), nil
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
			return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
		case !errors.Is(err, syscall.EAGAIN):
			return nil, err
		case time.Now().After(until):
			return nil, fmt.Errorf("its server does not accept connections on %s, too many wait already: %w", socket, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// greetServer makes sure that the server is ours before a byte goes there.
func greetServer(conn *net.UnixConn, p Place, version string) (pid int, err error) {
	pid, uid, err := peer.Of(conn)
	switch {
	case err != nil && ended(err):
		return 0, fmt.Errorf("%w: it ended just now", ErrNoServer)
	case err != nil:
		return 0, fmt.Errorf("ask whose the socket %s is: %w", p.Socket, err)
	case uid != os.Geteuid():
		return 0, &ForeignError{Socket: p.Socket, UID: uid}
	}
	hello, err := greet(conn, p.Name, version)
	if pid == 0 {
		pid = hello.Pid // it is in another namespace
	}
	var other *VersionError
	switch {
	case errors.As(err, &other):
		other.Pid = cmp.Or(pid, other.Pid)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, fmt.Errorf("its server (pid %d) has not answered for %v: it may be stopped (kill -CONT %d lets it go on), "+
			"or the machine may be too busy; kill -KILL %d ends it", pid, helloTime, pid, pid)
	case err != nil && ended(err):
		return 0, fmt.Errorf("%w: it ended just now", ErrNoServer)
	}
	return pid, err
}

// Ask asks the server a question and waits for the answer. A refusal is a *Fault; if the
// connection ends first the error is ErrServerGone, wrapped, and the question may have been heard
// or not. When ctx ends Ask returns its cause at once, and the server is told. Up to 64 questions
// are asked at once; more wait until one of these is answered.
func Ask[Q, A any](ctx context.Context, c *Client, m Method[Q, A], q Q) (A, error) {
	var a A
	payload, err := value.Append(nil, &q)
	if err == nil && len(payload) > limits.Message-1024 {
		err = errTooLong
	}
	if err != nil {
		return a, fmt.Errorf("put the question %q to the server of the pool %q into a message: %w", m, c.pool, err)
	}
	answer, err := c.ask(ctx, string(m), payload)
	switch {
	case err != nil && ctx.Err() != nil:
		return a, err
	case err != nil:
		return a, fmt.Errorf("ask the server of the pool %q (pid %d) to %s: %w", c.pool, c.pid, m, err)
	case answer.Message != "":
		return a, &Fault{Code: FaultCode(answer.Payload), Text: answer.Message}
	}
	if err := value.Decode(answer.Payload, &a); err != nil {
		return a, fmt.Errorf("read the answer to %q of the server of the pool %q (pid %d): %w", m, c.pool, c.pid, err)
	}
	return a, nil
}

func (c *Client) ask(ctx context.Context, method string, payload []byte) (ipc.Answer, error) {
	if err := c.admit(ctx); err != nil {
		return ipc.Answer{}, err
	}
	answer := make(chan ipc.Answer, 1)
	id := c.begin(answer)
	c.out <- func(e *ipc.Encoder) { e.Question(ipc.Question{ID: id, Method: method, Payload: payload}) }
	select {
	case a := <-answer:
		return a, nil
	case <-c.done:
	case <-ctx.Done():
	}
	select { // it may have come in the same moment
	case a := <-answer:
		return a, nil
	default:
	}
	if ctx.Err() == nil {
		return ipc.Answer{}, c.gone()
	}
	// The question stays open until the server has answered it all the same.
	c.out <- func(e *ipc.Encoder) { e.Numbers(ipc.KindCancel, ipc.Numbers{ID: id}) }
	return ipc.Answer{}, context.Cause(ctx)
}

// admit waits until one more question may be open.
func (c *Client) admit(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-c.done:
	case c.open <- struct{}{}:
		if ctx.Err() == nil {
			return nil
		}
		<-c.open
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.gone()
}

func (c *Client) begin(answer chan<- ipc.Answer) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.waiting[c.last] = answer
	return c.last
}

// gone says how the connection ended. It must have.
func (c *Client) gone() error {
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrServerGone, c.err)
	}
	return ErrServerGone
}

// write is the goroutine that sends. If it cannot, the reader is about to find the end; there may
// be answers before it.
func (c *Client) write() {
	defer close(c.wrote)
	s := newSender(c.conn, 0)
	for {
		select {
		case <-c.done:
			return
		case m := <-c.out:
			if s.send(m, func() {}) != nil {
				return
			}
		}
	}
}

// read is the goroutine that receives.
func (c *Client) read() {
	defer close(c.done)
	defer c.conn.Close() // also frees the writer
	r := ipc.NewReader(c.conn, limits)
	var m ipc.Message
	for {
		err := r.Next(&m)
		if err == nil && m.Kind < ipc.FirstOptional {
			err = c.take(&m)
		}
		if err != nil {
			if !ended(err) {
				c.err = err
			}
			return
		}
	}
}

func (c *Client) take(m *ipc.Message) error {
	if m.Kind != ipc.KindReply {
		return fmt.Errorf("it sent a frame of kind %d, and only answers were expected", m.Kind)
	}
	c.mu.Lock()
	answer := c.waiting[m.Answer.ID]
	delete(c.waiting, m.Answer.ID)
	c.mu.Unlock()
	if answer == nil {
		return fmt.Errorf("it answered the question %d, which is not open", m.Answer.ID)
	}
	a := m.Answer
	a.Payload = bytes.Clone(a.Payload)
	answer <- a
	<-c.open
	return nil
}

// Close ends the connection, and with it every question that waits and every call that is attached
// to it. It may be called more than once.
func (c *Client) Close() error {
	_ = c.conn.Close() // closed twice it fails, and is closed
	<-c.done
	<-c.wrote
	return nil
}

// Done is closed when the connection has ended, from either side.
func (c *Client) Done() <-chan struct{} { return c.done }

// Pid is the id of the server's process.
func (c *Client) Pid() int { return c.pid }
