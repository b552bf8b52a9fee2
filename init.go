package gpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"

	"gpool/internal/blackbox"
	"gpool/internal/ipc"
	"gpool/internal/pool/launch"
	"gpool/internal/worker"
)

// startedAs says how this process was meant to serve when it was started; empty if a
// person or another program has started it.
var startedAs = os.Getenv(launch.ModeVar)

// initCalled is set once Init has been called.
var initCalled atomic.Bool

// exitInternal is the exit code of a worker that cannot serve.
const exitInternal = 3

// Init must be called first in main, and first in TestMain, of every program that makes
// a [Pool], an [Executor] or a [Process]. Their workers are this program, started again
// with a variable in its environment: in them Init serves calls and does not return. In
// other processes it does nothing.
func Init() {
	initCalled.Store(true)
	if startedAs == "" {
		return
	}
	mode, boxFD, procs := startedAs, os.Getenv(launch.BoxVar), os.Getenv(launch.ProcsVar)
	for _, name := range []string{launch.ModeVar, launch.BoxVar, launch.ProcsVar} {
		_ = os.Unsetenv(name) // what a task starts is no worker
	}
	switch mode {
	case launch.ServeMode:
		os.Exit(serve(boxFD, procs))
	case processMode:
		Exit(serveProcess())
	default:
		fmt.Fprintf(os.Stderr, "gpool: %s=%q: this program does not know how to serve that way; it may be older than the one that has started it\n", launch.ModeVar, mode)
		os.Exit(exitInternal)
	}
}

// IsWorker reports whether this process was started by a pool, or as a [Process].
func IsWorker() bool { return startedAs != "" }

func guarded() bool { return initCalled.Load() }

// exitUnguarded ends a worker whose program does not call Init: it would start workers
// in turn, and so on.
func exitUnguarded() {
	fmt.Fprintln(os.Stderr, "gpool: this process is a worker, and its program makes a pool or starts a process before it has called gpool.Init: make gpool.Init() the first line of main (and of TestMain)")
	os.Exit(exitInternal)
}

// serve runs calls until the parent is done.
func serve(boxFD, procs string) int {
	heedNoInterrupts()
	var box *blackbox.Recorder
	if fd, err := strconv.Atoi(boxFD); err == nil {
		if box, err = blackbox.Open(fd); err != nil {
			fmt.Fprintln(os.Stderr, "gpool:", err)
			return exitInternal
		}
	}
	n, _ := strconv.Atoi(procs)
	registry := make(worker.Registry)
	for _, name := range taskNames() {
		registry[name] = registeredTask(name).task
	}
	code := worker.Program(n, worker.Config{
		Tasks: registry, Box: box,
		Signature: func(task string) string { return registeredTask(task).signature },
	})
	atExit.run()
	return code
}

// heedNoInterrupts leaves Ctrl-C to the parent, also if somebody sends one here. A
// signal that is ignored would be ignored by what tasks start, too; one that is caught
// is not.
func heedNoInterrupts() { signal.Notify(make(chan os.Signal, 1), syscall.SIGINT) }

// task is a registered task as package worker runs it.
func (r *registered) task(ctx context.Context, c *worker.Call) (b []byte, err error) {
	payload := c.Payload
	if c.ID == 0 { // an initializer or finalizer
		payload = c.Common
	}
	someCall.Store(c)
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		if p == nil { // its goroutine, which is the worker's runner, is ending
			fmt.Fprintln(os.Stderr, "gpool:", errGoexit)
			os.Exit(exitInternal)
		}
		err = panicked(p)
	}()
	b, err = r.run(ctx, payload)
	returned = true
	if err != nil {
		err = &worker.Failure{Code: ipc.Failed, Message: textOf(err), Data: encodeError(err)}
	}
	return b, err
}

// panicked is how a panic travels; it is called where it is recovered.
func panicked(p any) *worker.Failure {
	text := fmt.Sprint(p)
	if err, ok := p.(error); ok {
		text = textOf(err)
	}
	return &worker.Failure{Code: ipc.Panicked, Message: text, Data: debug.Stack()}
}

var errGoexit = errors.New("the task ended its goroutine (runtime.Goexit, or a test's FailNow)")

// CallInfo is what a task can know of the call that it runs.
type CallInfo struct {
	Worker  int    // the number of its worker, from 1; two workers at one time have two
	Seq     uint64 // of the call in its Map or IMap, from 1; 0 in an initializer
	Attempt int    // from 1
}

// Info tells a task about its call, by the context that it was given; false elsewhere.
func Info(ctx context.Context) (CallInfo, bool) {
	c, ok := worker.CallOf(ctx)
	if !ok {
		return CallInfo{}, false
	}
	return CallInfo{Worker: c.Slot, Seq: c.Seq, Attempt: c.Attempt}, true
}
