package report

import (
	"time"

	"gpool/internal/ipc"
)

// Status is how a call ended, in the words that every report uses.
type Status string

// The statuses. Only Succeeded, Skipped and NotRun are no failure.
const (
	Succeeded   Status = "succeeded"
	Failed      Status = "failed"
	NotStarted  Status = "not started" // it could not be begun: no such program, a bad row
	WorkerDied  Status = "worker died"
	TimedOut    Status = "timed out"
	OutOfMemory Status = "out of memory" // it took more than it may (--max-rss)
	Cancelled   Status = "cancelled"     // it ran, and was ended by a stop
	NotRun      Status = "not run"       // the run was stopped before
	Skipped     Status = "skipped"       // it was done by an earlier run, or belongs to another part
)

// Attempt is one try of a call.
type Attempt struct {
	N              int // from 1; 0 if it never began
	Status         Status
	Exit           int    // of the command; 128+Signal if a signal ended it; -1 if none has ended
	Signal         int    // that ended the command, else 0
	Error          string // what went wrong, as one line; "" if nothing did
	Slot, Pid      int    // of the worker; 0 if it reached none
	Start          time.Time
	Elapsed        time.Duration
	User, System   time.Duration // CPU time of the command
	MaxRSS         int64         // of the command, at its largest, in bytes
	Stdout, Stderr int64         // bytes that it printed
}

// Record is one finished call.
type Record struct {
	Seq     uint64   // from 1, in input order
	Item    []string // the columns of the item, whatever their bytes
	Command string   // what ran, as a shell reads it; "" if it could not be made
	Attempt          // the last one
	Earlier []Attempt
}

// Flaky reports whether the call succeeded, and not at once.
func (r *Record) Flaky() bool { return r.Status == Succeeded && len(r.Earlier) > 0 }

// Failure reports whether the status counts as a failed call.
func (s Status) Failure() bool {
	switch s {
	case Failed, NotStarted, WorkerDied, TimedOut, OutOfMemory:
		return true
	}
	return false
}

// Totals are the counts of a run, at its end.
type Totals struct {
	Calls     int64 // all that were taken from the input, but for those skipped
	Succeeded int64 // with those that were flaky
	Failed    int64
	Flaky     int64
	Cancelled int64
	NotRun    int64
	Skipped   int64
	Wall      time.Duration // from the start of the run to its end
	Busy      time.Duration // summed over all attempts
	Exit      int           // the exit code of the run
}

// Sink is a report that takes calls as they are done. One goroutine uses it. What an
// attempt printed comes before the record of its call; pieces of several calls mix only
// with --line-buffer. Bytes are valid until the method returns.
type Sink interface {
	Output(seq uint64, attempt int, s ipc.Stream, b []byte) error
	Call(r *Record) error
	// Flush is called when no more is at hand, and now and then: what was taken must
	// have left the process when it returns.
	Flush() error
	// Close ends the report, once, also that of a run that was stopped.
	Close(t *Totals) error
}
