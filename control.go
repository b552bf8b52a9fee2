package gpool

import (
	"errors"
	"time"

	"gpool/internal/pool"
)

// What becomes of failures: calls that are run again, and jobs that end early.

// ErrHalted is why calls were not run, or were ended: [HaltSoon] or [HaltNow] has ended
// their Map or iterator. It is an [ErrCancelled], too.
var ErrHalted = errors.New("gpool: enough calls have ended in one way")

// Retries runs a call that has failed up to n times more: one whose task returned an
// error or panicked, that reached a time limit, or whose worker died. Only the last
// attempt's result counts, and [CallInfo] has the attempt's number. A call that was given
// up is not run again, and neither is one that waits for that when its pool is closed. A
// [ThreadPool] has no retries: what a function has done to its arguments stays done.
func Retries(n int) CommonOption {
	return commonOption(func(c *callConfig) {
		c.retry.Max = n
		atLeastOne(&c.err, "Retries", n)
	})
}

// Backoff waits before each further attempt, for a random time between 0 and a limit,
// which is least at first, twice as long for each further attempt, and never longer than
// most. Without it a call is run again at once.
func Backoff(least, most time.Duration) CommonOption {
	return commonOption(func(c *callConfig) {
		c.retry.MinWait, c.retry.MaxWait = least, most
		if least < 0 || most < least {
			wrong(&c.err, "Backoff(%v, %v): 0 or more is needed, and the second one is not below the first", least, most)
		}
	})
}

// RetryIf is asked whether a failure may be tried again, with the error that the call
// would end with. Without it all are. It is called on the pool's own goroutine, which
// waits for it, so it must do nothing but look.
func RetryIf(ok func(error) bool) CommonOption {
	return commonOption(func(c *callConfig) { c.retryIf = ok })
}

// MedianLimit is a [SoftLimit] for all calls of a Map or an iterator: factor times the
// median of those that have ended, once five of them have. With [SoftLimit] the
// stricter one counts. A call that goes on for [Grace] longer is ended with its worker, so a [ThreadPool] has none.
func MedianLimit(factor float64) CallOption {
	return callOption(func(c *callConfig) {
		c.limits.Medians = factor
		if !(factor > 0) {
			wrong(&c.err, "MedianLimit(%v): more than 0 is needed", factor)
		}
	})
}

// Ending is a way in which calls end, for [HaltSoon] and [HaltNow].
type Ending int

// The endings. A call counts once, with its last attempt.
const (
	Failure = Ending(pool.HaltOnFail)
	Success = Ending(pool.HaltOnSuccess)
	Any     = Ending(pool.HaltOnDone)
)

// HaltSoon ends a Map or an iterator once n of its calls have ended in this way: what has
// not begun is not run, and what runs may finish. Calls that have no result fail with
// [ErrHalted].
func HaltSoon(on Ending, n int) CallOption { return halt("HaltSoon", on, n, false) }

// HaltNow is [HaltSoon] that also cancels what runs.
func HaltNow(on Ending, n int) CallOption { return halt("HaltNow", on, n, true) }

func halt(name string, on Ending, n int, now bool) CallOption {
	return callOption(func(c *callConfig) {
		c.halt = pool.Halt{On: pool.HaltOn(on), N: n, Now: now}
		atLeastOne(&c.err, name, n)
		if on < Failure || on > Any {
			wrong(&c.err, "%s(%d, %d): the first is Failure, Success or Any", name, on, n)
		}
	})
}

// retryOf is what the calls of a task share, or nil. indexed says that they are those of
// a Map or an iterator.
func (e *engine) retryOf(c *callConfig, task, origin string, indexed bool) *pool.Retry {
	if c.retry.Max == 0 {
		return nil
	}
	r := c.retry
	if ok := c.retryIf; ok != nil {
		r.If = func(result *pool.Result) bool {
			index := -1
			if indexed {
				index = int(result.Call.Seq - 1)
			}
			return ok(e.errorOf(result, task, origin, index))
		}
	}
	return &r
}

var (
	errRetries     = errors.New("gpool: Retries: a goroutine of a ThreadPool may have changed its arguments: call again in the task, or use a Pool")
	errMedianLimit = errors.New("gpool: MedianLimit: a goroutine of a ThreadPool cannot be ended: use SoftLimit, or a Pool")
)
