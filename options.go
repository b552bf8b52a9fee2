package gpool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gpool/internal/pool"
	"gpool/internal/pool/admit"
)

// Option is a property of a pool or an executor, for [New] and the like.
type Option interface{ applyTo(*config) }

// CallOption is a property of one call, or of all calls of one Map.
type CallOption interface{ applyToCall(*callConfig) }

// CommonOption is an [Option] and a [CallOption]: what a pool has is the default of its
// calls.
type CommonOption interface {
	Option
	CallOption
}

// config is what New was asked for.
type config struct {
	pool         pool.Config
	workers      int // 0 for the default
	lazy         bool
	finishAtExit bool       // of an executor
	call         callConfig // defaults of calls
	init, final  func(*engine) (task string, common []byte, err error)
	program      []string // path and arguments; nil is this program
	env          []string
	dir          string
	stderr       io.Writer
	procs        int
	nice         int
	admit        admit.Options
	hear         func(PoolEvent)
	onlyOfPools  []string // names of options that make sense with processes only
	err          error
}

// callConfig is what a call, or a Map, was asked for.
type callConfig struct {
	chunk   int // 0 for the pool's choice
	window  int // 0 for the default
	limits  pool.Limits
	retry   pool.Retry
	retryIf func(error) bool
	halt    pool.Halt
	errors  errorPolicy
	err     error
}

// errorPolicy says which error of many Map returns.
type errorPolicy int

const (
	firstInTime errorPolicy = iota
	firstInOrder
	allErrors
	failFast
)

type poolOption func(*config)

func (o poolOption) applyTo(c *config) { o(c) }

type callOption func(*callConfig)

func (o callOption) applyToCall(c *callConfig) { o(c) }

type commonOption func(*callConfig)

func (o commonOption) applyTo(c *config)         { o(&c.call) }
func (o commonOption) applyToCall(c *callConfig) { o(c) }

func wrong(at *error, format string, args ...any) {
	*at = errors.Join(*at, fmt.Errorf("gpool: "+format, args...))
}

func atLeastOne(at *error, option string, n int) {
	if n < 1 {
		wrong(at, "%s(%d): at least 1 is needed", option, n)
	}
}

func moreThanZero(at *error, option string, d time.Duration) {
	if d <= 0 {
		wrong(at, "%s(%v): more than 0 is needed", option, d)
	}
}

// Workers is how many workers there are: processes of a [Pool], goroutines of a
// [ThreadPool]. Without it a Pool has as many as this process may use CPUs, quota of
// its cgroup included (Python's process_cpu_count), and a ThreadPool has four more, at
// most 32.
func Workers(n int) Option {
	return poolOption(func(c *config) {
		c.workers = n
		atLeastOne(&c.err, "Workers", n)
	})
}

// Lazy starts workers when there is work for them, and not in [New]. An executor does
// so by itself.
func Lazy() Option { return poolOption(func(c *config) { c.lazy = true }) }

// MaxTasksPerChild replaces a worker after n calls. Python counts chunks instead, see
// [CountChunks].
func MaxTasksPerChild(n int) Option {
	return poolOption(func(c *config) {
		c.pool.Quota.N = n
		atLeastOne(&c.err, "MaxTasksPerChild", n)
	})
}

// CountChunks makes [MaxTasksPerChild] count chunks, as Python does: a chunk of Map
// counts once.
func CountChunks() Option { return poolOption(func(c *config) { c.pool.Quota.Chunks = true }) }

// Initializer runs a task in each new worker before its first call, for what is heavy
// and needed once. If it fails three times in a row in one worker the pool fails, with
// an [InitError]. The worker is ready when it has ended; it has no time limit.
func Initializer[In, Out any](t *Task[In, Out], in In) Option {
	return poolOption(func(c *config) {
		c.init = func(e *engine) (string, []byte, error) { return bindHook(e, t, in) }
	})
}

