package hub

import (
	"math"
	"slices"
	"testing"

	"gpool/internal/pool/hub/wire"
)

// C4: it counts down and up, and may rise above what it began with.
func TestSemaphoreCounts(t *testing.T) {
	_, a, _ := two(t)
	steps := []struct {
		op   wire.Op
		want int64
	}{
		{wire.SemAcquire, 1}, {wire.SemAcquire, 0}, {wire.SemRelease, 1},
		{wire.SemRelease, 2}, {wire.SemRelease, 3}, {wire.SemRelease, 4},
	}
	if r := a.done(wire.SemState, initial(2)); r.N != 2 {
		t.Errorf("%d units at first, want 2", r.N)
	}
	for _, s := range steps {
		a.done(s.op, initial(2), count(1))
		if r := a.done(wire.SemState, initial(2)); r.N != s.want {
			t.Errorf("%d units after %s, want %d", r.N, s.op, s.want)
		}
	}
}

// C5: a bounded one does not.
func TestBoundedSemaphoreRefusesMore(t *testing.T) {
	_, a, b := two(t)
	a.refused(wire.FaultOverflow, wire.BSemRelease, initial(2), count(1))
	a.refused(wire.FaultOverflow, wire.BSemAcquire, initial(2), count(3), wait)
	a.done(wire.BSemAcquire, initial(2), count(1))
	a.refused(wire.FaultOverflow, wire.BSemRelease, initial(2), count(2))
	b.done(wire.BSemRelease, initial(2), count(1))
	a.done(wire.BSemAcquire, initial(2), count(2), hold)
	b.refused(wire.FaultOverflow, wire.BSemRelease, initial(2), count(1)) // those come back anyway
	a.leave()
	if r := b.done(wire.BSemState, initial(2)); r.N != 2 {
		t.Errorf("%d units, want 2", r.N)
	}
}

func TestSemaphoreRefuses(t *testing.T) {
	for _, kind := range []string{"sem", "bsem"} {
		h, list := fakes(t, "a")
		a := list[0]
		acquire, release, state := wire.Op(kind+".acquire"), wire.Op(kind+".release"), wire.Op(kind+".state")
		a.refused(wire.FaultRefused, acquire, initial(-1), count(1))
		a.refused(wire.FaultRefused, state, initial(-1))
		for _, n := range []int64{0, -1, math.MinInt64} {
			a.refused(wire.FaultRefused, acquire, initial(2), count(n))
			a.refused(wire.FaultRefused, release, initial(2), count(n))
		}
		a.done(acquire, initial(3), count(1)) // what was refused has made nothing
		a.refused(wire.FaultMismatch, acquire, initial(2), count(1))
		a.refused(wire.FaultMismatch, release, count(1))
		a.refused(wire.FaultMismatch, state)
		a.refused(wire.FaultNotHeld, release, initial(3), count(1), hold)
		a.refused(wire.FaultRefused, wire.Op(kind+".other"), initial(3), count(1))
		a.done(release, initial(3), count(1))
		a.leave()
		if !h.Idle() {
			t.Errorf("%s: something is left", kind)
		}
	}
}

func TestSemaphoreDoesNotOverflow(t *testing.T) {
	_, a, b := two(t)
	most := int64(math.MaxInt64)
	a.done(wire.SemAcquire, initial(most), count(5), hold)
	b.refused(wire.FaultOverflow, wire.SemRelease, initial(most), count(1))
	b.done(wire.SemAcquire, initial(most), count(3))
	b.refused(wire.FaultOverflow, wire.SemRelease, initial(most), count(most))
	b.done(wire.SemRelease, initial(most), count(3))
	a.leave()
	if r := b.done(wire.SemState, initial(most)); r.N != most {
		t.Errorf("%d units, want all", r.N)
	}
}

// A request for many is not overtaken by requests for few.
func TestSemaphoreIsFair(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	a.done(wire.SemAcquire, initial(3), count(2))
	many := b.waiting(wire.SemAcquire, initial(3), count(3))
	few := c.waiting(wire.SemAcquire, initial(3), count(1))
	c.refused(wire.FaultBusy, wire.SemAcquire, initial(3), count(1)) // one is free, and spoken for
	a.done(wire.SemRelease, initial(3), count(1))
	b.waits(many)
	c.waits(few)
	a.done(wire.SemRelease, initial(3), count(1))
	b.granted(many)
	c.waits(few)
	again := a.waiting(wire.SemAcquire, initial(3), count(2))
	b.done(wire.SemRelease, initial(3), count(3))
	c.granted(few)
	a.granted(again)
}

func TestSemaphoreCancelServesThoseBehind(t *testing.T) {
	for _, end := range []string{"cancel", "leave"} {
		_, a, b := two(t)
		many := b.waiting(wire.SemAcquire, initial(3), count(4))
		few := a.waiting(wire.SemAcquire, initial(3), count(1))
		if end == "cancel" {
			b.cancel(many)
			b.failed(wire.FaultCancelled, many)
		} else {
			b.leave()
		}
		if r := a.granted(few); r.Flag {
			t.Error("nobody died with units")
		}
	}
}

// What a member that ends has asked for is not granted while it ends.
func TestSemaphoreGrantsNothingToTheDead(t *testing.T) {
	_, a, b := two(t)
	a.waiting(wire.SemAcquire, initial(3), count(4))
	a.waiting(wire.SemAcquire, initial(3), count(1))
	a.waiting(wire.SemAcquire, initial(3), count(2), hold)
	a.leave()
	if r := b.done(wire.SemState, initial(3)); r.N != 3 {
		t.Errorf("%d units, want 3", r.N)
	}
	if b.done(wire.SemAcquire, initial(3), count(1)).Flag {
		t.Error("nobody died with units")
	}
}

func TestSemaphoreHeldUnitsComeBack(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	a.done(wire.SemAcquire, initial(4), count(3), hold)
	a.done(wire.SemAcquire, initial(4), count(1)) // these do not
	a.refused(wire.FaultNotHeld, wire.SemRelease, initial(4), count(4), hold)
	a.done(wire.SemRelease, initial(4), count(1), hold)
	b.done(wire.SemAcquire, initial(4), count(1), hold)
	if o := c.described("sem", "x"); !slices.Equal(o.Holders, []string{"a (2)", "b (1)"}) || o.State != "0 free, began with 4" {
		t.Errorf("described as %+v", o)
	}
	if r := c.done(wire.SemState, initial(4)); r.Text != "a (2), b (1)" {
		t.Errorf("held by %q", r.Text)
	}
	first := c.waiting(wire.SemAcquire, initial(4), count(1))
	second := c.waiting(wire.SemAcquire, initial(4), count(1))
	third := c.waiting(wire.SemAcquire, initial(4), count(1))
	if r := c.done(wire.SemState, initial(4)); r.M != 3 {
		t.Errorf("%d wait, want 3", r.M)
	}
	a.leave()
	if !c.granted(first).Flag {
		t.Error("the next has not been told")
	}
	if c.granted(second).Flag {
		t.Error("it is told twice")
	}
	c.waits(third)
	c.done(wire.Drop, named("sem/x"))
	c.failed(wire.FaultGone, third)
	b.leave()
}
