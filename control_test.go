package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gpool"
)

// fickle fails until its attempt is the one that is asked for; 0 dies.
var fickle = gpool.Register("fickle", func(ctx context.Context, good int) (int, error) {
	call, _ := gpool.Info(ctx)
	switch {
	case good == 0:
		os.Exit(3)
	case call.Attempt < good:
		return 0, fmt.Errorf("attempt %d is too early", call.Attempt)
	}
	return call.Attempt, nil
})

// napFor sleeps for so many milliseconds, or until its context ends; below zero it fails
// after as many.
var napFor = gpool.Register("nap-for", func(ctx context.Context, ms int) (int, error) {
	d := time.Duration(ms) * time.Millisecond
	select {
	case <-time.After(max(d, -d)):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if ms < 0 {
		return 0, errors.New("below zero")
	}
	return ms, nil
})

func TestRetries(t *testing.T) {
	p := newPool(t, gpool.Workers(2), gpool.Retries(2))
	ctx := context.Background()
	out, err := gpool.Map(ctx, p, fickle, []int{1, 2, 3, 1})
	if err != nil || !slices.Equal(out, []int{1, 2, 3, 1}) {
		t.Errorf("Map: %v, %v", out, err)
	}
	if _, err := gpool.Apply(ctx, p, fickle, 4); err == nil || !strings.Contains(err.Error(), "attempt 3 is too early") {
		t.Errorf("Apply of a call that fails three times: %v", err)
	}
	if n, err := gpool.Apply(ctx, p, fickle, 5, gpool.Retries(4)); n != 5 || err != nil {
		t.Errorf("Apply with more retries: %d, %v", n, err)
	}
	it := gpool.IMap(ctx, p, fickle, []int{3, 1, 2})
	var got []int
	for n, err := range it {
		if err != nil {
			t.Error(err)
		}
		got = append(got, n)
	}
	if !slices.Equal(got, []int{3, 1, 2}) {
		t.Errorf("IMap: %v", got)
	}
	_, err = gpool.Apply(ctx, p, fickle, 0)
	if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.ExitCode != 3 {
		t.Errorf("a call that kills three workers: %v", err)
	}
	if s := p.Stats(); s.Deaths != 3 {
		t.Errorf("%d workers died, want 3", s.Deaths)
	}
}

func TestRetryIf(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	once := gpool.RetryIf(func(err error) bool {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, err.Error())
		task, ok := errors.AsType[*gpool.TaskError](err)
		return ok && task.Index == 1
	})
	p := newPool(t, gpool.Workers(1))
	out, err := gpool.Map(context.Background(), p, fickle, []int{1, 2, 2}, gpool.Retries(3), once, gpool.Backoff(0, time.Millisecond))
	if task, ok := errors.AsType[*gpool.TaskError](err); !ok || task.Index != 2 || !slices.Equal(out, []int{1, 2, 0}) {
		t.Errorf("only the call of item 1 may be run again: %v, %v", out, err)
	}
	if want := []string{"task fickle, item 1: attempt 1 is too early", "task fickle, item 2: attempt 1 is too early"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q", asked)
	}
}

func TestRetriesAreForProcesses(t *testing.T) {
	threads := newThreads(t, gpool.Workers(1))
	if _, err := gpool.Apply(context.Background(), threads, square, 1, gpool.Retries(1)); err == nil || !strings.Contains(err.Error(), "ThreadPool") {
		t.Errorf("a call in a ThreadPool: %v", err)
	}
	if _, err := gpool.NewThreadPool(context.Background(), gpool.Retries(1)); err == nil {
		t.Error("a ThreadPool with retries is made")
	}
	for _, o := range []gpool.CommonOption{gpool.Retries(0), gpool.Backoff(2, 1), gpool.Backoff(-1, 1)} {
		if _, err := gpool.New(context.Background(), o); err == nil {
			t.Errorf("%v is taken", o)
		}
	}
}

