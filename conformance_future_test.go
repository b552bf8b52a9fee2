package gpool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gpool"
)

func TestFutureConformance(t *testing.T) { overExecutors(t, futureRows) }

// gated makes a future that ends when its gate is opened, with 49, or, if it is to be a
// bad one, with errBad.
func gated(x gpool.Runner, dir string, bad bool) *gpool.Future[int] {
	if bad {
		return gpool.ApplyAsync(background, x, confGatedFailure, dir)
	}
	return gpool.ApplyAsync(background, x, confGated, gpool.A2(dir, 7))
}

// pendingBehind makes a future that no worker has as long as the gate is shut; the
// executor must have one worker.
func pendingBehind(t *testing.T, x gpool.Runner, dir string) (held, pending *gpool.Future[int]) {
	t.Helper()
	held = gpool.ApplyAsync(background, x, confGate, dir)
	until(t, "the call before it has begun", func() bool { return len(started(t, dir)) == 1 })
	return held, gpool.ApplyAsync(background, x, confRecord, gpool.A2(dir, 1))
}

// expired is a context whose time is over.
func expired() context.Context {
	ctx, cancel := context.WithTimeout(background, 0)
	defer cancel()
	<-ctx.Done()
	return context.WithValue(ctx, struct{}{}, nil)
}

// called waits for a callback, and returns the future that it was given.
func called(t *testing.T, f *gpool.Future[int]) *gpool.Future[int] {
	t.Helper()
	calledC := make(chan *gpool.Future[int], 2)
	f.OnDone(func(f *gpool.Future[int]) { calledC <- f })
	select {
	case told := <-calledC:
		return told
	case <-time.After(20 * time.Second):
		t.Fatal("the callback is not called")
		return nil
	}
}

var (
	one    = []gpool.Option{gpool.Workers(1)}
	passed = []time.Duration{0, 10 * time.Millisecond}
)

