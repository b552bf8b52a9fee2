package admit

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLoadLimitKnowsWhatTheAverageDoesNotShow: calls that have just begun count in full, though
// the average says nothing of them.
func TestLoadLimitKnowsWhatTheAverageDoesNotShow(t *testing.T) {
	l := &loadLimit{max: 4}
	running := 0
	for l.refuses() == nil && running < 100 {
		running++
		l.note(noon, running)
	}
	if running != 4 {
		t.Errorf("%d calls began at once on an idle machine with a limit of 4", running)
	}
	if why := l.refuses(); why == nil || why.text != "" {
		t.Errorf("our own calls are no news: %v", why)
	}
}

// TestLoadLimitOfCallsThatCompute: when the average shows what runs, it does not count twice.
func TestLoadLimitOfCallsThatCompute(t *testing.T) {
	l := &loadLimit{max: 4}
	l.note(noon, 3)
	later := noon.Add(10 * time.Minute)
	l.sampled = 3
	l.note(later, 3)
	if got := l.expected(); math.Abs(got-3) > 0.01 {
		t.Errorf("three calls that have long shown make a load of %v", got)
	}
	l.note(later, 4)
	if got := l.expected(); math.Abs(got-4) > 0.01 || l.refuses() != nil && got < 4 {
		t.Errorf("one more makes a load of %v", got)
	}
}

// TestLoadLimitOfCallsThatWait: calls that are no load do not block others for ever.
func TestLoadLimitOfCallsThatWait(t *testing.T) {
	l, now, running := &loadLimit{max: 2}, noon, 0
	for now.Before(noon.Add(10 * time.Minute)) {
		l.note(now, running)
		if l.refuses() == nil {
			running++
			l.note(now, running)
		}
		now = now.Add(time.Second)
	}
	if running < 15 || running > 30 {
		t.Errorf("%d calls that wait began in ten minutes, want about 2 a minute and 2", running)
	}
}

func TestLoadLimitOfABusyMachine(t *testing.T) {
	l := &loadLimit{max: 4, sampled: 9.1}
	why := l.refuses()
	if why == nil || why.text != "the load is 9.1, --load allows 4" {
		t.Errorf("a load of 9.1 with a limit of 4: %v", why)
	}
	if (*loadLimit)(nil).refuses() != nil {
		t.Error("no limit refuses")
	}
}

// TestLoadLimitStaysNearItsLimit plays calls that compute, in a kernel that averages as ours does,
// and looks how far the true load goes.
func TestLoadLimitStaysNearItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &loadLimit{max: float64(rapid.IntRange(1, 8).Draw(t, "max"))}
		foreign := rapid.IntRange(0, 8).Draw(t, "foreign")
		l.sampled = float64(foreign)
		now, running := noon, 0
		for range 300 {
			now = now.Add(time.Second)
			l.sampled += (float64(foreign+running) - l.sampled) * (1 - math.Exp(-1.0/60))
			running -= min(running, rapid.IntRange(0, 1).Draw(t, "ended"))
			l.note(now, running)
			for l.refuses() == nil {
				running++
				l.note(now, running)
			}
			if running > 0 && float64(foreign+running) > l.max+1.5 {
				t.Fatalf("%d calls run beside %d others, with a limit of %v", running, foreign, l.max)
			}
		}
	})
}

func TestMemoryLimit(t *testing.T) {
	m := &memoryLimit{min: 512 << 20}
	m.sample(312 << 20)
	if why := m.refuses(); why == nil || why.text != "312M of memory are free, --memfree asks for 512M" {
		t.Errorf("too little is free: %v", why)
	}
	m.sample(600 << 20)
	if m.refuses() != nil {
		t.Error("one call fits")
	}
	m.begun()
	if why := m.refuses(); why == nil || why.text != "" {
		t.Errorf("near the limit the next call waits for the next sample: %v", why)
	}
	m.sample(600 << 20)
	if m.refuses() != nil {
		t.Error("the next sample lets one more call begin")
	}
	m.sample(4 << 30)
	m.begun()
	if m.refuses() != nil {
		t.Error("far from the limit calls need no sample each")
	}
	if (*memoryLimit)(nil).refuses() != nil {
		t.Error("no limit refuses")
	}
}

func TestMemoryThatIsNeverFree(t *testing.T) {
	m := &memoryLimit{min: 64 << 30}
	if err := m.reachable(16 << 30); err == nil || !strings.Contains(err.Error(), "only 16G") {
		t.Errorf("64G of 16G: %v", err)
	}
	for _, total := range []int64{0, 64 << 30} {
		if err := m.reachable(total); err != nil {
			t.Errorf("64G of %d: %v", total, err)
		}
	}
}

func TestStretchIsToldOnce(t *testing.T) {
	var s stretch
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for i, c := range []struct {
		got, want string
	}{
		{s.passed(at(0)), ""},
		{s.refused(at(1), ""), ""},
		{s.refused(at(2), "a"), "waiting: a"},
		{s.refused(at(3), "a"), ""},
		{s.refused(at(4), "b"), ""},
		{s.passed(at(5)), ""}, // too short to speak of
		{s.refused(at(6), "b"), "waiting: b"},
		{s.passed(at(20)), "going on after a wait of 14s"},
		{s.passed(at(40)), ""},
		{s.refused(at(41), ""), ""},
		{s.passed(at(60)), ""}, // nobody was told that it waits
	} {
		if c.got != c.want {
			t.Errorf("step %d said %q, want %q", i, c.got, c.want)
		}
	}
}
