package hub

import (
	"fmt"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["barrier"] = func(*Hub, *wire.Request) object { return new(barrier) }
}

// barrier lets parties pass together. While one of a round runs the action, the others of it are
// in passing; those that come meanwhile are of the next round, which is complete only after that.
type barrier struct {
	parties int64   // 0: not known yet
	broken  bool    // nobody waits then
	runner  *member // runs the action, or nil
	passing line    // the others of its round
	waiting line    // of the round that is not complete
}

func (b *barrier) do(a *ask) {
	switch a.Op {
	case wire.BarrierWait:
		if b.begin(a) {
			b.wait(a)
		}
	case wire.BarrierPass:
		b.pass(a)
	case wire.BarrierAbort, wire.BarrierReset:
		b.end(a)
	case wire.BarrierState:
		if b.begin(a) {
			a.answer(wire.Reply{N: int64(b.waiting.n + b.passing.n), Flag: b.broken, M: b.parties})
		}
	default:
		a.unknown()
	}
}

// end breaks the barrier, or makes it anew. Who does it may say how many parties it has.
func (b *barrier) end(a *ask) {
	if a.Init != 0 && !b.begin(a) {
		return
	}
	if a.Op == wire.BarrierAbort {
		b.breakUp("aborted by %s", a.member.who)
	} else {
		b.breakUp("reset by %s", a.member.who)
		b.broken = false
	}
	a.answer(wire.Reply{})
}

// begin gives the barrier the number of parties that the first request says, and refuses others that say
// something else.
func (b *barrier) begin(a *ask) bool {
	switch {
	case a.Init < 1:
		a.refuse(wire.FaultRefused, "the barrier %q cannot have %d parties: 1 or more are possible", a.Object, a.Init)
		return false
	case b.parties > 0 && b.parties != a.Init:
		a.refuse(wire.FaultMismatch, "the barrier %q has %d parties, not %d", a.Object, b.parties, a.Init)
		return false
	}
	b.parties = a.Init
	return true
}

func (b *barrier) wait(a *ask) {
	if b.broken {
		a.refuse(wire.FaultBroken, "the barrier %q is broken: reset it before it is used again", a.Object)
		return
	}
	if !a.Wait && int64(b.waiting.n+1) < b.parties {
		a.busy("%d of the %d parties of the barrier %q are there", b.waiting.n, b.parties, a.Object)
		return
	}
	b.waiting.add(a)
	b.gather()
}

// gather completes a round if enough parties are there: with an action it stops at the first of
// those that has to run it.
func (b *barrier) gather() {
	for b.runner == nil && b.parties > 0 && int64(b.waiting.n) >= b.parties {
		for range b.parties - 1 {
			b.passing.add(b.waiting.next())
		}
		last := b.waiting.next()
		if last.Action {
			b.runner = last.member
			last.answer(wire.Reply{N: b.parties - 1, Flag: true})
			return
		}
		b.finish()
		last.answer(wire.Reply{N: b.parties - 1})
	}
}

// finish lets those pass that have waited for the rest of their round, each with its number in it.
func (b *barrier) finish() {
	for i, a := range b.passing.all() {
		a.answer(wire.Reply{N: int64(i)})
	}
}

func (b *barrier) pass(a *ask) {
	if b.runner != a.member {
		a.refuse(wire.FaultBroken, "%s runs no action of the barrier %q: its round was broken or reset meanwhile",
			a.member.who, a.Object)
		return
	}
	b.runner = nil
	b.finish()
	a.answer(wire.Reply{})
	b.gather()
}

// breakUp breaks the barrier: all that wait are told why, those of the round of an action first.
func (b *barrier) breakUp(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	for _, l := range []*line{&b.passing, &b.waiting} {
		for _, a := range l.all() {
			a.refuse(wire.FaultBroken, "the barrier %q was %s", a.Object, why)
		}
	}
	b.runner, b.broken = nil, true
}

func (b *barrier) cancel(a *ask) {
	a.leaveLine()
	a.cancelled()
	why := "given up by %s"
	if a.member.left {
		why = "broken by the end of %s"
	}
	b.breakUp(why, a.member.who)
}

func (b *barrier) leave(m *member) {
	if b.runner == m {
		b.breakUp("broken by the end of %s, which ran its action", m.who)
	}
}

func (b *barrier) drop() {
	for _, l := range []*line{&b.passing, &b.waiting} {
		for _, a := range l.all() {
			a.gone()
		}
	}
	b.runner = nil
}

func (b *barrier) describe(o *wire.Object) {
	o.State = fmt.Sprintf("%d of %d wait", b.waiting.n+b.passing.n, b.parties)
	if b.broken {
		o.State = "broken"
	}
	if b.runner != nil {
		o.Holders = []string{b.runner.who.String()}
		o.State += ", action run by " + o.Holders[0]
	}
	o.Waiting = append(b.passing.names(), b.waiting.names()...)
}

func (b *barrier) idle() bool {
	return !b.broken && b.runner == nil && b.waiting.n == 0
}
