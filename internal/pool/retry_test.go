package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/worker"
)

// Tests of what becomes of failures: attempts, waits, output that is held back, and
// jobs that are ended early.

// fickle is a task that fails as many times as its payload says, prints which attempt
// it is, and remembers when attempts began.
type fickle struct {
	mu    sync.Mutex
	begun map[uint64][]time.Time
}

func (f *fickle) tasks() worker.Registry {
	f.begun = map[uint64][]time.Time{}
	return worker.Registry{"fickle": func(ctx context.Context, c *worker.Call) ([]byte, error) {
		f.mu.Lock()
		f.begun[c.Seq] = append(f.begun[c.Seq], time.Now())
		f.mu.Unlock()
		if err := c.Output(ctx, ipc.Stdout, fmt.Appendf(nil, "%d.%d ", c.Seq, c.Attempt)); err != nil {
			return nil, err
		}
		if c.Attempt <= number(c.Payload) {
			return nil, fmt.Errorf("attempt %d fails", c.Attempt)
		}
		return digits(c.Attempt), nil
	}}
}

func counts(n ...int) *slice {
	return &slice{n: len(n), item: func(i int) []byte { return digits(n[i]) }}
}

func TestFailedCallsAreRunAgain(t *testing.T) {
	for _, order := range []pool.Order{pool.Unordered, pool.Ordered} {
		for _, chunk := range []int{1, 4} {
			bubble(t, short, func(t *testing.T) {
				f, c := &fickle{}, &collector{}
				p := newPool(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: f.tasks()}})
				noError(t, submit(t, p, pool.Job{
					Task: "fickle", Order: order, ChunkSize: chunk, Consumer: c, Hold: true,
					Retry: &pool.Retry{Max: 2}, Source: counts(0, 1, 2, 3, 0),
				}).Wait())
				p.Close()
				if len(c.results) != 5 {
					t.Fatalf("5 calls have %d results", len(c.results))
				}
				for _, r := range c.results {
					fails := int(r.Call.Seq) - 1
					if r.Call.Seq == 5 {
						fails = 0
					}
					want := pool.Succeeded
					if fails > 2 {
						want = pool.Failed
					}
					if r.Kind != want || r.Attempt != min(fails, 2)+1 || len(r.Earlier) != r.Attempt-1 {
						t.Errorf("call %d, which fails %d times: %v at attempt %d after %d others", r.Call.Seq, fails, r.Kind, r.Attempt, len(r.Earlier))
					}
					for i, e := range r.Earlier {
						if e.Attempt != i+1 || e.Kind != pool.Failed || e.Err.Error() != fmt.Sprintf("attempt %d fails", i+1) {
							t.Errorf("call %d: attempt %d is told as number %d: %v", r.Call.Seq, i+1, e.Attempt, e.Err)
						}
					}
				}
				s := p.Stats()
				if s.Succeeded != 4 || s.Failed != 1 || s.Retried != 5 {
					t.Errorf("counted: %d succeeded, %d failed, %d retried", s.Succeeded, s.Failed, s.Retried)
				}
				// What a call has printed comes in one stretch, attempt by attempt.
				if got := string(c.output); order == pool.Ordered && got != "1.1 2.1 2.2 3.1 3.2 3.3 4.1 4.2 4.3 5.1 " {
					t.Errorf("printed: %s", got)
				}
			})
		}
	}
}

// resulted remembers what was known of the result when output came.
type resulted struct {
	collector
	kinds []string
}

func (r *resulted) Output(o *pool.Output) error {
	if o.Result == nil {
		return errors.New("held output comes without the result")
	}
	r.kinds = append(r.kinds, fmt.Sprint(o.Call.Seq, o.Attempt, o.Result.Kind, len(o.Result.Earlier)))
	return nil
}

