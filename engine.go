package gpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/admit"
	"gpool/internal/pool/launch"
	"gpool/internal/value"
	"gpool/internal/worker"
)

// Runner is what runs calls: a [Pool], a [ThreadPool] or an [Executor]. All functions
// that run something take one.
type Runner interface{ engineOf() *engine }

// engine is what the three have in common: the pool of package internal/pool, the jobs
// that are under way in it, and how values travel to its workers.
type engine struct {
	pool   *pool.Pool
	vault  *vault // of a ThreadPool, whose values do not travel; else nil
	call   callConfig
	stderr io.Writer
	unhook func() bool // stops the watch over New's context

	finishAtExit bool // of an Executor: the program's end waits for its work
	grace        time.Duration

	mu      sync.Mutex
	state   engineState
	workers int
	why     error            // the state is terminated: because of this
	failure error            // why the pool has failed
	queue   *queue           // of single calls; nil until there is one
	host    *host            // its hub; nil until there is one
	live    map[job]struct{} // Maps and iterators that are not over
}

type engineState int

const (
	running engineState = iota
	closed
	terminated
)

// job is a Map or an iterator that is under way, as the end of its pool sees it.
type job interface {
	closing()        // the pool takes no more work
	cancelPending()  // what has not begun is not run
	terminate(error) // the pool is ending now: who waits is told why
}

// maxDepth is how many pools may be around each other: a program that starts itself
// without an end must stop somewhere.
const maxDepth = 10

// newConfig applies options to the defaults.
func newConfig(options []Option) (*config, error) {
	c := &config{stderr: os.Stderr, procs: 1}
	for _, o := range options {
		o.applyTo(c)
	}
	return c, errors.Join(c.err, c.call.err)
}

// newEngine makes an engine over workers that are processes, or, with a vault,
// goroutines.
func newEngine(ctx context.Context, c *config, v *vault) (*engine, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	e := &engine{
		vault: v, call: c.call, finishAtExit: c.finishAtExit, grace: c.pool.Grace, stderr: pool.Locked(c.stderr), workers: c.workers,
		live: make(map[job]struct{}),
	}
	c.pool.Workers, c.pool.Stderr = c.workers, e.stderr
	c.pool.Eager = !c.lazy
	c.pool.Handler = e.answerWorker
	if err := e.hooks(c); err != nil {
		return nil, err
	}
	if c.admit.Wanted() {
		gate, err := admit.Open(c.admit)
		if err != nil {
			return nil, fmt.Errorf("gpool: %w", err)
		}
		c.pool.Gate = gate // which the pool closes
	}
	if c.hear != nil {
		c.pool.CallEvents = true
		c.pool.OnEvent = func(in pool.Event) { c.hear(e.publicEvent(in)) }
	}
	p, err := pool.New(c.pool)
	if err != nil {
		if c.pool.Gate != nil {
			_ = c.pool.Gate.Close()
		}
		return nil, fmt.Errorf("gpool: %w", err)
	}
	e.pool = p
	atExit.add(e)
	e.mu.Lock() // which end waits for
	e.unhook = context.AfterFunc(ctx, func() {
		e.end(pool.Terminate, fmt.Errorf("%w: %w", ErrTerminated, context.Cause(ctx)))
	})
	e.mu.Unlock()
	if !c.lazy {
		if err := p.Started(ctx); err != nil {
			e.kill()
			<-p.Done()
			return nil, e.publicFailure(err)
		}
	}
	return e, nil
}

// hooks encodes what the initializer and the finalizer are given.
func (e *engine) hooks(c *config) (err error) {
	if c.init != nil {
		if c.pool.InitTask, c.pool.InitCommon, err = c.init(e); err != nil {
			return fmt.Errorf("gpool: the initializer: %w", err)
		}
	}
	if c.final != nil {
		c.pool.LeaveLimit = cmp.Or(c.pool.LeaveLimit, 30*time.Second)
		if c.pool.FinalTask, c.pool.FinalCommon, err = c.final(e); err != nil {
			return fmt.Errorf("gpool: the finalizer: %w", err)
		}
	}
	return nil
}

