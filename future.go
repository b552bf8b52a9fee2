package gpool

import (
	"context"
	"sync"
	"sync/atomic"

	"gpool/internal/pool"
)

// Future is the result of a call that may still be under way: Python's AsyncResult and
// Future. All methods may be called by many goroutines at once, and more than once.
type Future[T any] struct {
	engine  *engine // nil for that of a Promise
	task    string
	origin  string
	keep    Runner // keeps the pool in memory until the call has ended
	release func() // called once before the end can be seen; nil for nothing

	state atomic.Int32 // one of the states below
	doneC chan struct{}
	value T     // valid after doneC
	err   error // likewise

	mu        sync.Mutex  // guards what follows
	unhook    func() bool // stops the watch over the call's context
	callbacks []func()
	calling   bool // a goroutine calls them
}

// States of a future. They only rise.
const (
	pending  int32 = iota // not handed to a worker
	handed                // a worker has it
	settling              // somebody is writing the result
	settled
)

func newFuture[T any](e *engine, task, origin string, keep Runner) *Future[T] {
	return &Future[T]{engine: e, task: task, origin: origin, keep: keep, doneC: make(chan struct{})}
}

// Get waits for the result and returns it. If ctx ends first it returns its cause, and
// the call goes on: Get may be called again. A result that is there is returned however
// ctx is.
func (f *Future[T]) Get(ctx context.Context) (T, error) {
	if err := f.Wait(ctx); err != nil {
		var zero T
		return zero, err
	}
	return f.value, f.err
}

// Wait waits until the call has ended, in whatever way, and returns the cause of ctx if
// that ends first.
func (f *Future[T]) Wait(ctx context.Context) error { return await(ctx, f.doneC) }

// Err waits like Get and returns the call's error alone.
func (f *Future[T]) Err(ctx context.Context) error {
	_, err := f.Get(ctx)
	return err
}

// Done is closed when the call has ended.
func (f *Future[T]) Done() <-chan struct{} { return f.doneC }

// Ready reports whether the call has ended.
func (f *Future[T]) Ready() bool { return f.state.Load() == settled }

// Running reports whether a worker has the call. Short calls are handed to a worker a
// few milliseconds before it begins them.
func (f *Future[T]) Running() bool { return f.state.Load() == handed }

// Successful reports whether the call has succeeded; [ErrNotReady] if it has not ended.
func (f *Future[T]) Successful() (bool, error) {
	if !f.Ready() {
		return false, ErrNotReady
	}
	return f.err == nil, nil
}

// Cancelled reports whether the call was cancelled.
func (f *Future[T]) Cancelled() bool {
	if !f.Ready() {
		return false
	}
	_, is := f.err.(*cancelledError)
	return is
}

// Cancel gives the call up if no worker has it, and reports whether it is cancelled.
// Then its error is [ErrCancelled]. To cancel a call that runs, end the context that it
// was made with.
func (f *Future[T]) Cancel() bool {
	var zero T
	if f.settle(pending, zero, &cancelledError{}) {
		return true
	}
	return f.Cancelled()
}

// OnDone calls fn with this future when the call has ended, at once if it has. The
// callbacks of one future are called one after the other, in the order in which they
// were added, on a goroutine of their own: they may wait, and use the pool. A panic is
// printed to the pool's stderr.
func (f *Future[T]) OnDone(fn func(*Future[T])) {
	f.mu.Lock()
	f.callbacks = append(f.callbacks, func() { fn(f) })
	f.mu.Unlock()
	if f.Ready() {
		f.callBack()
	}
}

// OnSuccess is OnDone for a call that succeeds: Python's callback.
func (f *Future[T]) OnSuccess(fn func(T)) {
	f.OnDone(func(f *Future[T]) {
		if f.err == nil {
			fn(f.value)
		}
	})
}

// OnError is OnDone for a call that fails: Python's error_callback.
func (f *Future[T]) OnError(fn func(error)) {
	f.OnDone(func(f *Future[T]) {
		if f.err != nil {
			fn(f.err)
		}
	})
}

// callBack starts the goroutine of the callbacks, if there are any and it does not run.
func (f *Future[T]) callBack() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.callbacks) == 0 || f.calling {
		return
	}
	f.calling = true
	go f.callEach() // ends when all have been called
}

func (f *Future[T]) callEach() {
	for {
		f.mu.Lock()
		if len(f.callbacks) == 0 {
			f.calling = false
			f.mu.Unlock()
			return
		}
		fn := f.callbacks[0]
		f.callbacks = f.callbacks[1:]
		f.mu.Unlock()
		protected(f.report, "a callback of task "+f.task, fn)
	}
}

func (f *Future[T]) report(text string) {
	if f.engine == nil {
		defaultReport(text)
		return
	}
	f.engine.report(text)
}

// settle ends the future, if its state is not beyond upTo, and reports whether it was
// this call that did.
func (f *Future[T]) settle(upTo int32, v T, err error) bool {
	for {
		state := f.state.Load()
		if state > upTo || state >= settling {
			return false
		}
		if f.state.CompareAndSwap(state, settling) {
			break
		}
	}
	if f.release != nil {
		f.release()
	}
	f.value, f.err, f.keep = v, err, nil
	f.state.Store(settled)
	close(f.doneC)
	f.unwatch()
	f.callBack()
	return true
}

func (f *Future[T]) fail(err error) {
	var zero T
	f.settle(handed, zero, err)
}

// watch ends the future when ctx does, and then stops what runs.
func (f *Future[T]) watch(ctx context.Context, stop func()) {
	if ctx.Done() == nil {
		return
	}
	unhook := context.AfterFunc(ctx, func() {
		f.fail(cancelledBy(ctx))
		stop()
	})
	f.mu.Lock()
	f.unhook = unhook
	f.mu.Unlock()
	if f.Ready() {
		f.unwatch()
	}
}

func (f *Future[T]) unwatch() {
	f.mu.Lock()
	unhook := f.unhook
	f.unhook = nil
	f.mu.Unlock()
	if unhook != nil {
		unhook()
	}
}

// cancelledBy is the error of what was given up because its context ended.
func cancelledBy(ctx context.Context) error { return &cancelledError{context.Cause(ctx)} }

// cancelledError is what calls that were given up end with. It is an [ErrCancelled], and
// has a type of its own: a task may return ErrCancelled, too, and was not cancelled.
type cancelledError struct{ cause error }

func (e *cancelledError) Error() string {
	if e.cause == nil {
		return ErrCancelled.Error()
	}
	return ErrCancelled.Error() + ": " + e.cause.Error()
}

// Is implements what [errors.Is] asks.
func (e *cancelledError) Is(target error) bool { return target == ErrCancelled }
func (e *cancelledError) Unwrap() error        { return e.cause }

// entry is a single call in a queue, whatever its types.
type entry interface {
	claim() bool
	booked(r *pool.Result)
	fail(error)
}

// claim is asked by the pool's loop when a worker is about to be handed the call.
func (f *Future[T]) claim() bool {
	return f.state.CompareAndSwap(pending, handed) || f.state.Load() == handed
}

// booked takes the result from the pool.
func (f *Future[T]) booked(r *pool.Result) {
	if r.Kind != pool.Succeeded {
		err := f.engine.errorOf(r, f.task, f.origin, -1)
		f.engine.drop(r.Call.Payload)
		f.fail(err)
		return
	}
	v, err := takeResult[T](f.engine, f.task, r.Value)
	f.settle(handed, v, err)
}