func TestHeldOutputComesWithTheResult(t *testing.T) {
	bubble(t, short, func(t *testing.T) {
		f, c := &fickle{}, &resulted{}
		noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: f.tasks()}}, pool.Job{
			Task: "fickle", Order: pool.Ordered, ChunkSize: 1, Consumer: c, Hold: true,
			Retry: &pool.Retry{Max: 1}, Source: counts(0, 1, 2),
		}))
		if got := strings.Join(c.kinds, ", "); got != "1 1 0 0, 2 1 0 1, 2 2 0 1, 3 1 1 1, 3 2 1 1" {
			t.Errorf("%s", got)
		}
	})
}

func TestWhatMayBeRunAgain(t *testing.T) {
	only75 := func(r *pool.Result) bool { return strings.Contains(r.Err.Error(), "75") }
	task := func(_ context.Context, c *worker.Call) ([]byte, error) {
		return nil, errors.New(string(c.Payload))
	}
	bubble(t, short, func(t *testing.T) {
		c := &collector{}
		texts := []string{"exit 75", "exit 1"}
		noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: worker.Registry{"task": task}}}, pool.Job{
			Task: "task", Order: pool.Ordered, ChunkSize: 2, Consumer: c, Retry: &pool.Retry{Max: 3, If: only75},
			Source: &slice{n: 2, item: func(i int) []byte { return []byte(texts[i]) }},
		}))
		if c.results[0].Attempt != 4 || c.results[1].Attempt != 1 {
			t.Errorf("exit 75 was tried %d times and exit 1 %d times", c.results[0].Attempt, c.results[1].Attempt)
		}
	})
}

// TestBackoff: the waits are random, below a limit that doubles.
func TestBackoff(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		f, c := &fickle{}, &collector{}
		noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: f.tasks()}}, pool.Job{
			Task: "fickle", ChunkSize: 1, Consumer: c, Source: counts(6),
			Retry: &pool.Retry{Max: 6, MinWait: time.Second, MaxWait: 8 * time.Second},
		}))
		begun := f.begun[1]
		if len(begun) != 7 || c.results[0].Kind != pool.Succeeded {
			t.Fatalf("%d attempts, %v", len(begun), c.results[0].Kind)
		}
		total := time.Duration(0)
		for i, limit := range []time.Duration{1, 2, 4, 8, 8, 8} {
			wait := begun[i+1].Sub(begun[i])
			total += wait
			if wait > limit*time.Second+time.Millisecond {
				t.Errorf("the wait after attempt %d was %v, at most %d s are allowed", i+1, wait, limit)
			}
			if told := c.results[0].Earlier[i].Again; wait < told || wait > told+time.Millisecond {
				t.Errorf("the wait after attempt %d was %v, and %v were told", i+1, wait, told)
			}
		}
		if total < time.Second {
			t.Errorf("six waits of up to 31 s together took %v", total)
		}
	})
}

// TestAStopEndsWaitsForRetries: at once, and the call ends with its failure.
func TestAStopEndsWaitsForRetries(t *testing.T) {
	for _, level := range []pool.Level{pool.Drain, pool.Terminate, pool.Kill} {
		bubble(t, long, func(t *testing.T) {
			f, c := &fickle{}, &collector{}
			p := newPool(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: f.tasks()}})
			r := submit(t, p, pool.Job{Task: "fickle", ChunkSize: 1, Consumer: c, Source: counts(9), Retry: &pool.Retry{Max: 9, MinWait: 24 * time.Hour, MaxWait: 24 * time.Hour}})
			time.Sleep(time.Second)
			begun := time.Now()
			p.Stop(level)
			noError(t, r.Wait())
			p.Close()
			if took := time.Since(begun); took > time.Second {
				t.Errorf("level %d: it took %v", level, took)
			}
			if got := c.results[0]; got.Kind != pool.Failed || got.Attempt != 1 || got.Again != 0 || len(got.Earlier) != 0 {
				t.Errorf("level %d: it ended as %+v", level, got)
			}
		})
	}
}

