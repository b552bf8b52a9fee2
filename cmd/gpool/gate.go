package main

import (
	"errors"
	"fmt"
	"os"

	"gpool/internal/pool/admit"
	"gpool/internal/pool/launch"
)

// jobserverVerb is how gpool starts the keeper of its tokens of make.
const jobserverVerb = "jobserver"

// openGate opens what --delay, --rate, --load and --memfree ask for, and the jobserver
// of make or a background pool; nil if calls wait for nothing but a free worker. It lowers the number of
// workers to what there is room for.
func (r *run) openGate(p *printer) (*admit.Admission, error) {
	o := r.opts
	if o.pool != "" {
		if err := r.openLeases(); err != nil {
			return nil, err
		}
	}
	room, why := admit.Room()
	if n := admit.Workers(r.workers, room); n < r.workers {
		p.say("there is room for %s of %d: %s", count(int64(n), "worker"), r.workers, why)
		r.workers = n
	}
	options := admit.Options{
		Delay: o.delay, Rate: o.rate, MaxLoad: o.load, MinFree: o.memFree,
		Say: func(text string) { p.say("%s", text) },
	}
	if r.leases != nil {
		options.Lender = r.leases
	} else {
		options.Jobserver = r.jobserver(p)
	}
	if !options.Wanted() {
		return nil, nil
	}
	if options.Jobserver != nil {
		self, err := launch.Self()
		if err != nil {
			return nil, &exitError{exitPool, err}
		}
		options.Keeper = []string{self.Path, jobserverVerb}
	}
	return admit.Open(options) // its error: what was asked for cannot be had here
}

// openLeases connects to the background pool of --pool. There are as many workers as it has
// slots, and no more than -j.
func (r *run) openLeases() (err error) {
	slots := 0
	r.leases, slots, err = openLeases(r.opts.pool, "gpool "+quoted(shorten(os.Args[1:])), r.stdio)
	if _, known := errors.AsType[*exitError](err); err != nil && !known {
		return &exitError{exitPool, err}
	}
	if err == nil && (!r.opts.jobs.given() || r.workers > slots) {
		r.workers = slots
	}
	return err
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
