package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gpool"
)

// Areas B, C, D, F and G of the conformance list: what CPython's tests assert of queues, locks, shared memory, managers
// and connections. Each row runs over three backends, as CPython's tests do: the hub of a pool, a manager behind a socket,
// and a hub in the process itself.

// kit is one of everything, as an argument.
type kit struct {
	Lock    gpool.Lock
	RLock   gpool.RLock
	Sem     gpool.Semaphore
	Bounded gpool.Semaphore
	Event   gpool.Event
	Go      gpool.Event
	Cond    gpool.Cond
	Barrier gpool.Barrier
	Queue   gpool.Queue[string]
	Small   gpool.Queue[any]
	Work    gpool.Queue[int]
	Dict    gpool.Dict[string, int]
	Lists   gpool.Dict[string, []int]
	List    gpool.List[string]
	Space   gpool.Namespace
	A, B    gpool.Conn
	R, W    gpool.Conn
}

func newKit(h gpool.Hub) kit {
	k := kit{
		Lock: gpool.NewLock(h), RLock: gpool.NewRLock(h), Sem: gpool.NewSemaphore(h, 2), Bounded: gpool.NewBoundedSemaphore(h, 2),
		Event: gpool.NewEvent(h), Go: gpool.NewEvent(h), Barrier: gpool.NewBarrier(h, 3),
		Queue: gpool.NewQueue[string](h, 0), Small: gpool.NewQueue[any](h, 1), Work: gpool.NewJoinableQueue[int](h, 0),
		Dict: gpool.NewDict[string, int](h), Lists: gpool.NewDict[string, []int](h), List: gpool.NewList[string](h), Space: gpool.NewNamespace(h),
	}
	k.Cond = gpool.NewCond(h, gpool.NewRLock(h))
	k.A, k.B = gpool.Pipe(h)
	k.R, k.W = gpool.OneWayPipe(h)
	return k
}

// there runs what a row does in another process.
var there = map[string]func(ctx context.Context, k *kit) (string, error){}

var runThere = gpool.Register2("run-there", func(ctx context.Context, what string, k kit) (string, error) {
	f := there[what]
	if f == nil {
		return "", fmt.Errorf("nothing is called %q", what)
	}
	return f(ctx, &k)
})

// backend is where a row runs.
type backend struct {
	*testing.T
	hub    gpool.Hub
	runner gpool.Runner
	k      kit
}

// there runs something in another process, which must not fail.
func (b *backend) there(what string) string {
	b.Helper()
	out, err := gpool.Apply(b.Context(), b.runner, runThere, gpool.A2(what, b.k))
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	return out
}

// started is there, without waiting.
func (b *backend) started(what string) *gpool.Future[string] {
	return gpool.ApplyAsync(b.Context(), b.runner, runThere, gpool.A2(what, b.k))
}

// ok fails the test if there is an error.
func (b *backend) ok(errs ...error) {
	b.Helper()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

// is fails the test if err is not of this kind.
func (b *backend) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got error %v, want %v", err, want)
	}
}

func (b *backend) equal(got, want any) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Fatalf("got %v, want %v", got, want)
	}
}

// soon is a context that ends in a moment.
func (b *backend) soon() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Millisecond)
	b.Cleanup(cancel)
	return ctx
}

// value unwraps what a method returns, or fails.
func value[T any](b *backend) func(T, error) T {
	return func(v T, err error) T {
		b.Helper()
		b.ok(err)
		return v
	}
}

