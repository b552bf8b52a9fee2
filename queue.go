package gpool

import (
	"cmp"
	"context"
	"io"
	"sync"

	"gpool/internal/pool"
)

// queue is the job of all single calls: Apply and ApplyAsync put them in, and the pool
// pulls them when it has room. So a call costs no job of its own, and calls begin in the
// order in which they were handed in. It implements pool.Source and pool.Consumer.
type queue struct {
	resultsOnly
	engine *engine
	job    *pool.Running // set before the queue can be found

	mu      sync.Mutex
	waiting []pool.Call        // not pulled yet
	open    map[entry]struct{} // all whose result has not come
	closed  bool               // no more will come
	drained bool               // what waited was cancelled
	failure error              // why, if something else than Close has ended it
	wakeC   chan struct{}      // tells Next that something has changed
}

// singles returns the queue of the engine, and makes it for its first call.
func (e *engine) singles() (*queue, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil {
		return nil, err
	}
	if e.queue != nil {
		return e.queue, nil
	}
	q := &queue{engine: e, open: make(map[entry]struct{}), wakeC: make(chan struct{}, 1)}
	var err error
	q.job, err = e.pool.Submit(pool.Job{
		Source: q, Consumer: q, Order: pool.Unordered, ChunkSize: 1,
		Claim:   func(c *pool.Call) bool { return c.Item.(entry).claim() },
		Dropped: e.dropAll, Done: q.over,
	})
	if err != nil {
		return nil, ErrPoolClosed
	}
	e.queue = q
	return q, nil
}

// put adds a call.
func (q *queue) put(en entry, task string, payload []byte, limits *pool.Limits, retry *pool.Retry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		if q.failure != nil {
			return q.failure
		}
		return ErrPoolClosed
	}
	q.open[en] = struct{}{}
	q.waiting = append(q.waiting, pool.Call{Task: task, Payload: payload, Item: en, Limits: limits, Retry: retry})
	q.wake()
	return nil
}

func (q *queue) wake() { wake(q.wakeC) }

// Next implements pool.Source.
func (q *queue) Next(ctx context.Context, max int) ([]pool.Call, error) {
	for {
		list, err := q.take(max)
		if len(list) > 0 || err != nil {
			return list, err
		}
		select {
		case <-q.wakeC:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *queue) take(max int) ([]pool.Call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(max, len(q.waiting))
	list := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	if n == 0 && q.closed {
		return nil, io.EOF
	}
	return list, nil
}

// Result implements pool.Consumer.
func (q *queue) Result(r *pool.Result) error {
	en := r.Call.Item.(entry)
	q.mu.Lock()
	delete(q.open, en)
	q.mu.Unlock()
	en.booked(r)
	r.Call.Item, r.Call.Payload = nil, nil // its neighbours in memory may have to wait for long
	return nil
}

// close lets the queue end when all that is in it has run.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}

// terminate ends all calls of which no result has come.
func (q *queue) terminate(err error) {
	for _, en := range q.give(err) {
		en.fail(err)
	}
}

// give closes the queue and returns what was open.
func (q *queue) give(err error) []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed || q.failure == nil {
		q.closed, q.failure = true, err
	}
	for _, c := range q.waiting {
		q.engine.drop(c.Payload)
	}
	q.waiting = nil
	list := make([]entry, 0, len(q.open))
	for en := range q.open {
		list = append(list, en)
	}
	clear(q.open)
	q.wake()
	return list
}

// cancelPending cancels what no worker has. Of what waits before a worker, the pool
// takes back what has not begun.
func (q *queue) cancelPending() {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting, q.closed, q.drained = nil, true, true
	for _, c := range waiting {
		delete(q.open, c.Item.(entry))
		q.engine.drop(c.Payload)
	}
	q.mu.Unlock()
	q.wake()
	q.job.Stop(pool.Drain)
	for _, c := range waiting {
		c.Item.(entry).fail(&cancelledError{})
	}
}

// over is told when the job has ended: whatever is left will have no result.
func (q *queue) over(err error) {
	q.engine.over(nil, err)
	q.mu.Lock()
	left := ErrPoolClosed
	if q.drained { // the pool was about to take it
		left = &cancelledError{}
	}
	q.mu.Unlock()
	q.terminate(cmp.Or(q.engine.ending(), left))
}
