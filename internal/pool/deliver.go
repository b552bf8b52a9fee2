package pool

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/shelf"
)

// Backlog of one job, in bytes between the loop and the consumer, at which no more
// of its calls are begun, and at which it goes on.
const (
	backlogHigh = 16 << 20
	backlogLow  = 4 << 20
	resultCost  = 256 // what a delivery counts besides its bytes
	creditStep  = 256 << 10
	shelfMemory = 8 << 20 // output that must wait, before it goes to disk
	eventsAhead = 4096    // events that a slow listener may have before it
	reportEvery = 256     // results after which the consumer writes what it has gathered
	toldMost    = 1 << 10 // bytes of a value that an event carries
)

// Running is a job that was handed in.
type Running struct {
	job     Job
	pool    *Pool
	demandC chan int           // how many calls to pull; one at a time; closed by the loop
	outbox  *mailbox[delivery] // of the deliverer
	backlog atomic.Int64       // bytes in the outbox
	stop    context.CancelFunc // ends the source's context
	ctx     context.Context
	halted  atomic.Bool   // by Job.Halt
	doneC   chan struct{} // closed by the deliverer when everything was handed over
	err     error         // valid after doneC
}

// delivery is results, those of one frame, or a piece of output, on its way to the consumer.
type delivery struct {
	results []Result
	stream  ipc.Stream // of output, as all that follows
	data    []byte
	link    *link  // which sent the data, and gets the credit for it
	id      uint64 // of the call on that link
	call    *Call
	attempt int
}

func (d *delivery) cost() int64 {
	if d.stream != 0 {
		return int64(resultCost + len(d.data))
	}
	cost := resultCost * len(d.results)
	for i := range d.results {
		cost += len(d.results[i].Value)
	}
	return int64(cost)
}

