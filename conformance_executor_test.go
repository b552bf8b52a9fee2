package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/vmihailenco/msgpack/v5"

	"gpool"
)

// newExecutor makes an executor that is gone when the test has ended.
func newExecutor(t testing.TB, create func(context.Context, ...gpool.Option) (*gpool.Executor, error), o ...gpool.Option) *gpool.Executor {
	t.Helper()
	x, err := create(background, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.Terminate()
		shutdown(t, x)
	})
	return x
}

// shutdown shuts an executor down and waits for its end.
func shutdown(t testing.TB, x *gpool.Executor, o ...gpool.ShutdownOption) {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	if err := x.Shutdown(ctx, o...); errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the executor has not ended: %v", err)
	}
}

var executorKinds = map[string]func(context.Context, ...gpool.Option) (*gpool.Executor, error){
	"Executor":       gpool.NewExecutor,
	"ThreadExecutor": gpool.NewThreadExecutor,
}

// overExecutors runs rows over executors of both kinds.
func overExecutors(t *testing.T, rows []conformanceRow[*gpool.Executor]) {
	t.Helper()
	over := map[string]func(*testing.T, ...gpool.Option) *gpool.Executor{}
	for kind, create := range executorKinds {
		over[kind] = func(t *testing.T, o ...gpool.Option) *gpool.Executor { return newExecutor(t, create, o...) }
	}
	overRows(t, rows, over)
}

// onThreads tells a test of goroutines by its name.
func onThreads(t *testing.T) bool { return strings.HasSuffix(t.Name(), "/ThreadExecutor") }

func TestExecutorConformance(t *testing.T) { overExecutors(t, executorRows) }

// anyOf makes a list for Wait.
func anyOf[T any](list ...*gpool.Future[T]) (futures []gpool.AnyFuture) {
	for _, f := range list {
		futures = append(futures, f)
	}
	return futures
}

// wantSplit holds what Wait has returned against what it should.
func wantSplit(t *testing.T, done, rest, wantDone, wantRest []gpool.AnyFuture) {
	t.Helper()
	if !slices.Equal(done, wantDone) || !slices.Equal(rest, wantRest) {
		t.Errorf("done %v of %v, rest %v of %v", len(done), len(wantDone), len(rest), len(wantRest))
	}
}

// ended hands out a future of each kind that has an end.
func endedFutures(t *testing.T, x gpool.Runner) (good, bad, cancelled *gpool.Future[int]) {
	t.Helper()
	good = gpool.ApplyAsync(background, x, square, 3)
	got(t, good)
	bad = gpool.ApplyAsync(background, x, failIf, gpool.A2(1, []int{1}))
	if _, err := answer(t, bad); !errors.Is(err, errBad) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	cancelled = gpool.ApplyAsync(ctx, x, square, 4)
	if !cancelled.Cancelled() {
		t.Fatal("a call whose context has ended is not cancelled")
	}
	return good, bad, cancelled
}

var (
	confMul    = gpool.Register2("conf-mul", func(_ context.Context, a, b int) (int, error) { return a * b, nil })
	confDivmod = gpool.Register2("conf-divmod", func(_ context.Context, a, b int) ([2]int, error) { return [2]int{a / b, a % b}, nil })
	// conf-collectable leaves a file when its argument is dropped.
	confCollectable = gpool.Register2("conf-collectable", func(_ context.Context, path string, o *confObject) (int, error) {
		runtime.AddCleanup(o, func(path string) { _ = os.WriteFile(path, nil, 0o600) }, path)
		return o.N, nil
	})
	confGC = gpool.Register("conf-gc", func(context.Context, int) (int, error) {
		runtime.GC()
		return 0, nil
	})
	// conf-high-water counts how many calls run at once in this process.
	confHighWater = gpool.Register("conf-high-water", func(context.Context, int) (int, error) {
		n := confRunning.Add(1)
		defer confRunning.Add(-1)
		time.Sleep(time.Millisecond) // so that others may meet it
		return int(n), nil
	})
	confRunning atomic.Int64
)