func TestHalt(t *testing.T) {
	ctx := context.Background()
	p := newPool(t, gpool.Workers(2))
	ms := []int{30000, 10, 30000, 30000, 30000}
	begun := time.Now()
	out, err := gpool.Map(ctx, p, napFor, ms, gpool.Chunk(1), gpool.HaltNow(gpool.Success, 1))
	if !errors.Is(err, gpool.ErrHalted) || !errors.Is(err, gpool.ErrCancelled) || !slices.Equal(out, []int{0, 10, 0, 0, 0}) {
		t.Errorf("the first success: %v, %v", out, err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("what ran was not ended: %v", took)
	}
	_, err = gpool.Map(ctx, p, napFor, []int{-1, 20, 20, 20, 20, 20}, gpool.Chunk(1), gpool.HaltSoon(gpool.Failure, 1))
	if task, ok := errors.AsType[*gpool.TaskError](err); !ok || task.Index != 0 {
		t.Errorf("the error of a Map that is halted by a failure: %v", err)
	}
	// Of an iterator that has more to come, the end says why.
	n := 0
	for _, err = range gpool.IMap(ctx, p, napFor, repeating(1), gpool.HaltSoon(gpool.Any, 10)) {
		if err == nil {
			n++
		}
	}
	if !errors.Is(err, gpool.ErrHalted) || n < 10 || n > 20 {
		t.Errorf("%d results and then %v", n, err)
	}
	if got, err := gpool.Map(ctx, p, napFor, []int{1, 2}, gpool.HaltSoon(gpool.Success, 2)); err != nil || !slices.Equal(got, []int{1, 2}) {
		t.Errorf("a Map that is over when it is halted: %v, %v", got, err)
	}
}

// repeating yields a number without an end.
func repeating(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for yield(n) {
		}
	}
}

func TestMedianLimit(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	ms := []int{20, 20, 20, 20, 20, 20, 60000, 20}
	begun := time.Now()
	out, err := gpool.Map(context.Background(), p, napFor, ms, gpool.MedianLimit(20))
	if limit, ok := errors.AsType[*gpool.TimeoutError](err); !ok || limit.Index != 6 || out[7] != 20 {
		t.Errorf("%v, %v", out, err)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAdmission(t *testing.T) {
	ctx := context.Background()
	p := newPool(t, gpool.Workers(4), gpool.Rate(50), gpool.MinFreeMemory(1), gpool.MaxLoad(1e6), gpool.Nice(3))
	begun := time.Now()
	if out, err := gpool.Map(ctx, p, square, []int{1, 2, 3, 4, 5, 6}); err != nil || !slices.Equal(out, []int{1, 4, 9, 16, 25, 36}) {
		t.Errorf("%v, %v", out, err)
	}
	if took := time.Since(begun); took < 90*time.Millisecond { // five waits of 20 ms; later is no fault
		t.Errorf("six calls at 50 a second took %v", took)
	}
	for _, o := range []gpool.Option{gpool.Rate(0), gpool.Delay(0), gpool.MaxLoad(-1), gpool.MinFreeMemory(0)} {
		if _, err := gpool.New(ctx, o); err == nil {
			t.Errorf("%v is taken", o)
		}
	}
}

func TestEvents(t *testing.T) {
	var story []string
	hear := func(e gpool.PoolEvent) {
		line := string(e.Kind)
		if e.Task != "" {
			line = fmt.Sprintf("%s: %s %d.%d %v", e.Kind, e.Task, e.Index, e.Attempt, e.Err)
		}
		story = append(story, line)
	}
	p, err := gpool.New(context.Background(), gpool.Workers(1), gpool.Events(hear))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = gpool.Map(context.Background(), p, fickle, []int{1, 2}, gpool.Retries(1))
	_, _ = gpool.Apply(context.Background(), p, fickle, 2)
	p.Close()
	if err := p.Join(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"worker started", "worker ready",
		"call started: fickle 0.1 <nil>", "call finished: fickle 0.1 <nil>",
		"call started: fickle 1.1 <nil>", "call retried: fickle 1.1 task fickle, item 1: attempt 1 is too early",
		"call started: fickle 1.2 <nil>", "call finished: fickle 1.2 <nil>",
		"call started: fickle -1.1 <nil>", "call finished: fickle -1.1 task fickle: attempt 1 is too early",
		"worker left",
	}
	for _, line := range want {
		if !slices.Contains(story, line) {
			t.Errorf("it is not told: %s", line)
		}
	}
	if len(story) != len(want) {
		t.Errorf("the story is %s", strings.Join(story, "\n"))
	}
}
