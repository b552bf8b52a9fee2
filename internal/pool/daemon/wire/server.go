package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/peer"
	"gpool/internal/value"
)

// answerTime is how long an answer may take to leave: a client that does not read must not hold
// the server's memory for ever.
const answerTime = 30 * time.Second

var (
	errClientGone = errors.New("the client has gone")
	errGivenUp    = errors.New("the client has given up the question")
)

// Mux is what a server does with questions. The zero value refuses all of them; Handle adds to it,
// before the first Serve. Serve may then be called from any goroutines.
type Mux struct {
	handlers map[string]handler
	// Came is told of each client once it has said hello, and Gone when its connection has
	// ended and its questions are answered; nil are told nothing. They are called by Serve.
	Came, Gone func(*Peer)
}

// handler answers the encoded question q with an encoded answer.
type handler func(ctx context.Context, c *Peer, q []byte) ([]byte, error)

// Peer is a client with a connection, of which it is one each: peers are compared as pointers.
type Peer struct {
	Pid, UID int // from the kernel; Pid is 0 if it does not know

	ctx context.Context
}

// Context ends with the connection.
func (p *Peer) Context() context.Context { return p.ctx }

// Handle has f answer questions of one method. Calls of f are concurrent. ctx ends when the client
// gives the question up, and with the connection; f must then return, and what it returns is sent
// if somebody is still there. An error that is no *Fault travels as FaultBroken with its text, as
// does a panic: one bad question must not end all calls of a pool.
func Handle[Q, A any](m *Mux, method Method[Q, A], f func(ctx context.Context, c *Peer, q Q) (A, error)) {
	if m.handlers == nil {
		m.handlers = make(map[string]handler)
	}
	if m.handlers[string(method)] != nil {
		panic(fmt.Sprintf("wire: two handlers of %q", method))
	}
	m.handlers[string(method)] = func(ctx context.Context, c *Peer, payload []byte) ([]byte, error) {
		var q Q
		if err := value.Decode(payload, &q); err != nil {
			return nil, fmt.Errorf("read the question %q: %w", method, err)
		}
		a, err := f(ctx, c, q)
		if err != nil {
			return nil, err
		}
		return value.Append(nil, &a)
	}
}

// session is the server's side of one connection.
type session struct {
	mux      *Mux
	peer     *Peer
	out      *sender
	handlers sync.WaitGroup

	mu   sync.Mutex // may be taken under that of out
	open map[uint64]context.CancelCauseFunc
}

// Serve answers the questions of one connection until it ends, and returns when all handlers have
// returned. It closes conn. The error says what the client did wrong; that it has gone is none.
//
// A server that wants to end a connection calls conn.CloseRead: handlers then see their contexts
// end, what they answer still travels, and Serve returns.
func (m *Mux) Serve(conn *net.UnixConn, version string) error {
	defer conn.Close()
	pid, uid, err := peer.Of(conn)
	if err == nil {
		_, err = greet(conn, "", version)
	}
	if other := (*VersionError)(nil); errors.As(err, &other) {
		err = fmt.Errorf("it is gpool %s, and this is gpool %s", other.Theirs, other.Ours)
	}
	switch {
	case err != nil && ended(err):
		return nil // a client that only looked whether a server is there
	case err != nil:
		return fmt.Errorf("greet the client with the pid %d: %w", pid, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &session{
		mux: m, peer: &Peer{Pid: pid, UID: uid, ctx: ctx},
		out: newSender(conn, answerTime), open: make(map[uint64]context.CancelCauseFunc),
	}
	if m.Came != nil {
		m.Came(s.peer)
	}
	err = s.read(ipc.NewReader(conn, limits))
	cancel(errClientGone)
	s.handlers.Wait()
	if m.Gone != nil {
		m.Gone(s.peer)
	}
	if err != nil && !ended(err) {
		return fmt.Errorf("serve the client with the pid %d: %w", pid, err)
	}
	return nil
}

// read takes questions and cancels. It waits for nothing but the connection.
func (s *session) read(r *ipc.Reader) error {
	var m ipc.Message
	for {
		if err := r.Next(&m); err != nil {
			return err
		}
		switch {
		case m.Kind == ipc.KindCall:
			if err := s.begin(m.Question); err != nil {
				return err
			}
		case m.Kind == ipc.KindCancel:
			s.giveUp(m.Numbers.ID)
		case m.Kind < ipc.FirstOptional:
			return fmt.Errorf("it sent a frame of kind %d, and only questions were expected", m.Kind)
		}
	}
}

// begin has a question answered on a goroutine of its own.
func (s *session) begin(q ipc.Question) error {
	ctx, cancel := context.WithCancelCause(s.peer.ctx)
	if err := s.opened(q.ID, cancel); err != nil {
		cancel(nil)
		return err
	}
	q.Payload = bytes.Clone(q.Payload) // the reader goes on
	s.handlers.Go(func() { s.answer(q.ID, s.run(ctx, q)) })
	return nil
}

// opened notes a question, unless the client has asked more than it may.
func (s *session) opened(id uint64, cancel context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open[id] != nil:
		return fmt.Errorf("it asked the question %d while that was open", id)
	case len(s.open) >= mostOpen:
		return fmt.Errorf("it asked more than %d questions without waiting for an answer", mostOpen)
	}
	s.open[id] = cancel
	return nil
}

// run calls the handler of a question.
func (s *session) run(ctx context.Context, q ipc.Question) (a ipc.Answer) {
	defer func() {
		if p := recover(); p != nil {
			a = faultAnswer(fmt.Errorf("the server has panicked over the question %q: %v", q.Method, p))
		}
	}()
	h := s.mux.handlers[q.Method]
	if h == nil {
		return faultAnswer(fmt.Errorf("the server does not know the question %q", q.Method))
	}
	payload, err := h(ctx, s.peer, q.Payload)
	if err != nil {
		return faultAnswer(err)
	}
	return ipc.Answer{Payload: payload}
}

// faultAnswer is an answer with a message, which may not be empty.
func faultAnswer(err error) ipc.Answer {
	fault := &Fault{Code: FaultBroken}
	errors.As(err, &fault)
	return ipc.Answer{Payload: []byte(fault.Code), Message: cmp.Or(err.Error(), "the server refuses it")}
}

// answer sends a, after which the question is not open any more. If it cannot be sent the
// connection is closed, which also ends the reader.
func (s *session) answer(id uint64, a ipc.Answer) {
	a.ID = id
	// Not open before the client can know it: otherwise its next question might be one too many.
	done := func() { s.done(id) }
	err := s.out.send(func(e *ipc.Encoder) { e.Answer(a) }, done)
	if err == errTooLong {
		a = faultAnswer(fmt.Errorf("send the answer: %w", err))
		a.ID = id
		err = s.out.send(func(e *ipc.Encoder) { e.Answer(a) }, done)
	}
	if err != nil {
		_ = s.out.conn.Close()
	}
}

// giveUp ends the context of a question, which stays open until it is answered all the same. One
// that is not open was answered while the cancel was on its way.
func (s *session) giveUp(id uint64) {
	s.mu.Lock()
	cancel := s.open[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel(errGivenUp)
	}
}

func (s *session) done(id uint64) {
	s.mu.Lock()
	cancel := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	cancel(nil)
}
