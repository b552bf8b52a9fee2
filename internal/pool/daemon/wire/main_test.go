package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary plays servers and clients: with the variable set it is one of parts.
const part = "GPOOL_TEST_PART"

const testVersion = "1.2.3"

// echo answers with the question, and has no place among the real methods.
const echo Method[string, string] = "echo"

func TestMain(m *testing.M) {
	if play := parts[os.Getenv(part)]; play != nil {
		play()
		os.Exit(0)
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // parts under -race end at once
	r, w, _ := os.Pipe()                         // the runtime opens its own descriptors with the first one
	r.Close()
	w.Close()
	before := descriptors()
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		code = 1
	}
	if after := descriptors(); after != before {
		fmt.Printf("%d descriptors were open before the tests and %d are after\n", before, after)
		code = 1
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		fmt.Printf("a child is left: %d, %v\n", pid, err)
		code = 1
	}
	os.Exit(code)
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// newPlace is a place of its own, in a folder whose path is short enough for a socket.
func newPlace(t testing.TB) Place {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return placeIn(t, dir)
}

func placeIn(t testing.TB, dir string) Place {
	t.Helper()
	p, err := Locate("test", environment(map[string]string{
		"XDG_RUNTIME_DIR": dir, "GPOOL_SPOOL": filepath.Join(dir, "spool"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// serve has a server of mux in this process until the test ends; stop ends it earlier.
func serve(t testing.TB, p Place, mux *Mux) (stop func()) {
	t.Helper()
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); acceptAll(seat, mux) }()
	stop = func() {
		if err := seat.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// acceptAll serves every connection until the seat is closed, and then ends those that there are.
func acceptAll(seat *Seat, mux *Mux) {
	var conns []*net.UnixConn
	done := make(chan struct{}, 1000)
	for {
		conn, err := seat.Accept()
		if err != nil {
			break
		}
		conns = append(conns, conn)
		go func() { _ = mux.Serve(conn, testVersion); done <- struct{}{} }()
	}
	for _, c := range conns {
		_ = c.CloseRead()
	}
	for range conns {
		<-done
	}
}

func dialTest(t testing.TB, p Place) *Client {
	t.Helper()
	c, err := Dial(t.Context(), p, testVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echoMux() *Mux {
	mux := new(Mux)
	Handle(mux, echo, func(_ context.Context, _ *Peer, q string) (string, error) { return q, nil })
	return mux
}

// eventually waits for what other goroutines or processes are about to do.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("it has not come to be that %s", what)
		}
	}
}
