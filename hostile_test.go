package gpool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gpool"
)

// What users do who mean no good, or no harm.

// TestAValueThatIsTooLargeCostsItsCallOnly: an argument, and a result.
func TestAValueThatIsTooLargeCostsItsCallOnly(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("it takes some gigabytes of memory")
	}
	p := newPool(t, gpool.Workers(1))
	_, err := gpool.Apply(background, p, echo, make([]byte, 1<<30))
	if _, is := errors.AsType[*gpool.EncodeError](err); !is {
		t.Errorf("an argument of 1 GiB gives %v", err)
	}
	_, err = gpool.Apply(background, p, blob, 1<<30)
	if _, is := errors.AsType[*gpool.EncodeError](err); !is {
		t.Errorf("a result of 1 GiB gives %v", err)
	}
	if v, err := gpool.Apply(background, p, square, 5); v != 25 || err != nil || p.Stats().Started != 1 {
		t.Errorf("afterwards: %d, %v, %d workers", v, err, p.Stats().Started)
	}
}

// TestShortLimitsFailNoPool: limits that no call can keep cost calls, and nothing else.
func TestShortLimitsFailNoPool(t *testing.T) {
	for _, limit := range []time.Duration{time.Microsecond, time.Millisecond} {
		p := newPool(t, gpool.Workers(2))
		out, err := gpool.Map(background, p, square, make([]int, 300), gpool.HardLimit(limit), gpool.CollectErrors(), gpool.Chunk(10))
		if _, failed := errors.AsType[*gpool.StartError](err); failed || len(out) != 300 {
			t.Errorf("a limit of %v: %v", limit, err)
		}
		if v, err := gpool.Apply(background, p, square, 5); v != 25 || err != nil {
			t.Errorf("after a limit of %v: %d, %v", limit, v, err)
		}
	}
	// What keeps its limit is not ended with others that do as well.
	p := newPool(t, gpool.Workers(2))
	if _, err := gpool.Map(background, p, busyFor, slices.Repeat([]int{0, 0, 0, 0, 0, 20}, 10), gpool.Chunk(6), gpool.HardLimit(500*time.Millisecond)); err != nil {
		t.Errorf("calls of up to 20 ms with a limit of 500 ms: %v", err)
	}
}

// busyFor keeps the processor for so many milliseconds.
var busyFor = gpool.Register("busy-for", func(_ context.Context, ms int) (int, error) {
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end); {
	}
	return ms, nil
})

func TestCancelPendingMeetsIteratorsThatStart(t *testing.T) {
	for range 20 {
		x, err := gpool.NewThreadExecutor(background)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for range 20 {
					it := gpool.Start(background, x, square, []int{1, 2, 3})
					if _, ok, err := it.Next(background); !ok && err != nil && !errors.Is(err, gpool.ErrPoolClosed) && !errors.Is(err, gpool.ErrCancelled) {
						t.Errorf("it ends with %v", err)
					}
					it.Stop()
				}
			})
		}
		runtime.Gosched()
		if err := x.Shutdown(background, gpool.CancelPending()); err != nil {
			t.Error(err)
		}
		readers.Wait()
	}
}

// streamless has closed its standard streams: pipes take their places, and a write to
// one of those without a reader is a SIGPIPE.
func init() {
	roles["streamless"] = func() int {
		for fd := range 3 {
			_ = syscall.Close(fd)
		}
		p, err := gpool.New(context.Background(), gpool.Workers(2))
		if err != nil {
			return 4
		}
		for range 3 {
			all := gpool.MapAsync(context.Background(), p, echo, slices.Repeat([][]byte{make([]byte, 4<<20)}, 8))
			for _, w := range p.Stats().Workers {
				_ = syscall.Kill(w.Pid, syscall.SIGKILL)
			}
			_ = all.Wait(context.Background())
		}
		p.Terminate()
		if p.Join(context.Background()) != nil {
			return 5
		}
		return 0
	}
}

