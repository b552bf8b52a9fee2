package hub

import (
	"slices"
	"testing"

	"gpool/internal/pool/hub/wire"
)

// C14: an event is a flag that can be waited for.
func TestEvent(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	a.refused(wire.FaultBusy, wire.EventWait)
	first, second, third := a.waiting(wire.EventWait), b.waiting(wire.EventWait), c.waiting(wire.EventWait)
	if r := a.done(wire.EventState); r.Flag || r.N != 3 {
		t.Errorf("state: %+v", r)
	}
	if o := a.described("event", "x"); o.State != "not set" || !slices.Equal(o.Waiting, []string{"a", "b", "c"}) {
		t.Errorf("described as %+v", o)
	}
	b.cancel(second)
	b.failed(wire.FaultCancelled, second)
	c.leave()
	b.done(wire.EventSet)
	a.granted(first)
	c.waits(third)
	a.done(wire.EventWait)
	if r := a.done(wire.EventState); !r.Flag || r.N != 0 {
		t.Errorf("state: %+v", r)
	}
	a.done(wire.EventClear)
	fourth := a.waiting(wire.EventWait)
	b.done(wire.Drop, named("event/x"))
	a.failed(wire.FaultGone, fourth)
}

func TestHubRefuses(t *testing.T) {
	h, a, _ := two(t)
	for _, r := range []wire.Request{
		{}, {Op: "lock", Object: "x"}, {Op: "nothing.do", Object: "x"}, {Op: wire.LockAcquire},
		{Op: "lock.other", Object: "x"}, {Op: "event.", Object: "x"}, {Op: "hub.other", Object: "x"},
	} {
		a.failed(wire.FaultRefused, a.start(r))
	}
	a.refused(wire.FaultMissing, wire.Drop, named("lock/none"))
	a.refused(wire.FaultMissing, wire.Drop, named(""))
	id := a.waiting(wire.EventWait)
	var again wire.Reply
	a.m.Do(id, &wire.Request{Op: wire.LockAcquire, Object: "x"}, func(r wire.Reply) { again = r })
	if again.Fault != wire.FaultRefused {
		t.Errorf("a request whose id is open was answered with %+v", again)
	}
	a.waits(id)
	a.cancel(id + 1) // none
	if h.Idle() {
		t.Error("members are here")
	}
}

func TestNamesCountWithinTheirKind(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.LockAcquire)
	b.done(wire.RLockAcquire)
	a.done(wire.Drop, named("lock/x"))
	b.done(wire.RLockRelease)
}

func TestHubEnds(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.LockAcquire)
	lock, event, cond := b.waiting(wire.LockAcquire), b.waiting(wire.EventWait), a.waiting(wire.CondWait, with("lock/x"))
	b.granted(lock)
	again := a.waiting(wire.LockAcquire)
	semaphore := a.waiting(wire.SemAcquire, count(1))
	barrier := a.waiting(wire.BarrierWait, initial(2))
	h.End()
	a.failed(wire.FaultGone, cond, again, semaphore, barrier)
	b.failed(wire.FaultGone, event)
	a.refused(wire.FaultGone, wire.LockAcquire)
	join(t, h, "late").refused(wire.FaultGone, wire.LockAcquire)
	h.End()
	a.leave()
	if !h.Idle() {
		t.Error("something is left")
	}
}

func TestLeaveTwice(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.LockAcquire)
	a.leave()
	b.done(wire.LockAcquire)
	a.leave()
	a.refused(wire.FaultGone, wire.LockRelease)
	if r := b.done(wire.LockState); r.Text != "b" {
		t.Errorf("state: %+v", r)
	}
}

func TestLineKeepsOrder(t *testing.T) {
	var l line
	m := func(name string) *ask { return &ask{member: &member{who: wire.Peer{From: name}}} }
	a, b, c, d := m("a"), m("b"), m("c"), m("d")
	for _, x := range []*ask{a, b, c, d} {
		l.add(x)
	}
	b.leaveLine() // in the middle, at the front and at the end
	b.leaveLine()
	a.leaveLine()
	d.leaveLine()
	l.add(a)
	if names := l.names(); l.n != 2 || !slices.Equal(names, []string{"c", "a"}) {
		t.Errorf("%d in line: %q", l.n, names)
	}
	if all := l.all(); !slices.Equal(all, []*ask{c, a}) || l.n != 0 || l.head() != nil || l.next() != nil {
		t.Errorf("%d were in line, %d are", len(all), l.n)
	}
}
