package hub

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/pool/hub/wire"
)

// world is a hub under random requests, and what its members must believe after their answers.
type world struct {
	*rapid.T
	hub     *Hub
	members []*believer
	open    []*pending // in the order in which they were asked
	locks   map[string]*believed
	units   map[string]*units
	round   map[int64]bool // the numbers that a round of the barrier has given out
}

type believer struct {
	*member
	last uint64
}

type pending struct {
	*wire.Request
	by        *believer
	id        uint64
	cancelled bool
	levels    int64 // of a wait of a condition
}

// believed is a lock as its holders see it.
type believed struct {
	holder    *believer
	owner     uint64
	levels    int64
	abandoned bool
}

// units are a semaphore's as its holders see it.
type units struct {
	free int64
	held map[*believer]int64
	lost bool
}

const (
	testUnits   = 3
	testParties = 3
)

func newWorld(t *rapid.T) *world {
	w := &world{
		T: t, hub: New(), round: make(map[int64]bool),
		locks: map[string]*believed{"lock": {}, "rlock": {}},
		units: map[string]*units{
			"sem":  {free: testUnits, held: make(map[*believer]int64)},
			"bsem": {free: testUnits, held: make(map[*believer]int64)},
		},
	}
	for range 4 {
		w.join()
	}
	return w
}

func (w *world) join() {
	w.members = append(w.members, &believer{member: w.hub.Join(wire.Peer{From: "m"}).(*member)})
}

func (w *world) someone() *believer { return rapid.SampledFrom(w.members).Draw(w.T, "member") }

func (w *world) ask(r wire.Request) {
	m := w.someone()
	m.last++
	p := &pending{Request: &r, by: m, id: m.last}
	w.open = append(w.open, p)
	if l := w.locks[lockOf(&r)]; r.Op == wire.CondWait && l.holder == m && (lockOf(&r) == "lock" || l.owner == r.Owner) {
		p.levels = l.levels
		l.holder, l.levels = nil, 0
	}
	m.Do(p.id, &r, func(reply wire.Reply) { w.answered(p, reply) })
}

// lockOf is the kind of the lock that a condition is with.
func lockOf(r *wire.Request) string {
	kind, _, _ := strings.Cut(r.With, "/")
	return kind
}

func (w *world) answered(p *pending, reply wire.Reply) {
	i := slices.Index(w.open, p)
	if i < 0 {
		w.Fatalf("%s was answered twice, or after its member had left", p.Op)
	}
	w.open = slices.Delete(w.open, i, i+1)
	if reply.Fault != "" {
		if p.Op == wire.BarrierWait {
			clear(w.round)
		}
		if reply.Text == "" || p.levels > 0 {
			w.Fatalf("%s was answered with %+v", p.Op, reply)
		}
		return
	}
	switch p.Op {
	case wire.LockAcquire, wire.RLockAcquire:
		w.acquired(p, reply)
	case wire.LockRelease, wire.RLockRelease:
		w.released(p, reply)
	case wire.CondWait:
		w.cameBack(p, reply)
	case wire.SemAcquire, wire.BSemAcquire:
		w.tookUnits(p, reply)
	case wire.SemRelease, wire.BSemRelease:
		w.gaveUnits(p)
	case wire.BarrierWait:
		w.passed(reply.N)
	}
}

// first asserts that nobody has asked for the same before p, and still waits.
func (w *world) first(p *pending) {
	for _, o := range w.open {
		if o.Op == p.Op && o.With == p.With && !o.cancelled && o.M < p.M {
			w.Fatalf("%s of %d overtook that of %d", p.Op, p.M, o.M)
		}
	}
}

func (w *world) acquired(p *pending, reply wire.Reply) {
	l := w.locks[p.Op.Kind()]
	if p.Op == wire.RLockAcquire && l.holder == p.by && l.owner == p.Owner {
		l.levels++
	} else {
		w.first(p)
		w.takes(p, l, reply.Flag)
		l.levels = 1
	}
	if p.Op == wire.RLockAcquire && reply.N != l.levels {
		w.Fatalf("it is had %d times, want %d", reply.N, l.levels)
	}
}

