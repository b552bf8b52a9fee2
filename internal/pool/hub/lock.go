package hub

import (
	"fmt"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["lock"] = func(*Hub, *wire.Request) object { return newLock(false) }
	makers["rlock"] = func(*Hub, *wire.Request) object { return newLock(true) }
}

// lock is had by one member at a time, and if it is reentrant by one owner within it. When it is
// free nobody waits for it.
type lock struct {
	reentrant bool
	holder    *member // nil if it is free
	owner     uint64
	levels    int64 // how often its owner has it
	abandoned bool  // its last holder ended with it, and nobody has been told
	waiting   line
	asleep    map[*ask]*sleep // the waits of conditions for which this lock was given up
}

// sleep is what a wait of a condition comes back to.
type sleep struct {
	levels   int64
	notified bool
}

func newLock(reentrant bool) *lock {
	return &lock{reentrant: reentrant, asleep: make(map[*ask]*sleep)}
}

func (l *lock) do(a *ask) {
	switch a.Op {
	case wire.LockAcquire, wire.RLockAcquire:
		l.acquire(a)
	case wire.LockRelease, wire.RLockRelease:
		l.release(a)
	case wire.LockState, wire.RLockState:
		l.state(a)
	default:
		a.unknown()
	}
}

func (l *lock) acquire(a *ask) {
	switch {
	case l.holder == nil:
		l.grant(a)
	case l.reentrant && l.ownedBy(a):
		l.levels++
		a.answer(wire.Reply{N: l.levels})
	case a.Wait:
		l.waiting.add(a)
	default:
		a.busy("the %s %q is held by %s", a.Op.Kind(), a.Object, l.holder.who)
	}
}

func (l *lock) release(a *ask) {
	switch {
	case l.holder == nil:
		a.refuse(wire.FaultNotHeld, "the %s %q cannot be released: nobody holds it", a.Op.Kind(), a.Object)
		return
	case !l.reentrant && a.Hold && l.holder != a.member:
		a.refuse(wire.FaultNotHeld, "the lock %q cannot be released: it was taken from this process, and %s has it", a.Object, l.holder.who)
		return
	case l.reentrant && !l.ownedBy(a):
		a.refuse(wire.FaultNotOwner, "the rlock %q can be released by its owner only: owner %d of %s, not owner %d of %s",
			a.Object, l.owner, l.holder.who, a.Owner, a.member.who)
		return
	}
	l.levels--
	r := wire.Reply{}
	if l.reentrant {
		r.N = l.levels
	}
	a.answer(r)
	if l.levels == 0 {
		l.pass()
	}
}

func (l *lock) state(a *ask) {
	r := wire.Reply{Flag: l.holder != nil, N: int64(l.waiting.n)}
	if l.holder != nil {
		r.Text = l.holder.who.String()
	}
	if l.reentrant && l.ownedBy(a) {
		r.M = l.levels
	}
	a.answer(r)
}

// ownedBy reports whether who asks has the lock. Owners are told apart only if it is reentrant.
func (l *lock) ownedBy(a *ask) bool {
	return l.holder == a.member && (!l.reentrant || l.owner == a.Owner)
}

// pass gives the lock to who is next, or frees it.
func (l *lock) pass() {
	l.holder, l.owner, l.levels = nil, 0, 0
	if a := l.waiting.next(); a != nil {
		l.grant(a)
	}
}

// grant gives the lock, which is free, to who asks: a member that wants it, or one that comes back from a
// condition, which gets all the levels that it had.
func (l *lock) grant(a *ask) {
	abandoned := l.abandoned
	l.holder, l.owner, l.levels, l.abandoned = a.member, a.Owner, 1, false
	switch s := l.asleep[a]; {
	case s != nil:
		delete(l.asleep, a)
		l.levels = s.levels
		r := wire.Reply{Flag: s.notified}
		if abandoned {
			r.M = 1
		}
		a.answer(r)
	case l.reentrant:
		a.answer(wire.Reply{Flag: abandoned, N: 1})
	default:
		a.answer(wire.Reply{Flag: abandoned})
	}
}

// sleep gives up all levels of the lock for a wait of a condition, which has been put into a line there.
func (l *lock) sleep(a *ask) {
	l.asleep[a] = &sleep{levels: l.levels}
	l.pass()
}

// wake has a wait of a condition, which is in no line any more, come back for the lock. It joins the end of
// the line: who asked for the lock before it was woken gets it before.
func (l *lock) wake(a *ask, notified bool) {
	l.asleep[a].notified = notified
	if l.holder == nil {
		l.grant(a)
	} else {
		l.waiting.add(a)
	}
}

// forget ends a wait of a condition that does not come back.
func (l *lock) forget(a *ask) { delete(l.asleep, a) }

func (l *lock) cancel(a *ask) {
	a.leaveLine()
	a.cancelled()
}

func (l *lock) leave(m *member) {
	if l.holder == m {
		l.abandoned = true
		l.pass()
	}
}

// drop ends the waits of conditions too, since they could never come back.
func (l *lock) drop() {
	for _, a := range l.waiting.all() {
		delete(l.asleep, a)
		a.gone()
	}
	for a := range l.asleep {
		a.leaveLine()
		a.gone()
	}
	clear(l.asleep)
}

func (l *lock) describe(o *wire.Object) {
	o.State = "free"
	if l.holder != nil {
		o.Holders = []string{l.holder.who.String()}
		o.State = "held by " + o.Holders[0]
	}
	if l.reentrant && l.holder != nil {
		o.State += fmt.Sprintf(", owner %d, %d deep", l.owner, l.levels)
	}
	if l.abandoned {
		o.State += ", abandoned by a holder that ended"
	}
	o.Waiting = l.waiting.names()
}

func (l *lock) idle() bool {
	return l.holder == nil && !l.abandoned && len(l.asleep) == 0
}
