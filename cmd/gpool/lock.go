package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/hub/wire"
	"gpool/internal/pool/launch"
)

// abandonedVariable tells a command that the last one that held its lock has died with it.
const abandonedVariable = "GPOOL_ABANDONED"

// holding is one execution of lock or sem: a command that is run while something is held.
type holding struct {
	*hubClient
	verb      string
	line      string // of -c
	shell     string
	conflict  int // the exit code if it was not had
	strict    bool
	count     int  // units of the semaphore that there are
	drain     bool // --wait: no command, but the end of all others
	apart     bool // --bg
	readyFile int  // a descriptor to close when the unit is had: given to the gpool that runs a command of --bg
}

const lockHelp = `lock runs COMMAND while it has the lock NAME, and exits as COMMAND does. The lock
is made when it is first used. It is released when COMMAND has ended, whatever
COMMAND has left in the background; if gpool is killed, when COMMAND has, too, and
all that it has left.

  gpool lock deploy --timeout 10m -- ./deploy.sh
  gpool lock report -c 'sort -u new old > all'

COMMAND has GPOOL_ABANDONED=1 in its environment if the last holder died with the
lock: what the lock guards may be half done. All locks are exclusive.

EXIT STATUS
  that of COMMAND; 128+N if signal N ended it; 126 if it cannot be executed, 127
  if it is not there; 1 (see -E) the lock was not had within --timeout; 2 bad
  usage; 3 gpool itself failed, or --strict; 128+N stopped by signal N while it
  waited`

func newLock(io stdio) *cobra.Command {
	h := &holding{hubClient: &hubClient{io: io}, verb: "lock", readyFile: -1}
	return h.command("lock NAME [flags] [--] COMMAND [ARG...]", "Run COMMAND while it has a lock", lockHelp, func(f *pflag.FlagSet) {
		f.BoolVar(&h.strict, "strict", false, "do not run COMMAND if the last holder died with the lock: exit code 3")
	})
}

const semHelp = `sem runs COMMAND while it has one of the N units of the semaphore NAME, so that at
most N commands run at once, and exits as COMMAND does. All who use the semaphore
say the same N.

  for f in *.iso; do gpool sem mirror -n 3 --bg -- upload "$f"; done
  gpool sem mirror -n 3 --wait

With --bg gpool ends as soon as COMMAND has its unit and runs in the background, in
a session of its own and with an empty stdin. --wait waits until nobody has a unit
of those who have, or wait for, one now.

EXIT STATUS
  that of COMMAND; 128+N if signal N ended it; 126 if it cannot be executed, 127
  if it is not there; --bg: 0 when COMMAND has been started; 1 (see -E) a unit was
  not had within --timeout; 2 bad usage; 3 gpool itself failed; 128+N stopped by
  signal N while it waited`

func newSem(io stdio) *cobra.Command {
	h := &holding{hubClient: &hubClient{io: io}, verb: "sem", count: 1}
	cmd := h.command("sem NAME [flags] [--] COMMAND [ARG...]", "Run COMMAND while it has a unit of a semaphore", semHelp, func(f *pflag.FlagSet) {
		count := parsed("--count", "N", &h.count, atLeast(1))
		f.VarP(count, "count", "n", "units that there are; all who use the semaphore say the same (default: 1)")
		f.VarP(count, "jobs", "j", "the same, as GNU sem has it")
		f.BoolVar(&h.apart, "bg", false, "end when COMMAND runs, in the background")
		f.Bool("fg", false, "wait for the end of COMMAND, as is done without it")
		f.BoolVar(&h.drain, "wait", false, "run no COMMAND: wait until nobody has a unit")
		f.IntVar(&h.readyFile, "ready-file", -1, "")
		_ = f.MarkHidden("ready-file") // it is there
	})
	cmd.MarkFlagsMutuallyExclusive("bg", "fg", "wait")
	return cmd
}

