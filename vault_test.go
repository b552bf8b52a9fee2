package gpool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"time"
)

// TestVaultIsEmptied uses a ThreadPool in all the ways in which a value may come to lie
// in its vault, and then looks whether one is left. Whoever forgets one forgets memory.
func TestVaultIsEmptied(t *testing.T) {
	p, err := NewThreadPool(context.Background(), Workers(2), Grace(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	double := Fn(func(_ context.Context, x int) (int, error) { return 2 * x, nil })
	heeds := Fn(func(ctx context.Context, x int) (int, error) {
		<-ctx.Done()
		return x, fmt.Errorf("it ended: %w", ctx.Err())
	})
	letC := make(chan struct{})
	stubborn := Fn(func(_ context.Context, x int) (int, error) {
		<-letC
		return x, nil
	})
	fails := Fn(func(context.Context, int) (int, error) { return 0, errors.New("no") })
	panics := Fn(func(context.Context, int) (int, error) { panic("no") })
	exits := Fn(func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
	items := make([]int, 100)
	endless := func(yield func(int) bool) {
		for yield(1) {
		}
	}

	for range 20 {
		for _, task := range []*Task[int, int]{double, fails, panics, exits} {
			_, _ = Apply(ctx, p, task, 1)
			_, _ = Map(ctx, p, task, items)
			_, _ = Map(ctx, p, task, items, FailFast())
			for range IMap(ctx, p, task, items, Window(7)) {
				break
			}
			n := 0
			for range IMapUnordered(ctx, p, task, endless, Chunk(3)) {
				if n++; n == 10 {
					break
				}
			}
			ApplyAsync(ctx, p, task, 1).Cancel()
			MapAsync(ctx, p, task, items).Cancel()
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		f := ApplyAsync(short, p, heeds, 1)
		_, _ = Map(short, p, heeds, items)
		for range IMap(short, p, heeds, items) {
		}
		_ = f.Err(ctx)
		cancel()
		_, _ = Apply(ctx, p, heeds, 1, SoftLimit(time.Millisecond))
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	_, _ = Map(short, p, stubborn, items[:2])
	cancel()
	time.Sleep(50 * time.Millisecond) // beyond the grace: their workers are given up
	close(letC)
	if y, err := Apply(ctx, p, double, 3); y != 6 || err != nil { // by new ones
		t.Errorf("%d, %v", y, err)
	}

	v := p.engine.vault
	var left []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		v.mu.Lock()
		left = nil
		for _, place := range v.places {
			if place.value != nil {
				left = append(left, fmt.Sprint(reflect.TypeOf(place.value)))
			}
		}
		v.mu.Unlock()
		if left == nil {
			break
		}
	}
	if left != nil {
		t.Errorf("%d values are left in the vault: %v", len(left), left[:min(len(left), 20)])
	}
	p.Close()
	if err := p.Join(ctx); err != nil {
		t.Error(err)
	}
}
