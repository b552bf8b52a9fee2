package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
)

// Launcher starts workers. Launch may be called from many goroutines; an error that
// is syscall.EAGAIN, EMFILE, ENFILE or ENOMEM means that the machine has no room for
// one more, and the pool goes on with fewer.
type Launcher interface {
	Launch(slot int) (Process, error)
}

// Process is one started worker: a stream of frames plus wait and kill, whatever is
// behind it.
type Process interface {
	Pid() int
	// Frames reads what the worker sends and writes what it gets.
	Frames() Stream
	// Stderr reads what the worker prints.
	Stderr() io.Reader
	// Signal sends a signal to the worker alone.
	Signal(syscall.Signal) error
	// Kill ends the worker and everything that it has started. It may be called at
	// any time, from any goroutine, also more than once.
	Kill()
	// Wait returns when the worker has ended, once; the pool calls it exactly once.
	// A worker that was not told to leave is followed by everything that it has
	// started. Once Wait has returned, reads end within a moment.
	Wait() Exit
	// Memory is how many bytes of memory the worker holds at present (resident), or
	// 0 if that cannot be told.
	Memory() int64
	// CallMemory is how many bytes the running call holds, as far as that can be told.
	CallMemory() int64
	// Recording is read once after Wait: what the worker had done and not yet said.
	Recording() Recording
}

// Recording is what a worker that has died was doing, if it can be told.
type Recording struct {
	Known    bool
	Running  uint64       // the call that it ran, or 0
	Finished []ipc.Result // outcomes, by rising ids, that may not have arrived
}

// Stream is a worker's connection. CloseWrite tells the worker that nothing more
// will come.
type Stream interface {
	io.ReadWriter
	CloseWrite() error
}

