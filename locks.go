package gpool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gpool/internal/pool/hub/wire"
)

// Lock is a lock between processes. Whoever asks first gets it first. Any process may unlock it, as in Python.
//
// When the process that has it ends, it is unlocked, and whoever gets it next is told ([Lock.Abandoned]).
// Lock costs a round trip to the hub, and Unlock one write.
type Lock struct{ ref }

// NewLock makes a lock.
func NewLock(h Hub, o ...ObjectOption) Lock { return Lock{newHandle(h, "lock", 0, o)} }

// Lock waits for the lock, until ctx ends; then it returns the cause of that.
func (l Lock) Lock(ctx context.Context) error { return l.acquire(ctx, wire.LockAcquire, 0) }

// LockStrict is Lock, but if the process that had the lock has died with it, the lock is passed on (and is not abandoned any
// more) and the error is [ErrAbandoned].
func (l Lock) LockStrict(ctx context.Context) error {
	if err := l.Lock(ctx); err != nil || !l.Abandoned() {
		return err
	}
	return errors.Join(ErrAbandoned, l.Unlock())
}

// TryLock takes the lock if nobody has it, and reports whether it did.
func (l Lock) TryLock() (bool, error) { return l.try(wire.LockAcquire, 0) }

// Unlock lets the next one have it. A lock that this process has not taken and nobody has is [ErrNotHeld]; of one that it took and that somebody
// else has unlocked, or that was lost with the connection to the hub, it may also return nil: nobody is asked.
func (l Lock) Unlock() error { return l.unlock(wire.LockRelease, 0) }

// Abandoned reports whether the process that had the lock before this one died with it. It may be asked while
// this process has the lock.
func (l Lock) Abandoned() bool { return l.abandoned(0) }

// Locked reports whether somebody has it.
func (l Lock) Locked() (bool, error) {
	reply, err := l.call(context.Background(), l.request(wire.LockState))
	return reply.Flag, err
}

// MarshalBinary makes the handle a value that can travel.
func (l Lock) MarshalBinary() ([]byte, error) { return l.marshal() }