func (h *holding) command(use, short, long string, own func(f *pflag.FlagSet)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, DisableFlagsInUseLine: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, words, err := nameAndCommand(cmd, args)
			if err != nil {
				return err
			}
			return h.start(cmd, name, words)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // parsing stops at NAME, and again at COMMAND: its flags are its own
	f.SortFlags = false
	f.StringVarP(&h.line, "command", "c", "", "run this shell command line instead of COMMAND")
	f.StringVar(&h.shell, "shell", "sh", "the shell for -c")
	h.timeout.define(f, "w", "wait no longer than this (0: not at all)")
	h.timeout.defineTry(f, "do not wait: --timeout 0")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "nonblock" { // as flock has it
			name = "try"
		}
		return pflag.NormalizedName(name)
	})
	h.conflict = exitFailed
	f.VarP(parsed("--conflict-exit-code", "N", &h.conflict, exitCodeText), "conflict-exit-code", "E", "exit with N if it was not had in time (default: 1)")
	own(f)
	h.define(f)
	return cmd
}

func exitCodeText(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 255 {
		return 0, errors.New("an exit code is a number from 0 to 255")
	}
	return n, nil
}

// nameAndCommand takes the name off, and the flags between it and COMMAND: both places are usual.
func nameAndCommand(cmd *cobra.Command, args []string) (name string, words []string, err error) {
	if len(args) == 0 || args[0] == "" {
		return "", nil, fmt.Errorf("say its name: gpool %s", cmd.Use)
	}
	if err := cmd.Flags().Parse(args[1:]); err != nil {
		return "", nil, flagError(cmd, err)
	}
	return args[0], cmd.Flags().Args(), nil
}

// start finds what is wrong with the command line before anything is waited for.
func (h *holding) start(cmd *cobra.Command, name string, words []string) error {
	if help, err := cmd.Flags().GetBool("help"); err == nil && help { // behind NAME
		return cmd.Help()
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return err
	}
	given := cmd.Flags().Changed("command")
	switch {
	case h.drain && (given || len(words) > 0):
		return errors.New("--wait runs no COMMAND: leave it out")
	case h.drain:
		return h.run(func(ctx context.Context) error { return h.late(name, h.drained(ctx, name)) })
	case given:
		words = slices.Concat([]string{h.shell, "-c", h.line, h.shell}, words)
	case len(words) == 0:
		return fmt.Errorf("there is no command to run: gpool %s; or give a shell command line with -c", cmd.Use)
	}
	path, err := surroundings{}.program(map[bool]string{false: "COMMAND", true: "the shell"}[given], words[0])
	if program, ok := errors.AsType[*programError](err); ok {
		return &exitError{program.exitCode(), err}
	}
	if h.apart {
		return h.inBackground(name, words)
	}
	if h.readyFile >= 0 {
		syscall.CloseOnExec(h.readyFile) // it is ours, and not COMMAND's
	}
	child := &exec.Cmd{Path: path, Args: words, Stdin: h.io.in, Stdout: h.io.out, Stderr: h.io.err}
	return h.run(func(ctx context.Context) error { return h.hold(ctx, name, child) })
}

// requests are what takes and gives back.
func (h *holding) requests(name string) (acquire, release wire.Request) {
	if h.verb == "lock" {
		return wire.Request{Op: wire.LockAcquire, Object: name}, wire.Request{Op: wire.LockRelease, Object: name, Hold: true}
	}
	r := wire.Request{Op: wire.SemAcquire, Object: name, Hold: true, Init: int64(h.count), N: 1}
	acquire, release = r, r
	release.Op = wire.SemRelease
	return acquire, release
}

// hold waits for the lock, runs the command, and releases the lock: one that goes back by the end of
// the connection alone is taken for abandoned.
func (h *holding) hold(ctx context.Context, name string, child *exec.Cmd) error {
	acquire, release := h.requests(name)
	reply, err := h.wait(ctx, acquire)
	if err != nil {
		return h.late(name, err)
	}
	child.Env, err = h.environment(name, reply.Flag && h.verb == "lock")
	if err == nil {
		err = h.runChild(ctx, name, child)
	}
	if _, rerr := h.call(context.WithoutCancel(ctx), release); rerr != nil {
		fmt.Fprintf(h.io.err, "gpool %s: %s was not had any more when COMMAND ended: %v\n", h.verb, h.what(name), rerr)
	}
	return err
}

