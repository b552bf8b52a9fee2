package pool

import (
	"cmp"
	"container/heap"
	"time"
)

// Retry says which calls of a job are run once more.
type Retry struct {
	Max int // further attempts of one call
	// Min and Max of the wait before them: before the first one up to MinWait, twice as
	// long before each further one, never more than MaxWait. 0 waits for nothing.
	MinWait, MaxWait time.Duration
	// If is asked, by the loop, whether a failed attempt may be repeated; it must not
	// wait. nil repeats what failed, timed out, took too much memory or lost its worker.
	If func(*Result) bool
}

// again reports whether an attempt that has ended is followed by another one.
// The result is a copy: what If may keep is memory of its own for each call.
func (r *Retry) again(result Result) bool {
	if result.Attempt < 1 || result.Attempt > r.Max {
		return false
	}
	switch result.Kind {
	case Failed, TimedOut, WorkerDied, OutOfMemory:
		return r.If == nil || r.If(&result)
	}
	return false
}

// wait is how long to wait after an attempt: any time up to a limit that doubles, by
// luck, a number of [0, 1). What failed together does not come back together (full
// jitter: Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015).
func (r *Retry) wait(attempt int, luck float64) time.Duration {
	limit := r.MinWait
	for range attempt - 1 {
		if limit >= r.MaxWait/2 {
			limit = r.MaxWait
			break
		}
		limit *= 2
	}
	return time.Duration(luck * float64(limit))
}

// delayed is a call that waits for its next attempt.
type delayed struct {
	call    Call
	attempt int
	due     time.Time
}

// delays is a heap (container/heap) of calls, of which the first one is due first.
type delays []delayed

func (d delays) Len() int           { return len(d) }
func (d delays) Less(a, b int) bool { return d[a].due.Before(d[b].due) }
func (d delays) Swap(a, b int)      { d[a], d[b] = d[b], d[a] }
func (d *delays) Push(x any)        { *d = append(*d, x.(delayed)) }

func (d *delays) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = delayed{}
	*d = (*d)[:last]
	return x
}

// retryOf is what is said of a call, or of all of its job.
func (j *jobPlan) retryOf(c *Call) *Retry { return cmp.Or(c.Retry, j.running.job.Retry) }

// retry books that an attempt has failed and is followed by another one after a wait.
func (j *jobPlan) retry(r *Result, now time.Time, luck float64) {
	if j.failures == nil {
		j.failures = make(map[uint64][]*Result)
	}
	j.failures[r.Call.Seq] = append(j.failures[r.Call.Seq], r)
	r.Again = j.retryOf(r.Call).wait(r.Attempt, luck)
	heap.Push(&j.delayed, delayed{*r.Call, r.Attempt + 1, now.Add(r.Again)})
}

// comeBack puts the calls whose wait is over first in line. It returns when the next
// one is due, zero if none waits.
func (j *jobPlan) comeBack(now time.Time) time.Time {
	for len(j.delayed) > 0 {
		if due := j.delayed[0].due; due.After(now) {
			return due
		}
		d := heap.Pop(&j.delayed).(delayed)
		j.waitFirst([]Call{d.call}, &flight{attempt: d.attempt, since: d.due}, false)
	}
	return time.Time{}
}

// settle gives the result of a call what is known of its earlier attempts. A call that
// was not run again since the job was stopped ends with its last failure.
func (j *jobPlan) settle(r *Result) {
	list := j.failures[r.Call.Seq]
	if len(list) == 0 {
		return
	}
	delete(j.failures, r.Call.Seq)
	if r.Kind == Cancelled && r.Start.IsZero() {
		last := len(list) - 1
		*r, list = *list[last], list[:last]
		r.Again, r.CutShort = 0, true
	}
	r.Earlier = list
}
