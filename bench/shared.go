package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"gpool"
)

// things is one of each kind of shared object.
type things struct {
	Lock    gpool.Lock
	RLock   gpool.RLock
	Sem     gpool.Semaphore
	Event   gpool.Event
	Queue   gpool.Queue[int]
	Dict    gpool.Dict[string, int]
	List    gpool.List[int]
	Barrier gpool.Barrier
	A, B    gpool.Conn
	Value   gpool.Value[int64]
	Array   gpool.Array[int64]
}

func newThings(h gpool.Hub) (t things, err error) {
	t = things{
		Lock: gpool.NewLock(h), RLock: gpool.NewRLock(h), Sem: gpool.NewSemaphore(h, 1), Event: gpool.NewEvent(h),
		Queue: gpool.NewQueue[int](h, 0), Dict: gpool.NewDict[string, int](h), List: gpool.NewList[int](h), Barrier: gpool.NewBarrier(h, 1),
	}
	t.A, t.B = gpool.Pipe(h)
	var failed error
	t.Value, err = gpool.NewValue[int64](h, 0)
	t.Array, failed = gpool.NewArray[int64](h, 1<<16)
	return t, errors.Join(err, failed)
}

// operations are what is measured, each as one step of a loop.
var operations = []struct {
	name string
	n    int
	do   func(ctx context.Context, t *things) error
}{
	{"Lock, Unlock", 10000, func(ctx context.Context, t *things) error { return errors.Join(t.Lock.Lock(ctx), t.Lock.Unlock()) }},
	{"RLock, Unlock", 20000, func(ctx context.Context, t *things) error {
		return errors.Join(t.RLock.Lock(ctx), t.RLock.Unlock(ctx))
	}},
	{"Semaphore: Acquire, Release", 20000, func(ctx context.Context, t *things) error { return errors.Join(t.Sem.Acquire(ctx), t.Sem.Release()) }},
	{"Event: Set", 20000, func(_ context.Context, t *things) error { return t.Event.Set() }},
	{"Barrier of one: Wait", 20000, func(ctx context.Context, t *things) error { _, err := t.Barrier.Wait(ctx); return err }},
	{"Queue: Put, Get", 20000, func(ctx context.Context, t *things) error {
		err := t.Queue.Put(ctx, 1)
		_, err2 := t.Queue.Get(ctx)
		return errors.Join(err, err2)
	}},
	{"Pipe: Send, Receive", 20000, func(ctx context.Context, t *things) error {
		err := t.A.Send(ctx, 1)
		_, err2 := gpool.Receive[int](ctx, t.B)
		return errors.Join(err, err2)
	}},
	{"Dict: Set", 20000, func(_ context.Context, t *things) error { return t.Dict.Set("key", 1) }},
	{"Dict: Get", 20000, func(_ context.Context, t *things) error { _, _, err := t.Dict.Get("key"); return err }},
	{"Dict: Incr", 20000, func(_ context.Context, t *things) error { _, err := t.Dict.Incr("key", 1); return err }},
	{"List: Append", 20000, func(_ context.Context, t *things) error { _, err := t.List.Append(1); return err }},
	{"Value: Add", 5000000, func(_ context.Context, t *things) error { _, err := t.Value.Add(1); return err }},
	{"Value: Load", 5000000, func(_ context.Context, t *things) error { _, err := t.Value.Load(); return err }},
	{"Array: Set", 5000000, func(_ context.Context, t *things) error { return t.Array.Set(7, 1) }},
}

// measureOne runs an operation n times and returns the nanoseconds of one.
func measureOne(ctx context.Context, which, n int, t things) (float64, error) {
	op := operations[which]
	from := time.Now()
	for range n {
		if err := op.do(ctx, &t); err != nil {
			return 0, fmt.Errorf("%s: %w", op.name, err)
		}
	}
	return float64(time.Since(from)) / float64(n), nil
}