func overBackends(t *testing.T, workers int, rows map[string]func(b *backend)) {
	t.Run("pool", func(t *testing.T) {
		p := newPool(t, gpool.Workers(workers))
		runRows(t, p, p, rows)
	})
	t.Run("manager", func(t *testing.T) {
		p := newPool(t, gpool.Workers(workers))
		key := gpool.AuthKey()
		m, err := gpool.ListenManager("tcp:127.0.0.1:0", key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		runRows(t, m, p, rows)
	})
	t.Run("threads", func(t *testing.T) {
		p := newThreads(t, gpool.Workers(workers))
		runRows(t, p, p, rows)
	})
}

func runRows(t *testing.T, h gpool.Hub, r gpool.Runner, rows map[string]func(b *backend)) {
	for _, name := range sortedKeys(rows) {
		t.Run(name, func(t *testing.T) { rows[name](&backend{T: t, hub: h, runner: r, k: newKit(h)}) })
	}
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func init() {
	there["take 4"] = func(ctx context.Context, k *kit) (string, error) {
		var items []string
		for range 4 {
			s, err := k.Queue.Get(ctx)
			if err != nil {
				return "", err
			}
			items = append(items, s)
		}
		return strings.Join(items, " "), nil
	}
	there["work until closed"] = func(ctx context.Context, k *kit) (string, error) {
		n := 0
		for _, err := range k.Work.All(ctx) {
			if err != nil {
				return "", err
			}
			n++
			if err := k.Work.Done(); err != nil {
				return "", err
			}
		}
		return strconv.Itoa(n), nil
	}
}

func TestConformanceQueues(t *testing.T) {
	overBackends(t, 4, map[string]func(b *backend){
		"B2_get": func(b *backend) {
			q := b.k.Queue
			_, err := q.TryGet()
			b.is(err, gpool.ErrEmpty)
			_, err = q.Get(b.soon())
			b.is(err, context.DeadlineExceeded)
			_, err = q.PutAll(b.Context(), "1", "2", "3")
			b.ok(err, q.TryPut("4"))
			b.equal(b.there("take 4"), "1 2 3 4")
			_, err = q.TryGet()
			b.is(err, gpool.ErrEmpty)
		},
		"B4_qsize": func(b *backend) {
			for i := range 3 {
				b.equal(value[int](b)(b.k.Queue.Len()), i)
				b.ok(b.k.Queue.Put(b.Context(), "x"))
			}
			value[string](b)(b.k.Queue.Get(b.Context()))
			b.equal(value[int](b)(b.k.Queue.Len()), 2)
		},
		"B5_task_done": func(b *backend) {
			var consumers []*gpool.Future[string]
			for range 4 {
				consumers = append(consumers, b.started("work until closed"))
			}
			for i := range 100 {
				b.ok(b.k.Work.Put(b.Context(), i))
			}
			b.ok(b.k.Work.Join(b.Context()))
			b.equal(value[int](b)(b.k.Work.Unfinished()), 0)
			b.ok(b.k.Work.Close())
			sum := 0
			for _, f := range consumers {
				n, _ := strconv.Atoi(value[string](b)(f.Get(b.Context())))
				sum += n
			}
			b.equal(sum, 100)
			b.is(b.k.Work.Done(), gpool.ErrOverflow)
		},
		"B6_timeout": func(b *backend) {
			ctx, cancel := context.WithTimeout(b.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := b.k.Queue.Get(ctx)
			b.is(err, context.DeadlineExceeded)
			if took := time.Since(began); took < 190*time.Millisecond {
				b.Errorf("it gave up after %v", took)
			}
		},
		"B7_B8_what_cannot_be_encoded": func(b *backend) {
			err := b.k.Small.Put(b.Context(), func() {})
			var encode *gpool.EncodeError
			if !errors.As(err, &encode) {
				b.Fatalf("got error %v", err)
			}
			b.ok(b.k.Small.TryPut("fits"))
			b.is(b.k.Small.TryPut("full"), gpool.ErrFull)
			b.is(b.k.Small.Put(b.soon(), "full"), context.DeadlineExceeded)
			b.equal(value[any](b)(b.k.Small.Get(b.Context())), any("fits"))
		},
		"B9_B10_B13_closed": func(b *backend) {
			q := b.k.Queue
			b.equal(value[int](b)(q.Len()), 0)
			b.ok(q.Put(b.Context(), "last"), q.Close(), q.Close())
			b.equal(value[int](b)(q.Len()), 1) // exact, also of a closed queue
			b.is(q.Put(b.Context(), "more"), gpool.ErrClosed)
			b.equal(value[string](b)(q.Get(b.Context())), "last")
			_, err := q.Get(b.Context())
			b.is(err, gpool.ErrClosed)
			_, err = q.TryGet()
			b.is(err, gpool.ErrClosed)
		},
	})
}

func init() {
	there["try the lock"] = func(_ context.Context, k *kit) (string, error) {
		got, err := k.Lock.TryLock()
		return strconv.FormatBool(got), err
	}
	there["unlock it"] = func(_ context.Context, k *kit) (string, error) { return "", k.Lock.Unlock() }
	there["try the rlock"] = func(ctx context.Context, k *kit) (string, error) {
		got, err := k.RLock.TryLock(ctx)
		return strconv.FormatBool(got), err
	}
	there["unlock the rlock"] = func(ctx context.Context, k *kit) (string, error) {
		return "", k.RLock.Unlock(ctx)
	}
	there["acquire and release"] = func(ctx context.Context, k *kit) (string, error) {
		return "", errors.Join(k.Sem.Acquire(ctx), k.Bounded.Acquire(ctx), k.RLock.Lock(ctx), k.RLock.Unlock(ctx))
	}
	// sleep waits once, and says what woke it.
	there["sleep"] = func(ctx context.Context, k *kit) (string, error) {
		if err := k.Cond.Lock(ctx); err != nil {
			return "", err
		}
		if err := k.Sem.Release(); err != nil { // who notifies counts the sleepers by it
			return "", err
		}
		return "woken", errors.Join(k.Cond.Wait(ctx), k.Cond.Unlock(ctx))
	}
	there["wait for 4"] = func(ctx context.Context, k *kit) (string, error) {
		n := 0
		err := k.Cond.Lock(ctx)
		if err == nil {
			err = k.Cond.WaitFor(ctx, func() bool { n, _, _ = k.Dict.Get("n"); return n >= 4 })
		}
		return strconv.Itoa(n), errors.Join(err, k.Cond.Unlock(ctx))
	}
	there["wait for the event"] = func(ctx context.Context, k *kit) (string, error) {
		return "", k.Event.Wait(ctx)
	}
	there["set the event"] = func(_ context.Context, k *kit) (string, error) { return "", k.Event.Set() }
	there["clear the event"] = func(_ context.Context, k *kit) (string, error) { return "", k.Event.Clear() }
	// pass passes the barrier ten times in lockstep, with an action that counts the rounds.
	there["pass"] = pass
	there["wait at the barrier"] = func(ctx context.Context, k *kit) (string, error) {
		n, err := k.Barrier.Wait(ctx)
		return strconv.Itoa(n), err
	}
	there["reset the barrier"] = func(_ context.Context, k *kit) (string, error) { return "", k.Barrier.Reset() }
}

func pass(ctx context.Context, k *kit) (string, error) {
	var seen []string
	for round := 1; round <= 10; round++ {
		n, err := k.Barrier.WaitThen(ctx, func() error {
			_, err := k.Dict.Incr("rounds", 1)
			return err
		})
		if err != nil {
			return "", err
		}
		if rounds, _, err := k.Dict.Get("rounds"); err != nil || rounds != round {
			return "", fmt.Errorf("in round %d the action has run %d times, %v", round, rounds, err)
		}
		if _, err := gpool.DictAppend(k.Lists, strconv.Itoa(round), n); err != nil {
			return "", err
		}
		seen = append(seen, strconv.Itoa(n))
		if _, err := k.Barrier.Wait(ctx); err != nil { // nobody begins the next round before all have looked
			return "", err
		}
	}
	return strings.Join(seen, " "), nil
}

// sleepers starts so many, and returns when all of them wait.
func (b *backend) sleepers(n int) []*gpool.Future[string] {
	var list []*gpool.Future[string]
	for range 2 {
		b.ok(b.k.Sem.Acquire(b.Context())) // down to 0
	}
	for range n {
		list = append(list, b.started("sleep"))
	}
	b.ok(b.k.Sem.AcquireN(b.Context(), n))
	return list
}

// woken waits until so many of them are.
func (b *backend) woken(list []*gpool.Future[string], n int) {
	b.Helper()
	b.ok(eventually(func() error {
		is := 0
		for _, f := range list {
			if f.Ready() {
				is++
			}
		}
		if is != n {
			return fmt.Errorf("%d are awake, and %d should be", is, n)
		}
		return nil
	}))
}

// notify notifies with the lock held.
func (b *backend) notify(n int) {
	ctx := gpool.WithOwner(b.Context())
	b.ok(b.k.Cond.Lock(ctx), b.k.Cond.Notify(ctx, n), b.k.Cond.Unlock(ctx))
}

func TestConformanceLocks(t *testing.T) {
	overBackends(t, 6, map[string]func(b *backend){
		"C1_lock": func(b *backend) {
			b.ok(b.k.Lock.Lock(b.Context()))
			b.equal(b.there("try the lock"), "false")
			b.is(b.k.Lock.Lock(b.soon()), context.DeadlineExceeded)
			b.ok(b.k.Lock.Unlock())
			b.is(b.k.Lock.Unlock(), gpool.ErrNotHeld)
			b.ok(b.k.Lock.Lock(b.Context()))
			b.there("unlock it") // any process may
			b.equal(value[bool](b)(b.k.Lock.TryLock()), true)
			b.equal(b.k.Lock.Abandoned(), false)
			b.ok(b.k.Lock.Unlock())
		},
		"C2_rlock": func(b *backend) {
			ctx := gpool.WithOwner(b.Context())
			b.ok(b.k.RLock.Lock(ctx), b.k.RLock.Lock(ctx), b.k.RLock.Lock(ctx))
			b.equal(b.there("try the rlock"), "false")
			b.equal(value[bool](b)(b.k.RLock.TryLock(gpool.WithOwner(ctx))), false)
			b.is(b.k.RLock.Unlock(gpool.WithOwner(ctx)), gpool.ErrNotOwner)
			if _, err := b.started("unlock the rlock").Get(b.Context()); err == nil || !strings.Contains(err.Error(), "lock") {
				b.Errorf("another process has unlocked it: %v", err)
			}
			b.ok(b.k.RLock.Unlock(ctx), b.k.RLock.Unlock(ctx))
			b.equal(b.there("try the rlock"), "false")
			b.ok(b.k.RLock.Unlock(ctx))
			b.is(b.k.RLock.Unlock(ctx), gpool.ErrNotHeld)
		},
		"C4_semaphore": func(b *backend) {
			for _, want := range []int{2, 1, 0} {
				b.equal(value[int](b)(b.k.Sem.Value()), want)
				b.equal(value[bool](b)(b.k.Sem.TryAcquire()), want > 0)
			}
			for _, want := range []int{1, 2, 3, 4} {
				b.ok(b.k.Sem.Release())
				b.equal(value[int](b)(b.k.Sem.Value()), want)
			}
		},
		"C5_bounded_semaphore": func(b *backend) {
			b.ok(b.k.Bounded.Acquire(b.Context()), b.k.Bounded.Release())
			b.is(b.k.Bounded.Release(), gpool.ErrOverflow)
			b.equal(value[int](b)(b.k.Bounded.Value()), 2)
		},
		"C7_C9_notify": func(b *backend) {
			list := b.sleepers(5)
			b.woken(list, 0)
			b.notify(1)
			b.woken(list, 1)
			b.notify(2)
			b.woken(list, 3)
			b.notify(4)
			b.woken(list, 5)
			b.notify(3) // nobody sleeps
			for _, f := range list {
				b.equal(value[string](b)(f.Get(b.Context())), "woken")
			}
		},
		"C10_timeout": func(b *backend) {
			ctx := gpool.WithOwner(b.Context())
			b.ok(b.k.Cond.Lock(ctx), b.k.Cond.Lock(ctx))
			limit, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			b.is(b.k.Cond.Wait(limit), context.DeadlineExceeded)
			b.ok(b.k.Cond.Unlock(ctx), b.k.Cond.Unlock(ctx)) // it has them back, both levels
			b.is(b.k.Cond.Unlock(ctx), gpool.ErrNotHeld)
			b.is(b.k.Cond.Wait(ctx), gpool.ErrNotHeld)
			b.is(b.k.Cond.NotifyAll(ctx), gpool.ErrNotHeld)
		},
		"C11_waitfor": func(b *backend) {
			f := b.started("wait for 4")
			ctx := gpool.WithOwner(b.Context())
			for range 4 {
				b.equal(f.Ready(), false)
				_, err := b.k.Dict.Incr("n", 1)
				b.ok(err, b.k.Cond.Lock(ctx), b.k.Cond.NotifyAll(ctx), b.k.Cond.Unlock(ctx))
			}
			b.equal(value[string](b)(f.Get(b.Context())), "4")
		},
		"C14_event": func(b *backend) {
			b.equal(value[bool](b)(b.k.Event.IsSet()), false)
			b.is(b.k.Event.Wait(b.soon()), context.DeadlineExceeded)
			f := b.started("wait for the event")
			b.ok(b.k.Event.Set(), b.k.Event.Wait(b.Context()))
			value[string](b)(f.Get(b.Context()))
			b.equal(value[bool](b)(b.k.Event.IsSet()), true)
			b.there("clear the event")
			b.equal(value[bool](b)(b.k.Event.IsSet()), false)
			b.there("set the event")
			b.ok(b.k.Event.Wait(b.Context()))
		},
		"C16_C17_C18_C19_barrier": func(b *backend) {
			others := []*gpool.Future[string]{b.started("pass"), b.started("pass")}
			_, err := pass(b.Context(), &b.k)
			b.ok(err)
			for _, f := range others {
				value[string](b)(f.Get(b.Context()))
			}
			for round := 1; round <= 10; round++ {
				parties, _, err := b.k.Lists.Get(strconv.Itoa(round))
				b.ok(err)
				slices.Sort(parties)
				b.equal(parties, []int{0, 1, 2})
			}
		},
		"C20_C22_abort": func(b *backend) {
			f := b.started("wait at the barrier")
			b.waiting(1)
			b.ok(b.k.Barrier.Abort())
			b.broken(f)
			_, err := b.k.Barrier.Wait(b.Context())
			b.is(err, gpool.ErrBarrierBroken)
			_, broken, err := b.k.Barrier.Waiting()
			b.ok(err)
			b.equal(broken, true)
			b.ok(b.k.Barrier.Reset())
			b.passes()
		},
		"C21_reset": func(b *backend) {
			f := b.started("wait at the barrier")
			b.waiting(1)
			b.there("reset the barrier")
			b.broken(f)
			b.passes()
		},
		"C24_default_timeout": func(b *backend) {
			bar := gpool.NewBarrier(b.hub, 2, gpool.BarrierTimeout(20*time.Millisecond))
			_, err := bar.Wait(b.Context())
			b.is(err, context.DeadlineExceeded)
			_, err = bar.Wait(b.Context())
			b.is(err, gpool.ErrBarrierBroken)
		},
	})
}

// waiting waits until so many parties do.
func (b *backend) waiting(n int) {
	b.Helper()
	b.ok(eventually(func() error {
		if is, _, err := b.k.Barrier.Waiting(); is != n || err != nil {
			return fmt.Errorf("%d wait at the barrier, %v", is, err)
		}
		return nil
	}))
}

// broken checks how a party ended elsewhere: its error has travelled.
func (b *backend) broken(f *gpool.Future[string]) {
	b.Helper()
	if _, err := f.Get(b.Context()); !errors.Is(err, gpool.ErrBarrierBroken) {
		b.Fatalf("got error %v", err)
	}
}

// passes passes the barrier, each number once.
func (b *backend) passes() {
	b.Helper()
	one, two := b.started("wait at the barrier"), b.started("wait at the barrier")
	n, err := b.k.Barrier.Wait(b.Context())
	b.ok(err)
	got := []string{strconv.Itoa(n), value[string](b)(one.Get(b.Context())), value[string](b)(two.Get(b.Context()))}
	slices.Sort(got)
	b.equal(got, []string{"0", "1", "2"})
}

// memoryKit has values and arrays, which are in memory that processes map.
type memoryKit struct {
	I16  gpool.Value[int16]
	I32  gpool.Value[int32]
	I64  gpool.Value[int64]
	F64  gpool.Value[float64]
	Byte gpool.Value[byte]
	Ints gpool.Array[int32]
	Bits gpool.Array[bool]
}

var changeNumbers = gpool.Register("change-memoryKit", func(ctx context.Context, n memoryKit) (int, error) {
	_, err := n.I16.Add(32767)
	errs := []error{err, n.I32.Store(-7), n.I64.Store(1 << 40), n.F64.Store(2.5), n.Byte.Store(255)}
	errs = append(errs, n.Ints.View(func(s []int32) { // prefix sums, in place
		for i := 1; i < len(s); i++ {
			s[i] += s[i-1]
		}
	}), n.Bits.Set(3, true))
	lock := n.Ints.Lock()
	errs = append(errs, lock.Lock(ctx), lock.Unlock(ctx))
	return n.Ints.Len(), errors.Join(errs...)
})

func newNumbers(b *backend) memoryKit {
	h := b.hub
	n := memoryKit{
		I16: value[gpool.Value[int16]](b)(gpool.NewValue[int16](h, 1)), I32: value[gpool.Value[int32]](b)(gpool.NewValue[int32](h, 0)),
		I64: value[gpool.Value[int64]](b)(gpool.NewValue[int64](h, 0)), F64: value[gpool.Value[float64]](b)(gpool.NewValue(h, 0.5)),
		Byte: value[gpool.Value[byte]](b)(gpool.NewValue[byte](h, 0)),
	}
	if _, err := gpool.NewArray[int32](h, 10); err == nil {
		n.Ints = value[gpool.Array[int32]](b)(gpool.NewArray[int32](h, 10))
		n.Bits = value[gpool.Array[bool]](b)(gpool.NewArray[bool](h, 10))
	}
	return n
}

var makeArray = gpool.Register("make-array", func(ctx context.Context, n int) (gpool.Array[int64], error) {
	a, err := gpool.NewArray[int64](gpool.HubOf(ctx), n)
	if err != nil {
		return a, err
	}
	return a, a.Set(n-1, 42)
})

var readFreed = gpool.Register2("read-freed", func(_ context.Context, handle []byte, _ int) (string, error) {
	var a gpool.Array[int64]
	if err := a.UnmarshalBinary(handle); err != nil {
		return "", err
	}
	_, err := a.At(0)
	return fmt.Sprint(errors.Is(err, gpool.ErrStaleHandle)), nil
})

func TestConformanceSharedMemory(t *testing.T) {
	rows := map[string]func(b *backend){
		"D1_D2_D4_D17_values_and_arrays": func(b *backend) {
			n := newNumbers(b)
			want := make([]int32, 10)
			b.ok(n.Ints.View(func(s []int32) {
				for i := range s {
					b.equal(s[i], int32(0))
					s[i] = int32(i)
					want[i] = int32(i * (i + 1) / 2)
				}
			}))
			count, err := gpool.Apply(b.Context(), b.runner, changeNumbers, n)
			b.ok(err)
			b.equal(count, 10)
			b.equal(value[int16](b)(n.I16.Load()), int16(-32768)) // it wraps, as in C
			b.equal(value[int32](b)(n.I32.Load()), int32(-7))
			b.equal(value[int64](b)(n.I64.Load()), int64(1<<40))
			b.equal(value[float64](b)(n.F64.Load()), 2.5)
			b.equal(value[byte](b)(n.Byte.Load()), byte(255))
			b.ok(n.Ints.View(func(s []int32) { b.equal(slices.Clone(s), want) }))
			b.equal(value[bool](b)(n.Bits.At(3)), true)
		},
		"D3_D7_locks": func(b *backend) {
			own := gpool.NewRLock(b.hub)
			v := value[gpool.Value[int]](b)(gpool.NewValue(b.hub, 1, gpool.WithLock(own)))
			b.equal(v.Lock().Name(), own.Name())
			a := value[gpool.Array[int]](b)(gpool.NewArray[int](b.hub, 1))
			other := value[gpool.Array[int]](b)(gpool.NewArray[int](b.hub, 1))
			b.equal(a.Lock().Name(), a.Lock().Name())
			b.equal(a.Lock().Name() != other.Lock().Name(), true)
			ctx := gpool.WithOwner(b.Context())
			b.ok(v.Lock().Lock(ctx), own.Unlock(ctx), a.Lock().Lock(ctx), a.Lock().Unlock(ctx))
		},
		"D12_copy": func(b *backend) {
			a := value[gpool.Array[int]](b)(gpool.NewArray[int](b.hub, 3))
			b.ok(a.Set(1, 5))
			c := value[gpool.Array[int]](b)(a.Clone())
			b.ok(a.Set(1, 6))
			b.equal(value[int](b)(c.At(1)), 5)
		},
		"D14_sizes": func(b *backend) {
			for _, n := range []int{0, -1, 1 << 60} {
				if _, err := gpool.NewArray[int64](b.hub, n); err == nil {
					b.Errorf("an array of %d was made", n)
				}
			}
			a := value[gpool.Array[int]](b)(gpool.NewArray[int](b.hub, 3))
			_, err := a.At(3)
			b.equal(err != nil, true)
			b.equal(a.Set(-1, 0) != nil, true)
		},
		"D17_made_by_a_task": func(b *backend) {
			a, err := gpool.Apply(b.Context(), b.runner, makeArray, 100000)
			b.ok(err)
			b.equal(value[int64](b)(a.At(99999)), int64(42))
		},
		"D18_a_handle_of_what_was_freed": func(b *backend) {
			a := value[gpool.Array[int64]](b)(gpool.NewArray[int64](b.hub, 3))
			handle, err := a.MarshalBinary()
			b.ok(err, a.Drop())
			b.equal(value[string](b)(gpool.Apply(b.Context(), b.runner, readFreed, gpool.A2(handle, 0))), "true")
		},
	}
	t.Run("pool", func(t *testing.T) {
		p := newPool(t, gpool.Workers(2))
		runRows(t, p, p, rows)
	})
	t.Run("threads", func(t *testing.T) {
		p := newThreads(t, gpool.Workers(2))
		runRows(t, p, p, rows)
	})
	t.Run("unix", func(t *testing.T) { // a manager on this machine passes its memory on
		p := newPool(t, gpool.Workers(2))
		m, err := gpool.ListenManager("unix:"+filepath.Join(t.TempDir(), "m"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		delete(rows, "D17_made_by_a_task") // which makes it in the pool
		runRows(t, m, p, rows)
	})
}

func init() {
	there["nest"] = func(_ context.Context, k *kit) (string, error) {
		if err := k.Space.Set("x", 10); err != nil {
			return "", err
		}
		return k.Space.String(), k.Dict.Set("there", 2)
	}
}

// dictOfDicts has handles within shared objects.
type dictOfDicts = gpool.Dict[string, gpool.Dict[string, int]]

var writeNested = gpool.Register2("write-nested", func(ctx context.Context, d dictOfDicts, queues gpool.List[gpool.Queue[int]]) (int, error) {
	inner, ok, err := d.Get("inner")
	if err != nil || !ok {
		return 0, fmt.Errorf("%v %w", ok, err)
	}
	q, err := queues.Get(-1)
	if err != nil {
		return 0, err
	}
	if n, err := q.Len(); n != 0 || err != nil {
		return 0, fmt.Errorf("the queue has %d items, %w", n, err)
	}
	return inner.Incr("n", 5)
})

func TestConformanceManager(t *testing.T) {
	overBackends(t, 2, map[string]func(b *backend){
		"F5_iteration_is_a_snapshot": func(b *backend) {
			b.ok(b.k.Dict.Set("a", 1), b.k.Dict.Set("b", 2), b.k.Dict.Set("c", 3))
			items, err := b.k.Dict.Items()
			b.ok(err)
			var keys []string
			for _, item := range items {
				keys = append(keys, item.Key)
				b.ok(b.k.Dict.Clear())
			}
			b.equal(keys, []string{"a", "b", "c"})
			b.equal(value[int](b)(b.k.Dict.Len()), 0)
		},
		"F6_F7_nested": func(b *backend) {
			outer := gpool.NewDict[string, gpool.Dict[string, int]](b.hub)
			queues := gpool.NewList[gpool.Queue[int]](b.hub)
			func() {
				inner := gpool.NewDict[string, int](b.hub)
				b.ok(inner.Set("n", 1), outer.Set("inner", inner))
				_, err := queues.Append(gpool.NewQueue[int](b.hub, 0))
				b.ok(err)
			}()
			sum, err := gpool.Apply(b.Context(), b.runner, writeNested, gpool.A2(outer, queues))
			b.ok(err)
			b.equal(sum, 6)
			inner, ok, err := outer.Get("inner")
			b.ok(err)
			b.equal(ok, true)
			n, _, err := inner.Get("n")
			b.ok(err)
			b.equal(n, 6)
			q := value[gpool.Queue[int]](b)(queues.Get(0))
			b.ok(q.Put(b.Context(), 3))
			again := value[gpool.Queue[int]](b)(queues.Get(0))
			b.equal(value[int](b)(again.TryGet()), 3)
		},
		"F8_F29_namespace": func(b *backend) {
			b.ok(b.k.Space.Set("name", "x"))
			b.there("nest")
			n, ok, err := gpool.NamespaceGet[int](b.k.Space, "x")
			b.ok(err)
			b.equal([]any{n, ok}, []any{10, true})
			b.equal(b.k.Space.String(), `Namespace(name="x", x=10)`)
			b.equal(value[bool](b)(b.k.Space.Delete("x")), true)
			b.equal(value[bool](b)(b.k.Space.Delete("x")), false)
			_, ok, err = gpool.NamespaceGet[int](b.k.Space, "x")
			b.ok(err)
			b.equal(ok, false)
		},
		"F15_F17_F18_F19_types": func(b *backend) {
			b.ok(b.k.Event.Set())
			b.there("clear the event")
			b.equal(value[bool](b)(b.k.Event.IsSet()), false)
			b.there("acquire and release")
			b.equal(value[int](b)(b.k.Sem.Value()), 1)
			b.ok(b.k.Sem.Release(), b.k.Bounded.Release())
			b.equal(b.k.Barrier.Parties(), 3)
		},
		"F27_value": func(b *backend) {
			v := value[gpool.Value[int]](b)(gpool.NewValue(b.hub, 1))
			sum, err := gpool.Apply(b.Context(), b.runner, addMany, addOrder{v, 1000})
			b.ok(err)
			b.equal(sum, 1001)
			b.equal(value[int](b)(v.Update(func(n int) int { return n * 2 })), 2002)
			b.equal(value[bool](b)(v.CompareAndSwap(2002, 5)), true)
			b.equal(value[bool](b)(v.CompareAndSwap(2002, 5)), false)
			b.ok(v.Store(7))
			b.equal(value[int](b)(v.Load()), 7)
		},
		"dict_and_list": func(b *backend) {
			d, l := b.k.Dict, b.k.List
			now, set, err := d.SetDefault("k", 3)
			b.ok(err)
			b.equal([]any{now, set}, []any{3, true})
			now, set, err = d.SetDefault("k", 4)
			b.ok(err)
			b.equal([]any{now, set}, []any{3, false})
			b.equal(value[bool](b)(d.CompareAndSwap("k", 3, 5)), true)
			n, ok, err := d.Pop("k")
			b.ok(err)
			b.equal([]any{n, ok}, []any{5, true})
			b.equal(value[bool](b)(d.Delete("k")), false)
			b.ok(d.Update(map[string]int{"x": 1}))
			item, ok, err := d.PopItem()
			b.ok(err)
			b.equal([]any{item, ok}, []any{gpool.Item[string, int]{Key: "x", Value: 1}, true})
			b.equal(value[int](b)(l.Append("a", "b", "c")), 3)
			b.ok(l.Set(-1, "z"), l.Insert(0, "0"))
			b.equal(value[[]string](b)(l.Elements()), []string{"0", "a", "b", "z"})
			b.equal(value[string](b)(l.Pop(1)), "a")
			_, err = l.Get(7)
			b.is(err, gpool.ErrStaleHandle)
		},
	})
}

type addOrder struct {
	V gpool.Value[int]
	N int
}

var addMany = gpool.Register("add-many", func(_ context.Context, o addOrder) (sum int, err error) {
	for range o.N {
		if sum, err = o.V.Add(1); err != nil {
			return 0, err
		}
	}
	return sum, nil
})

// managerRole is a process that nobody of gpool has started: F12.
func init() {
	roles["remote manager client"] = func() int {
		ctx := context.Background()
		m, err := gpool.DialManager(ctx, os.Getenv("GPOOL_TEST_ADDRESS"), []byte(os.Getenv("GPOOL_TEST_KEY")))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		in, out := gpool.NewQueue[any](m, 0, gpool.Named("in")), gpool.NewQueue[any](m, 0, gpool.Named("out"))
		for v, err := range in.All(ctx) {
			if err == nil {
				err = out.Put(ctx, v)
			}
			if err != nil {
				fmt.Println(err)
				return 1
			}
		}
		if err := errors.Join(out.Close(), m.Close()); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
}

func TestRemoteManager(t *testing.T) {
	for _, scheme := range []string{"tcp", "tls"} {
		t.Run("F12_F13_"+scheme, func(t *testing.T) {
			b := &backend{T: t}
			key := gpool.AuthKey()
			m, err := gpool.ListenManager(scheme+":127.0.0.1:0", key)
			b.ok(err)
			cmd := playing("remote manager client", "GPOOL_TEST_ADDRESS="+m.Address(), "GPOOL_TEST_KEY="+string(key))
			var printed strings.Builder
			cmd.Stdout = &printed
			b.ok(cmd.Start())
			in, out := gpool.NewQueue[any](m, 0, gpool.Named("in")), gpool.NewQueue[any](m, 0, gpool.Named("out"))
			items := []any{"hello", []byte{0, 255}, nil, 1.5, true}
			_, err = in.PutAll(t.Context(), items...)
			b.ok(err)
			var encode *gpool.EncodeError
			if err := in.Put(t.Context(), make(chan int)); !errors.As(err, &encode) {
				t.Errorf("a channel was put: %v", err)
			}
			b.ok(in.Close())
			var got []any
			for v, err := range out.All(t.Context()) {
				b.ok(err)
				got = append(got, v)
			}
			b.equal(got, items)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, &printed)
			}
			if _, err := gpool.DialManager(t.Context(), m.Address()+"0", key); err == nil {
				t.Error("nobody listens there")
			}
			b.ok(m.Close())
			again, err := gpool.ListenManager(m.Address(), key) // F13: at once, at the same address
			b.ok(err)
			b.ok(again.Close())
			b.is(in.Put(t.Context(), 1), gpool.ErrHubGone)
		})
	}
}

var putOne = gpool.Register("put-one", func(ctx context.Context, q gpool.Queue[string]) (struct{}, error) {
	return struct{}{}, q.Put(ctx, "from a process")
})

func TestAProcessHasTheKeysOfItsParent(t *testing.T) {
	b := &backend{T: t}
	m, err := gpool.ListenManager("tcp:127.0.0.1:0", gpool.AuthKey())
	b.ok(err)
	defer m.Close()
	q := gpool.NewQueue[string](m, 0)
	p := gpool.NewProcess(putOne, q)
	b.ok(p.Start(), p.Join(t.Context()))
	b.equal(value[string](b)(q.TryGet()), "from a process")
}

func init() {
	there["echo"] = func(ctx context.Context, k *kit) (string, error) {
		n := 0
		for {
			b, err := k.B.ReceiveBytes(ctx, 0)
			if err == io.EOF {
				return strconv.Itoa(n), nil
			}
			if err != nil {
				return "", err
			}
			n++
			if err := k.B.SendBytes(ctx, b); err != nil {
				return "", err
			}
		}
	}
	there["send three and close"] = func(ctx context.Context, k *kit) (string, error) {
		return "", errors.Join(k.W.Send(ctx, 1), k.W.Send(ctx, "two"), k.W.Send(ctx, []int{3}), k.W.Close())
	}
	there["read the write end"] = func(ctx context.Context, k *kit) (string, error) {
		_, err := gpool.Receive[int](ctx, k.W)
		return fmt.Sprint(errors.Is(err, gpool.ErrWriteOnly)), nil
	}
}

func TestConformanceConnections(t *testing.T) {
	overBackends(t, 2, map[string]func(b *backend){
		"G1_G4_connection": func(b *backend) {
			ctx := b.Context()
			f := b.started("echo")
			big := make([]byte, 16<<20)
			big[1<<20] = 7
			for _, m := range [][]byte{[]byte("hello"), {}, big} {
				b.ok(b.k.A.SendBytes(ctx, m))
				got, err := b.k.A.ReceiveBytes(ctx, 0)
				b.ok(err)
				if string(got) != string(m) {
					b.Fatalf("%d bytes came back as %d others", len(m), len(got))
				}
			}
			b.equal(value[bool](b)(b.k.A.Poll(b.soon())), false)
			b.ok(b.k.A.SendBytes(ctx, []byte("too long")))
			b.equal(value[bool](b)(b.k.A.Poll(ctx)), true)
			_, err := b.k.A.ReceiveBytes(ctx, 3)
			b.is(err, gpool.ErrTooLong)
			_, err = b.k.A.ReceiveInto(ctx, make([]byte, 7))
			b.is(err, gpool.ErrTooLong)
			buf := make([]byte, 20)
			b.equal(value[int](b)(b.k.A.ReceiveInto(ctx, buf)), 8) // it has stayed
			b.ok(b.k.A.Close())
			b.equal(value[string](b)(f.Get(ctx)), "4")
			b.is(b.k.A.SendBytes(ctx, nil), gpool.ErrClosed) // G8
		},
		"G2_G21_one_way": func(b *backend) {
			b.is(b.k.R.Send(b.Context(), 1), gpool.ErrReadOnly)
			_, err := b.k.W.Poll(b.Context())
			b.is(err, gpool.ErrWriteOnly)
			b.equal(b.there("read the write end"), "true")
		},
		"G18_G19_messages": func(b *backend) {
			f := b.started("send three and close")
			ctx := b.Context()
			b.equal(value[bool](b)(b.k.R.Poll(ctx)), true)
			b.equal(value[int](b)(gpool.Receive[int](ctx, b.k.R)), 1)
			b.equal(value[string](b)(gpool.Receive[string](ctx, b.k.R)), "two")
			b.equal(value[[]int](b)(gpool.Receive[[]int](ctx, b.k.R)), []int{3})
			_, err := b.k.R.ReceiveBytes(ctx, 0)
			b.is(err, io.EOF)
			value[string](b)(f.Get(ctx))
		},
		"G26_G30_wait": func(b *backend) {
			var readers []gpool.Conn
			var sending sync.WaitGroup
			for i := range 4 {
				r, w := gpool.OneWayPipe(b.hub)
				readers = append(readers, r)
				sending.Go(func() {
					for n := range 10 {
						_ = w.Send(b.Context(), 100*i+n)
					}
					_ = w.Close()
				})
			}
			expired, cancel := context.WithCancel(b.Context())
			cancel()
			got := 0
			for len(readers) > 0 {
				ready, err := gpool.WaitConns(b.Context(), readers...)
				b.ok(err)
				for _, r := range ready {
					_, err := gpool.Receive[int](b.Context(), r)
					if err == io.EOF {
						readers = slices.DeleteFunc(readers, func(c gpool.Conn) bool { return c == r })
						continue
					}
					b.ok(err)
					got++
				}
			}
			sending.Wait()
			b.equal(got, 40)
			ready, err := gpool.WaitConns(expired, b.k.A)
			b.ok(err)
			b.equal(len(ready), 0)
		},
		"G29_wait_for_other_things": func(b *backend) {
			f := b.started("echo")
			b.ok(b.k.A.Close())
			select {
			case <-f.Done():
			case <-b.Context().Done():
			}
		},
		"G33_signals": func(b *backend) {
			f := b.started("echo")
			stop := make(chan struct{})
			var pest sync.WaitGroup
			pest.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						_ = syscall.Kill(syscall.Getpid(), syscall.SIGURG)
					}
				}
			})
			big := make([]byte, 4<<20)
			b.ok(b.k.A.SendBytes(b.Context(), big))
			got, err := b.k.A.ReceiveBytes(b.Context(), 0)
			close(stop)
			pest.Wait()
			b.ok(err, b.k.A.Close())
			b.equal(len(got), len(big))
			value[string](b)(f.Get(b.Context()))
		},
	})
}