// what names the thing for people.
func (h *holding) what(name string) string {
	if h.verb == "lock" {
		return fmt.Sprintf("the lock %q", name)
	}
	return fmt.Sprintf("a unit of the semaphore %q", name)
}

// late gives the error of somebody who has waited long enough its exit code.
func (h *holding) late(name string, err error) error {
	if !late(err) {
		return err
	}
	if h.drain {
		return &exitError{h.conflict, fmt.Errorf("the semaphore %q is still in use after %v", name, h.timeout.most)}
	}
	return &exitError{h.conflict, fmt.Errorf("%s was not had within %v; gpool hub list tells who has it", h.what(name), h.timeout.most)}
}

// environment is that of the command.
func (h *holding) environment(name string, abandoned bool) ([]string, error) {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, abandonedVariable+"=") })
	env = launch.With(env, h.variables()) // so that what COMMAND asks for is in the same hub
	switch {
	case abandoned && h.strict:
		return nil, fmt.Errorf("the last holder of the lock %q died with it, and --strict is given: COMMAND was not run; the next holder is not told", name)
	case abandoned:
		fmt.Fprintf(h.io.err, "gpool lock: the last holder of the lock %q died with it: what it guards may be half done\n", name)
		env = append(env, abandonedVariable+"=1")
	}
	return env, nil
}

// runChild runs the command with a copy of our connection, which stays open in it and in what it
// leaves behind: if gpool is killed, they go on having the lock. It is not among ExtraFiles, which
// would take the place of a descriptor of the user's.
func (h *holding) runChild(ctx context.Context, name string, child *exec.Cmd) error {
	signals := h.passSignals()
	defer signals.stop()
	if err := context.Cause(ctx); err != nil { // a signal came before
		return err
	}
	inherited, err := h.link.Inheritable()
	if err != nil {
		return fmt.Errorf("let COMMAND have a copy of the connection to the hub: %w", err)
	}
	err = child.Start()
	if errors.Is(err, syscall.ENOEXEC) { // a script without a first line, which is one of sh
		again := &exec.Cmd{Path: "/bin/sh", Args: append([]string{"sh", child.Path}, child.Args[1:]...),
			Env: child.Env, Stdin: child.Stdin, Stdout: child.Stdout, Stderr: child.Stderr}
		child, err = again, again.Start()
	}
	_ = syscall.Close(inherited) // COMMAND has its own
	if err != nil {
		return &exitError{(&programError{err: err}).exitCode(), fmt.Errorf("start COMMAND: %w", err)}
	}
	if h.readyFile >= 0 {
		h.tellReady()
	}
	signals.to(child.Process)
	endedC := make(chan struct{})
	go h.watchHub(name, endedC)
	err = child.Wait()
	close(endedC)
	return childError(err)
}

// watchHub says when the lock is lost while the command runs. It ends with it.
func (h *holding) watchHub(name string, endedC <-chan struct{}) {
	select {
	case <-h.link.Done():
		fmt.Fprintf(h.io.err, "gpool %s: the hub has ended, and with it %s, while COMMAND still runs\n", h.verb, h.what(name))
	case <-endedC:
	}
}

// childError is the exit code of a command, as shells have it. It has no text: the command
// has said what there is to say.
func childError(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &exitError{code: exitSignal + int(status.Signal())}
	}
	return &exitError{code: exit.ExitCode()}
}

// passing is what becomes of signals while the command runs. It is in our process group, so those
// of the terminal reach it without us; the others are passed on.
type passing struct {
	sigC chan os.Signal
	endC chan struct{}
}

// passSignals begins to keep signals from ending gpool.
func (h *holding) passSignals() *passing {
	p := &passing{sigC: make(chan os.Signal, 8), endC: make(chan struct{})}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(p.sigC, sig)
		}
	}
	h.deaf()
	return p
}

// to passes those on that have come, and come from now on.
func (p *passing) to(child *os.Process) {
	go func() {
		for {
			select {
			case sig := <-p.sigC:
				if sig == syscall.SIGTERM || sig == syscall.SIGHUP {
					_ = child.Signal(sig) // it may have ended
				}
			case <-p.endC:
				return
			}
		}
	}()
}