var executorRows = []conformanceRow[*gpool.Executor]{
	{name: "H1_submit", both: func(t *testing.T, x *gpool.Executor, _ string) {
		if y := got(t, gpool.ApplyAsync(background, x, confPow, confPower{Base: 2, Exp: 8})); y != 256 {
			t.Errorf("got %d, want 256", y)
		}
	}},
	{name: "H2_submit_keyword", both: func(t *testing.T, x *gpool.Executor, _ string) {
		f := gpool.ApplyAsync(background, x, confPow, confPower{Exp: 3, Base: 2, Negative: true})
		if y := got(t, f); y != -8 {
			t.Errorf("got %d, want -8", y)
		}
	}},
	{name: "H3_map", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var in []gpool.Args2[int, int]
		for i := range 10 {
			in = append(in, gpool.A2(2, i))
		}
		for _, o := range [][]gpool.CallOption{nil, {gpool.Chunk(3)}} {
			out, err := gpool.Map(background, x, confMul, in, o...)
			if err != nil {
				t.Fatal(err)
			}
			wantList(t, out, []int{0, 2, 4, 6, 8, 10, 12, 14, 16, 18})
		}
	}},
	{name: "H4_map_exception", both: func(t *testing.T, x *gpool.Executor, _ string) {
		in := []gpool.Args2[int, int]{gpool.A2(5, 2), gpool.A2(7, 3), gpool.A2(1, 0), gpool.A2(9, 4)}
		want := [][2]int{{2, 1}, {2, 1}, {}, {2, 1}}
		i := 0
		for y, err := range gpool.IMap(background, x, confDivmod, in) {
			if isBad := err != nil; isBad != (i == 2) || y != want[i] {
				t.Errorf("result %d: %v, %v", i, y, err)
			}
			i++
		}
		if i != 4 {
			t.Errorf("%d results: it must go on after an error", i)
		}
		out, err := gpool.Map(background, x, confDivmod, in)
		if e, ok := errors.AsType[*gpool.PanicError](err); !ok || e.Index != 2 && !onThreads(t) || !strings.Contains(e.Value, "divide") {
			t.Errorf("Map with a division by zero: %v", err)
		}
		if !slices.Equal(out, want) {
			t.Errorf("got %v", out)
		}
	}},
	{name: "H5_map_timeout", both: func(t *testing.T, x *gpool.Executor, dir string) {
		open := t.TempDir()
		newGate(open).open(t)
		in := slices.Concat(withDir(open, 1, 2), withDir(dir, 3))
		ctx, cancel := context.WithCancelCause(background)
		defer cancel(nil)
		var list []int
		var last error
		for y, err := range gpool.IMap(ctx, x, confGated, in) {
			if last = err; err != nil {
				continue
			}
			if list = append(list, y); len(list) == 2 {
				cancel(context.DeadlineExceeded) // the time is over, and the third one waits
			}
		}
		wantList(t, list, []int{1, 4})
		wantError(t, last, context.DeadlineExceeded)
		wantError(t, last, gpool.ErrCancelled)
		short, cancelShort := context.WithTimeout(background, 20*time.Millisecond)
		defer cancelShort()
		out, err := gpool.Map(short, x, confGated, in)
		if out != nil {
			t.Errorf("Map whose time is over has results: %v", out)
		}
		wantError(t, err, context.DeadlineExceeded)
		works(t, x)
	}},
	{name: "H6_shutdown_race_issue12456", both: func(t *testing.T, x *gpool.Executor, _ string) {
		f := gpool.MapAsync(background, x, square, upTo(3))
		shutdown(t, x)
		wantList(t, got(t, f), squares(3))
	}},
	{name: "H6_submit_and_shutdown_race", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range 50 {
					switch y, err := gpool.Apply(background, x, square, i); {
					case errors.Is(err, gpool.ErrPoolClosed):
						return
					case y != i*i || err != nil:
						t.Errorf("call %d: %d, %v", i, y, err)
					}
				}
			})
		}
		all.Go(func() { shutdown(t, x) })
		within(t, 30*time.Second, all.Wait)
	}},
	{name: "H7_no_stale_references", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var ref weak.Pointer[confObject]
		func() {
			o := &confObject{N: 1}
			ref = weak.Make(o)
			gpool.ApplyAsync(background, x, confObjects, o) // whose future nobody keeps
		}()
		collected(t, "the argument is dropped", func() bool { return ref.Value() == nil })
		works(t, x)
	}},
	{name: "H7_no_stale_closures", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewThreadExecutor, gpool.Workers(2))
		var ref weak.Pointer[confObject]
		func() {
			o := &confObject{N: 1}
			ref = weak.Make(o)
			method := gpool.Fn(func(context.Context, int) (int, error) { return o.N, nil })
			if n := got(t, gpool.ApplyAsync(background, x, method, 0)); n != 1 {
				t.Error(n)
			}
		}()
		collected(t, "the closure is dropped", func() bool { return ref.Value() == nil })
		works(t, x)
	}},
	{name: "H8_max_workers_negative", alone: func(t *testing.T) {
		for kind, create := range executorKinds {
			for _, n := range []int{0, -1} {
				if _, err := create(background, gpool.Workers(n)); err == nil {
					t.Errorf("%s with Workers(%d): no error", kind, n)
				}
			}
		}
	}},
	{name: "H9_free_reference", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var in []*confObject
		for i := range 10 {
			in = append(in, &confObject{N: i})
		}
		for y, err := range gpool.IMap(background, x, confObjects, in) {
			if err != nil {
				t.Fatal(err)
			}
			ref := weak.Make(y)
			collected(t, "a result that was yielded is dropped", func() bool { return ref.Value() == nil })
		}
	}},
	{name: "H10_as_completed_no_timeout", both: func(t *testing.T, x *gpool.Executor, dir string) {
		held := gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, 5))
		good, bad, cancelled := endedFutures(t, x)
		var list []*gpool.Future[int]
		for f, err := range gpool.AsCompleted(background, held, good, bad, cancelled) {
			if err != nil {
				t.Fatal(err)
			}
			if list = append(list, f); len(list) == 3 {
				newGate(dir).open(t)
			}
		}
		if want := []*gpool.Future[int]{good, bad, cancelled, held}; !slices.Equal(list, want) {
			t.Errorf("%d futures, in the wrong order", len(list))
		}
	}},
	{name: "H11_as_completed_future_times_out", both: func(t *testing.T, x *gpool.Executor, dir string) {
		held := gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, 5))
		good, bad, cancelled := endedFutures(t, x)
		for _, over := range []time.Duration{0, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(background, over)
			var list []*gpool.Future[int]
			var last error
			for f, err := range gpool.AsCompleted(ctx, held, good, bad, cancelled) {
				if last = err; err == nil {
					list = append(list, f)
				}
			}
			cancel()
			if want := []*gpool.Future[int]{good, bad, cancelled}; !slices.Equal(list, want) || last != context.DeadlineExceeded {
				t.Errorf("%d futures, %v", len(list), last)
			}
		}
	}},
	{name: "H12_as_completed_duplicate_futures", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, 5))
		newGate(dir).open(t)
		n := 0
		for range gpool.AsCompleted(background, f, f, f) {
			n++
		}
		if n != 1 {
			t.Errorf("one future comes %d times", n)
		}
	}},
	{name: "H13_free_reference_yielded_future", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var refs []weak.Pointer[gpool.Future[int]]
		func() {
			var list []*gpool.Future[int]
			for i := range 3 {
				f := gpool.ApplyAsync(background, x, square, i)
				list, refs = append(list, f), append(refs, weak.Make(f))
			}
			for _, err := range gpool.AsCompleted(background, list...) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}()
		collected(t, "futures that were yielded are dropped", func() bool {
			return !slices.ContainsFunc(refs, func(r weak.Pointer[gpool.Future[int]]) bool { return r.Value() != nil })
		})
		works(t, x)
	}},
	{name: "H14_correct_timeout_exception", both: func(t *testing.T, x *gpool.Executor, dir string) {
		held := gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, 5))
		good, bad, cancelled := endedFutures(t, x)
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		all := anyOf(good, held, bad, cancelled)
		done, rest, err := gpool.Wait(ctx, gpool.AllCompleted, all...)
		if err != context.DeadlineExceeded { // Python's message says "1 (of 4) futures unfinished"
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(good, bad, cancelled), anyOf(held))
	}},
	{name: "H15_20369_duplicates", both: func(t *testing.T, x *gpool.Executor, _ string) {
		f := gpool.ApplyAsync(background, x, confMul, gpool.A2(1, 2))
		done, rest, err := gpool.Wait(background, gpool.AllCompleted, f, f)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(f), nil)
	}},
	{name: "H16_first_completed", both: func(t *testing.T, x *gpool.Executor, dir string) {
		held := gpool.ApplyAsync(background, x, confGate, dir)
		quick := gpool.ApplyAsync(background, x, confMul, gpool.A2(21, 2))
		done, rest, err := gpool.Wait(background, gpool.FirstCompleted, held, quick)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(quick), anyOf(held))
	}},
	{name: "H17_first_completed_some_already_completed", both: func(t *testing.T, x *gpool.Executor, dir string) {
		held := gpool.ApplyAsync(background, x, confGate, dir)
		good, bad, cancelled := endedFutures(t, x)
		for _, one := range []*gpool.Future[int]{good, bad, cancelled} {
			done, rest, err := gpool.Wait(background, gpool.FirstCompleted, held, one)
			if err != nil {
				t.Error(err)
			}
			wantSplit(t, done, rest, anyOf(one), anyOf(held))
		}
	}},
	{name: "H18_first_exception", options: []gpool.Option{gpool.Workers(3)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		quick := gpool.ApplyAsync(background, x, confMul, gpool.A2(2, 21))
		got(t, quick)
		failing := gpool.ApplyAsync(background, x, failIf, gpool.A2(1, []int{1}))
		held := gpool.ApplyAsync(background, x, confGate, dir)
		done, rest, err := gpool.Wait(background, gpool.FirstException, quick, failing, held)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(quick, failing), anyOf(held))
	}},
	{name: "H18_first_exception_none", both: func(t *testing.T, x *gpool.Executor, _ string) {
		a, b := gpool.ApplyAsync(background, x, square, 1), gpool.ApplyAsync(background, x, square, 2)
		done, rest, err := gpool.Wait(background, gpool.FirstException, a, b)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(a, b), nil)
	}},
	{name: "H19_first_exception_some_already_complete", options: []gpool.Option{gpool.Workers(3)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		good, _, cancelled := endedFutures(t, x)
		held := gpool.ApplyAsync(background, x, confGate, dir)
		other := t.TempDir()
		failing := gpool.ApplyAsync(background, x, confGatedFailure, other)
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		// One that was cancelled has ended, and has not failed.
		done, rest, err := gpool.Wait(ctx, gpool.FirstException, good, cancelled, failing, held)
		if err != context.DeadlineExceeded {
			t.Errorf("with a future that was cancelled it returns at once, with error %v", err)
		}
		wantSplit(t, done, rest, anyOf(good, cancelled), anyOf(failing, held))
		newGate(other).open(t)
		done, rest, err = gpool.Wait(background, gpool.FirstException, good, cancelled, failing, held)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(good, cancelled, failing), anyOf(held))
	}},
	{name: "H20_first_exception_one_already_failed", both: func(t *testing.T, x *gpool.Executor, dir string) {
		_, bad, _ := endedFutures(t, x)
		held := gpool.ApplyAsync(background, x, confGate, dir)
		done, rest, err := gpool.Wait(background, gpool.FirstException, bad, held)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, anyOf(bad), anyOf(held))
	}},
	{name: "H21_all_completed", both: func(t *testing.T, x *gpool.Executor, _ string) {
		good, bad, cancelled := endedFutures(t, x)
		a, b := gpool.ApplyAsync(background, x, confDivmod, gpool.A2(2, 0)), gpool.ApplyAsync(background, x, confMul, gpool.A2(2, 21))
		all := []gpool.AnyFuture{good, a, bad, b, cancelled}
		done, rest, err := gpool.Wait(background, gpool.AllCompleted, all...)
		if err != nil {
			t.Error(err)
		}
		wantSplit(t, done, rest, all, nil)
		if done, rest, err := gpool.Wait(background, gpool.AllCompleted); len(done)+len(rest) > 0 || err != nil {
			t.Errorf("of none: %v, %v, %v", done, rest, err)
		}
	}},
	{name: "H22_wait_timeout", both: func(t *testing.T, x *gpool.Executor, dir string) {
		good, bad, cancelled := endedFutures(t, x)
		quick := gpool.ApplyAsync(background, x, confMul, gpool.A2(6, 7))
		got(t, quick)
		held := gpool.ApplyAsync(background, x, confGate, dir)
		for _, over := range []time.Duration{0, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(background, over)
			done, rest, err := gpool.Wait(ctx, gpool.AllCompleted, cancelled, bad, good, quick, held)
			cancel()
			if err != context.DeadlineExceeded {
				t.Error(err)
			}
			wantSplit(t, done, rest, anyOf(cancelled, bad, good, quick), anyOf(held))
		}
	}},
	{name: "H23_pending_calls_race", options: []gpool.Option{gpool.Workers(10)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		var all []gpool.AnyFuture
		for i := range 100 {
			all = append(all, gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, i)))
		}
		time.AfterFunc(10*time.Millisecond, func() { newGate(dir).open(t) })
		within(t, 30*time.Second, func() {
			done, rest, err := gpool.Wait(background, gpool.AllCompleted, all...)
			if err != nil {
				t.Error(err)
			}
			wantSplit(t, done, rest, all, nil)
		})
	}},
	{name: "H25_max_workers_too_large", alone: func(t *testing.T) {
		_, err := gpool.NewExecutor(background, gpool.Workers(1<<30))
		wantError(t, err, gpool.ErrNoRoom)
	}},
	{name: "H26_killed_child", alone: func(t *testing.T) {
		x, dir := newExecutor(t, gpool.NewExecutor, gpool.Workers(1)), t.TempDir()
		f := gpool.ApplyAsync(background, x, confGate, dir)
		until(t, "the call has begun", func() bool { return len(started(t, dir)) == 1 })
		killWorkers(t, x)
		_, err := answer(t, f)
		if e, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || e.Signal != syscall.SIGKILL || e.ExitCode != -1 {
			t.Errorf("the call of a worker that was killed: %v", err)
		}
		works(t, x) // in Python it is broken for good
	}},
	{name: "H26_killed_child_breaks", alone: func(t *testing.T) {
		x, dir := newExecutor(t, gpool.NewExecutor, gpool.Workers(1), gpool.BreakOnCrash()), t.TempDir()
		running := gpool.ApplyAsync(background, x, confGate, dir)
		until(t, "the call has begun", func() bool { return len(started(t, dir)) == 1 })
		waiting := gpool.ApplyAsync(background, x, square, 2)
		all := gpool.MapAsync(background, x, square, upTo(3))
		killWorkers(t, x)
		for what, err := range map[string]error{
			"running": running.Err(background), "waiting": waiting.Err(background), "Map": all.Err(background),
			"later": gpool.ApplyAsync(background, x, square, 3).Err(background),
		} {
			if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.Signal != syscall.SIGKILL {
				t.Errorf("%s: %v", what, err)
			}
		}
	}},
	{name: "H27_map_chunksize", both: func(t *testing.T, x *gpool.Executor, dir string) {
		var in []gpool.Args2[int, int]
		var want []int
		for i := range 100 {
			in, want = append(in, gpool.A2(i, i+1)), append(want, i*(i+1))
		}
		for _, chunk := range []int{6, 40, 50} {
			out, err := gpool.Map(background, x, confMul, in, gpool.Chunk(chunk))
			if err != nil {
				t.Fatal(err)
			}
			wantList(t, out, want)
		}
		if _, err := gpool.Map(background, x, confRecord, withDir(dir, 1), gpool.Chunk(-1)); err == nil {
			t.Error("Map with Chunk(-1) succeeds")
		}
		wantList(t, ledger(t, dir), nil)
	}},
	{name: "H28_traceback", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(1))
		_, err := answer(t, gpool.ApplyAsync(background, x, confPanic, "123456"))
		if e, ok := errors.AsType[*gpool.PanicError](err); !ok || e.Value != "123456" || e.Pid == os.Getpid() || !strings.Contains(e.Stack, "conformance_pool_test.go") {
			t.Errorf("a panic: %+v", err)
		}
	}},
	{name: "H29_ressources_gced_in_workers", options: []gpool.Option{gpool.Workers(1)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		path := filepath.Join(dir, "dropped")
		if n := got(t, gpool.ApplyAsync(background, x, confCollectable, gpool.A2(path, &confObject{N: 8}))); n != 8 {
			t.Errorf("got %d", n)
		}
		until(t, "the worker drops the argument", func() bool {
			got(t, gpool.ApplyAsync(background, x, confGC, 0))
			_, err := os.Stat(path)
			return err == nil
		})
	}},
	{name: "H30_saturation", options: []gpool.Option{gpool.Workers(3)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		if n := len(x.Stats().Workers); n != 0 {
			t.Errorf("%d workers before the first call", n)
		}
		var all []*gpool.Future[int]
		for range 15 {
			all = append(all, gpool.ApplyAsync(background, x, confGate, dir))
		}
		until(t, "three calls have begun", func() bool { return len(started(t, dir)) == 3 })
		if n := len(x.Stats().Workers); n != 3 || x.Stats().Started != 3 {
			t.Errorf("%d workers for 15 calls, and 3 may be", n)
		}
		newGate(dir).open(t)
		for _, f := range all {
			got(t, f)
		}
	}},
	{name: "H31_idle_process_reuse_one", options: []gpool.Option{gpool.Workers(4)}, both: func(t *testing.T, x *gpool.Executor, _ string) {
		for i := range 5 {
			got(t, gpool.ApplyAsync(background, x, square, i))
		}
		if n := x.Stats().Started; n != 1 {
			t.Errorf("%d workers for calls one after the other", n)
		}
	}},
	{name: "H32_idle_process_reuse_multiple", options: []gpool.Option{gpool.Workers(4)}, both: func(t *testing.T, x *gpool.Executor, _ string) {
		got(t, gpool.ApplyAsync(background, x, confMul, gpool.A2(12, 7)))
		f := gpool.ApplyAsync(background, x, confMul, gpool.A2(33, 25))
		got(t, gpool.ApplyAsync(background, x, confMul, gpool.A2(25, 26)))
		g := gpool.ApplyAsync(background, x, confMul, gpool.A2(18, 29))
		got(t, f)
		got(t, g)
		if n := x.Stats().Started; n > 3 {
			t.Errorf("%d workers, and 3 may be", n)
		}
	}},
	{name: "H33_max_tasks_per_child", alone: func(t *testing.T) {
		x, dir := newExecutor(t, gpool.NewExecutor, gpool.Workers(1), gpool.MaxTasksPerChild(3)), t.TempDir()
		held := gpool.ApplyAsync(background, x, confGate, dir)
		until(t, "the first call has begun", func() bool { return len(started(t, dir)) == 1 })
		before := pids(x.Stats())
		if len(before) != 1 {
			t.Fatalf("the workers are %v", before)
		}
		second := gpool.ApplyAsync(background, x, pidOf, 0)
		newGate(dir).open(t)
		for _, f := range []*gpool.Future[int]{held, second, gpool.ApplyAsync(background, x, pidOf, 0)} {
			if pid := got(t, f); pid != before[0] {
				t.Errorf("one of the first three calls ran in %d, want %d", pid, before[0])
			}
		}
		if pid := got(t, gpool.ApplyAsync(background, x, pidOf, 0)); pid == before[0] {
			t.Error("the fourth call ran where the first three did")
		}
		until(t, "the first worker is gone", func() bool { return hasEnded(before[0]) })
	}},
	{name: "H34_max_tasks_early_shutdown", options: []gpool.Option{gpool.Workers(3), gpool.MaxTasksPerChild(1)}, both: func(t *testing.T, x *gpool.Executor, _ string) {
		var all []*gpool.Future[int]
		for i := range 6 {
			all = append(all, gpool.ApplyAsync(background, x, confMul, gpool.A2(i, i)))
		}
		shutdown(t, x)
		for i, f := range all {
			if y := got(t, f); y != i*i {
				t.Errorf("call %d: %d", i, y)
			}
		}
	}},
	{name: "H35_run_after_shutdown", both: func(t *testing.T, x *gpool.Executor, _ string) {
		shutdown(t, x)
		wantError(t, gpool.ApplyAsync(background, x, square, 1).Err(background), gpool.ErrPoolClosed)
		wantError(t, gpool.MapAsync(background, x, square, upTo(2)).Err(background), gpool.ErrPoolClosed)
		shutdown(t, x) // again is fine
	}},
	{name: "H36_interpreter_shutdown", alone: func(t *testing.T) {
		for kind := range executorKinds {
			t.Run(kind, func(t *testing.T) {
				dir := t.TempDir()
				play(t, "conf-shutdown-"+kind, dir)
				list := ledger(t, dir)
				slices.Sort(list)
				wantList(t, list, upTo(6))
			})
		}
	}},
	{name: "H37_submit_after_interpreter_shutdown", alone: func(t *testing.T) {
		for kind := range executorKinds {
			t.Run(kind, func(t *testing.T) {
				if out := play(t, "conf-submit-"+kind, t.TempDir()); out != gpool.ErrPoolClosed.Error()+"\n" {
					t.Errorf("it printed %q", out)
				}
			})
		}
	}},
	{name: "H38_hang_issue12364", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var all []*gpool.Future[int]
		for range 50 {
			all = append(all, gpool.ApplyAsync(background, x, snooze, 5))
		}
		shutdown(t, x)
		for _, f := range all {
			if !f.Ready() {
				t.Fatal("a call has not ended with the shutdown")
			}
			got(t, f)
		}
	}},
	{name: "H39_cancel_futures", both: func(t *testing.T, x *gpool.Executor, dir string) {
		all := manyGated(t, x, dir)
		mapped := gpool.MapAsync(background, x, square, upTo(1000))
		it := gpool.Start(background, x, confGatedRecord, withDir(dir, upTo(9)...), gpool.Window(9))
		defer it.Stop()
		x.Close(gpool.CancelPending())
		newGate(dir).open(t)
		shutdown(t, x)
		cancelled := 0
		for _, f := range all {
			switch _, err := answer(t, f); {
			case f.Cancelled():
				cancelled++
			case err != nil:
				t.Error(err)
			}
		}
		if cancelled <= 20 || cancelled == len(all) {
			t.Errorf("%d of %d calls were cancelled", cancelled, len(all))
		}
		yielded := 0
		var last error
		for ok := true; ok; {
			if _, ok, last = it.Next(background); ok {
				yielded++
			}
		}
		if yielded < 9 && !errors.Is(last, gpool.ErrCancelled) && !errors.Is(last, gpool.ErrPoolClosed) {
			t.Errorf("the iterator has yielded %d of 9, and does not say why: %v", yielded, last)
		}
		if done := len(ledger(t, dir)); done+cancelled != len(all)+yielded || done < 1 {
			t.Errorf("%d of %d calls were cancelled, the iterator has yielded %d, and %d were run", cancelled, len(all), yielded, done)
		}
		if out, err := answer(t, mapped); err != nil {
			wantError(t, err, gpool.ErrCancelled)
		} else {
			wantList(t, out, squares(1000))
		}
	}},
	{name: "H40_hang_gh83386", alone: func(t *testing.T) {
		for kind := range executorKinds {
			t.Run(kind, func(t *testing.T) {
				dir := t.TempDir()
				play(t, "conf-close-"+kind, dir)
				list := ledger(t, dir)
				slices.Sort(list)
				wantList(t, list, upTo(6))
			})
		}
	}},
	{name: "H41_hang_gh94440", options: []gpool.Option{gpool.Workers(1)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		works(t, x)
		held := gpool.ApplyAsync(background, x, confGate, dir)
		until(t, "the call has begun", func() bool { return len(started(t, dir)) == 1 })
		f := gpool.ApplyAsync(background, x, confGatedRecord, gpool.A2(dir, 1))
		f.Cancel()
		newGate(dir).open(t)
		shutdown(t, x)
		got(t, held)
		if !f.Ready() {
			t.Error("a call that was cancelled has not ended")
		}
	}},
	{name: "H42_threads_terminate", alone: func(t *testing.T) {
		before := runtime.NumGoroutine()
		x := newExecutor(t, gpool.NewThreadExecutor, gpool.Workers(3))
		for range 3 {
			got(t, gpool.ApplyAsync(background, x, confMul, gpool.A2(21, 2)))
		}
		shutdown(t, x)
		until(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	}},
	{name: "H43_context_manager_shutdown", both: func(t *testing.T, x *gpool.Executor, dir string) {
		newGate(dir).open(t)
		f := gpool.MapAsync(background, x, confGatedRecord, withDir(dir, 5, 6, 7))
		func() {
			defer shutdown(t, x)
			wantList(t, got(t, gpool.MapAsync(background, x, square, upTo(4))), squares(4))
		}()
		wantList(t, got(t, f), []int{5, 6, 7})
	}},
	{name: "H44_shutdown_no_wait", both: func(t *testing.T, x *gpool.Executor, dir string) {
		all := manyGated(t, x, dir)
		x.Close()
		wantError(t, gpool.ApplyAsync(background, x, square, 1).Err(background), gpool.ErrPoolClosed)
		newGate(dir).open(t)
		for _, f := range all { // queued work is still done
			got(t, f)
		}
		shutdown(t, x)
		if n := len(ledger(t, dir)); n != len(all) {
			t.Errorf("%d of %d calls were run", n, len(all))
		}
	}},
	{name: "H45_cancel_futures_wait_false", options: []gpool.Option{gpool.Workers(1)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		all := manyGated(t, x, dir)
		within(t, 20*time.Second, func() { x.Close(gpool.CancelPending()) })
		newGate(dir).open(t)
		shutdown(t, x)
		if n := len(ledger(t, dir)); n != 1 {
			t.Errorf("%d of %d calls were run, and one had begun", n, len(all))
		}
	}},
	{name: "H46_processes_terminate", alone: func(t *testing.T) {
		x, dir := newExecutor(t, gpool.NewExecutor, gpool.Workers(8)), t.TempDir()
		for range 3 {
			gpool.ApplyAsync(background, x, confGate, dir)
		}
		until(t, "three calls have begun", func() bool { return len(started(t, dir)) == 3 })
		list := pids(x.Stats())
		if len(list) != 3 {
			t.Errorf("three calls, and the workers are %v", list)
		}
		newGate(dir).open(t)
		shutdown(t, x)
		if slices.ContainsFunc(list, lives) {
			t.Error("a worker is left after the shutdown")
		}
	}},
	{name: "H47_context_manager_shutdown", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(4))
		wantList(t, got(t, gpool.MapAsync(background, x, square, upTo(10))), squares(10))
		list := pids(x.Stats())
		shutdown(t, x)
		if slices.ContainsFunc(list, lives) {
			t.Error("a worker is left after the shutdown")
		}
	}},
	{name: "H48_del_shutdown", alone: func(t *testing.T) {
		for kind, create := range executorKinds {
			t.Run(kind, func(t *testing.T) {
				dir := t.TempDir()
				var text lockedBuffer
				x, err := create(background, gpool.Workers(2), gpool.Stderr(&text))
				if err != nil {
					t.Fatal(err)
				}
				running := gpool.ApplyAsync(background, x, confGate, dir)
				until(t, "a call has begun", func() bool { return len(started(t, dir)) == 1 })
				list := pids(x.Stats())
				x = nil
				var waiting []*gpool.Future[int]
				func() {
					x, err := create(background, gpool.Workers(1))
					if err != nil {
						t.Fatal(err)
					}
					for i := range 5 {
						waiting = append(waiting, gpool.ApplyAsync(background, x, confGatedRecord, gpool.A2(dir, i)))
					}
				}()
				runtime.GC()
				newGate(dir).open(t)
				pid := got(t, running)
				for _, f := range waiting {
					got(t, f)
				}
				if kind == "Executor" {
					collected(t, "the workers end", func() bool { return hasEnded(pid) && !slices.ContainsFunc(list, lives) })
				}
				if text.String() != "" { // it is not terminated, so nothing is lost
					t.Errorf("it printed %q", text.String())
				}
			})
		}
	}},
	{name: "H49_shutdown_no_wait_of_processes", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(4))
		f := gpool.MapAsync(background, x, square, upTo(10))
		until(t, "a worker is there", func() bool { return len(pids(x.Stats())) > 0 })
		list := pids(x.Stats())
		x.Close()
		wantList(t, got(t, f), squares(10))
		until(t, "the workers end", func() bool { return !slices.ContainsFunc(list, lives) })
	}},
	{name: "H50_map_submits_without_iteration", both: func(t *testing.T, x *gpool.Executor, dir string) {
		gpool.MapAsync(background, x, confRecord, withDir(dir, upTo(6)...))
		until(t, "everything is done", func() bool { return len(ledger(t, dir)) == 6 })
		// An IMap is lazy, and what Start begins goes on as far as its window.
		other := t.TempDir()
		_ = gpool.IMap(background, x, confRecord, withDir(other, upTo(6)...))
		it := gpool.Start(background, x, confRecord, withDir(dir, upTo(6)...), gpool.Window(4))
		defer it.Stop()
		until(t, "the window is done", func() bool { return len(ledger(t, dir)) == 10 })
		wantList(t, ledger(t, other), nil)
	}},
	{name: "H51_default_workers", alone: func(t *testing.T) {
		if n, want := newThreads(t).Stats().Target, min(32, runtime.GOMAXPROCS(0)+4); n != want {
			t.Errorf("a ThreadPool has %d workers, want %d", n, want)
		}
		if n, want := newPool(t).Stats().Target, runtime.GOMAXPROCS(0); n != want {
			t.Errorf("a Pool has %d workers, want %d", n, want)
		}
	}},
	{name: "H52_saturation_of_threads", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewThreadExecutor, gpool.Workers(4))
		out := got(t, gpool.MapAsync(background, x, confHighWater, upTo(100), gpool.Chunk(1)))
		if n := slices.Max(out); n > 4 || n < 2 {
			t.Errorf("%d calls ran at once on 4 workers", n)
		}
	}},
	{name: "H53_idle_thread_reuse", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewThreadExecutor)
		for i := range 5 {
			got(t, gpool.ApplyAsync(background, x, confMul, gpool.A2(i, 7)))
		}
		if n := len(x.Stats().Workers); n != 1 {
			t.Errorf("%d goroutines for calls one after the other", n)
		}
	}},
	{name: "H54_map_current_future_cancel", options: []gpool.Option{gpool.Workers(1)}, both: func(t *testing.T, x *gpool.Executor, dir string) {
		in := withDir(dir, upTo(5)...) // the first one waits for the gate, and so do the others
		ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
		defer cancel()
		var last error
		for _, err := range gpool.IMap(ctx, x, confGatedRecord, in, gpool.Window(5)) {
			last = err
		}
		wantError(t, last, context.DeadlineExceeded)
		within(t, 20*time.Second, func() { works(t, x) }) // the worker is free again, though the gate is shut
		newGate(dir).open(t)
		shutdown(t, x)
		wantList(t, ledger(t, dir), nil)
	}},
	{name: "initializer", alone: func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(2), gpool.Initializer(confInit, 7))
		wantList(t, got(t, gpool.MapAsync(background, x, confReadInit, upTo(4))), []int{7, 7, 7, 7})
	}},
	{name: "initializer_fails", both: func(t *testing.T, _ *gpool.Executor, _ string) {
		create := executorKinds[t.Name()[strings.LastIndex(t.Name(), "/")+1:]]
		x := newExecutor(t, create, gpool.Workers(2), gpool.Initializer(confFailingInit, 3))
		all := gpool.MapAsync(background, x, square, upTo(4))
		one := gpool.ApplyAsync(background, x, square, 4)
		until(t, "the executor has failed", func() bool { return all.Ready() && one.Ready() })
		for what, err := range map[string]error{
			"Map": all.Err(background), "call": one.Err(background),
			"later": gpool.ApplyAsync(background, x, square, 4).Err(background),
		} {
			if e, ok := errors.AsType[*confError](err); !ok || e.Code != 3 {
				t.Errorf("%s: %v", what, err)
			} else if _, ok := errors.AsType[*gpool.InitError](err); !ok {
				t.Errorf("%s: %v", what, err)
			}
		}
	}},

	{name: "K5_map_buffersize", both: func(t *testing.T, x *gpool.Executor, _ string) {
		var taken atomic.Int64
		endless := func(yield func(int) bool) {
			for i := 0; ; i++ {
				if taken.Add(1); !yield(i) {
					return
				}
			}
		}
		n := 0
		for y, err := range gpool.IMap(background, x, square, endless, gpool.Window(3)) {
			if y != n*n || err != nil {
				t.Fatalf("result %d: %d, %v", n, y, err)
			}
			if n++; taken.Load() > int64(n+3) {
				t.Fatalf("%d items were taken when %d results were yielded, with a window of 3", taken.Load(), n)
			}
			if n == 10 {
				break
			}
		}
		shutdown(t, x)
	}},
	{name: "K6_terminate_workers", both: func(t *testing.T, x *gpool.Executor, dir string) { endsBusy(t, x, dir, x.Terminate) }},
	{name: "K6_kill_workers", both: func(t *testing.T, x *gpool.Executor, dir string) { endsBusy(t, x, dir, x.Kill) }},
	{name: "K7_max_tasks_per_child_with_a_backlog", options: []gpool.Option{gpool.Workers(1), gpool.MaxTasksPerChild(2)}, both: func(t *testing.T, x *gpool.Executor, _ string) {
		var all []*gpool.Future[int]
		for i := range 10 {
			all = append(all, gpool.ApplyAsync(background, x, square, i))
		}
		for i, f := range all {
			if y := got(t, f); y != i*i {
				t.Errorf("call %d: %d", i, y)
			}
		}
		if n := x.Stats().Started; n < 5 {
			t.Errorf("%d workers for 10 calls, two each", n)
		}
	}},
}

