package hub

import (
	"slices"
	"testing"

	"gpool/internal/pool/hub/wire"
)

// sleeps starts a wait of a member that has the lock first.
func sleeps(f *fake) uint64 {
	f.t.Helper()
	f.done(wire.LockAcquire)
	return f.waiting(wire.CondWait, with("lock/x"))
}

// notify has a member wake n, and asserts how many that were.
func notify(f *fake, n, want int64) {
	f.t.Helper()
	f.done(wire.LockAcquire)
	if r := f.done(wire.CondNotify, with("lock/x"), count(n)); r.N != want {
		f.t.Fatalf("%d were woken, want %d", r.N, want)
	}
	f.done(wire.LockRelease)
}

// C7, C9: so many are woken as are asked for, those that have waited longest.
func TestCondWakesInOrder(t *testing.T) {
	_, list := fakes(t, "a", "b", "c", "d", "e", "f")
	notifier, sleepers := list[0], list[1:]
	notify(notifier, 3, 0)
	var ids []uint64
	for _, f := range sleepers {
		ids = append(ids, sleeps(f))
	}
	woken := 0
	for _, step := range []struct{ n, want int64 }{{1, 1}, {2, 2}, {4, 2}, {3, 0}, {0, 0}} {
		notify(notifier, step.n, step.want)
		for range step.want {
			if r := sleepers[woken].granted(ids[woken]); !r.Flag || r.M != 0 {
				t.Fatalf("woken with %+v", r)
			}
			sleepers[woken].done(wire.LockRelease)
			woken++
		}
		for i := woken; i < len(ids); i++ {
			sleepers[i].waits(ids[i])
		}
	}
}

func TestCondNotifyAll(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	b, c := sleeps(list[1]), sleeps(list[2])
	notify(list[0], 0, 2)
	list[1].granted(b)
	list[2].waits(c)
	list[1].done(wire.LockRelease)
	list[2].granted(c)
}

// Who asked for the lock before the notification gets it before.
func TestCondNotifiedJoinsTheEndOfTheLine(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	asleep := sleeps(b)
	a.done(wire.LockAcquire)
	before := c.waiting(wire.LockAcquire)
	a.done(wire.CondNotify, with("lock/x"), count(1))
	after := a.waiting(wire.LockAcquire)
	a.done(wire.LockRelease)
	c.granted(before)
	b.waits(asleep)
	c.done(wire.LockRelease)
	b.granted(asleep)
	a.waits(after)
}

func TestCondNeedsItsLock(t *testing.T) {
	h, a, b := two(t)
	for _, op := range []wire.Op{wire.CondWait, wire.CondNotify} {
		for _, lock := range []string{"lock/x", "", "lock/", "event/x"} {
			a.refused(wire.FaultNotHeld, op, with(lock))
		}
		a.done(wire.EventSet)
		a.refused(wire.FaultNotHeld, op, with("event/x"))
		a.done(wire.EventClear)
		b.done(wire.LockAcquire)
		a.refused(wire.FaultNotHeld, op, with("lock/x"))
		b.done(wire.LockRelease)
		a.done(wire.RLockAcquire, owner(1))
		a.refused(wire.FaultNotHeld, op, with("rlock/x"), owner(2))
		b.refused(wire.FaultNotHeld, op, with("rlock/x"), owner(1))
		a.done(wire.RLockRelease, owner(1))
	}
	b.done(wire.LockAcquire)
	b.refused(wire.FaultRefused, wire.CondNotify, with("lock/x"), count(-1))
	b.done(wire.LockAcquire, named("y"))
	b.refused(wire.FaultMismatch, wire.CondNotify, with("lock/y"))
	b.done(wire.LockRelease)
	b.done(wire.LockRelease, named("y"))
	a.leave()
	b.leave()
	if !h.Idle() {
		t.Error("something is held")
	}
}

