package pool

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"gpool/internal/ipc"
)

// The loop's part in the end of workers: what becomes of the call that one ran, whether
// another one is started, and whether the pool can go on.

// gone books the end of a worker.
func (l *loop) gone(m gone) {
	slot, now := m.slot, time.Now()
	if !l.lives(m.link) {
		return
	}
	end := l.replay(m)
	l.links[slot] = nil
	before := l.plan.slots[slot]
	died := &WorkerDiedError{Slot: slot + 1, Pid: m.pid, Exit: m.exit, Cause: m.cause, Stderr: m.stderr}
	useless := before.useless(now) && !ours(m.cause)
	if !useless {
		l.plan.slots[slot].fails = 0
	}
	victim := l.plan.lose(slot, end)
	if victim != nil {
		l.bury(m, victim, died, &before)
	}
	switch {
	case m.launch != nil:
		l.notLaunched(slot, m.launch)
	case before.state == slotLeaving && victim == nil && m.cause == nil:
		l.tell(Event{Kind: WorkerLeft, Slot: slot + 1, Pid: m.pid})
	default:
		l.tell(Event{Kind: WorkerLost, Slot: slot + 1, Pid: m.pid, Err: died})
		switch {
		case before.state == slotStarting && noThreads(m.stderr):
			l.noRoom(slot, fmt.Errorf("start worker %d: it gets no threads: %w", slot+1, syscall.EAGAIN))
		case refused(m.cause): // and so would be the next one
			l.fail(&StartError{slot + 1, died})
		case useless && victim == nil:
			l.notStarted(slot, died)
		}
		l.mourn(died, now)
	}
	l.fit()
}

func refused(cause error) bool {
	_, is := cause.(*RefusedError)
	return is
}

// replay books what a dead worker had finished and could not say any more, and says
// whether it ran a call when it died.
func (l *loop) replay(m gone) ending {
	if !m.record.Known {
		return ranHead
	}
	s := &l.plan.slots[m.slot]
	for i := range m.record.Finished {
		r := &m.record.Finished[i]
		if f := s.head(); f == nil || r.ID < f.id {
			continue // it had arrived
		}
		if l.plan.skip(m.slot, r.ID) != nil {
			return ranHead
		}
		a := arrival{kind: ipc.KindResult, id: r.ID, outcomes: r.Outcomes, start: r.Start, elapsed: r.Elapsed}
		if l.result(m.link, &a) != nil {
			return ranHead // nothing of the record can be believed
		}
	}
	if f := s.head(); f == nil || m.record.Running < f.id {
		return ranNone
	}
	_ = l.plan.skip(m.slot, m.record.Running) // else the record is wrong, and the oldest call is taken for it
	return ranHead
}

// ours reports whether the pool ended a worker for what it ran, and not for a fault.
func ours(cause error) bool {
	switch cause.(type) {
	case *LimitError, *MemoryError:
		return true
	}
	return errors.Is(cause, ErrCancelled)
}

// mourn decides whether the pool can go on after the death of a worker that nobody
// asked for.
func (l *loop) mourn(died *WorkerDiedError, now time.Time) {
	if ours(died.Cause) || l.level >= Kill {
		return
	}
	l.plan.counted.Deaths++
	switch {
	case l.config.BreakOnDeath:
		l.fail(&BrokenError{Err: died})
	case l.plan.died(now):
		l.fail(&BrokenError{Restarts: l.config.Restarts, Err: died})
	}
}

// bury gives the call that a dead worker ran its result. before is its slot as it was.
// Guilty is the call on whose account the worker was ended. Another one may have begun in
// the same moment: it is not run twice, but has lost its worker.
func (l *loop) bury(m gone, victim *flight, died *WorkerDiedError, before *slotPlan) {
	r := Result{
		Call: &victim.calls[0], Kind: WorkerDied, Err: died, Slot: m.slot + 1, Pid: m.pid, Attempt: victim.attempt,
		Start: before.begun, Elapsed: time.Since(before.begun), Printed: before.printed,
	}
	guilty := before.condemned == victim.id
	limit, limited := died.Cause.(*LimitError)
	memory, tooMuch := died.Cause.(*MemoryError)
	switch {
	case l.level >= Terminate || l.failed != nil || guilty && errors.Is(died.Cause, ErrCancelled):
		r.Kind, r.Err = Cancelled, l.because(ErrCancelled)
	case guilty && limited:
		r.Kind, r.Err = TimedOut, limit
	case guilty && tooMuch:
		r.Kind, r.Err = OutOfMemory, memory
	}
	l.end(victim.job, r)
}

// because adds to the error of a call that was given up why the pool has failed.
func (l *loop) because(err error) error {
	if l.failed == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, l.failed)
}

// notLaunched books that no process could be made.
func (l *loop) notLaunched(slot int, err error) {
	for _, e := range []error{syscall.EAGAIN, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			l.noRoom(slot, err)
			return
		}
	}
	l.notStarted(slot, err)
}

// notStarted books a failed start. The third in a row on a slot fails the pool.
func (l *loop) notStarted(slot int, err error) {
	if l.plan.notStarted(slot) {
		l.fail(&StartError{slot + 1, err})
	}
}

// noRoom books that the machine has no room for one more worker. That is no fault as
// long as another one lives.
func (l *loop) noRoom(slot int, err error) {
	l.noRoomFor = err
	room := l.plan.crowded()
	if room == 0 {
		l.notStarted(slot, err)
		return
	}
	l.tell(Event{Kind: WorkersFewer, Slot: slot + 1, Workers: room, Err: err})
}

// noThreads tells the one way in which a Go program, as a worker, dies for want of
// room: limits of processes count its threads, and it cannot go on without.
func noThreads(stderr string) bool {
	return strings.Contains(stderr, "failed to create new OS thread") || strings.Contains(stderr, "pthread_create failed")
}

// fail is the end of the pool: all jobs end with the error.
func (l *loop) fail(err error) {
	if l.failed != nil {
		return
	}
	l.failed = err
	for r := range l.jobs {
		r.err = errors.Join(r.err, err)
	}
	l.stop(Kill)
}