var (
	measureThere = gpool.Register3("measure", measureOne)
	produceItems = gpool.Register3("produce", func(ctx context.Context, q gpool.Queue[int], n, batch int) (int, error) {
		items := make([]int, batch)
		for range n / batch {
			if _, err := q.PutAll(ctx, items...); err != nil {
				return 0, err
			}
		}
		return n, q.Close()
	})
	consumeItems = gpool.Register3("consume", func(ctx context.Context, q gpool.Queue[int], n, batch int) (float64, error) {
		if _, err := q.Get(ctx); err != nil { // both are there
			return 0, err
		}
		from := time.Now()
		got := 1
		for {
			items, err := q.GetUpTo(ctx, batch)
			if errors.Is(err, gpool.ErrClosed) {
				break
			}
			if err != nil {
				return 0, err
			}
			got += len(items)
		}
		if got != n {
			return 0, fmt.Errorf("%d items came of %d", got, n)
		}
		return float64(time.Since(from)) / float64(n), nil
	})
	holdAndDie = gpool.Register2("hold-and-die", func(ctx context.Context, l gpool.Lock, e gpool.Event) (int, error) {
		if err := errors.Join(l.Lock(ctx), e.Set()); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, nil
	})
	hugeResult  = gpool.Register("huge", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })
	slowestLock = gpool.Register2("slowest-lock", func(ctx context.Context, l gpool.Lock, stop gpool.Value[int64]) ([]float64, error) {
		var times []float64
		for {
			from := time.Now()
			if err := errors.Join(l.Lock(ctx), l.Unlock()); err != nil {
				return nil, err
			}
			times = append(times, float64(time.Since(from)))
			if on, err := stop.Load(); on != 0 || err != nil {
				slices.Sort(times)
				return []float64{times[len(times)/2], times[len(times)*99/100], times[len(times)-1]}, err
			}
		}
	})
)

// shared measures what processes share: the cost of each operation, and the figures that it has to reach
// beside Python's.
func (b *bench) shared() error {
	ctx := context.Background()
	p, err := gpool.New(ctx, gpool.Workers(2))
	if err != nil {
		return err
	}
	defer p.Terminate()
	m, err := gpool.ListenManager("tcp:127.0.0.1:0", gpool.AuthKey())
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Printf("%-30s %14s %18s %16s\n", "nanoseconds for", "from a worker", "the hub's process", "manager by tcp")
	for i, op := range operations {
		var cells []string
		for _, from := range []struct {
			hub   gpool.Hub
			there bool
		}{{p, true}, {p, false}, {m, true}} {
			cells = append(cells, b.cell(ctx, p, from.hub, from.there, i))
		}
		fmt.Printf("%-30s %14s %18s %16s\n", op.name, cells[0], cells[1], cells[2])
	}
	fmt.Println()
	lock := thousand(func() (float64, error) { return b.operation(ctx, p, p, true, 0) })
	b.faster("a thousand locks and releases from a worker", lock, "Python's Manager lock", pythonShared("manager-lock", 5000), 0)
	b.faster("the same", lock, "Python's mp.Lock", pythonShared("lock", 200000), 0)
	b.faster("a thousand Dict.Set", thousand(func() (float64, error) { return b.operation(ctx, p, p, true, 7) }), "Python's Manager dict", pythonShared("manager-dict", 5000), 0)
	b.faster("a thousand Value.Add", thousand(func() (float64, error) { return b.operation(ctx, p, p, true, 11) }), "Python's locked +=", pythonShared("value", 200000), 0)
	for _, batch := range []int{1, 100} {
		n := 20000 * batch
		b.faster(fmt.Sprintf("a thousand items through a queue, %d at a time", batch), thousand(b.queue(ctx, p, n, batch)), "Python's mp.Queue", pythonShared("queue", 100000), 0)
	}
	return errors.Join(b.handedOn(ctx), b.besideHuge(ctx))
}

// operation measures one operation in a worker, or here.
func (b *bench) operation(ctx context.Context, p *gpool.Pool, h gpool.Hub, there bool, i int) (float64, error) {
	t, err := newThings(h)
	if err != nil && operations[i].name == "Array: Set" {
		return 0, err
	}
	n := operations[i].n
	if _, far := h.(*gpool.Manager); far {
		n = min(n, 5000)
	}
	if there {
		return gpool.Apply(ctx, p, measureThere, gpool.A3(i, n, t))
	}
	return measureOne(ctx, i, n, t)
}

