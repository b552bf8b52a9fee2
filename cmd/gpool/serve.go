package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"syscall"

	"gpool"
	"gpool/internal/pool/daemon"
	"gpool/internal/pool/daemon/wire"
)

// serveBackground serves a pool until it ends. Whoever has started this process hears when
// it listens, or why it does not.
func serveBackground(o *poolOptions) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// Heard and not heeded. What is ignored would be ignored by all commands, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGXFSZ)
	hupC := make(chan os.Signal, 1)
	signal.Notify(hupC, syscall.SIGHUP)
	server, err := o.newServer()
	wire.Ready(err)
	if err != nil {
		return err
	}
	go func() { // ends with the process
		for range hupC {
			server.Reseat()
		}
	}()
	return server.Run(ctx)
}

func (o *poolOptions) newServer() (*daemon.Server, error) {
	place, err := wire.Locate(o.pool, os.Getenv)
	if err != nil {
		return nil, err
	}
	slots, err := o.jobs.count()
	if err != nil {
		return nil, err
	}
	shell := ""
	if o.initializer != "" {
		if shell, err = (surroundings{}).program("the shell of --initializer", "sh"); err != nil {
			return nil, err
		}
	}
	return daemon.New(daemon.Config{
		Place: place, Version: gpool.Version, Worker: []string{workerVerb}, Reopen: o.reopen,
		Options: func(before *daemon.Options) daemon.Options { return o.over(before, slots, shell) },
	})
}

// over is what a pool is like: as the flags say, and where they say nothing as it was before.
func (o *poolOptions) over(before *daemon.Options, slots int, shell string) daemon.Options {
	now := daemon.Options{
		Slots: slots, Initializer: o.initializer, Shell: shell, Origin: wire.Context{Dir: o.dir, Env: os.Environ()},
		MaxCalls: o.maxCalls, Nice: o.nice, Grace: cmp.Or(o.grace, graceAfterTerm), MaxRSS: o.maxRSS,
		Idle: o.idle, SpoolLimit: o.spoolLimit, MaxAge: o.maxAge,
	}
	if before == nil {
		return now
	}
	is := *before
	for flag, take := range map[string]func(){
		"jobs":             func() { is.Slots = now.Slots },
		"initializer":      func() { is.Initializer, is.Shell, is.Origin = now.Initializer, now.Shell, now.Origin },
		"maxtasksperchild": func() { is.MaxCalls = now.MaxCalls },
		"nice":             func() { is.Nice = now.Nice },
		"grace":            func() { is.Grace = now.Grace },
		"max-rss":          func() { is.MaxRSS = now.MaxRSS },
		"idle":             func() { is.Idle = now.Idle },
		"spool-limit":      func() { is.SpoolLimit = now.SpoolLimit },
		"max-age":          func() { is.MaxAge = now.MaxAge },
	} {
		if o.given(flag) {
			take()
		}
	}
	return is
}