// Finalizer runs a task in each worker that leaves in order: replaced after its calls,
// or when the pool is closed; not when it is terminated or the worker dies. Its failure
// is printed to the pool's stderr. It has [LeaveLimit] to end, 30 s without it.
func Finalizer[In, Out any](t *Task[In, Out], in In) Option {
	return poolOption(func(c *config) {
		c.final = func(e *engine) (string, []byte, error) { return bindHook(e, t, in) }
	})
}

// SoftLimit is how long a call may run before its context ends, with the cause
// [ErrSoftLimit]. If it then fails, however, its error is a [TimeoutError]; if it goes
// on and succeeds it has succeeded. The clock starts when the call does: what waits
// does not age. It is exact to a few milliseconds.
func SoftLimit(d time.Duration) CommonOption {
	return commonOption(func(c *callConfig) {
		c.limits.Soft = d
		moreThanZero(&c.err, "SoftLimit", d)
	})
}

// HardLimit is how long a call may run before its worker is ended with everything that
// it has started (SIGKILL), and replaced. Its error is a [TimeoutError]; other calls
// are untouched. It is exact to some 20 ms: a call that begins in the moment in which
// its worker is ended loses it, with a [WorkerDiedError]. A [ThreadPool] has no hard
// limits: a goroutine cannot be ended.
func HardLimit(d time.Duration) CommonOption {
	return commonOption(func(c *callConfig) {
		c.limits.Hard = d
		moreThanZero(&c.err, "HardLimit", d)
	})
}

// Window is how many items of IMap and IMapUnordered may have been taken from the input
// and not yet been yielded. Without it that is twice the number of workers, for each
// item of a chunk. It bounds memory, and how far the input is read ahead.
func Window(n int) CommonOption {
	return commonOption(func(c *callConfig) {
		c.window = n
		atLeastOne(&c.err, "Window", n)
	})
}

// Chunk is how many items travel to a worker at once. Without it Map chooses: what takes
// some 20 ms, and no more than items/(4*workers), which is Python's number; IMap and
// IMapUnordered send one.
func Chunk(n int) CallOption {
	return callOption(func(c *callConfig) {
		c.chunk = n
		atLeastOne(&c.err, "Chunk", n)
	})
}

// FirstByIndex makes Map return the error of the first item that failed in the order of
// the input. Without it that is the first one in time, as in Python.
func FirstByIndex() CallOption {
	return callOption(func(c *callConfig) { c.errors = firstInOrder })
}

// CollectErrors makes Map return the errors of all items that failed, joined in the
// order of the input.
func CollectErrors() CallOption { return callOption(func(c *callConfig) { c.errors = allErrors }) }

// FailFast makes Map return with the first error. What has not begun is not run, and
// what runs is cancelled.
func FailFast() CallOption { return callOption(func(c *callConfig) { c.errors = failFast }) }

// StartLimit is how long a worker may take from its start to its first word, 30 s
// without it. The initializer does not count.
func StartLimit(d time.Duration) Option {
	return ofPools("StartLimit", func(c *config) {
		c.pool.StartLimit = d
		moreThanZero(&c.err, "StartLimit", d)
	})
}

// LeaveLimit is how long a worker that was told to leave may take for that, finalizer
// included, before it is ended: 2 s without it, and 30 s with a [Finalizer].
func LeaveLimit(d time.Duration) Option {
	return poolOption(func(c *config) {
		c.pool.LeaveLimit = d
		moreThanZero(&c.err, "LeaveLimit", d)
	})
}

// Grace is how long a call goes on that was cancelled while it ran, before its worker is
// ended: half a second without it.
func Grace(d time.Duration) Option {
	return poolOption(func(c *config) {
		c.pool.Grace = d
		moreThanZero(&c.err, "Grace", d)
	})
}

