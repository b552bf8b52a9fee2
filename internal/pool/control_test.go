package pool_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/worker"
)

// Tests of what a caller may want of a pool besides results: limits of time and
// memory, cancels, other sizes, and a look at what it does.

// millis is a source of calls that sleep so many milliseconds each.
func millis(limits *pool.Limits, ms ...int) *limited {
	return &limited{slice{n: len(ms), item: func(i int) []byte { return digits(ms[i]) }}, limits}
}

// limited gives the calls of a slice limits, and their number as item.
type limited struct {
	slice
	limits *pool.Limits
}

func (s *limited) Next(ctx context.Context, max int) ([]pool.Call, error) {
	at := s.next
	list, err := s.slice.Next(ctx, max)
	for i := range list {
		list[i].Limits, list[i].Item = s.limits, at+i
	}
	return list, err
}

// deaf is a task that sleeps as sleeper's does and does not heed its context.
func deaf() worker.Registry {
	return worker.Registry{"sleep": func(_ context.Context, c *worker.Call) ([]byte, error) {
		time.Sleep(time.Duration(number(c.Payload)) * time.Millisecond)
		return c.Payload, nil
	}}
}

func TestTheSoftLimitAsksAndTheHardLimitEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tasks  worker.Registry
		limits pool.Limits
		want   string // of calls of 10, 300 and 20 ms
		starts int32
	}{
		{"soft, heeded", sleeper(), pool.Limits{Soft: 100 * time.Millisecond}, "ok, timed out, ok", 1},
		{"soft, not heeded", deaf(), pool.Limits{Soft: 100 * time.Millisecond}, "ok, ok, ok", 1},
		{"hard", deaf(), pool.Limits{Hard: 100 * time.Millisecond}, "ok, timed out hard, ok", 2},
		{"both, the soft one heeded", sleeper(), pool.Limits{Soft: 100 * time.Millisecond, Hard: 200 * time.Millisecond}, "ok, timed out, ok", 1},
		{"both, the soft one not heeded", deaf(), pool.Limits{Soft: 100 * time.Millisecond, Hard: 200 * time.Millisecond}, "ok, timed out hard, ok", 2},
		{"none reached", sleeper(), pool.Limits{Soft: time.Second, Hard: time.Second}, "ok, ok, ok", 1},
	} {
		for _, chunk := range []int{1, 3} {
			bubble(t, long, func(t *testing.T) {
				c := &collector{}
				l := &inProcess{tasks: tt.tasks}
				noError(t, run(t, pool.Config{Workers: 1, Launcher: l}, pool.Job{
					Task: "sleep", Order: pool.Ordered, ChunkSize: chunk, Consumer: c, Source: millis(&tt.limits, 10, 300, 20),
				}))
				var got []string
				for _, r := range c.results {
					limit, _ := errors.AsType[*pool.LimitError](r.Err)
					switch {
					case r.Kind == pool.Succeeded:
						got = append(got, "ok")
					case r.Kind == pool.TimedOut && limit != nil && limit.Hard && limit.Limit == tt.limits.Hard && limit.Seq == r.Call.Seq:
						got = append(got, "timed out hard")
					case r.Kind == pool.TimedOut && limit != nil && !limit.Hard && limit.Limit == tt.limits.Soft && limit.Seq == r.Call.Seq:
						got = append(got, "timed out")
					default:
						t.Errorf("%s: call %d ended as %v: %v", tt.name, r.Call.Seq, r.Kind, r.Err)
					}
				}
				if s := strings.Join(got, ", "); s != tt.want {
					t.Errorf("%s, chunksize %d: %s; want %s", tt.name, chunk, s, tt.want)
				}
				if l.started.Load() != tt.starts {
					t.Errorf("%s, chunksize %d: %d workers were started, want %d", tt.name, chunk, l.started.Load(), tt.starts)
				}
			})
		}
	}
}

// TestWhatWaitsDoesNotAge: a call that waits for a second behind others does not reach
// a limit of half a second.
func TestWhatWaitsDoesNotAge(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		for _, chunk := range []int{1, 5} {
			c := &collector{}
			noError(t, run(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: sleeper()}}, pool.Job{
				Task: "sleep", Order: pool.Ordered, ChunkSize: chunk, Consumer: c,
				Source: millis(&pool.Limits{Hard: 500 * time.Millisecond}, 400, 400, 400, 400, 400),
			}))
			if c.kinds()[pool.Succeeded] != 5 {
				t.Errorf("chunksize %d: calls of 400 ms with a limit of 500 ms ended as %v", chunk, c.kinds())
			}
		}
	})
}