// takes asserts that nobody has the lock, and that who gets it is told how it got free.
func (w *world) takes(p *pending, l *believed, told bool) {
	if l.holder != nil || told != l.abandoned {
		w.Fatalf("%s was granted, told %t, of %+v", p.Op, told, l)
	}
	*l = believed{holder: p.by, owner: p.Owner}
}

func (w *world) released(p *pending, reply wire.Reply) {
	l := w.locks[p.Op.Kind()]
	if l.holder == nil || p.Op == wire.RLockRelease && (l.holder != p.by || l.owner != p.Owner) {
		w.Fatalf("%s was done of %+v", p.Op, l)
	}
	l.levels--
	if l.levels == 0 {
		l.holder = nil
	}
	if p.Op == wire.RLockRelease && reply.N != l.levels {
		w.Fatalf("it is still had %d times, want %d", reply.N, l.levels)
	}
}

func (w *world) cameBack(p *pending, reply wire.Reply) {
	if !reply.Flag && !p.cancelled {
		w.Fatalf("a wait ended without a reason")
	}
	if reply.Flag && !p.cancelled {
		w.first(p)
	}
	l := w.locks[lockOf(p.Request)]
	w.takes(p, l, reply.M == 1)
	l.levels = p.levels
}

func (w *world) tookUnits(p *pending, reply wire.Reply) {
	u := w.units[p.Op.Kind()]
	w.first(p)
	if p.N > u.free || reply.Flag != u.lost {
		w.Fatalf("%s of %d units was granted, told %t, of %+v", p.Op, p.N, reply.Flag, u)
	}
	u.free -= p.N
	u.lost = false
	if p.Hold {
		u.held[p.by] += p.N
	}
}

func (w *world) gaveUnits(p *pending) {
	u := w.units[p.Op.Kind()]
	u.free += p.N
	if p.Hold {
		u.held[p.by] -= p.N
	}
	if u.held[p.by] < 0 || p.Op == wire.BSemRelease && u.free > testUnits {
		w.Fatalf("%s of %d units was done of %+v", p.Op, p.N, u)
	}
}

func (w *world) passed(number int64) {
	if number < 0 || number >= testParties || w.round[number] {
		w.Fatalf("the number %d after %v", number, w.round)
	}
	w.round[number] = true
	if len(w.round) == testParties {
		clear(w.round)
	}
}

func (w *world) cancel() {
	if len(w.open) == 0 {
		return
	}
	p := rapid.SampledFrom(w.open).Draw(w.T, "request")
	p.cancelled = true
	p.by.Cancel(p.id)
	if p.Op != wire.CondWait && slices.Contains(w.open, p) {
		w.Fatalf("%s was given up and is not answered", p.Op)
	}
}

// leave ends a member: what it held is free, and its requests are not answered any more.
func (w *world) leave(m *believer) {
	w.open = slices.DeleteFunc(w.open, func(p *pending) bool { return p.by == m })
	for _, l := range w.locks {
		if l.holder == m {
			*l = believed{abandoned: true}
		}
	}
	for _, u := range w.units {
		if n := u.held[m]; n > 0 {
			u.free, u.lost = u.free+n, true
			delete(u.held, m)
		}
	}
	w.members = slices.DeleteFunc(w.members, func(o *believer) bool { return o == m })
	m.Leave()
}

// check asserts what holds between requests: nobody waits for what could be had.
func (w *world) check(t *rapid.T) {
	waiting := 0
	for _, m := range w.members {
		waiting += len(m.open)
	}
	if waiting != len(w.open) {
		t.Fatalf("the hub has %d open requests, the members have %d", waiting, len(w.open))
	}
	for key, o := range w.hub.objects {
		switch o := o.(type) {
		case *lock:
			w.checkLock(key, o)
		case *semaphore:
			u := w.units[strings.TrimSuffix(key, "/x")]
			if head := o.waiting.head(); o.free != u.free || head != nil && head.N <= o.free {
				t.Fatalf("%s has %d units, want %d, and %d wait", key, o.free, u.free, o.waiting.n)
			}
		case *barrier:
			w.checkBarrier(o)
		}
	}
}

