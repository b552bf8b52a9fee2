package gpool

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"gpool/internal/pool"
	"gpool/internal/worker"
)

// Errors that say what state something is in. Compare with [errors.Is].
var (
	ErrPoolClosed    = errors.New("gpool: the pool is closed")
	ErrPoolRunning   = errors.New("gpool: the pool still runs: Close or Terminate it first")
	ErrTerminated    = errors.New("gpool: the pool was terminated")
	ErrRestartLimit  = errors.New("gpool: workers died or did not start too often")
	ErrMemoryLimit   = errors.New("gpool: the worker took more memory than it may")
	ErrNotRegistered = errors.New("gpool: the worker does not know the task")
	ErrNotReady      = errors.New("gpool: the result is not ready")
	ErrInvalidState  = errors.New("gpool: the promise has been kept already")
	ErrNoRoom        = pool.ErrNoRoom // the machine has no room for so many workers
)

// Causes of the end of a task's context, as [context.Cause] tells them in a worker. A
// call that was given up fails with ErrCancelled.
var (
	ErrCancelled  = worker.ErrCancelled // the call was cancelled
	ErrSoftLimit  = worker.ErrTimedOut  // its soft time limit has passed
	ErrParentGone = worker.ErrOrphaned  // the parent process has ended
)

// Site says which call an error is about, and where it ran.
type Site struct {
	Task   string
	Index  int // of the item in its input, from 0; -1 for a call that was not one of many
	Worker int // number of its worker, from 1; 0 if it never reached one
	Pid    int // of that worker
}

// String is like "task fetch, item 7".
func (s Site) String() string {
	if s.Index < 0 {
		return "task " + s.Task
	}
	return fmt.Sprintf("task %s, item %d", s.Task, s.Index)
}

// prefix begins a sentence about the call, if it is about one.
func (s Site) prefix() string {
	if s.Task == "" {
		return ""
	}
	return s.String() + ": "
}

func (s Site) detail(w io.Writer) {
	if s.Worker > 0 {
		fmt.Fprintf(w, "\n\tin worker %d (pid %d)", s.Worker, s.Pid)
	}
}

// TaskError is the error that a task returned, on its way from a worker. What the task
// returned can be asked for with [errors.Is] and [errors.As], see [RegisterError].
// %+v adds where it ran. A [ThreadPool] returns the error as it is instead.
type TaskError struct {
	Site
	Origin string // file:line of the task's function, if it is registered here too
	Err    error
}

func (e *TaskError) Error() string { return e.prefix() + e.Err.Error() }
func (e *TaskError) Unwrap() error { return e.Err }

// Format implements [fmt.Formatter].
func (e *TaskError) Format(w fmt.State, verb rune) {
	format(w, verb, e, func() {
		e.detail(w)
		if e.Origin != "" {
			fmt.Fprintf(w, "\n\tin the function at %s", e.Origin)
		}
	})
}

// PanicError is a panic of a task, which its worker has survived. %+v adds the stack.
type PanicError struct {
	Site
	Value string // what it panicked with, as text
	Stack string // of the task's goroutine, in its worker
}

func (e *PanicError) Error() string { return e.prefix() + "it panicked: " + e.Value }

// Format implements [fmt.Formatter].
func (e *PanicError) Format(w fmt.State, verb rune) {
	format(w, verb, e, func() {
		e.detail(w)
		fmt.Fprintf(w, "\n%s", e.Stack)
	})
}

// format prints an error with the verbs of a string; %+v has more to say.
func format(w fmt.State, verb rune, err error, more func()) {
	switch verb {
	case 'q':
		fmt.Fprintf(w, "%q", err.Error())
	default:
		_, _ = io.WriteString(w, err.Error())
		if verb == 'v' && w.Flag('+') {
			more()
		}
	}
}

// WorkerDiedError says that a worker ended while it ran the call: it exited, was killed,
// or a goroutine of it panicked. The call may have had effects, and is not repeated by
// itself. Calls that its worker had not begun go to others.
type WorkerDiedError struct {
	Site
	ExitCode int            // -1 if a signal ended it
	Signal   syscall.Signal // 0 if it exited by itself
	MaxRSS   int64          // bytes of memory, at its largest
	Stderr   string         // the first and the last KiB that the worker printed
	Err      error          // why the pool ended it, or nil; ErrMemoryLimit for one
}

func (e *WorkerDiedError) Error() string {
	s := fmt.Sprintf("%sworker %d (pid %d) ", e.prefix(), e.Worker, e.Pid)
	if e.Err != nil {
		s += "was ended: " + e.Err.Error()
	} else {
		s += "died: " + pool.Exit{Code: e.ExitCode, Signal: e.Signal}.String()
	}
	if e.Stderr != "" {
		s += "; it last printed: " + e.Stderr
	}
	return s
}

func (e *WorkerDiedError) Unwrap() error { return e.Err }

// TimeoutError says that a call reached a limit of its time.
type TimeoutError struct {
	Site
	Limit time.Duration
	Hard  bool // its worker was ended with it
}

func (e *TimeoutError) Error() string {
	how := "and ended when it was asked to"
	if e.Hard {
		how = "and was ended with its worker"
	}
	return fmt.Sprintf("%sit ran longer than its limit of %v, %s", e.prefix(), e.Limit, how)
}

// Timeout is true, as the errors of package net have it.
func (e *TimeoutError) Timeout() bool { return true }

// EncodeError says that a value cannot travel.
type EncodeError struct {
	What string // the argument or result of which task
	Type string // of the value
	Err  error
}

func (e *EncodeError) Error() string {
	return fmt.Sprintf("encode %s, a %s: %v", e.What, e.Type, e.Err)
}
func (e *EncodeError) Unwrap() error { return e.Err }

// DecodeError says that what arrived is no value of the type.
type DecodeError struct {
	What string
	Type string
	Err  error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s, a %s: %v", e.What, e.Type, e.Err)
}
func (e *DecodeError) Unwrap() error { return e.Err }

// StartError is the failure of a pool whose workers do not start, or do not say hello:
// three times in a row for one of them. Every call of the pool fails with it.
type StartError struct {
	Worker int // its number
	Err    error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("gpool: worker %d does not start: %v", e.Worker, e.Err)
}
func (e *StartError) Unwrap() []error { return []error{e.Err, ErrRestartLimit} }

// InitError is the failure of a pool whose initializer fails, within a [StartError].
type InitError struct{ Err error }

func (e *InitError) Error() string { return "its initializer failed: " + e.Err.Error() }
func (e *InitError) Unwrap() error { return e.Err }

// BrokenError is the failure of a pool because a worker died, if [BreakOnCrash] or
// [RestartLimit] says so. Every call of the pool fails with it.
type BrokenError struct{ Err error } // a *WorkerDiedError

func (e *BrokenError) Error() string { return "gpool: the pool is broken: " + e.Err.Error() }
func (e *BrokenError) Unwrap() []error {
	return []error{e.Err, ErrRestartLimit}
}
