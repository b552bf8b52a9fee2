package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parts are what this binary can be for others: their argument is an address.
var parts = map[string]func(){
	// pairs acquires and releases the lock as often as its second argument says.
	"pairs": func() {
		l, err := Dial(context.Background(), Address(os.Args[1]), nil)
		if err != nil {
			panic(err)
		}
		var n int
		_, _ = fmt.Sscan(os.Args[2], &n)
		began := time.Now()
		for range n {
			_, err1 := l.Call(context.Background(), &Request{Op: LockAcquire, Object: "x", Wait: true})
			_, err2 := l.Call(context.Background(), &Request{Op: LockRelease, Object: "x"})
			if err := errors.Join(err1, err2); err != nil {
				panic(err)
			}
		}
		fmt.Println(time.Since(began).Nanoseconds())
		l.Close()
	},
	// holds acquires the lock and waits for its end.
	"holds": func() {
		l, err := Dial(context.Background(), Address(os.Args[1]), nil)
		if err == nil {
			_, err = l.Call(context.Background(), &Request{Op: LockAcquire, Object: "x"})
		}
		fmt.Println("holds", err)
		time.Sleep(time.Minute)
	},
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), part+"="+name)
	return cmd
}

func everyAddress(t *testing.T, f func(t *testing.T, a Address, key Key)) {
	t.Run("unix", func(t *testing.T) { f(t, socket(t), nil) })
	t.Run("unix with a key", func(t *testing.T) { f(t, socket(t), testKey) })
	if abstractNames {
		a, _ := Fresh()
		t.Run("abstract", func(t *testing.T) { f(t, a, nil) })
	}
	t.Run("tcp", func(t *testing.T) { f(t, "tcp:127.0.0.1:0", testKey) })
	t.Run("tls", func(t *testing.T) { f(t, "tls:127.0.0.1:0", testKey) })
}

func TestCalls(t *testing.T) {
	everyAddress(t, func(t *testing.T, a Address, key Key) {
		a, hub := start(t, &Server{Key: key}, a)
		l := link(t, a, key)
		big := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16) // in parts
		for _, v := range [][]byte{nil, []byte("x"), big} {
			if r := call(t, l, Request{Op: DictSet, Object: "d", Values: [][]byte{v}, N: -3, M: 9}); !bytes.Equal(r.Values[0], v) || r.N != -3 || r.M != 9 {
				t.Errorf("%d bytes became %d", len(v), len(r.Values[0]))
			}
		}
		var fault *Fault
		if _, err := l.Call(t.Context(), &Request{Op: "nothing.at-all"}); !errors.As(err, &fault) || fault.Code != FaultRefused {
			t.Errorf("an unknown request: %v", err)
		}
		if p := l.Peer(); a.Local() && (p.Pid != os.Getpid() || p.UID != os.Geteuid()) || p.From == "" {
			t.Errorf("the hub is %v", p)
		}
		hub.mu.Lock()
		defer hub.mu.Unlock()
		if p := hub.joined[0]; a.Local() && p.Pid != os.Getpid() || !a.Local() && (p.Pid != 0 || p.UID != -1) {
			t.Errorf("the member is %+v", p)
		}
	})
}

