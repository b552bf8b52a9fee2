package wire

import (
	"reflect"
	"time"
)

// Version is the version of this conversation, in both hellos. It changes with every change of a
// message: server and clients come from one file, and differ only where it was replaced.
const Version = 2

// Method is a question that a client asks, with the types of what it sends and gets.
type Method[Q, A any] string

// The methods. Each answer may also be a *Fault.
const (
	// Submit hands calls in. They are accepted, and survive the server, once the answer has come.
	Submit Method[Submission, Accepted] = "submit"
	// Await answers when the calls have ended, with their callbacks, or when its time is up.
	Await Method[Awaiting, Awaited] = "await"
	// Look answers at once with what is known of a call.
	Look Method[Lookup, Info] = "look"
	// Follow answers when a call has printed more than is known, or has ended. It does not
	// wait for callbacks.
	Follow Method[Following, Info] = "follow"
	// Taken says that a result was fetched: it need not be kept any more, unless Call.Keep is set.
	Taken Method[Lookup, Nothing] = "taken"
	// Cancel gives up a call: one that waits is dropped, one that runs is asked to end, and killed
	// when the grace has passed. It answers at once with how the call was found.
	Cancel Method[Lookup, Info] = "cancel"
	// Tell describes the pool.
	Tell Method[Telling, Status] = "tell"
	// Resize changes the number of slots.
	Resize Method[Size, Nothing] = "resize"
	// Close takes no more calls; when those that there are have ended, the server ends.
	Close Method[Nothing, Nothing] = "close"
	// Join answers when a pool that is closed has done all of its calls, and their callbacks. The
	// connection ends with the server. A pool that is not closed is a Fault.
	Join Method[Joining, Nothing] = "join"
	// Terminate ends all calls at once, without callbacks, and then the server.
	Terminate Method[Nothing, Nothing] = "terminate"
	// Lease answers when one of the pool's slots is the client's own, until it says Release or the
	// connection ends. Slots are leased in turn with calls that wait. A client that gives the
	// question up while the answer is on its way has the slot, and must end the connection.
	Lease Method[Leasing, Nothing] = "lease"
	// Share tells where the hub of the pool is.
	Share Method[Nothing, Commons] = "share"
	// Release gives so many of the connection's slots back.
	Release Method[Size, Nothing] = "release"
)

// Joining asks for the end of a pool.
type Joining struct {
	Within string // as in Awaiting
}

// Nothing is a message without content.
type Nothing struct{}

// Submission is some calls that are handed in together.
type Submission struct {
	Context Context // of all of them
	Calls   []Call
	// Attached says that the calls end with the connection: a client waits for them.
	Attached bool
}

// Context is where a call comes from, and so where it runs: the directory and environment of the
// client.
type Context struct {
	Dir string   // absolute
	Env []string // KEY=VALUE
}

// Call is what a client wants to be run once.
type Call struct {
	Name string // for people; may be empty
	// Argv is the command, or, if Task is not empty, the worker program and its arguments.
	// Its first word is as the user has written it; Path is the program that it was found to be.
	Argv []string
	Path string
	// Task is the task of a worker program; Args is what it is given, one msgpack value.
	Task string
	Args []byte
	Text string   // what runs, for people, as it may be pasted into a shell
	Dir  string   // absolute; empty is that of the context
	Env  []string // in place of variables of the context

	Timeout          time.Duration // of each attempt; 0 is none
	Retries          int           // further attempts if it fails
	MinWait, MaxWait time.Duration // before them, as in pool.Retry
	RetryOn          RetryOn
	Callback         string // shell command line that is run when it has succeeded; may be empty
	ErrorCallback    string // the same, when it has not
	Shell            string // path of the shell for callbacks
	Keep             bool   // keep the result when it was fetched, until it is too old
}

// RetryOn says which failures are worth another attempt.
type RetryOn struct {
	Any, Failed, Timeout, Died, Memory bool
	Codes                              []int // exit codes
}

// Accepted has the ids of the calls, in the order of the submission.
type Accepted struct{ IDs []string }

// Lookup names a call.
type Lookup struct{ ID string }

// Awaiting asks for the end of calls.
type Awaiting struct {
	IDs    []string  // none: all that the pool has
	Any    bool      // answer when one of them has ended
	Until  time.Time // at the latest; zero is never
	Within string    // the id of the call that the client is part of, or whose callback, or empty
}

// Awaited is how calls have ended. Of many failures only the first FailuresMost are named.
type Awaited struct {
	Done, Failed, Pending int
	Failures              []Info
	Remarks               []Info // that have succeeded, and whose callback has not; as many
	Open                  []Info // that have not ended; OpenMost
	First                 Info   // one that has ended; with Any
}

// FailuresMost is how many failures an Awaited names.
const FailuresMost = 100

// OpenMost is how many calls an Awaited names that have not ended.
const OpenMost = 5

// Following asks for more output than is known already.
type Following struct {
	ID             string
	Stdout, Stderr int64  // bytes that are known
	Within         string // as in Awaiting
}

// State is where a call is in its life.
type State string

// The states of calls.
const (
	Waiting State = "waiting"
	Running State = "running"
	Calling State = "callback" // it has ended, and its callback runs
	Done    State = "done"
)

// Info is what is known of a call.
type Info struct {
	ID, Name, Text string
	State          State
	Accepted       time.Time
	Result         Result // of what has ended; while it runs, what is known so far
	// Stdout and Stderr are the files with what the last attempt has printed, empty if it has
	// printed nothing; the value of a task is in Stdout, as a line. They stay until Taken.
	Stdout, Stderr           string
	StdoutBytes, StderrBytes int64
}