// MaxMemory limits the memory of each worker, in bytes (resident, without its
// children); 0 is no limit. One that has more than soft is replaced once its call has
// ended, and no call is lost; one that has more than hard is ended with its call, whose
// [WorkerDiedError] is an [ErrMemoryLimit]. It is looked at ten times a second.
func MaxMemory(soft, hard int64) Option {
	return ofPools("MaxMemory", func(c *config) {
		c.pool.Memory.Soft, c.pool.Memory.Hard = soft, hard
		if soft < 0 || hard < 0 {
			wrong(&c.err, "MaxMemory(%d, %d): a limit is 0 or more bytes", soft, hard)
		}
	})
}

// RestartLimit fails the pool when more than n workers die within a time that nobody
// ended, with a [BrokenError]. Without it each death costs its call, and the pool goes
// on.
func RestartLimit(n int, per time.Duration) Option {
	return ofPools("RestartLimit", func(c *config) {
		c.pool.Restarts = pool.RestartLimit{Deaths: n, Per: per}
		if n < 1 || per <= 0 {
			wrong(&c.err, "RestartLimit(%d, %v): at least 1 within more than 0 is needed", n, per)
		}
	})
}

// BreakOnCrash fails the whole pool when a worker dies that nobody ended, with a
// [BrokenError]: the rule of Python's ProcessPoolExecutor.
func BreakOnCrash() Option {
	return ofPools("BreakOnCrash", func(c *config) { c.pool.BreakOnDeath = true })
}

// Env adds variables to the environment of workers, or replaces some; each is
// NAME=VALUE.
func Env(variables ...string) Option {
	return ofPools("Env", func(c *config) {
		c.env = append(c.env, variables...)
		for _, v := range variables {
			if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
				wrong(&c.err, "Env(%q): a variable is NAME=VALUE", v)
			}
		}
	})
}

// Dir is the directory in which workers run; without it, that of this process.
func Dir(path string) Option {
	return ofPools("Dir", func(c *config) {
		c.dir = path
		if info, err := os.Stat(path); err != nil {
			wrong(&c.err, "Dir(%q): %w", path, err)
		} else if !info.IsDir() {
			wrong(&c.err, "Dir(%q): it is no directory", path)
		}
	})
}

// Stderr gets what tasks print, to stdout or stderr, by whole lines; without it, this
// process's stderr. Writes are made one after the other, and must not wait for the pool:
// the end of a worker waits for them. Results do not wait for what was printed: all of
// it is there once [Pool.Join] has returned after a Close.
func Stderr(w io.Writer) Option { return poolOption(func(c *config) { c.stderr = w }) }

// Executable runs workers of another program instead of this one: a program of this
// package that offers the tasks by the same names, or anything that speaks the frames of
// docs/protocol.md. A task that it does not offer fails with [ErrNotRegistered].
func Executable(path string, args ...string) Option {
	return ofPools("Executable", func(c *config) { c.program = append([]string{path}, args...) })
}

// WorkerProcs is GOMAXPROCS in the workers: 1 without it, since there are as many
// workers as CPUs. It says how many threads of a worker run Go code at once.
func WorkerProcs(n int) Option {
	return ofPools("WorkerProcs", func(c *config) {
		c.procs = n
		atLeastOne(&c.err, "WorkerProcs", n)
	})
}

// ofPools is an option that makes sense with processes only.
func ofPools(name string, apply func(*config)) Option {
	return poolOption(func(c *config) {
		c.onlyOfPools = append(c.onlyOfPools, name)
		apply(c)
	})
}

// with adds the options of one call to the pool's defaults.
func (c callConfig) with(options []CallOption) callConfig {
	for _, o := range options {
		o.applyToCall(&c)
	}
	return c
}

// limitsOf is what the calls share, or nil.
func (e *engine) limitsOf(c *callConfig) *pool.Limits {
	if c.limits == (pool.Limits{}) {
		return nil
	}
	l := c.limits
	l.Grace = cmp.Or(e.grace, defaultGrace)
	return &l
}

// defaultGrace is what stands for Grace.
const defaultGrace = 500 * time.Millisecond
