package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"gpool/internal/pool"
	"gpool/internal/pool/admit"
)

// jobserverVerb is how gpool starts the keeper of its tokens of make.
const jobserverVerb = "jobserver"

// gate is what calls have to wait for before they begin, beside a free worker.
type gate struct {
	admission *admit.Admission // nil if they wait for nothing else
	woken     atomic.Pointer[pool.Pool]
}

// openGate opens what --delay, --rate, --load and --memfree ask for, and the jobserver
// of make. It lowers the number of workers to what there is room for.
func (r *run) openGate(p *printer) (*gate, error) {
	o := r.opts
	if room, why := admit.Room(); admit.Workers(r.workers, room) < r.workers {
		n := admit.Workers(r.workers, room)
		p.say("there is room for %s of %d: %s", count(int64(n), "worker"), r.workers, why)
		r.workers = n
	}
	auth := r.jobserver(p)
	if auth == nil && o.delay == 0 && o.rate == 0 && o.load == 0 && o.memFree == 0 {
		return &gate{}, nil
	}
	g := &gate{}
	var err error
	g.admission, err = admit.Open(admit.Options{
		Delay: o.delay, Rate: o.rate, MaxLoad: o.load, MinFree: o.memFree,
		Jobserver: auth, Keeper: []string{self(), jobserverVerb},
		Say: func(text string) { p.say("%s", text) },
	}, g.wake)
	if err != nil {
		return nil, err // what was asked for cannot be had here
	}
	return g, nil
}

// jobserver finds that of the make which runs gpool, nil if there is none. Whoever says
// -j wants as many workers, whatever make has.
func (r *run) jobserver(p *printer) *admit.Auth {
	if r.opts.jobs.given() {
		return nil
	}
	flags := os.Getenv(makeFlags)
	auth, err := admit.ParseMakeFlags(flags)
	if auth == nil && err == nil {
		return nil
	}
	if err == nil {
		err = auth.Check()
	}
	if err == nil {
		flags, err = auth.Lift(flags)
	}
	if err != nil {
		p.say("%v; the run goes on with one worker", err)
		r.workers = 1
		return nil
	}
	_ = os.Setenv(makeFlags, flags) // a make among the commands is a client, too
	return auth
}

// makeFlags is where make says where its jobserver is.
const makeFlags = "MAKEFLAGS"

// self is the program that runs, also after an upgrade has replaced it on the disk.
func self() string {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe"
	}
	path, _ := os.Executable() // without it the keeper is not found, and that is told
	return path
}

// pool is the gate as the pool sees it: nil if there is none.
func (g *gate) pool() pool.Gate {
	if g.admission == nil {
		return nil
	}
	return g.admission
}

func (g *gate) opened(p *pool.Pool) { g.woken.Store(p) }

func (g *gate) wake() {
	if p := g.woken.Load(); p != nil {
		p.Wake()
	}
}

func (g *gate) close() {
	if g.admission != nil {
		_ = g.admission.Close()
	}
}

// keep is the verb of the keeper.
func keep(args []string) error {
	if len(args) != 1 {
		return errors.New("the keeper of tokens takes the address of a jobserver, and gpool starts it itself")
	}
	if code := admit.Keeper(args[0], os.Stdin, os.Stdout); code != 0 {
		return &exitError{code, fmt.Errorf("the keeper of tokens of make ended early")}
	}
	return nil
}
