package wire

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// part is the variable that makes this binary play another process.
const part = "GPOOL_TEST_PART"

var testKey = Key("sixteen bytes at least")

func TestMain(m *testing.M) {
	if play := parts[os.Getenv(part)]; play != nil {
		play()
		os.Exit(0)
	}
	r, w, _ := os.Pipe() // the runtime opens its own descriptors with the first one
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
	os.Exit(code)
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// fakeHub has one lock; any operation on dicts is answered with its own values; what waits for
// an event waits until it is set.
type fakeHub struct {
	mu      sync.Mutex
	holder  *fakeMember
	waiting []fakeAsk
	due     []func()
	sets    int
	left    int
	joined  []Peer
	grantAt bool // a cancelled wait is granted
	mute    bool // a cancelled wait stays
}

type fakeMember struct {
	hub  *fakeHub
	left bool
}

type fakeAsk struct {
	m    *fakeMember
	id   uint64
	op   Op
	done func(Reply)
}

func (h *fakeHub) Join(who Peer) Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined = append(h.joined, who)
	return &fakeMember{hub: h}
}

func (h *fakeHub) unlock() {
	due := h.due
	h.due = nil
	h.mu.Unlock()
	for _, f := range due {
		f()
	}
}

func (h *fakeHub) answer(done func(Reply), r Reply) { h.due = append(h.due, func() { done(r) }) }

func (m *fakeMember) Do(id uint64, r *Request, done func(Reply)) {
	h := m.hub
	h.mu.Lock()
	defer h.unlock()
	switch {
	case r.Op == LockAcquire && h.holder == nil:
		h.holder = m
		h.answer(done, Reply{})
	case r.Op == LockAcquire || r.Op == EventWait || r.Op == CondWait:
		h.waiting = append(h.waiting, fakeAsk{m, id, r.Op, done})
	case r.Op == LockRelease:
		h.answer(done, Reply{})
		h.release(false)
	case r.Op == EventSet:
		h.sets++
		h.grant(EventWait, Reply{N: int64(h.sets), Values: r.Values})
		h.answer(done, Reply{})
	case r.Op == EventState:
		h.answer(done, Reply{N: int64(h.sets), M: int64(h.left)})
	case r.Op.Kind() == "dict":
		h.answer(done, Reply{Values: r.Values, N: r.N, M: r.M})
	default:
		h.answer(done, Refuse(FaultRefused, "a fake cannot do %q", r.Op))
	}
}

func (h *fakeHub) grant(op Op, r Reply) {
	h.waiting = slices.DeleteFunc(h.waiting, func(a fakeAsk) bool {
		if a.op == op {
			h.answer(a.done, r)
		}
		return a.op == op
	})
}

func (h *fakeHub) release(died bool) {
	h.holder = nil
	for i, a := range h.waiting {
		if a.op == LockAcquire {
			h.holder = a.m
			h.answer(a.done, Reply{Flag: died})
			h.waiting = slices.Delete(h.waiting, i, i+1)
			return
		}
	}
}

func (m *fakeMember) Cancel(id uint64) {
	h := m.hub
	h.mu.Lock()
	defer h.unlock()
	for i, a := range h.waiting {
		if a.m == m && a.id == id && !h.mute {
			h.waiting = slices.Delete(h.waiting, i, i+1)
			if h.grantAt {
				h.answer(a.done, Reply{N: 7})
			} else {
				h.answer(a.done, Refuse(FaultCancelled, "given up"))
			}
			return
		}
	}
}

func (m *fakeMember) Leave() {
	h := m.hub
	h.mu.Lock()
	defer h.unlock()
	h.left++
	h.waiting = slices.DeleteFunc(h.waiting, func(a fakeAsk) bool { return a.m == m })
	if h.holder == m {
		h.release(true)
	}
}

// start has a server at a until the test ends.
func start(t testing.TB, s *Server, a Address) (Address, *fakeHub) {
	t.Helper()
	hub, _ := s.Hub.(*fakeHub)
	if s.Hub == nil {
		hub = &fakeHub{}
		s.Hub = hub
	}
	l, err := Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a.Bound(l), hub
}

func socket(t testing.TB) Address {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hub")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Address("unix:" + filepath.Join(dir, "s"))
}

func link(t testing.TB, a Address, key Key) *Link {
	t.Helper()
	l, err := Dial(context.Background(), a, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func call(t testing.TB, l *Link, r Request) Reply {
	t.Helper()
	reply, err := l.Call(context.Background(), &r)
	if err != nil {
		t.Error(err)
	}
	return reply
}

func dialRaw(t testing.TB, a Address) net.Conn {
	t.Helper()
	c, err := net.Dial(a.network(), a.place())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
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