func TestCondRestoresAllLevels(t *testing.T) {
	_, a, b := two(t)
	for range 3 {
		a.done(wire.RLockAcquire, owner(1))
	}
	id := a.waiting(wire.CondWait, with("rlock/x"), owner(1))
	if o := b.described("cond", "x"); o.State != "with rlock/x" || !slices.Equal(o.Waiting, []string{"a"}) {
		t.Errorf("described as %+v", o)
	}
	b.done(wire.RLockAcquire, owner(1))
	b.done(wire.CondNotify, with("rlock/x"), owner(1))
	a.waits(id)
	b.done(wire.RLockRelease, owner(1))
	a.granted(id)
	if r := a.done(wire.RLockRelease, owner(1)); r.N != 2 {
		t.Errorf("%d levels are left of 3, want 2", r.N)
	}
	if r := a.done(wire.RLockAcquire, owner(1)); r.N != 3 {
		t.Errorf("it is had %d times, want 3", r.N)
	}
}

// C10: a wait that is given up has the lock again when it answers.
func TestCondCancelled(t *testing.T) {
	t.Run("while the lock is free", func(t *testing.T) {
		_, a, b := two(t)
		id := sleeps(a)
		a.cancel(id)
		if r := a.granted(id); r.Flag {
			t.Error("nobody notified it")
		}
		if r := b.done(wire.LockState); r.Text != "a" {
			t.Errorf("state: %+v", r)
		}
	})
	t.Run("while the lock is held", func(t *testing.T) {
		_, a, b := two(t)
		id := sleeps(a)
		b.done(wire.LockAcquire)
		a.cancel(id)
		a.cancel(id)
		a.waits(id)
		if r := b.done(wire.CondNotify, with("lock/x")); r.N != 0 {
			t.Error("it is not there to be notified any more")
		}
		b.done(wire.LockRelease)
		if r := a.granted(id); r.Flag {
			t.Error("nobody notified it")
		}
	})
	t.Run("after it was notified", func(t *testing.T) {
		_, a, b := two(t)
		id := sleeps(a)
		b.done(wire.LockAcquire)
		b.done(wire.CondNotify, with("lock/x"))
		a.cancel(id)
		b.done(wire.LockRelease)
		if r := a.granted(id); !r.Flag {
			t.Error("the notification was lost")
		}
	})
}

func TestCondAndDeath(t *testing.T) {
	h, list := fakes(t, "a", "b", "c", "d")
	a, b, c, d := list[0], list[1], list[2], list[3]
	first, second, third := sleeps(a), sleeps(b), sleeps(c)
	a.leave() // asleep
	d.done(wire.LockAcquire)
	if r := d.done(wire.CondNotify, with("lock/x"), count(1)); r.N != 1 {
		t.Errorf("%d were woken, want 1", r.N)
	}
	b.leave() // on its way
	d.done(wire.CondNotify, with("lock/x"), count(1))
	d.leave() // holding
	if r := c.granted(third); !r.Flag || r.M != 1 {
		t.Errorf("woken with %+v, want to be told that the holder died", r)
	}
	a.waits(first)
	b.waits(second)
	c.leave()
	e := join(t, h, "e")
	if !e.done(wire.LockAcquire).Flag {
		t.Error("c died with the lock")
	}
}

func TestCondWhoseLockIsDropped(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	first, second := sleeps(a), sleeps(b)
	c.done(wire.LockAcquire)
	c.done(wire.CondNotify, with("lock/x"), count(1)) // one on its way, one asleep
	c.done(wire.Drop, named("lock/x"))
	a.failed(wire.FaultGone, first)
	b.failed(wire.FaultGone, second)
	third := sleeps(a) // with a new lock of that name
	notify(b, 1, 1)
	a.granted(third)
}

func TestCondDropped(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	first, second := sleeps(a), sleeps(b)
	c.done(wire.LockAcquire)
	c.done(wire.CondNotify, with("lock/x"), count(1))
	c.done(wire.Drop, named("cond/x"))
	b.failed(wire.FaultGone, second)
	a.waits(first)
	c.done(wire.LockRelease)
	a.granted(first)
	a.done(wire.LockRelease)
	c.done(wire.LockAcquire)
	c.done(wire.Drop, named("lock/x")) // b is not answered again
	b.failed(wire.FaultGone, second)
}
