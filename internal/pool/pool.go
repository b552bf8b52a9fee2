package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	Seq     uint64 // from 1, in input order; set by the pool
	Payload []byte // opaque to the pool
	Item    any    // the consumer's own
	Err     error  // set by the source: the call fails with it and is not run
}

// Source hands out calls. The pool calls Next on a goroutine of the job, only when
// there is room. Next waits for the first call at most and returns between 1 and
// max; io.EOF after the last one; any other error ends the input and fails the job,
// after the calls before it. The context ends when no more calls are wanted.
type Source interface {
	Next(ctx context.Context, max int) ([]Call, error)
}

// Consumer takes results. The pool calls it on one goroutine of the job. Between two
// results only the second one's output arrives, unless Job.Lines is set. An error
// ends the job. Bytes are the pool's: they are valid until the method returns.
type Consumer interface {
	Output(c *Call, s ipc.Stream, b []byte) error
	Result(r *Result) error
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
	Total     int // number of calls if it is known, else 0
	// Window is how many calls may have been pulled and not yet been consumed; 0
	// means 1024, or what the workers need if that is more. Collected has none.
	Window int
	// Lines hands output over as it comes, from all running calls at once.
	Lines bool
}

// Config is what a pool is made of.
type Config struct {
	Workers  int // slots, at least 1
	Launcher Launcher
	// Init is run in each new worker before its first call; Task "" is nothing.
	InitTask   string
	InitCommon []byte
	// MaxCalls is how many calls a worker runs before it is replaced; 0 is no limit.
	// Python counts chunks here (maxtasksperchild); gpool counts calls.
	MaxCalls int
	// StartLimit is how long a worker may take to say hello; 0 means 30 s. The
	// initializer has no limit.
	StartLimit time.Duration
	// OnEvent hears what happens, in order, on a goroutine of its own.
	OnEvent func(Event)
	// Stderr gets what workers print outside of calls, by whole lines.
	Stderr io.Writer
	// Handler answers the questions of workers, each on a goroutine of its own.
	Handler func(ctx context.Context, slot int, method string, payload []byte) ([]byte, error)
	Limits  ipc.Limits
}

// Kind is how a call ended.
type Kind int

// The kinds of results.
const (
	Succeeded  Kind = iota
	Failed          // the task failed; Err is a *TaskError, or the source's error
	NotStarted      // the worker could not begin it; Err is a *TaskError
	WorkerDied      // its worker ended while it ran; Err is a *WorkerDiedError
	Cancelled       // it was given up, before it began or while it ran
)

// Result is how one call ended.
type Result struct {
	Call    *Call
	Kind    Kind
	Err     error  // nil if it succeeded
	Value   []byte // opaque to the pool
	Slot    int    // 0 if it never reached a worker
	Pid     int    // of the worker
	Attempt int
	Start   time.Time // zero if it never began
	Elapsed time.Duration
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
	config Config
	inbox  *mailbox[message]
	events *mailbox[Event]
	doneC  chan struct{} // closed when the loop and the teller have ended
}

// New makes a pool. It starts no process: workers start when there is work for them.
func New(config Config) (*Pool, error) {
	if config.Workers < 1 {
		return nil, fmt.Errorf("make a pool of %d workers: at least 1 is needed", config.Workers)
	}
	if config.MaxCalls < 0 {
		return nil, fmt.Errorf("replace workers after %d calls: at least 1 is needed", config.MaxCalls)
	}
	if config.StartLimit == 0 {
		config.StartLimit = 30 * time.Second
	}
	if config.Stderr == nil {
		config.Stderr = io.Discard
	}
	p := &Pool{
		config: config,
		inbox:  newMailbox[message](),
		events: newMailbox[Event](),
		doneC:  make(chan struct{}),
	}
	tellerDone := make(chan struct{})
	go func() {
		defer close(tellerDone)
		tell(p.events, config.OnEvent)
	}()
	go func() {
		defer close(p.doneC)
		newLoop(p).run()
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

// Stop ends all jobs as the level says. It returns at once; wait for the jobs.
func (p *Pool) Stop(level Level) { p.inbox.put(stopped{level}) }

// Suspend stops what the workers run, for Ctrl-Z, or lets it go on, and returns when
// they have been told. A task that is a function goes on to its end.
func (p *Pool) Suspend(on bool) {
	m := suspended{on, make(chan struct{})}
	if p.inbox.put(m) {
		<-m.toldC
	}
}

// Close refuses new jobs, lets those that were handed in finish, ends the workers
// and waits for them. It is safe to call twice.
func (p *Pool) Close() {
	p.inbox.put(closing{})
	<-p.doneC
}
