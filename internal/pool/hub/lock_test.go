package hub

import (
	"slices"
	"strings"
	"testing"

	"gpool/internal/pool/hub/wire"
)

// C1: one has it at a time, and a lock that nobody has cannot be released.
func TestLockHasOneHolder(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.LockAcquire)
	if r := a.done(wire.LockState); !r.Flag || r.Text != "a" || r.N != 0 {
		t.Errorf("state of a held lock: %+v", r)
	}
	a.refused(wire.FaultBusy, wire.LockAcquire)
	b.refused(wire.FaultBusy, wire.LockAcquire)
	b.done(wire.LockRelease) // any member may
	a.refused(wire.FaultNotHeld, wire.LockRelease)
	if r := a.done(wire.LockState); r.Flag || r.Text != "" {
		t.Errorf("state of a free lock: %+v", r)
	}
}

func TestLockIsGrantedInOrder(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	a.done(wire.LockAcquire)
	second, third, fourth := b.waiting(wire.LockAcquire), c.waiting(wire.LockAcquire), b.waiting(wire.LockAcquire)
	if r := a.done(wire.LockState); r.N != 3 {
		t.Errorf("%d wait, want 3", r.N)
	}
	c.cancel(third)
	c.failed(wire.FaultCancelled, third)
	c.cancel(third) // is not there any more
	a.done(wire.LockRelease)
	b.granted(second)
	b.waits(fourth)
	b.done(wire.LockRelease)
	if r := b.granted(fourth); r.Flag {
		t.Error("nobody died")
	}
	c.got(third)
}

func TestLockIsAbandonedOnce(t *testing.T) {
	t.Run("while others wait", func(t *testing.T) {
		_, list := fakes(t, "a", "b", "c")
		a, b, c := list[0], list[1], list[2]
		a.done(wire.LockAcquire)
		second, third := b.waiting(wire.LockAcquire), c.waiting(wire.LockAcquire)
		a.leave()
		if !b.granted(second).Flag {
			t.Error("the next holder has not been told")
		}
		c.waits(third)
		b.done(wire.LockRelease)
		if c.granted(third).Flag {
			t.Error("it is told twice")
		}
	})
	t.Run("while nobody waits", func(t *testing.T) {
		h, a, b := two(t)
		a.done(wire.LockAcquire)
		a.leave()
		if h.objects["lock/x"].idle() || !strings.Contains(b.described("lock", "x").State, "abandoned") {
			t.Error("the mark has been lost")
		}
		if !b.done(wire.LockAcquire).Flag {
			t.Error("the next holder has not been told")
		}
		b.done(wire.LockRelease)
		if b.done(wire.LockAcquire).Flag {
			t.Error("it is told twice")
		}
	})
	t.Run("by one that only waited", func(t *testing.T) {
		_, a, b := two(t)
		a.done(wire.LockAcquire)
		id := b.waiting(wire.LockAcquire)
		b.leave()
		a.done(wire.LockRelease)
		b.waits(id) // its answer would reach nobody
		if a.done(wire.LockAcquire).Flag {
			t.Error("nobody died with it")
		}
	})
}

// The deadlock is of the caller's making; the hub shows it.
func TestLockTwiceByOneMemberShows(t *testing.T) {
	_, a, _ := two(t)
	a.done(wire.LockAcquire)
	id := a.waiting(wire.LockAcquire)
	o := a.described("lock", "x")
	if o.State != "held by a" || !slices.Equal(o.Holders, []string{"a"}) || !slices.Equal(o.Waiting, []string{"a"}) {
		t.Errorf("described as %+v", o)
	}
	a.done(wire.LockRelease)
	a.granted(id)
}

func TestLockDropped(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.LockAcquire)
	id := b.waiting(wire.LockAcquire)
	a.done(wire.Drop, named("lock/x"))
	b.failed(wire.FaultGone, id)
	a.refused(wire.FaultNotHeld, wire.LockRelease) // that is another lock now
	b.done(wire.LockAcquire)
	a.leave() // had the other one
	if r := b.done(wire.LockState); !r.Flag || r.Text != "b" {
		t.Errorf("state: %+v", r)
	}
}

// C2: an owner may have it often, and must release it as often.
func TestRLockCounts(t *testing.T) {
	_, a, b := two(t)
	for n := int64(1); n <= 3; n++ {
		if r := a.done(wire.RLockAcquire, owner(7)); r.N != n {
			t.Errorf("it is had %d times, want %d", r.N, n)
		}
	}
	if r := a.done(wire.RLockState, owner(7)); !r.Flag || r.Text != "a" || r.M != 3 {
		t.Errorf("state for its owner: %+v", r)
	}
	if r := a.done(wire.RLockState, owner(8)); !r.Flag || r.M != 0 {
		t.Errorf("state for another: %+v", r)
	}
	other, stranger := a.waiting(wire.RLockAcquire, owner(8)), b.waiting(wire.RLockAcquire, owner(7))
	a.refused(wire.FaultNotOwner, wire.RLockRelease, owner(8))
	b.refused(wire.FaultNotOwner, wire.RLockRelease, owner(7))
	for n := int64(2); n >= 0; n-- {
		a.waits(other)
		if r := a.done(wire.RLockRelease, owner(7)); r.N != n {
			t.Errorf("it is still had %d times, want %d", r.N, n)
		}
	}
	if r := a.granted(other); r.N != 1 || r.Flag {
		t.Errorf("granted with %+v", r)
	}
	a.done(wire.RLockAcquire, owner(8))
	if o := b.described("rlock", "x"); o.State != "held by a, owner 8, 2 deep" || !slices.Equal(o.Waiting, []string{"b"}) {
		t.Errorf("described as %+v", o)
	}
	a.leave() // with two levels
	if r := b.granted(stranger); r.N != 1 || !r.Flag {
		t.Errorf("granted after a death with %+v", r)
	}
	b.done(wire.RLockRelease, owner(7))
	b.refused(wire.FaultNotHeld, wire.RLockRelease, owner(7))
}
