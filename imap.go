package gpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"runtime/debug"
	"sync"

	"gpool/internal/ipc"
	"gpool/internal/pool"
)

// IMap runs a task for each item of an input that may be endless, and yields the results
// in the order of the items. It starts when it is ranged over, and may be ranged over
// more than once if its input may. No more than [Window] items are taken ahead of the
// results that were yielded.
//
// The error of a call is yielded in its place, and the others follow. An error of the
// input, of ctx or of the pool is yielded once, as the last: after all results of the
// items before it if it is that of the input.
//
// Breaking out of the loop stops the input, and what has not begun is not run; calls
// that run end in their own time. The input is read on a goroutine of its own, which
// ends with the loop, or when the input next returns. When the pool is closed
// meanwhile, the items that were taken are still yielded, and then [ErrPoolClosed],
// unless the input is known to have ended.
func IMap[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) iter.Seq2[Out, error] {
	return iterate(ctx, r, t, items, pool.Ordered, o)
}

// IMapUnordered is [IMap] that yields results as calls end.
func IMapUnordered[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) iter.Seq2[Out, error] {
	return iterate(ctx, r, t, items, pool.Unordered, o)
}

func iterate[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, order pool.Order, o []CallOption) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		it := start(ctx, r, t, items, order, o)
		defer it.Stop()
		for {
			// The context is heeded by the iterator itself.
			v, ok, err := it.Next(context.Background())
			if !ok {
				if err != nil {
					yield(v, err)
				}
				return
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// Start is [IMap] for those who cannot range: the results are asked for one by one.
func Start[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) *Iter[Out] {
	return start(ctx, r, t, items, pool.Ordered, o)
}

// StartUnordered is [IMapUnordered] for those who cannot range.
func StartUnordered[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) *Iter[Out] {
	return start(ctx, r, t, items, pool.Unordered, o)
}

// Iter is an IMap that is under way. Its methods may be called by many goroutines, each
// of which then gets some of the results. Stop must be called in the end.
type Iter[Out any] struct {
	window int
	keep   Runner
	unhook func() bool
	job    handle

	mu       sync.Mutex
	room     sync.Cond       // on mu: there is room in the window, or the input should end
	taken    int             // items from the input
	yielded  int             // results to the reader
	calls    []pool.Call     // taken, and not pulled by the pool
	inputC   chan struct{}   // tells the pool's feeder that calls or inputEnd have changed
	input    inputState      // of the input
	results  []yielding[Out] // not yielded
	readyC   chan struct{}   // tells the reader that results or ended have changed
	ended    bool            // no result will come
	last     error           // what is yielded last, once the results are
	panicked any             // what the input panicked with
}

type yielding[Out any] struct {
	v   Out
	err error
}

// inputState is how far the input is.
type inputState int

const (
	inputOpen    inputState = iota
	inputStopped            // it should end: nobody wants more of it
	inputEnded              // it has ended by itself, or with an error
)

func start[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, order pool.Order, o []CallOption) *Iter[Out] {
	e := r.engineOf()
	it := &Iter[Out]{keep: r, inputC: make(chan struct{}, 1), readyC: make(chan struct{}, 1)}
	it.room.L = &it.mu
	name, call, err := e.admit(ctx, t.name, o)
	if err != nil {
		it.end(err)
		return it
	}
	chunk := min(max(call.chunk, 1), ipc.MaxCalls)
	it.window = call.window
	if it.window == 0 {
		it.window = 2 * e.size() * chunk
	}
	s := &stream[In, Out]{Iter: it, engine: e, task: t}
	running, err := e.submit(s, pool.Job{
		Task: name, Source: s, Consumer: s, Order: order, ChunkSize: chunk, Window: it.window, Dropped: e.dropAll, Done: s.over,
		Limits: e.limitsOf(&call), Retry: e.retryOf(&call, t.name, t.origin, true), Halt: call.halt,
	})
	if err != nil {
		it.end(err)
		return it
	}
	it.job.set(running)
	it.unhook = context.AfterFunc(ctx, func() {
		it.end(cancelledBy(ctx))
		it.job.stop(pool.Terminate)
	})
	go s.read(each[In](items)) // ends with the input, or when that is stopped
	return it
}

// Next waits for the next result. ok tells whether there is one; err is then that of its
// call. Without one, err is the cause of ctx if that has ended, and nothing is lost: Next
// may be called again; or the error of the input, of Start's context or of the pool, once
// all results were returned; or nil at the end.
func (it *Iter[Out]) Next(ctx context.Context) (v Out, ok bool, err error) {
	for {
		it.mu.Lock()
		if len(it.results) > 0 {
			y := it.results[0]
			it.results[0] = yielding[Out]{}
			it.results = it.results[1:]
			it.yielded++
			it.room.Signal()
			if len(it.results) > 0 {
				it.ready() // for another reader
			}
			it.mu.Unlock()
			return y.v, true, y.err
		}
		ended, last, panicked := it.ended, it.last, it.panicked
		it.mu.Unlock()
		if ended {
			it.ready() // for another reader
			if panicked != nil {
				panic(panicked)
			}
			return v, false, last
		}
		select {
		case <-it.readyC:
		case <-ctx.Done():
			return v, false, context.Cause(ctx)
		}
	}
}

// Stop gives up what was not yielded: the input ends, and what has not begun is not run.
// It does not wait for calls that run. It may be called more than once.
func (it *Iter[Out]) Stop() {
	it.end(nil)
	it.mu.Lock()
	it.results = nil // of a job that had ended by itself
	it.mu.Unlock()
	if it.unhook != nil {
		it.unhook()
	}
	it.job.stop(pool.Drain)
	runtime.KeepAlive(it.keep)
}

// end drops what was not yielded, and what is taken of the input; err is the last word.
func (it *Iter[Out]) end(err error) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.ended {
		return
	}
	it.ended, it.last, it.results = true, err, nil
	it.stopInput()
	it.ready()
}

// stopInput is called under the lock.
func (it *Iter[Out]) stopInput() {
	if it.input == inputOpen {
		it.input = inputStopped
	}
	it.room.Broadcast()
	it.wakeSource()
}

func (it *Iter[Out]) ready()      { wake(it.readyC) }
func (it *Iter[Out]) wakeSource() { wake(it.inputC) }

// wake tells the one who waits at a channel with room for one word.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// stream is the other side of an Iter: the source of the pool's calls, and the consumer
// of their results.
type stream[In, Out any] struct {
	*Iter[Out]
	resultsOnly
	engine *engine
	task   *Task[In, Out]
}

// read is the goroutine that runs the input.
func (s *stream[In, Out]) read(items iter.Seq2[In, error]) {
	failed := errInputGoexit // until it has ended otherwise
	defer func() {
		p := recover()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.input == inputOpen {
			s.input, s.last = inputEnded, failed
		}
		if p != nil && !s.ended {
			s.panicked = fmt.Sprintf("gpool: the input of IMap panicked: %v\n%s", p, debug.Stack())
			s.input = inputEnded
		}
		s.wakeSource()
	}()
	for in, err := range items {
		if err != nil {
			failed = err
			return
		}
		if !s.push(&in) {
			failed = nil
			return
		}
	}
	failed = nil
}

var errInputGoexit = errors.New("gpool: the input of IMap ended its goroutine (runtime.Goexit, or a test's FailNow)")

// push waits for room, and hands an item to the pool. It reports whether more is wanted;
// one that is not is not lost: the input has been told before that it is over.
func (s *stream[In, Out]) push(in *In) bool {
	var c pool.Call
	c.Payload, c.Err = appendCall(s.engine, nil, s.task, in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != inputOpen {
		s.engine.drop(c.Payload)
		return false
	}
	s.taken++
	s.calls = append(s.calls, c)
	s.wakeSource()
	for s.taken-s.yielded >= s.window && s.input == inputOpen {
		s.room.Wait()
	}
	return s.input == inputOpen
}

// Next implements pool.Source. (The Iter's own Next is for the reader.)
func (s *stream[In, Out]) Next(ctx context.Context, max int) ([]pool.Call, error) {
	for {
		s.mu.Lock()
		n := min(max, len(s.calls))
		calls := s.calls[:n:n]
		s.calls = s.calls[n:]
		open := s.input == inputOpen
		s.mu.Unlock()
		switch {
		case n > 0:
			return calls, nil
		case !open:
			return nil, io.EOF
		}
		select {
		case <-s.inputC:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Result implements pool.Consumer. What was given up has no result.
func (s *stream[In, Out]) Result(r *pool.Result) error {
	var y yielding[Out]
	if r.Kind == pool.Succeeded {
		y.v, y.err = takeResult[Out](s.engine, s.task.name, r.Value)
	} else {
		y.err = s.engine.errorOf(r, s.task.name, s.task.origin, int(r.Call.Seq-1))
		s.engine.drop(r.Call.Payload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && r.Kind != pool.Cancelled {
		s.results = append(s.results, y)
		s.ready()
	}
	return nil
}

// over is told when the last result has come.
func (s *stream[In, Out]) over(err error) {
	s.engine.over(s, err)
	ending := s.engine.ending()
	s.mu.Lock()
	defer s.mu.Unlock()
	if ending != nil && !s.ended {
		s.last = ending
	}
	if s.taken-s.yielded > len(s.results) && (s.last == nil || s.last == ErrPoolClosed) {
		s.last = s.job.why(&cancelledError{}) // not everything that was taken has a result
	}
	if cut := s.job.why(&cancelledError{}); s.last == nil && s.input == inputOpen && errors.Is(cut, ErrHalted) {
		s.last = cut
	}
	for _, c := range s.calls {
		s.engine.drop(c.Payload)
	}
	s.calls = nil
	s.stopInput()
	s.ended = true
	s.ready()
}

// closing ends the input; what was taken of it goes on.
func (s *stream[In, Out]) closing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input == inputOpen {
		s.last = ErrPoolClosed
		s.stopInput()
	}
}

func (s *stream[In, Out]) cancelPending() { s.job.stop(pool.Drain) }

func (s *stream[In, Out]) terminate(err error) { s.end(err) }
