package gpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"gpool/internal/pool"
)

// Pool runs registered tasks in worker processes. All its methods may be called from any
// goroutine, in any order, also from callbacks. It must be closed or terminated in the
// end: one that is dropped is terminated when the garbage collector finds it, and says
// so.
type Pool struct{ engine *engine }

func (p *Pool) engineOf() *engine { return p.engine }

// New makes a pool and starts its workers: this program again, once for each, until it
// calls [Init]. It returns when all have said hello, some ten milliseconds; initializers
// may still run then. With [Lazy] it starts none.
//
// It fails if workers cannot be started, or do not know the tasks that are registered
// here; then none is left behind. When ctx ends the pool is terminated.
func New(ctx context.Context, o ...Option) (*Pool, error) {
	c, err := newConfig(o)
	if err != nil {
		return nil, err
	}
	if err := c.processes(); err != nil {
		return nil, err
	}
	e, err := newEngine(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	p := &Pool{e}
	runtime.AddCleanup(p, (*engine).dropped, e)
	return p, nil
}

// Close takes no more work: what is handed in from now on fails with [ErrPoolClosed].
// What was handed in before is finished; then the workers leave. It returns at once;
// [Pool.Join] waits. Iterators take no more of their input.
func (p *Pool) Close() { p.engine.close() }

// Join waits until the workers of a pool that was closed or terminated have ended, or
// until ctx has, and returns the cause of that. It returns [ErrPoolRunning] at once if
// the pool was neither closed nor terminated, and the pool's failure, a [StartError] or a
// [BrokenError], if it had one.
func (p *Pool) Join(ctx context.Context) error { return p.engine.join(ctx) }

// Terminate ends the pool: all futures, Maps and iterators that wait fail with
// [ErrTerminated] at once; calls that run are cancelled, and their workers are ended if
// they go on for longer than [Grace]. It returns at once; [Pool.Join] waits.
func (p *Pool) Terminate() { p.engine.terminate() }

// Resize changes the number of workers. When there are fewer, those that are too many
// leave once they have finished the call that they run. It returns at once.
func (p *Pool) Resize(workers int) error { return p.engine.resize(workers) }

// Stats tells what the pool does at this moment and has done. It costs some 20 µs for
// each worker.
func (p *Pool) Stats() Stats { return p.engine.stats() }

// dropped ends the pool of a handle that the garbage collector has found.
func (e *engine) dropped() {
	e.mu.Lock()
	forgotten := e.state == running
	e.mu.Unlock()
	if forgotten {
		e.report("a pool was dropped that was neither closed nor terminated: its workers are ended")
		e.kill()
	}
}

// size is the number of workers that there should be.
func (e *engine) size() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.workers
}

// Stats is what a pool does at one moment, and has done since it was made.
type Stats struct {
	Workers []WorkerStats // those that live
	Target  int           // how many there should be
	Waiting int           // calls that wait in the pool, besides those of ApplyAsync that it has not taken yet
	Running int           // calls that workers have

	Succeeded, Failed, Died, Cancelled, TimedOut uint64 // calls, by how they ended

	Started uint64    // workers, from the first on
	Deaths  uint64    // workers that ended and should not have
	Wait    Histogram // how long calls waited
	Run     Histogram // how long calls ran
}

// WorkerStats is one worker at one moment.
type WorkerStats struct {
	Worker   int    // its number, from 1
	Pid      int    // 0 before it has said hello
	State    string // starting, idle, busy or leaving
	Task     string // that it runs, if it does
	Busy     time.Duration
	Age      time.Duration // since it was ready
	Finished uint64        // calls
	Ahead    int           // calls that wait before it
	Memory   int64         // bytes (resident), 0 if that cannot be told
}

// Histogram counts durations: bucket i has those below 2^i µs that are in no earlier
// one, and the last one has the rest.
type Histogram = pool.Histogram

func (e *engine) stats() Stats {
	in := e.pool.Stats()
	s := Stats{
		Target: in.Target, Waiting: in.Waiting, Running: in.Running,
		Succeeded: in.Succeeded, Failed: in.Failed + in.NotStarted, Died: in.WorkerDied, Cancelled: in.Cancelled, TimedOut: in.TimedOut,
		Started: in.Started, Deaths: in.Deaths, Wait: in.Wait, Run: in.Run,
	}
	for _, w := range in.Workers {
		s.Workers = append(s.Workers, WorkerStats{
			Worker: w.Slot, Pid: w.Pid, State: string(w.State), Task: w.Task, Busy: w.Busy, Age: w.Age,
			Finished: w.Finished, Ahead: w.Ahead, Memory: w.Memory,
		})
	}
	return s
}

// ThreadPool runs tasks on goroutines of this process, with all the calls of a [Pool]:
// Python's ThreadPool. Nothing travels, so tasks may be closures ([Fn]), arguments and
// results are passed as they are, and errors are those that the tasks return. A task that
// does not heed its context cannot be ended: who waits for it is not held, but Join waits.
type ThreadPool struct{ engine *engine }