// bindHook makes what an initializer or finalizer travels as.
func bindHook[In, Out any](e *engine, t *Task[In, Out], in In) (string, []byte, error) {
	name, err := e.taskName(t.name)
	if err != nil {
		return "", nil, err
	}
	b, err := appendCall(e, nil, t, &in) // in a vault it stays: hooks run more than once
	return name, b, err
}

// processes checks what a pool of processes needs, and says how to start one.
func (c *config) processes() error {
	if IsWorker() && !guarded() {
		exitUnguarded()
	}
	if c.program == nil && !guarded() {
		return fmt.Errorf("gpool: make a pool: %w", errNoInit)
	}
	if depth := launch.Depth(); depth >= maxDepth {
		return fmt.Errorf("gpool: make a pool within %d others: at most %d are possible; does a task start the program that runs it?", depth, maxDepth)
	}
	c.workers = cmp.Or(c.workers, admit.CPUs())
	if err := roomForFiles(c.workers); err != nil {
		return err
	}
	program := launch.Program{Env: c.env, Dir: c.dir, Procs: c.procs}
	if c.program != nil {
		program.Path, program.Args = c.program[0], c.program[1:]
	} else {
		self, err := launch.Self()
		if err != nil {
			return fmt.Errorf("gpool: %w", err)
		}
		program.Path = self.Path
		c.pool.Tasks, c.pool.Build = taskNames(), ipc.BuildID()
	}
	launcher := program.Launcher()
	launcher.Nice = c.nice
	c.pool.Launcher = launcher
	return nil
}

// What a worker takes of this process's descriptors: three pipes, its black box, and
// one to wait for its end; and as many as a pool should leave to others.
const (
	filesOfWorker = 5
	filesOfOthers = 16
)

// roomForFiles finds out before anything starts that descriptors will not do.
func roomForFiles(workers int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // then it shows when they are used up
	}
	if need := uint64(workers)*filesOfWorker + filesOfOthers; need > limit.Cur {
		return fmt.Errorf("gpool: start %d workers: %w: they take %d file descriptors, and this process may open %d (ulimit -n)", workers, ErrNoRoom, need, limit.Cur)
	}
	return nil
}

// submit hands a job in, if the pool still takes any.
func (e *engine) submit(j job, p pool.Job) (*pool.Running, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil {
		return nil, err
	}
	r, err := e.pool.Submit(p)
	if err != nil {
		return nil, ErrPoolClosed
	}
	if j != nil {
		e.live[j] = struct{}{}
	}
	return r, nil
}

// refusal says why no more work is taken; nil if it is. Under the lock.
func (e *engine) refusal() error {
	if e.failure != nil {
		return e.failure
	}
	if e.state != running {
		return ErrPoolClosed
	}
	return nil
}

// over forgets a job that has ended, and remembers if the pool has failed.
func (e *engine) over(j job, err error) {
	err = e.publicFailure(err)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.live, j)
	if e.failure == nil && isFailure(err) {
		e.failure = err
	}
}

// ending says why calls are given up when the whole pool ends: nil if it does not.
func (e *engine) ending() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil {
		return e.failure
	}
	return e.why
}

// close takes no more work and lets what was handed in finish.
func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != running {
		return
	}
	e.state = closed
	e.endInputs()
}

// endInputs is called under the lock, once.
func (e *engine) endInputs() {
	if e.queue != nil {
		e.queue.close()
	}
	for j := range e.live {
		j.closing()
	}
	e.pool.Shut()
	go func() { // ends with the pool, which Shut has begun
		<-e.pool.Done()
		e.shutHub()
		e.unhook()
		atExit.remove(e)
	}()
}

// terminate ends everything: who waits is told at once, the calls that run are
// cancelled, and what still runs after the grace is ended. It does not wait.
func (e *engine) terminate() { e.end(pool.Terminate, ErrTerminated) }

// kill does the same without the grace.
func (e *engine) kill() { e.end(pool.Kill, ErrTerminated) }

