package pool

import (
	"math/bits"
	"time"
)

// Stats is what a pool does at one moment, and has done since it was made.
type Stats struct {
	Workers []WorkerStats // of the slots that have a worker
	Target  int           // how many workers there should be
	Waiting int           // calls that were pulled from their source and wait
	Running int           // calls that run, or wait before a worker
	Counts
}

// Counts are what has happened since the pool was made.
type Counts struct {
	Succeeded, Failed, NotStarted, WorkerDied, Cancelled, TimedOut, OutOfMemory, Skipped uint64

	Retried uint64    // attempts that failed and were followed by another
	Started uint64    // workers that said hello
	Deaths  uint64    // workers that ended and should not have
	Wait    Histogram // how long calls waited, from their source to a worker
	Run     Histogram // how long calls ran
}

// count books how a call ended.
func (c *Counts) count(r *Result) {
	switch r.Kind {
	case Succeeded:
		c.Succeeded++
	case Failed:
		c.Failed++
	case NotStarted:
		c.NotStarted++
	case WorkerDied:
		c.WorkerDied++
	case Cancelled:
		c.Cancelled++
	case TimedOut:
		c.TimedOut++
	case OutOfMemory:
		c.OutOfMemory++
	case Skipped:
		c.Skipped++
	}
}

// WorkerStats is one worker at one moment.
type WorkerStats struct {
	Slot     int // from 1
	Pid      int // 0 before its hello
	State    State
	Task     string        // that it runs, or empty
	Busy     time.Duration // for how long its call has run
	Call     *Call         // that it runs, or nil; not to be changed
	Attempt  int           // of that call
	Spoke    time.Time     // when that call last printed something; zero if it has not
	Printed  Printed       // by that call
	Age      time.Duration // since it was started, or became ready
	Finished uint64        // calls
	Ahead    int           // calls that wait before it
	Memory   int64         // bytes, 0 if that cannot be told

	link *link
}

// State is where a worker is in its life.
type State string

// The states of workers.
const (
	Starting State = "starting" // launched, or running its initializer
	Idle     State = "idle"
	Busy     State = "busy"
	Leaving  State = "leaving" // finishes what it has
)

// stats reads the plan.
func (p *plan) stats(now time.Time) Stats {
	s := Stats{Target: p.target, Counts: p.counted}
	for _, j := range p.jobs {
		s.Waiting += j.waits
		s.Running += j.flying
	}
	for i := range p.slots {
		if p.slots[i].state != slotEmpty {
			s.Workers = append(s.Workers, p.slots[i].stats(i+1, now))
		}
	}
	return s
}

func (s *slotPlan) stats(slot int, now time.Time) WorkerStats {
	w := WorkerStats{
		Slot: slot, Pid: s.pid, State: Idle, Age: now.Sub(s.born),
		Finished: s.finished, Ahead: max(0, s.calls-1),
	}
	if f := s.head(); f != nil {
		call := f.calls[0]
		w.State, w.Busy, w.Task, w.Call = Busy, now.Sub(s.moved), f.task(), &call
		w.Attempt, w.Spoke, w.Printed = f.attempt, s.spoke, s.printed
	}
	switch s.state {
	case slotStarting:
		w.State = Starting
	case slotLeaving:
		w.State = Leaving
	}
	return w
}

// Histogram counts durations by their size: bucket i has those below 2^i µs, and not
// in an earlier one; the last one has the rest.
type Histogram struct {
	Buckets [32]uint64
	Sum     time.Duration
}

func (h *Histogram) add(d time.Duration, n int) {
	i := min(bits.Len64(uint64(max(d, 0)/time.Microsecond)), len(h.Buckets)-1)
	h.Buckets[i] += uint64(n)
	h.Sum += d * time.Duration(n)
}

// Count is how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Mean is the mean of all durations, 0 if there is none.
func (h *Histogram) Mean() time.Duration {
	if n := h.Count(); n > 0 {
		return h.Sum / time.Duration(n)
	}
	return 0
}

// Quantile is a duration that a part q (0 to 1) of all do not exceed, to a factor
// of 2; 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	due := q * float64(h.Count())
	seen := uint64(0)
	for i, b := range h.Buckets {
		if seen += b; b > 0 && float64(seen) >= due {
			return time.Microsecond << i
		}
	}
	return 0
}