// TestLimitsStandStillWithTheCalls: Ctrl-Z does not let a call age.
func TestLimitsStandStillWithTheCalls(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		c := &collector{}
		p := newPool(t, pool.Config{Workers: 1, Launcher: &inProcess{tasks: sleeper()}})
		r := submit(t, p, pool.Job{
			Task: "sleep", Consumer: c, Source: millis(&pool.Limits{Hard: 3 * time.Second}, 5000),
		})
		time.Sleep(time.Second)
		p.Suspend(true)
		time.Sleep(3 * time.Second) // the task, a goroutine of this test, goes on
		p.Suspend(false)
		noError(t, r.Wait())
		p.Close()
		if c.kinds()[pool.Succeeded] != 1 {
			t.Errorf("a call that ran for 2 s of its 3, and stood still for 3, ended as %v", c.kinds())
		}
	})
}

func TestACallCanBeCancelledWhereverItIs(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		tasks := deaf()
		if heeds {
			tasks = sleeper()
		}
		bubble(t, long, func(t *testing.T) {
			c := &collector{}
			l := &inProcess{tasks: tasks}
			var unwanted sync.Map
			p := newPool(t, pool.Config{Workers: 1, Launcher: l, Grace: 200 * time.Millisecond})
			job := submit(t, p, pool.Job{
				Task: "sleep", Order: pool.Ordered, ChunkSize: 3, Consumer: c, Source: millis(nil, 60000, 10, 20, 30, 40),
				Claim: func(c *pool.Call) bool { _, is := unwanted.Load(c.Item); return !is },
			})
			time.Sleep(time.Millisecond) // call 1 runs, 2 and 3 wait before the worker, 4 and 5 in the pool
			begun := time.Now()
			for _, item := range []int{0, 2, 4} {
				unwanted.Store(item, true)
				job.Cancel(item)
			}
			noError(t, job.Wait())
			p.Close()
			took := time.Since(begun)
			for i, want := range []pool.Kind{pool.Cancelled, pool.Succeeded, pool.Cancelled, pool.Succeeded, pool.Cancelled} {
				if r := c.results[i]; r.Kind != want || want == pool.Cancelled && !errors.Is(r.Err, pool.ErrCancelled) && r.Err.Error() != worker.ErrCancelled.Error() {
					t.Errorf("heeds %v: call %d ended as %v: %v", heeds, i+1, r.Kind, r.Err)
				}
			}
			if heeds && took > 60*time.Millisecond || !heeds && took > 300*time.Millisecond {
				t.Errorf("heeds %v: it took %v", heeds, took)
			}
			if want := map[bool]int32{true: 1, false: 2}[heeds]; l.started.Load() != want {
				t.Errorf("heeds %v: %d workers were started, want %d", heeds, l.started.Load(), want)
			}
		})
	}
}

// TestOneJobIsStoppedWithoutHarmToOthers: the three levels for one job, beside another
// that goes on.
func TestOneJobIsStoppedWithoutHarmToOthers(t *testing.T) {
	for _, tt := range []struct {
		level pool.Level
		kinds map[pool.Kind]int
		took  time.Duration
	}{
		{pool.Drain, map[pool.Kind]int{pool.Succeeded: 1, pool.Cancelled: 7}, time.Minute},
		{pool.Terminate, map[pool.Kind]int{pool.Cancelled: 8}, 500 * time.Millisecond}, // the grace
		{pool.Kill, map[pool.Kind]int{pool.Cancelled: 8}, 0},
	} {
		bubble(t, long, func(t *testing.T) {
			p := newPool(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: deaf()}})
			stopped, other := &collector{}, &collector{}
			ms := []int{60000, 60000, 60000, 60000, 60000, 60000, 60000, 60000, 60000, 60000}
			b := submit(t, p, pool.Job{Task: "sleep", ChunkSize: 1, Consumer: other, Source: millis(nil, 120000)})
			time.Sleep(time.Millisecond) // until a worker has it: the other one is for the job that is stopped
			a := submit(t, p, pool.Job{Task: "sleep", ChunkSize: 2, Consumer: stopped, Source: millis(nil, ms...)})
			time.Sleep(time.Millisecond)
			begun := time.Now()
			a.Stop(tt.level)
			noError(t, a.Wait())
			if took := time.Since(begun).Round(100 * time.Millisecond); took != tt.took {
				t.Errorf("level %d: it took %v, want %v", tt.level, took, tt.took)
			}
			a.Stop(pool.Kill) // of a job that is over
			noError(t, b.Wait())
			p.Close()
			for kind, n := range tt.kinds {
				if stopped.kinds()[kind] != n {
					t.Errorf("level %d: its calls ended as %v, want %v", tt.level, stopped.kinds(), tt.kinds)
				}
			}
			if other.kinds()[pool.Succeeded] != 1 {
				t.Errorf("level %d: the other job's call ended as %v", tt.level, other.kinds())
			}
		})
	}
}

