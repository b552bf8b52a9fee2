package pool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gpool/internal/ipc"
)

// The loop's part in what workers say: hello, output, and how calls have ended.

// arrived books what a worker sent.
func (l *loop) arrived(m arrivals) {
	if !l.lives(m.link) {
		return
	}
	for i := range m.list {
		a := &m.list[i]
		var err error
		switch a.kind {
		case ipc.KindHello:
			err = l.greet(m.link, &a.hello)
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

func (l *loop) greet(k *link, h *ipc.Hello) error {
	if err := l.refuses(h); err != nil {
		return err
	}
	k.greeted()
	s := &l.plan.slots[k.slot]
	s.pid, s.greeted = h.Pid, true
	l.plan.counted.Started++
	l.tell(Event{Kind: WorkerStarted, Slot: k.slot + 1, Pid: h.Pid, Hello: h})
	k.outbox.put(outgoing{kind: ipc.KindInit, init: ipc.Init{
		Slot: k.slot + 1, Task: l.config.InitTask, Common: l.config.InitCommon,
		FinalTask: l.config.FinalTask, FinalCommon: l.config.FinalCommon,
	}})
	return nil
}

// refuses says what is wrong with a worker by its hello.
func (l *loop) refuses(h *ipc.Hello) error {
	var missing []string
	for _, name := range l.config.Tasks {
		if !slices.Contains(h.Tasks, name) {
			missing = append(missing, name)
		}
	}
	if missing == nil && (l.config.Build == "" || l.config.Build == h.Build) {
		return nil
	}
	return &RefusedError{Build: l.config.Build, WorkerBuild: h.Build, Missing: missing, Offered: h.Tasks}
}

// output passes what the running call printed on to its job.
func (l *loop) output(k *link, a *arrival) error {
	s := &l.plan.slots[k.slot]
	f := s.head()
	if f == nil || f.id != a.id {
		return fmt.Errorf("it sent output of call %d, which it was not running", a.id)
	}
	s.spoke = time.Now()
	s.printed.add(a.stream, len(a.data))
	k.owed.Add(int64(len(a.data)))
	f.job.running.post(delivery{link: k, id: a.id, stream: a.stream, data: a.data, call: &f.calls[0], attempt: f.attempt})
	return nil
}

// result books the outcomes of a result frame.
func (l *loop) result(k *link, a *arrival) error {
	switch s := &l.plan.slots[k.slot]; {
	case s.state == slotStarting:
		return l.initialized(k, a)
	case s.state == slotLeaving && a.id == 0 && len(a.outcomes) == 1: // it was told to leave before that
		return nil
	}
	if len(a.outcomes) == 0 {
		return errors.New("it sent a result without an outcome")
	}
	now := time.Now()
	start, elapsed := l.times(k.slot, a, now)
	each := elapsed / time.Duration(len(a.outcomes))
	var job *jobPlan
	done := 0 // how many were booked
	s := &l.plan.slots[k.slot]
	results, from := make([]Result, len(a.outcomes)), 0 // those from from on are of job, and not posted
	err := l.plan.finish(k.slot, a.id, len(a.outcomes), now, func(j *jobPlan, c *Call, attempt, i int) {
		if job != nil && job != j {
			job.running.postResults(results[from:i:i])
			from = i
		}
		job = j
		r := &results[i]
		r.Call, r.Slot, r.Pid, r.Attempt = c, k.slot+1, s.pid, attempt
		r.Start, r.Elapsed = start.Add(time.Duration(i)*each), each
		if i == 0 { // what others have printed would have come between their results
			r.Printed = s.printed
		} else if l.config.CallEvents {
			l.tellCall(Event{Kind: CallStarted, Time: r.Start, Slot: r.Slot, Pid: r.Pid, Task: j.task(c), Call: c, Attempt: attempt})
		}
		r.book(j, &a.outcomes[i])
		l.settle(j, r)
		done = i + 1
	})
	if job != nil {
		job.took(len(a.outcomes), elapsed)
		l.plan.counted.Run.add(each, len(a.outcomes))
		job.running.postResults(results[from:done:done])
		l.tellBegun(k.slot)
	}
	return err
}

// times is when the calls of a result began, and how long they took together, as the
// worker says; what it does not say, or cannot be, is what can be told from here. A
// worker in another language need not say it.
func (l *loop) times(slot int, a *arrival, now time.Time) (start time.Time, elapsed time.Duration) {
	begun := l.plan.slots[slot].begun
	most := now.Sub(begun)
	if a.start == 0 || a.elapsed < 0 {
		return begun, most
	}
	start = time.Unix(0, a.start)
	if start.Before(begun.Add(-clockSlack)) || start.After(now.Add(clockSlack)) {
		start = begun
	}
	return start, min(time.Duration(a.elapsed), most+clockSlack)
}

// clockSlack is how far the clock that a worker looks at may be from ours: it is the
// same one, but somebody may have set it.
const clockSlack = time.Second

// tellBegun tells of the call that a slot's worker has begun, if it has.
func (l *loop) tellBegun(slot int) {
	s := &l.plan.slots[slot]
	if f := s.head(); f != nil && l.config.CallEvents {
		c := f.calls[0]
		l.tellCall(Event{Kind: CallStarted, Time: s.begun, Slot: slot + 1, Pid: s.pid, Task: f.task(), Call: &c, Attempt: f.attempt})
	}
}

// book fills in how the worker said the call ended.
func (r *Result) book(j *jobPlan, o *ipc.Outcome) {
	switch o.Code {
	case ipc.OK:
		r.Value = o.Data
		return
	case ipc.Cancelled:
		r.Kind = Cancelled
	case ipc.NotRun:
		r.Kind = NotStarted
	case ipc.TimedOut:
		r.Kind = TimedOut
		soft, _ := j.limitsOf(r.Call)
		r.Err = &LimitError{Seq: r.Call.Seq, Limit: soft}
		return
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
		return &InitError{&TaskError{Code: o.Code, Message: o.Message, Data: o.Data}}
	}
	l.plan.ready(k.slot, time.Now()) // which may have found that there is no room for it
	l.tell(Event{Kind: WorkerReady, Slot: k.slot + 1, Pid: l.plan.slots[k.slot].pid})
	return nil
}