// end gives calls that have no other error the one that says why.
func (e *engine) end(level pool.Level, why error) {
	e.mu.Lock()
	wasRunning := e.state == running
	if e.state != terminated {
		e.state, e.why = terminated, why
	}
	e.pool.Stop(level)
	if wasRunning {
		e.endInputs()
	}
	var jobs []job
	for j := range e.live {
		jobs = append(jobs, j)
	}
	err, q := cmp.Or(e.failure, e.why), e.queue
	e.mu.Unlock()
	for _, j := range jobs {
		j.terminate(err)
	}
	if q != nil {
		q.terminate(err)
	}
	e.endHub()
}

// join waits for the end of the pool.
func (e *engine) join(ctx context.Context) error {
	e.mu.Lock()
	state := e.state
	e.mu.Unlock()
	if state == running {
		return ErrPoolRunning
	}
	if err := await(ctx, e.pool.Done()); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

func (e *engine) resize(n int) error {
	if n < 1 {
		return fmt.Errorf("gpool: Resize(%d): at least 1 worker is needed", n)
	}
	if e.vault == nil {
		if err := roomForFiles(n); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil {
		return err
	}
	if err := e.pool.Resize(n); err != nil {
		return ErrPoolClosed
	}
	e.workers = n
	return nil
}

// admit finds out what calls of a task are, or why there can be none.
func (e *engine) admit(ctx context.Context, task string, o []CallOption) (name string, c callConfig, err error) {
	c = e.call.with(o)
	switch {
	case c.err != nil:
		return "", c, c.err
	case ctx.Err() != nil:
		return "", c, cancelledBy(ctx)
	}
	if err := e.refuses(&c); err != nil {
		return "", c, err
	}
	name, err = e.taskName(task)
	return name, c, err
}

// refuses says which limit of a call cannot be kept here.
func (e *engine) refuses(c *callConfig) error {
	switch {
	case e.vault == nil:
	case c.limits.Hard > 0:
		return errHardLimit
	case c.limits.Medians > 0:
		return errMedianLimit
	case c.retry.Max > 0:
		return errRetries
	}
	return nil
}

// report tells on the pool's stderr what nobody else can be told.
func (e *engine) report(text string) { fmt.Fprintf(e.stderr, "gpool: %s\n", text) }

// taskName is the name under which workers know a task.
func (e *engine) taskName(name string) (string, error) {
	switch {
	case e.vault != nil:
		return thunkTask, nil
	case name == "":
		return "", fmt.Errorf("%w: a task of Fn has no name, and runs in a ThreadPool only; Register it", ErrNotRegistered)
	}
	return name, nil
}

// appendCall appends what a worker needs for one call.
func appendCall[In, Out any](e *engine, dst []byte, t *Task[In, Out], in *In) ([]byte, error) {
	if e.vault != nil {
		arg := *in
		return e.vault.put(dst, thunk(func(ctx context.Context) (any, error) { return t.fn(ctx, arg) })), nil
	}
	b, err := t.encode(dst, in)
	if err == nil && len(b)-len(dst) > maxPayload {
		err = errTooLarge
	}
	if err != nil {
		return dst, &EncodeError{What: "the argument of task " + t.name, Type: value.TypeName[In](), Err: err}
	}
	return b, nil
}

// maxPayload is how many bytes a value may have encoded: what a message may, and a little
// less, for what is around it.
const maxPayload = 1<<30 - 64<<10

var errTooLarge = fmt.Errorf("it takes more than the %d bytes that may travel", maxPayload)

// takeResult reads the value of a call that has succeeded.
func takeResult[Out any](e *engine, task string, b []byte) (out Out, err error) {
	if e.vault != nil {
		out, _ = e.vault.take(b).(Out) // an interface that is nil is the zero value
		return out, nil
	}
	if err := value.DecodeOwned(b, &out); err != nil {
		var zero Out
		return zero, &DecodeError{What: "the result of task " + task, Type: value.TypeName[Out](), Err: err}
	}
	return out, nil
}

// drop forgets the argument of a call that was not run.
func (e *engine) drop(payload []byte) {
	if e.vault != nil {
		e.vault.take(payload)
	}
}

// dropAll implements [pool.Job.Dropped].
func (e *engine) dropAll(calls []pool.Call) {
	for i := range calls {
		e.drop(calls[i].Payload)
	}
}

// errorOf says how a call failed, in the words of this package.
func (e *engine) errorOf(r *pool.Result, task, origin string, index int) error {
	site := Site{Task: task, Index: index, Worker: r.Slot, Pid: r.Pid}
	switch r.Kind {
	case pool.WorkerDied:
		if died, ok := errors.AsType[*pool.WorkerDiedError](r.Err); ok {
			return publicDeath(site, died)
		}
	case pool.TimedOut:
		if limit, ok := errors.AsType[*pool.LimitError](r.Err); ok {
			return &TimeoutError{Site: site, Limit: limit.Limit, Hard: limit.Hard}
		}
	case pool.NotStarted:
		if _, said := r.Err.(*pool.TaskError); said { // by the worker
			return fmt.Errorf("%v: %w: %w; it must be registered before main calls Init", site, ErrNotRegistered, r.Err)
		}
	case pool.Cancelled:
		if failed, ok := r.Err.(*pool.TaskError); ok {
			e.drop(failed.Data) // it had failed when the cancel came
		}
		if err := e.ending(); err != nil {
			return err
		}
		if err := e.publicFailure(r.Err); isFailure(err) {
			return err
		}
		return &cancelledError{}
	case pool.Failed:
		failed, ok := r.Err.(*pool.TaskError)
		why := e.ending()
		switch {
		case !ok:
			return r.Err // of the source
		case why != nil && failed.Message == worker.ErrOrphaned.Error():
			e.drop(failed.Data) // a worker that is a goroutine has seen the end before its call was given up
			return why
		case failed.Code == ipc.Panicked:
			return &PanicError{Site: site, Value: failed.Message, Stack: string(failed.Data)}
		case e.vault != nil:
			if err, ok := e.vault.take(failed.Data).(error); ok {
				return err
			}
		}
		return &TaskError{Site: site, Origin: origin, Err: decodeError(failed.Data, failed.Message)}
	}
	return r.Err
}

func publicDeath(site Site, died *pool.WorkerDiedError) *WorkerDiedError {
	site.Worker, site.Pid = died.Slot, died.Pid
	e := &WorkerDiedError{
		Site: site, ExitCode: died.Exit.Code, Signal: died.Exit.Signal,
		MaxRSS: int64(died.Exit.MaxRSS) << 10, Stderr: died.Stderr, Err: died.Cause,
	}
	if memory, ok := errors.AsType[*pool.MemoryError](died.Cause); ok {
		e.Err = fmt.Errorf("%w: %w", ErrMemoryLimit, memory)
	}
	return e
}

// publicFailure turns the failure of the inner pool, if there is one in err, into that
// of this package.
func (e *engine) publicFailure(err error) error {
	if start, ok := errors.AsType[*pool.StartError](err); ok {
		return &StartError{Worker: start.Slot, Err: e.publicStart(start.Err)}
	}
	if broken, ok := errors.AsType[*pool.BrokenError](err); ok {
		if init, ok := errors.AsType[*pool.InitError](err); ok {
			return &StartError{Worker: broken.Err.Slot, Err: e.publicInit(init)}
		}
		return &BrokenError{publicDeath(Site{Index: -1}, broken.Err)}
	}
	if errors.Is(err, pool.ErrClosed) {
		return ErrPoolClosed
	}
	return err
}

func (e *engine) publicStart(err error) error {
	if init, ok := errors.AsType[*pool.InitError](err); ok {
		return e.publicInit(init)
	}
	died, ok := errors.AsType[*pool.WorkerDiedError](err)
	if !ok {
		return err
	}
	if refused, ok := errors.AsType[*pool.RefusedError](died.Cause); ok {
		return refused
	}
	return publicDeath(Site{Index: -1}, died)
}

func (e *engine) publicInit(init *pool.InitError) error {
	if init.Code == ipc.Panicked {
		return &InitError{&PanicError{Site: Site{Task: "initializer", Index: -1}, Value: init.Message, Stack: string(init.Data)}}
	}
	if e.vault != nil {
		if err, ok := e.vault.look(init.Data).(error); ok { // who asks again is told the same
			return &InitError{err}
		}
	}
	return &InitError{decodeError(init.Data, init.Message)}
}

func isFailure(err error) bool {
	switch err.(type) {
	case *StartError, *BrokenError:
		return true
	}
	return false
}