func TestAnEagerPoolStartsAllAndKeepsThem(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		l := &inProcess{tasks: sleeper()}
		p := newPool(t, pool.Config{Workers: 20, Launcher: l, Eager: true, Quota: pool.Quota{N: 1}})
		noError(t, p.Started(context.Background()))
		if l.alive.Load() != 20 {
			t.Errorf("%d workers live, want 20", l.alive.Load())
		}
		c := &collector{}
		noError(t, submit(t, p, pool.Job{Task: "sleep", ChunkSize: 1, Consumer: c, Source: millis(nil, 1, 1, 1)}).Wait())
		synctest.Wait()
		if l.alive.Load() != 20 || l.started.Load() != 23 {
			t.Errorf("%d workers live and %d were started, want 20 and 23", l.alive.Load(), l.started.Load())
		}
		p.Close()
		if l.alive.Load() != 0 {
			t.Errorf("%d workers are left", l.alive.Load())
		}
		if err := p.Started(context.Background()); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("a closed pool says of its start: %v", err)
		}
	})
}

func TestAnEagerPoolSaysWhatKeepsItFromStarting(t *testing.T) {
	for name, tt := range map[string]struct {
		launch func(slot int) error
		want   error
	}{
		"the fourth is not there":   {func(slot int) error { return map[bool]error{true: errBroken}[slot == 4] }, errBroken},
		"nothing":                   {nil, nil},
		"no room for the fourth":    {noRoomFor(4), pool.ErrNoRoom},
		"nobody has time to wait":   {nil, context.DeadlineExceeded},
		"it is closed before it is": {nil, pool.ErrClosed},
	} {
		bubble(t, long, func(t *testing.T) {
			l := &inProcess{tasks: sleeper(), launch: tt.launch}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if tt.want == context.DeadlineExceeded || tt.want == pool.ErrClosed {
				l.serve = func(_ io.Reader, _ io.Writer, kill <-chan struct{}) { <-kill }
			}
			p := newPool(t, pool.Config{Workers: 5, Launcher: l, Eager: true})
			if tt.want == pool.ErrClosed {
				time.AfterFunc(time.Millisecond, func() { p.Stop(pool.Kill) })
			}
			if err := p.Started(ctx); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
			p.Stop(pool.Kill)
			p.Close()
			if l.alive.Load() != 0 {
				t.Errorf("%s: %d workers are left", name, l.alive.Load())
			}
		})
	}
}

// noRoomFor fails the start of one slot as a system does that is full.
func noRoomFor(full int) func(int) error {
	return func(slot int) error {
		if slot == full {
			return syscall.EAGAIN
		}
		return nil
	}
}

func TestThePoolGrowsAndShrinks(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		l := &inProcess{tasks: sleeper()}
		p := newPool(t, pool.Config{Workers: 2, Launcher: l, Eager: true})
		var ms []int
		for range 100 {
			ms = append(ms, 100)
		}
		c := &collector{}
		r := submit(t, p, pool.Job{Task: "sleep", ChunkSize: 3, Consumer: c, Source: millis(nil, ms...)})
		for _, n := range []int{8, 1, 3, 5, 2} {
			noError(t, p.Resize(n))
			time.Sleep(310 * time.Millisecond)
			if s := p.Stats(); len(s.Workers) != n || s.Target != n || l.alive.Load() != int32(n) {
				t.Errorf("resized to %d: %d workers live, and the pool tells of %d, target %d", n, l.alive.Load(), len(s.Workers), s.Target)
			}
		}
		if p.Resize(0) == nil {
			t.Error("0 workers are accepted")
		}
		noError(t, r.Wait())
		p.Close()
		if c.kinds()[pool.Succeeded] != 100 {
			t.Errorf("its calls ended as %v", c.kinds())
		}
		if err := p.Resize(3); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("a closed pool is resized: %v", err)
		}
	})
}

