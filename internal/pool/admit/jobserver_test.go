package admit

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// server is a make: a pipe with tokens in it, each a byte of its own.
type server struct {
	auth   *Auth
	read   int // does not block
	tokens string
}

// newServer lends out tokens through two descriptors that children inherit.
func newServer(t testing.TB, tokens string) *server {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ends[0]); unix.Close(ends[1]) })
	s := &server{auth: &Auth{Read: ends[0], Write: ends[1]}, read: ends[0], tokens: tokens}
	s.give(t, ends[1], tokens)
	return s
}

// newFifo lends out tokens through a named pipe.
func newFifo(t testing.TB, tokens string) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jobs")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd := must(unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0))(t)
	t.Cleanup(func() { unix.Close(fd) })
	s := &server{auth: &Auth{Path: path}, read: fd, tokens: tokens}
	s.give(t, fd, tokens)
	return s
}

func (s *server) give(t testing.TB, fd int, tokens string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(tokens)); err != nil && tokens != "" {
		t.Fatal(err)
	}
}

// at reads what is in the pipe, waits until there are n, and puts them back.
func (s *server) at(n int) string {
	got := []byte{}
	for deadline := time.Now().Add(20 * time.Second); len(got) < n && time.Now().Before(deadline); {
		fds := []unix.PollFd{{Fd: int32(s.read), Events: unix.POLLIN}}
		if ready, _ := unix.Poll(fds, 1000); ready == 1 {
			buf := make([]byte, n-len(got))
			m, _ := unix.Read(s.read, buf)
			got = append(got, buf[:max(m, 0)]...)
		}
	}
	write := s.read
	if s.auth.Path == "" {
		write = s.auth.Write
	}
	_, _ = unix.Write(write, got)
	slices.Sort(got)
	return string(got)
}

// whole fails unless exactly the tokens that were lent out come back.
func (s *server) whole(t interface {
	Helper()
	Errorf(string, ...any)
}) {
	t.Helper()
	want := []byte(s.tokens)
	slices.Sort(want)
	if got := s.at(len(s.tokens)); got != string(want) {
		t.Errorf("of the tokens %q %q came back", want, got)
	}
	fds := []unix.PollFd{{Fd: int32(s.read), Events: unix.POLLIN}}
	if len(s.tokens) == 0 {
		if ready, _ := unix.Poll(fds, 0); ready == 1 {
			t.Errorf("there are more tokens than there were")
		}
	}
}

func inheritable(t testing.TB, fd int) int {
	t.Helper()
	copied := must(unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3))(t)
	t.Cleanup(func() { unix.Close(copied) })
	return copied
}

// woken is an Admission whose calls to wake can be waited for.
type woken struct {
	*Admission
	wakes chan struct{}
	said  chan string
}

func open(t testing.TB, o Options) *woken {
	t.Helper()
	w := &woken{wakes: make(chan struct{}, 1), said: make(chan string, 16)}
	o.Say = func(text string) { w.said <- text }
	if o.Jobserver != nil {
		o.Keeper = keeperCommand()
	}
	var err error
	w.Admission, err = openFor(o, func() {
		select {
		case w.wakes <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// admit waits until one more call may begin.
func (w *woken) admit(t testing.TB, running int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if ok, _ := w.Admit(time.Now(), running); ok {
			return
		}
		select {
		case <-w.wakes:
		case <-deadline:
			t.Fatalf("call %d may not begin", running+1)
		}
	}
}

func TestTokensComeAndGo(t *testing.T) {
	for name, make := range map[string]func(testing.TB, string) *server{"pipe": newServer, "fifo": newFifo} {
		t.Run(name, func(t *testing.T) {
			s := make(t, "abc")
			w := open(t, Options{Jobserver: s.auth})
			for running := range 4 {
				w.admit(t, running)
			}
			if ok, again := w.Admit(time.Now(), 4); ok || !again.IsZero() {
				t.Error("a fifth call may begin with one place and three tokens")
			}
			w.Ended(2)
			if got := s.at(2); len(got) != 2 {
				t.Errorf("%q came back of two tokens", got)
			}
			w.admit(t, 2)
			w.Ended(0)
			s.whole(t)
			w.admit(t, 0)
			w.admit(t, 1)
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			s.whole(t)
			if ok, _ := w.Admit(time.Now(), 0); ok {
				t.Error("a call may begin after Close")
			}
			w.Ended(0)
		})
	}
}

// TestAWithdrawnWishTakesNoToken: the only token is somebody else's when it is wished for, and
// comes when nobody wants it any more.
func TestAWithdrawnWishTakesNoToken(t *testing.T) {
	s := newServer(t, "")
	w := open(t, Options{Jobserver: s.auth})
	defer w.Close()
	w.admit(t, 0)
	if ok, _ := w.Admit(time.Now(), 1); ok {
		t.Fatal("there is no token")
	}
	w.Ended(1)
	s.give(t, s.auth.Write, "x")
	s.tokens = "x"
	s.whole(t)
}

func TestCloseFromManyGoroutines(t *testing.T) {
	s := newServer(t, "ab")
	w := open(t, Options{Jobserver: s.auth, MaxLoad: 1e6, MinFree: 1})
	w.admit(t, 0)
	w.admit(t, 1)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { _ = w.Close() })
	}
	all.Go(func() {
		for range 100 {
			_, _ = w.Admit(time.Now(), 2)
			w.Ended(1)
		}
	})
	all.Wait()
	s.whole(t)
}

// TestTheRelay is the keeper where pipes cannot be opened anew: its pipe blocks.
func TestTheRelay(t *testing.T) {
	s := newServer(t, "ab")
	relayed := must(relayed(s.auth.Read, s.auth.Write))(t)
	orders, ordersW := must2(t)
	reports, reportsW := must2(t)
	k := &keeper{tokens: relayed, orders: int(orders.Fd()), reports: int(reportsW.Fd())}
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(k.run(), k.finish()) }()
	say := func(order, want string) {
		t.Helper()
		if _, err := ordersW.WriteString(order); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := reports.Read(got); err != nil || string(got) != want {
			t.Errorf("%q was answered with %q, %v; want %q", order, got, err, want)
		}
	}
	say("+", "+")
	say("+", "+")
	say("-", "-")
	say("+", "+")
	say("+-", ".")
	say("-", "-")
	if err := ordersW.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.whole(t)
	unix.Close(relayed.read)
	unix.Close(relayed.relay.to)
}

