package worker

import (
	"sync"
	"time"

	"gpool/internal/blackbox"
	"gpool/internal/ipc"
)

// When results leave (design: results that are ready together leave in one write).
const (
	flushBytes = 32 << 10
	flushDelay = 2 * time.Millisecond
	// A call that took longer than this pays for a write of its own, a few
	// microseconds, so that a death of the worker costs no finished call.
	flushElapsed = 200 * time.Microsecond
)

// outbox owns the worker's writing side: it gathers results and output and decides
// when they leave. Any goroutine may use it; its lock is never held together with
// another one.
type outbox struct {
	notesMu sync.Mutex // guards notes; held for an append, so that the reader may
	notes   []ipc.Numbers

	mu      sync.Mutex
	w       *ipc.Writer
	pending ipc.Result  // of consecutive calls, not yet encoded
	size    int         // of the pending outcomes, about
	timer   *time.Timer // flushes what waits while a call runs; nil when stopped
	armed   bool
	err     error              // the first failed write; later ones are dropped
	box     *blackbox.Recorder // holds the results that have not left, or is nil
	ahead   bool               // what has not left is more than results: see keep
}

func newOutbox(w *ipc.Writer, box *blackbox.Recorder) *outbox {
	o := &outbox{w: w, box: box}
	o.timer = time.AfterFunc(time.Hour, o.flush)
	o.timer.Stop()
	return o
}

// stop sends what waits and ends the timer.
func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write()
	o.timer.Stop()
}

// result adds the outcome of the call id, which ran from start for elapsed.
func (o *outbox) result(id uint64, out ipc.Outcome, start time.Time, elapsed time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &o.pending
	if n := len(p.Outcomes); n == 0 || id != p.ID+uint64(n) || elapsed >= flushElapsed {
		o.encode()
		p.ID, p.Start, p.Elapsed = id, start.UnixNano(), 0
	}
	p.Outcomes = append(p.Outcomes, out)
	o.size += 16 + len(out.Data) + len(out.Message)
	p.Elapsed = start.UnixNano() + int64(elapsed) - p.Start
	kept := o.keep(id, out, start, elapsed)
	if elapsed >= flushElapsed || !kept {
		o.write()
		return
	}
	o.gathered()
}

// keep puts an outcome into the box until it has left, also when it is about to leave:
// a write to a parent that does not read may last. It returns false if the outcome has
// to leave now: the box is full, or this is the initializer's answer, or something must
// leave ahead of it that has no place in the box, which are bytes that a call has
// printed, and word of calls that were given back. Else the parent would find a success
// without its output, and an outcome out of turn.
func (o *outbox) keep(id uint64, out ipc.Outcome, start time.Time, elapsed time.Duration) bool {
	if o.box == nil {
		return true
	}
	return id != 0 && !o.ahead && o.box.Finish(blackbox.Record{
		ID: id, Code: uint8(out.Code), Message: out.Message, Data: out.Data,
		Start: start.UnixNano(), Elapsed: int64(elapsed),
	})
}

// output adds printed bytes, behind the results that came before them.
func (o *outbox) output(m ipc.Output) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.encode()
	o.w.Begin()
	o.w.Output(m)
	_ = o.w.End() // Call.Output cuts it into pieces that fit
	o.ahead = true
	o.gathered()
}

// send writes one message at once, behind everything that waits. It returns an error
// if the message is too large to travel.
func (o *outbox) send(encode func(*ipc.Writer)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.encode()
	o.w.Begin()
	encode(o.w)
	err := o.w.End()
	o.write()
	return err
}

// returned notes that calls were given back. It leaves before every result that is
// added after this call, and does not wait: the reader calls it. Somebody must flush.
func (o *outbox) returned(m ipc.Numbers) {
	o.notesMu.Lock()
	o.notes = append(o.notes, m)
	o.notesMu.Unlock()
}

// flush sends what waits.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write()
}

// gathered decides whether what waits leaves now or with the timer.
func (o *outbox) gathered() {
	if o.w.Len()+o.size >= flushBytes {
		o.write()
		return
	}
	if !o.armed {
		o.armed = true
		o.timer.Reset(flushDelay)
	}
}

// encode turns the notes and the pending results into frames.
func (o *outbox) encode() {
	o.notesMu.Lock()
	notes := o.notes
	o.notes = nil
	o.notesMu.Unlock()
	for _, m := range notes {
		o.w.Begin()
		o.w.Numbers(ipc.KindReturned, m)
		_ = o.w.End() // a few numbers fit
		o.ahead = true
	}
	if len(o.pending.Outcomes) == 0 {
		return
	}
	o.w.Begin()
	o.w.Result(&o.pending)
	if o.w.End() != nil {
		o.encodeEach()
	}
	clear(o.pending.Outcomes)
	o.pending.Outcomes = o.pending.Outcomes[:0]
	o.size = 0
}

// encodeEach gives every pending result a frame of its own, since they are too large
// together. One that is too large alone becomes the failure of its call: the id is
// answered in any case.
func (o *outbox) encodeEach() {
	p := &o.pending
	for i := range p.Outcomes {
		one := ipc.Result{ID: p.ID + uint64(i), Outcomes: p.Outcomes[i : i+1], Start: p.Start, Elapsed: p.Elapsed}
		o.w.Begin()
		o.w.Result(&one)
		if err := o.w.End(); err != nil {
			p.Outcomes[i] = ipc.Outcome{Code: ipc.Failed, Message: "the result cannot be sent: " + err.Error()}
			o.w.Begin()
			o.w.Result(&one)
			_ = o.w.End() // a short text fits
		}
	}
}

// write sends everything. A failed write means that the parent is gone, which the
// reader notices on its own and deals with.
func (o *outbox) write() {
	o.encode()
	if o.armed {
		o.armed = false
		o.timer.Stop()
	}
	if o.err == nil {
		o.err = o.w.Flush()
	}
	if o.err != nil {
		o.w.Reset()
		return
	}
	o.ahead = false
	o.box.Sent() // not earlier: of a write that is cut short the parent gets no frame
}
