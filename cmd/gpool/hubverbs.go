package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	poolwire "gpool/internal/pool/daemon/wire"
	"gpool/internal/pool/hub/wire"
)

// What the verbs of shared state have in common: lock, sem, queue, event, barrier, dict, value and hub.

// keyVariable has the file of the key that the hub wants.
const keyVariable = "GPOOL_AUTHKEY_FILE"

// addShared adds the verbs of shared state.
func addShared(root *cobra.Command, io stdio) {
	root.AddCommand(newLock(io), newSem(io), newQueue(io), newEvent(io), newBarrier(io), newDict(io), newValue(io), newHub(io), newManager(io))
}

// hubClient is one command that uses a hub. It has one connection, and is one member: what it
// holds ends with it.
type hubClient struct {
	io       stdio
	hub      string // of --hub
	keyFile  string
	pool     string // of --pool
	timeout  limit
	link     *wire.Link
	used     wire.Address // found by address
	deaf     func()       // ends heedSignals
	rescue   func()       // gives back what was taken and is not printed; or nil. Under rescuing
	rescuing sync.Mutex
	// Locked but for the time in which nothing is lost if gpool ends on the spot: a signal waits for it.
	busy sync.Mutex
}

// define makes the flags that say where the hub is.
func (c *hubClient) define(f *pflag.FlagSet) {
	f.StringVar(&c.hub, "hub", "", "the address of the hub: unix:PATH, tcp:HOST:PORT, tls:HOST:PORT (default: $"+hubVariable+", or else that of the pool)")
	f.StringVar(&c.keyFile, "authkey-file", "", "the file of the key that the hub wants (default: $"+keyVariable+")")
	f.StringVar(&c.pool, "pool", "", "use the hub of this background pool (default: $"+poolVariable+")")
}

// check finds what is wrong with the flags.
func (c *hubClient) check() error {
	if c.hub != "" && c.pool != "" {
		return errors.New("--hub and --pool exclude each other: a pool has its own hub")
	}
	return nil
}

// address finds the hub, and the key for it. The hub of a pool is on this machine and belongs to this
// user, so it wants none.
func (c *hubClient) address(ctx context.Context) (wire.Address, wire.Key, error) {
	text, from := c.hub, "--hub"
	if text == "" && c.pool == "" {
		text, from = os.Getenv(hubVariable), "$"+hubVariable
	}
	if text == "" {
		address, err := poolHub(ctx, (&clients{pool: c.pool}).name())
		c.used = address
		return address, nil, err
	}
	address, err := wire.ParseAddress(absolute(text))
	if err != nil {
		return "", nil, &exitError{exitUsage, fmt.Errorf("%s: %w", from, err)}
	}
	c.used = address
	key, err := readKey(c.keyFile)
	return address, key, err
}

// absolute makes the path of a Unix socket one that is the same in every directory.
func absolute(address string) string {
	path, local := strings.CutPrefix(address, "unix:")
	if !local || path == "" || path[0] == '@' || filepath.IsAbs(path) {
		return address
	}
	if full, err := filepath.Abs(path); err == nil {
		return "unix:" + full
	}
	return address
}

// variables are what a command needs to find the hub that was used here.
func (c *hubClient) variables() []string {
	list := []string{hubVariable + "=" + string(c.used)}
	if file := cmp.Or(c.keyFile, os.Getenv(keyVariable)); file != "" {
		if full, err := filepath.Abs(file); err == nil {
			list = append(list, keyVariable+"="+full)
		}
	}
	return list
}

// readKey reads the key of --authkey-file or its variable; there may be none.
func readKey(file string) (wire.Key, error) {
	file = cmp.Or(file, os.Getenv(keyVariable))
	if file == "" {
		return nil, nil
	}
	key, err := wire.ReadKey(file)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return key, nil
}