// TestALostWorkerIsOneAttempt, of its call and of no other.
func TestALostWorkerIsOneAttempt(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		c := &collector{}
		l := &inProcess{tasks: deaf()}
		noError(t, run(t, pool.Config{Workers: 1, Launcher: l}, pool.Job{
			Task: "sleep", Order: pool.Ordered, ChunkSize: 3, Consumer: c, Source: millis(nil, 10, 300, 20),
			Limits: &pool.Limits{Hard: 100 * time.Millisecond}, Retry: &pool.Retry{Max: 2},
		}))
		for i, want := range []struct {
			kind    pool.Kind
			attempt int
		}{{pool.Succeeded, 1}, {pool.TimedOut, 3}, {pool.Succeeded, 1}} {
			if r := c.results[i]; r.Kind != want.kind || r.Attempt != want.attempt {
				t.Errorf("call %d ended as %v at attempt %d, want %v at %d", i+1, r.Kind, r.Attempt, want.kind, want.attempt)
			}
		}
		if l.started.Load() != 4 {
			t.Errorf("%d workers were started, want 4", l.started.Load())
		}
	})
}

// TestTheMedianLimit: once five calls have ended, one that takes 300 % of their median
// is too slow.
func TestTheMedianLimit(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		c := &collector{}
		ms := []int{5000, 1000, 1100, 900, 1000, 2500, 4000, 1000}
		noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: sleeper()}}, pool.Job{
			Task: "sleep", Order: pool.Ordered, ChunkSize: 1, Consumer: c, Source: millis(nil, ms...),
			Limits: &pool.Limits{Medians: 3, Grace: time.Second},
		}))
		for i, r := range c.results {
			want := pool.Succeeded
			if ms[i] == 4000 {
				want = pool.TimedOut
			}
			if r.Kind != want {
				t.Errorf("the call of %d ms ended as %v: %v", ms[i], r.Kind, r.Err)
			}
		}
	})
}

// TestHalt: a job ends when enough of its calls have ended in one way.
func TestHalt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		halt    pool.Halt
		total   int
		kinds   string // of 10 calls of a second, of which every third one fails, with 2 workers
		seconds int
	}{
		{"soon,fail=1", pool.Halt{On: pool.HaltOnFail, N: 1}, 10, "ok ok fail ok", 2},
		{"now,fail=1", pool.Halt{On: pool.HaltOnFail, N: 1, Now: true}, 10, "ok ok fail cancelled", 2},
		{"soon,success=3", pool.Halt{On: pool.HaltOnSuccess, N: 3}, 10, "ok ok fail ok ok", 3},
		{"soon,done=5", pool.Halt{On: pool.HaltOnDone, N: 5}, 10, "ok ok fail ok ok fail", 3},
		{"soon,fail=20%", pool.Halt{On: pool.HaltOnFail, Percent: 20}, 10, "ok ok fail ok ok fail ok", 4},
		{"soon,fail=20% of an unknown number", pool.Halt{On: pool.HaltOnFail, Percent: 20}, 0, "ok ok fail ok ok fail ok ok fail ok", 5},
		{"never", pool.Halt{}, 10, "ok ok fail ok ok fail ok ok fail ok", 5},
	} {
		bubble(t, long, func(t *testing.T) {
			c := &collector{}
			task := func(ctx context.Context, w *worker.Call) ([]byte, error) {
				// The even one of a pair ends a moment later, so that the order is known.
				select {
				case <-time.After(time.Second - time.Duration(w.Seq%2)*10*time.Millisecond):
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
				if w.Seq%3 == 0 {
					return nil, errors.New("a third one")
				}
				return nil, nil
			}
			begun := time.Now()
			p := newPool(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: worker.Registry{"task": task}}})
			r := submit(t, p, pool.Job{
				Task: "task", Order: pool.Ordered, ChunkSize: 1, Total: tt.total, Consumer: c, Source: &slice{n: 10}, Halt: tt.halt,
			})
			noError(t, r.Wait())
			p.Close()
			if r.Halted() != (tt.name != "never") {
				t.Errorf("%s: halted: %v", tt.name, r.Halted())
			}
			var got []string
			for _, r := range c.results {
				switch {
				case r.Kind == pool.Succeeded:
					got = append(got, "ok")
				case r.Kind == pool.Failed:
					got = append(got, "fail")
				case !errors.Is(r.Err, pool.ErrNotRun):
					got = append(got, "cancelled")
				}
			}
			if s := strings.Join(got, " "); s != tt.kinds {
				t.Errorf("%s: %s; want %s", tt.name, s, tt.kinds)
			}
			if took := time.Since(begun); took < time.Duration(tt.seconds-1)*time.Second || took > time.Duration(tt.seconds)*time.Second+50*time.Millisecond {
				t.Errorf("%s: it took %v, want about %d s", tt.name, took, tt.seconds)
			}
		})
	}
}

