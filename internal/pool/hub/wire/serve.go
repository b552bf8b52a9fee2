package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/ipc"
)

const (
	mostOpen     = 4096 // requests of one member without an answer
	mostGreeting = 64   // connections that have not proven themselves
	acceptPause  = 50 * time.Millisecond
	ownID        = 1 << 63 // the ids from here on are the server's, for requests that nobody waits for
)

// Server gives processes that connect access to a hub. Its fields are set before the first Serve.
// Three goroutines belong to each connection at most.
type Server struct {
	Hub Hub
	Key Key // that members must know; nil: see Key
	// Memory is the file of the hub's shared memory, which stays the hub's and stays open while
	// the server serves; nil if there is none.
	Memory func() (*os.File, error)
	// Log is told, in a sentence, of connections that end in disorder, or are refused. It may be nil, and
	// is called from any goroutines; whoever can connect can have it called often.
	Log func(string)

	limits serverLimits // zero ones are the usual ones

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	greeting  []*conn // the oldest one first
	running   sync.WaitGroup
}

// serverLimits are other than usual in tests.
type serverLimits struct {
	greet, stall time.Duration
	behind       int
}

func (l serverLimits) withDefaults() serverLimits {
	if l.greet == 0 {
		l.greet = greetTime
	}
	if l.stall == 0 {
		l.stall = stallTime
	}
	if l.behind == 0 {
		l.behind = mostBehind
	}
	return l
}

// Serve serves the connections that come to l, which it closes, until Close. It may be called for
// more than one listener. The error says why it ended if that was not Close.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	_, local := l.Addr().(*net.UnixAddr)
	if err := s.Key.Usable(local); err != nil {
		return fmt.Errorf("serve a hub at %v: %w", l.Addr(), err)
	}
	if !s.begin(l) {
		return nil
	}
	defer s.leave(l)
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.come(newConn(c))
		case s.ending():
			return nil
		case passes(err):
			time.Sleep(acceptPause)
		default:
			return fmt.Errorf("accept connections to the hub at %v: %w", l.Addr(), err)
		}
	}
}

// passes reports whether an error of accept is of the moment, as when there are no descriptors.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) begin(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.listeners == nil {
		s.listeners, s.conns = make(map[net.Listener]struct{}), make(map[*conn]struct{})
	}
	s.listeners[l] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) leave(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	s.running.Done()
}

func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// come takes a connection in. Without a key whoever is not known to be of this user does not even count as one.
func (s *Server) come(c *conn) {
	if s.Key == nil {
		if _, uid, err := c.owner(); err != nil || uid != os.Geteuid() {
			_ = c.Close()
			return
		}
	}
	s.admit(c)
}

// admit serves a connection on a goroutine of its own. If too many have not proven themselves the oldest of
// these is closed: it has had the most time.
func (s *Server) admit(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return
	}
	if len(s.greeting) >= mostGreeting {
		_ = s.greeting[0].Close()
		s.greeting = slices.Delete(s.greeting, 0, 1)
	}
	s.greeting = append(s.greeting, c)
	s.conns[c] = struct{}{}
	s.running.Go(func() { s.serve(c) })
}

// greeted notes that c has proven itself, or never will.
func (s *Server) greeted(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.greeting, c); i >= 0 {
		s.greeting = slices.Delete(s.greeting, i, i+1)
	}
}

// serve is the life of a connection.
func (s *Server) serve(c *conn) {
	limits := s.limits.withDefaults()
	who, err := s.greet(c, limits.greet)
	s.greeted(c)
	what := "a connection was refused"
	if err == nil {
		what = fmt.Sprintf("the connection to %v has ended", who)
		err = s.attend(c, who, limits)
	}
	_ = c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if err != nil && !ended(err) { // the log may take its time
		s.log("%s: %v", what, err)
	}
}

func (s *Server) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(fmt.Sprintf(format, args...))
	}
}

// greet makes sure of whoever has connected.
func (s *Server) greet(c *conn, limit time.Duration) (Peer, error) {
	pid, uid, err := c.owner()
	if err != nil {
		return Peer{}, err
	}
	limitSilence(c.under)
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return Peer{}, err
	}
	channel, err := c.secure(context.Background()) // the deadline bounds it
	if err != nil {
		return Peer{}, err
	}
	hello, err := greetMember(c, s.Key, channel, func() { s.greeted(c) })
	if err != nil {
		return Peer{}, fmt.Errorf("greet %v: %w", c.describe(pid, uid, hello), err)
	}
	return c.describe(pid, uid, hello), c.SetDeadline(time.Time{})
}

