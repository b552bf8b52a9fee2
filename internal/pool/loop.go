package pool

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"gpool/internal/ipc"
)

// message is what the loop is sent: one of the types below, or arrivals.
type message any

type (
	submitted struct{ *Running }
	pulled    struct { // the feeder: calls from the source
		*Running
		calls []Call
		err   error
	}
	consumed struct { // the deliverer: so many results, of so many bytes of payload
		*Running
		results, bytes int
		taken          int // results that it has got, also those whose turn has not come
	}
	unconsumed struct{ *Running } // the deliverer: the consumer has failed
	gone       struct {           // a link: its worker has ended, and so has everything of it
		*link
		launch error // it was never started
		pid    int
		exit   Exit
		cause  error
		stderr string
		record Recording
	}
	jobStopped struct { // a caller: one job is stopped
		*Running
		level Level
	}
	callCancelled struct { // a caller: one call is given up
		*Running
		item any
	}
	unsent struct { // a link: the chunk with this id is too large to be sent
		*link
		id  uint64
		err error
	}
	measured struct { // a link: its worker holds so much memory, and its call so much
		*link
		bytes, call int64
	}
	stopped  struct{ level Level }
	killTime struct{}           // the running calls have had their time to end
	overdue  struct{ *Running } // those of one job have
	stubborn struct {           // one call has
		*link
		id uint64
	}
	suspended struct {
		on    bool
		toldC chan struct{}
	}
	resized   struct{ workers int }
	awaited   struct{ replyC chan error }
	inspected struct{ replyC chan Stats }
	closing   struct{}
)

// loop is the goroutine that owns the plan and the slots. It never blocks but on
// its inbox and its timer.
type loop struct {
	pool      *Pool
	config    *Config
	plan      *plan
	links     []*link // by slot, nil if there is none
	jobs      map[*Running]*jobPlan
	asked     map[*Running]bool // a demand is with the feeder
	level     Level             // how far the pool is stopped
	closed    bool
	suspended time.Time    // since when, zero if it is not
	awaiting  []chan error // answered when all workers have said hello
	noRoomFor error        // why there was no room for one more worker, last
	failed    error        // why the pool has failed
	timer     *time.Timer
}

func newLoop(p *Pool) *loop {
	l := &loop{
		pool:   p,
		config: &p.config,
		plan:   newPlan(p.config.Workers, p.config.Quota),
		links:  make([]*link, p.config.Workers),
		jobs:   make(map[*Running]*jobPlan),
		asked:  make(map[*Running]bool),
	}
	l.plan.eager, l.plan.limit, l.plan.paced = p.config.Eager, p.config.Restarts, p.config.Gate != nil
	return l
}

// run is the loop: take what has gathered, book it, decide what follows.
func (l *loop) run() {
	l.timer = time.AfterFunc(time.Hour, l.pool.inbox.wake)
	defer l.timer.Stop()
	l.timer.Stop()
	var spare []message
	for {
		list, _ := l.pool.inbox.take(spare)
		for _, m := range list {
			l.handle(m)
		}
		spare = list
		again := l.dispatch(time.Now())
		if l.closed && len(l.jobs) == 0 && l.retire() {
			l.pool.inbox.close()
			l.refuse()
			l.pool.last = l.plan.stats(time.Now())
			return
		}
		if !again.IsZero() {
			l.timer.Reset(time.Until(again))
		}
		<-l.pool.inbox.wakeC
	}
}

func (l *loop) handle(m message) {
	switch m := m.(type) {
	case arrivals:
		l.arrived(m)
	case pulled:
		l.pulled(m)
	case consumed:
		if j := l.jobs[m.Running]; j != nil {
			j.consumed += uint64(m.results)
			j.bytes -= m.bytes
			j.untaken -= m.taken
		}
	case unconsumed:
		l.giveUp(m.Running)
	case submitted:
		l.submitted(m.Running)
	case gone:
		l.gone(m)
	case stopped:
		l.stop(m.level)
	case killTime:
		l.stop(Kill)
	case overdue:
		l.overdue(m.Running)
	case jobStopped:
		l.stopJob(m)
	case callCancelled:
		l.cancelCall(m)
	case stubborn:
		l.stubborn(m)
	case unsent:
		l.unsent(m)
	case measured:
		l.measured(m)
	case suspended:
		l.suspend(m)
	case resized:
		l.resize(m.workers)
	case awaited:
		l.awaiting = append(l.awaiting, m.replyC)
	case inspected:
		l.inspect(m)
	case closing:
		l.closed, l.plan.eager = true, false
	}
}

