package admit

import (
	"strings"
	"testing"
	"time"
)

func TestNothingAskedForAdmitsAll(t *testing.T) {
	w := open(t, Options{})
	defer w.Close()
	for running := range 1000 {
		if ok, _ := w.Admit(noon, running); !ok {
			t.Fatalf("call %d may not begin", running+1)
		}
	}
}

func TestAdmitNamesTheTime(t *testing.T) {
	w := open(t, Options{Delay: 300 * time.Millisecond})
	defer w.Close()
	if ok, _ := w.Admit(noon, 0); !ok {
		t.Fatal("the first call may begin")
	}
	ok, again := w.Admit(noon.Add(time.Millisecond), 1)
	if ok || !again.Equal(noon.Add(300*time.Millisecond)) {
		t.Errorf("%v, %v; want to be asked again after 300 ms", ok, again)
	}
	if ok, _ := w.Admit(again, 1); !ok {
		t.Error("at the time that was named the call may begin")
	}
}

// TestARefusedCallCostsNoRate: only calls that begin count.
func TestARefusedCallCostsNoRate(t *testing.T) {
	s := newServer(t, "")
	w := open(t, Options{Jobserver: s.auth, Rate: 1, Burst: 2})
	defer w.Close()
	if ok, _ := w.Admit(noon, 0); !ok {
		t.Fatal("the first call may begin")
	}
	for range 5 {
		if ok, again := w.Admit(noon, 1); ok || !again.IsZero() {
			t.Fatal("there is no token for a second one")
		}
	}
	w.Ended(0)
	if ok, _ := w.Admit(noon, 0); !ok {
		t.Error("the burst has been spent on calls that did not begin")
	}
}

// TestTheMachineIsTold: too high a load refuses the first call too, is told once, and wakes the
// loop at each sample.
func TestTheMachineIsTold(t *testing.T) {
	w := open(t, Options{MaxLoad: 1e9})
	defer w.Close()
	set := func(load float64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.load.max, w.load.sampled = 1, load
	}
	set(50)
	for range 3 {
		if ok, again := w.Admit(noon, 0); ok || !again.IsZero() {
			t.Fatal("a call may begin under a load of 50")
		}
	}
	if said := <-w.said; said != "waiting: the load is 50, --load allows 1" {
		t.Errorf("it said %q", said)
	}
	<-w.wakes
	set(0)
	if ok, _ := w.Admit(noon.Add(time.Minute), 0); !ok {
		t.Error("a call may not begin under no load")
	}
	if said := <-w.said; said != "going on after a wait of 1m0s" || len(w.said) > 0 {
		t.Errorf("it said %q, and %d more", said, len(w.said))
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	nan := 0.0
	nan /= nan
	for want, o := range map[string]Options{
		"delay":        {Delay: -1},
		"rate":         {Rate: -1},
		"a rate of Na": {Rate: nan},
		"burst":        {Burst: -1},
		"load":         {MaxLoad: nan},
		"free memory":  {MinFree: -1},
		"Keeper":       {Jobserver: &Auth{}},
		"in all":       {MinFree: 1 << 60},
	} {
		if want == "in all" && totalMemory() == 0 {
			continue
		}
		if _, err := openFor(o, func() {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", o, err, want)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	w := open(b, Options{Rate: 1e9, Burst: 1 << 30, MaxLoad: 1e9, MinFree: 1})
	defer w.Close()
	now := time.Now()
	for b.Loop() {
		if ok, _ := w.Admit(now, 1); ok {
			w.Ended(1)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	s := newServer(b, "a")
	w := open(b, Options{Jobserver: s.auth})
	defer w.Close()
	for b.Loop() {
		w.admit(b, 1)
		w.Ended(1)
	}
}

func BenchmarkSample(b *testing.B) {
	w := open(b, Options{MaxLoad: 1e9, MinFree: 1})
	defer w.Close()
	for b.Loop() {
		if err := w.sample(); err != nil {
			b.Fatal(err)
		}
	}
}
