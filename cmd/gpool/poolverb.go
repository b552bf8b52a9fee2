package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/admit"
	"gpool/internal/pool/daemon/wire"
)

// The verbs of gpool pool. serveVerb is how a server is started, by wire.Start alone.
const (
	poolVerb  = "pool"
	serveVerb = "serve"
)

// poolOptions are what a pool is started with.
type poolOptions struct {
	pool        string // its name
	jobs        jobs
	initializer string
	maxCalls    int
	nice        int
	grace       time.Duration
	maxRSS      int64
	idle        time.Duration // 0 is for ever
	spoolLimit  int64
	maxAge      time.Duration
	dir         string // where its initializer runs; only given to the server
	reopen      bool   // only given to the server: a pool that was closed takes calls again

	flags *pflag.FlagSet // that were defined by define
}

// given reports whether the user has given a flag. Those of a pool that was here before are kept
// in the place of those that were not.
func (o *poolOptions) given(flag string) bool { return o.flags.Changed(flag) }

// define makes the flags of start and serve.
func (o *poolOptions) define(f *pflag.FlagSet) {
	o.flags = f
	o.idle, o.spoolLimit, o.maxAge = 10*time.Minute, 10<<30, 7*24*time.Hour
	f.VarP(&o.jobs, "jobs", "j", "workers: N, N% of the CPUs, +N or -N relative to them (default: one for each CPU this process may use)")
	f.StringVar(&o.initializer, "initializer", "", "shell command line that is run once in each new worker before its first call")
	f.Var(parsed("--maxtasksperchild", "N", &o.maxCalls, atLeast(1)), "maxtasksperchild", "calls after which a worker is replaced (default: never)")
	f.Var(parsed("--nice", "N", &o.nice, atLeast(-40)), "nice", "makes what runs nicer to others by N")
	f.Var(parsed("--grace", "TIME", &o.grace, someTime), "grace", "time from SIGTERM to SIGKILL for what is ended (default: 0.5s)")
	f.Var(parsed("--max-rss", "SIZE", &o.maxRSS, admit.ParseSize), "max-rss", "end a call that takes more memory, with all that it has started")
	f.Var(parsed("--idle", "TIME", &o.idle, duration), "idle", "end the pool when it has had nothing to do, and nothing to be fetched, for so long (default: 10m; 0: never)")
	f.Var(parsed("--spool-limit", "SIZE", &o.spoolLimit, admit.ParseSize), "spool-limit", "keep no more output than this (default: 10G)")
	f.Var(parsed("--max-age", "TIME", &o.maxAge, duration), "max-age", "drop results that nobody has fetched after this time (default: 7d; 0: never)")
}

// arguments are the flags that were given, for the server.
func (o *poolOptions) arguments() []string {
	var list []string
	o.flags.Visit(func(f *pflag.Flag) {
		if f.Name != "pool" {
			list = append(list, "--"+f.Name+"="+f.Value.String())
		}
	})
	return list
}

const poolHelp = `pool starts, describes and ends pools in the background, which apply-async hands
calls to. A pool is named by --pool or $GPOOL_POOL; it is the pool "default" if
neither is given. It belongs to its user and to $XDG_RUNTIME_DIR: where that is
another one, or not set (cron, services), a name is another pool.

EXIT STATUS
  0      done; for close, join and terminate also if no such pool runs
  1      the pool is not there (status, resize), not closed (join), or runs and is
         not as the flags say (start)
  2      bad usage
  3      gpool itself failed
  128+N  stopped by signal N`

func newPool(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   poolVerb,
		Short: "Start, describe and end pools in the background",
		Long:  poolHelp,
		Args:  unknownVerb,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStart(io), newStatus(io), newServe())
	cmd.AddCommand(newPoolVerb(io, "close", "Take no more calls; the pool ends when it has done those it has",
		"close lets the pool take no more calls. It ends when those that it has, and their\ncallbacks, have ended.", closePool))
	cmd.AddCommand(newPoolVerb(io, "join", "Wait for the end of a pool that is closed",
		"join waits until a closed pool has done all of its calls, and has ended. Its\nresults stay, for gpool get. Exit code 1: the pool is not closed.", joinPool))
	cmd.AddCommand(newPoolVerb(io, "terminate", "End a pool at once, with all of its calls",
		"terminate ends all calls, those that run with SIGTERM and then SIGKILL, and the\npool. No callbacks are run.", terminatePool))
	cmd.AddCommand(newResize(io))
	return cmd
}

// newPoolVerb makes a verb that has no flags but --pool.
func newPoolVerb(io stdio, name, short, long string, do func(*clients, *link) error) *cobra.Command {
	c := newClients(exitPool, io)
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return c.run(func() error { return c.withPool(do) }) },
	}
	c.definePool(cmd.Flags())
	return cmd
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q is too much: there are no arguments, and a pool is named by --pool", args[0])
	}
	return nil
}

// withPool does something to the pool that is meant.
func (c *clients) withPool(do func(*clients, *link) error) error {
	l, err := c.link(c.name())
	if err != nil {
		return err
	}
	return do(c, l)
}

// closePool closes the pool. One that has ended is closed.
func closePool(c *clients, l *link) error {
	_, err := ask(context.Background(), l, wire.Close, wire.Nothing{})
	return c.unlessGone("close", l, err)
}

// joinPool waits for the end of the connection: then the server has ended, too.
func joinPool(_ *clients, l *link) error {
	_, err := ask(context.Background(), l, wire.Join, wire.Joining{Within: os.Getenv(idVariable)})
	if faultOf(err) == wire.FaultOpen {
		return &exitError{exitFailed, fmt.Errorf("the pool %q still takes calls: gpool pool close first", l.place.Name)}
	}
	if err != nil && !hasEnded(err) {
		return err
	}
	l.wait()
	return nil
}