func TestManyCallers(t *testing.T) {
	everyAddress(t, func(t *testing.T, a Address, key Key) {
		a, _ = start(t, &Server{Key: key}, a)
		l := link(t, a, key)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for k := range 100 {
					v := fmt.Append(nil, i, k)
					if r := call(t, l, Request{Op: DictSet, Object: "d", Values: [][]byte{v}}); len(r.Values) != 1 || !bytes.Equal(r.Values[0], v) {
						t.Errorf("%s became %s", v, r.Values)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestSendIsDoneBeforeTheNextCall(t *testing.T) {
	a, _ := start(t, &Server{}, socket(t))
	l := link(t, a, nil)
	for i := range 1000 {
		if err := l.Send(&Request{Op: EventSet, Object: "e"}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if r := call(t, l, Request{Op: EventState, Object: "e"}); r.N != int64(i+1) {
				t.Errorf("%d of %d were done", r.N, i+1)
			}
		}
	}
}

func TestCancel(t *testing.T) {
	for _, granted := range []bool{false, true} {
		a, hub := start(t, &Server{Hub: &fakeHub{grantAt: granted}}, socket(t))
		l := link(t, a, nil)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { eventually(t, "it waits", func() bool { return hub.waits() == 1 }); cancel(why) }()
		r, err := l.Call(ctx, &Request{Op: EventWait, Object: "e", Wait: true})
		if granted && (err != nil || r.N != 7) || !granted && err != why {
			t.Errorf("granted %v: %v, %v", granted, r, err)
		}
		if _, err := l.Call(ctx, &Request{Op: EventState}); err != why {
			t.Errorf("a call after the end of its context: %v", err)
		}
		call(t, l, Request{Op: EventState, Object: "e"})
	}
}

func (h *fakeHub) waits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting)
}

func (h *fakeHub) leavers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left
}

func TestCancelThatIsNotAnswered(t *testing.T) {
	a, hub := start(t, &Server{Hub: &fakeHub{mute: true}}, socket(t))
	l := link(t, a, nil)
	l.patience = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	// A condition's lock may be long in coming, and the hub is well.
	answer := make(chan error, 1)
	go func() { _, err := l.Call(ctx, &Request{Op: CondWait, Object: "c"}); answer <- err }()
	time.Sleep(100 * time.Millisecond)
	hub.mu.Lock()
	hub.grant(CondWait, Reply{})
	hub.unlock()
	if err := <-answer; err != nil {
		t.Errorf("a condition: %v", err)
	}
	ctx2, cancel2 := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel2()
	if _, err := l.Call(ctx2, &Request{Op: EventWait, Object: "e"}); !errors.Is(err, ErrGone) {
		t.Errorf("an event: %v", err)
	}
	<-l.Done()
}

func TestDeadHolder(t *testing.T) {
	a, hub := start(t, &Server{}, socket(t))
	cmd := command("holds", string(a))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 12)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "holds <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	l := link(t, a, nil)
	go func() {
		eventually(t, "it waits", func() bool { return hub.waits() == 1 })
		_ = cmd.Process.Kill()
	}()
	if r := call(t, l, Request{Op: LockAcquire, Object: "x", Wait: true}); !r.Flag {
		t.Error("nobody says that the holder has died")
	}
	_ = cmd.Wait()
}

func TestFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.WriteString("memory")
	everyAddress(t, func(t *testing.T, a Address, key Key) {
		a, _ = start(t, &Server{Key: key, Memory: func() (*os.File, error) { return f, nil }}, a)
		l := link(t, a, key)
		for range 20 {
			got, err := l.File(t.Context())
			if !a.Local() {
				var fault *Fault
				if !errors.As(err, &fault) || fault.Code != FaultNoMemory {
					t.Errorf("over a network: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 6)
			_, err = got.ReadAt(b, 0)
			flags, _ := unix.FcntlInt(got.Fd(), unix.F_GETFD, 0)
			if string(b) != "memory" || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("%q, %v, flags %x", b, err, flags)
			}
			got.Close()
			call(t, l, Request{Op: MemFile}) // whose file nobody takes
		}
	})
	a, _ := start(t, &Server{}, socket(t))
	if _, err := link(t, a, nil).File(t.Context()); err == nil {
		t.Error("a hub without memory has a file")
	}
}

func TestManyFilesAtOnce(t *testing.T) {
	f, _ := os.CreateTemp(t.TempDir(), "")
	defer f.Close()
	a, _ := start(t, &Server{Memory: func() (*os.File, error) { return f, nil }}, socket(t))
	l := link(t, a, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				call(t, l, Request{Op: DictSet, Object: "d", Values: [][]byte{make([]byte, 5000)}})
				if f, err := l.File(t.Context()); err != nil {
					t.Error(err)
				} else {
					f.Close()
				}
			}
		})
	}
	all.Wait()
}