var futureRows = []conformanceRow[*gpool.Executor]{
	{name: "J1_done_callback_with_result", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, false)
		values := make(chan int, 2)
		f.OnDone(func(f *gpool.Future[int]) { v, _ := f.Get(background); values <- v })
		f.OnSuccess(func(v int) { values <- v })
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			if a, b := <-values, <-values; a != 49 || b != 49 {
				t.Errorf("the callbacks got %d and %d", a, b)
			}
		})
	}},
	{name: "J2_done_callback_with_exception", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, true)
		toldC := make(chan error, 2)
		f.OnDone(func(f *gpool.Future[int]) { toldC <- f.Err(background) })
		f.OnError(func(err error) { toldC <- err })
		f.OnSuccess(func(int) { t.Error("the callback for success is called") })
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			wantError(t, <-toldC, errBad)
			wantError(t, <-toldC, errBad)
		})
	}},
	{name: "J3_done_callback_with_cancel", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		_, f := pendingBehind(t, x, dir)
		toldC := make(chan bool, 1)
		f.OnDone(func(f *gpool.Future[int]) { toldC <- f.Cancelled() })
		if !f.Cancel() {
			t.Error("a call that waits is not cancelled")
		}
		within(t, 20*time.Second, func() {
			if !<-toldC {
				t.Error("the callback sees no cancelled future")
			}
		})
	}},
	{name: "J4_done_callback_raises", alone: func(t *testing.T) {
		for kind, create := range executorKinds {
			t.Run(kind, func(t *testing.T) {
				var text lockedBuffer
				dir := t.TempDir()
				x := newExecutor(t, create, gpool.Workers(1), gpool.Stderr(&text))
				f := gated(x, dir, false)
				var order []int
				doneC := make(chan struct{})
				f.OnDone(func(*gpool.Future[int]) { order = append(order, 1); panic("doh!") })
				f.OnDone(func(*gpool.Future[int]) { order = append(order, 2) })
				f.OnDone(func(*gpool.Future[int]) { order = append(order, 3); close(doneC) })
				newGate(dir).open(t)
				within(t, 20*time.Second, func() { <-doneC })
				wantList(t, order, []int{1, 2, 3}) // each, and in the order in which they were added
				if !strings.Contains(text.String(), "doh!") {
					t.Errorf("the panic is not printed: %q", text.String())
				}
				works(t, x)
			})
		}
	}},
	{name: "J5_done_callback_already_successful", both: func(t *testing.T, x *gpool.Executor, _ string) {
		good, _, _ := endedFutures(t, x)
		if told := called(t, good); told != good {
			t.Error("the callback gets another future")
		}
	}},
	{name: "J6_done_callback_already_failed", both: func(t *testing.T, x *gpool.Executor, _ string) {
		_, bad, _ := endedFutures(t, x)
		wantError(t, called(t, bad).Err(background), errBad)
	}},
	{name: "J7_done_callback_already_cancelled", both: func(t *testing.T, x *gpool.Executor, _ string) {
		_, _, cancelled := endedFutures(t, x)
		if !called(t, cancelled).Cancelled() {
			t.Error("the callback sees no cancelled future")
		}
	}},
	{name: "J8_done_callback_raises_already_succeeded", alone: func(t *testing.T) {
		var text lockedBuffer
		x := newExecutor(t, gpool.NewThreadExecutor, gpool.Stderr(&text))
		good, _, _ := endedFutures(t, x)
		good.OnDone(func(*gpool.Future[int]) { panic("doh!") }) // not in the caller's face
		called(t, good)
		if !strings.Contains(text.String(), "doh!") {
			t.Errorf("the panic is not printed: %q", text.String())
		}
	}},
	{name: "J10_cancel", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		running, waiting := pendingBehind(t, x, dir)
		good := gpool.ApplyAsync(background, x, square, 3)
		if !waiting.Cancel() || !waiting.Cancel() || !waiting.Cancelled() || !waiting.Ready() {
			t.Error("a call that waits cannot be cancelled, or not twice")
		}
		if running.Cancel() || running.Cancelled() {
			t.Error("a call that runs is cancelled")
		}
		newGate(dir).open(t)
		got(t, running)
		got(t, good)
		if running.Cancel() || good.Cancel() || good.Cancelled() {
			t.Error("a call that has ended is cancelled")
		}
		bad := gpool.ApplyAsync(background, x, failIf, gpool.A2(1, []int{1}))
		_, err := answer(t, bad)
		wantError(t, err, errBad)
		if bad.Cancel() || bad.Cancelled() {
			t.Error("a call that has failed is cancelled")
		}
		shutdown(t, x)
		wantList(t, ledger(t, dir), nil) // what was cancelled was not run
	}},
	{name: "J10_cancel_of_a_call_that_runs", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		ctx, cancel := context.WithCancelCause(background)
		f := gpool.ApplyAsync(ctx, x, confGate, dir)
		until(t, "the call has begun", func() bool { return len(started(t, dir)) == 1 })
		cancel(errSayWhen) // which Python cannot
		_, err := answer(t, f)
		wantError(t, err, gpool.ErrCancelled)
		wantError(t, err, errSayWhen)
		if !f.Cancelled() {
			t.Error("it is not cancelled")
		}
		works(t, x)
	}},
	{name: "J11_J12_J13_states", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		running, waiting := pendingBehind(t, x, dir)
		dropped := gpool.ApplyAsync(background, x, square, 3)
		dropped.Cancel()
		type states struct{ cancelled, done, running bool }
		look := func(f *gpool.Future[int]) states {
			select {
			case <-f.Done():
				if !f.Ready() {
					t.Error("Done is closed, and Ready says no")
				}
			default:
			}
			return states{f.Cancelled(), f.Ready(), f.Running()}
		}
		expect := func(what string, f *gpool.Future[int], want states) {
			t.Helper()
			if s := look(f); s != want {
				t.Errorf("%s: %+v, want %+v", what, s, want)
			}
		}
		expect("running", running, states{running: true})
		expect("waiting", waiting, states{})
		expect("cancelled", dropped, states{cancelled: true, done: true})
		newGate(dir).open(t)
		good, bad, cancelled := endedFutures(t, x)
		got(t, running)
		got(t, waiting)
		for what, f := range map[string]*gpool.Future[int]{"good": good, "bad": bad, "that ran": running, "that waited": waiting} {
			expect(what, f, states{done: true})
		}
		expect("cancelled by its context", cancelled, states{cancelled: true, done: true})
	}},
	{name: "J14_result_with_timeout", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		good, bad, cancelled := endedFutures(t, x)
		running, waiting := pendingBehind(t, x, dir)
		for _, f := range []*gpool.Future[int]{running, waiting} {
			for _, d := range passed {
				ctx, cancel := context.WithTimeout(background, d)
				if v, err := f.Get(ctx); v != 0 || err != context.DeadlineExceeded {
					t.Errorf("Get for %v of a call that has not ended: %d, %v", d, v, err)
				}
				cancel()
			}
		}
		for range 100 { // what is there is returned however the context is
			if v, err := good.Get(expired()); v != 9 || err != nil {
				t.Fatalf("Get of a value: %d, %v", v, err)
			}
			if _, err := bad.Get(expired()); !errors.Is(err, errBad) {
				t.Fatalf("Get of an error: %v", err)
			}
			if _, err := cancelled.Get(expired()); !errors.Is(err, gpool.ErrCancelled) {
				t.Fatalf("Get of what was cancelled: %v", err)
			}
		}
		newGate(dir).open(t)
		got(t, running)
		if v := got(t, waiting); v != 1 { // the time of Get was not the call's
			t.Errorf("got %d", v)
		}
	}},
	{name: "J15_result_with_success", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, false)
		valueC := make(chan int, 1)
		go func() {
			v, _ := f.Get(background)
			valueC <- v
		}()
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			if v := <-valueC; v != 49 {
				t.Errorf("the one who waited got %d", v)
			}
		})
	}},
	{name: "J16_result_with_cancel", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		_, f := pendingBehind(t, x, dir)
		errC := make(chan error, 1)
		go func() { errC <- f.Err(background) }()
		if !f.Cancel() {
			t.Error("it is not cancelled")
		}
		within(t, 20*time.Second, func() { wantError(t, <-errC, gpool.ErrCancelled) })
	}},
	{name: "J17_exception_with_timeout", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		good, bad, cancelled := endedFutures(t, x)
		running, waiting := pendingBehind(t, x, dir)
		for _, f := range []*gpool.Future[int]{running, waiting} {
			if err := f.Err(expired()); err != context.DeadlineExceeded {
				t.Errorf("Err of a call that has not ended: %v", err)
			}
			if err := f.Wait(expired()); err != context.DeadlineExceeded {
				t.Errorf("Wait for a call that has not ended: %v", err)
			}
			if _, err := f.Successful(); err != gpool.ErrNotReady {
				t.Errorf("Successful of a call that has not ended: %v", err)
			}
		}
		if err := good.Err(expired()); err != nil {
			t.Errorf("Err of a value: %v", err)
		}
		wantError(t, bad.Err(expired()), errBad)
		wantError(t, cancelled.Err(expired()), gpool.ErrCancelled)
		for _, f := range []*gpool.Future[int]{good, bad, cancelled} {
			if err := f.Wait(expired()); err != nil {
				t.Errorf("Wait for what has ended: %v", err)
			}
		}
		newGate(dir).open(t)
	}},
	{name: "J18_exception_with_success", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, true)
		errC := make(chan error, 1)
		go func() { errC <- f.Err(background) }()
		newGate(dir).open(t)
		within(t, 20*time.Second, func() { wantError(t, <-errC, errBad) })
	}},
	{name: "get_many_times", both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, false)
		const readers = 20
		values := make(chan int, readers)
		for range readers {
			go func() {
				v, _ := f.Get(background)
				values <- v
			}()
		}
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			for range readers {
				if v := <-values; v != 49 {
					t.Errorf("one of many readers got %d", v)
				}
			}
		})
	}},
	{name: "callbacks_may_use_the_pool", options: one, both: func(t *testing.T, x *gpool.Executor, dir string) {
		f := gated(x, dir, false)
		valueC := make(chan int, 1)
		f.OnSuccess(func(v int) { // in Python this would wait for itself
			y, err := gpool.Apply(background, x, square, v)
			if err != nil {
				t.Error(err)
			}
			valueC <- y
		})
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			if y := <-valueC; y != 49*49 {
				t.Errorf("got %d", y)
			}
		})
	}},
}
