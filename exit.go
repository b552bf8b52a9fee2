package gpool

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// exits is what has to be done before the program ends.
type exits struct {
	mu      sync.Mutex
	engines map[*engine]struct{}
	funcs   []func()
}

// atExit is that of this process.
var atExit exits

// AtExit has fn called before the program ends, if that goes through [Main] or [Exit], and
// before a worker leaves in order. Functions are called in the reverse order in which they
// were given, after all pools have ended. A panic is printed, and the others follow. Any
// goroutine may call AtExit; once the functions are being called, fn follows them.
func AtExit(fn func()) {
	atExit.mu.Lock()
	defer atExit.mu.Unlock()
	atExit.funcs = append(atExit.funcs, fn)
}

// Main is for the end of main, with Init at its beginning: it calls [Init], then run, and
// ends the program with its result, as [Exit] does.
func Main(run func() int) {
	Init()
	Exit(run())
}

// Exit ends the program in order: goroutines of [ProcessGo] are waited for, executors
// finish their work, pools are terminated, the functions of [AtExit] are called, daemon
// processes are ended, and others waited for. A program that ends without it leaves
// nothing behind either, but work that waits is lost.
func Exit(code int) {
	tracked.wait()
	atExit.endPools()
	atExit.run()
	endProcesses()
	os.Exit(code)
}

func (x *exits) add(e *engine) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.engines == nil {
		x.engines = make(map[*engine]struct{})
	}
	x.engines[e] = struct{}{}
}

func (x *exits) remove(e *engine) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.engines, e)
}

func (x *exits) endPools() {
	x.mu.Lock()
	var list []*engine
	for e := range x.engines {
		list = append(list, e)
	}
	x.mu.Unlock()
	for _, e := range list {
		if e.finishAtExit {
			e.close()
		} else {
			e.terminate()
		}
	}
	for _, e := range list {
		ctx, cancel := context.Background(), func() {}
		if !e.finishAtExit { // a task of a ThreadPool may go on for ever
			ctx, cancel = context.WithTimeout(ctx, e.grace+exitGrace)
		}
		_ = e.join(ctx) // whoever used it has heard of its failure
		cancel()
	}
}

// exitGrace is how long the end of the program waits for a pool whose calls have had
// their grace.
const exitGrace = 2 * time.Second

// run calls the functions, also those that are added meanwhile.
func (x *exits) run() {
	for {
		x.mu.Lock()
		n := len(x.funcs)
		if n == 0 {
			x.mu.Unlock()
			return
		}
		fn := x.funcs[n-1]
		x.funcs = x.funcs[:n-1]
		x.mu.Unlock()
		protected(defaultReport, "a function of AtExit", fn)
	}
}

// protected calls a function of the user's that has nobody to panic to.
func protected(report func(string), what string, fn func()) {
	defer func() {
		if p := recover(); p != nil {
			report(fmt.Sprintf("%s panicked: %v\n%s", what, p, debug.Stack()))
		}
	}()
	fn()
}

// defaultReport is for what belongs to no pool.
func defaultReport(text string) { fmt.Fprintf(os.Stderr, "gpool: %s\n", text) }
