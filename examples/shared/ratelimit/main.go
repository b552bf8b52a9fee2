// Ratelimit keeps to a number of requests a second, whichever of its workers makes them. The
// requests that may be made are the units of a semaphore: a worker takes one, and does not give it
// back; the parent puts a new one in at each tick. It is bounded, so what nobody has used
// does not pile up, and after a pause there is no rush.
//
//	go run ./examples/shared/ratelimit
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gpool"
)

// limit is all that the workers share, in one argument: handles are plain values.
type limit struct {
	Units    gpool.Semaphore
	Allowed  gpool.Value[int] // units that there ever were
	Requests gpool.Value[int] // that were made
}

const (
	burst = 3                     // requests that may come at once
	every = 10 * time.Millisecond // another one
	pages = 20
)

var request = gpool.Register2("request", func(ctx context.Context, l limit, page int) (string, error) {
	if err := l.Units.Acquire(ctx); err != nil { // first come, first served, over all workers
		return "", err
	}
	made, err := l.Requests.Add(1)
	if err != nil {
		return "", err
	}
	allowed, err := l.Allowed.Load()
	if err == nil && made > allowed {
		err = fmt.Errorf("it was request %d, and %d were allowed", made, allowed)
	}
	return fmt.Sprintf("page %d", page), err // here it would be fetched
})

func main() { gpool.Main(run) }

func run() int {
	if err := fetchAll(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimit:", err)
		return 1
	}
	return 0
}

func fetchAll(ctx context.Context) error {
	pool, err := gpool.New(ctx, gpool.Workers(4))
	if err != nil {
		return err
	}
	defer pool.Terminate()

	l := limit{Units: gpool.NewBoundedSemaphore(pool, burst)}
	l.Allowed, err = gpool.NewValue(pool, burst)
	if err != nil {
		return err
	}
	l.Requests, err = gpool.NewValue(pool, 0)
	if err != nil {
		return err
	}
	var calls []gpool.Args2[limit, int]
	for page := range pages {
		calls = append(calls, gpool.A2(l, page+1))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failedC := make(chan error, 1)
	go func() {
		failedC <- l.tick(ctx)
		stop() // without new units the calls would wait for ever
	}()
	results, err := gpool.Map(ctx, pool, request, calls, gpool.Chunk(1))
	stop()
	if err := errors.Join(<-failedC, err); err != nil {
		return err
	}
	fmt.Printf("%d pages, the last is %q; no request was made before it was allowed\n", len(results), results[len(results)-1])
	return nil
}

// tick adds a unit now and then until ctx ends. A release that the semaphore has no room for is
// the unit that nobody wanted in time.
func (l limit) tick(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := l.Allowed.Add(1); err != nil {
			return err
		}
		err := l.Units.Release()
		if errors.Is(err, gpool.ErrOverflow) {
			_, err = l.Allowed.Add(-1)
		}
		if err != nil {
			return err
		}
	}
}