func TestAChildThatInheritsKeepsTheConnection(t *testing.T) {
	everyAddress(t, func(t *testing.T, a Address, key Key) {
		a, hub := start(t, &Server{Key: key}, a)
		l := link(t, a, key)
		fd, err := l.Inheritable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", fmt.Sprintf("test -e /dev/fd/%d && echo has it && exec sleep 60", fd))
		says, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Close(fd)
		if said, err := bufio.NewReader(says).ReadString('\n'); said != "has it\n" {
			t.Errorf("the child has no descriptor %d: %q, %v", fd, said, err)
		}
		call(t, l, Request{Op: LockAcquire, Object: "x"})
		l.Close() // the child still has it open
		if hub.leavers() != 1 {
			t.Error("the hub has not noticed before Close returned")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func TestAnInheritedConnectionOutlivesItsMaker(t *testing.T) {
	a, hub := start(t, &Server{}, socket(t))
	l := link(t, a, nil)
	fd, err := l.Inheritable()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.conn.Close() // as by kill -9
	<-l.Done()
	b := link(t, a, nil)
	call(t, b, Request{Op: EventState, Object: "e"})
	if hub.leavers() != 0 {
		t.Error("the member has left while somebody holds the connection")
	}
	_ = syscall.Close(fd)
	eventually(t, "the member has left", func() bool { return hub.leavers() == 1 })
}

func TestServerCloseEndsAll(t *testing.T) {
	s := &Server{}
	a, hub := start(t, s, socket(t))
	l := link(t, a, nil)
	answer := make(chan error, 1)
	go func() { _, err := l.Call(context.Background(), &Request{Op: EventWait}); answer <- err }()
	eventually(t, "it waits", func() bool { return hub.waits() == 1 })
	raw := dialRaw(t, a)
	s.Close()
	if err := <-answer; !errors.Is(err, ErrGone) {
		t.Errorf("a call that waits: %v", err)
	}
	if _, err := l.Call(context.Background(), &Request{Op: EventState}); !errors.Is(err, ErrGone) {
		t.Errorf("a later call: %v", err)
	}
	if err := l.Send(&Request{Op: EventSet}); !errors.Is(err, ErrGone) {
		t.Errorf("a later send: %v", err)
	}
	if n, err := raw.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes for whoever has not greeted", n)
	}
	if _, err := Dial(t.Context(), a, nil); !errors.Is(err, ErrNoHub) {
		t.Errorf("a hub that has ended: %v", err)
	}
	if _, err := os.Lstat(a.place()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the socket: %v", err)
	}
}

// TestMemberThatDoesNotRead: it holds up nobody, and is closed in the end.
func TestMemberThatDoesNotRead(t *testing.T) {
	for name, s := range map[string]*Server{
		"too much":     {limits: serverLimits{behind: 1 << 20}},
		"for too long": {limits: serverLimits{stall: 50 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			logged := make(chan string, 100)
			s.Log = func(line string) { logged <- line }
			a, hub := start(t, s, socket(t))
			bad := dialRaw(t, a)
			if _, err := greetHub(bad, nil, nil); err != nil {
				t.Fatal(err)
			}
			out := newSender(newConn(bad), 0, 0)
			for i := range 20 {
				if err := out.request(uint64(i+1), &Request{Op: EventWait}, false); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all wait", func() bool { return hub.waits() == 20 })
			good := link(t, a, nil)
			call(t, good, Request{Op: EventSet, Values: [][]byte{make([]byte, 1<<20)}})
			call(t, good, Request{Op: EventState})
			eventually(t, "it has been closed", func() bool { return hub.leavers() == 1 })
			if line := <-logged; !strings.Contains(line, "has ended") {
				t.Error(line)
			}
		})
	}
}

// TestSlowReader: who asks for more than the server keeps, and reads late, gets all of it.
func TestSlowReader(t *testing.T) {
	a, _ := start(t, &Server{limits: serverLimits{behind: 1 << 20}}, socket(t))
	l := link(t, a, nil)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			v := make([]byte, 3<<20)
			if r := call(t, l, Request{Op: DictSet, Values: [][]byte{v}}); len(r.Values) != 1 || len(r.Values[0]) != len(v) {
				t.Error("something else came back")
			}
		})
	}
	all.Wait()
}

// TestTooManyRequests: those that wait count, and what does not wait passes.
func TestTooManyRequests(t *testing.T) {
	a, hub := start(t, &Server{}, socket(t))
	l := link(t, a, nil)
	wait := Request{Op: EventWait, Wait: true}
	var all sync.WaitGroup
	for range mostOpen {
		all.Go(func() {
			if _, err := l.Call(t.Context(), &wait); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return hub.waits() == mostOpen })
	var fault *Fault
	if _, err := l.Call(t.Context(), &wait); !errors.As(err, &fault) || fault.Code != FaultRefused {
		t.Errorf("one more: %v", err)
	}
	call(t, l, Request{Op: EventState})
	hub.mu.Lock()
	hub.grant(EventWait, Reply{})
	hub.unlock()
	all.Wait()
	call(t, l, Request{Op: EventState})
}

// TestHalfOpen: a thousand that say nothing keep nobody out.
func TestHalfOpen(t *testing.T) {
	s := &Server{Key: testKey}
	a, _ := start(t, s, "tcp:127.0.0.1:0")
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for i := range 1000 {
		c, err := net.Dial("tcp", a.place())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
		if i%100 == 0 {
			call(t, link(t, a, testKey), Request{Op: EventState})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.greeting); n > mostGreeting {
		t.Errorf("%d are kept", n)
	}
}

func BenchmarkLockPair(b *testing.B) {
	a, _ := start(b, &Server{}, socket(b))
	out, err := command("pairs", string(a), fmt.Sprint(b.N)).Output()
	if err != nil {
		b.Fatal(err)
	}
	var ns float64
	_, _ = fmt.Sscan(string(out), &ns)
	b.ReportMetric(ns/float64(b.N), "ns/pair")
}