// TestSkippedCallsKeepTheirNumbers, are not run and do not halt a job.
func TestSkippedCallsKeepTheirNumbers(t *testing.T) {
	bubble(t, short, func(t *testing.T) {
		c := &collector{}
		src := &skipping{slice{n: 100, item: func(int) []byte { return digits(0) }}}
		noError(t, run(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: sleeper()}}, pool.Job{
			Task: "sleep", Order: pool.Ordered, ChunkSize: 3, Consumer: c, Source: src, Halt: pool.Halt{On: pool.HaltOnDone, N: 51},
		}))
		for i, r := range c.results {
			want := pool.Skipped
			if r.Call.Seq%2 == 0 {
				want = pool.Succeeded
			}
			if r.Call.Seq != uint64(i+1) || r.Kind != want {
				t.Errorf("result %d is of call %d: %v", i+1, r.Call.Seq, r.Kind)
			}
		}
		if len(c.results) != 100 {
			t.Errorf("%d results", len(c.results))
		}
	})
}

// skipping skips the odd calls.
type skipping struct{ slice }

func (s *skipping) Next(ctx context.Context, max int) ([]pool.Call, error) {
	first := s.next
	list, err := s.slice.Next(ctx, max)
	for i := range list {
		if (first+i)%2 == 0 {
			list[i].Err = pool.ErrSkip
		}
	}
	return list, err
}

// pacer is a gate that admits a call each second, and two at once.
type pacer struct {
	last    time.Time
	most    int
	running []int // as told by Ended
}

func (g *pacer) Admit(now time.Time, running int) (bool, time.Time) {
	if due := g.last.Add(time.Second); due.After(now) {
		return false, due
	}
	if running >= g.most {
		return false, time.Time{}
	}
	g.last = now
	return true, time.Time{}
}

func (g *pacer) Close() error { return nil }

func (g *pacer) Attach(func()) {} // it always says when to ask again, or waits for an end

func (g *pacer) Ended(running int) { g.running = append(g.running, running) }

// TestAGateDecidesWhenCallsBegin, whatever the chunks should be.
func TestAGateDecidesWhenCallsBegin(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		var mu sync.Mutex
		var begun []time.Time
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
			if n > 0 {
				begun = append(begun, time.Now())
			}
		}
		task := func(context.Context, *worker.Call) ([]byte, error) {
			count(1)
			defer count(-1)
			time.Sleep(5 * time.Second)
			return nil, nil
		}
		g := &pacer{most: 2}
		noError(t, run(t, pool.Config{Workers: 4, Launcher: &inProcess{tasks: worker.Registry{"task": task}}, Gate: g}, pool.Job{
			Task: "task", ChunkSize: 5, Consumer: &collector{}, Source: &slice{n: 8},
		}))
		if most != 2 || len(begun) != 8 {
			t.Errorf("%d calls ran, %d at once", len(begun), most)
		}
		for i := 1; i < len(begun); i++ {
			if gap := begun[i].Sub(begun[i-1]); gap < time.Second-time.Millisecond {
				t.Errorf("call %d began %v after the one before", i+1, gap)
			}
		}
	})
}

