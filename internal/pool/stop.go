package pool

import (
	"time"

	"gpool/internal/ipc"
)

// The loop's part in ending things before they end by themselves: calls, jobs, and the
// whole pool, because somebody wants it or a limit of time has passed.

// owedMost is how much output of a call has come and was not taken when it surely waits
// for that: a worker sends 1 MiB ahead, and hears of what was taken by quarters.
const owedMost = 1<<20 - creditStep

// killDelay is how long commands have between SIGTERM and SIGKILL.
const killDelay = 500 * time.Millisecond

// stopJob ends one job: as Pool.Stop does, and without harm to others.
func (l *loop) stopJob(m jobStopped) {
	j := l.jobs[m.Running]
	switch {
	case j == nil:
	case m.level == Drain:
		l.halt(m.Running)
	case m.level == Terminate:
		l.giveUp(m.Running)
	case m.level == Kill:
		l.halt(m.Running)
		l.overdue(m.Running)
	}
}

// haltNow ends a job as its Halt says.
func (l *loop) haltNow(j *jobPlan) {
	j.running.halted.Store(true)
	if j.running.job.Halt.Now {
		l.giveUp(j.running)
	} else {
		l.halt(j.running)
	}
}

// giveUp ends one job whose consumer has failed, or is not interested any more. Its
// running calls are asked to end; calls of other jobs go on.
func (l *loop) giveUp(r *Running) {
	j := l.jobs[r]
	if j == nil {
		return
	}
	l.halt(r)
	l.cancel(j)
	inbox := l.pool.inbox
	time.AfterFunc(l.config.Grace, func() { inbox.put(overdue{r}) })
}

// overdue ends the workers that still run a call of a job that was given up.
func (l *loop) overdue(r *Running) {
	for slot, k := range l.links {
		s := &l.plan.slots[slot]
		if f := s.head(); k != nil && f != nil && f.job == l.jobs[r] {
			s.condemned = f.id
			k.fail(ErrCancelled)
		}
	}
}

// cancelCall gives up one call. One that the source has not handed out yet is left to it.
func (l *loop) cancelCall(m callCancelled) {
	j := l.jobs[m.Running]
	if j == nil {
		return
	}
	if c, ok := j.take(m.item); ok {
		l.unwanted(j, &c)
		return
	}
	slot, id, ok := l.plan.locate(j, m.item)
	if !ok {
		return
	}
	k, inbox := l.links[slot], l.pool.inbox
	k.askToEnd(id, ipc.ReasonGivenUp)
	time.AfterFunc(l.config.Grace, func() { inbox.put(stubborn{k, id}) })
}

// stubborn ends a worker that still runs a call that was given up. One that waits
// before it is answered as cancelled when its turn comes.
func (l *loop) stubborn(m stubborn) {
	if !l.lives(m.link) {
		return
	}
	s := &l.plan.slots[m.slot]
	if f := s.head(); f != nil && f.id == m.id {
		s.condemned = f.id
		m.link.fail(ErrCancelled)
	}
}

// enforce asks calls to end that have reached their soft limit, and ends the workers
// of those that have reached their hard one. It returns when the next limit is due.
func (l *loop) enforce(now time.Time) time.Time {
	for slot, k := range l.links {
		if k != nil {
			l.plan.slots[slot].stall(k.owed.Load(), time.Unix(0, k.taken.Load()), now)
		}
	}
	for {
		c, due, ok := l.plan.overdue(now)
		if !ok {
			return due
		}
		k := l.links[c.slot]
		if c.hard {
			k.fail(&LimitError{Seq: c.seq, Limit: c.limit, Hard: true})
			continue
		}
		k.askToEnd(c.id, ipc.ReasonTimeLimit)
	}
}

// stop raises the level.
func (l *loop) stop(level Level) {
	if level <= l.level {
		return
	}
	l.level = level
	for r := range l.jobs {
		l.halt(r)
	}
	switch level {
	case Terminate:
		l.cancel(nil)
		inbox := l.pool.inbox
		time.AfterFunc(l.config.Grace, func() { inbox.put(killTime{}) })
	case Kill:
		for _, k := range l.links {
			if k != nil {
				k.kill()
			}
		}
	}
}

// cancel asks the calls of a job to end, or those of all jobs if j is nil. Every call
// before a worker is named: which of them it runs may have changed.
func (l *loop) cancel(j *jobPlan) {
	for slot, k := range l.links {
		if k == nil {
			continue
		}
		for _, f := range l.plan.slots[slot].flights {
			if j != nil && f.job != j {
				continue
			}
			for i := range f.calls {
				k.askToEnd(f.id+uint64(i), ipc.ReasonGivenUp)
			}
		}
	}
}

// halt ends the input of a job: what waits is not run, and what waits before a
// worker comes back from there.
func (l *loop) halt(r *Running) {
	j := l.jobs[r]
	r.stop()
	l.drop(r, j)
	for slot := range l.plan.slots {
		l.recallAhead(slot)
	}
}

// recallAhead calls back what waits before a worker behind the call that it runs.
func (l *loop) recallAhead(slot int) {
	s, k := &l.plan.slots[slot], l.links[slot]
	if f := s.head(); f != nil && s.calls > 1 && k != nil {
		k.recall(f.id + 1)
	}
}

// drop gives everything that waits the result that it was not run.
func (l *loop) drop(r *Running, j *jobPlan) {
	for _, seg := range j.halt() {
		for i := range seg.calls {
			c := &seg.calls[i]
			l.end(j, Result{Call: c, Kind: Cancelled, Err: l.because(ErrNotRun)})
		}
	}
}

// suspend tells the workers to stop what they run, or to let it go on, and closes
// toldC once all have been told.
func (l *loop) suspend(m suspended) {
	switch {
	case m.on && l.suspended.IsZero():
		l.suspended = time.Now()
	case !m.on && !l.suspended.IsZero():
		l.plan.paused(time.Since(l.suspended))
		l.suspended = time.Time{}
	}
	var told []chan struct{}
	for _, k := range l.links {
		if k != nil {
			told = append(told, k.suspend(m.on))
		}
	}
	go func() { // ends when every writer has written, or has ended
		defer close(m.toldC)
		for _, c := range told {
			select {
			case <-c:
			case <-time.After(killDelay): // it is being launched, or does not read
			}
		}
	}()
}

// retire tells all workers to leave, and reports whether none is left. After a stop
// that does not wait for calls, it does not wait for what they left behind either.
func (l *loop) retire() bool {
	none := true
	for slot, k := range l.links {
		if k == nil {
			continue
		}
		none = false
		leaving := l.plan.slots[slot].state == slotLeaving
		l.plan.slots[slot].state = slotLeaving
		switch {
		case l.level >= Terminate: // it must not leave by itself first: what it leaves behind would stay
			k.kill()
		case !leaving:
			k.leave()
		}
	}
	return none
}
