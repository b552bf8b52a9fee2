package pool

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
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
	}
	unconsumed struct{ *Running } // the deliverer: the consumer has failed
	gone       struct {           // a link: its worker has ended, and so has everything of it
		*link
		launch error // it was never started
		pid    int
		exit   Exit
		cause  error
		stderr string
	}
	stopped   struct{ level Level }
	killTime  struct{}           // the running calls have had their time to end
	overdue   struct{ *Running } // those of one job have
	suspended struct {
		on    bool
		toldC chan struct{}
	}
	closing struct{}
)

// killDelay is how long commands have between SIGTERM and SIGKILL.
const killDelay = 500 * time.Millisecond

// loop is the goroutine that owns the plan and the slots. It never blocks but on
// its inbox and its timer.
type loop struct {
	pool      *Pool
	config    *Config
	plan      *plan
	links     []*link // by slot, nil if there is none
	pids      []int
	jobs      map[*Running]*jobPlan
	asked     map[*Running]bool // a demand is with the feeder
	level     Level             // how far the pool is stopped
	closed    bool
	suspended bool
	failed    error // why the pool has failed
	timer     *time.Timer
}

func newLoop(p *Pool) *loop {
	return &loop{
		pool:   p,
		config: &p.config,
		plan:   newPlan(p.config.Workers, p.config.MaxCalls),
		links:  make([]*link, p.config.Workers),
		pids:   make([]int, p.config.Workers),
		jobs:   make(map[*Running]*jobPlan),
		asked:  make(map[*Running]bool),
	}
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
	case suspended:
		l.suspend(m)
	case closing:
		l.closed = true
	}
}

func (l *loop) submitted(r *Running) {
	l.jobs[r] = l.plan.add(r)
	go r.feed()
	go r.deliver()
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
			m.err = ErrClosed
			close(m.doneC)
		case suspended:
			close(m.toldC)
		}
	}
}

// pulled takes calls from a job's source.
func (l *loop) pulled(m pulled) {
	l.asked[m.Running] = false
	j := l.jobs[m.Running]
	if j == nil {
		return
	}
	for _, c := range j.push(m.calls) {
		m.post(delivery{result: Result{Call: &c, Kind: Failed, Err: c.Err}})
	}
	if m.err != nil {
		j.inputDone = true
		if m.err != io.EOF && m.ctx.Err() == nil {
			m.Running.err = m.err
		}
	}
}

// arrived books what a worker sent.
func (l *loop) arrived(m arrivals) {
	if l.links[m.link.slot] != m.link {
		return
	}
	for i := range m.list {
		a := &m.list[i]
		var err error
		switch a.kind {
		case ipc.KindHello:
			l.greet(m.link, &a.hello)
		case ipc.KindOutput:
			err = l.output(m.link, a)
		case ipc.KindReturned:
			err = l.plan.returned(m.link.slot, a.id, int(a.n))
		case ipc.KindResult:
			err = l.result(m.link, a)
		}
		if err != nil {
			m.link.fail(err)
			return
		}
	}
	l.letGo(m.link)
}

// letGo ends a worker that has run as many calls as it may.
func (l *loop) letGo(k *link) {
	if s := &l.plan.slots[k.slot]; s.state == slotLeaving && s.calls == 0 {
		k.leave()
	}
}

func (l *loop) greet(k *link, h *ipc.Hello) {
	k.greeted()
	l.pids[k.slot] = h.Pid
	l.tell(Event{Kind: WorkerStarted, Slot: k.slot + 1, Pid: h.Pid})
	k.outbox.put(outgoing{kind: ipc.KindInit, init: ipc.Init{Slot: k.slot + 1, Task: l.config.InitTask, Common: l.config.InitCommon}})
}

