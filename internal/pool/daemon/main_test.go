package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gpool"
	"gpool/internal/pool/daemon/wire"
)

// The test binary plays the workers that run commands.
const workerWord = "worker-of-test"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerWord {
		os.Exit(gpool.Worker())
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// house is a server in this process, and where it lives.
type house struct {
	t      *testing.T
	place  wire.Place
	stop   context.CancelFunc
	doneC  chan error
	server *Server
}

// begin starts a server for a place, with options changed from small ones.
func begin(t *testing.T, place wire.Place, change func(*Options)) *house {
	t.Helper()
	s, err := New(Config{Place: place, Version: "test", Worker: []string{workerWord}, Options: func(*Options) Options {
		o := Options{Slots: 2, Grace: 200 * time.Millisecond, SpoolLimit: 1 << 30, MaxAge: time.Hour}
		if change != nil {
			change(&o)
		}
		return o
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &house{t: t, place: place, stop: stop, doneC: make(chan error, 1), server: s}
	go func() { h.doneC <- s.Run(ctx) }()
	t.Cleanup(func() { stop(); h.wait() })
	return h
}

// wait waits for the end of the server, once or more.
func (h *house) wait() {
	h.t.Helper()
	select {
	case err := <-h.doneC:
		if err != nil {
			h.t.Errorf("the server ended with %v", err)
		}
		h.doneC <- nil
	case <-time.After(20 * time.Second):
		h.t.Fatal("the server does not end")
	}
}

func newPlace(t *testing.T) wire.Place {
	t.Helper()
	dir, err := os.MkdirTemp("", "gp") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return wire.Place{Name: "test", Socket: filepath.Join(dir, "s.sock"), Lock: filepath.Join(dir, "s.lock"), Spool: filepath.Join(dir, "spool")}
}

func (h *house) dial() *wire.Client {
	h.t.Helper()
	c, err := wire.Dial(context.Background(), h.place, "test")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// ask asks, and fails the test if that fails.
func ask[Q, A any](t *testing.T, c *wire.Client, m wire.Method[Q, A], q Q) A {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := wire.Ask(ctx, c, m, q)
	if err != nil {
		t.Fatalf("%s: %v", m, err)
	}
	return a
}

// script is a call of a shell command line.
func script(line string) wire.Call {
	return wire.Call{Argv: []string{"sh", "-c", line}, Path: "/bin/sh", Shell: "/bin/sh", Text: line, RetryOn: wire.RetryOn{Any: true}}
}

func here() wire.Context { return wire.Context{Dir: "/", Env: os.Environ()} }

func submit(t *testing.T, c *wire.Client, calls ...wire.Call) []string {
	t.Helper()
	return ask(t, c, wire.Submit, wire.Submission{Context: here(), Calls: calls}).IDs
}

// result waits for a call and reads what it printed.
func result(t *testing.T, c *wire.Client, id string) (i wire.Info, stdout string) {
	t.Helper()
	for !(i.State == wire.Done || i.State == wire.Calling) {
		i = ask(t, c, wire.Follow, wire.Following{ID: id, Stdout: i.StdoutBytes, Stderr: i.StderrBytes})
	}
	if i.Stdout != "" {
		b, err := os.ReadFile(i.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		stdout = string(b)
	}
	return i, stdout
}