func TestWorkersThatTakeTooMuchMemory(t *testing.T) {
	for _, tt := range []struct {
		soft, hard int64
		lost       int
	}{{soft: 1000, lost: 0}, {hard: 1000, lost: 2}} {
		bubble(t, long, func(t *testing.T) {
			l := &inProcess{tasks: sleeper()}
			l.memory = func(pid int) int64 { // the first two grow
				if pid <= 1002 {
					return 2000
				}
				return 500
			}
			c := &collector{}
			config := pool.Config{Workers: 2, Launcher: l}
			config.Memory.Soft, config.Memory.Hard = tt.soft, tt.hard
			noError(t, run(t, config, pool.Job{
				Task: "sleep", ChunkSize: 2, Consumer: c, Source: millis(nil, 300, 300, 300, 300, 300, 300, 300, 300),
			}))
			lost := 0
			for _, r := range c.results {
				if _, is := errors.AsType[*pool.MemoryError](r.Err); is && r.Kind == pool.WorkerDied {
					lost++
				} else if r.Kind != pool.Succeeded {
					t.Errorf("soft %d, hard %d: call %d ended as %v: %v", tt.soft, tt.hard, r.Call.Seq, r.Kind, r.Err)
				}
			}
			if lost != tt.lost || len(c.results) != 8 || l.started.Load() != 4 {
				t.Errorf("soft %d, hard %d: %d of %d calls were lost and %d workers started; want %d of 8, and 4", tt.soft, tt.hard, lost, len(c.results), l.started.Load(), tt.lost)
			}
		})
	}
}

func TestTooManyDeathsFailThePool(t *testing.T) {
	suicide := func(i int) []byte { return []byte("die") }
	for _, tt := range []struct {
		config pool.Config
		died   int
		fails  bool
	}{
		{pool.Config{}, 20, false},
		{pool.Config{Restarts: pool.RestartLimit{Deaths: 5, Per: time.Hour}}, 6, true},
		{pool.Config{Restarts: pool.RestartLimit{Deaths: 20, Per: time.Hour}}, 20, false},
		{pool.Config{Restarts: pool.RestartLimit{Deaths: 5, Per: time.Nanosecond}}, 20, false},
		{pool.Config{BreakOnDeath: true}, 1, true},
	} {
		bubble(t, long, func(t *testing.T) {
			c := &collector{}
			config := tt.config
			config.Workers, config.Launcher = 1, &inProcess{serve: dying}
			c.onEach = func(*pool.Result) error { time.Sleep(time.Millisecond); return nil } // so that deaths are apart
			err := run(t, config, pool.Job{Task: "task", ChunkSize: 1, Window: 1, Consumer: c, Source: &slice{n: 20, item: suicide}})
			broken, is := errors.AsType[*pool.BrokenError](err)
			if is != tt.fails || is && broken.Err == nil {
				t.Errorf("%+v: the pool ended with %v", tt.config.Restarts, err)
			}
			died := c.kinds()[pool.WorkerDied]
			if died != tt.died {
				t.Errorf("%+v: %d calls died, want %d (%v)", tt.config.Restarts, died, tt.died, c.kinds())
			}
		})
	}
}

// TestWorkersThatDieForNothingFailThePool: they say hello and are ready, and end before
// they have a call, over and over.
func TestWorkersThatDieForNothingFailThePool(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		l := &inProcess{serve: func(in io.Reader, out io.Writer, kill <-chan struct{}) {
			w := ipc.NewWriter(out, ipc.Limits{})
			w.Begin()
			w.Hello(ipc.Hello{Version: ipc.Version, Tasks: []string{"task"}})
			_ = w.End()
			w.Begin()
			w.Result(&ipc.Result{Outcomes: []ipc.Outcome{{}}})
			_ = w.End()
			_ = w.Flush()
			time.Sleep(time.Millisecond)
		}}
		p := newPool(t, pool.Config{Workers: 2, Launcher: l, Eager: true})
		time.Sleep(time.Minute)
		c := &collector{}
		err := submit(t, p, pool.Job{Task: "task", Consumer: c, Source: &slice{n: 1}}).Wait()
		if _, is := errors.AsType[*pool.StartError](err); !is {
			t.Errorf("the pool ended with %v", err)
		}
		p.Close()
		if n := l.started.Load(); n > 6 {
			t.Errorf("%d workers were started", n)
		}
	})
}

