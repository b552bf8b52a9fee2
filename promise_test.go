package gpool_test

import (
	"errors"
	"fmt"
	"testing"

	"gpool"
)

// TestPromiseConformance has the rows of area J that set results: docs/semantics.md.
func TestPromiseConformance(t *testing.T) {
	t.Run("J19_set_result_twice", func(t *testing.T) {
		p := gpool.NewPromise[int]()
		if err := p.Resolve(1); err != nil {
			t.Error(err)
		}
		if err := p.Resolve(2); !errors.Is(err, gpool.ErrInvalidState) {
			t.Errorf("a second result gives %v", err)
		}
		if err := p.Reject(errBad); !errors.Is(err, gpool.ErrInvalidState) {
			t.Errorf("an error after the result gives %v", err)
		}
		if v, err := p.Future().Get(background); v != 1 || err != nil {
			t.Errorf("the first result is %d, %v", v, err)
		}
	})
	t.Run("J20_set_exception_twice", func(t *testing.T) {
		p := gpool.NewPromise[int]()
		if err := p.Reject(errBad); err != nil {
			t.Error(err)
		}
		if err := p.Reject(errors.New("another")); !errors.Is(err, gpool.ErrInvalidState) {
			t.Errorf("a second error gives %v", err)
		}
		if err := p.Future().Err(background); err != errBad {
			t.Errorf("the first error is %v", err)
		}
	})
	t.Run("cancelled_before_it_starts", func(t *testing.T) {
		p := gpool.NewPromise[int]()
		if !p.Future().Cancel() || p.Start() || !errors.Is(p.Resolve(1), gpool.ErrInvalidState) || !p.Future().Cancelled() {
			t.Error("a cancelled promise is kept")
		}
		q := gpool.NewPromise[int]()
		if !q.Start() || !q.Future().Running() || q.Future().Cancel() || q.Resolve(3) != nil {
			t.Error("a promise that has started is cancelled")
		}
	})
	t.Run("among_calls", func(t *testing.T) {
		p := gpool.NewPromise[int]()
		call := gpool.ApplyAsync(background, newThreads(t), square, 3)
		doneC := make(chan string, 1)
		p.Future().OnSuccess(func(v int) { doneC <- fmt.Sprint("kept with ", v) })
		if err := p.Resolve(4); err != nil {
			t.Fatal(err)
		}
		if done, rest, err := gpool.Wait(background, gpool.AllCompleted, p.Future(), call); len(done) != 2 || rest != nil || err != nil {
			t.Errorf("%d have ended, %d have not, %v", len(done), len(rest), err)
		}
		if s := <-doneC; s != "kept with 4" {
			t.Error(s)
		}
	})
}