// poolHub is the address of the hub of a background pool, which is started if it does not run.
func poolHub(ctx context.Context, pool string) (wire.Address, error) {
	c := newClients(exitPool, stdio{})
	l, err := c.link(pool)
	if err != nil {
		return "", err
	}
	l.always = true
	defer l.close()
	commons, err := ask(ctx, l, poolwire.Share, poolwire.Nothing{})
	return wire.Address(commons.Hub), err
}

// signalled is why something was given up: gpool was told to end.
type signalled struct{ syscall.Signal }

func (s signalled) Error() string { return "gpool was told to end: " + s.String() }

// run connects, does what a verb does, and gives its error the exit code. Signals end ctx. What was
// granted meanwhile is do's to give back.
func (c *hubClient) run(do func(ctx context.Context) error) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c.busy.Lock()
	c.deaf = c.heedSignals(cancel)
	defer c.deaf()
	err := c.connect(ctx)
	if err == nil {
		defer func() { _ = c.link.Close() }() // all answers that matter have come
		err = do(ctx)
	}
	return hubError(err)
}

// connect makes the connection.
func (c *hubClient) connect(ctx context.Context) error {
	address, key, err := c.address(ctx)
	if err != nil {
		return err
	}
	c.link, err = wire.Dial(ctx, address, key)
	if errors.Is(err, wire.ErrKeyUnknown) && c.keyFile == "" && address.Local() {
		// The key of the environment is that of a manager, and this hub is that of a run.
		c.link, err = wire.Dial(ctx, address, nil)
	}
	return err
}

// heedSignals makes the first signal end what waits, and gpool with it as soon as nothing can be
// lost; the second one, or a reader that takes nothing for some time, ends it at once. After stop the
// signals are others' business.
func (c *hubClient) heedSignals(cancel context.CancelCauseFunc) (stop func()) {
	sigC := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(sigC, sig)
		}
	}
	// Heard and not heeded: a write to a closed pipe fails, and what was not read is put back.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	quitC, doneC := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(doneC)
		select {
		case sig := <-sigC:
			first := sig.(syscall.Signal)
			cancel(signalled{first})
			go c.endAtLast(first, sigC)
		case <-quitC:
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(sigC)
		close(quitC)
		<-doneC
	})
}

// endAtLast ends gpool after a signal. If the verb comes first, it does that itself.
func (c *hubClient) endAtLast(first syscall.Signal, sigC <-chan os.Signal) {
	end := func() { os.Exit(exitSignal + int(first)) }
	go func() {
		select {
		case <-sigC:
		case <-time.After(giveUp):
		}
		c.rescuing.Lock() // for ever: nothing is printed after it
		if c.rescue != nil {
			c.rescue()
		}
		end()
	}()
	c.busy.Lock()
	end()
}

// unhurried does something in which a signal may end gpool on the spot, such as to read stdin.
func (c *hubClient) unhurried(do func()) {
	c.busy.Unlock()
	do()
	c.busy.Lock()
}

// call asks the hub.
func (c *hubClient) call(ctx context.Context, r wire.Request) (wire.Reply, error) {
	return c.link.Call(ctx, &r)
}

// wait asks for what may have to be waited for, for as long as --timeout allows.
func (c *hubClient) wait(ctx context.Context, r wire.Request) (wire.Reply, error) {
	ctx, cancel := c.timeout.context(ctx)
	defer cancel()
	r.Wait = c.timeout.waits()
	return c.link.Call(ctx, &r)
}

// limit is how long is waited, for ever if it was not given.
type limit struct {
	given bool
	most  time.Duration
}

func (l *limit) define(f *pflag.FlagSet, short, help string) {
	read := func(text string) (err error) {
		l.given = true
		l.most, err = duration(text)
		return err
	}
	f.VarP(&setter{flag: "--timeout", kind: "TIME", read: read}, "timeout", short, help)
}

// defineTry makes the flag that stands for --timeout 0.
func (l *limit) defineTry(f *pflag.FlagSet, help string) {
	f.BoolFunc("try", help, func(string) error { *l = limit{given: true}; return nil })
}