// confGatedFailure fails once the gate is open.
var confGatedFailure = gpool.Register("conf-gated-failure", func(ctx context.Context, dir string) (int, error) {
	if err := newGate(dir).pass(ctx); err != nil {
		return 0, err
	}
	return 0, errBad
})

// manyGated hands in 50 calls that wait for the gate, and returns once one is handed
// to a worker.
func manyGated(t *testing.T, x *gpool.Executor, dir string) (all []*gpool.Future[int]) {
	t.Helper()
	for i := range 50 {
		all = append(all, gpool.ApplyAsync(background, x, confGatedRecord, gpool.A2(dir, i)))
	}
	until(t, "a call runs", func() bool { return x.Stats().Running > 0 })
	return all
}

// endsBusy ends an executor that is busy, and has more to do.
func endsBusy(t *testing.T, x *gpool.Executor, dir string, end func()) {
	t.Helper()
	running := gpool.ApplyAsync(background, x, confGate, dir)
	until(t, "the call has begun", func() bool { return len(started(t, dir)) == 1 })
	all := gpool.MapAsync(background, x, confGatedRecord, withDir(dir, upTo(100)...))
	list := pids(x.Stats())
	within(t, 20*time.Second, end)
	for _, err := range []error{running.Err(background), all.Err(background)} {
		wantError(t, err, gpool.ErrTerminated)
	}
	wantError(t, gpool.ApplyAsync(background, x, square, 1).Err(background), gpool.ErrPoolClosed)
	shutdown(t, x)
	if !onThreads(t) && slices.ContainsFunc(list, lives) {
		t.Error("a worker is left")
	}
	wantList(t, ledger(t, dir), nil)
}