func TestAProgramWithoutStandardStreams(t *testing.T) {
	if err := playing("streamless").Run(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestItemsAreNotLookedAtOnceAMapHasEnded, however it has: under the race detector.
func TestItemsAreNotLookedAtOnceAMapHasEnded(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(2)}, func(t *testing.T, p lifecycle) {
		for _, how := range []string{"context", "cancel", "fail fast", "terminate"} {
			items := make([][]byte, 20000)
			for i := range items {
				items[i] = make([]byte, 200)
			}
			ctx, cancel := context.WithCancel(background)
			f := gpool.MapAsync(ctx, p, echo, items, gpool.FailFast())
			switch how {
			case "context":
				cancel()
			case "cancel":
				f.Cancel()
			case "terminate":
				p.Terminate()
			}
			_ = f.Wait(background)
			for i := range items {
				items[i][0]++
			}
			cancel()
		}
	})
}

func TestExtremeChunks(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(2)}, func(t *testing.T, p lifecycle) {
		within(t, 20*time.Second, func() {
			for _, chunk := range []int{1 << 20, 1 << 40, 1 << 61, math.MaxInt} {
				n := 0
				for _, err := range gpool.IMap(background, p, square, []int{1, 2, 3}, gpool.Chunk(chunk)) {
					if n++; err != nil {
						t.Errorf("Chunk(%d): %v", chunk, err)
					}
				}
				out, err := gpool.Map(background, p, square, []int{1, 2, 3}, gpool.Chunk(chunk))
				if n != 3 || len(out) != 3 || err != nil {
					t.Errorf("Chunk(%d): %d and %d results, %v", chunk, n, len(out), err)
				}
			}
		})
	})
}

