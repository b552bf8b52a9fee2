package admit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// begins lets calls begin as early as the pace allows, and returns when they did.
func begins(p pace, n int) (all []time.Duration) {
	now := noon
	for range n {
		if next := p.next(); next.After(now) {
			now = next
		}
		p.begun(now)
		all = append(all, now.Sub(noon))
	}
	return all
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		delay time.Duration
		rate  float64
		burst int
		want  []time.Duration
	}{
		{"nothing asked for", 0, 0, 0, []time.Duration{0, 0, 0, 0}},
		{"a delay", 300 * ms, 0, 0, []time.Duration{0, 300 * ms, 600 * ms, 900 * ms}},
		{"five a second is one each 200 ms", 0, 5, 0, []time.Duration{0, 200 * ms, 400 * ms, 600 * ms}},
		{"a burst first", 0, 5, 3, []time.Duration{0, 0, 0, 200 * ms, 400 * ms}},
		{"the longer of both", 300 * ms, 5, 0, []time.Duration{0, 300 * ms, 600 * ms}},
		{"a burst is no way around a delay", 50 * ms, 5, 3, []time.Duration{0, 50 * ms, 100 * ms, 200 * ms, 400 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, got := range begins(newPace(c.delay, c.rate, c.burst), len(c.want)) {
				if got != c.want[i] {
					t.Errorf("call %d began after %v, want %v", i+1, got, c.want[i])
				}
			}
		})
	}
}

func TestPaceSavesNothingUpBeyondTheBurst(t *testing.T) {
	p := newPace(0, 10, 2)
	p.begun(noon)
	now := noon.Add(time.Hour)
	for i, want := range []time.Duration{0, 0, 100 * time.Millisecond} {
		at := now
		if next := p.next(); next.After(at) {
			at = next
		}
		if at.Sub(now) != want {
			t.Errorf("call %d after the pause began after %v, want %v", i+1, at.Sub(now), want)
		}
		p.begun(at)
	}
}

// TestPaceHoldsInEveryStretch: whatever the loop does meanwhile, no stretch of time has more
// beginnings than the burst and what the rate allows in it, and no two are too close.
func TestPaceHoldsInEveryStretch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delay := time.Duration(rapid.IntRange(0, 50).Draw(t, "delay")) * time.Millisecond
		rate := rapid.Float64Range(0.1, 1000).Draw(t, "rate")
		burst := rapid.IntRange(1, 5).Draw(t, "burst")
		p, now := newPace(delay, rate, burst), noon
		var at []time.Time
		for range rapid.IntRange(2, 60).Draw(t, "tries") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "passed")) * time.Millisecond)
			if !p.next().After(now) {
				p.begun(now)
				at = append(at, now)
			}
		}
		for i := range at {
			for j := i + 1; j < len(at); j++ {
				passed := at[j].Sub(at[i])
				if most := float64(burst) + passed.Seconds()*rate + 1e-6; float64(j-i+1) > most+1e-3*most {
					t.Fatalf("%d calls began in %v at %v a second", j-i+1, passed, rate)
				}
				if j == i+1 && passed < delay {
					t.Fatalf("two calls began within %v", passed)
				}
			}
		}
	})
}

func TestPaceOfExtremeRates(t *testing.T) {
	p := newPace(0, 1e-300, 1<<30)
	p.begun(noon)
	if p.next().Before(noon.Add(-200*365*24*time.Hour)) || p.next().After(noon.Add(200*365*24*time.Hour)) {
		t.Errorf("times overflow: the next call is at %v", p.next())
	}
}
