package gpool

import (
	"context"
	"iter"
)

// When says what [Wait] waits for.
type When int

const (
	AllCompleted   When = iota // every call has ended
	FirstCompleted             // one has
	FirstException             // one has failed, or all have ended; to be cancelled is not to fail
)

// AnyFuture is a [Future] of whatever type.
type AnyFuture interface {
	Done() <-chan struct{}
	Ready() bool
	Successful() (bool, error)
	Err(ctx context.Context) error
	Cancel() bool
	Cancelled() bool
}

// Wait waits until enough of the futures, none of which may be nil, have ended, and
// returns those that have and those that have not, each once, in the order in which they
// were given. If ctx ends first, err is its cause, and the lists are what they are then.
// It starts a goroutine for each future, all of which end before it returns.
func Wait(ctx context.Context, when When, futures ...AnyFuture) (done, rest []AnyFuture, err error) {
	unique := distinct(futures)
	if !enough(when, unique) {
		stop, endedC := notify(unique, func(f AnyFuture) AnyFuture { return f })
		for err == nil && !enough(when, unique) {
			select {
			case <-endedC:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		stop()
	}
	for _, f := range unique {
		if f.Ready() {
			done = append(done, f)
		} else {
			rest = append(rest, f)
		}
	}
	if enough(when, unique) {
		err = nil
	}
	return done, rest, err
}

// AsCompleted yields futures as they end, each once. If ctx ends first, its cause is
// yielded as the last, with no future. Breaking out of the loop is fine.
func AsCompleted[T any](ctx context.Context, futures ...*Future[T]) iter.Seq2[*Future[T], error] {
	return func(yield func(*Future[T], error) bool) {
		unique := distinct(futures)
		stop, endedC := notify(unique, func(f *Future[T]) AnyFuture { return f })
		defer stop()
		for range unique {
			var f *Future[T]
			select {
			case f = <-endedC:
			default:
				select {
				case f = <-endedC:
				case <-ctx.Done():
					yield(nil, context.Cause(ctx))
					return
				}
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func distinct[F comparable](futures []F) []F {
	seen := make(map[F]bool, len(futures))
	var list []F
	for _, f := range futures {
		if !seen[f] {
			seen[f] = true
			list = append(list, f)
		}
	}
	return list
}

// enough reports whether Wait need not wait any more.
func enough(when When, futures []AnyFuture) bool {
	ready := 0
	for _, f := range futures {
		if !f.Ready() {
			continue
		}
		ready++
		if when == FirstCompleted || when == FirstException && failed(f) {
			return true
		}
	}
	return ready == len(futures)
}

// failed reports whether a call that has ended has failed, as Python counts it.
func failed(f AnyFuture) bool {
	ok, _ := f.Successful()
	return !ok && !f.Cancelled()
}

// notify sends each future when it has ended, first those that have already. stop ends
// its goroutines and waits for them.
func notify[F any](futures []F, as func(F) AnyFuture) (stop func(), endedC chan F) {
	endedC = make(chan F, len(futures))
	stopC := make(chan struct{})
	waiting := 0
	goneC := make(chan struct{}, len(futures))
	for _, f := range futures {
		if as(f).Ready() {
			endedC <- f
			continue
		}
		waiting++
		go func() {
			select {
			case <-as(f).Done():
				endedC <- f // has room for each
			case <-stopC:
			}
			goneC <- struct{}{}
		}()
	}
	return func() {
		close(stopC)
		for range waiting {
			<-goneC
		}
	}, endedC
}
