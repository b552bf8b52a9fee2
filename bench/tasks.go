package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"gpool"
)

var (
	square = gpool.Register("square", func(_ context.Context, n int) (int, error) { return n * n, nil })
	same   = gpool.Register("same", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	snooze = gpool.Register("snooze", func(_ context.Context, ms int) (int, error) {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return ms, nil
	})
)

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// warmPool is a pool that has run something.
func warmPool(workers int) (*gpool.Pool, error) {
	p, err := gpool.New(context.Background(), gpool.Workers(workers))
	if err == nil {
		_, err = gpool.Map(context.Background(), p, square, upTo(100))
	}
	return p, err
}

// mapped maps a task over items.
func mapped[In, Out any](p *gpool.Pool, task *gpool.Task[In, Out], items []In, options ...gpool.CallOption) measured {
	return func() (time.Duration, error) {
		from := time.Now()
		results, err := gpool.Map(context.Background(), p, task, items, options...)
		if err == nil && len(results) != len(items) {
			err = fmt.Errorf("%d results for %d items", len(results), len(items))
		}
		return time.Since(from), err
	}
}

func python(args ...string) measured {
	return says(append([]string{"python3", source("pool.py")}, args...)...)
}

// tasks compares maps of small values.
func (b *bench) tasks() error {
	p, err := warmPool(2)
	if err != nil {
		return err
	}
	defer p.Terminate()
	const one, executor, million = 100_000, 10_000, 1_000_000
	single := each(one, mapped(p, square, upTo(one), gpool.Chunk(1)))
	what := "tasks: a small int, chunksize 1"
	if b.have("python3", "python3") {
		b.faster(what, single, "Python's Pool.map(chunksize=1)", each(one, python("map", strconv.Itoa(one), "1")), 8)
		b.faster(what, single, "Python's ProcessPoolExecutor.map", each(executor, python("executor", strconv.Itoa(executor))), 30)
	}
	if b.have("node", "nodejs") {
		b.faster(what, single, "worker threads of Node, two items under way in each", each(one, says("node", source("pool.mjs"), strconv.Itoa(one))), 0)
	}
	if b.have("python3", "python3") {
		b.faster("tasks: a million ints, default chunks", mapped(p, square, upTo(million)), "Python's Pool.map", python("map", strconv.Itoa(million), "0"), 3)
	}
	if err := b.slow(); err != nil {
		return err
	}
	return b.apply(p)
}

// slow has a few slow items among fast ones.
func (b *bench) slow() error {
	four, err := warmPool(4)
	if err != nil {
		return err
	}
	defer four.Terminate()
	list := append(slices.Repeat([]int{1}, 144), slices.Repeat([]int{100}, 16)...)
	ideal := func() (time.Duration, error) { return (144 + 16*100) * time.Millisecond / 4, nil }
	for _, place := range []string{"last", "first"} {
		what := "144 calls of 1 ms and 16 of 100 ms, 4 workers, the slow ones " + place
		b.within(what, mapped(four, snooze, list), "the ideal time", ideal, 1.2)
		if b.have("python3", "python3") {
			b.faster(what, mapped(four, snooze, list), "Python's Pool.map", python("slow", place), 0)
		}
		slices.Reverse(list)
	}
	return nil
}

// apply is the round trip of one call.
func (b *bench) apply(p *gpool.Pool) error {
	const times = 20000
	one := each(times, func() (time.Duration, error) {
		from := time.Now()
		for i := range times {
			if _, err := gpool.Apply(context.Background(), p, square, i); err != nil {
				return 0, err
			}
		}
		return time.Since(from), nil
	})
	what := "round trip of one call, pool warm"
	if b.floor != "" {
		b.within(what, one, "that of a pipe", each(times, says(b.floor, "ping", strconv.Itoa(times), "16")), 2)
	}
	if b.have("python3", "python3") {
		b.faster(what, one, "Python's Pool.apply", each(times, python("apply", strconv.Itoa(times))), 0)
	}
	return nil
}

// values sends large values there and back.
func (b *bench) values() error {
	p, err := warmPool(2)
	if err != nil {
		return err
	}
	defer p.Terminate()
	for _, v := range []struct {
		name    string
		size, n int
	}{{"64 KiB", 64 << 10, 2000}, {"1 MiB", 1 << 20, 400}} {
		list := make([][]byte, v.n)
		for i := range list {
			list[i] = make([]byte, v.size)
		}
		what := fmt.Sprintf("%d values of %s, there and back", v.n, v.name)
		ours := mapped(p, same, list)
		n, size := strconv.Itoa(v.n), strconv.Itoa(v.size)
		if b.floor != "" {
			b.faster(what, ours, "bare pipes, 4 frames under way, the floor", says(b.floor, "echo", "2", n, size, "4"), 0.6)
		}
		if b.have("python3", "python3") {
			b.faster(what, ours, "Python's Pool.map", python("values", n, size), 5)
		}
	}
	return nil
}

// many starts many workers.
func (b *bench) many() error {
	const workers = 200
	what := strconv.Itoa(workers) + " workers"
	var resident, own []float64
	b.quantity(what+" started and ready", "s", 2, func() (float64, error) {
		from := time.Now()
		p, err := gpool.New(context.Background(), gpool.Workers(workers))
		if err != nil {
			return 0, err
		}
		took := time.Since(from)
		defer func() {
			p.Terminate()
			_ = p.Join(context.Background())
		}()
		all, anonymous := 0, 0
		for _, w := range p.Stats().Workers {
			all += statusOf(strconv.Itoa(w.Pid), "VmRSS:")
			anonymous += statusOf(strconv.Itoa(w.Pid), "RssAnon:")
		}
		resident, own = append(resident, float64(all)/workers/1024), append(own, float64(anonymous)/workers/1024)
		return took.Seconds(), nil
	})
	b.quantity(what+", resident memory of each when idle", "MiB", 5, oneByOne(resident))
	b.quantity(what+", of that its own, and not pages of the program that all share", "MiB", 5, oneByOne(own))
	return nil
}

// oneByOne gives back what was measured before.
func oneByOne(list []float64) func() (float64, error) {
	return func() (float64, error) {
		if len(list) == 0 {
			return 0, errors.New("it was not measured")
		}
		v := list[0]
		list = list[1:]
		return v, nil
	}
}