// output passes what the running call printed on to its job.
func (l *loop) output(k *link, a *arrival) error {
	f := l.plan.slots[k.slot].head()
	if f == nil || f.id != a.id {
		return fmt.Errorf("it sent output of call %d, which it was not running", a.id)
	}
	c := &f.calls[0]
	f.job.running.post(delivery{link: k, id: a.id, stream: a.stream, data: a.data, result: Result{Call: c}})
	return nil
}

// result books the outcomes of a result frame.
func (l *loop) result(k *link, a *arrival) error {
	if l.plan.slots[k.slot].state == slotStarting {
		return l.initialized(k, a)
	}
	if len(a.outcomes) == 0 {
		return errors.New("it sent a result without an outcome")
	}
	each := time.Duration(a.elapsed) / time.Duration(len(a.outcomes))
	start := time.Unix(0, a.start)
	var job *jobPlan
	list := make([]delivery, 0, len(a.outcomes))
	err := l.plan.finish(k.slot, a.id, len(a.outcomes), time.Now(), func(j *jobPlan, c *Call, attempt, i int) {
		if job != nil && job != j {
			job.running.post(list...)
			list = make([]delivery, 0, len(a.outcomes))
		}
		job = j
		r := Result{
			Call: c, Slot: k.slot + 1, Pid: l.pids[k.slot], Attempt: attempt,
			Start: start.Add(time.Duration(i) * each), Elapsed: each,
		}
		r.book(&a.outcomes[i])
		list = append(list, delivery{result: r})
	})
	if job != nil {
		job.took(len(a.outcomes), time.Duration(a.elapsed))
		job.running.post(list...)
	}
	return err
}

// book fills in how the worker said the call ended.
func (r *Result) book(o *ipc.Outcome) {
	switch o.Code {
	case ipc.OK:
		r.Value = o.Data
		return
	case ipc.Cancelled:
		r.Kind = Cancelled
	case ipc.NotRun:
		r.Kind = NotStarted
	default:
		r.Kind = Failed
	}
	r.Err = &TaskError{Code: o.Code, Message: o.Message, Data: o.Data}
}

// initialized takes the result of the initializer, call 0.
func (l *loop) initialized(k *link, a *arrival) error {
	if a.id != 0 || len(a.outcomes) != 1 {
		return fmt.Errorf("it sent a result of call %d before it was sent a call", a.id)
	}
	if o := a.outcomes[0]; o.Code != ipc.OK {
		return &initError{o.Message}
	}
	l.plan.ready(k.slot) // which may have found that there is no room for it
	l.tell(Event{Kind: WorkerReady, Slot: k.slot + 1, Pid: l.pids[k.slot]})
	return nil
}

// initError says that the initializer failed.
type initError struct{ message string }

func (e *initError) Error() string { return "its initializer failed: " + e.message }

// dispatch starts workers, sends chunks, asks for input and ends jobs, as the plan
// says. It returns when it should be called again at the latest.
func (l *loop) dispatch(now time.Time) (again time.Time) {
	for r, j := range l.jobs {
		backlog := r.backlog.Load()
		j.paused = backlog > backlogHigh || j.paused && backlog > backlogLow
	}
	if l.level == 0 && l.failed == nil {
		for c, ok := l.plan.next(now); ok; c, ok = l.plan.next(now) {
			k := l.links[c.slot]
			k.outbox.put(outgoing{kind: ipc.KindRun, run: c.flight})
			if c.last { // it may go when it has run them: no round trip is lost
				k.outbox.put(outgoing{kind: ipc.KindBye})
			}
		}
		for slot, ok := l.plan.toStart(); ok; slot, ok = l.plan.toStart() {
			l.start(slot)
		}
		slot, id, due, ok := l.plan.toRecall(now)
		for ; ok; slot, id, due, ok = l.plan.toRecall(now) {
			l.links[slot].outbox.put(outgoing{kind: ipc.KindRecall, numbers: ipc.Numbers{ID: id}})
		}
		again = due
	}
	for r, j := range l.jobs {
		l.advance(r, j)
	}
	return again
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
	l.plan.started(slot)
	k := newLink(slot, l.config, l.pool.inbox)
	l.links[slot] = k
	if l.suspended {
		k.suspend(true)
	}
	go k.live()
}

