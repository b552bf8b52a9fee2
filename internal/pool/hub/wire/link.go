package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
)

var (
	// ErrGone says that the connection to a hub has ended. What was asked may have been done or not.
	ErrGone = errors.New("the connection to the hub has ended")
	// ErrNoHub says that nobody listens at the address of a hub.
	ErrNoHub = errors.New("nobody listens there")
)

// ForeignError says that a process of another user listens where a hub of ours should be. Nothing
// was sent to it.
type ForeignError struct{ UID int }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("belongs to the user with the id %d: without a key only a hub of your own will do", e.UID)
}

const (
	answerTime = 10 * time.Second // in which a hub answers what was given up
	byeTime    = time.Second      // in which it hears that a member leaves
)

// ping is answered at once by the hub's side of the connection.
const ping Op = "hub.ping"

// Link is a member's connection to a hub. Its methods may be called from any goroutines. Two
// goroutines belong to it, which end with the connection.
type Link struct {
	address  Address
	conn     *conn
	peer     Peer
	out      *sender
	patience time.Duration // for answers to what was given up
	done     chan struct{} // closed when the connection has ended and err is set
	wrote    chan struct{} // closed when the writing goroutine has ended
	err      error
	rights   []byte   // of the reader's: has room for one descriptor
	received *os.File // of the reader's: the last one that came

	expected atomic.Int32 // calls that wait
	quick    atomic.Bool  // the last one was answered soon
	asleep   atomic.Bool  // the reader waits for bytes as long as it takes

	mu      sync.Mutex // guards what follows
	last    uint64     // id of a request
	waiting map[uint64]*waiter
}

// waiter is a call that waits for its reply. It is used again.
type waiter struct {
	ready chan struct{} // has room for one
	reply Reply
	file  *os.File // that came with the reply
	files bool     // it wants one
}

var waiters = sync.Pool{New: func() any { return &waiter{ready: make(chan struct{}, 1)} }}

// Dial connects to the hub at a, and both make sure of each other; it takes 5 seconds at most. The errors
// wrap ErrNoHub, ErrKey, ErrKeyNeeded, ErrKeyUnknown, ErrUnproven, a *VersionError or a *ForeignError
// where it is one of these, and the cause of ctx if that ends.
func Dial(ctx context.Context, a Address, key Key) (*Link, error) {
	l, err := dial(ctx, a, key)
	switch {
	case err == nil:
		return l, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case says(err):
		return nil, fmt.Errorf("the hub at %s %w", a, err)
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("connect to the hub at %s: it has not answered for %v: its process may be stopped, or the machine too busy", a, greetTime)
	case ended(err):
		return nil, fmt.Errorf("connect to the hub at %s: it has hung up: it may be about to end, or serve other users only: %w", a, err)
	}
	return nil, fmt.Errorf("connect to the hub at %s: %w", a, err)
}

// says reports whether err continues the sentence "the hub at X ...".
func says(err error) bool {
	for _, e := range []error{ErrKey, ErrKeyNeeded, ErrKeyUnknown, ErrUnproven, errNoHub} {
		if errors.Is(err, e) {
			return true
		}
	}
	var version *VersionError
	var foreign *ForeignError
	return errors.As(err, &version) || errors.As(err, &foreign)
}