func terminatePool(c *clients, l *link) error {
	_, err := ask(context.Background(), l, wire.Terminate, wire.Nothing{})
	if err := c.unlessGone("terminate", l, err); err != nil {
		return err
	}
	l.wait()
	return nil
}

// wait waits until the connection has ended, and so its server. One that was about to end when we
// came has removed its socket already, and its lock soon after; what a server that was killed has
// left there is not waited for.
func (l *link) wait() {
	if l.client != nil {
		<-l.client.Done()
		return
	}
	for range 50 {
		if _, err := os.Lstat(l.place.Lock); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// hasEnded reports whether an error says that there is no pool any more.
func hasEnded(err error) bool {
	_, none := errors.AsType[*noPoolError](err)
	return none || serverEnded(err)
}

// unlessGone is the error of a verb that wants a pool to end: one that has ended is none.
func (c *clients) unlessGone(verb string, l *link, err error) error {
	if _, none := errors.AsType[*noPoolError](err); none {
		fmt.Fprintf(c.io.err, "gpool pool %s: %v\n", verb, err)
		return nil
	}
	if err != nil && hasEnded(err) {
		return nil
	}
	return err
}

func newResize(io stdio) *cobra.Command {
	c := newClients(exitPool, io)
	cmd := &cobra.Command{
		Use:   "resize N",
		Short: "Change the number of workers of a pool",
		Long: `resize changes the number of workers: N, N% of the CPUs, +N or -N relative to the
CPUs (gpool pool resize -- -2), as for --jobs. Calls that run are not ended:
workers that are too many leave when theirs have.`,
		RunE: func(_ *cobra.Command, args []string) error {
			size, err := sizeOf(args)
			if err != nil {
				return err
			}
			return c.run(func() error {
				return c.withPool(func(_ *clients, l *link) error {
					_, err := ask(context.Background(), l, wire.Resize, wire.Size{N: size})
					if _, none := errors.AsType[*noPoolError](err); none {
						err = &exitError{exitFailed, fmt.Errorf("%w: gpool pool start -j%d starts it", err, size)}
					}
					return err
				})
			})
		},
	}
	c.definePool(cmd.Flags())
	return cmd
}

func sizeOf(args []string) (int, error) {
	if len(args) != 1 {
		return 0, errors.New("say how many workers there should be: gpool pool resize N")
	}
	j := jobs{}
	if err := j.Set(args[0]); err != nil {
		return 0, &badValue{"N", args[0], "it is N, N%, +N or -N, and at least 1 and at most " + fmt.Sprint(maxWorkers)}
	}
	return j.count()
}

const startHelp = `start starts a pool in the background. It is not needed: apply-async starts one
as it would be without flags. A pool ends by itself when it has been idle for a
time (--idle) and no result waits to be fetched. What a pool of this name was
started with before holds for flags that are not given, if it has left calls or
results behind.

EXIT STATUS
  0 the pool runs; 1 it ran before, and not as the flags say; 2 bad usage; 3 gpool
  itself failed; 128+N stopped by signal N`

func newStart(io stdio) *cobra.Command {
	c, o := newClients(exitPool, io), &poolOptions{}
	cmd := &cobra.Command{
		Use:   "start [flags]",
		Short: "Start a pool in the background",
		Long:  startHelp,
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.run(func() error { return o.start(c) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.define(f)
	c.definePool(f)
	return cmd
}

// start starts the pool, or holds one that runs against what was asked for.
func (o *poolOptions) start(c *clients) error {
	arguments := append(o.arguments(), "--reopen")
	if o.initializer != "" {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("find the directory in which the initializer will run: %w", err)
		}
		arguments = append(arguments, "--dir="+dir)
	}
	l, err := c.link(c.name(), arguments...)
	if err != nil {
		return err
	}
	l.always = true
	status, err := ask(context.Background(), l, wire.Tell, wire.Telling{})
	if err != nil {
		return err
	}
	slots, err := o.jobs.count()
	if err != nil {
		return err
	}
	if why := o.differs(&status, slots); why != "" {
		return &exitError{exitFailed, fmt.Errorf("the pool %q runs already: %s", status.Pool, why)}
	}
	return nil
}

// differs says what the pool that runs, which may be the one that was started now, is not that was
// asked for.
func (o *poolOptions) differs(s *wire.Status, slots int) string {
	if s.Closed {
		return "it is closed, and ends when its calls have; gpool pool join waits for that"
	}
	is := s.Options
	is.Slots = slots
	switch wanted := o.over(&is, slots, is.Shell); {
	case !wanted.Same(&is):
		return o.others() + " cannot be changed while it does; gpool pool close, and start it again"
	case o.jobs.given() && slots != s.Slots:
		return fmt.Sprintf("it has %s, and not %d; gpool pool resize %d changes that", count(int64(s.Slots), "worker"), slots, slots)
	}
	return ""
}

// others are the flags that only a pool that does not run can be given.
func (o *poolOptions) others() string {
	var others []string
	o.flags.Visit(func(f *pflag.Flag) {
		if f.Name != "pool" && f.Name != "jobs" {
			others = append(others, "--"+f.Name)
		}
	})
	return strings.Join(others, ", ")
}

func newServe() *cobra.Command {
	o := &poolOptions{}
	cmd := &cobra.Command{
		Use: serveVerb, Short: "Serve a pool; gpool starts this itself", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := serveBackground(o); err != nil {
				return &exitError{exitPool, err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	o.define(f)
	f.StringVar(&o.pool, "pool", wire.DefaultPool, "the name of the pool")
	f.StringVar(&o.dir, "dir", "", "where its initializer runs")
	f.BoolVar(&o.reopen, "reopen", false, "take calls again if it was closed")
	return cmd
}
