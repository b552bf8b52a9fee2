package admit

import (
	"fmt"
	"math"
	"time"
)

// reason is why no call may begin. An empty text is a wait too usual to speak of.
type reason struct{ text string }

// averaged is the time over which the kernel averages the load: what changes shows to two
// thirds after it.
const averaged = time.Minute

// loadLimit lets calls begin while the load is below a limit. The kernel's average lags, so that
// alone it would let all calls begin at once and regret it a minute later. What lags can be
// known, however: own is the average that the kernel would have of our calls alone. What they
// exceed it by is load that has not shown yet, and counts in full. The price is that calls which
// only wait, for a network say, begin slowly: limit of them in a minute beyond the first limit.
// A nil loadLimit allows any load.
type loadLimit struct {
	max     float64
	sampled float64

	own     float64
	running int
	since   time.Time // running was so many from then on
}

// note says how many calls run from now on.
func (l *loadLimit) note(now time.Time, running int) {
	if l == nil {
		return
	}
	if passed := now.Sub(l.since); !l.since.IsZero() && passed > 0 {
		l.own += (float64(l.running) - l.own) * -math.Expm1(-passed.Seconds()/averaged.Seconds())
	}
	l.running, l.since = running, now
}

// expected is the load with what has not shown in it yet. Calls that have just ended are not
// taken off it: that would be a guess that they had been running all the time.
func (l *loadLimit) expected() float64 {
	return l.sampled + max(0, float64(l.running)-l.own)
}

// refuses lets a call begin below the limit, so at most one takes the load over it, as GNU
// parallel has it.
func (l *loadLimit) refuses() *reason {
	switch {
	case l == nil || l.expected() < l.max:
		return nil
	case l.sampled < l.max: // our own calls: that is what a limit is for
		return &reason{}
	}
	return &reason{fmt.Sprintf("the load is %.4g, --load allows %.4g", l.sampled, l.max)}
}

// memoryLimit lets calls begin while there is enough free memory. A call takes its memory some
// time after it began, so that from twice the limit down one call begins for each sample.
// A nil memoryLimit allows any.
type memoryLimit struct {
	min     int64
	sampled int64
	spent   bool // a call has begun since the sample
}

func (m *memoryLimit) sample(free int64) { m.sampled, m.spent = free, false }

func (m *memoryLimit) begun() {
	if m != nil {
		m.spent = true
	}
}

func (m *memoryLimit) refuses() *reason {
	switch {
	case m == nil:
		return nil
	case m.sampled < m.min:
		return &reason{fmt.Sprintf("%s of memory are free, --memfree asks for %s", size(m.sampled), size(m.min))}
	case m.spent && m.sampled/2 < m.min:
		return &reason{}
	}
	return nil
}

// reachable is an error if so much will never be free; total is 0 if it is not known.
func (m *memoryLimit) reachable(total int64) error {
	if total == 0 || m.min <= total {
		return nil
	}
	return fmt.Errorf("wait for %s of free memory: there are only %s in all; give --memfree less", size(m.min), size(total))
}

// worthSaying is the length of a wait from which on its end is told, too.
const worthSaying = 10 * time.Second

// stretch is one wait from the first refusal to the next call that begins. It is told once.
type stretch struct {
	since time.Time // zero: no wait
	told  bool
}

// refused returns what is to be said, empty if nothing is.
func (s *stretch) refused(now time.Time, why string) string {
	if s.since.IsZero() {
		s.since = now
	}
	if s.told || why == "" {
		return ""
	}
	s.told = true
	return "waiting: " + why
}

// passed ends the wait and returns what is to be said.
func (s *stretch) passed(now time.Time) string {
	waited, told := now.Sub(s.since), s.told
	*s = stretch{}
	if !told || waited <= worthSaying {
		return ""
	}
	return fmt.Sprintf("going on after a wait of %v", waited.Round(time.Second))
}