func (l *loop) submitted(r *Running) {
	l.jobs[r] = l.plan.add(r)
	go r.feed()
	l.pool.deliverers.Go(r.deliver)
	switch {
	case l.closed || l.failed != nil:
		r.err = errors.Join(ErrClosed, l.failed)
		l.halt(r)
	case l.level > 0: // stopped before it began: nothing of it is run
		l.halt(r)
	}
}

// refuse fails the jobs that were handed in while the loop was ending.
func (l *loop) refuse() {
	list, _ := l.pool.inbox.take(nil)
	for _, m := range list {
		switch m := m.(type) {
		case submitted:
			m.finish(ErrClosed)
		case suspended:
			close(m.toldC)
		case awaited:
			m.replyC <- ErrClosed
		case inspected:
			m.replyC <- l.plan.stats(time.Now())
		}
	}
}

// settle decides what a result of a call is: its last one, or that of an attempt that
// is followed by another. It counts it.
func (l *loop) settle(j *jobPlan, r *Result) {
	if retry := j.retryOf(r.Call); retry != nil && retry.again(*r) {
		if !j.halted {
			l.again(j, r)
			return
		}
		r.CutShort = true
	}
	j.settle(r)
	j.untaken++
	l.plan.counted.count(r)
	j.ended(r)
}

// again lets a call that has failed be run once more.
func (l *loop) again(j *jobPlan, r *Result) {
	kept := *r // for as long as the call is not over
	j.retry(&kept, time.Now(), rand.Float64())
	l.plan.counted.Retried++
	l.tellCall(Event{Kind: CallRetried, Slot: r.Slot, Pid: r.Pid, Task: j.task(r.Call), Result: &kept})
	*r = kept
	r.retried = true
}

// end gives a call its result.
func (l *loop) end(j *jobPlan, r Result) {
	l.settle(j, &r)
	j.running.postResults([]Result{r})
}

// pulled takes calls from a job's source.
func (l *loop) pulled(m pulled) {
	j := l.jobs[m.Running]
	if j == nil {
		if m.job.Dropped != nil {
			m.job.Dropped(m.calls)
		}
		return
	}
	l.asked[m.Running] = false
	for _, c := range j.push(m.calls, time.Now()) {
		r := Result{Call: &c, Kind: Failed, Err: c.Err}
		if errors.Is(c.Err, ErrSkip) {
			r.Kind = Skipped
		}
		l.end(j, r)
	}
	if m.err != nil {
		j.inputDone = true
		if m.err != io.EOF && m.ctx.Err() == nil {
			m.Running.err = m.err
		}
	}
}

// dispatch starts workers, sends chunks, asks for input and ends jobs, as the plan
// says. It returns when it should be called again at the latest.
func (l *loop) dispatch(now time.Time) (again time.Time) {
	for r, j := range l.jobs {
		backlog := r.backlog.Load()
		j.behind = backlog > backlogHigh || j.behind && backlog > backlogLow
		j.paused = j.behind || j.single && j.untaken >= l.plan.target
	}
	for _, j := range l.jobs {
		if j.haltDue && !j.halted {
			l.haltNow(j)
		}
		again = sooner(again, j.comeBack(now))
	}
	if l.level == 0 && l.failed == nil {
		again = sooner(again, l.send(now))
		for slot, ok := l.plan.toStart(); ok; slot, ok = l.plan.toStart() {
			l.start(slot)
		}
		slot, id, due, ok := l.plan.toRecall(now)
		for ; ok; slot, id, due, ok = l.plan.toRecall(now) {
			l.links[slot].recall(id)
		}
		again = sooner(again, due)
	}
	if l.suspended.IsZero() {
		again = sooner(again, l.enforce(now))
	}
	for r, j := range l.jobs {
		l.advance(r, j)
	}
	l.answerAwaiting()
	return again
}

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// send sends chunks as long as the plan has any, and the gate admits them. It returns
// when the gate should be asked again.
func (l *loop) send(now time.Time) (again time.Time) {
	for {
		ok, again := l.admit(now)
		if !ok {
			return again
		}
		c, ok := l.plan.next(now, l.unwanted)
		if !ok {
			return time.Time{}
		}
		k := l.links[c.slot]
		k.outbox.put(outgoing{kind: ipc.KindRun, run: c.flight})
		if c.last { // it may go when it has run them: no round trip is lost
			k.outbox.put(outgoing{kind: ipc.KindBye})
		}
		if l.plan.slots[c.slot].calls == len(c.calls) {
			l.tellBegun(c.slot)
		}
	}
}

// admit asks the gate, if there is one, whether a chunk may be sent.
func (l *loop) admit(now time.Time) (ok bool, again time.Time) {
	gate := l.config.Gate
	if gate == nil {
		return true, time.Time{}
	}
	busy := l.plan.busy()
	if !l.plan.canSend(now) {
		gate.Ended(busy)
		return false, time.Time{}
	}
	return gate.Admit(now, busy)
}

