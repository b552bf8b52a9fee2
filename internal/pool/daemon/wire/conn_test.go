package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
)

func TestManyQuestionsAtOnce(t *testing.T) {
	p := newPlace(t)
	mux := echoMux()
	var now, most atomic.Int64
	var once sync.Once
	together := make(chan struct{}) // until as many as may be are there
	Handle(mux, Submit, func(ctx context.Context, c *Peer, q Submission) (Accepted, error) {
		n := now.Add(1)
		defer now.Add(-1)
		if n > most.Load() {
			most.Store(n)
		}
		if n == mostOpen {
			once.Do(func() { close(together) })
		}
		<-together
		return Accepted{IDs: []string{q.Calls[0].Name}}, nil
	})
	serve(t, p, mux)
	c := dialTest(t, p)
	if c.Pid() != os.Getpid() {
		t.Errorf("the server's pid is %d", c.Pid())
	}
	var all sync.WaitGroup
	for i := range 5 * mostOpen {
		all.Go(func() {
			name := fmt.Sprint(i)
			a, err := Ask(t.Context(), c, Submit, Submission{Calls: []Call{{Name: name}}})
			if err != nil || len(a.IDs) != 1 || a.IDs[0] != name {
				t.Errorf("question %s: %v, %v", name, a, err)
			}
		})
	}
	all.Wait()
	if most.Load() > mostOpen {
		t.Errorf("%d questions were handled at once", most.Load())
	}
}

func TestLargeMessages(t *testing.T) {
	p := newPlace(t)
	serve(t, p, echoMux())
	c := dialTest(t, p)
	long := strings.Repeat("x", 40<<20) // several frames
	if a, err := Ask(t.Context(), c, echo, long); err != nil || a != long {
		t.Errorf("%d bytes, %v", len(a), err)
	}
}

func TestFaults(t *testing.T) {
	p := newPlace(t)
	mux := new(Mux)
	answers := map[string]error{
		"fault":   &Fault{Code: FaultClosed, Text: "no more"},
		"wrapped": fmt.Errorf("well: %w", &Fault{Code: FaultFull, Text: "full"}),
		"error":   io.ErrShortWrite,
		"silent":  errors.New(""),
	}
	Handle(mux, echo, func(_ context.Context, _ *Peer, q string) (string, error) {
		if q == "panic" {
			panic("dear me")
		}
		return "", answers[q]
	})
	serve(t, p, mux)
	c := dialTest(t, p)
	check := func(what string, err error, code FaultCode, text string) {
		t.Helper()
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != code || !strings.Contains(fault.Text, text) || fault.Text == "" {
			t.Errorf("%s: %#v", what, err)
		}
	}
	for q, want := range map[string]Fault{
		"fault": {FaultClosed, "no more"}, "wrapped": {FaultFull, "well: full"},
		"error": {FaultBroken, "short write"}, "silent": {FaultBroken, ""}, "panic": {FaultBroken, "dear me"},
	} {
		_, err := Ask(t.Context(), c, echo, q)
		check(q, err, want.Code, want.Text)
	}
	_, err := Ask(t.Context(), c, Method[int, int](echo), 5)
	check("another type", err, FaultBroken, "read the question")
	_, err = Ask(t.Context(), c, Look, Lookup{})
	check("an unknown method", err, FaultBroken, `does not know the question "look"`)
	if _, err := Ask(t.Context(), c, echo, ""); err != nil {
		t.Errorf("after all of these: %v", err)
	}
}