// session is the server's side of one member.
type session struct {
	server *Server
	conn   *conn
	member Member
	out    *sender
	dec    *ipc.Decoder
	open   atomic.Int64 // requests without an answer
	own    uint64       // the last id of the server's own
	quick  bool         // the last request came soon after the answer to the one before
}

// attend serves a member until the connection ends. The error says why if that was not in order.
func (s *Server) attend(c *conn, who Peer, limits serverLimits) error {
	t := &session{server: s, conn: c, member: s.Hub.Join(who), out: newSender(c, limits.behind, limits.stall), dec: ipc.NewDecoder()}
	var writer sync.WaitGroup
	writer.Go(t.out.run)
	err := t.read(ipc.NewReader((*intake)(t), frames))
	t.member.Leave() // before the other side can see the end, so that it knows: what it held is free
	why := t.out.stop()
	writer.Wait()
	if why != nil {
		return why
	}
	return err
}

// errBye is the end in order.
var errBye = fmt.Errorf("it has left: %w", errClosed)

// read takes requests. It waits for bytes, and for a member to take its answers, and never for the hub.
func (t *session) read(r *ipc.Reader) error {
	var m ipc.Message
	for {
		if err := r.Next(&m); err != nil {
			return err
		}
		if err := t.take(&m); err != nil {
			return err
		}
	}
}

// intake is where requests are read from. While some are there that were read together their
// answers are held back, to go together, too.
type intake session

func (t *intake) Read(b []byte) (int, error) {
	t.out.cork(false)
	t.out.room()
	defer t.out.cork(true)
	if t.quick {
		if n, _, none, err := t.conn.eager(b, nil); !none {
			return n, err
		}
	}
	from := time.Now()
	n, err := t.conn.Read(b)
	t.quick = time.Since(from) < shortWait
	return n, err
}

func (t *session) take(m *ipc.Message) error {
	switch {
	case m.Kind == ipc.KindCall:
		t.out.room() // many requests come with one read
		t.request(m.Question)
	case m.Kind == ipc.KindCancel:
		t.member.Cancel(m.Numbers.ID)
	case m.Kind == ipc.KindBye:
		return errBye
	case m.Kind < ipc.FirstOptional:
		return fmt.Errorf("it sent a frame of kind %d, and only requests were expected", m.Kind)
	}
	return nil
}

// request has a request done by the hub, which never waits.
func (t *session) request(q ipc.Question) {
	id := q.ID
	r, err := decodeRequest(t.dec, q)
	switch {
	case err != nil:
		t.refuse(id, FaultRefused, "%v", err)
		return
	case r.Op == ping:
		t.answer(id, Reply{})
		return
	case r.Op == MemFile:
		t.file(id)
		return
	}
	waits := r.Wait && id != 0
	if id == 0 {
		r.Wait = false // nobody could give it up
	}
	// What gives back must pass, however many wait for it.
	if waits && t.open.Add(1) > mostOpen {
		t.open.Add(-1)
		t.refuse(id, FaultRefused, "%d requests of this process wait already, and there may be no more: wait for some of the answers", mostOpen)
		return
	}
	at := id
	if id == 0 {
		t.own++
		at = ownID + t.own
	}
	t.member.Do(at, r, func(reply Reply) {
		if waits {
			t.open.Add(-1)
		}
		t.answer(id, reply)
	})
}

// answer sends a reply without waiting. Nobody waits for that of a request without an id.
func (t *session) answer(id uint64, r Reply) {
	if id != 0 {
		t.out.answer(id, &r, nil)
	}
}

func (t *session) refuse(id uint64, code FaultCode, format string, args ...any) {
	t.answer(id, Refuse(code, format, args...))
}

// file answers with the file of the shared memory.
func (t *session) file(id uint64) {
	switch {
	case id == 0:
	case t.conn.unix == nil:
		t.refuse(id, FaultNoMemory, "the memory of a hub cannot be shared over a network, only through a unix: address")
	case t.server.Memory == nil:
		t.refuse(id, FaultNoMemory, "this hub has no shared memory")
	default:
		f, err := t.server.Memory()
		if err != nil {
			t.refuse(id, FaultNoMemory, "%v", err)
			return
		}
		t.out.answer(id, &Reply{}, f)
	}
}

// Close ends the listeners and all connections, and returns when all members have left. It must
// not be called by a method of the hub. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}