// waits reports whether to wait at all.
func (l *limit) waits() bool { return !l.given || l.most > 0 }

// errLate is why something was given up: it took longer than --timeout.
var errLate = &lateError{"it took longer than --timeout"}

// lateError says what did not come in time.
type lateError struct{ text string }

func (e *lateError) Error() string { return e.text }

// tooLate says it in the words of a verb.
func tooLate(format string, args ...any) error { return &lateError{fmt.Sprintf(format, args...)} }

// context ends after the time, with errLate.
func (l *limit) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if !l.given || l.most == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, l.most, errLate)
}

// late reports whether an error says that there was not enough time, or none.
func late(err error) bool {
	_, ok := errors.AsType[*lateError](err)
	return ok || hubFault(err) == wire.FaultBusy
}

// hubFault is the code of a hub's refusal, empty if err is none.
func hubFault(err error) wire.FaultCode {
	if fault, ok := errors.AsType[*wire.Fault](err); ok {
		return fault.Code
	}
	return ""
}

// hubError gives an error its exit code: 1 is an answer (no such key, closed and empty, broken), 3
// is that there is none.
func hubError(err error) error {
	if sig, ok := errors.AsType[signalled](err); ok {
		return &exitError{code: exitSignal + int(sig.Signal)}
	}
	if _, known := errors.AsType[*exitError](err); err == nil || known {
		return err
	}
	if late(err) {
		return &exitError{exitLate, err}
	}
	switch hubFault(err) {
	case wire.FaultMissing, wire.FaultClosed, wire.FaultBroken:
		return &exitError{exitFailed, err}
	}
	return &exitError{exitPool, err}
}

// withName is the check of arguments: the name of an object, and between least and most others; most
// below 0 is any number.
func withName(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args) - 1; {
		case n < 0 || args[0] == "":
			return fmt.Errorf("say its name: %s", cmd.UseLine())
		case n < least:
			return fmt.Errorf("something is missing: %s", cmd.UseLine())
		case most >= 0 && n > most:
			return fmt.Errorf("%q is too much: %s", args[most+1], cmd.UseLine())
		}
		return nil
	}
}

// family makes a verb that has verbs of its own.
func family(name, short, long string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: unknownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// hubVerb is one verb of a family.
type hubVerb struct {
	use, short  string
	least, most int                                                         // arguments behind the name
	flags       func(f *pflag.FlagSet)                                      // of its own; nil if it has none
	do          func(ctx context.Context, name string, args []string) error // does it
}

// command makes the command of a verb. c is its own.
func (v hubVerb) command(c *hubClient) *cobra.Command {
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Args: withName(v.least, v.most),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return c.run(func(ctx context.Context) error { return v.do(ctx, args[0], args[1:]) })
		},
	}
	cmd.SetFlagErrorFunc(negativeNumber)
	f := cmd.Flags()
	f.SortFlags = false
	if v.flags != nil {
		v.flags(f)
	}
	c.define(f)
	return cmd
}

// negativeNumber tells how to write a number that was taken for a flag.
func negativeNumber(cmd *cobra.Command, err error) error {
	flag, ok := errors.AsType[*pflag.NotExistError](err)
	if ok && strings.ContainsAny(flag.GetSpecifiedName(), "0123456789") {
		return fmt.Errorf("a number below 0 comes behind --, as in: %s -- -1", cmd.CommandPath())
	}
	return flagError(cmd, err)
}

// print prints lines that end with end.
func (c *hubClient) print(end byte, lines ...[]byte) error {
	w := bufio.NewWriter(c.io.out)
	for _, line := range lines {
		_, _ = w.Write(line) // Flush tells
		_ = w.WriteByte(end)
	}
	if err := w.Flush(); err != nil {
		return outputError(err)
	}
	return nil
}

// printNumber prints a number on a line.
func (c *hubClient) printNumber(n int64) error { return c.print('\n', fmt.Append(nil, n)) }