func TestCancel(t *testing.T) {
	p := newPlace(t)
	mux := echoMux()
	began, ended := make(chan struct{}, 2*mostOpen), make(chan error, 2*mostOpen)
	Handle(mux, Await, func(ctx context.Context, _ *Peer, _ Awaiting) (Awaited, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Awaited{}, nil
	})
	serve(t, p, mux)
	c := dialTest(t, p)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var all sync.WaitGroup
	for range mostOpen + 10 { // ten of them have to wait
		all.Go(func() {
			if _, err := Ask(ctx, c, Await, Awaiting{}); err != enough {
				t.Errorf("a question that was given up: %v", err)
			}
		})
	}
	for range mostOpen {
		<-began
	}
	cancel(enough)
	all.Wait()
	for range mostOpen {
		if err := <-ended; err != errGivenUp {
			t.Errorf("the handler's context ended with %v", err)
		}
	}
	if a, err := Ask(t.Context(), c, echo, "on"); a != "on" || err != nil {
		t.Errorf("afterwards: %q, %v", a, err)
	}
	if _, err := Ask(ctx, c, echo, "on"); err != enough {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestPeersAndTheirEnd(t *testing.T) {
	p := newPlace(t)
	mux := new(Mux)
	peers, ended := make(chan *Peer, 3), make(chan error, 3)
	Handle(mux, Lease, func(ctx context.Context, c *Peer, _ Leasing) (Nothing, error) {
		peers <- c
		return Nothing{}, nil
	})
	Handle(mux, Join, func(ctx context.Context, c *Peer, _ Joining) (Nothing, error) {
		peers <- c
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Nothing{}, nil
	})
	serve(t, p, mux)
	a, b := dialTest(t, p), dialTest(t, p)
	for _, c := range []*Client{a, a, b} {
		if _, err := Ask(t.Context(), c, Lease, Leasing{}); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := <-peers, <-peers, <-peers
	if first != second || first == third || first.Pid != os.Getpid() || first.UID != os.Geteuid() {
		t.Errorf("the peers are %p %+v, %p, %p", first, first, second, third)
	}
	result := make(chan error)
	go func() { _, err := Ask(t.Context(), a, Join, Joining{}); result <- err }()
	<-peers
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, ErrServerGone) {
		t.Errorf("a question on a closed connection: %v", err)
	}
	if err := <-ended; err != errClientGone {
		t.Errorf("the handler's context ended with %v", err)
	}
	<-first.Context().Done()
	if third.Context().Err() != nil {
		t.Error("the other client's context ended, too")
	}
	if _, err := Ask(t.Context(), a, Lease, Leasing{}); !errors.Is(err, ErrServerGone) {
		t.Errorf("a question after it was closed: %v", err)
	}
}

// TestEndInOrder: what handlers answer when the server wants to end still arrives.
func TestEndInOrder(t *testing.T) {
	p := newPlace(t)
	mux := new(Mux)
	began := make(chan struct{})
	Handle(mux, echo, func(ctx context.Context, _ *Peer, q string) (string, error) {
		close(began)
		<-ctx.Done()
		return q, nil
	})
	stop := serve(t, p, mux)
	c := dialTest(t, p)
	result := make(chan error)
	go func() {
		a, err := Ask(t.Context(), c, echo, "last")
		if err == nil && a != "last" {
			err = fmt.Errorf("the answer is %q", a)
		}
		result <- err
	}()
	<-began
	stop()
	if err := <-result; err != nil {
		t.Errorf("the last answer: %v", err)
	}
	<-c.Done()
	if _, err := Dial(t.Context(), p, testVersion); !errors.Is(err, ErrNoServer) {
		t.Errorf("dial a server that has ended: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	defer seat.Close()
	result := make(chan error)
	go func() {
		conn, err := seat.Accept()
		if err == nil {
			err = echoMux().Serve(conn, "2.0.0")
		}
		result <- err
	}()
	_, err = Dial(t.Context(), p, testVersion)
	var other *VersionError
	if !errors.As(err, &other) || other.Pid != os.Getpid() || other.Theirs != "2.0.0" || other.Ours != testVersion {
		t.Errorf("the error of the client: %#v", err)
	}
	for _, want := range []string{`pool "test"`, "gpool 2.0.0", "gpool 1.2.3", fmt.Sprintf("kill %d", os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "it is gpool 1.2.3, and this is gpool 2.0.0") {
		t.Errorf("the error of the server: %v", err)
	}
}

// TestStrangers: what listens where a server should be may say anything.
func TestStrangers(t *testing.T) {
	worker := func(e *ipc.Encoder) {
		e.Hello(ipc.Hello{Version: Version, Build: testVersion, Tasks: []string{"exec"}})
	}
	for what, c := range map[string]struct {
		says []byte
		want string
	}{
		"nothing":        {nil, ErrNoServer.Error()},
		"half a hello":   {frame(worker)[:9], ErrNoServer.Error()},
		"another thing":  {[]byte("HTTP/1.1 400 Bad Request\r\n"), "no hello"},
		"a worker":       {frame(worker), "no server or client"},
		"another frame":  {frame(func(e *ipc.Encoder) { e.Numbers(ipc.KindBye, ipc.Numbers{}) }), "kind 9"},
		"a later gpool":  {frame(func(e *ipc.Encoder) { e.Hello(ipc.Hello{Version: 99, Build: testVersion, Tasks: []string{service}}) }), "version 99"},
		"broken msgpack": {[]byte("\x00\x00\x00\x01\xc1"), "msgpack"},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			stop := sayOnce(t, p, c.says)
			defer stop()
			if _, err := Dial(t.Context(), p, testVersion); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// sayOnce says something to the first client, reads what it says, and ends.
func sayOnce(t *testing.T, p Place, says []byte) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write(says)
		_, _ = readHello(conn)
		_ = conn.Close()
	}()
	return func() { _ = l.Close(); <-ended }
}

// frame is one encoded message.
func frame(encode func(*ipc.Encoder)) []byte {
	var b bytes.Buffer
	w := ipc.NewWriter(&b, limits)
	w.Begin()
	encode(w.Encoder)
	if err := errors.Join(w.End(), w.Flush()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestSilentServer(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p) // never accepts, as a process that is stopped
	if err != nil {
		t.Fatal(err)
	}
	defer seat.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go cancel(enough)
	if _, err := Dial(ctx, p, testVersion); !errors.Is(err, enough) {
		t.Errorf("given up: %v", err)
	}
	_, err = Dial(t.Context(), p, testVersion)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("kill -CONT %d", os.Getpid())) {
		t.Errorf("not answered: %v", err)
	}
}

// TestFullQueue: clients that come when the queue of the socket is full wait for room.
func TestFullQueue(t *testing.T) {
	p := newPlace(t)
	l, idle := fullQueue(t, p)
	defer l.Close()
	result := make(chan error)
	for range 5 {
		go func() {
			c, err := Dial(t.Context(), p, testVersion)
			if err == nil {
				err = c.Close()
			}
			result <- err
		}()
	}
	var served sync.WaitGroup
	for range len(idle) + 5 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		served.Go(func() { _ = echoMux().Serve(conn.(*net.UnixConn), testVersion) })
	}
	for range 5 {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	for _, c := range idle {
		_ = c.Close()
	}
	served.Wait()
}

// fullQueue is a socket on which nobody accepts, and the connections that wait there.
func fullQueue(t *testing.T, p Place) (l net.Listener, idle []net.Conn) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: p.Socket}), unix.Listen(fd, 2)); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	for err == nil {
		var conn net.Conn
		if conn, err = net.Dial("unix", p.Socket); err == nil {
			idle = append(idle, conn)
		}
	}
	if !errors.Is(err, syscall.EAGAIN) {
		for _, c := range idle {
			_ = c.Close()
		}
		t.Skipf("a full queue is told by %v here", err)
	}
	if l, err = net.FileListener(f); err != nil {
		t.Fatal(err)
	}
	return l, idle
}

func TestManyConnectionsAtOnce(t *testing.T) {
	p := newPlace(t)
	serve(t, p, echoMux())
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			c, err := Dial(t.Context(), p, testVersion)
			if err != nil {
				t.Error(err)
				return
			}
			if a, err := Ask(t.Context(), c, echo, "x"); a != "x" || err != nil {
				t.Errorf("%q, %v", a, err)
			}
			_ = c.Close()
		})
	}
	all.Wait()
}

