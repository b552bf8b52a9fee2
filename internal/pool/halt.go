package pool

import "math"

// HaltOn is what a Halt counts.
type HaltOn int

// The things that are counted.
const (
	HaltOnFail HaltOn = iota + 1
	HaltOnSuccess
	HaltOnDone
)

// Halt ends a job when enough of its calls have ended in one way. The zero value never
// does.
type Halt struct {
	On HaltOn
	// Now ends the calls that run, as Terminate does; without it they may finish.
	Now bool
	N   int // calls; or
	// Percent of all calls of the job. If there is no Job.Total, it is that of the calls
	// that have ended so far, once three of them count.
	Percent float64
}

// fewest is how many calls must count before a part of an unknown number means anything.
const fewest = 3

// reached reports whether a job with these results is to be ended.
func (h *Halt) reached(failed, succeeded, total int) bool {
	done := failed + succeeded
	n := 0
	switch h.On {
	case HaltOnFail:
		n = failed
	case HaltOnSuccess:
		n = succeeded
	case HaltOnDone:
		n = done
	default:
		return false
	}
	switch {
	case h.Percent <= 0:
		return n >= max(h.N, 1)
	case total > 0:
		return n >= max(1, int(math.Ceil(float64(total)*h.Percent/100)))
	}
	return n >= fewest && float64(n) >= float64(done)*h.Percent/100
}

// ended counts a call for the Halt of its job, and for the limits that look at the
// median.
func (j *jobPlan) ended(r *Result) {
	job := &j.running.job
	switch r.Kind {
	case Skipped:
		j.skipped++
		return
	case Cancelled:
		return
	case Succeeded:
		j.succeeded++
	default:
		j.failed++
	}
	if job.Limits != nil && job.Limits.Medians > 0 && (r.Kind == Succeeded || r.Kind == Failed) {
		j.times.add(r.Elapsed)
	}
	j.haltDue = j.haltDue || job.Halt.reached(j.failed, j.succeeded, max(0, job.Total-j.skipped))
}
