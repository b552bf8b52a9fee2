package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/pool/launch"
)

// What the clients of background pools share: apply-async, get, wait, ready, cancel and pool.

// poolVariable names the pool if --pool does not. idVariable has the id of the call that runs us,
// or whose callback we are, if any does.
const (
	poolVariable = "GPOOL_POOL"
	idVariable   = "GPOOL_ID"
)

// addBackground adds the verbs of background pools.
func addBackground(root *cobra.Command, io stdio) {
	root.AddCommand(newApplyAsync(io), newGet(io), newWait(io), newReady(io), newCancel(io), newPool(io))
}

// clients are the connections of one command to background pools.
type clients struct {
	pool    string // of --pool; empty if it was not given
	failure int    // the exit code if it cannot be done
	io      stdio
	busy    sync.Mutex // held while a signal has to wait
	links   map[string]*link
}

func newClients(failure int, io stdio) *clients {
	return &clients{failure: failure, io: io, links: map[string]*link{}}
}

// definePool makes the flag that names the pool.
func (c *clients) definePool(f *pflag.FlagSet) {
	f.StringVar(&c.pool, "pool", "", "the name of the pool (default: $"+poolVariable+", or else "+wire.DefaultPool+")")
}

// name is that of the pool that is meant where no id says so.
func (c *clients) name() string { return cmp.Or(c.pool, os.Getenv(poolVariable), wire.DefaultPool) }

// run does what a client does, and gives its error the exit code.
func (c *clients) run(do func() error) error {
	c.heedSignals()
	err := do()
	for _, l := range c.links {
		l.close()
	}
	if _, known := errors.AsType[*exitError](err); err == nil || known {
		return err
	}
	return &exitError{c.failure, err}
}

// heedSignals ends gpool with 128+N at the signal N. A client leaves nothing behind, and the calls
// go on without it. The first signal waits while we are busy, so that no call is handed in whose
// id nobody gets; the second does not. The goroutines end with the process.
func (c *clients) heedSignals() {
	sigC := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(sigC, sig)
		}
	}
	// Heard and not heeded: a write to a closed pipe fails, and what was not read is kept.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	end := func(sig os.Signal) { os.Exit(exitSignal + int(sig.(syscall.Signal))) }
	go func() {
		first := <-sigC
		go func() { end(<-sigC) }()
		c.busy.Lock()
		end(first)
	}()
}

// link is the connection to one pool. It is made when it is first needed, and once more if the
// server is killed meanwhile. One goroutine uses it at a time.
type link struct {
	place  wire.Place
	argv   []string // with which the server is started
	always bool     // also if there is nothing to be saved
	client *wire.Client
	losses int  // how often a server has gone while we asked it
	bound  bool // what we ask about ends with the server
}

// lossesMost is how often a question is put again. Each time it takes somebody who kills the server.
const lossesMost = 20

// link returns that to the pool of a name. flags are given to a server that has to be started.
func (c *clients) link(pool string, flags ...string) (*link, error) {
	if l := c.links[pool]; l != nil {
		return l, nil
	}
	place, err := wire.Locate(pool, os.Getenv)
	if _, bad := errors.AsType[*wire.NameError](err); bad {
		return nil, &exitError{exitUsage, err}
	}
	if err != nil {
		return nil, err
	}
	argv, err := serverCommand(pool, flags)
	if err != nil {
		return nil, err
	}
	c.links[pool] = &link{place: place, argv: argv}
	return c.links[pool], nil
}

// serverCommand is how this very program is started as a server. Its path is what people see in
// a list of processes, so it is a readable one if that still is this program: an upgrade may
// have replaced it.
func serverCommand(pool string, flags []string) ([]string, error) {
	self, err := launch.Self()
	if err != nil {
		return nil, err
	}
	path := self.Path
	if readable, err := os.Executable(); err == nil && sameFile(readable, path) {
		path = readable
	}
	return slices.Concat([]string{path, poolVerb, serveVerb, "--pool", pool}, flags), nil
}

// noPoolError says that there is neither a server nor anything that one has left.
type noPoolError struct{ pool string }

func (e *noPoolError) Error() string { return fmt.Sprintf("no pool %q runs", e.pool) }

// connect makes the connection. A server that is not there is started if it has left something
// behind: it was killed, or has results that were not fetched.
func (l *link) connect(ctx context.Context) (err error) {
	if !l.always {
		l.client, err = wire.Dial(ctx, l.place, gpool.Version)
		if !errors.Is(err, wire.ErrNoServer) {
			return err
		}
		if !l.place.Kept() {
			return &noPoolError{l.place.Name}
		}
	}
	l.client, err = wire.Open(ctx, l.place, gpool.Version, l.argv)
	return err
}

// close ends the connection, if there is one.
func (l *link) close() {
	if l.client != nil {
		_ = l.client.Close() // we only read, or have our answer
		l.client = nil
	}
}

// ready makes sure that there is a connection, as far as one can know.
func (l *link) ready(ctx context.Context) error {
	if l.client != nil {
		select {
		case <-l.client.Done():
			l.close()
		default:
			return nil
		}
	}
	return l.connect(ctx)
}

// askOnce puts a question once.
func askOnce[Q, A any](ctx context.Context, l *link, m wire.Method[Q, A], q Q) (answer A, err error) {
	if err := l.ready(ctx); err != nil {
		return answer, err
	}
	return wire.Ask(ctx, l.client, m, q)
}