// MarshalText is [Lock.MarshalBinary], for JSON and the like.
func (l Lock) MarshalText() ([]byte, error) { return l.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (l *Lock) UnmarshalBinary(b []byte) error { return l.unmarshal(b, "lock") }

// UnmarshalText reads what MarshalText has written.
func (l *Lock) UnmarshalText(text []byte) error { return l.UnmarshalBinary(text) }

// RLock is a lock that its owner may take again; it must then unlock it as often. The owner is the
// call that runs, by its context, or what [WithOwner] says. Nobody else may unlock it: [ErrNotOwner].
// In all else it is as a [Lock].
type RLock struct{ ref }

// NewRLock makes a reentrant lock.
func NewRLock(h Hub, o ...ObjectOption) RLock { return RLock{newHandle(h, "rlock", 0, o)} }

// Lock waits for the lock, until ctx ends; then it returns the cause of that.
func (l RLock) Lock(ctx context.Context) error {
	return l.acquire(ctx, wire.RLockAcquire, ownerOf(ctx))
}

// TryLock takes the lock if nobody else has it, and reports whether it did.
func (l RLock) TryLock(ctx context.Context) (bool, error) {
	return l.try(wire.RLockAcquire, ownerOf(ctx))
}

// Unlock takes back one Lock of the owner.
func (l RLock) Unlock(ctx context.Context) error { return l.unlock(wire.RLockRelease, ownerOf(ctx)) }

// Abandoned is [Lock.Abandoned].
func (l RLock) Abandoned(ctx context.Context) bool { return l.abandoned(ownerOf(ctx)) }

// MarshalBinary makes the handle a value that can travel.
func (l RLock) MarshalBinary() ([]byte, error) { return l.marshal() }

// MarshalText is [RLock.MarshalBinary], for JSON and the like.
func (l RLock) MarshalText() ([]byte, error) { return l.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (l *RLock) UnmarshalBinary(b []byte) error { return l.unmarshal(b, "rlock") }

// UnmarshalText reads what MarshalText has written.
func (l *RLock) UnmarshalText(text []byte) error { return l.UnmarshalBinary(text) }

func (h ref) holdKey(owner uint64) string { return h.key() + "/" + strconv.FormatUint(owner, 16) }

func (h ref) acquire(ctx context.Context, op wire.Op, owner uint64) error {
	r := h.request(op)
	r.Wait, r.Owner = true, owner
	reply, err := h.call(ctx, r)
	if err != nil {
		return err
	}
	h.taken(owner, reply)
	return nil
}

func (h ref) try(op wire.Op, owner uint64) (bool, error) {
	r := h.request(op)
	r.Owner = owner
	reply, err := h.call(context.Background(), r)
	switch {
	case refused(err, wire.FaultBusy):
		return false, nil
	case err != nil:
		return false, err
	}
	h.taken(owner, reply)
	return true, nil
}

// taken notes that this process has the lock once more.
func (h ref) taken(owner uint64, reply wire.Reply) {
	p := h.at.post
	p.mu.Lock()
	defer p.mu.Unlock()
	key := h.holdKey(owner)
	if was := p.holds[key]; reply.N > 1 {
		p.holds[key] = hold{was.times + 1, was.abandoned}
	} else { // what it had before was taken from it
		p.holds[key] = hold{1, reply.Flag}
	}
}

// unlock gives up what this process has with one message that nobody answers; about what it has not it asks.
func (h ref) unlock(op wire.Op, owner uint64) error {
	r := h.request(op)
	r.Owner = owner
	if h.at == nil {
		return ErrNoHandle
	}
	p := h.at.post
	p.mu.Lock()
	key := h.holdKey(owner)
	was, ours := p.holds[key]
	switch {
	case was.times > 1:
		p.holds[key] = hold{was.times - 1, was.abandoned}
	case ours:
		delete(p.holds, key)
	}
	p.mu.Unlock()
	if !ours {
		_, err := h.call(context.Background(), r)
		return err
	}
	c, err := p.reach(context.Background())
	if err != nil {
		return err
	}
	r.Hold = true // it is ours: if it has been taken from us, it stays with who has it
	return publicFault(r, c.Send(r))
}

func (h ref) abandoned(owner uint64) bool {
	if h.at == nil {
		return false
	}
	h.at.post.mu.Lock()
	defer h.at.post.mu.Unlock()
	return h.at.post.holds[h.holdKey(owner)].abandoned
}

// Semaphore is a number of units that processes take and give back. Whoever asks first is served first.
type Semaphore struct{ ref }

// NewSemaphore makes a semaphore with some units to begin with. There may be more later.
func NewSemaphore(h Hub, units int, o ...ObjectOption) Semaphore {
	return Semaphore{newHandle(h, "sem", int64(units), o)}
}

// NewBoundedSemaphore makes a semaphore that never has more units than it began with: a Release that is one
// too many is [ErrOverflow].
func NewBoundedSemaphore(h Hub, units int, o ...ObjectOption) Semaphore {
	return Semaphore{newHandle(h, "bsem", int64(units), o)}
}

func (s Semaphore) op(name string) wire.Op {
	if s.at == nil {
		return wire.Op("sem." + name)
	}
	return wire.Op(s.at.kind + "." + name)
}

// Acquire waits for a unit, until ctx ends; then it returns the cause of that. The unit belongs to nobody: any process may give it
// back, and it does not come back by itself when this one ends. See [Semaphore.With].
func (s Semaphore) Acquire(ctx context.Context) error { return s.AcquireN(ctx, 1) }

// AcquireN waits for n units at once.
func (s Semaphore) AcquireN(ctx context.Context, n int) error {
	r := s.request(s.op("acquire"))
	r.N, r.Wait = int64(n), true
	_, err := s.call(ctx, r)
	return err
}

// TryAcquire takes a unit if one is free, and reports whether it did.
func (s Semaphore) TryAcquire() (bool, error) {
	r := s.request(s.op("acquire"))
	r.N = 1
	_, err := s.call(context.Background(), r)
	if refused(err, wire.FaultBusy) {
		return false, nil
	}
	return err == nil, err
}

// Release gives n units back; none is one.
func (s Semaphore) Release(n ...int) error {
	r := s.request(s.op("release"))
	r.N = 1
	if len(n) > 0 {
		r.N = int64(n[0])
	}
	_, err := s.call(context.Background(), r)
	return err
}

// With runs fn with one unit, which comes back when fn returns, and also when this process ends.
func (s Semaphore) With(ctx context.Context, fn func() error) (err error) {
	r := s.request(s.op("acquire"))
	r.N, r.Wait, r.Hold = 1, true, true
	if _, err := s.call(ctx, r); err != nil {
		return err
	}
	defer func() {
		back := s.request(s.op("release"))
		back.N, back.Hold = 1, true
		_, failed := s.call(context.Background(), back)
		err = errors.Join(err, failed)
	}()
	return fn()
}

// Value is the number of units that are free.
func (s Semaphore) Value() (int, error) {
	reply, err := s.call(context.Background(), s.request(s.op("state")))
	return int(reply.N), err
}

// MarshalBinary makes the handle a value that can travel.
func (s Semaphore) MarshalBinary() ([]byte, error) { return s.marshal() }

// MarshalText is [Semaphore.MarshalBinary], for JSON and the like.
func (s Semaphore) MarshalText() ([]byte, error) { return s.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (s *Semaphore) UnmarshalBinary(b []byte) error { return s.unmarshal(b, "sem", "bsem") }

// UnmarshalText reads what MarshalText has written.
func (s *Semaphore) UnmarshalText(text []byte) error { return s.UnmarshalBinary(text) }

// Event is a flag that processes set and wait for.
type Event struct{ ref }

// NewEvent makes an event that is not set.
func NewEvent(h Hub, o ...ObjectOption) Event { return Event{newHandle(h, "event", 0, o)} }

// Set sets it: who waits goes on, and nobody waits until it is cleared.
func (e Event) Set() error { return e.simply(wire.EventSet) }

// Clear takes Set back.
func (e Event) Clear() error { return e.simply(wire.EventClear) }

func (e Event) simply(op wire.Op) error {
	_, err := e.call(context.Background(), e.request(op))
	return err
}

// IsSet reports whether it is set.
func (e Event) IsSet() (bool, error) {
	reply, err := e.call(context.Background(), e.request(wire.EventState))
	return reply.Flag, err
}

// Wait waits until it is set, or until ctx ends; then it returns the cause of that.
func (e Event) Wait(ctx context.Context) error {
	r := e.request(wire.EventWait)
	r.Wait = true
	_, err := e.call(ctx, r)
	return err
}

// MarshalBinary makes the handle a value that can travel.
func (e Event) MarshalBinary() ([]byte, error) { return e.marshal() }

// MarshalText is [Event.MarshalBinary], for JSON and the like.
func (e Event) MarshalText() ([]byte, error) { return e.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (e *Event) UnmarshalBinary(b []byte) error { return e.unmarshal(b, "event") }

// UnmarshalText reads what MarshalText has written.
func (e *Event) UnmarshalText(text []byte) error { return e.UnmarshalBinary(text) }

// Cond is a condition: who has its lock may wait until somebody else, who has the lock, notifies it.
type Cond struct{ ref }

// CondLock is a lock that a condition can have: a [Lock] or an [RLock].
type CondLock interface{ condLock() ref }

func (l Lock) condLock() ref  { return l.ref }
func (l RLock) condLock() ref { return l.ref }

// NewCond makes a condition with a lock of the same hub.
func NewCond(h Hub, l CondLock, o ...ObjectOption) Cond {
	c := Cond{newHandle(h, "cond", 0, o)}
	c.at.more = escape(l.condLock().key())
	return c
}

// lock is the lock of the condition.
func (c Cond) lock() ref {
	if c.at == nil {
		return ref{}
	}
	kind, name := splitKey(c.at.more)
	return ref{&object{post: c.at.post, kind: kind, name: name}}
}

// owner is whose lock it is: a Lock has only processes as owners.
func (c Cond) owner(ctx context.Context) uint64 {
	if l := c.lock(); l.at != nil && l.at.kind == "rlock" {
		return ownerOf(ctx)
	}
	return 0
}

// Lock takes the lock of the condition.
func (c Cond) Lock(ctx context.Context) error {
	l := c.lock()
	if l.at != nil && l.at.kind == "lock" {
		return Lock{l}.Lock(ctx)
	}
	return RLock{l}.Lock(ctx)
}

// Unlock gives it back.
func (c Cond) Unlock(ctx context.Context) error {
	l := c.lock()
	if l.at != nil && l.at.kind == "lock" {
		return Lock{l}.Unlock()
	}
	return RLock{l}.Unlock(ctx)
}

// Wait gives the lock up, all levels of it, waits to be notified, and returns when it has it again, on the same level.
// When ctx ends it returns the cause of that, also with the lock, for which it may have to wait.
func (c Cond) Wait(ctx context.Context) error {
	r := c.request(wire.CondWait)
	r.With, r.Owner, r.Wait = c.lock().key(), c.owner(ctx), true
	reply, err := c.call(ctx, r)
	if err != nil {
		return err
	}
	if reply.M == 1 {
		c.markAbandoned(r.Owner)
	}
	if !reply.Flag {
		return context.Cause(ctx)
	}
	return nil
}

func (c Cond) markAbandoned(owner uint64) {
	p := c.at.post
	p.mu.Lock()
	defer p.mu.Unlock()
	key := c.lock().holdKey(owner)
	if was, ok := p.holds[key]; ok {
		p.holds[key] = hold{was.times, true}
	}
}

// WaitFor waits until ok, which runs with the lock held, returns true.
func (c Cond) WaitFor(ctx context.Context, ok func() bool) error {
	for !ok() {
		if err := c.Wait(ctx); err != nil {
			if ok() {
				return nil
			}
			return err
		}
	}
	return nil
}

// Notify wakes up to n of those that wait, the longest waiting first. The caller has the lock.
func (c Cond) Notify(ctx context.Context, n int) error {
	if n < 1 {
		return fmt.Errorf("gpool: Notify(%d): at least 1 can be woken", n)
	}
	return c.notify(ctx, n)
}

// NotifyAll wakes all that wait. The caller has the lock.
func (c Cond) NotifyAll(ctx context.Context) error { return c.notify(ctx, 0) }

func (c Cond) notify(ctx context.Context, n int) error {
	r := c.request(wire.CondNotify)
	r.With, r.Owner, r.N = c.lock().key(), c.owner(ctx), int64(n)
	_, err := c.call(ctx, r)
	return err
}

// MarshalBinary makes the handle a value that can travel.
func (c Cond) MarshalBinary() ([]byte, error) { return c.marshal() }

// MarshalText is [Cond.MarshalBinary], for JSON and the like.
func (c Cond) MarshalText() ([]byte, error) { return c.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (c *Cond) UnmarshalBinary(b []byte) error { return c.unmarshal(b, "cond") }

// UnmarshalText reads what MarshalText has written.
func (c *Cond) UnmarshalText(text []byte) error { return c.UnmarshalBinary(text) }

// Barrier lets a number of parties pass together, again and again.
type Barrier struct{ ref }

// BarrierTimeout is how long a party waits at most, if its context does not end before.
func BarrierTimeout(d time.Duration) ObjectOption { return func(o *object) { o.more = d.String() } }

// NewBarrier makes a barrier for so many parties.
func NewBarrier(h Hub, parties int, o ...ObjectOption) Barrier {
	return Barrier{newHandle(h, "barrier", int64(parties), o)}
}

// Wait waits until all parties do, and returns which of them this one is, each number from 0 to parties-1 once. If ctx ends first,
// or a party does, the barrier is broken: all that wait get [ErrBarrierBroken], and so does whoever comes, until Reset.
func (b Barrier) Wait(ctx context.Context) (int, error) { return b.wait(ctx, nil) }

// WaitThen is Wait with something to do before the parties pass: the last that arrives does it. (If some
// parties call Wait, and one of them is the last, nobody does.) If it fails, the barrier is broken, and this party returns its error.
func (b Barrier) WaitThen(ctx context.Context, action func() error) (int, error) {
	return b.wait(ctx, action)
}

func (b Barrier) wait(ctx context.Context, action func() error) (int, error) {
	if b.at != nil && b.at.more != "" {
		limit, err := time.ParseDuration(b.at.more)
		if err != nil {
			return 0, fmt.Errorf("gpool: the time limit of the barrier %q: %w", b.at.name, err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if ctx.Err() != nil { // it has given up already
		return 0, errors.Join(context.Cause(ctx), b.Abort())
	}
	r := b.request(wire.BarrierWait)
	r.Wait, r.Action = true, action != nil
	reply, err := b.call(ctx, r)
	if err == nil && reply.Flag {
		err = b.act(action)
	}
	return int(reply.N), err
}

// act runs the action for all parties. A panic breaks the barrier, and goes on.
func (b Barrier) act(action func() error) (err error) {
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, b.Abort())
		}
	}()
	if err = action(); err != nil {
		return err
	}
	done = true
	return b.simply(wire.BarrierPass)
}

// Abort breaks the barrier.
func (b Barrier) Abort() error { return b.simply(wire.BarrierAbort) }

// Reset makes the barrier whole; who waits gets [ErrBarrierBroken].
func (b Barrier) Reset() error { return b.simply(wire.BarrierReset) }

func (b Barrier) simply(op wire.Op) error {
	_, err := b.call(context.Background(), b.request(op))
	return err
}

// Waiting is how many parties wait, and whether the barrier is broken.
func (b Barrier) Waiting() (n int, broken bool, err error) {
	reply, err := b.call(context.Background(), b.request(wire.BarrierState))
	return int(reply.N), reply.Flag, err
}

// Parties is how many pass together.
func (b Barrier) Parties() int {
	if b.at == nil {
		return 0
	}
	return int(b.at.init)
}

// MarshalBinary makes the handle a value that can travel.
func (b Barrier) MarshalBinary() ([]byte, error) { return b.marshal() }

// MarshalText is [Barrier.MarshalBinary], for JSON and the like.
func (b Barrier) MarshalText() ([]byte, error) { return b.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (b *Barrier) UnmarshalBinary(text []byte) error { return b.unmarshal(text, "barrier") }

// UnmarshalText reads what MarshalText has written.
func (b *Barrier) UnmarshalText(text []byte) error { return b.UnmarshalBinary(text) }