// cell is the median of some measurements.
func (b *bench) cell(ctx context.Context, p *gpool.Pool, h gpool.Hub, there bool, i int) string {
	var list []float64
	for range *pairs {
		ns, err := b.operation(ctx, p, h, there, i)
		if errors.Is(err, gpool.ErrNoMemory) {
			return "-"
		}
		if err != nil {
			return err.Error()
		}
		list = append(list, ns)
	}
	slices.Sort(list)
	return strconv.FormatFloat(list[len(list)/2], 'f', 1, 64)
}

// thousand is what a thousand operations take, of a measurement of one in nanoseconds.
func thousand(of func() (float64, error)) measured {
	return func() (time.Duration, error) {
		ns, err := of()
		return time.Duration(1000 * ns), err
	}
}

// pythonShared runs the same in Python.
func pythonShared(what string, n int) measured {
	return thousand(func() (float64, error) {
		out, err := exec.Command("python3", source("shared.py"), what, strconv.Itoa(n)).Output()
		if err != nil {
			return 0, fmt.Errorf("python3 (Debian: apt-get install python3): %w", err)
		}
		return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	})
}

// queue moves items from one worker to the other.
func (b *bench) queue(ctx context.Context, p *gpool.Pool, n, batch int) func() (float64, error) {
	return func() (float64, error) {
		q := gpool.NewQueue[int](p, 10000)
		f := gpool.ApplyAsync(ctx, p, consumeItems, gpool.A3(q, n, batch))
		if _, err := gpool.Apply(ctx, p, produceItems, gpool.A3(q, n, batch)); err != nil {
			return 0, err
		}
		return f.Get(ctx)
	}
}

// handedOn kills workers that have a lock, and takes the time until somebody who waits has it.
func (b *bench) handedOn(ctx context.Context) error {
	p, err := gpool.New(ctx, gpool.Workers(1), gpool.RestartLimit(1000, time.Second))
	if err != nil {
		return err
	}
	defer p.Terminate()
	l, e := gpool.NewLock(p), gpool.NewEvent(p)
	var times []time.Duration
	for range 20 {
		if err := e.Clear(); err != nil {
			return err
		}
		f := gpool.ApplyAsync(ctx, p, holdAndDie, gpool.A2(l, e))
		if err := e.Wait(ctx); err != nil {
			return err
		}
		var killed time.Time
		var kill sync.WaitGroup
		kill.Go(func() {
			time.Sleep(time.Millisecond) // until Lock waits
			killed = time.Now()
			for _, w := range p.Stats().Workers {
				if w.State == "busy" {
					_ = syscall.Kill(w.Pid, syscall.SIGKILL)
				}
			}
		})
		err := l.Lock(ctx)
		had := time.Now()
		kill.Wait()
		if err != nil || !l.Abandoned() {
			return fmt.Errorf("the lock was not abandoned: %w", err)
		}
		times = append(times, had.Sub(killed))
		if err := l.Unlock(); err != nil {
			return err
		}
		_ = f.Wait(ctx)
	}
	slices.Sort(times)
	fmt.Printf("from the SIGKILL of a lock's holder until the next one has it: %v, at most %v (20 times)\n", times[10], times[19])
	return nil
}

// besideHuge takes locks from one worker while another one sends a huge result.
func (b *bench) besideHuge(ctx context.Context) error {
	const size = 500 << 20
	p, err := gpool.New(ctx, gpool.Workers(2))
	if err != nil {
		return err
	}
	defer p.Terminate()
	for _, n := range []int{0, size} {
		stop, err := gpool.NewValue[int64](p, 0)
		if err != nil {
			return err
		}
		f := gpool.ApplyAsync(ctx, p, slowestLock, gpool.A2(gpool.NewLock(p), stop))
		from := time.Now()
		if n > 0 {
			b, err := gpool.Apply(ctx, p, hugeResult, n)
			if err != nil || len(b) != n {
				return fmt.Errorf("the result has %d bytes: %w", len(b), err)
			}
		} else {
			time.Sleep(time.Second)
		}
		took := time.Since(from)
		if err := stop.Store(1); err != nil {
			return err
		}
		times, err := f.Get(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("locks beside a result of %d MiB (%v): median %.0f µs, 99%% within %.0f µs, the slowest %.0f µs\n",
			n>>20, took.Round(time.Millisecond), times[0]/1e3, times[1]/1e3, times[2]/1e3)
	}
	return nil
}