// TestAnswersThatAreNone: a server that breaks the rules ends the connection, with the reason.
func TestAnswersThatAreNone(t *testing.T) {
	for want, encode := range map[string]func(*ipc.Encoder){
		"question 77": func(e *ipc.Encoder) { e.Answer(ipc.Answer{ID: 77}) },
		"kind 9":      func(e *ipc.Encoder) { e.Numbers(ipc.KindBye, ipc.Numbers{}) },
	} {
		ours, theirs := connected(t)
		c := newClient(ours, "test", 1)
		if _, err := theirs.Write(frame(encode)); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		if _, err := Ask(t.Context(), c, echo, ""); !errors.Is(err, ErrServerGone) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		_ = c.Close()
	}
}

// connected is both ends of a connection.
func connected(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return ends[0], ends[1]
}

func helloFrameOf(version string) []byte {
	return frame(func(e *ipc.Encoder) {
		e.Hello(ipc.Hello{Version: Version, Build: version, Pid: 1, Tasks: []string{service}})
	})
}

func questionFrame(id uint64, method, payload string) []byte {
	return frame(func(e *ipc.Encoder) { e.Question(ipc.Question{ID: id, Method: method, Payload: []byte(payload)}) })
}

// TestClientsThatBreakTheRules: they lose their connection; the server goes on.
func TestClientsThatBreakTheRules(t *testing.T) {
	mux := new(Mux)
	Handle(mux, Join, func(ctx context.Context, _ *Peer, _ Joining) (Nothing, error) { <-ctx.Done(); return Nothing{}, nil })
	var many []byte
	for id := range uint64(mostOpen + 1) {
		many = append(many, questionFrame(id, "join", "")...)
		many = append(many, frame(func(e *ipc.Encoder) { e.Numbers(ipc.KindCancel, ipc.Numbers{ID: 1000}) })...)
	}
	for want, says := range map[string][]byte{
		"more than 64":   many,
		"question 3":     append(questionFrame(3, "join", ""), questionFrame(3, "join", "")...),
		"kind 1,":        helloFrameOf(testVersion),
		"bytes was anno": []byte("\xff\xff\xff\xff"),
		"not one msgpa":  []byte("\x00\x00\x00\x01\xc1"),
	} {
		ours, theirs := connected(t)
		if _, err := theirs.Write(append(helloFrameOf(testVersion), says...)); err != nil {
			t.Fatal(err)
		}
		if err := mux.Serve(ours, testVersion); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestClientThatDoesNotRead: the write to it fails in the end, and that ends the connection.
func TestClientThatDoesNotRead(t *testing.T) {
	ours, theirs := connected(t)
	s := &session{mux: echoMux(), peer: &Peer{ctx: t.Context()}, out: newSender(ours, 1), open: make(map[uint64]context.CancelCauseFunc)}
	long := string(frame(func(e *ipc.Encoder) { e.Str(strings.Repeat("x", 8<<20)) })[4:])
	result := make(chan error)
	go func() { result <- s.read(ipc.NewReader(ours, limits)) }()
	if _, err := theirs.Write(questionFrame(1, "echo", long)); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !ended(err) {
		t.Errorf("the reader ended with %v", err)
	}
	s.handlers.Wait()
}

// TestAnswerThatIsTooLong: the client is told, and the connection goes on.
func TestAnswerThatIsTooLong(t *testing.T) {
	ours, theirs := connected(t)
	out := newSender(ours, answerTime)
	out.w = ipc.NewWriter(ours, ipc.Limits{Frame: 1 << 10, Message: 1 << 10})
	s := &session{mux: echoMux(), peer: &Peer{ctx: t.Context()}, out: out, open: make(map[uint64]context.CancelCauseFunc)}
	go func() { _ = s.read(ipc.NewReader(ours, limits)) }()
	c := newClient(theirs, "test", 1)
	var fault *Fault
	if _, err := Ask(t.Context(), c, echo, strings.Repeat("x", 2000)); !errors.As(err, &fault) || !strings.Contains(fault.Text, "longer") {
		t.Errorf("a long answer: %v", err)
	}
	if a, err := Ask(t.Context(), c, echo, "short"); a != "short" || err != nil {
		t.Errorf("a short one: %q, %v", a, err)
	}
	_ = c.Close()
	s.handlers.Wait()
}

// FuzzServe: whatever a client says, Serve ends with it, and leaves nothing behind.
func FuzzServe(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add([]byte("GET / HTTP/1.1\r\n"), false)
	f.Add(questionFrame(1, "echo", "\xa1x"), true)
	f.Add(append(questionFrame(1, "join", ""), frame(func(e *ipc.Encoder) { e.Numbers(ipc.KindCancel, ipc.Numbers{ID: 1}) })...), true)
	f.Add(questionFrame(1, "submit", "\x81\xa5Calls\x93\xc0\xc0\xc0"), true)
	mux := echoMux()
	Handle(mux, Join, func(ctx context.Context, _ *Peer, _ Joining) (Nothing, error) { <-ctx.Done(); return Nothing{}, nil })
	Handle(mux, Submit, func(_ context.Context, _ *Peer, q Submission) (Accepted, error) {
		return Accepted{IDs: make([]string, len(q.Calls))}, nil
	})
	f.Fuzz(func(t *testing.T, says []byte, greets bool) {
		ours, theirs := connected(t)
		ended := make(chan struct{})
		go func() { defer close(ended); _ = mux.Serve(ours, testVersion) }()
		go func() {
			if greets {
				_, _ = theirs.Write(helloFrameOf(testVersion))
			}
			_, _ = theirs.Write(says)
			_ = theirs.CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, theirs)
		<-ended
	})
}
