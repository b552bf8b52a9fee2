package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"gpool"
)

var square = gpool.Register("square", func(ctx context.Context, x int) (int, error) { return x * x, nil })
var add = gpool.Register2("add", func(ctx context.Context, a, b int) (int, error) { return a + b, nil })
var failOn = gpool.Register("fail-on", func(ctx context.Context, x int) (int, error) {
	if x%3 == 0 {
		return 0, fmt.Errorf("item %d: %w", x, os.ErrNotExist)
	}
	return x, nil
})
var die = gpool.Register("die", func(ctx context.Context, x int) (int, error) {
	if x == 7 {
		os.Exit(3)
	}
	return x, nil
})

func TestMain(m *testing.M) { gpool.Init(); os.Exit(m.Run()) }

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	begin := time.Now()
	p, err := gpool.New(ctx, gpool.Workers(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Log("new", time.Since(begin))
	tp, err := gpool.NewThreadPool(ctx, gpool.Workers(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []gpool.Runner{p, tp} {
		fmt.Println(gpool.Map(ctx, r, square, []int{1, 2, 3, 4}))
		fmt.Println(gpool.Apply(ctx, r, add, gpool.A2(3, 4)))
		out, err := gpool.Map(ctx, r, failOn, []int{1, 2, 3, 4})
		fmt.Printf("%v %+v %v\n", out, err, errors.Is(err, os.ErrNotExist))
		for v, err := range gpool.IMap(ctx, r, failOn, []int{1, 2, 3, 4, 5}) {
			fmt.Println(v, err)
		}
		n := 200000
		xs := make([]int, n)
		for i := range xs {
			xs[i] = i
		}
		begin = time.Now()
		ys, err := gpool.Map(ctx, r, square, xs)
		fmt.Println(len(ys), ys[n-1], err, time.Since(begin)/time.Duration(n))
		begin = time.Now()
		for range 1000 {
			if _, err := gpool.Apply(ctx, r, square, 3); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Println("apply", time.Since(begin)/1000)
		begin = time.Now()
		var fs []*gpool.Future[int]
		for range 100000 {
			fs = append(fs, gpool.ApplyAsync(ctx, r, square, 3))
		}
		for _, f := range fs {
			f.Get(ctx)
		}
		fmt.Println("async", time.Since(begin)/100000)
	}
	out, err := gpool.Map(ctx, p, die, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, gpool.Chunk(15))
	fmt.Printf("%v %+v\n", out, err)
	fmt.Printf("%+v\n", p.Stats())
	p.Close()
	tp.Close()
	fmt.Println(p.Join(ctx), tp.Join(ctx))
}
