package main

import (
	"encoding/json"
	"errors"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/report"
)

// work is what the calls of a run do. There are two kinds: commands (command.go), which
// the worker that gpool brings along runs, and tasks of a program of the user's
// (task.go). The rest of a run does not know which.
type work interface {
	// configure sets how workers are started, and what they must be.
	configure(*pool.Config) error
	// job is the task that the calls run, and what all of them share.
	job() (task string, common []byte)
	// payload appends what the call of a row is given.
	payload(dst []byte, row *input.Row) ([]byte, error)
	// text is what the call of a row runs in a slot, as it may be pasted into a shell: for
	// --dry-run, logs and reports.
	text(row *input.Row, seq uint64, slot int) (string, error)
	// slots reports whether text depends on the slot.
	slots() bool
	// outcome reads how a call ended. Any goroutine may call it.
	outcome(*pool.Result) outcome
	// args are the columns of a row as they are written in JSON; nil if as text.
	args(*input.Row) []json.RawMessage
	// explain words a failure of the pool.
	explain(error) error
}

// outcome is what a result means. Only one of command and value is set, if any.
type outcome struct {
	kind    pool.Kind
	err     error       // why the call has no result; nil if it has one
	note    string      // something else that its reader should know
	command *commandEnd // of commands
	value   []byte      // what a task has returned: one msgpack value
}

// commandEnd is how a command ended, as JSON has it: null if none has ended.
type commandEnd struct {
	Exit   *int `json:"exit"`
	Signal *int `json:"signal"`

	user, system time.Duration
	maxRSS       int64 // bytes
}

// exit is the exit code of the command, -1 if none has ended.
func (o *outcome) exit() int {
	if o.command == nil || o.command.Exit == nil {
		return -1
	}
	return *o.command.Exit
}

// attempt is a result in the words of reports.
func (o *outcome) attempt(r *pool.Result) report.Attempt {
	a := report.Attempt{
		N: r.Attempt, Status: o.status(r), Exit: o.exit(), Slot: r.Slot, Pid: r.Pid, Start: r.Start, Elapsed: r.Elapsed,
		Stdout: r.Printed.Stdout, Stderr: r.Printed.Stderr,
	}
	if c := o.command; c != nil && c.Signal != nil {
		a.Signal = *c.Signal
		a.User, a.System, a.MaxRSS = c.user, c.system, c.maxRSS
	}
	if o.err != nil {
		a.Error = reason(o.err)
	}
	return a
}

// statuses are the kinds of results in the words of reports.
var statuses = map[pool.Kind]report.Status{
	pool.Succeeded: report.Succeeded, pool.Failed: report.Failed, pool.NotStarted: report.NotStarted, pool.WorkerDied: report.WorkerDied,
	pool.Cancelled: report.Cancelled, pool.TimedOut: report.TimedOut, pool.OutOfMemory: report.OutOfMemory, pool.Skipped: report.Skipped,
}

// status is how a call ended, in the words of reports.
func (o *outcome) status(r *pool.Result) report.Status {
	switch {
	case o.kind == pool.Cancelled && errors.Is(o.err, pool.ErrNotRun):
		return report.NotRun
	case o.kind == pool.Failed && r.Call.Err != nil: // its row is broken
		return report.NotStarted
	}
	return statuses[o.kind]
}
