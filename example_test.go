package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"gpool"
)

// The tasks of the examples. A program registers its own like this, at package level.
var (
	cube = gpool.Register("cube", func(ctx context.Context, x int) (int, error) { return x * x * x, nil })

	divide = gpool.Register2("divide", func(ctx context.Context, a, b int) (int, error) {
		if b == 0 {
			return 0, errDivision
		}
		return a / b, nil
	})

	nap = gpool.Register("nap", func(ctx context.Context, d time.Duration) (string, error) {
		select {
		case <-time.After(d):
			return "well slept", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})

	quit = gpool.Register("quit", func(ctx context.Context, code int) (int, error) {
		if code > 0 {
			os.Exit(code)
		}
		return code, nil
	})
)

var errDivision = errors.New("division by zero")

// examplePool is what main does in a program; Init is called in TestMain here.
func examplePool(o ...gpool.Option) (ctx context.Context, pool *gpool.Pool) {
	ctx = context.Background()
	pool, err := gpool.New(ctx, append([]gpool.Option{gpool.Workers(2)}, o...)...)
	if err != nil {
		panic(err)
	}
	return ctx, pool
}

func ExampleApply() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	fmt.Println(gpool.Apply(ctx, pool, cube, 3))
	_, err := gpool.Apply(ctx, pool, divide, gpool.A2(1, 0))
	fmt.Println(err, "-", errors.Is(err, errDivision))
	// Output:
	// 27 <nil>
	// task divide: division by zero - true
}

func ExampleApplyAsync() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	future := gpool.ApplyAsync(ctx, pool, cube, 4)
	// ... do something else ...
	fmt.Println(future.Get(ctx))
	fmt.Println(future.Successful())
	// Output:
	// 64 <nil>
	// true <nil>
}

func ExampleMap() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	fmt.Println(gpool.Map(ctx, pool, cube, []int{1, 2, 3}))
	// An iterator does as well; it is read to its end first.
	fmt.Println(gpool.Map(ctx, pool, cube, slices.Values([]int{4, 5})))
	// Output:
	// [1 8 27] <nil>
	// [64 125] <nil>
}

func ExampleMap_errors() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	items := []gpool.Args2[int, int]{{A: 1, B: 0}, {A: 8, B: 2}, {A: 3, B: 0}}
	results, err := gpool.Map(ctx, pool, divide, items, gpool.CollectErrors())
	fmt.Println(results)
	fmt.Println(err)
	failed, _ := errors.AsType[*gpool.TaskError](err)
	fmt.Println("the first one is item", failed.Index)
	// Output:
	// [0 4 0]
	// task divide, item 0: division by zero
	// task divide, item 2: division by zero
	// the first one is item 0
}

func ExampleMapAsync() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	cubes := gpool.MapAsync(ctx, pool, cube, []int{1, 2, 3})
	<-cubes.Done()
	fmt.Println(cubes.Get(ctx))
	// Output:
	// [1 8 27] <nil>
}

func ExampleStarmap() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	fmt.Println(gpool.Starmap(ctx, pool, divide, []gpool.Args2[int, int]{gpool.A2(10, 2), gpool.A2(9, 3)}))
	// Output:
	// [5 3] <nil>
}

func ExampleIMap() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	numbers := func(yield func(int) bool) { // without an end
		for i := 1; yield(i); i++ {
		}
	}
	for c, err := range gpool.IMap(ctx, pool, cube, numbers, gpool.Window(8)) {
		if err != nil || c > 100 {
			break // the input ends, and what has not begun is not run
		}
		fmt.Println(c)
	}
	// Output:
	// 1
	// 8
	// 27
	// 64
}

func ExampleIMapUnordered() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	sum := 0
	for c, err := range gpool.IMapUnordered(ctx, pool, cube, []int{1, 2, 3, 4}) {
		if err != nil {
			fmt.Println(err) // of one item; the others follow
			continue
		}
		sum += c
	}
	fmt.Println(sum)
	// Output:
	// 100
}

func ExampleIter_Next() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	it := gpool.Start(ctx, pool, nap, []time.Duration{50 * time.Millisecond})
	defer it.Stop()
	soon, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, ok, err := it.Next(soon)
	fmt.Println(ok, err) // too early, and nothing is lost
	fmt.Println(it.Next(ctx))
	_, ok, err = it.Next(ctx)
	fmt.Println(ok, err) // the end
	// Output:
	// false context deadline exceeded
	// well slept true <nil>
	// false <nil>
}

func ExampleFuture_OnSuccess() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	doneC := make(chan struct{})
	future := gpool.ApplyAsync(ctx, pool, cube, 2)
	future.OnSuccess(func(c int) {
		// On a goroutine of its own: it may use the pool, and wait.
		fmt.Println(gpool.Apply(ctx, pool, cube, c))
		close(doneC)
	})
	future.OnError(func(err error) { fmt.Println("never", err) })
	<-doneC
	// Output:
	// 512 <nil>
}

func ExampleWait() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	short := gpool.ApplyAsync(ctx, pool, nap, time.Millisecond)
	ctx2, giveUp := context.WithCancel(ctx)
	long := gpool.ApplyAsync(ctx2, pool, nap, time.Hour)
	done, rest, err := gpool.Wait(ctx, gpool.FirstCompleted, short, long)
	fmt.Println(len(done), len(rest), err)
	giveUp()
	fmt.Println(long.Err(ctx))
	// Output:
	// 1 1 <nil>
	// the call was cancelled: context canceled
}

