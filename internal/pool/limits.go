package pool

import (
	"math/bits"
	"time"
)

// Limits are how long a call may run, from when its worker can have begun it. 0 is no
// limit. At the soft one the call is asked to end, as by a cancel; at the hard one its
// worker is ended, and everything that it has started.
type Limits struct {
	Soft, Hard time.Duration
	// Medians makes the soft limit this many times the median of the job's calls so far,
	// once enough of them have ended, and the hard one Grace later. The stricter of two
	// soft limits counts. It is for Job.Limits.
	Medians float64
	Grace   time.Duration
}

// enough is how many calls must have ended before their median means anything.
const enough = 5

// limitsOf returns the limits of a call: its own, or those of its job.
func (j *jobPlan) limitsOf(c *Call) (soft, hard time.Duration) {
	l := c.Limits
	if l == nil {
		l = j.running.job.Limits
	}
	if l == nil {
		return 0, 0
	}
	soft, hard = l.Soft, l.Hard
	if l.Medians > 0 && j.times.n >= enough {
		if d := time.Duration(float64(j.times.median()) * l.Medians); soft == 0 || d < soft {
			soft, hard = d, d+l.Grace
		}
	}
	return soft, hard
}

// durations counts times by their size, fine enough for a median that is true to a
// sixteenth: each power of two of microseconds has eight steps.
type durations struct {
	n     uint64
	steps [8 * 48]uint64
}

// step is where a time is counted.
func (d *durations) step(t time.Duration) int {
	us := uint64(max(t/time.Microsecond, 0))
	if us < 8 {
		return int(us)
	}
	exp := bits.Len64(us) - 4 // us has the form 1xxx... with exp digits after these four
	return min(8*(exp+1)+int(us>>exp)-8, len(d.steps)-1)
}

func (d *durations) add(t time.Duration) {
	d.n++
	d.steps[d.step(t)]++
}

// median is the middle of the step in which the median lies.
func (d *durations) median() time.Duration {
	seen := uint64(0)
	for i, n := range d.steps {
		if seen += n; 2*seen >= d.n && seen > 0 {
			return time.Duration(d.middle(i)) * time.Microsecond
		}
	}
	return 0
}

func (d *durations) middle(step int) uint64 {
	if step < 8 {
		return uint64(step)
	}
	exp := step/8 - 1
	return uint64(step%8+8)<<exp + 1<<exp/2
}