// unwanted gives a call its result that its job does not want any more.
func (l *loop) unwanted(j *jobPlan, c *Call) {
	l.end(j, Result{Call: c, Kind: Cancelled, Err: ErrCancelled})
}

// answerAwaiting answers those who wait for all workers to have started.
func (l *loop) answerAwaiting() {
	if len(l.awaiting) == 0 {
		return
	}
	err := l.failed
	if err == nil && l.plan.room < l.plan.target {
		err = fmt.Errorf("start %d workers: %w", l.plan.target, errors.Join(ErrNoRoom, l.noRoomFor))
	}
	for i := 0; err == nil && i < l.plan.target; i++ {
		if s := &l.plan.slots[i]; s.state == slotEmpty || !s.greeted {
			if l.closed || l.level > 0 {
				err = ErrClosed
				break
			}
			return
		}
	}
	for _, replyC := range l.awaiting {
		replyC <- err // has room for the one answer
	}
	l.awaiting = nil
}

func (l *loop) inspect(m inspected) {
	s := l.plan.stats(time.Now())
	for i := range s.Workers {
		s.Workers[i].link = l.links[s.Workers[i].Slot-1]
	}
	m.replyC <- s
}

// resize changes the number of slots.
func (l *loop) resize(workers int) {
	l.plan.resize(workers)
	l.fit()
	for slot, ok := l.plan.surplus(); ok; slot, ok = l.plan.surplus() {
		l.retireSlot(slot)
	}
}

// retireSlot lets a worker leave once it has finished the call that it runs; what
// waits before it is called back.
func (l *loop) retireSlot(slot int) {
	l.plan.slots[slot].state = slotLeaving
	l.recallAhead(slot)
	l.letGo(l.links[slot])
}

// unsent fails the calls of a chunk that could not be sent. Its worker has heard nothing
// of it, and goes on with what came after.
func (l *loop) unsent(m unsent) {
	if !l.lives(m.link) {
		return
	}
	f, ok := l.plan.withdraw(m.slot, m.id, time.Now())
	if !ok {
		return
	}
	for i := range f.calls {
		l.end(f.job, Result{Call: &f.calls[i], Kind: NotStarted, Err: fmt.Errorf("send the call to a worker: %w", m.err), Attempt: f.attempt})
	}
	l.letGo(m.link)
}

// measured takes how much memory a worker holds.
func (l *loop) measured(m measured) {
	if !l.lives(m.link) {
		return
	}
	limit := l.config.Memory
	switch s := &l.plan.slots[m.slot]; {
	case limit.Call > 0 && m.call > limit.Call && s.calls > 0:
		s.condemned = s.head().id
		m.link.fail(&MemoryError{m.call, limit.Call})
	case limit.Hard > 0 && m.bytes > limit.Hard:
		m.link.fail(&MemoryError{m.bytes, limit.Hard})
	case limit.Soft > 0 && m.bytes > limit.Soft && s.state == slotReady:
		l.retireSlot(m.slot)
	}
}

// advance asks for input, or ends the job.
func (l *loop) advance(r *Running, j *jobPlan) {
	if j.halted && j.waits > 0 { // came too late, from the source or from a worker
		l.drop(r, j)
	}
	if j.over() {
		l.plan.remove(j)
		delete(l.jobs, r)
		delete(l.asked, r)
		close(r.demandC)
		r.stop()
		r.outbox.close()
		return
	}
	if n := l.plan.wants(j); n > 0 && !l.asked[r] {
		l.asked[r] = true
		r.demandC <- n // has room: one demand at a time
	}
}

func (l *loop) start(slot int) {
	l.plan.started(slot, time.Now())
	k := newLink(slot, l.config, l.pool.inbox)
	l.links[slot] = k
	if !l.suspended.IsZero() {
		k.suspend(true)
	}
	go k.live()
}

// lives reports whether a link is that of its slot, and not one of before.
func (l *loop) lives(k *link) bool { return k.slot < len(l.links) && l.links[k.slot] == k }

// fit gives the loop as many places for links as the plan has slots.
func (l *loop) fit() {
	for len(l.links) < len(l.plan.slots) {
		l.links = append(l.links, nil)
	}
	l.links = l.links[:len(l.plan.slots)]
}

func (l *loop) tell(e Event) {
	e.Time = time.Now()
	l.pool.events.put(e)
}

// tellCall tells of a call, if anybody wants to know.
func (l *loop) tellCall(e Event) {
	if !l.config.CallEvents {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.pool.events.put(e)
}