func must2(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestKeepersThatFail(t *testing.T) {
	for name, keeper := range map[string][]string{"exits": {"true"}, "talks nonsense": {"sh", "-c", "echo nonsense; cat"}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "a")
			said := make(chan string, 2)
			a, err := openFor(Options{Jobserver: s.auth, Keeper: keeper, Say: func(text string) { said <- text }}, func() {})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if text := <-said; !strings.Contains(text, "one at a time") {
				t.Errorf("it said %q", text)
			}
			if ok, _ := a.Admit(time.Now(), 0); !ok {
				t.Error("the first call needs no token")
			}
			if ok, _ := a.Admit(time.Now(), 1); ok {
				t.Error("the second call has no token")
			}
			s.whole(t)
		})
	}
	s := newServer(t, "")
	if _, err := openFor(Options{Jobserver: s.auth, Keeper: []string{"no-such-program-here"}}, func() {}); err == nil {
		t.Error("a keeper that is not there is an error")
	}
	var unavailable *UnavailableError
	_, err := openFor(Options{Jobserver: &Auth{Read: 9998, Write: 9999}, Keeper: keeperCommand(), MaxLoad: 5}, func() {})
	if !errors.As(err, &unavailable) {
		t.Errorf("closed descriptors: %v", err)
	}
}

func TestAKeeperWithoutAJobserver(t *testing.T) {
	var out strings.Builder
	keeper := exec.Command(os.Args[0], "keeper", "fifo:/no/such/pipe")
	keeper.Stdout = &out
	if err := keeper.Run(); err == nil || !strings.HasPrefix(out.String(), "!") || !strings.Contains(out.String(), "/no/such/pipe") {
		t.Errorf("%v, %q", err, out.String())
	}
}

// playClient is a process that uses a jobserver: it begins as many calls as words[1] says, says so, and
// ends as words[0] says: by a signal to itself ("kill", "term"), by itself ("exit"), or not at all.
func playClient(words []string) int {
	wakes := make(chan struct{}, 1)
	auth, err := ParseMakeFlags(os.Getenv("MAKEFLAGS"))
	if err == nil && auth == nil {
		err = errors.New("there is no jobserver in MAKEFLAGS")
	}
	if err != nil {
		return fail(err)
	}
	flags, err := auth.Lift(os.Getenv("MAKEFLAGS"))
	if err != nil {
		return fail(err)
	}
	_ = os.Setenv("MAKEFLAGS", flags)
	a, err := openFor(Options{Jobserver: auth, Keeper: keeperCommand()}, func() {
		select {
		case wakes <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fail(err)
	}
	for running := 0; running < int(words[1][0]-'0'); {
		if ok, _ := a.Admit(time.Now(), running); ok {
			running++
		} else {
			<-wakes
		}
	}
	fmt.Println("running")
	switch words[0] {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "term":
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}
	if words[0] != "exit" {
		select {}
	}
	_ = a.Close()
	return 0
}

// client starts a process that uses the jobserver, and waits until its calls run.
func (s *server) client(t interface {
	Helper()
	Fatal(...any)
}, how string, calls int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "client", how, fmt.Sprint(calls))
	cmd.Env = append(os.Environ(), "MAKEFLAGS= -j4 --jobserver-auth="+s.auth.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "running\n" {
		t.Fatal(line, err)
	}
	return cmd
}

// TestTokensComeBackHoweverAClientEnds: by itself, by a signal, by one that nobody can handle.
func TestTokensComeBackHoweverAClientEnds(t *testing.T) {
	// Each check starts processes, so there are fewer than of others.
	checks := flag.Lookup("rapid.checks").Value
	defer func(before string) { _ = checks.Set(before) }(checks.String())
	_ = checks.Set("25")
	rapid.Check(t, func(r *rapid.T) {
		tokens := rapid.SampledFrom([]string{"+++", "abcd", "\x00\xff"}).Draw(r, "tokens")
		s := newServer(t, tokens)
		if rapid.Bool().Draw(r, "fifo") {
			s = newFifo(t, tokens)
		}
		for range rapid.IntRange(1, 2).Draw(r, "clients") {
			how := rapid.SampledFrom([]string{"exit", "kill", "term", "stay"}).Draw(r, "how")
			cmd := s.client(r, how, rapid.IntRange(1, 1+len(tokens)).Draw(r, "calls"))
			if how == "stay" {
				_ = cmd.Process.Signal(rapid.SampledFrom([]os.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGHUP}).Draw(r, "signal"))
			}
			_ = cmd.Wait()
			s.whole(r)
		}
	})
}
