package gpool

// Promise makes a [Future] whose result the program gives itself: Python's set_result
// and set_exception. It brings other work together with calls, in [Wait] and
// [AsCompleted]. Any goroutine may use it.
type Promise[T any] struct{ future *Future[T] }

// NewPromise makes a promise that has not been kept.
func NewPromise[T any]() *Promise[T] {
	return &Promise[T]{newFuture[T](nil, "of a promise", "", nil)}
}

// Future is the future of the promise, always the same one.
func (p *Promise[T]) Future() *Future[T] { return p.future }

// Start tells that the work has begun, and reports whether it should: not if the future
// was cancelled before. From then on Cancel has no effect.
func (p *Promise[T]) Start() bool { return p.future.claim() }

// Resolve ends the future with a value. It returns [ErrInvalidState], and changes
// nothing, if the future has ended.
func (p *Promise[T]) Resolve(v T) error {
	if !p.future.settle(handed, v, nil) {
		return ErrInvalidState
	}
	return nil
}

// Reject ends the future with an error, as Resolve does with a value.
func (p *Promise[T]) Reject(err error) error {
	var zero T
	if !p.future.settle(handed, zero, err) {
		return ErrInvalidState
	}
	return nil
}
