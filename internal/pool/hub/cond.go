package hub

import "gpool/internal/pool/hub/wire"

func init() {
	makers["cond"] = func(h *Hub, _ *wire.Request) object { return &cond{hub: h} }
}

// cond is a condition. It has who waits to be notified; who has been, or was cancelled, waits for the lock and
// is the lock's. While anybody waits here or there, lock is what the hub has under that name: when it is
// dropped, it ends them all.
type cond struct {
	hub     *Hub
	with    string // the name of its lock, which stays what it was first used with
	lock    *lock
	waiting line
}

func (c *cond) do(a *ask) {
	switch a.Op {
	case wire.CondWait:
		if c.locked(a) {
			c.waiting.add(a)
			c.lock.sleep(a)
		}
	case wire.CondNotify:
		if c.locked(a) {
			c.notify(a)
		}
	default:
		a.unknown()
	}
}

// locked finds the lock and refuses who does not have it. A lock that is missing is not made: nobody has it.
func (c *cond) locked(a *ask) bool {
	if c.with != "" && c.with != a.With {
		a.refuse(wire.FaultMismatch, "the condition %q has the lock %q, not %q", a.Object, c.with, a.With)
		return false
	}
	l, _ := c.hub.objects[a.With].(*lock)
	if l == nil || !l.ownedBy(a) {
		a.refuse(wire.FaultNotHeld, "%s needs the lock %q to be held by who asks: acquire it first", a.Op, a.With)
		return false
	}
	c.with, c.lock = a.With, l
	return true
}

// notify wakes who has waited longest first. They come back when the lock has been released.
func (c *cond) notify(a *ask) {
	if a.N < 0 {
		a.refuse(wire.FaultRefused, "the condition %q cannot wake %d members: say how many, or 0 for all", a.Object, a.N)
		return
	}
	n := int64(c.waiting.n)
	if a.N > 0 {
		n = min(n, a.N)
	}
	for range n {
		c.lock.wake(c.waiting.next(), true)
	}
	a.answer(wire.Reply{N: n})
}

// cancel has a wait come back for the lock, without which it must not go on. One that has been notified is on
// its way already.
func (c *cond) cancel(a *ask) {
	switch {
	case a.member.left:
		a.leaveLine()
		c.lock.forget(a)
		a.cancelled()
	case a.place.line == &c.waiting:
		a.leaveLine()
		c.lock.wake(a, false)
	}
}

func (c *cond) leave(*member) {}

// drop answers who waits to be notified; they do not get the lock back.
func (c *cond) drop() {
	for _, a := range c.waiting.all() {
		c.lock.forget(a)
		a.gone()
	}
}

func (c *cond) describe(o *wire.Object) {
	o.State = "not used yet"
	if c.with != "" {
		o.State = "with " + c.with
	}
	o.Waiting = c.waiting.names()
}

func (c *cond) idle() bool { return c.waiting.n == 0 }
