package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/pool"
	"gpool/internal/pool/report"
)

// signals is the goroutine that ends a run from outside: by signals, or because its time
// is up.
type signals struct {
	pool   *pool.Pool
	screen *screen
	opts   *options
	single bool // nothing but the one call can be asked to end
	comeC  chan os.Signal
	quitC  chan struct{}
	doneC  chan struct{}
	sayC   chan string // to the goroutine that may wait for a terminal nobody reads
	ending atomic.Bool // the run is being ended from outside

	// Of the goroutine, and read by others once doneC is closed.
	stopped stop
	graceC  <-chan time.Time // when what may finish is asked to end
	killC   <-chan time.Time // when it is killed
	giveUpC <-chan time.Time // when nobody waits any more
}

// stop is why a run ended before its time.
type stop struct {
	signal syscall.Signal // or 0
	late   bool           // the time of the run was up
}

func (s stop) code() int {
	if s.signal != 0 {
		return exitSignal + int(s.signal)
	}
	return exitLate
}

// giveUp is how long after the end of all calls gpool still waits for somebody to
// read their output: then it exits, and its workers, if any is left, with it.
const giveUp = 2 * time.Second

// watchSignals begins to listen. What was ignored when gpool was started (nohup, a
// shell's background job) stays ignored.
func watchSignals(p *pool.Pool, s *screen, r *run) *signals {
	w := &signals{
		pool: p, screen: s, opts: r.opts, single: r.verb.single,
		comeC: make(chan os.Signal, 8),                                                        // a few, so that none is lost
		quitC: make(chan struct{}), doneC: make(chan struct{}), sayC: make(chan string, 1024), // as many calls as may be listed at once
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTSTP, syscall.SIGUSR1} {
		if !signal.Ignored(sig) {
			signal.Notify(w.comeC, sig)
		}
	}
	// Heard and not heeded: a write to a closed pipe then fails with EPIPE, and the
	// run ends in order instead of on the spot.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go w.watch(r.began)
	go w.tell()
	return w
}

// stop ends the goroutine and returns what stopped the run.
func (w *signals) stop() stop {
	signal.Stop(w.comeC)
	close(w.quitC)
	<-w.doneC
	return w.stopped
}

func (w *signals) watch(began time.Time) {
	defer close(w.doneC)
	defer close(w.sayC)
	var lateC <-chan time.Time
	if d := w.opts.runTimeout; d > 0 {
		lateC = time.After(d - time.Since(began))
	}
	for {
		select {
		case <-w.quitC:
			return
		case <-lateC:
			if w.stopped.signal == 0 {
				w.stopped.late = true
				w.ending.Store(true)
				w.say(fmt.Sprintf("the time of the run is up (--run-timeout %v): the calls that run are ended", w.opts.runTimeout))
				w.terminate(w.opts.killAfter())
			}
		case <-w.graceC:
			w.say("the calls that still run are ended")
			w.terminate(min(w.opts.killAfter(), graceAfterTerm))
		case <-w.killC:
			w.pool.Stop(pool.Kill)
		case <-w.giveUpC: // our own output is stuck, and nothing else is left
			os.Exit(w.stopped.code())
		case sig := <-w.comeC:
			w.take(sig.(syscall.Signal))
		}
	}
}

// take heeds a signal.
func (w *signals) take(sig syscall.Signal) {
	switch {
	case sig == syscall.SIGUSR1:
		w.list()
	case sig == syscall.SIGTSTP:
		w.suspend()
	case w.stopped == stop{} && w.single:
		w.stopped.signal = sig
		w.ending.Store(true)
		w.terminate(w.opts.killAfter())
	case w.stopped == stop{}:
		w.stopped.signal = sig
		w.ending.Store(true)
		w.pool.Stop(pool.Drain)
		finish := w.opts.finishAfter()
		w.graceC = time.After(w.opts.untilTerm())
		w.say(fmt.Sprintf("%s: no more calls are begun, those that run have %v; once more ends them now", name(sig), finish))
	default:
		w.terminate(min(w.opts.killAfter(), graceAfterTerm))
	}
}

// terminate asks what runs to end, and kills it after a time.
func (w *signals) terminate(grace time.Duration) {
	w.pool.Stop(pool.Terminate)
	w.killC = time.After(grace)
	if w.giveUpC == nil {
		w.giveUpC = time.After(grace + giveUp)
	}
}

// list says what runs.
func (w *signals) list() {
	now := time.Now()
	for _, line := range report.List(runningCalls(w.pool, now), now) {
		w.say(line)
	}
}

// say never waits: what cannot be said is dropped.
func (w *signals) say(text string) {
	select {
	case w.sayC <- text:
	default:
	}
}

// tell is the goroutine that says it. It ends with watch, or with the process if
// nobody reads stderr.
func (w *signals) tell() {
	for text := range w.sayC {
		fmt.Fprintf(w.screen.err, "gpool: %s\n", text)
	}
}

func name(sig os.Signal) string {
	switch sig {
	case syscall.SIGINT:
		return "interrupted"
	case syscall.SIGTERM:
		return "told to terminate"
	}
	return "hung up"
}

// suspend passes Ctrl-Z on to the commands, which the terminal does not reach, and
// stops until the shell says to go on. It waits for the SIGCONT itself: a process may
// run on for a moment after it has sent itself a SIGSTOP.
func (w *signals) suspend() {
	if w.screen.bar != nil {
		w.screen.bar.Pause()
	}
	w.pool.Suspend(true)
	contC := make(chan os.Signal, 1)
	signal.Notify(contC, syscall.SIGCONT)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	<-contC
	signal.Stop(contC)
	w.pool.Suspend(false)
	if w.screen.bar != nil {
		w.screen.bar.Resume()
	}
}