func killWorkers(t *testing.T, x *gpool.Executor) {
	t.Helper()
	for _, pid := range pids(x.Stats()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func init() {
	for kind, create := range executorKinds {
		busy := func() (*gpool.Executor, error) {
			x, err := create(background, gpool.Workers(2))
			for i := range 6 {
				if err == nil {
					gpool.ApplyAsync(background, x, confRecord, gpool.A2(os.Getenv(roleDirVar), i))
				}
			}
			return x, err
		}
		for what, before := range map[string]func(*gpool.Executor){
			"shutdown": func(*gpool.Executor) {},
			"close":    func(x *gpool.Executor) { x.Close() },
			"submit": func(x *gpool.Executor) {
				gpool.AtExit(func() { fmt.Println(gpool.ApplyAsync(background, x, square, 1).Err(background)) })
			},
		} {
			roles["conf-"+what+"-"+kind] = func() int {
				x, err := busy()
				if err != nil {
					fmt.Println(err)
					return 1
				}
				before(x)
				gpool.Exit(0)
				return 1
			}
		}
	}
}

// A bomb is a value whose methods to encode and decode it do harm, at one of the four
// places of its way there and back.
type bomb struct {
	Place string // parent-encode, worker-decode, worker-encode, parent-decode, or worker-run
	How   string // error, panic, exit, kill, segv
	Pad   []byte // what makes it large
}

var errBomb = errors.New("a bomb")

func (b *bomb) at(place string) error {
	side := "parent-"
	if gpool.IsWorker() {
		side = "worker-"
	}
	if b.Place != side+place {
		return nil
	}
	switch b.How {
	case "error":
		return errBomb
	case "panic":
		panic("a bomb")
	case "exit":
		fmt.Fprintln(os.Stderr, "a bomb")
		os.Exit(5)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "segv":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "goroutine":
		go panic("a bomb")
		select {}
	}
	return nil
}

func (b bomb) EncodeMsgpack(e *msgpack.Encoder) error {
	if err := b.at("encode"); err != nil {
		return err
	}
	return e.EncodeMulti(b.Place, b.How, b.Pad)
}

func (b *bomb) DecodeMsgpack(d *msgpack.Decoder) error {
	if err := d.DecodeMulti(&b.Place, &b.How, &b.Pad); err != nil {
		return err
	}
	return b.at("decode")
}

// What a bomb is encoded as must be one value, so it travels in an array.
type crate struct{ bomb }

func (c crate) EncodeMsgpack(e *msgpack.Encoder) error {
	if err := e.EncodeArrayLen(3); err != nil {
		return err
	}
	return c.bomb.EncodeMsgpack(e)
}

func (c *crate) DecodeMsgpack(d *msgpack.Decoder) error {
	if _, err := d.DecodeArrayLen(); err != nil {
		return err
	}
	return c.bomb.DecodeMsgpack(d)
}

var confBomb = gpool.Register("conf-bomb", func(_ context.Context, c crate) (crate, error) {
	return c, c.at("run")
})

func newBomb(place, how string) crate { return crate{bomb{Place: place, How: how}} }

// died says how a worker must have ended.
func died(code int, signal syscall.Signal) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*gpool.WorkerDiedError](err)
		return ok && e.ExitCode == code && e.Signal == signal && e.Task == "conf-bomb" && e.Pid > 0
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestExecutorDeadlockConformance(t *testing.T) {
	for _, row := range []struct {
		name, place, how string
		want             func(error) bool
		dies             bool
	}{
		{"I1_error_at_task_pickle", "parent-encode", "error", is[*gpool.EncodeError], false},
		{"I1_panic_at_task_pickle", "parent-encode", "panic", is[*gpool.EncodeError], false},
		{"I2_exit_at_task_unpickle", "worker-decode", "exit", died(5, 0), true},
		{"I3_error_at_task_unpickle", "worker-decode", "error", is[*gpool.DecodeError], false},
		{"I3_panic_at_task_unpickle", "worker-decode", "panic", is[*gpool.DecodeError], false},
		{"I4_crash_at_task_unpickle", "worker-decode", "kill", died(-1, syscall.SIGKILL), true},
		{"I5_crash_during_func_exec_on_worker", "worker-run", "kill", died(-1, syscall.SIGKILL), true},
		{"I5_segfault_during_func_exec_on_worker", "worker-run", "segv", died(2, 0), true},
		{"I5_panic_of_a_goroutine_on_worker", "worker-run", "goroutine", died(2, 0), true},
		{"I6_exit_during_func_exec_on_worker", "worker-run", "exit", died(5, 0), true},
		{"I7_error_during_func_exec_on_worker", "worker-run", "error", is[*gpool.TaskError], false},
		{"I7_panic_during_func_exec_on_worker", "worker-run", "panic", is[*gpool.PanicError], false},
		{"I8_crash_during_result_pickle_on_worker", "worker-encode", "kill", died(-1, syscall.SIGKILL), true},
		{"I9_exit_during_result_pickle_on_worker", "worker-encode", "exit", died(5, 0), true},
		{"I10_error_during_result_pickle_on_worker", "worker-encode", "error", is[*gpool.EncodeError], false},
		{"I10_panic_during_result_pickle_on_worker", "worker-encode", "panic", is[*gpool.EncodeError], false},
		{"I11_error_during_result_unpickle_in_result_handler", "parent-decode", "error", is[*gpool.DecodeError], false},
		{"I12_panic_during_result_unpickle_in_result_handler", "parent-decode", "panic", is[*gpool.DecodeError], false},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := newExecutor(t, gpool.NewExecutor, gpool.Workers(2), gpool.Stderr(io.Discard))
			f := gpool.ApplyAsync(background, x, confBomb, newBomb(row.place, row.how))
			if _, err := answer(t, f); !row.want(err) {
				t.Errorf("a call: %v", err)
			}
			works(t, x)
			in := slices.Repeat([]crate{newBomb("", "")}, 9)
			in[4] = newBomb(row.place, row.how)
			for _, chunk := range []int{1, 9} {
				_, err := gpool.Map(background, x, confBomb, in, gpool.Chunk(chunk), gpool.CollectErrors())
				if !row.want(err) {
					t.Errorf("Map in chunks of %d: %v", chunk, err)
				}
				n, failures := 0, 0
				for _, err := range gpool.IMap(background, x, confBomb, in, gpool.Chunk(chunk)) {
					if n++; err != nil {
						failures++
						if !row.want(err) {
							t.Errorf("IMap in chunks of %d: %v", chunk, err)
						}
					}
				}
				if n != 9 || failures != 1 { // nobody else is touched
					t.Errorf("IMap in chunks of %d: %d results, %d of them errors", chunk, n, failures)
				}
			}
			works(t, x)
			if deaths := x.Stats().Deaths; row.dies != (deaths == 5) || !row.dies && deaths > 0 {
				t.Errorf("%d workers died of 5 bombs", deaths)
			}
		})
	}
}