func newRunning(p *Pool, job Job) *Running {
	r := &Running{job: job, pool: p, demandC: make(chan int, 1), outbox: newMailbox[delivery](), doneC: make(chan struct{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Done is closed when every result of the job has been consumed, or given up.
func (r *Running) Done() <-chan struct{} { return r.doneC }

// Wait waits for the end of the job and returns its error: that of the source, of
// the consumer or of the pool. Failed calls are no error of the job. Any goroutine
// may call it, also several.
func (r *Running) Wait() error {
	<-r.doneC
	return r.err
}

// Halted reports whether Job.Halt has ended the job. Any goroutine may ask.
func (r *Running) Halted() bool { return r.halted.Load() }

// Stop ends this job alone, as Pool.Stop ends all: Drain lets the calls that run
// finish; Terminate asks them to end, and ends the workers of those that still run when
// Config.Grace has passed; Kill does that at once. It returns at once.
func (r *Running) Stop(level Level) { r.pool.inbox.put(jobStopped{r, level}) }

// Cancel gives up the call with this item, which must be comparable: if a worker has
// it, it is asked to end, and its worker is ended if it still runs when Config.Grace has
// passed; one that waits, also for its next attempt, is not run. It returns at once.
func (r *Running) Cancel(item any) { r.pool.inbox.put(callCancelled{r, item}) }

// feed is the job's feeder goroutine. It ends with the input, or when the loop
// closes demandC; a source that does not heed its context keeps it until Next
// returns, and nobody waits for it.
func (r *Running) feed() {
	for n := range r.demandC {
		calls, err := r.job.Source.Next(r.ctx, n)
		if len(calls) == 0 && err == nil {
			err = io.ErrNoProgress
		}
		r.pool.inbox.put(pulled{r, calls, err})
		if err != nil {
			return
		}
	}
}

// finish is the end of the job.
func (r *Running) finish(err error) {
	r.err = err
	if r.job.Done != nil {
		r.job.Done(err)
	}
	close(r.doneC)
}

// post sends a delivery; the loop calls it.
func (r *Running) post(d delivery) {
	r.backlog.Add(d.cost())
	r.outbox.put(d)
}

// postResults sends results, which are the deliverer's from then on.
func (r *Running) postResults(list []Result) {
	if len(list) > 0 {
		r.post(delivery{results: list})
	}
}

// deliverer is the goroutine that owns what waits to be printed, and the only one
// that calls the consumer. It may wait for a slow consumer; the loop does not.
type deliverer struct {
	*Running
	order   *order
	entries map[uint64]*entry // calls with output that have not finished
	shelf   shelf.Shelf       // what must wait
	failed  error             // once set, everything is dropped
	results int               // consumed and not yet reported to the loop
	bytes   int               // their payloads
	taken   int               // results that have come, and were not reported to the loop
	told    []Event           // of results that the consumer may not have written yet
}

// deliver ends when the loop has closed the outbox.
func (r *Running) deliver() {
	d := &deliverer{
		Running: r,
		order:   newOrder(r.job.Order),
		entries: make(map[uint64]*entry),
		shelf:   shelf.Shelf{Limit: shelfMemory},
	}
	defer d.shelf.Close()
	var spare []delivery
	for {
		list, open := r.outbox.wait(spare)
		if !open {
			r.finish(errors.Join(r.err, d.failed))
			return
		}
		for i := range list {
			d.deliver(&list[i])
			r.backlog.Add(-list[i].cost())
			if d.taken >= reportEvery {
				d.report()
			}
		}
		d.report()
		spare = list
	}
}

// report lets the consumer write what it has gathered, and only then tells the story
// of it, and the loop how far the consumer is. So a log that books the calls may
// repeat some after a crash, and cannot lose one.
func (d *deliverer) report() {
	if d.failed == nil {
		if err := d.job.Consumer.Flush(); err != nil {
			d.fail(err)
		} else if len(d.told) > 0 {
			d.pool.events.put(d.told...)
			d.pool.events.waitBelow(eventsAhead)
		}
	}
	clear(d.told)
	d.told = d.told[:0]
	d.pool.inbox.put(consumed{d.Running, d.results, d.bytes, d.taken})
	d.results, d.bytes, d.taken = 0, 0, 0
}

func (d *deliverer) deliver(m *delivery) {
	if m.stream == 0 {
		for i := range m.results {
			d.ended(&m.results[i])
		}
		return
	}
	e := d.entries[m.call.Seq]
	if e == nil {
		e = &entry{call: m.call}
		d.entries[m.call.Seq] = e
	}
	d.output(e, m)
}

// ended takes the result of a call or of an attempt.
func (d *deliverer) ended(r *Result) {
	seq := r.Call.Seq
	e := d.entries[seq]
	if r.retried {
		if e != nil {
			e.unpaid = 0 // its worker owes it nothing any more
		}
		return
	}
	d.taken++
	if e == nil && d.order.passes(seq) { // nothing of it waits, and it need not: the usual case
		d.result(r)
	} else {
		d.finished(e, r)
	}
	for e := d.order.next(); e != nil; e = d.order.next() {
		d.replay(e)
		d.result(&e.result)
	}
	if e := d.entries[d.order.turn]; e != nil && !d.job.Hold { // it runs, and now it is its turn
		d.replay(e)
	}
}

// finished takes the result of a call that has printed something, or that others come before.
func (d *deliverer) finished(e *entry, r *Result) {
	if e == nil {
		e = &entry{call: r.Call}
	}
	delete(d.entries, r.Call.Seq)
	e.result = *r
	d.order.finished(e)
	d.silent(e)
}

// silent tells of a call that has nothing to wait for but its turn.
func (d *deliverer) silent(e *entry) {
	r := &e.result
	if d.job.Silent != nil && d.order.waits(e.call.Seq) && d.failed == nil &&
		r.Kind == Succeeded && e.pieces == nil && r.Printed == (Printed{}) && r.Earlier == nil {
		d.job.Silent(r)
	}
}

// output prints a piece, or puts it on the shelf.
func (d *deliverer) output(e *entry, m *delivery) {
	switch {
	case d.failed != nil:
	case !d.job.Hold && (d.job.Lines || d.order.prints(e.call.Seq)):
		d.replay(e)
		d.print(&Output{Call: e.call, Attempt: m.attempt, Stream: m.stream, Data: m.data})
		donePiece(m.data)
	default:
		if err := d.keep(e, m); err != nil {
			d.fail(err)
		}
	}
	m.link.owed.Add(-int64(len(m.data)))
	m.link.taken.Store(time.Now().UnixNano())
	e.unpaid += len(m.data)
	if e.unpaid >= creditStep {
		m.link.outbox.put(outgoing{kind: ipc.KindCredit, numbers: ipc.Numbers{ID: m.id, N: uint64(e.unpaid)}})
		e.unpaid = 0
	}
}

// keep puts a piece on the shelf, beside the one before.
func (d *deliverer) keep(e *entry, m *delivery) error {
	last := &kept{}
	if n := len(e.pieces); n > 0 {
		last = &e.pieces[n-1]
	}
	p, err := d.shelf.Put(m.data, last.piece)
	if err != nil {
		return err
	}
	if !p.InMemory() {
		donePiece(m.data)
	}
	if last.attempt == m.attempt && last.stream == m.stream && last.piece.Join(p) {
		return nil
	}
	e.pieces = append(e.pieces, kept{m.attempt, m.stream, p})
	return nil
}

// replay prints what a call has on the shelf.
func (d *deliverer) replay(e *entry) {
	if e.pieces == nil {
		return
	}
	o := Output{Call: e.call}
	if d.job.Hold { // then it has ended
		o.Result = &e.result
	}
	for _, p := range e.pieces {
		err := d.shelf.Take(p.piece, func(b []byte) error {
			o.Attempt, o.Stream, o.Data = p.attempt, p.stream, b
			d.print(&o)
			return nil
		})
		if err != nil {
			d.fail(err)
		}
	}
	e.pieces = nil
}

func (d *deliverer) print(o *Output) {
	if d.failed != nil {
		return
	}
	if err := d.job.Consumer.Output(o); err != nil {
		d.fail(err)
	}
}

// result hands a result over.
func (d *deliverer) result(r *Result) {
	d.results++
	d.bytes += len(r.Call.Payload)
	if d.failed != nil {
		return
	}
	if err := d.job.Consumer.Result(r); err != nil {
		d.fail(err)
		return
	}
	if d.pool.config.CallEvents {
		told := *r
		if len(told.Value) > toldMost {
			told.Value = nil
		}
		d.told = append(d.told, Event{Kind: CallFinished, Time: r.Start.Add(r.Elapsed), Slot: r.Slot, Pid: r.Pid, Task: cmp.Or(r.Call.Task, d.job.Task), Result: &told})
	}
}

// fail gives the job up: the first error is the job's.
func (d *deliverer) fail(err error) {
	if d.failed == nil {
		d.failed = err
		d.pool.inbox.put(unconsumed{d.Running})
	}
}
