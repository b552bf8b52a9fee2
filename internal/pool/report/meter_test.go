package report

import (
	"math"
	"testing"
	"time"
)

// start is when every test begins; no test looks at the wall clock.
func start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// at is the moment that many seconds after start.
func at(seconds float64) time.Time {
	return start().Add(time.Duration(seconds * float64(time.Second)))
}

// steady plays calls at perSecond from one second to another, ten ticks a second,
// and returns the count.
func steady(m *meter, n float64, perSecond, from, to float64) float64 {
	for second := from; second < to; second += 0.1 {
		n += perSecond / 10
		m.observe(at(second), int64(n))
	}
	return n
}

func TestMeter(t *testing.T) {
	near := func(t *testing.T, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.06*want {
			t.Errorf("rate %v, want about %v", got, want)
		}
	}
	t.Run("nothing", func(t *testing.T) {
		m := meter{start: start()}
		near(t, m.rate(start(), 0), 0)
		near(t, m.rate(start(), 5), 0) // no time has passed: unknown, not infinite
		near(t, m.rate(at(1), 0), 0)
	})
	t.Run("from the first moment", func(t *testing.T) {
		m := meter{start: start()}
		near(t, m.rate(at(0.2), 20), 100)
	})
	t.Run("steady", func(t *testing.T) {
		m := meter{start: start()}
		n := steady(&m, 0, 100, 0, 60)
		near(t, m.rate(at(60), int64(n)), 100)
	})
	t.Run("the window follows a change", func(t *testing.T) {
		m := meter{start: start()}
		n := steady(&m, 0, 100, 0, 60)
		n = steady(&m, n, 1000, 60, 75)
		near(t, m.rate(at(75), int64(n)), 1000)
	})
	t.Run("slow calls count over the whole run", func(t *testing.T) {
		m := meter{start: start()}
		n := steady(&m, 0, 0.25, 0, 400) // one in 4 seconds: two or three in a window
		near(t, m.rate(at(400), int64(n)), 0.25)
	})
	t.Run("skipped time does not count", func(t *testing.T) {
		m := meter{start: start()}
		n := steady(&m, 0, 100, 0, 5)
		m.skip(time.Hour)
		near(t, m.rate(at(5).Add(time.Hour), int64(n)), 100)
	})
	t.Run("bounded", func(t *testing.T) {
		m := meter{start: start()}
		steady(&m, 0, 100, 0, 600)
		if len(m.samples) != sampleCount || cap(m.samples) > 2*sampleCount {
			t.Errorf("%d samples, capacity %d", len(m.samples), cap(m.samples))
		}
	})
}