func TestWorkersOfOtherCodeAreRefused(t *testing.T) {
	for _, tt := range []struct {
		tasks []string
		build string
		want  string
	}{
		{[]string{"sleep"}, "", ""},
		{[]string{"sleep"}, ipc.BuildID(), ""},
		{[]string{"sleep", "dream", "wake"}, "", "it lacks the tasks dream, wake"},
		{nil, "another build", `this program's is "another build"`},
	} {
		bubble(t, long, func(t *testing.T) {
			l := &inProcess{tasks: sleeper()}
			c := &collector{}
			err := run(t, pool.Config{Workers: 1, Launcher: l, Tasks: tt.tasks, Build: tt.build},
				pool.Job{Task: "sleep", Consumer: c, Source: millis(nil, 1)})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v, %q: %v", tt.tasks, tt.build, err)
			case tt.want != "":
				if _, is := errors.AsType[*pool.RefusedError](err); !is || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), ipc.BuildID()) {
					t.Errorf("%v, %q: %v; want %q", tt.tasks, tt.build, err, tt.want)
				}
			}
		})
	}
}

// TestARecordingTellsWhatADeadWorkerWasDoing: the pool had heard nothing of a chunk of
// five when its worker died; the recording says how far it was.
func TestARecordingTellsWhatADeadWorkerWasDoing(t *testing.T) {
	finished := func(ids ...uint64) (list []ipc.Result) {
		for _, id := range ids {
			list = append(list, ipc.Result{ID: id, Outcomes: []ipc.Outcome{{Data: []byte("recorded")}}})
		}
		return list
	}
	for name, tt := range map[string]struct {
		recording pool.Recording
		want      string // how calls 1 to 5 end: Recorded, Died, or run aGain
	}{
		"nothing is known":           {pool.Recording{}, "DGGGG"},
		"it ran the first":           {pool.Recording{Known: true, Running: 1}, "DGGGG"},
		"it had not begun":           {pool.Recording{Known: true}, "GGGGG"},
		"it ran the third":           {pool.Recording{Known: true, Running: 3, Finished: finished(1, 2)}, "RRDGG"},
		"it was between two":         {pool.Recording{Known: true, Finished: finished(1, 2, 3)}, "RRRGG"},
		"it had finished all":        {pool.Recording{Known: true, Finished: finished(1, 2, 3, 4, 5)}, "RRRRR"},
		"it had given back 2 and 3":  {pool.Recording{Known: true, Running: 4, Finished: finished(1)}, "RGGDG"},
		"it had finished one behind": {pool.Recording{Known: true, Running: 5, Finished: finished(1, 4)}, "RGGRD"},
		"the recording is nonsense":  {pool.Recording{Known: true, Running: 99, Finished: finished(77)}, "DGGGG"},
		"it ran what it had not":     {pool.Recording{Known: true, Running: 99}, "DGGGG"},
	} {
		bubble(t, long, func(t *testing.T) {
			var served atomic.Int32
			l := &inProcess{recording: func() pool.Recording {
				if served.Load() == 1 {
					return tt.recording
				}
				return pool.Recording{Known: true}
			}}
			l.serve = func(in io.Reader, out io.Writer, kill <-chan struct{}) {
				served.Add(1)
				tasks := worker.Registry{"task": func(ctx context.Context, c *worker.Call) ([]byte, error) {
					if served.Load() > 1 {
						return []byte("again"), nil
					}
					out.(*io.PipeWriter).Close()
					<-ctx.Done()
					return nil, errBroken
				}}
				if served.Load() == 1 {
					go func() { time.Sleep(time.Second); in.(*io.PipeReader).Close() }()
				}
				_ = worker.Serve(in, out, worker.Config{Tasks: tasks})
			}
			c := &collector{}
			noError(t, run(t, pool.Config{Workers: 1, Launcher: l}, pool.Job{
				Task: "task", Order: pool.Ordered, ChunkSize: 5, Consumer: c, Source: &slice{n: 5},
			}))
			got := ""
			for _, r := range c.results {
				switch {
				case r.Kind == pool.WorkerDied:
					got += "D"
				case string(r.Value) == "recorded":
					got += "R"
				case string(r.Value) == "again":
					got += "G"
				default:
					t.Errorf("%s: call %d ended as %v: %v", name, r.Call.Seq, r.Kind, r.Err)
				}
			}
			if got != tt.want {
				t.Errorf("%s: %s, want %s", name, got, tt.want)
			}
		})
	}
}

