package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/pool"
)

// grace is how long calls may run on after the first Ctrl-C before they are ended.
const grace = 10 * time.Second

// signals is the goroutine that turns signals into stops of the pool.
type signals struct {
	pool   *pool.Pool
	screen *screen
	comeC  chan os.Signal
	quitC  chan struct{}
	doneC  chan struct{}
	sayC   chan string  // to the goroutine that may wait for a terminal nobody reads
	first  atomic.Int32 // the signal that stopped the run, or 0
}

// giveUp is how long after the end of all calls gpool still waits for somebody to
// read their output: then it exits, and its workers, if any is left, with it.
const giveUp = 2 * time.Second

// watchSignals begins to listen. What was ignored when gpool was started (nohup, a
// shell's background job) stays ignored.
func watchSignals(p *pool.Pool, s *screen) *signals {
	w := &signals{
		pool: p, screen: s,
		comeC: make(chan os.Signal, 8), // a few, so that none is lost
		quitC: make(chan struct{}), doneC: make(chan struct{}), sayC: make(chan string, 4),
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTSTP} {
		if !signal.Ignored(sig) {
			signal.Notify(w.comeC, sig)
		}
	}
	// Heard and not heeded: a write to a closed pipe then fails with EPIPE, and the
	// run ends in order instead of on the spot.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go w.watch()
	go w.tell()
	return w
}

// stop ends the goroutine and returns the signal that stopped the run, or 0.
func (w *signals) stop() syscall.Signal {
	signal.Stop(w.comeC)
	close(w.quitC)
	<-w.doneC
	return syscall.Signal(w.first.Load())
}

func (w *signals) watch() {
	defer close(w.doneC)
	defer close(w.sayC)
	var graceC, giveUpC <-chan time.Time
	terminate := func() {
		w.pool.Stop(pool.Terminate)
		if giveUpC == nil {
			giveUpC = time.After(giveUp)
		}
	}
	for {
		select {
		case <-w.quitC:
			return
		case <-graceC:
			w.say("the calls that still run are ended")
			terminate()
		case <-giveUpC: // our own output is stuck, and nothing else is left
			os.Exit(exitSignal + int(w.first.Load()))
		case sig := <-w.comeC:
			switch {
			case sig == syscall.SIGTSTP:
				w.suspend()
			case w.first.Load() == 0:
				w.first.Store(int32(sig.(syscall.Signal)))
				w.pool.Stop(pool.Drain)
				graceC = time.After(grace)
				w.say(fmt.Sprintf("%s: no more calls are begun, those that run have %v; once more ends them now", name(sig), grace))
			default:
				terminate()
			}
		}
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