func TestExecutorShutdownDeadlockConformance(t *testing.T) {
	t.Run("I11_stderr_of_the_dead", func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(1), gpool.Stderr(io.Discard))
		_, err := answer(t, gpool.ApplyAsync(background, x, confBomb, newBomb("worker-run", "exit")))
		if e, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || !strings.Contains(e.Stderr, "a bomb") {
			t.Errorf("what a worker last printed: %v", err)
		}
	})
	t.Run("I13_shutdown_deadlock", func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(2))
		works(t, x) // there are workers
		f := gpool.ApplyAsync(background, x, confBomb, newBomb("worker-run", "kill"))
		shutdown(t, x)
		if _, err := answer(t, f); !died(-1, syscall.SIGKILL)(err) {
			t.Error(err)
		}
	})
	t.Run("I14_shutdown_deadlock_pickle", func(t *testing.T) {
		x := newExecutor(t, gpool.NewExecutor, gpool.Workers(2))
		works(t, x)
		f := gpool.ApplyAsync(background, x, confBomb, newBomb("parent-encode", "error"))
		x.Close()
		if _, err := answer(t, f); !is[*gpool.EncodeError](err) {
			t.Error(err)
		}
		shutdown(t, x)
	})
	t.Run("I15_crash_big_data", func(t *testing.T) {
		for _, place := range []string{"worker-decode", "worker-run", "worker-encode"} {
			x := newExecutor(t, gpool.NewExecutor, gpool.Workers(2))
			in := make([]crate, 10)
			for i := range in {
				in[i].Pad = make([]byte, 1<<20)
			}
			in[0].Place, in[0].How = place, "kill"
			in[5].Place, in[5].How = place, "kill"
			within(t, 60*time.Second, func() {
				out, err := gpool.Map(background, x, confBomb, in, gpool.Chunk(5))
				if !died(-1, syscall.SIGKILL)(err) {
					t.Errorf("%s: %v", place, err)
				}
				for i, c := range out {
					if want := len(in[i].Pad); i%5 != 0 && len(c.Pad) != want {
						t.Errorf("%s: result %d has %d bytes, want %d", place, i, len(c.Pad), want)
					}
				}
				works(t, x)
			})
		}
	})
	for kind, create := range executorKinds {
		t.Run("I16_should_not_deadlock_if_wakeup_pipe_full/"+kind, func(t *testing.T) {
			const n = 100_000
			x := newExecutor(t, create, gpool.Workers(2))
			within(t, 2*time.Minute, func() {
				all := make([]*gpool.Future[int], n)
				for i := range all {
					all[i] = gpool.ApplyAsync(background, x, square, i)
				}
				for i, f := range all {
					if y, err := f.Get(background); y != i*i || err != nil {
						t.Fatalf("call %d: %d, %v", i, y, err)
					}
				}
			})
		})
	}
}
