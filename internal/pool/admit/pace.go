package admit

import "time"

// pace spreads the beginnings of calls over time: a least distance between two, and a rate.
// The rate is a bucket of tokens, kept as one time: full is when the bucket is full again.
// That needs no clock, no float that drifts, and nothing is to be done while nobody asks.
type pace struct {
	delay time.Duration // between two beginnings
	every time.Duration // in which the rate allows one call; 0: no rate
	slack time.Duration // how far ahead of the rate a burst may run

	last time.Time // the latest beginning, zero before the first
	full time.Time
}

func newPace(delay time.Duration, rate float64, burst int) pace {
	p := pace{delay: delay}
	if rate > 0 {
		p.every = interval(rate)
		p.slack = saturated(float64(p.every) * float64(max(burst, 1)-1))
	}
	return p
}

// interval is the time in which a rate allows one call.
func interval(rate float64) time.Duration { return saturated(float64(time.Second) / rate) }

// saturated turns nanoseconds into a duration, at most a century, so that times can be added.
func saturated(nanoseconds float64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(nanoseconds, float64(century)))
}

// next is the earliest time at which a call may begin.
func (p *pace) next() time.Time {
	if p.last.IsZero() {
		return time.Time{}
	}
	next := p.last.Add(p.delay)
	if byRate := p.full.Add(-p.slack); p.every > 0 && byRate.After(next) {
		next = byRate
	}
	return next
}

// begun takes note of a call that begins now.
func (p *pace) begun(now time.Time) {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(p.every)
	p.last = now
}