func init() {
	roles["listener client"] = func() int {
		ctx := context.Background()
		c, err := gpool.Dial(ctx, os.Getenv("GPOOL_TEST_ADDRESS"), []byte(os.Getenv("GPOOL_TEST_KEY")))
		if err == nil {
			err = c.Send(ctx, "from the client")
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		return 0 // G14: it has gone before it is accepted
	}
}

func TestListeners(t *testing.T) {
	addresses := map[string]string{"tcp": "tcp:127.0.0.1:0", "tls": "tls:localhost:0", "unix": "unix:" + filepath.Join(t.TempDir(), "listener")}
	for name, address := range addresses {
		t.Run("G9_G10_G13_G14_G15_"+name, func(t *testing.T) {
			b := &backend{T: t}
			key := gpool.AuthKey()
			l, err := gpool.Listen(address, key)
			b.ok(err)
			_, err = gpool.Listen(l.Address(), key)
			b.is(err, syscall.EADDRINUSE)
			cmd := playing("listener client", "GPOOL_TEST_ADDRESS="+l.Address(), "GPOOL_TEST_KEY="+string(key))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			c, err := l.Accept(t.Context())
			b.ok(err)
			b.equal(value[bool](b)(c.Poll(t.Context())), true)
			b.equal(value[string](b)(gpool.Receive[string](t.Context(), c)), "from the client")
			_, err = c.ReceiveBytes(t.Context(), 0)
			b.is(err, io.EOF)
			if _, err := gpool.Dial(t.Context(), l.Address(), gpool.AuthKey()); err == nil {
				t.Error("a wrong key was taken")
			}
			var failed atomic.Bool
			var accepting sync.WaitGroup
			accepting.Go(func() {
				_, err := l.Accept(t.Context())
				failed.Store(errors.Is(err, gpool.ErrClosed))
			})
			b.ok(l.Close(), l.Close())
			accepting.Wait()
			b.equal(failed.Load(), true)
			_, err = l.Accept(t.Context())
			b.is(err, gpool.ErrClosed)
		})
	}
	t.Run("G31_invalid", func(t *testing.T) {
		for _, address := range []string{"", "tcp:", "pipe:x", "unix:", "tcp:host", `\\.\pipe\x`, "unix:/" + strings.Repeat("x", 200)} {
			if l, err := gpool.Listen(address, gpool.AuthKey()); err == nil {
				l.Close()
				t.Errorf("%q is no address", address)
			}
		}
	})
}