func TestTheFinalizerRunsWhenWorkersLeave(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		var hooks []string
		var mu sync.Mutex
		note := func(what string) worker.Task {
			return func(_ context.Context, c *worker.Call) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				hooks = append(hooks, what+" "+string(c.Common))
				return nil, nil
			}
		}
		tasks := sleeper()
		tasks["in"], tasks["out"] = note("in"), note("out")
		c := &collector{}
		noError(t, run(t, pool.Config{
			Workers: 1, Launcher: &inProcess{tasks: tasks}, Quota: pool.Quota{N: 2},
			InitTask: "in", InitCommon: []byte("a"), FinalTask: "out", FinalCommon: []byte("b"),
		}, pool.Job{Task: "sleep", ChunkSize: 1, Consumer: c, Source: millis(nil, 1, 1, 1, 1)}))
		if s := strings.Join(hooks, ", "); s != "in a, out b, in a, out b" {
			t.Errorf("the hooks ran as %s", s)
		}
	})
}

func TestStatsAddUp(t *testing.T) {
	bubble(t, long, func(t *testing.T) {
		p := newPool(t, pool.Config{Workers: 3, Launcher: &inProcess{tasks: sleeper()}})
		c := &collector{}
		r := submit(t, p, pool.Job{Task: "sleep", ChunkSize: 1, Order: pool.Collected, Consumer: c, Source: millis(nil, 100, 100, 100, 1000, 1000, 1000, 1000)})
		time.Sleep(150 * time.Millisecond)
		s := p.Stats()
		if s.Succeeded != 3 || s.Running != 3 || s.Waiting != 1 || len(s.Workers) != 3 || s.Started != 3 {
			t.Errorf("in mid-run: %+v", s)
		}
		for _, w := range s.Workers {
			if w.State != pool.Busy || w.Task != "sleep" || w.Busy != 50*time.Millisecond || w.Age != 150*time.Millisecond || w.Finished != 1 {
				t.Errorf("in mid-run a worker is %+v", w)
			}
		}
		noError(t, r.Wait())
		p.Close()
		s = p.Stats()
		if s.Succeeded != 7 || s.Running != 0 || s.Waiting != 0 || len(s.Workers) != 0 {
			t.Errorf("at the end: %+v", s)
		}
		if s.Run.Count() != 7 || s.Run.Sum != 4300*time.Millisecond || s.Wait.Count() != 7 {
			t.Errorf("histograms: %d runs of %v in all, %d waits", s.Run.Count(), s.Run.Sum, s.Wait.Count())
		}
		if q := s.Run.Quantile(0.5); q < time.Second || q > 2*time.Second {
			t.Errorf("half of the calls are said to take up to %v", q)
		}
		if q := s.Run.Quantile(0.3); q < 100*time.Millisecond || q > 200*time.Millisecond {
			t.Errorf("three of ten calls are said to take up to %v", q)
		}
	})
}

// late is a consumer that takes its time.
type late struct{ taken atomic.Int32 }

func (*late) Output(*pool.Output) error { return nil }
func (*late) Flush() error              { return nil }

func (l *late) Result(*pool.Result) error {
	time.Sleep(10 * time.Millisecond)
	l.taken.Add(1)
	return nil
}

// TestTheEndOfThePoolComesAfterItsResults: whoever waits for it finds them all handed over.
func TestTheEndOfThePoolComesAfterItsResults(t *testing.T) {
	bubble(t, short, func(t *testing.T) {
		p, c := newPool(t, pool.Config{Workers: 2, Launcher: &inProcess{tasks: sleeper()}}), &late{}
		submit(t, p, pool.Job{Task: "sleep", Consumer: c, Source: millis(nil, 1, 1, 1, 1)})
		p.Shut()
		<-p.Done()
		if n := c.taken.Load(); n != 4 {
			t.Errorf("%d of 4 results were handed over when the pool had ended", n)
		}
		if s := p.Look(); s.Counts.Succeeded != 4 {
			t.Errorf("%+v", s.Counts)
		}
	})
}