// gone books the end of a worker.
func (l *loop) gone(m gone) {
	slot := m.slot
	if l.links[slot] != m.link {
		return
	}
	l.links[slot] = nil
	state := l.plan.slots[slot].state
	died := &WorkerDiedError{Slot: slot + 1, Pid: m.pid, Exit: m.exit, Cause: m.cause, Stderr: m.stderr}
	victim := l.plan.lose(slot)
	if victim != nil {
		l.bury(m, victim, died)
	}
	switch {
	case m.launch != nil:
		l.notLaunched(slot, m.launch)
	case state == slotLeaving && victim == nil && m.cause == nil:
		l.tell(Event{Kind: WorkerLeft, Slot: slot + 1, Pid: m.pid})
	default:
		l.tell(Event{Kind: WorkerLost, Slot: slot + 1, Pid: m.pid, Err: died})
		switch {
		case state == slotStarting && noThreads(m.stderr):
			l.noRoom(slot, fmt.Errorf("start worker %d: it gets no threads: %w", slot+1, syscall.EAGAIN))
		case state == slotStarting:
			l.notStarted(slot, died)
		}
	}
}

// bury gives the call that a dead worker ran its result.
func (l *loop) bury(m gone, victim *flight, died *WorkerDiedError) {
	r := Result{Call: &victim.calls[0], Kind: WorkerDied, Err: died, Slot: m.slot + 1, Pid: m.pid, Attempt: victim.attempt}
	if l.level >= Terminate || l.failed != nil {
		r.Kind, r.Err = Cancelled, ErrCancelled
	}
	victim.job.running.post(delivery{result: r})
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

// giveUp ends one job whose consumer has failed. Its running calls are asked to end;
// calls of other jobs go on.
func (l *loop) giveUp(r *Running) {
	j := l.jobs[r]
	if j == nil {
		return
	}
	l.halt(r)
	l.cancel(j)
	inbox := l.pool.inbox
	time.AfterFunc(killDelay, func() { inbox.put(overdue{r}) })
}

// overdue ends the workers that still run a call of a job that was given up.
func (l *loop) overdue(r *Running) {
	for slot, k := range l.links {
		if f := l.plan.slots[slot].head(); k != nil && f != nil && f.job == l.jobs[r] {
			k.fail(ErrCancelled)
		}
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
		time.AfterFunc(killDelay, func() { inbox.put(killTime{}) })
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
				k.outbox.put(outgoing{kind: ipc.KindCancel, numbers: ipc.Numbers{ID: f.id + uint64(i), N: uint64(syscall.SIGTERM)}})
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
		s := &l.plan.slots[slot]
		if f := s.head(); f != nil && s.calls > 1 && l.links[slot] != nil {
			l.links[slot].outbox.put(outgoing{kind: ipc.KindRecall, numbers: ipc.Numbers{ID: f.id + 1}})
		}
	}
}

// drop gives everything that waits the result that it was not run.
func (l *loop) drop(r *Running, j *jobPlan) {
	for _, seg := range j.halt() {
		for i := range seg.calls {
			c := &seg.calls[i]
			r.post(delivery{result: Result{Call: c, Kind: Cancelled, Err: ErrNotRun, Attempt: seg.attempt}})
		}
	}
}

// suspend tells the workers to stop what they run, or to let it go on, and closes
// toldC once all have been told.
func (l *loop) suspend(m suspended) {
	l.suspended = m.on
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
		if l.level >= Terminate {
			k.kill()
		}
		if l.plan.slots[slot].state != slotLeaving {
			l.plan.slots[slot].state = slotLeaving
			k.leave()
		}
	}
	return none
}

func (l *loop) tell(e Event) {
	e.Time = time.Now()
	l.pool.events.put(e)
}
