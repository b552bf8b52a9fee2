package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/peer"
)

func TestOneSeat(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{p.Socket, p.Lock} {
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if _, err := Claim(p); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("the second claim: %v", err)
	}
	if _, err := os.Lstat(p.Socket); err != nil {
		t.Errorf("the socket after the second claim: %v", err)
	}
	if err := errors.Join(seat.Close(), seat.Close()); err != nil {
		t.Error(err)
	}
	if _, err := seat.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the end: %v", err)
	}
	for _, path := range []string{p.Socket, p.Lock} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// TestSeatIsNeverSharedNorLost: those that come while one ends lock a file that is about to go.
func TestSeatIsNeverSharedNorLost(t *testing.T) {
	p := newPlace(t)
	var holders atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for claims := 0; claims < 100; {
				seat, err := Claim(p)
				if errors.Is(err, ErrTaken) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				claims++
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have the seat", n)
				}
				holders.Add(-1)
				if err := seat.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seat, err := Claim(p)
	if err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	_ = seat.Close()
}

// TestWhatAKilledServerLeaves: the socket and the lock file stay, but nobody holds the lock.
func TestWhatAKilledServerLeaves(t *testing.T) {
	p := newPlace(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := os.WriteFile(p.Lock, []byte("1234567890123456789012345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), p, testVersion); !errors.Is(err, ErrNoServer) {
		t.Errorf("dial: %v", err)
	}
	stop := serve(t, p, echoMux())
	if a, err := Ask(t.Context(), dialTest(t, p), echo, "x"); a != "x" || err != nil {
		t.Errorf("the next server: %q, %v", a, err)
	}
	if b, err := os.ReadFile(p.Lock); string(b) != fmt.Sprint(os.Getpid()) {
		t.Errorf("the lock file has %q, %v", b, err)
	}
	stop()
}

// TestSweptLock: a server whose lock file was removed by others is not robbed of its socket, and
// does not remove that of the next one.
func TestSweptLock(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.Lock); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(p); !errors.Is(err, ErrTaken) {
		t.Errorf("the second claim: %v", err)
	}
	if err := seat.Close(); err != nil {
		t.Error(err)
	}
	next, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	_ = next.Close()
}

func TestSocketInTheWay(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(p.Socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(p); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("the error is %v", err)
	}
	if b, err := os.ReadFile(p.Socket); string(b) != "precious" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// TestAcceptWithoutDescriptors: a server that has no descriptor left waits for one, and goes on.
func TestAcceptWithoutDescriptors(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	defer seat.Close()
	client, err := net.Dial("unix", p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(60*time.Millisecond, func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
	conn, err := seat.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestPeerOf(t *testing.T) {
	a, _ := connected(t)
	pid, uid, err := peer.Of(a)
	if pid != os.Getpid() || uid != os.Geteuid() || err != nil {
		t.Errorf("the peer is %d of %d, %v", pid, uid, err)
	}
}

// TestForeignSocket: nothing is sent to the process of another user.
func TestForeignSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	p := newPlace(t)
	foreign, said := playForeign(t, p)
	_, err := Dial(t.Context(), p, testVersion)
	var other *ForeignError
	if !errors.As(err, &other) || other.UID != 12345 || other.Socket != p.Socket {
		t.Errorf("the error is %#v", err)
	}
	if b := <-said; b != "" {
		t.Errorf("it got %q", b)
	}
	foreign()
}

// TestForeignClient: those of other users are closed, and the next one is served.
func TestForeignClient(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	p := newPlace(t)
	serve(t, p, echoMux())
	for _, path := range []string{p.Socket, p.Socket[:strings.LastIndexByte(p.Socket, '/')], p.Socket[:strings.Index(p.Socket, "/gpool")]} {
		if err := os.Chmod(path, 0o777); err != nil { // more than Locate allows
			t.Fatal(err)
		}
	}
	if out := runPart(t, "visits", 12345, p.Socket); out != "0 EOF" {
		t.Errorf("a foreign client sees %q", out)
	}
	if out := runPart(t, "visits", 0, p.Socket); !strings.HasSuffix(out, "<nil>") {
		t.Errorf("a client of ours sees %q", out)
	}
}