// Outcome is how a call ended, in words that status, events and scripts share.
type Outcome string

// The outcomes. They are those of a run's reports, and two that only a server knows.
const (
	Succeeded   Outcome = "succeeded"
	Failed      Outcome = "failed"
	NotStarted  Outcome = "not started"
	WorkerDied  Outcome = "worker died"
	Cancelled   Outcome = "cancelled"
	TimedOut    Outcome = "timed out"
	OutOfMemory Outcome = "out of memory"
	Lost        Outcome = "lost"       // it ran when the server was killed
	Terminated  Outcome = "terminated" // with its pool
	NoSpace     Outcome = "no space"   // its output could not be kept
)

// Result is how a call ended.
type Result struct {
	Outcome  Outcome // empty if it has not
	Exit     int     // of the command, 128+Signal if a signal ended it; -1 if none has ended
	Signal   int
	Error    string // why it has not succeeded, a sentence
	Slot     int
	Pid      int // of its worker
	Attempt  int // from 1; 0 if it never began
	Start    time.Time
	End      time.Time
	MaxRSS   int64 // bytes
	User     time.Duration
	System   time.Duration
	Leaked   bool   // processes that it left behind held its output open
	Callback string // what went wrong with its callback; empty if nothing did
}

// Code is the exit code that stands for the result: that of the command, and else what a shell or
// timeout(1) would give. 125, as of env and timeout, is for calls that the pool has failed.
func (r *Result) Code() int {
	switch {
	case r.Outcome == Succeeded:
		return 0
	case r.Outcome == TimedOut:
		return 124
	case r.Outcome == Cancelled || r.Outcome == Terminated:
		return 143 // as if SIGTERM had ended it, which it has if it ran
	case r.Outcome == WorkerDied || r.Outcome == OutOfMemory:
		return 137
	case r.Outcome == Lost || r.Outcome == NoSpace:
		return 125
	case r.Exit > 0:
		return r.Exit
	}
	return 1
}

// Commons is where a pool's calls and others share state.
type Commons struct{ Hub string } // the address of the hub

// Size is a number of slots.
type Size struct{ N int }

// Leasing says for whom a slot is leased.
type Leasing struct {
	Who string // for status, e.g. the command line
	ID  string // of the running call of this pool that the client is part of, or empty
}

// Telling says how much a Status should tell.
type Telling struct{ Calls bool } // list the calls, too

// Status describes a pool.
type Status struct {
	Pool    string
	Pid     int
	Version string // of gpool
	Started time.Time
	Slots   int
	Closed  bool
	Workers []Worker
	Leased  []string // who holds a slot
	Leasing []string // who waits for one
	Waiting int      // calls, and clients that wait for a slot
	Running int      // calls
	Calling int      // callbacks
	Done    int      // calls that have ended since the pool began
	Failed  int      // of these
	Kept    int      // results that wait to be fetched
	Bytes   int64    // of output in the spool
	Limit   int64    // of that
	Spool   string   // its folder
	Options Options  // without Origin
	Unsaved bool     // the journal cannot be written, and so no call begins
	Broken  string   // a file with what could not be read of the journal; or empty
	Calls   []Info   // with Telling.Calls, in the order of their ids
}

// Options are what a pool was started with.
type Options struct {
	Slots       int
	Initializer string        // shell command line, run once in each worker that runs commands; may be empty
	Shell       string        // path of the shell for it
	Origin      Context       // where it runs
	MaxCalls    int           // after which a worker is replaced; 0 is never
	Nice        int           // added to the niceness of what runs
	Grace       time.Duration // from SIGTERM to SIGKILL
	MaxRSS      int64         // bytes that a call may hold; 0 is any
	Idle        time.Duration // after which a pool without work, clients and results ends; 0 is never
	SpoolLimit  int64         // bytes of output that are kept; 0 is any
	MaxAge      time.Duration // after which results are dropped; 0 is never
}

// Same reports whether two pools are alike, wherever their initializers run.
func (o Options) Same(other *Options) bool {
	a, b := o, *other
	a.Origin, b.Origin = Context{}, Context{}
	return reflect.DeepEqual(a, b)
}

// Worker is one worker process.
type Worker struct {
	Program string // of tasks; empty for those that run commands
	// Callbacks says that it runs those, and takes no slot of the pool.
	Callbacks bool
	Slot      int
	Pid       int
	State     string // starting, idle, busy, leaving
	ID        string // of the call that it runs
	Age       time.Duration
	Busy      time.Duration
	Done      uint64 // calls
	Memory    int64  // bytes
}

// FaultCode tells the faults of a server apart.
type FaultCode string

// The faults.
const (
	FaultBroken  FaultCode = "broken"  // the question is none, or the server cannot do it
	FaultUnknown FaultCode = "unknown" // no such call, or not any more
	FaultClosed  FaultCode = "closed"  // the pool takes no calls any more
	FaultOpen    FaultCode = "open"    // the pool is not closed
	FaultFull    FaultCode = "full"    // there is no room for more
	FaultEnded   FaultCode = "ended"   // the pool was terminated
)

// Fault is a server's refusal. Text is a sentence that says what to try.
type Fault struct {
	Code FaultCode
	Text string
}

func (f *Fault) Error() string { return f.Text }