func ExampleAsCompleted() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	a := gpool.ApplyAsync(ctx, pool, nap, 200*time.Millisecond)
	b := gpool.ApplyAsync(ctx, pool, nap, time.Millisecond)
	for future := range gpool.AsCompleted(ctx, a, b) {
		fmt.Println("b was first:", future == b)
		break
	}
	// Output:
	// b was first: true
}

func ExampleExecutor() {
	ctx := context.Background()
	executor, err := gpool.NewExecutor(ctx, gpool.Workers(2))
	if err != nil {
		panic(err)
	}
	future := gpool.ApplyAsync(ctx, executor, cube, 3) // submit
	if err := executor.Shutdown(ctx); err != nil {     // waits for what was handed in
		panic(err)
	}
	fmt.Println(future.Get(ctx))
	fmt.Println(gpool.Apply(ctx, executor, cube, 3))
	// Output:
	// 27 <nil>
	// 0 gpool: the pool is closed
}

func ExampleThreadPool() {
	ctx := context.Background()
	threads, err := gpool.NewThreadPool(ctx)
	if err != nil {
		panic(err)
	}
	defer threads.Terminate()
	greeting := "hello, "
	greet := gpool.Fn(func(ctx context.Context, name string) (string, error) { return greeting + name, nil })
	fmt.Println(gpool.Map(ctx, threads, greet, []string{"Ada", "Alan"}))
	// Output:
	// [hello, Ada hello, Alan] <nil>
}

func ExampleHardLimit() {
	ctx, pool := examplePool(gpool.HardLimit(time.Minute)) // of every call of the pool
	defer pool.Terminate()
	_, err := gpool.Apply(ctx, pool, nap, time.Hour, gpool.SoftLimit(10*time.Millisecond))
	fmt.Println(err)
	// Output:
	// task nap: it ran longer than its limit of 10ms, and ended when it was asked to
}

func ExampleWorkerDiedError() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	results, err := gpool.Map(ctx, pool, quit, []int{0, 3, 0})
	died, ok := errors.AsType[*gpool.WorkerDiedError](err)
	fmt.Println(results, ok, died.Index, died.ExitCode)
	// Output:
	// [0 0 0] true 1 3
}

// setting is loaded once in each worker.
var setting string

var (
	load = gpool.Register("load", func(_ context.Context, value string) (struct{}, error) {
		setting = value
		return struct{}{}, nil
	})
	useSetting = gpool.Register("use-setting", func(_ context.Context, x int) (string, error) {
		return strings.Repeat(setting, x), nil
	})
)

func ExampleInitializer() {
	ctx, pool := examplePool(gpool.Initializer(load, "ab"), gpool.MaxTasksPerChild(1))
	defer pool.Terminate()
	fmt.Println(gpool.Map(ctx, pool, useSetting, []int{1, 2, 3}))
	// Output:
	// [ab abab ababab] <nil>
}

// quotaError is an error type of the program's own.
type quotaError struct{ User string }

func (e *quotaError) Error() string { return e.User + " has no quota left" }

func init() { gpool.RegisterError[*quotaError]("quota") }

var overdraw = gpool.Register("overdraw", func(_ context.Context, user string) (int, error) {
	return 0, fmt.Errorf("charge: %w", &quotaError{user})
})

func ExampleRegisterError() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	_, err := gpool.Apply(ctx, pool, overdraw, "ada")
	quota, ok := errors.AsType[*quotaError](err)
	fmt.Println(err, "-", ok, quota.User)
	// Output:
	// task overdraw: charge: ada has no quota left - true ada
}

var whichCall = gpool.Register("which-call", func(ctx context.Context, _ int) (uint64, error) {
	info, _ := gpool.Info(ctx)
	return info.Seq, nil
})

func ExampleInfo() {
	ctx, pool := examplePool()
	defer pool.Terminate()
	fmt.Println(gpool.Map(ctx, pool, whichCall, []int{0, 0, 0}))
	// Output:
	// [1 2 3] <nil>
}

func ExamplePool_Stats() {
	ctx, pool := examplePool()
	_, _ = gpool.Map(ctx, pool, cube, []int{1, 2, 3})
	_ = pool.Resize(1)
	pool.Close()
	_ = pool.Join(ctx)
	s := pool.Stats()
	fmt.Println(s.Succeeded, s.Failed, s.Run.Count())
	// Output:
	// 3 0 3
}

// flaps fails at its first attempt.
var flaps = gpool.Register("flaps", func(ctx context.Context, host string) (string, error) {
	if call, _ := gpool.Info(ctx); call.Attempt == 1 {
		return "", errors.New("connection reset")
	}
	return host + " is up", nil
})

func ExampleRetries() {
	ctx := context.Background()
	pool, err := gpool.New(ctx, gpool.Workers(1), gpool.Events(func(e gpool.PoolEvent) {
		if e.Kind == gpool.CallRetried {
			fmt.Println("again, since", e.Err)
		}
	}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(gpool.Map(ctx, pool, flaps, []string{"example.org"}, gpool.Retries(3), gpool.Backoff(time.Millisecond, time.Second)))
	pool.Terminate()
	// Output:
	// again, since task flaps, item 0: connection reset
	// [example.org is up] <nil>
}

func ExampleHaltNow() {
	ctx := context.Background()
	pool, err := gpool.New(ctx, gpool.Workers(2))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Terminate()
	// Whichever mirror answers first is enough.
	mirrors := []time.Duration{time.Hour, time.Millisecond, time.Hour}
	answers, err := gpool.Map(ctx, pool, nap, mirrors, gpool.Chunk(1), gpool.HaltNow(gpool.Success, 1))
	fmt.Println(answers[1], errors.Is(err, gpool.ErrHalted))
	// Output: well slept true
}