func dial(ctx context.Context, a Address, key Key) (*Link, error) {
	if _, err := ParseAddress(string(a)); err != nil {
		return nil, err
	}
	if err := key.Usable(a.Local()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	for tries := 1; ; tries++ {
		l, err := dialOnce(ctx, a, key)
		if err == nil || tries == dialTries || !ended(err) || ctx.Err() != nil {
			return l, err
		}
	}
}

// dialTries is how often a connection is tried that ends while it is greeted: a hub that many strangers come to at once
// hangs up on those that have waited longest.
const dialTries = 5

func dialOnce(ctx context.Context, a Address, key Key) (*Link, error) {
	c, err := reach(ctx, a)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	who, err := meet(ctx, c, key)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return newLink(a, c, who), nil
}

// reach connects. It tries again while the queue of a Unix socket is full.
func reach(ctx context.Context, a Address) (*conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	for {
		c, err := d.DialContext(ctx, a.network(), a.place())
		switch {
		case err == nil:
			limitSilence(c)
			if a.scheme() == "tls" { // see secure for why any certificate will do
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			}
			return newConn(c), nil
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
			return nil, fmt.Errorf("%w: %w", ErrNoHub, err)
		case !errors.Is(err, syscall.EAGAIN):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// meet makes sure of the hub before a byte goes there, greets it, and says who it is.
func meet(ctx context.Context, c *conn, key Key) (Peer, error) {
	pid, uid, err := c.owner()
	if err != nil {
		return Peer{}, fmt.Errorf("ask whose the socket is: %w", err)
	}
	if key == nil && uid != os.Geteuid() {
		return Peer{}, &ForeignError{UID: uid}
	}
	channel, err := c.secure(ctx)
	if err != nil {
		return Peer{}, err
	}
	hello, err := greetHub(c, key, channel)
	return c.describe(pid, uid, hello), err
}

// newLink takes over a connection on which both have greeted.
func newLink(a Address, c *conn, who Peer) *Link {
	l := &Link{
		address: a, conn: c, peer: who, out: newSender(c, 0, 0), patience: answerTime, rights: make([]byte, unix.CmsgSpace(4)),
		done: make(chan struct{}), wrote: make(chan struct{}), waiting: make(map[uint64]*waiter),
	}
	l.quick.Store(true)
	go func() { defer close(l.wrote); l.out.run() }()
	go l.read()
	return l
}

// Call asks the hub and waits for the answer. A refusal is a *Fault, and the end of the connection
// wraps ErrGone. When ctx ends the request is given up, and the hub asked what became of it: what
// it has granted meanwhile is returned as if nothing had happened, so that nothing is lost; else the error is the
// cause of ctx. A hub that does not answer that within 10 seconds is left.
func (l *Link) Call(ctx context.Context, r *Request) (Reply, error) {
	reply, f, err := l.call(ctx, r)
	if f != nil {
		_ = f.Close()
	}
	return reply, err
}

// File is the file of the hub's shared memory, for the caller to close. It is a *Fault with
// FaultNoMemory if the hub has none, or it cannot travel: files do only through a Unix socket.
func (l *Link) File(ctx context.Context) (*os.File, error) {
	_, f, err := l.call(ctx, &Request{Op: MemFile})
	if err == nil && f == nil {
		err = &Fault{Code: FaultNoMemory, Text: fmt.Sprintf("the hub at %s has sent no file of its memory", l.address)}
	}
	return f, err
}

func (l *Link) call(ctx context.Context, r *Request) (Reply, *os.File, error) {
	if ctx.Err() != nil {
		return Reply{}, nil, context.Cause(ctx)
	}
	w := waiters.Get().(*waiter)
	w.reply, w.file, w.files = Reply{}, nil, r.Op == MemFile
	id := l.open(w)
	from := time.Now()
	l.expected.Add(1)
	defer func() {
		l.expected.Add(-1)
		l.quick.Store(time.Since(from) < shortWait)
	}()
	if err := l.out.request(id, r, false); err != nil {
		return l.unsent(id, r, err)
	}
	l.rouse()
	select {
	case <-w.ready:
	case <-l.done:
		return l.lost(w)
	case <-ctx.Done():
		if err := l.giveUp(id, r.Op, w); err != nil {
			return Reply{}, nil, err
		}
		if w.reply.Fault == FaultCancelled {
			waiters.Put(w)
			return Reply{}, nil, context.Cause(ctx)
		}
	}
	return w.take()
}

// take takes the reply out of a waiter, which is used no more.
func (w *waiter) take() (Reply, *os.File, error) {
	reply, f := w.reply, w.file
	w.reply, w.file = Reply{}, nil
	waiters.Put(w)
	return reply, f, reply.Err()
}

// open gives a request its id.
func (l *Link) open(w *waiter) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.waiting[l.last] = w
	return l.last
}

// unsent says why a request did not leave.
func (l *Link) unsent(id uint64, r *Request, err error) (Reply, *os.File, error) {
	l.mu.Lock()
	delete(l.waiting, id)
	l.mu.Unlock()
	if l.out.broken() {
		<-l.done // it closes the connection, which the reader sees
		return Reply{}, nil, l.gone()
	}
	return Reply{}, nil, fmt.Errorf("ask the hub at %s for %s: %w", l.address, r.Op, err)
}

// lost returns the reply if it came just before the end of the connection.
func (l *Link) lost(w *waiter) (Reply, *os.File, error) {
	select {
	case <-w.ready:
		return w.take()
	default:
		return Reply{}, nil, l.gone()
	}
}

// gone says how the connection ended. It must have.
func (l *Link) gone() error {
	if l.err != nil {
		return fmt.Errorf("%w: %w", ErrGone, l.err)
	}
	return ErrGone
}

// giveUp cancels a request and waits for its reply.
func (l *Link) giveUp(id uint64, op Op, w *waiter) error {
	_ = l.out.numbers(ipc.KindCancel, id) // if it cannot be sent the connection ends
	for {
		limit := time.NewTimer(l.patience)
		select {
		case <-w.ready:
			limit.Stop()
			return nil
		case <-l.done:
			limit.Stop()
			select {
			case <-w.ready: // just before the end
				return nil
			default:
				return l.gone()
			}
		case <-limit.C:
		}
		// Whoever waits for a condition gets its lock back before the answer, however long that takes.
		if op != CondWait || !l.alive() {
			l.hangUp(fmt.Errorf("the hub at %s has not answered for %v", l.address, l.patience))
		}
	}
}

// alive reports whether the hub answers anything at all.
func (l *Link) alive() bool {
	ctx, cancel := context.WithTimeout(context.Background(), l.patience)
	defer cancel()
	w := &waiter{ready: make(chan struct{}, 1)}
	if l.out.request(l.open(w), &Request{Op: ping}, false) != nil {
		return false
	}
	select {
	case <-w.ready:
		return true
	case <-l.done:
	case <-ctx.Done():
	}
	return false
}

// Send asks the hub for something without an answer; nobody is told if it is refused. It returns
// when the bytes have been handed to the kernel, so that the process may end.
func (l *Link) Send(r *Request) error {
	if err := l.out.request(0, r, true); err != nil {
		_, _, err = l.unsent(0, r, err)
		return err
	}
	return nil
}

// hangUp ends the connection with an error.
func (l *Link) hangUp(err error) {
	l.out.mu.Lock()
	l.out.fail(err)
	l.out.mu.Unlock()
	<-l.done
}

// read is the goroutine that receives.
func (l *Link) read() {
	defer close(l.done)
	var source io.Reader = l.conn
	if l.conn.unix != nil {
		source = (*fileReader)(l)
	}
	err := l.receive(ipc.NewReader(source, frames))
	if why := l.out.stop(); why != nil && !ended(why) {
		err = why
	}
	if !ended(err) {
		l.err = err
	}
	l.keep(nil)
}

func (l *Link) receive(r *ipc.Reader) error {
	var m ipc.Message
	d := ipc.NewDecoder()
	for {
		if err := r.Next(&m); err != nil {
			return err
		}
		if m.Kind >= ipc.FirstOptional {
			continue
		}
		if m.Kind != ipc.KindReply {
			return fmt.Errorf("it sent a frame of kind %d, and only answers were expected", m.Kind)
		}
		if err := l.take(d, m.Answer); err != nil {
			return err
		}
	}
}

// take hands an answer to the call that waits for it.
func (l *Link) take(d *ipc.Decoder, a ipc.Answer) error {
	l.mu.Lock()
	w := l.waiting[a.ID]
	delete(l.waiting, a.ID)
	l.mu.Unlock()
	if w == nil {
		return fmt.Errorf("it answered the request %d, which is not open", a.ID)
	}
	if err := decodeReply(d, a, &w.reply); err != nil {
		return err
	}
	if w.files && w.reply.Fault == "" {
		w.file, l.received = l.received, nil
	}
	w.ready <- struct{}{}
	return nil
}

// fileReader reads from a Unix socket with room for a descriptor. A hub sends one with the first
// byte of an answer only; those that nobody has asked for are closed.
type fileReader Link

func (f *fileReader) Read(b []byte) (int, error) {
	l := (*Link)(f)
	n, got, err := l.receiveSome(b)
	if got > 0 {
		l.keepRights(l.rights[:got])
	}
	return n, err
}

// receiveSome waits for bytes, awake for a moment if somebody expects a quick answer.
func (l *Link) receiveSome(b []byte) (n, got int, err error) {
	for {
		if l.expected.Load() > 0 && l.quick.Load() {
			if n, got, none, err := l.conn.eager(b, l.rights); !none {
				return n, got, err
			}
		}
		l.asleep.Store(true)
		n, got, _, _, err = l.conn.unix.ReadMsgUnix(b, l.rights)
		l.asleep.Store(false)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, got, err
		}
		if err := l.conn.SetReadDeadline(time.Time{}); err != nil { // it was roused
			return 0, 0, err
		}
	}
}

// rouse has the reader look out for an answer that is expected within moments.
func (l *Link) rouse() {
	if l.quick.Load() && l.asleep.Load() {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // the reader takes it back; it fails only at the end
	}
}

// keepRights keeps the last of the descriptors that came, which are closed on exec.
func (l *Link) keepRights(rights []byte) {
	messages, _ := unix.ParseSocketControlMessage(rights)
	for i := range messages {
		list, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range list {
			l.keep(os.NewFile(uintptr(fd), "memory of the hub"))
		}
	}
}

func (l *Link) keep(f *os.File) {
	if l.received != nil {
		_ = l.received.Close()
	}
	l.received = f
}

// Inheritable is a copy of the descriptor of the connection that a child process inherits under its number: the hub
// keeps what this member has until all who have a copy have closed it, or Close is called on this Link. The number is above those that scripts
// use themselves (exec 9>file), as far as the limit of the process allows. Nothing may be read from it or written to it. The caller closes it.
func (l *Link) Inheritable() (fd int, err error) {
	sc, ok := l.conn.under.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("hand on the connection to the hub at %s: it has no descriptor", l.address)
	}
	raw, err := sc.SyscallConn()
	if err == nil {
		e := raw.Control(func(own uintptr) {
			if fd, err = unix.FcntlInt(own, unix.F_DUPFD, highFD); err != nil {
				fd, err = unix.Dup(int(own))
			}
		})
		err = errors.Join(err, e)
	}
	if err != nil {
		return -1, fmt.Errorf("copy the descriptor of the connection to the hub at %s: %w", l.address, err)
	}
	return fd, nil
}

// highFD is above what scripts number themselves.
const highFD = 200

// Close leaves the hub, whoever still has a copy of the connection. When it returns the hub has
// given back what this member held, unless it has not answered for a second. Calls that wait
// end with ErrGone. It may be called more than once.
func (l *Link) Close() error {
	if l.out.numbers(ipc.KindBye, 0) == nil {
		limit := time.NewTimer(byeTime)
		defer limit.Stop()
		select {
		case <-l.done: // the hub has closed its end
		case <-limit.C:
		}
	}
	if c, ok := l.conn.under.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // for all who have a copy, should the bye not have left
	}
	_ = l.out.stop()
	<-l.done
	<-l.wrote
	return nil
}

// Done is closed when the connection has ended, from either side.
func (l *Link) Done() <-chan struct{} { return l.done }

// Peer says who the hub is.
func (l *Link) Peer() Peer { return l.peer }
