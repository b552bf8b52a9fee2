package report

import "time"

const (
	// sampleEvery and sampleCount make the window of the rate: the last ten
	// seconds. Shorter and the ETA jumps about; longer and it hides a change.
	sampleEvery = time.Second
	sampleCount = 10

	// fewCalls is how many calls must end in the window before its rate says more
	// about the run than about chance. Below it the mean of the whole run counts.
	fewCalls = 10
)

// meter measures how fast calls finish. It is pure: the time is an argument, and
// whoever holds it (a [Progress], under its lock) is its only user.
//
// The meter of the progressbar library is not used: it starts when the bar is
// made, so it would count everything done before the total was known as done in
// the first moment.
type meter struct {
	start   time.Time
	samples []sample // oldest first, at most sampleCount
}

// sample is how many calls had finished at a moment.
type sample struct {
	at time.Time
	n  int64
}

// observe takes a sample if the last one is old enough.
func (m *meter) observe(now time.Time, n int64) {
	if k := len(m.samples); k > 0 && now.Sub(m.samples[k-1].at) < sampleEvery {
		return
	}
	if len(m.samples) == sampleCount {
		m.samples = append(m.samples[:0], m.samples[1:]...)
	}
	m.samples = append(m.samples, sample{now, n})
}

// rate is calls per second; 0 means that nothing can be said yet.
func (m *meter) rate(now time.Time, n int64) float64 {
	from := sample{at: m.start}
	if len(m.samples) > 0 && n-m.samples[0].n >= fewCalls {
		from = m.samples[0]
	}
	elapsed := now.Sub(from.at).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(n-from.n) / elapsed
}

// skip forgets d: time in which the run stood still, such as a Ctrl-Z, would
// otherwise look like slowness.
func (m *meter) skip(d time.Duration) {
	m.start = m.start.Add(d)
	for i := range m.samples {
		m.samples[i].at = m.samples[i].at.Add(d)
	}
}