// Exit is how a process ended.
type Exit struct {
	Code   int            // -1 if a signal ended it
	Signal syscall.Signal // 0 if it exited by itself
	MaxRSS int            // KiB, at its largest
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), unix.SignalName(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Order says how results reach the consumer.
type Order int

const (
	// Unordered hands results over as calls finish.
	Unordered Order = iota
	// Ordered hands them over in input order; calls run ahead of the oldest
	// unfinished one by the job's window at most.
	Ordered
	// Collected hands them over in input order, and lets calls run ahead as far as
	// the input goes: for input that is in memory as a whole.
	Collected
)

// Call is one task applied to one item.
type Call struct {
	Seq     uint64  // from 1, in input order; set by the pool
	Task    string  // that of the job if it is empty
	Common  []byte  // that of the job if it is nil; calls that travel together have the same one
	Payload []byte  // opaque to the pool
	Item    any     // the consumer's own
	Err     error   // set by the source: the call fails with it and is not run; see ErrSkip
	Limits  *Limits // nil is those of the job
	Retry   *Retry  // nil is that of the job
	Tried   int     // attempts that were made before the pool was given it; they count
}

// BatchBytes is how many bytes of payload a source should hand out at once: of calls that
// are larger than those before them, fewer than were asked for.
const BatchBytes = 1 << 20

// Source hands out calls. The pool calls Next on a goroutine of the job, only when
// there is room. Next waits for the first call at most and returns between 1 and
// max; io.EOF after the last one; any other error ends the input and fails the job,
// after the calls before it. The context ends when no more calls are wanted.
type Source interface {
	Next(ctx context.Context, max int) ([]Call, error)
}

// Output is a piece of what a call has printed.
type Output struct {
	Call    *Call
	Attempt int
	Stream  ipc.Stream
	Data    []byte  // valid until Consumer.Output returns
	Result  *Result // of the call, with Job.Hold; else nil
}

// Consumer takes results. The pool calls it on one goroutine of the job. Between two
// results only the second one's output arrives, unless Job.Lines is set: of its failed
// attempts first. An error ends the job. Bytes are the pool's: they are valid until the
// method returns.
type Consumer interface {
	Output(*Output) error
	Result(*Result) error
	// Flush is called when no more is at hand, and now and then: what was consumed
	// must have left the process when it returns.
	Flush() error
}

// Job is a stream of calls with one set of options.
type Job struct {
	Task     string
	Common   []byte // what all calls share, opaque to the pool
	Source   Source
	Consumer Consumer
	Order    Order
	// ChunkSize is how many calls travel in one frame. 0 lets the pool choose: as
	// many as take some 20 ms, at most Python's ceil(Total / (4 * workers)).
	ChunkSize int
	// Single gives a worker a chunk only when it has none, of one call if ChunkSize is 0:
	// so little is under way at any moment; nothing more is begun while as many results as
	// there are workers have not reached the consumer. It costs a round trip each time, some 30 µs. A
	// job with a Halt, and a pool with a Gate, do so by themselves.
	Single bool
	Total  int // number of calls if it is known, else 0
	// Finite says that the source has all calls at hand: when the job is stopped, those
	// that were not pulled yet are pulled all the same, and end as not run.
	Finite bool
	// Window is how many calls may have been pulled and not yet been consumed; 0
	// means 1024, or what the workers need if that is more. Collected has none.
	Window int
	// Lines hands output over as it comes, from all running calls at once.
	Lines bool
	// Hold keeps the output of a call, also of that whose turn it is, until its result is
	// known and can be handed over with it. It costs room on the disk for what is large.
	Hold bool
	// Retry runs failed calls again; nil does not.
	Retry *Retry
	// Limits are those of all calls that have none of their own; nil is none.
	Limits *Limits
	// Halt ends the job early.
	Halt Halt
	// Claim is asked, by the loop, for each call that is about to be sent to a worker;
	// if it says no, the call is not run and its result is Cancelled. It must not
	// wait. A call that is sent again after the death of a worker is asked for again.
	// nil says yes.
	Claim func(*Call) bool
	// Dropped is told, by the loop, of calls that the source handed out when the job had
	// ended: they have no result. It must not wait. nil is told nothing.
	Dropped func([]Call)
	// Silent is told, on the goroutine of the consumer, of a call that has succeeded at once
	// and printed nothing, and whose turn has not come: a log need not wait for it. Its
	// result is handed over later as all are.
	Silent func(*Result)
	// Done is called once, on the goroutine of the consumer, when every result was
	// handed over or given up, with what Running.Wait returns.
	Done func(error)
}

// Quota is how much a worker runs before it is replaced.
type Quota struct {
	N      int  // 0 is no limit
	Chunks bool // N counts chunks, as in Python, and not calls
}

// RestartLimit is how many workers may die within a time. 0 deaths are no limit.
type RestartLimit struct {
	Deaths int
	Per    time.Duration
}

// Config is what a pool is made of.
type Config struct {
	Workers  int // slots, at least 1
	Launcher Launcher
	// Eager starts a worker for each slot at once, and again when one has ended.
	// Without it workers start when there is work for them.
	Eager bool
	// Tasks and Build are what a worker must say in its hello: it is refused if one of
	// the tasks is missing, or if Build is not empty and another one.
	Tasks []string
	Build string
	// Init is run in each new worker before its first call, Final when it leaves in
	// order; Task "" is nothing.
	InitTask    string
	InitCommon  []byte
	FinalTask   string
	FinalCommon []byte
	// Quota is how much a worker runs before it is replaced.
	Quota Quota
	// StartLimit is how long a worker may take to say hello; 0 means 30 s. The
	// initializer has no limit.
	StartLimit time.Duration
	// LeaveLimit is how long a worker may take to leave once it was told to; 0 means
	// 2 s. Then it gets SIGTERM, and a second later SIGKILL.
	LeaveLimit time.Duration
	// Grace is how long a call that is given up may go on before its worker is ended;
	// 0 means half a second.
	Grace time.Duration
	// Memory limits workers, in bytes; 0 is no limit. One that has more than Soft is
	// replaced once its call has ended, one that has more than Hard is ended. If what a
	// call holds (Process.CallMemory) is more than Call, its worker is ended with all that
	// it has started, and the call is OutOfMemory.
	Memory struct{ Soft, Hard, Call int64 }
	// Gate decides when calls may begin; nil lets them begin when a worker has room. With
	// a gate chunks have one call.
	Gate Gate
	// Restarts fails the pool when too many workers die.
	Restarts RestartLimit
	// BreakOnDeath fails the pool when a worker dies that nobody ended.
	BreakOnDeath bool
	// OnEvent hears what happens, in order, on a goroutine of its own. If it is slow, the
	// calls wait for it. CallEvents tells it of calls too, at some 100 ns each.
	OnEvent    func(Event)
	CallEvents bool
	// Stderr gets what workers print outside of calls, by whole lines.
	Stderr io.Writer
	// Handler answers the questions of workers, each on a goroutine of its own.
	Handler func(ctx context.Context, slot int, method string, payload []byte) ([]byte, error)
	Limits  ipc.Limits
}

// Gate decides when calls may begin, beside the room that workers have. The loop asks
// it, so it must not wait.
type Gate interface {
	// Attach is called once, by New: wake lets the pool ask again. It may be called at any
	// time, from any goroutine, and returns at once.
	Attach(wake func())
	// Admit asks whether one more call may begin while so many run. If it may, it is taken
	// to begin. If not, when to ask again, or zero: when wake is called, see Attach.
	Admit(now time.Time, running int) (ok bool, again time.Time)
	// Ended tells how many calls run, when there is nothing to begin.
	Ended(running int)
	// Close is called when the pool has ended, and may have been called before.
	Close() error
}

// Kind is how a call ended.
type Kind int

// The kinds of results.
const (
	Succeeded   Kind = iota
	Failed           // the task failed; Err is a *TaskError, or the source's error
	NotStarted       // the worker could not begin it; Err is a *TaskError
	WorkerDied       // its worker ended while it ran; Err is a *WorkerDiedError
	Cancelled        // it was given up, before it began or while it ran
	TimedOut         // it reached a limit of its time; Err is a *LimitError
	OutOfMemory      // it had more memory than it may; Err is a *MemoryError
	Skipped          // its source said that it need not be run: ErrSkip
)

// Result is how one call ended.
type Result struct {
	Call    *Call
	Kind    Kind
	Err     error     // nil if it succeeded
	Value   []byte    // opaque to the pool
	Slot    int       // 0 if it never reached a worker
	Pid     int       // of the worker
	Attempt int       // from 1; 0 if it never began
	Start   time.Time // zero if it never began
	Elapsed time.Duration
	Printed Printed
	Earlier []*Result // attempts that failed before this one
	// CutShort says that it has failed and would have been tried again, but for a stop.
	CutShort bool
	Again    time.Duration // of a failed attempt: how long after it the next one is due

	retried bool // it is that of an attempt, and there will be another: not for the consumer
}

// Printed is how many bytes a call has printed.
type Printed struct{ Stdout, Stderr int64 }

func (p *Printed) add(s ipc.Stream, n int) {
	if s == ipc.Stderr {
		p.Stderr += int64(n)
	} else {
		p.Stdout += int64(n)
	}
}

// TaskError is a task's own failure, as the worker reported it.
type TaskError struct {
	Code    ipc.Code
	Message string
	Data    []byte // the task's own
}

func (e *TaskError) Error() string { return e.Message }

// WorkerDiedError is the end of a worker that nobody asked for.
type WorkerDiedError struct {
	Slot, Pid int
	Exit      Exit
	Cause     error  // why the pool ended it, e.g. garbage on its stdout; or nil
	Stderr    string // the last lines that it printed
}

func (e *WorkerDiedError) Error() string {
	s := fmt.Sprintf("worker %d (pid %d) died: %v", e.Slot, e.Pid, e.Exit)
	if e.Cause != nil {
		s = fmt.Sprintf("worker %d (pid %d) was ended: %v", e.Slot, e.Pid, e.Cause)
	}
	if e.Exit.MaxRSS > 0 {
		s += fmt.Sprintf("; it used %d MiB at most", (e.Exit.MaxRSS+1023)/1024)
	}
	if e.Stderr != "" {
		s += "; it last printed: " + e.Stderr
	}
	return s
}

func (e *WorkerDiedError) Unwrap() error { return e.Cause }

// LimitError says that a call reached a limit of its time. It is the cause of the end
// of its worker if the limit is hard.
type LimitError struct {
	Seq   uint64 // of the call
	Limit time.Duration
	Hard  bool
}

func (e *LimitError) Error() string {
	if e.Hard {
		return fmt.Sprintf("call %d ran longer than its limit of %v, and was ended with its worker", e.Seq, e.Limit)
	}
	return fmt.Sprintf("call %d ran longer than its limit of %v, and ended when it was asked to", e.Seq, e.Limit)
}

// Reason is the error without which call it is, for where that is said before it.
func (e *LimitError) Reason() string {
	limit := e.Limit.Round(time.Millisecond)
	if e.Hard {
		return fmt.Sprintf("timed out: it did not end within %v, and was killed", limit)
	}
	return fmt.Sprintf("timed out: it was ended after %v", limit)
}

// MemoryError is why a worker was ended that took too much memory, or whose call did.
type MemoryError struct{ Bytes, Limit int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("it had %d MiB of memory, and its limit is %d MiB", e.Bytes>>20, e.Limit>>20)
}

// InitError says that the initializer failed in a worker.
type InitError struct{ *TaskError }

func (e *InitError) Error() string { return "its initializer failed: " + e.Message }
func (e *InitError) Unwrap() error { return e.TaskError }

// RefusedError says that a worker was refused for what it said in its hello.
type RefusedError struct {
	Build, WorkerBuild string
	Missing            []string // tasks
	Offered            []string // the tasks that it has
}

func (e *RefusedError) Error() string {
	var parts []string
	if e.Build != "" && e.Build != e.WorkerBuild {
		parts = append(parts, fmt.Sprintf("it was built from other code: its build is %q and this program's is %q", e.WorkerBuild, e.Build))
	}
	if len(e.Missing) > 0 {
		parts = append(parts, fmt.Sprintf("it lacks the tasks %s (its build is %q)", strings.Join(e.Missing, ", "), e.WorkerBuild))
	}
	return strings.Join(parts, "; ")
}

// BrokenError says that the pool has failed because workers died: one, if
// Config.BreakOnDeath is set, or more than Config.Restarts allows.
type BrokenError struct {
	Restarts RestartLimit // zero if one death was enough
	Err      *WorkerDiedError
}

func (e *BrokenError) Error() string {
	if e.Restarts.Deaths == 0 {
		return fmt.Sprintf("the pool is broken: %v", e.Err)
	}
	return fmt.Sprintf("more than %d workers died within %v; the last one: %v", e.Restarts.Deaths, e.Restarts.Per, e.Err)
}

func (e *BrokenError) Unwrap() error { return e.Err }

// StartError says that workers cannot be started, or do not become ready. It is the
// pool's failure: no call is to blame.
type StartError struct {
	Slot int
	Err  error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("worker %d does not start: %v", e.Slot, e.Err)
}
func (e *StartError) Unwrap() error { return e.Err }

// Errors of calls and jobs that were given up.
var (
	ErrCancelled = errors.New("the call was cancelled")
	ErrNotRun    = errors.New("the call was not run: the run was stopped before")
	ErrClosed    = errors.New("the pool is closed")
	ErrNoRoom    = errors.New("the machine has no room for so many")
	// ErrSkip is for Call.Err: the call keeps its number, and need not be run.
	ErrSkip = errors.New("the call need not be run")
)

// Level says how a pool is stopped. Each level includes those before it, and the
// pool does not go back to a milder one.
type Level int

const (
	// Drain begins no more calls; those that run may finish.
	Drain Level = iota + 1
	// Terminate asks the calls that run to end (commands get SIGTERM), and kills
	// them half a second later.
	Terminate
	// Kill ends workers and everything that they have started at once.
	Kill
)

// Pool runs jobs. All methods may be called from any goroutine.
type Pool struct {
	config     Config
	inbox      *mailbox[message]
	events     *mailbox[Event]
	doneC      chan struct{} // closed when the loop, the deliverers and the teller have ended
	loopC      chan struct{} // closed when the loop has ended
	last       Stats         // of that moment; valid after loopC
	deliverers sync.WaitGroup
}

// New makes a pool. It starts no process: workers start when there is work for them.
func New(config Config) (*Pool, error) {
	if config.Workers < 1 {
		return nil, fmt.Errorf("make a pool of %d workers: at least 1 is needed", config.Workers)
	}
	if config.Quota.N < 0 {
		return nil, fmt.Errorf("replace workers after %d calls: at least 1 is needed", config.Quota.N)
	}
	config.StartLimit = cmp.Or(config.StartLimit, 30*time.Second)
	config.LeaveLimit = cmp.Or(config.LeaveLimit, leaveTime)
	config.Grace = cmp.Or(config.Grace, killDelay)
	if config.Stderr == nil {
		config.Stderr = io.Discard
	}
	config.Stderr = Locked(config.Stderr) // every worker has a goroutine that prints
	p := &Pool{
		config: config,
		inbox:  newMailbox[message](),
		events: newMailbox[Event](),
		loopC:  make(chan struct{}),
		doneC:  make(chan struct{}),
	}
	if config.Gate != nil {
		config.Gate.Attach(p.inbox.wake)
	}
	tellerDone := make(chan struct{})
	go func() {
		defer close(tellerDone)
		tell(p.events, config.OnEvent)
	}()
	go func() {
		defer close(p.doneC)
		newLoop(p).run()
		close(p.loopC)
		p.deliverers.Wait() // who waits for the end of the pool finds all results handed over
		if config.Gate != nil {
			_ = config.Gate.Close()
		}
		p.events.close()
		<-tellerDone
	}()
	return p, nil
}

// Submit hands a job in. It returns at once.
func (p *Pool) Submit(job Job) (*Running, error) {
	if job.ChunkSize < 0 {
		return nil, fmt.Errorf("send %d calls at once: at least 1 is needed", job.ChunkSize)
	}
	r := newRunning(p, job)
	if !p.inbox.put(submitted{r}) {
		return nil, ErrClosed
	}
	return r, nil
}

// Locked lets many goroutines use a writer, one after the other.
func Locked(w io.Writer) io.Writer {
	if _, is := w.(*lockedWriter); is {
		return w
	}
	return &lockedWriter{w: w}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// Stop ends all jobs as the level says. It returns at once; wait for the jobs.
func (p *Pool) Stop(level Level) { p.inbox.put(stopped{level}) }

// Resize changes the number of workers. New ones start as New's do; of those that are
// too many, each leaves when it has finished the call that it runs. It returns at once.
func (p *Pool) Resize(workers int) error {
	if workers < 1 {
		return fmt.Errorf("resize a pool to %d workers: at least 1 is needed", workers)
	}
	if !p.inbox.put(resized{workers}) {
		return ErrClosed
	}
	return nil
}

// Started waits until every slot has a worker that said hello. It fails if the pool
// does, and if the machine has no room for all of them. It is for pools that are Eager.
func (p *Pool) Started(ctx context.Context) error {
	m := awaited{make(chan error, 1)}
	if !p.inbox.put(m) {
		return ErrClosed
	}
	select {
	case err := <-m.replyC:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stats tells what the pool does at this moment, and has done. It waits for the loop,
// and asks the system for the memory of each worker: some 20 µs each.
func (p *Pool) Stats() Stats {
	s := p.Look()
	for i := range s.Workers {
		if w := &s.Workers[i]; w.link != nil {
			w.Memory = w.link.memory()
		}
	}
	return s
}

// Look is Stats without the memory of workers. It waits for the loop only.
func (p *Pool) Look() Stats {
	m := inspected{make(chan Stats, 1)}
	if !p.inbox.put(m) {
		<-p.loopC
		return p.last
	}
	return <-m.replyC
}

// Suspend stops what the workers run, for Ctrl-Z, or lets it go on, and returns when
// they have been told. A task that is a function goes on to its end.
func (p *Pool) Suspend(on bool) {
	m := suspended{on, make(chan struct{})}
	if p.inbox.put(m) {
		<-m.toldC
	}
}

// Done is closed when the pool has been closed and nothing of it is left.
func (p *Pool) Done() <-chan struct{} { return p.doneC }

// Shut refuses new jobs and lets those that were handed in finish; then the workers
// are ended. It returns at once, and Done tells the end.
func (p *Pool) Shut() { p.inbox.put(closing{}) }

// Close refuses new jobs, lets those that were handed in finish, ends the workers
// and waits for them. It is safe to call twice.
func (p *Pool) Close() {
	p.Shut()
	<-p.doneC
}