// ask puts a question, and again if the server has ended before it has answered: the next
// one knows what that one knew.
func ask[Q, A any](ctx context.Context, l *link, m wire.Method[Q, A], q Q) (A, error) {
	return askWhile(ctx, l, m, q, serverEnded)
}

// askWhile puts a question again for as long as an error allows that.
func askWhile[Q, A any](ctx context.Context, l *link, m wire.Method[Q, A], q Q, again func(error) bool) (A, error) {
	for {
		answer, err := askOnce(ctx, l, m, q)
		if !again(err) || l.bound || l.losses >= lossesMost {
			return answer, err
		}
		l.losses++
		l.leave(ctx)
	}
}

// serverEnded reports whether an error says that the server has ended, or does.
func serverEnded(err error) bool {
	return errors.Is(err, wire.ErrServerGone) || faultOf(err) == wire.FaultEnded
}

// leave ends the connection to a server that ends, once that has ended it, or after some time.
func (l *link) leave(ctx context.Context) {
	if l.client == nil {
		return
	}
	select {
	case <-l.client.Done():
	case <-ctx.Done():
	case <-time.After(leaveTime):
	}
	l.close()
}

// leaveTime is how long a server may take to end what runs, with the longest grace that is usual.
const leaveTime = 30 * time.Second

// owner returns the link to the pool that has the call of an id.
func (c *clients) owner(id string) (*link, error) {
	pool, _, _, err := wire.ParseID(id)
	if err != nil {
		return nil, err
	}
	if c.pool != "" && c.pool != pool {
		return nil, fmt.Errorf("--pool %s: the call %s is of the pool %s, as its id says; leave --pool out", printable(c.pool), id, pool)
	}
	return c.link(pool)
}

// askOf puts a question about one call to its pool.
func askOf[Q, A any](ctx context.Context, c *clients, id string, m wire.Method[Q, A], q Q) (answer A, err error) {
	l, err := c.owner(id)
	if err != nil {
		return answer, err
	}
	answer, err = ask(ctx, l, m, q)
	return answer, explainOf(id, err)
}

// endedError says that there is nothing left of the pool of a call.
type endedError struct {
	id string
	error
}

func (e *endedError) Error() string {
	return fmt.Sprintf("the pool of %s does not run, and has left nothing: its results were fetched or thrown away, or it belongs to another XDG_RUNTIME_DIR", e.id)
}
func (e *endedError) Unwrap() error { return e.error }

// explainOf words why a call is not known any more.
func explainOf(id string, err error) error {
	if _, none := errors.AsType[*noPoolError](err); none {
		return &endedError{id, err}
	}
	return err
}

// faultOf is the code of a server's refusal, empty if err is none.
func faultOf(err error) wire.FaultCode {
	if fault, ok := errors.AsType[*wire.Fault](err); ok {
		return fault.Code
	}
	return ""
}

// needIDs refuses a command line without the id of a call, which is most often that of a variable
// that is not set.
func needIDs(cmd *cobra.Command, ids []string) error {
	if len(ids) == 0 {
		return fmt.Errorf("say of which call: gpool %s ID, with an id that gpool apply-async has printed", cmd.Name())
	}
	return nil
}

// title names a call for people: what the user calls it, or else what it runs.
func title(i *wire.Info) string {
	if text := cmp.Or(i.Name, i.Text); text != "" {
		return i.ID + " (" + printable(shorten([]string{text})[0]) + ")"
	}
	return i.ID
}

// verdictOf says why a call has not succeeded.
func verdictOf(r *wire.Result) string {
	why := printable(strings.TrimSpace(r.Error))
	switch {
	case r.Outcome == "":
		return "it has not ended"
	case r.Outcome == wire.Failed && r.Signal != 0:
		return fmt.Sprintf("ended by signal %d (%v)", r.Signal, syscall.Signal(r.Signal))
	case r.Outcome == wire.Failed && r.Exit > 0:
		return fmt.Sprintf("exit code %d", r.Exit)
	case why == "" || strings.HasPrefix(why, string(r.Outcome)):
		return cmp.Or(why, string(r.Outcome))
	}
	return string(r.Outcome) + ": " + why
}

// patience is the value of --timeout of clients: how long they wait for calls, if not for ever.
type patience struct {
	given bool
	most  time.Duration
	until time.Time
}

func (p *patience) define(f *pflag.FlagSet) {
	f.Var(&setter{flag: "--timeout", kind: "TIME", read: func(text string) (err error) {
		p.given = true
		p.most, err = duration(text)
		p.until = time.Now().Add(p.most)
		return err
	}}, "timeout", "wait no longer than this (0: not at all), and end with 124; the calls go on")
}

// context ends a bit after the time, in which a server should have said that it is over.
func (p *patience) context() (context.Context, context.CancelFunc) {
	if !p.given {
		return context.WithCancel(context.Background())
	}
	return context.WithDeadline(context.Background(), p.until.Add(answerTime))
}

// answerTime is how long a server may take to say that the time is up.
const answerTime = time.Second

// left is how long to wait from now on; below 0 is for ever.
func (p *patience) left() time.Duration {
	if !p.given {
		return -1
	}
	return max(0, time.Until(p.until))
}
