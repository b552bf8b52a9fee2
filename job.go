package gpool

import (
	"sync"

	"gpool/internal/pool"
)

// What the three kinds of jobs have in common: single calls, Maps and iterators.

// resultsOnly is the part of a pool.Consumer that has nothing to do for tasks: what they
// print goes to their worker's stderr, and nothing is written.
type resultsOnly struct{}

// Output implements pool.Consumer.
func (resultsOnly) Output(*pool.Output) error { return nil }

// Flush implements pool.Consumer.
func (resultsOnly) Flush() error { return nil }

// handle is a job that may have to be stopped before it is known: its pool can end it as
// soon as it has it.
type handle struct {
	mu      sync.Mutex
	running *pool.Running // nil until it is known
	level   pool.Level    // how far it was stopped, 0 if it was not
}

func (h *handle) set(r *pool.Running) {
	h.mu.Lock()
	h.running = r
	level := h.level
	h.mu.Unlock()
	if level > 0 {
		r.Stop(level)
	}
}

func (h *handle) stop(level pool.Level) {
	h.mu.Lock()
	h.level = max(h.level, level)
	r := h.running
	h.mu.Unlock()
	if r != nil {
		r.Stop(level)
	}
}

// why adds to the error of a call that was given up that its job was halted.
func (h *handle) why(err error) error {
	h.mu.Lock()
	halted := h.running != nil && h.running.Halted()
	h.mu.Unlock()
	if c, is := err.(*cancelledError); is && c.cause == nil && halted {
		return &cancelledError{ErrHalted}
	}
	return err
}