func (p *passing) stop() { close(p.endC) }

// inBackground starts a gpool of its own session that runs the command, and waits until that has
// its unit. It is the other gpool that waits, so that it is the one that holds.
func (h *holding) inBackground(name string, words []string) error {
	argv, err := h.backgroundArgs(name, words)
	if err != nil {
		return &exitError{exitPool, err}
	}
	self, err := launch.Self()
	if err != nil {
		return &exitError{exitPool, err}
	}
	return h.await(&exec.Cmd{
		Path: self.Path, Args: argv, Stdout: h.io.out, Stderr: h.io.err,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	})
}

// backgroundArgs are the command line of the other gpool: the flags that count for it.
func (h *holding) backgroundArgs(name string, words []string) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := []string{program, h.verb, "--count", strconv.Itoa(h.count), "--conflict-exit-code", strconv.Itoa(h.conflict)}
	for flag, text := range map[string]string{"--hub": h.hub, "--authkey-file": h.keyFile, "--pool": h.pool} {
		if text != "" {
			argv = append(argv, flag, text)
		}
	}
	if h.timeout.given {
		argv = append(argv, "--timeout", h.timeout.most.String())
	}
	return slices.Concat(argv, []string{"--", name, "--"}, words), nil
}

// await starts the other gpool and waits until it has closed its end of a pipe: it runs the
// command, or has ended. A signal ends it, too, since its session keeps it from hearing of it.
func (h *holding) await(other *exec.Cmd) error {
	sigC := make(chan os.Signal, 1)
	signal.Notify(sigC, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ready, theirs, err := readyPipe(other)
	if err != nil {
		return &exitError{exitPool, fmt.Errorf("start gpool in the background: %w", err)}
	}
	defer ready.Close()
	err = other.Start()
	_ = syscall.Close(theirs)
	if err != nil {
		return &exitError{exitPool, fmt.Errorf("start gpool in the background: %w", err)}
	}
	toldC := make(chan bool, 1)
	go func() { // ends with the pipe
		n, _ := ready.Read(make([]byte, 1))
		toldC <- n == 1
	}()
	select {
	case told := <-toldC:
		if told {
			return nil
		}
		return childError(other.Wait())
	case sig := <-sigC:
		_ = other.Process.Signal(sig) // it may have ended
		return &exitError{code: exitSignal + int(sig.(syscall.Signal))}
	}
}

// readyPipe is a pipe whose end for writing the other gpool gets under its number.
func readyPipe(other *exec.Cmd) (ready *os.File, theirs int, err error) {
	ready, w, err := os.Pipe()
	if err != nil {
		return nil, -1, err
	}
	defer w.Close()
	theirs, err = syscall.Dup(int(w.Fd())) // without close-on-exec
	if err != nil {
		return nil, -1, errors.Join(err, ready.Close())
	}
	other.Args = slices.Insert(other.Args, 2, "--ready-file", strconv.Itoa(theirs))
	return ready, theirs, nil
}

// tellReady tells the gpool that has started us that it may end.
func (h *holding) tellReady() {
	f := os.NewFile(uintptr(h.readyFile), "ready")
	_, _ = f.Write([]byte{1}) // it may have gone
	_ = f.Close()
}

// drained waits until nobody has a unit: then it can have all of them. As units are granted in
// order, those who come later wait meanwhile.
func (h *holding) drained(ctx context.Context, name string) error {
	if used, err := h.inUse(ctx, name); err != nil || !used {
		return err
	}
	all, release := h.requests(name)
	all.N, release.N = int64(h.count), int64(h.count)
	_, err := h.wait(ctx, all)
	if err == nil {
		_, err = h.call(ctx, release)
	}
	return err
}

// inUse reports whether somebody has a unit. It does not make the semaphore, as a request
// about it would: who uses it first says how many units it has.
func (h *holding) inUse(ctx context.Context, name string) (bool, error) {
	objects, err := h.objects(ctx)
	at := slices.IndexFunc(objects, func(o wire.Object) bool { return o.Kind == "sem" && o.Name == name })
	return at >= 0 && len(objects[at].Holders) > 0, err
}
