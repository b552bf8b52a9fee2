package gpool_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"gpool"
)

// Rounds are many where it counts, under the race detector, and fewer elsewhere.
var stressRounds = flag.Int("rounds", 200, "rounds of TestF15Stress for each kind of pool")

// TestF15Stress hands in, cancels, closes, terminates and kills at random, from several
// goroutines at once. Whatever happens, every future and every iterator ends, with a
// result or with an error that says why, and TestMain finds nothing left. The seed of a
// failing round is printed with it.
func TestF15Stress(t *testing.T) {
	for name, make := range map[string]func(context.Context, ...gpool.Option) (lifecycle, error){
		"Pool":       func(ctx context.Context, o ...gpool.Option) (lifecycle, error) { return gpool.New(ctx, o...) },
		"ThreadPool": func(ctx context.Context, o ...gpool.Option) (lifecycle, error) { return gpool.NewThreadPool(ctx, o...) },
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			begun := time.Now()
			for round := range *stressRounds {
				s := &stress{t: t, rng: rand.New(rand.NewPCG(seed, uint64(round))), seed: seed, round: round, threads: name == "ThreadPool"}
				s.run(make)
				if t.Failed() {
					return
				}
			}
			t.Logf("%d rounds in %v, seed %d", *stressRounds, time.Since(begun).Round(time.Millisecond), seed)
		})
	}
}

// stress is one round.
type stress struct {
	t       *testing.T
	rng     *rand.Rand
	seed    uint64
	round   int
	threads bool
	pool    lifecycle
	cancel  context.CancelFunc

	waiters sync.WaitGroup
}

func (s *stress) run(make func(context.Context, ...gpool.Option) (lifecycle, error)) {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	s.cancel = cancel
	options := []gpool.Option{gpool.Workers(1 + s.rng.IntN(3)), gpool.Grace(20 * time.Millisecond), gpool.Lazy()}
	if s.rng.IntN(4) == 0 {
		options = append(options, gpool.MaxTasksPerChild(1+s.rng.IntN(5)))
	}
	if s.rng.IntN(4) == 0 {
		options = append(options, gpool.SoftLimit(time.Duration(1+s.rng.IntN(10))*time.Millisecond))
	}
	p, err := make(ctx, options...)
	if err != nil {
		s.t.Fatalf("round %d of seed %d: %v", s.round, s.seed, err)
	}
	s.pool = p
	var actors sync.WaitGroup
	for range 1 + s.rng.IntN(3) {
		rng := rand.New(rand.NewPCG(s.rng.Uint64(), 0))
		actors.Go(func() {
			for range 1 + rng.IntN(6) {
				s.act(ctx, rng)
			}
		})
	}
	within(s.t, time.Minute, func() {
		actors.Wait()
		if s.rng.IntN(2) == 0 {
			p.Close()
		} else {
			p.Terminate()
		}
		if err := p.Join(background); err != nil {
			s.t.Errorf("round %d of seed %d: Join says %v", s.round, s.seed, err)
		}
		s.waiters.Wait()
	})
}

// act does one thing.
func (s *stress) act(ctx context.Context, rng *rand.Rand) {
	p := s.pool
	switch rng.IntN(14) {
	case 0, 1, 2:
		f := gpool.ApplyAsync(ctx, p, snooze, rng.IntN(4))
		s.waitFor("a call", f.Err)
		if rng.IntN(3) == 0 {
			f.Cancel()
		}
	case 3, 4, 5:
		f := gpool.MapAsync(ctx, p, snooze, make([]int, rng.IntN(40)))
		s.waitFor("a map", f.Err)
		if rng.IntN(4) == 0 {
			f.Cancel()
		}
	case 6, 7:
		short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(5))*time.Millisecond)
		defer cancel()
		_, err := gpool.Map(short, p, snooze, []int{1, 5, 1, 5}, gpool.FailFast())
		s.check("a map with little time", err)
	case 8, 9:
		n := 0
		for _, err := range gpool.IMap(ctx, p, snooze, upTo(10)) {
			s.check("an item", err)
			if n++; n == rng.IntN(12) {
				break
			}
		}
	case 10:
		f := gpool.ApplyAsync(ctx, p, snooze, 1)
		f.OnDone(func(*gpool.Future[int]) { _ = gpool.ApplyAsync(ctx, p, snooze, 1) })
		s.waitFor("a call with a callback", f.Err)
	case 11:
		_ = p.Resize(1 + rng.IntN(3))
	case 12:
		for _, w := range p.Stats().Workers {
			if !s.threads && w.Pid > 0 && rng.IntN(2) == 0 {
				_ = syscall.Kill(w.Pid, syscall.SIGKILL)
			}
		}
	case 13:
		switch rng.IntN(8) {
		case 0:
			p.Close()
		case 1:
			p.Terminate()
		case 2:
			s.cancel()
		}
	}
}

// waitFor waits beside the round, which ends when all that it has handed in has ended.
func (s *stress) waitFor(what string, wait func(context.Context) error) {
	s.waiters.Go(func() { s.check(what, wait(background)) })
}

// check fails the test for an error that says nothing a user could do something with.
func (s *stress) check(what string, err error) {
	var died *gpool.WorkerDiedError
	var timeout *gpool.TimeoutError
	switch {
	case err == nil, errors.Is(err, gpool.ErrPoolClosed), errors.Is(err, gpool.ErrTerminated), errors.Is(err, gpool.ErrCancelled),
		errors.As(err, &timeout), !s.threads && errors.As(err, &died) && (died.Signal == syscall.SIGKILL || died.Err != nil):
	case !s.threads && errors.Is(err, gpool.ErrRestartLimit): // killed three times before it had run anything
	default:
		s.t.Errorf("round %d of seed %d: %s ends with %#v: %v", s.round, s.seed, what, err, err)
	}
}