func (p *ThreadPool) engineOf() *engine { return p.engine }

// NewThreadPool makes a pool of goroutines. Options that only make sense with processes
// are errors.
func NewThreadPool(ctx context.Context, o ...Option) (*ThreadPool, error) {
	c, err := newConfig(o)
	if err != nil {
		return nil, err
	}
	e, err := newThreadEngine(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &ThreadPool{e}
	runtime.AddCleanup(p, (*engine).dropped, e)
	return p, nil
}

// Close is [Pool.Close].
func (p *ThreadPool) Close() { p.engine.close() }

// Join is [Pool.Join].
func (p *ThreadPool) Join(ctx context.Context) error { return p.engine.join(ctx) }

// Terminate is [Pool.Terminate], but that a task which does not heed its context goes on.
func (p *ThreadPool) Terminate() { p.engine.terminate() }

// Resize is [Pool.Resize].
func (p *ThreadPool) Resize(workers int) error { return p.engine.resize(workers) }

// Stats is [Pool.Stats].
func (p *ThreadPool) Stats() Stats { return p.engine.stats() }

// Executor runs calls as Python's concurrent.futures has it: workers start as calls need
// them, and [Executor.Shutdown] waits for what was handed in. ([ApplyAsync] is its
// submit.) It must be shut down in the end; one that is dropped finishes its work first.
type Executor struct{ engine *engine }

func (x *Executor) engineOf() *engine { return x.engine }

// NewExecutor makes an executor over worker processes. When ctx ends it is terminated.
// Add [BreakOnCrash] for Python's rule that the death of a worker breaks it for good.
func NewExecutor(ctx context.Context, o ...Option) (*Executor, error) {
	c, err := newConfig(append([]Option{forExecutor}, o...))
	if err != nil {
		return nil, err
	}
	if err := c.processes(); err != nil {
		return nil, err
	}
	return newExecutor(newEngine(ctx, c, nil))
}

// NewThreadExecutor makes an executor over goroutines of this process.
func NewThreadExecutor(ctx context.Context, o ...Option) (*Executor, error) {
	c, err := newConfig(append([]Option{forExecutor}, o...))
	if err != nil {
		return nil, err
	}
	return newExecutor(newThreadEngine(ctx, c))
}

// forExecutor is what executors have by themselves.
var forExecutor = poolOption(func(c *config) { c.lazy, c.finishAtExit = true, true })

func newExecutor(e *engine, err error) (*Executor, error) {
	if err != nil {
		return nil, err
	}
	x := &Executor{e}
	runtime.AddCleanup(x, (*engine).close, e)
	return x, nil
}

// ShutdownOption is a way to shut down.
type ShutdownOption func(*engine)

// CancelPending cancels the calls that no worker has. Of Maps and iterators, what has
// not begun is not run either.
func CancelPending() ShutdownOption { return (*engine).cancelPending }

// Shutdown takes no more work, waits until what was handed in has ended, and ends the
// workers. If ctx ends first, the executor is terminated and the cause of ctx returned.
// It may be called more than once.
func (x *Executor) Shutdown(ctx context.Context, o ...ShutdownOption) error {
	x.Close(o...)
	err := x.engine.join(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		x.Terminate()
	}
	return err
}

// Close begins to shut down and returns at once: Python's shutdown(wait=False). What was
// handed in is finished.
func (x *Executor) Close(o ...ShutdownOption) {
	x.engine.close()
	for _, apply := range o {
		apply(x.engine)
	}
}

// Terminate is [Pool.Terminate]; Python calls it terminate_workers.
func (x *Executor) Terminate() { x.engine.terminate() }

// Kill is Terminate without a [Grace]; Python calls it kill_workers.
func (x *Executor) Kill() { x.engine.kill() }

// Stats is [Pool.Stats].
func (x *Executor) Stats() Stats { return x.engine.stats() }

// cancelPending cancels what no worker has.
func (e *engine) cancelPending() {
	e.mu.Lock()
	q := e.queue
	var jobs []job
	for j := range e.live {
		jobs = append(jobs, j)
	}
	e.mu.Unlock()
	if q != nil {
		q.cancelPending()
	}
	for _, j := range jobs {
		j.cancelPending()
	}
}

func newThreadEngine(ctx context.Context, c *config) (*engine, error) {
	if len(c.onlyOfPools) > 0 {
		return nil, fmt.Errorf("gpool: %s: a ThreadPool has no processes: leave the option out, or make a Pool", c.onlyOfPools[0])
	}
	switch {
	case c.call.limits.Hard > 0:
		return nil, errHardLimit
	case c.call.retry.Max > 0:
		return nil, errRetries
	}
	if c.workers == 0 {
		c.workers = min(32, runtime.GOMAXPROCS(0)+4)
	}
	v := newVault()
	c.pool.Launcher = threads{v}
	return newEngine(ctx, c, v)
}

var errHardLimit = errors.New("gpool: HardLimit: a goroutine of a ThreadPool cannot be ended: use SoftLimit, or a Pool")