// TestTheStoryOfCalls: each attempt is told from its begin to its end, in order.
func TestTheStoryOfCalls(t *testing.T) {
	bubble(t, short, func(t *testing.T) {
		f := &fickle{}
		var story []string
		noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: f.tasks()}, CallEvents: true, OnEvent: func(e pool.Event) {
			switch e.Kind {
			case pool.CallStarted:
				story = append(story, fmt.Sprintf("%d.%d begins", e.Call.Seq, e.Attempt))
			case pool.CallRetried:
				story = append(story, fmt.Sprintf("%d.%d fails", e.Result.Call.Seq, e.Result.Attempt))
			case pool.CallFinished:
				story = append(story, fmt.Sprintf("%d.%d ends", e.Result.Call.Seq, e.Result.Attempt))
			}
		}}, pool.Job{
			Task: "fickle", Order: pool.Unordered, ChunkSize: 3, Consumer: &collector{}, Source: counts(0, 1, 0), Retry: &pool.Retry{Max: 1},
		}))
		at := func(what string) int {
			for i, s := range story {
				if s == what {
					return i
				}
			}
			t.Errorf("it is not told that %s: %q", what, story)
			return -1
		}
		for _, pair := range [][2]string{{"1.1 begins", "1.1 ends"}, {"2.1 begins", "2.1 fails"}, {"2.1 fails", "2.2 begins"}, {"2.2 begins", "2.2 ends"}, {"3.1 begins", "3.1 ends"}} {
			if at(pair[0]) >= at(pair[1]) {
				t.Errorf("%s is not before %s: %q", pair[0], pair[1], story)
			}
		}
		if len(story) != 8 {
			t.Errorf("the story has %d lines: %q", len(story), story)
		}
	})
}

// TestSilentCallsAreToldEarly: of calls whose turn has not come, those that succeeded and
// printed nothing, and all of them once more in their turn.
func TestSilentCallsAreToldEarly(t *testing.T) {
	bubble(t, short, func(t *testing.T) {
		var early []uint64
		c := &collector{}
		task := func(ctx context.Context, w *worker.Call) ([]byte, error) {
			switch w.Seq {
			case 1:
				time.Sleep(50 * time.Millisecond)
			case 2:
				return nil, w.Output(ctx, ipc.Stderr, []byte("heard"))
			case 3:
				return nil, errors.New("failed")
			}
			return nil, nil
		}
		noError(t, run(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: worker.Registry{"task": task}}}, pool.Job{
			Task: "task", Order: pool.Ordered, ChunkSize: 1, Consumer: c, Source: &slice{n: 5},
			Silent: func(r *pool.Result) { early = append(early, r.Call.Seq) },
		}))
		slices.Sort(early) // they may end in any order
		if fmt.Sprint(early) != "[4 5]" || fmt.Sprint(c.seqs) != "[1 2 3 4 5]" {
			t.Errorf("told early: %v; told in turn: %v", early, c.seqs)
		}
	})
}

// TestASlowListenerHoldsTheCalls: what is told and not heard is bounded.
func TestASlowListenerHoldsTheCalls(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		c := &collector{}
		src := &slice{n: 50000, item: func(int) []byte { return digits(0) }}
		heard, most := 0, int64(0)
		noError(t, run(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: sleeper()}, CallEvents: true, OnEvent: func(e pool.Event) {
			if e.Kind == pool.CallFinished {
				heard++
				if heard%100 == 0 {
					time.Sleep(time.Millisecond) // slower than the calls, which take no time
				}
				most = max(most, src.pulled.Load()-int64(heard))
			}
		}}, pool.Job{Task: "sleep", Order: pool.Unordered, ChunkSize: 100, Consumer: c, Source: src}))
		if heard != 50000 || most > 20000 {
			t.Errorf("%d events were heard, %d calls were ahead of them at most", heard, most)
		}
	})
}
