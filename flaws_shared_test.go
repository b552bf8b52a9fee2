package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gpool"
)

// The flaws F21 to F25 of Python's queues, locks, values and managers.

// order is handles in a struct, in a slice, in an argument.
type order struct {
	Queues []struct{ Q gpool.Queue[string] }
	Lock   *gpool.Lock
	Count  map[string]gpool.Value[int]
	Log    gpool.List[string]
	Dict   gpool.Dict[string, int]
	N      int
}

var (
	putMuch = gpool.Register("put-much", func(ctx context.Context, o order) (struct{}, error) {
		megabyte := strings.Repeat("x", 1<<20)
		for range o.N {
			if err := o.Queues[0].Q.Put(ctx, megabyte); err != nil {
				return struct{}{}, err
			}
		}
		gpool.Exit(0)
		return struct{}{}, nil
	})
	dieWithTheLock = gpool.Register("die-with-the-lock", func(ctx context.Context, o order) (struct{}, error) {
		if err := o.Lock.Lock(ctx); err != nil {
			return struct{}{}, err
		}
		_, err := o.Log.Append("half do")
		if err == nil {
			err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		<-ctx.Done()
		return struct{}{}, err
	})
	countUp = gpool.Register("count-up", func(_ context.Context, o order) (struct{}, error) {
		for range o.N {
			if _, err := o.Count["n"].Add(1); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	incrTogether = gpool.Register("incr-together", func(_ context.Context, o order) (struct{}, error) {
		errs := make([]error, 8)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				for j := range o.N {
					_, err := o.Dict.Incr(fmt.Sprint("key ", j%3), 1)
					errs[i] = errors.Join(errs[i], err)
				}
			})
		}
		all.Wait()
		return struct{}{}, errors.Join(errs...)
	})
)

func TestF21AQueueIsReadAfterItsProducerHasEnded(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(1))
	q := gpool.NewQueue[string](p, 0)
	producer := gpool.NewProcess(putMuch, order{Queues: []struct{ Q gpool.Queue[string] }{{q}}, N: 10})
	b.ok(producer.Start())
	b.ok(producer.Join(t.Context())) // before anything was read
	p.Close()
	b.ok(p.Join(t.Context()), q.Close())
	bytes := 0
	for s, err := range q.All(t.Context()) {
		b.ok(err)
		bytes += len(s)
	}
	b.equal(bytes, 10<<20)
}

func TestF22ALockOfADeadProcessIsHandedOn(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(2), gpool.RestartLimit(10, time.Second))
	lock := gpool.NewLock(p)
	o := order{Lock: &lock, Log: gpool.NewList[string](p)}
	var died *gpool.WorkerDiedError
	f := gpool.ApplyAsync(t.Context(), p, dieWithTheLock, o)
	b.ok(eventually(func() error {
		if n, err := o.Log.Len(); n == 0 || err != nil {
			return fmt.Errorf("it is not in there yet: %v", err)
		}
		return nil
	}))
	began := time.Now()
	b.ok(lock.Lock(t.Context()))
	t.Logf("the lock was handed on after %v at most", time.Since(began)) // go run ./bench -only shared has it to the point
	b.equal(lock.Abandoned(), true)
	if _, err := f.Get(t.Context()); !errors.As(err, &died) {
		t.Errorf("got error %v", err)
	}
	b.ok(lock.Unlock(), lock.Lock(t.Context()))
	b.equal(lock.Abandoned(), false) // it is told once
	b.ok(lock.Unlock())

	f = gpool.ApplyAsync(t.Context(), p, dieWithTheLock, o)
	b.is(f.Wait(t.Context()), nil)
	b.is(lock.LockStrict(t.Context()), gpool.ErrAbandoned)
	b.equal(value[bool](b)(lock.Locked()), false)
}

func TestF23HandlesAreValues(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(2))
	q := gpool.NewQueue[gpool.Queue[string]](p, 0) // in another one, too
	inner := gpool.NewQueue[string](p, 0)
	b.ok(q.Put(t.Context(), inner))
	arrived := value[gpool.Queue[string]](b)(q.Get(t.Context()))
	b.equal(arrived.Name(), inner.Name())
	n := value[gpool.Value[int]](b)(gpool.NewValue(p, 0))
	_, err := gpool.Map(t.Context(), p, countUp, []order{{Count: map[string]gpool.Value[int]{"n": n}, N: 5}, {Count: map[string]gpool.Value[int]{"n": n}, N: 6}})
	b.ok(err)
	b.equal(value[int](b)(n.Load()), 11)
	var none gpool.Lock
	b.is(none.Lock(t.Context()), gpool.ErrNoHandle)
	if err := none.UnmarshalBinary([]byte("queue unix:/x y 0")); err == nil {
		t.Error("a queue was taken for a lock")
	}
}

func TestF24AddIsAtomic(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(4))
	n := value[gpool.Value[int]](b)(gpool.NewValue(p, 0))
	o := order{Count: map[string]gpool.Value[int]{"n": n}, N: 20000}
	_, err := gpool.Map(t.Context(), p, countUp, []order{o, o, o, o}, gpool.Chunk(1))
	b.ok(err)
	b.equal(value[int](b)(n.Load()), 80000)
}

func TestF25ADictOfManyProcessesAndGoroutines(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(4))
	o := order{Dict: gpool.NewDict[string, int](p), N: 30}
	_, err := gpool.Map(t.Context(), p, incrTogether, []order{o, o, o, o}, gpool.Chunk(1))
	b.ok(err)
	counts, err := o.Dict.Map()
	b.ok(err)
	b.equal(counts, map[string]int{"key 0": 320, "key 1": 320, "key 2": 320})
}
