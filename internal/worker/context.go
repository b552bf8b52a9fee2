package worker

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call. Most tasks never look at theirs, and to make
// a real one costs more than a small call: so it is made when it is first looked at. It
// is safe for many goroutines.
type callContext struct {
	parent context.Context
	call   *Call

	mu     sync.Mutex
	real   context.Context // nil until somebody looks
	cancel context.CancelCauseFunc
	ended  bool
	cause  error // of the end, which may be nil
}

type callKey struct{}

// CallOf returns the call of a context that a task was given, or that was made of it.
func CallOf(ctx context.Context) (*Call, bool) {
	c, ok := ctx.Value(callKey{}).(*Call)
	return c, ok
}

// look makes the real context.
func (c *callContext) look() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithCancelCause(c.parent)
		if c.ended {
			c.cancel(c.cause)
		}
	}
	return c.real
}

// end ends the context, with the first cause that it is given.
func (c *callContext) end(cause error) {
	c.mu.Lock()
	cancel := c.cancel
	if !c.ended {
		c.ended, c.cause = true, cause
	}
	c.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// why is the cause of the end, nil if it has not ended.
func (c *callContext) why() error {
	c.mu.Lock()
	ended, cause := c.ended, c.cause
	c.mu.Unlock()
	if ended {
		return cause
	}
	return context.Cause(c.parent)
}

// Deadline implements [context.Context]. Limits are kept by the parent process.
func (c *callContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Done implements [context.Context].
func (c *callContext) Done() <-chan struct{} { return c.look().Done() }

// Err implements [context.Context].
func (c *callContext) Err() error { return c.look().Err() }

// Value implements [context.Context]. Package context finds the real one by it.
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return c.look().Value(key)
}