// TestLargeItemsAfterSmallOnesAreNotHoarded: how large items are is learnt from those
// before, and may be wrong.
func TestLargeItemsAfterSmallOnesAreNotHoarded(t *testing.T) {
	p := newPool(t, gpool.Workers(2))
	items := slices.Repeat([][]byte{{1}}, 50000)
	items = append(items, slices.Repeat([][]byte{make([]byte, 1<<20)}, 300)...)
	before := heapInUse()
	stopC, peakC := make(chan struct{}), make(chan uint64)
	go func() {
		var m runtime.MemStats
		peak := uint64(0)
		for {
			select {
			case <-stopC:
				peakC <- peak
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
	}()
	out, err := gpool.Map(background, p, sizeOf, items)
	close(stopC)
	peak := <-peakC
	if err != nil || out[len(out)-1] != 1<<20 {
		t.Error(err)
	}
	t.Logf("the heap peaks at %d MiB", (peak-before)>>20)
	if peak-before > 100<<20 {
		t.Errorf("the heap grows by %d MiB for 300 items of 1 MiB", (peak-before)>>20)
	}
}

var sizeOf = gpool.Register("size-of", func(_ context.Context, b []byte) (int, error) { return len(b), nil })

func TestIteratorsThatAreStoppedYieldNothing(t *testing.T) {
	p := newThreads(t)
	it := gpool.Start(background, p, square, []int{1, 2, 3}, gpool.Window(10))
	for p.Stats().Succeeded < 3 {
		time.Sleep(time.Millisecond)
	}
	it.Stop()
	it.Stop()
	if v, ok, err := it.Next(background); ok || err != nil {
		t.Errorf("it yields %d, %v", v, err)
	}
	ends := func(yield func(int) bool) {
		yield(1)
		runtime.Goexit()
	}
	var last error
	for _, err := range gpool.IMap(background, p, square, ends) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "Goexit") {
		t.Errorf("an input that ends its goroutine gives %v", last)
	}
}

// TestATaskMayReturnErrCancelled, and was not cancelled.
func TestATaskMayReturnErrCancelled(t *testing.T) {
	p := newThreads(t)
	returns := gpool.Fn(func(context.Context, int) (int, error) { return 0, fmt.Errorf("inner: %w", gpool.ErrCancelled) })
	f := gpool.ApplyAsync(background, p, returns, 1)
	if err := f.Err(background); !errors.Is(err, gpool.ErrCancelled) || f.Cancelled() || f.Cancel() {
		t.Errorf("it counts as cancelled: %v", err)
	}
}

var failsOddly = gpool.Register("fails-oddly", func(_ context.Context, how string) (int, error) {
	switch how {
	case "empty":
		return 0, &gpool.TaskError{}
	case "large":
		return 0, twice{errors.New(strings.Repeat("x", 1<<20))}
	}
	p, err := gpool.New(background, gpool.Workers(1), gpool.Lazy(), gpool.Initializer(initFails, how))
	if err != nil {
		return 0, err
	}
	defer p.Terminate()
	return gpool.Apply(background, p, square, 1)
})

// twice wraps an error two times, and so on.
type twice struct{ err error }

func (e twice) Error() string   { return e.err.Error() }
func (e twice) Unwrap() []error { return []error{twice{e.err}, twice{e.err}} }

func TestOddErrorsDoNoHarm(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	within(t, 20*time.Second, func() {
		_, err := gpool.Apply(background, p, failsOddly, "empty")
		if err == nil || err.Error() == "" {
			t.Errorf("an error whose methods panic gives %v", err)
		}
		_, err = gpool.Apply(background, p, failsOddly, "large")
		if err == nil || len(err.Error()) < 1<<20 {
			t.Error("a large error has lost its text")
		}
		_, err = gpool.Apply(background, p, failsOddly, t.TempDir())
		start, isStart := errors.AsType[*gpool.StartError](err)
		_, isInit := errors.AsType[*gpool.InitError](err)
		if !isStart || !isInit || start.Worker != 1 || !errors.Is(err, gpool.ErrRestartLimit) || !errors.Is(err, errBad) {
			t.Errorf("the failure of a pool within a task gives %v (%v, %v, %v, %v)", err, isStart, isInit, errors.Is(err, gpool.ErrRestartLimit), errors.Is(err, errBad))
		}
	})
}

func TestAWorkerWithoutItsFramesIsReplaced(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	within(t, 30*time.Second, func() {
		_, _ = gpool.Apply(background, p, closesAll, 0)
		if _, err := gpool.Apply(background, p, square, 2); err != nil { // the worker may have taken it
			if _, died := errors.AsType[*gpool.WorkerDiedError](err); !died {
				t.Errorf("it ends with %v", err)
			}
		}
		if v, err := gpool.Apply(background, p, square, 3); v != 9 || err != nil {
			t.Errorf("afterwards: %d, %v", v, err)
		}
	})
}

// closesAll closes every descriptor that is a pipe, but what it prints to.
var closesAll = gpool.Register("closes-all", func(context.Context, int) (int, error) {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	for _, entry := range list {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err != nil || fd < 3 {
			continue
		}
		if to, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())); strings.HasPrefix(to, "pipe:") {
			_ = syscall.Close(fd)
		}
	}
	return 0, nil
})

func TestExitDoesNotWaitForStuckThreads(t *testing.T) {
	out, err := playing("stuck-threads").CombinedOutput()
	if err != nil || !bytes.Equal(out, []byte("at exit\n")) {
		t.Errorf("it ends with %v, and says %s", err, out)
	}
}

func init() {
	roles["stuck-threads"] = func() int {
		p, err := gpool.NewThreadPool(context.Background(), gpool.Workers(1))
		if err != nil {
			return 2
		}
		beganC := make(chan struct{})
		gpool.ApplyAsync(context.Background(), p, gpool.Fn(func(context.Context, int) (int, error) {
			close(beganC)
			time.Sleep(time.Hour)
			return 0, nil
		}), 1)
		<-beganC
		gpool.AtExit(func() { fmt.Println("at exit") })
		gpool.Exit(0)
		return 3
	}
}

func TestADirectoryThatIsNotThereIsNamed(t *testing.T) {
	_, err := gpool.New(background, gpool.Dir("/nonexistent/dir"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `Dir("/nonexistent/dir")`) {
		t.Errorf("it gives %v", err)
	}
}
