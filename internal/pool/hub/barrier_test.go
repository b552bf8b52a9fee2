package hub

import (
	"testing"

	"gpool/internal/pool/hub/wire"
)

// arrive starts a wait of a member that is not the last of its round.
func arrive(f *fake, parties int64, change ...func(*wire.Request)) uint64 {
	f.t.Helper()
	return f.waiting(wire.BarrierWait, append(change, initial(parties))...)
}

// C16, C17, C18: rounds in lockstep, and each number once in each.
func TestBarrierRounds(t *testing.T) {
	_, list := fakes(t, "a", "b", "c", "d", "e")
	for round := range 10 {
		var ids []uint64
		for i := range 4 {
			ids = append(ids, arrive(list[(round+i)%5], 5))
		}
		if r := list[0].done(wire.BarrierState, initial(5)); r.N != 4 || r.Flag || r.M != 5 {
			t.Fatalf("state: %+v", r)
		}
		last := list[(round+4)%5].done(wire.BarrierWait, initial(5))
		for i, id := range ids {
			if r := list[(round+i)%5].granted(id); r.N != int64(i) || r.Flag {
				t.Errorf("round %d: party %d got %+v", round, i, r)
			}
		}
		if last.N != 4 {
			t.Errorf("round %d: the last got %+v", round, last)
		}
	}
}

func TestBarrierOfOne(t *testing.T) {
	_, a, _ := two(t)
	if r := a.done(wire.BarrierWait, initial(1)); r.N != 0 || r.Flag {
		t.Errorf("got %+v", r)
	}
	if r := a.done(wire.BarrierWait, initial(1), action); !r.Flag {
		t.Errorf("got %+v", r)
	}
	next := arrive(a, 1, action) // while it runs
	a.done(wire.BarrierPass)
	if r := a.granted(next); !r.Flag || r.N != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestBarrierRefuses(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.BarrierReset) // says nothing of parties
	for _, n := range []int64{0, -1} {
		a.refused(wire.FaultRefused, wire.BarrierWait, initial(n))
		a.refused(wire.FaultRefused, wire.BarrierState, initial(n))
	}
	id := arrive(a, 2)
	b.refused(wire.FaultMismatch, wire.BarrierWait, initial(3))
	b.refused(wire.FaultMismatch, wire.BarrierState, initial(3))
	b.refused(wire.FaultBroken, wire.BarrierPass)
	b.refused(wire.FaultRefused, "barrier.other")
	a.waits(id)
	b.done(wire.Drop, named("barrier/x"))
	a.failed(wire.FaultGone, id)
}

// C19: one runs the action while the others wait.
func TestBarrierAction(t *testing.T) {
	_, list := fakes(t, "a", "b", "c")
	a, b, c := list[0], list[1], list[2]
	first, second := arrive(a, 3, action), arrive(b, 3, action)
	if r := c.done(wire.BarrierWait, initial(3), action); r.N != 2 || !r.Flag {
		t.Fatalf("the last got %+v", r)
	}
	next := arrive(b, 3, action) // another thread of b, early
	a.waits(first)
	a.refused(wire.FaultBroken, wire.BarrierPass) // is not its business
	if o := a.described("barrier", "x"); o.State != "3 of 3 wait, action run by c" || len(o.Waiting) != 3 {
		t.Errorf("described as %+v", o)
	}
	c.done(wire.BarrierPass)
	for i, r := range []wire.Reply{a.granted(first), b.granted(second)} {
		if r.N != int64(i) || r.Flag {
			t.Errorf("party %d got %+v", i, r)
		}
	}
	b.waits(next)
	c.refused(wire.FaultBroken, wire.BarrierPass)
}

// A round that has come together while the action of the one before ran, starts with its end.
func TestBarrierNextRoundIsComplete(t *testing.T) {
	_, list := fakes(t, "a", "b", "c", "d")
	a, b, c, d := list[0], list[1], list[2], list[3]
	first := arrive(a, 2)
	b.done(wire.BarrierWait, initial(2), action)
	third, fourth := arrive(c, 2), arrive(d, 2, action)
	b.done(wire.BarrierPass)
	a.granted(first)
	if r := d.granted(fourth); !r.Flag || r.N != 1 {
		t.Errorf("the last of the next round got %+v", r)
	}
	c.waits(third)
	d.done(wire.BarrierPass)
	c.granted(third)
}

// C20, C21, C22 and what else breaks a barrier: with one that waits, one that runs the action and one that is early.
func TestBarrierBreaks(t *testing.T) {
	type party struct {
		*fake
		id uint64
	}
	for _, c := range []struct {
		name    string
		breaks  func(waits, runs, early party)
		dead    string // gets no answer
		ends    string // is answered with a fault of its own
		isWhole bool
	}{
		{name: "abort", breaks: func(_, runs, _ party) { runs.done(wire.BarrierAbort) }},
		{name: "reset", breaks: func(_, _, early party) { early.done(wire.BarrierReset) }, isWhole: true},
		{name: "cancel", breaks: func(waits, _, _ party) { waits.cancel(waits.id) }, ends: "waits"},
		{name: "cancel of an early one", breaks: func(_, _, early party) { early.cancel(early.id) }, ends: "early"},
		{name: "death", breaks: func(waits, _, _ party) { waits.leave() }, dead: "waits"},
		{name: "death of the action", breaks: func(_, runs, _ party) { runs.leave() }, dead: "runs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, list := fakes(t, "waits", "runs", "early")
			defer func() {
				if b := h.objects["barrier/x"]; !b.idle() {
					t.Errorf("the barrier is %+v", b)
				}
			}()
			waits := party{list[0], arrive(list[0], 2)}
			runs := party{fake: list[1]}
			runs.done(wire.BarrierWait, initial(2), action)
			early := party{list[2], arrive(list[2], 2)}
			c.breaks(waits, runs, early)
			for _, p := range []party{waits, early} {
				switch p.name {
				case c.dead:
					p.waits(p.id)
				case c.ends:
					p.failed(wire.FaultCancelled, p.id)
				default:
					p.failed(wire.FaultBroken, p.id)
				}
			}
			if c.dead != "runs" {
				runs.refused(wire.FaultBroken, wire.BarrierPass)
			}
			x, y := join(t, h, "x"), join(t, h, "y")
			if r := x.done(wire.BarrierState, initial(2)); r.Flag == c.isWhole || r.N != 0 {
				t.Errorf("state: %+v", r)
			}
			if !c.isWhole {
				x.refused(wire.FaultBroken, wire.BarrierWait, initial(2))
				x.done(wire.BarrierAbort) // twice is fine
				x.done(wire.BarrierReset)
			}
			id := arrive(x, 2)
			y.done(wire.BarrierWait, initial(2))
			x.granted(id)
		})
	}
}
