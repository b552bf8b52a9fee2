package gpool

import (
	"errors"
	"time"

	"gpool/internal/pool"
)

// PoolEventKind says what has happened.
type PoolEventKind string

// The kinds of events.
const (
	WorkerStarted PoolEventKind = "worker started" // it has said hello
	WorkerReady   PoolEventKind = "worker ready"   // its initializer has ended
	WorkerLeft    PoolEventKind = "worker left"    // it was told to
	WorkerLost    PoolEventKind = "worker lost"    // it died, or was ended; Err says how
	WorkersFewer  PoolEventKind = "workers fewer"  // there is no room for all of them; Err says why
	CallStarted   PoolEventKind = "call started"   // as far as can be told from here
	CallRetried   PoolEventKind = "call retried"   // an attempt has failed with Err, and another will follow
	CallFinished  PoolEventKind = "call finished"  // it has its result; Err is nil if it succeeded
)

// PoolEvent is one line of the story of a pool, for logs and metrics.
type PoolEvent struct {
	Kind    PoolEventKind
	Time    time.Time
	Worker  int           // its number, from 1; 0 if there is none
	Pid     int           // of the worker
	Task    string        // of a call
	Index   int           // of its item, from 0; -1 for a call that is not one of many
	Attempt int           // of the call, from 1; 0 if it never began
	Elapsed time.Duration // of an attempt that has ended
	Wait    time.Duration // from a failed attempt to the next one
	Err     error         // the failure of the attempt, in the types of this package; of a ThreadPool its text
}

// Events lets a function hear what happens, in order, on a goroutine of its own. Calls
// wait for a function that is slow, and [Pool.Join] for its end. It costs some 200 ns a
// call. It must not close the pool.
func Events(hear func(PoolEvent)) Option {
	return poolOption(func(c *config) { c.hear = hear })
}

var eventKinds = map[pool.EventKind]PoolEventKind{
	pool.WorkerStarted: WorkerStarted, pool.WorkerReady: WorkerReady, pool.WorkerLeft: WorkerLeft, pool.WorkerLost: WorkerLost,
	pool.WorkersFewer: WorkersFewer, pool.CallStarted: CallStarted, pool.CallRetried: CallRetried, pool.CallFinished: CallFinished,
}

// publicEvent is an event in the words of this package.
func (e *engine) publicEvent(in pool.Event) PoolEvent {
	out := PoolEvent{Kind: eventKinds[in.Kind], Time: in.Time, Worker: in.Slot, Pid: in.Pid, Index: -1, Attempt: in.Attempt, Err: in.Err}
	if died, ok := errors.AsType[*pool.WorkerDiedError](in.Err); ok {
		out.Err = publicDeath(Site{Index: -1}, died)
	}
	call := in.Call
	if r := in.Result; r != nil {
		call, out.Attempt, out.Elapsed, out.Wait = r.Call, r.Attempt, r.Elapsed, r.Again
	}
	if call == nil {
		return out
	}
	out.Task = in.Task
	if call.Task == "" { // a single call names its task itself
		out.Index = int(call.Seq - 1)
	}
	switch r := in.Result; {
	case r == nil || r.Kind == pool.Succeeded:
	case e.vault != nil: // the error itself can be taken once, by who called
		out.Err = r.Err
	default:
		out.Err = e.errorOf(r, out.Task, "", out.Index)
	}
	return out
}