func (w *world) checkLock(key string, l *lock) {
	b := w.locks[strings.TrimSuffix(key, "/x")]
	same := l.holder == nil && b.holder == nil || b.holder != nil && l.holder == b.holder.member && l.levels == b.levels
	if !same || l.abandoned != b.abandoned || l.holder == nil && l.waiting.n > 0 {
		w.Fatalf("%s is %+v, want %+v", key, l, b)
	}
}

func (w *world) checkBarrier(b *barrier) {
	switch {
	case b.broken && b.waiting.n+b.passing.n > 0,
		b.runner != nil && b.runner.left,
		b.runner == nil && (b.passing.n > 0 || b.waiting.n >= testParties):
		w.Fatalf("the barrier is %+v", b)
	}
}

// TestEverybodyIsServed has random members ask, give up and end.
func TestEverybodyIsServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		ops := []wire.Op{
			wire.LockAcquire, wire.LockRelease, wire.RLockAcquire, wire.RLockRelease,
			wire.CondWait, wire.CondNotify, wire.SemAcquire, wire.SemRelease, wire.BSemAcquire, wire.BSemRelease,
			wire.BarrierWait, wire.BarrierPass, wire.BarrierAbort, wire.BarrierReset,
		}
		steps := rapid.SampledFrom([]int{10, 50, 200}).Draw(t, "steps")
		for asked := range steps {
			switch what := rapid.IntRange(0, 19).Draw(t, "what"); {
			case what == 0:
				w.leave(w.someone())
				w.join()
			case what < 4:
				w.cancel()
			default:
				w.ask(draw(t, rapid.SampledFrom(ops).Draw(t, "op"), int64(asked)))
			}
			w.check(t)
		}
		for len(w.members) > 0 {
			w.leave(w.members[0])
			w.check(t)
		}
		w.nothingIsLeft(t)
	})
}

// draw makes a request; its M, which these operations do not read, tells when it was asked.
func draw(t *rapid.T, op wire.Op, asked int64) wire.Request {
	r := wire.Request{Op: op, Object: "x", M: asked, Wait: rapid.Bool().Draw(t, "wait")}
	switch kind := op.Kind(); kind {
	case "rlock":
		r.Owner = rapid.Uint64Range(0, 1).Draw(t, "owner")
	case "cond":
		r.Object = rapid.SampledFrom([]string{"lock", "rlock"}).Draw(t, "lock")
		r.With = r.Object + "/x"
		r.Owner = rapid.Uint64Range(0, 1).Draw(t, "owner")
		r.N = rapid.Int64Range(0, 2).Draw(t, "n")
	case "sem", "bsem":
		r.Init = testUnits
		r.N = rapid.Int64Range(1, testUnits+1).Draw(t, "n")
		r.Hold = rapid.Bool().Draw(t, "hold")
	case "barrier":
		r.Init = testParties
		r.Action = rapid.Bool().Draw(t, "action")
	}
	return r
}

func (w *world) nothingIsLeft(t *rapid.T) {
	for key, o := range w.hub.objects {
		var d wire.Object
		o.describe(&d)
		if len(d.Holders) > 0 || len(d.Waiting) > 0 {
			t.Fatalf("%s is %+v when all have left", key, d)
		}
		switch o := o.(type) {
		case *lock:
			if len(o.asleep) > 0 {
				t.Fatalf("%s has %d waits of conditions when all have left", key, len(o.asleep))
			}
		case *semaphore:
			if o.out != 0 || len(o.held) > 0 {
				t.Fatalf("%s has %d units held when all have left", key, o.out)
			}
		}
	}
}
