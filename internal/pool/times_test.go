package pool

import (
	"testing"
	"time"
)

// TestTimesOfWorkersThatSayNone: a worker in another language need not say when a call
// began and how long it took, and none is believed what cannot be.
func TestTimesOfWorkersThatSayNone(t *testing.T) {
	begun := time.Unix(1700000000, 0)
	now := begun.Add(700 * time.Millisecond)
	l := &loop{plan: newPlan(1, Quota{})}
	l.plan.slots[0].begin(begun)
	l.plan.paused(time.Hour) // a pause is no part of it
	said := begun.Add(20 * time.Millisecond)
	for name, c := range map[string]struct {
		a       arrival
		start   time.Time
		elapsed time.Duration
	}{
		"it says both":           {arrival{start: said.UnixNano(), elapsed: int64(600 * time.Millisecond)}, said, 600 * time.Millisecond},
		"it says nothing":        {arrival{}, begun, 700 * time.Millisecond},
		"longer than it was":     {arrival{start: said.UnixNano(), elapsed: int64(time.Hour)}, said, 1700 * time.Millisecond},
		"less than no time":      {arrival{start: said.UnixNano(), elapsed: -5}, begun, 700 * time.Millisecond},
		"before it was asked to": {arrival{start: 1, elapsed: int64(time.Second / 2)}, begun, time.Second / 2},
		"in the future":          {arrival{start: now.Add(time.Hour).UnixNano(), elapsed: 1}, begun, 1},
	} {
		start, elapsed := l.times(0, &c.a, now)
		if !start.Equal(c.start) || elapsed != c.elapsed {
			t.Errorf("%s: %v for %v, want %v for %v", name, start.Sub(begun), elapsed, c.start.Sub(begun), c.elapsed)
		}
	}
}

// TestACallThatWaitsForItsReaderDoesNotAge.
func TestACallThatWaitsForItsReaderDoesNotAge(t *testing.T) {
	p, j := readyPlan(1, Job{ChunkSize: 1, Limits: &Limits{Soft: 100 * time.Millisecond}})
	j.push(calls(1), noon)
	if _, ok := p.next(noon, nil); !ok {
		t.Fatal("the call is not sent")
	}
	s, at := &p.slots[0], func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	const much = 1 << 20
	s.printed.Stdout = much
	s.stall(much, at(50), at(90)) // some was taken just now
	if !s.stalled.IsZero() {
		t.Error("a call whose reader reads stops to age")
	}
	s.stall(much, at(50), at(1000))
	s.stall(much, at(50), at(1010)) // still
	if _, _, ok := p.overdue(at(1010)); ok {
		t.Error("it is overdue while nobody takes its output")
	}
	p.paused(time.Second) // Ctrl-Z meanwhile counts once
	s.stall(0, at(2050), at(2050))
	if _, again, ok := p.overdue(at(2050)); ok || !again.Equal(at(2100)) {
		t.Errorf("it is overdue at %v, half of its time is left", again.Sub(noon))
	}
	if c, _, ok := p.overdue(at(2100)); !ok || c.hard {
		t.Errorf("it is not overdue when its time is up: %+v", c)
	}
}
