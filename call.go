package gpool

import (
	"context"
	"runtime"
)

// Apply runs a task once and returns its result: it is [ApplyAsync] and Get.
func Apply[In, Out any](ctx context.Context, r Runner, t *Task[In, Out], in In, o ...CallOption) (Out, error) {
	return ApplyAsync(ctx, r, t, in, o...).Get(context.Background())
}

// ApplyAsync hands a call in and returns at once, with a [Future] of the result. It
// waits for no room: what waits is kept in memory. The argument is encoded before
// ApplyAsync returns, so the caller may change it then.
//
// If ctx ends before the call, the future fails at once with an [ErrCancelled] and the
// cause of ctx; a call that runs is cancelled, and its worker is ended if it goes on
// for longer than [Grace].
func ApplyAsync[In, Out any](ctx context.Context, r Runner, t *Task[In, Out], in In, o ...CallOption) *Future[Out] {
	e := r.engineOf()
	f := newFuture[Out](e, t.name, t.origin, r)
	if err := applyAsync(ctx, e, f, t, &in, o); err != nil {
		f.fail(err)
	}
	runtime.KeepAlive(r)
	return f
}

func applyAsync[In, Out any](ctx context.Context, e *engine, f *Future[Out], t *Task[In, Out], in *In, o []CallOption) error {
	name, call, err := e.admit(ctx, t.name, o)
	if err != nil {
		return err
	}
	q, err := e.singles()
	if err != nil {
		return err
	}
	payload, err := appendCall(e, nil, t, in)
	if err != nil {
		return err
	}
	f.watch(ctx, func() { q.job.Cancel(entry(f)) })
	if err := q.put(f, name, payload, e.limitsOf(&call), e.retryOf(&call, t.name, t.origin, false)); err != nil {
		e.drop(payload)
		return err
	}
	return nil
}
