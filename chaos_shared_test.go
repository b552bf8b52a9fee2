package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"gpool"
)

// chaos is what the workers of TestSharedStateUnderChaos share.
type chaos struct {
	Lock    gpool.Lock
	Inside  gpool.Value[int] // how many have the lock
	Pair    gpool.Dict[string, int]
	Work    gpool.Queue[string] // joinable
	Put     gpool.List[string]  // what Put has accepted
	Taken   gpool.List[string]  // what was taken, before it is done
	Barrier gpool.Barrier
	Sem     gpool.Semaphore
	Faults  gpool.List[string]
}

// stir does everything for a while. It is killed in the middle of it.
var stir = gpool.Register2("stir", func(ctx context.Context, c chaos, d time.Duration) (int, error) {
	rounds := 0
	for end := time.Now().Add(d); time.Now().Before(end); rounds++ {
		if err := errors.Join(c.underLock(ctx), c.produce(ctx, rounds), c.consume(ctx), c.pass(ctx)); err != nil {
			return rounds, err
		}
	}
	return rounds, nil
})

// underLock changes two numbers that must stay equal, and mends what a victim has left.
func (c *chaos) underLock(ctx context.Context) error {
	if err := c.Lock.Lock(ctx); err != nil {
		return err
	}
	if c.Lock.Abandoned() {
		a, _, err := c.Pair.Get("a")
		if err := errors.Join(err, c.Inside.Store(0), c.Pair.Set("b", a)); err != nil {
			return err
		}
	}
	n, err := c.Inside.Add(1)
	if n != 1 {
		_, err := c.Faults.Append(fmt.Sprintf("%d processes have the lock", n))
		if err != nil {
			return err
		}
	}
	a, err2 := c.Pair.Incr("a", 1)
	b, err3 := c.Pair.Incr("b", 1)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	if a != b {
		_, err = c.Faults.Append(fmt.Sprintf("a is %d and b is %d", a, b))
	}
	_, err2 = c.Inside.Add(-1)
	return errors.Join(err, err2, c.Lock.Unlock())
}

func (c *chaos) produce(ctx context.Context, n int) error {
	item := fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixNano(), n)
	err := c.Work.Put(ctx, item)
	_, err2 := c.Put.Append(item)
	return errors.Join(err, err2)
}

func (c *chaos) consume(ctx context.Context) error {
	item, err := c.Work.TryGet()
	if errors.Is(err, gpool.ErrEmpty) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.Taken.Append(item)
	return errors.Join(err, c.Work.Done(), c.Sem.With(ctx, func() error { return nil }))
}

// pass waits for another one, which may be killed meanwhile.
func (c *chaos) pass(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := c.Barrier.Wait(limit)
	switch {
	case errors.Is(err, gpool.ErrBarrierBroken), errors.Is(err, context.DeadlineExceeded):
		return c.Barrier.Reset()
	}
	return err
}

// TestSharedStateUnderChaos kills a worker every 100 ms. GPOOL_CHAOS=1m lets it go on for as long.
func TestSharedStateUnderChaos(t *testing.T) {
	length := 2 * time.Second
	if d, err := time.ParseDuration(os.Getenv("GPOOL_CHAOS")); err == nil {
		length = d
	}
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(8), gpool.RestartLimit(1000000, time.Second))
	c := chaos{
		Lock: gpool.NewLock(p), Inside: value[gpool.Value[int]](b)(gpool.NewValue(p, 0)), Pair: gpool.NewDict[string, int](p),
		Work: gpool.NewJoinableQueue[string](p, 100), Put: gpool.NewList[string](p), Taken: gpool.NewList[string](p),
		Barrier: gpool.NewBarrier(p, 2), Sem: gpool.NewSemaphore(p, 2), Faults: gpool.NewList[string](p),
	}
	end := time.Now().Add(length)
	var stirring sync.WaitGroup
	rounds, errs := make([]int, 8), make([]error, 8)
	for i := range 8 {
		stirring.Go(func() {
			for time.Now().Before(end) {
				n, err := gpool.Apply(t.Context(), p, stir, gpool.A2(c, 300*time.Millisecond))
				if _, died := errors.AsType[*gpool.WorkerDiedError](err); !died {
					errs[i] = errors.Join(errs[i], err)
				}
				rounds[i] += n
			}
		})
	}
	kills := 0
	for time.Now().Before(end) {
		time.Sleep(100 * time.Millisecond)
		if workers := p.Stats().Workers; len(workers) > 0 {
			if w := workers[rand.IntN(len(workers))]; w.Pid > 0 && syscall.Kill(w.Pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
	}
	stirring.Wait()
	b.ok(errs...)
	c.check(b, kills)
	sum := 0
	for _, n := range rounds {
		sum += n
	}
	t.Logf("%d kills, %d rounds of calls that have ended", kills, sum)
	if kills < int(length/time.Second) || sum == 0 {
		t.Errorf("%d kills in %v, and %d rounds", kills, length, sum)
	}
}

// check looks at what is left.
func (c *chaos) check(b *backend, kills int) {
	b.equal(value[[]string](b)(c.Faults.Elements()), []string{})
	// What a victim has got and not done has come back: all is there, or was taken.
	b.ok(c.Work.Close())
	taken := map[string]int{}
	for _, item := range value[[]string](b)(c.Taken.Elements()) {
		taken[item]++
	}
	for item, err := range c.Work.All(b.Context()) {
		b.ok(err, c.Work.Done())
		taken[item]++
	}
	b.ok(c.Work.Join(b.Context()))
	put := value[[]string](b)(c.Put.Elements())
	for _, item := range put {
		if taken[item] == 0 {
			b.Errorf("the item %s was accepted and is lost", item)
		}
	}
	twice := 0
	for _, n := range taken {
		twice += n - 1
	}
	b.Logf("%d items were accepted, and delivered %d times more, by victims that had not said Done", len(put), twice)
	if twice > kills || len(put) == 0 {
		b.Errorf("%d items were delivered twice, and %d workers were killed", twice, kills)
	}
	// The lock and the semaphore are free, and the numbers add up.
	b.ok(c.underLock(b.Context()))
	free, err := c.Sem.Value()
	b.ok(err)
	b.equal(free, 2)
	pair, err := c.Pair.Map()
	b.ok(err)
	b.equal(pair["a"], pair["b"])
	n, _, err := c.Barrier.Waiting()
	b.ok(err)
	b.equal(n, 0)
	b.equal(value[[]string](b)(c.Faults.Elements()), []string{})
}
