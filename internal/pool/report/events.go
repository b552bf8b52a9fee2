package report

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// eventVersion is the v of every line. It rises when a field changes its meaning, and
	// not when fields or events are added (docs/events.md).
	eventVersion = 1

	// eventBatch is how many bytes of finished calls gather before they are written.
	eventBatch = 32 << 10
)

// Events writes what happens in a run as JSON lines, one event each (docs/events.md).
// Every write has whole lines only, so a reader who comes too late, or a run that is
// killed, never leaves half of one in the middle of others.
//
// Every method may be called from any goroutine. Each costs about a microsecond and one
// write, but for [Events.CallFinished], whose lines wait for [Events.Flush] or for the next
// event. A reader who does not read makes them all wait. The first error is returned by
// every later call, which then writes nothing.
type Events struct {
	target string
	file   *os.File
	own    bool // close it at the end
	now    func() time.Time

	mu  sync.Mutex // guards the following
	buf []byte
	err error
}

// OpenEvents opens what --events names: a file, which is emptied, "fd:N" for an inherited
// descriptor, or "-" for stdout, which is nil if results go there. A named pipe is opened
// when it has a reader. It should be called before other files are opened, so that fd:N
// cannot mean one of them.
func OpenEvents(target string, stdout *os.File) (*Events, error) {
	e := &Events{target: target, now: time.Now}
	number, inherited := strings.CutPrefix(target, "fd:")
	var err error
	switch {
	case target == "-" || target == "fd:1":
		e.target, e.file = "standard output", stdout
	case target == "fd:2":
		e.target, e.file = "standard error", os.Stderr
	case inherited:
		e.own = true
		e.file, err = inheritedFile(number)
	default:
		e.own = true
		e.file, err = os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	}
	switch {
	case e.file == nil && !e.own:
		return nil, errors.New("write events to standard output: the results go there; name a file, or a descriptor such as fd:3 with 3>events.jsonl")
	case err != nil:
		return nil, fmt.Errorf("open %s for events: %w", target, err)
	}
	return e, nil
}

// inheritedFile takes over a descriptor that the process was started with. Those are the
// ones without close-on-exec: any other is gpool's own. It gets the flag, so that no
// worker or command keeps it open.
func inheritedFile(number string) (*os.File, error) {
	fd, err := strconv.ParseUint(number, 10, 31)
	if err != nil || fd < 3 {
		return nil, errors.New("after fd: comes the number of a descriptor, from 1 on, such as fd:3")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return nil, fmt.Errorf("it is not open; redirect it, as in %d>events.jsonl", fd)
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if access := mode & unix.O_ACCMODE; access != unix.O_WRONLY && access != unix.O_RDWR {
		return nil, fmt.Errorf("it is open for reading only; redirect it, as in %d>events.jsonl", fd)
	}
	unix.CloseOnExec(int(fd))
	return os.NewFile(uintptr(fd), "fd:"+number), nil
}

// RunStart is what is known of a run when it starts.
type RunStart struct {
	Command   []string // the words of gpool's command line
	Version   string   // of gpool
	Workers   int
	Total     int64   // calls, < 0: unknown
	Seed      *uint64 // of a shuffled input, else nil
	Partition string  // the part of the input that this run does, such as "2/5", else ""
}

// RunStarted is the first event.
func (e *Events) RunStarted(r RunStart) error {
	return e.write("run_started", func(b []byte) []byte {
		b = appendTexts(b, "command", r.Command)
		b = appendString(appendKey(b, "version"), r.Version)
		b = appendInt(b, "workers", int64(r.Workers))
		if r.Total >= 0 {
			b = appendInt(b, "total", r.Total)
		}
		if r.Seed != nil {
			b = appendUint(b, "seed", *r.Seed)
		}
		return appendText(b, "partition", r.Partition)
	})
}

// WorkerStarted says that the process of a worker runs; it takes no calls yet.
func (e *Events) WorkerStarted(slot, pid int) error {
	return e.worker("worker_started", slot, pid, nil)
}

// WorkerReady says that a worker has run its initializer and takes calls.
func (e *Events) WorkerReady(slot, pid int) error { return e.worker("worker_ready", slot, pid, nil) }

// WorkerLeft says that a worker has ended as it was told to.
func (e *Events) WorkerLeft(slot, pid int) error { return e.worker("worker_left", slot, pid, nil) }

// WorkerDied says that a worker has ended otherwise, and why.
func (e *Events) WorkerDied(slot, pid int, why error) error {
	return e.worker("worker_died", slot, pid, why)
}

func (e *Events) worker(name string, slot, pid int, why error) error {
	return e.write(name, func(b []byte) []byte {
		b = appendInt(b, "slot", int64(slot))
		b = appendInt(b, "worker_pid", int64(pid))
		return appendError(b, why)
	})
}

func appendError(b []byte, err error) []byte {
	if err == nil {
		return b
	}
	return appendString(appendKey(b, "error"), err.Error())
}

// WorkersFewer says that the run goes on with fewer workers than before, and why.
func (e *Events) WorkersFewer(workers int, why error) error {
	return e.write("workers_fewer", func(b []byte) []byte {
		return appendError(appendInt(b, "workers", int64(workers)), why)
	})
}

// CallStarted says that an attempt of a call began at a moment, which may lie before the
// event: it is the worker who knows.
func (e *Events) CallStarted(seq uint64, item []string, attempt, slot, pid int, at time.Time) error {
	return e.write("call_started", func(b []byte) []byte {
		b = appendTexts(appendUint(b, "seq", seq), "args", item)
		b = appendInt(b, "attempt", int64(attempt))
		b = appendInt(b, "slot", int64(slot))
		b = appendInt(b, "worker_pid", int64(pid))
		return appendMoment(b, "start", at)
	})
}

// CallOutput says how many bytes an attempt has printed so far.
func (e *Events) CallOutput(seq uint64, attempt int, stdout, stderr int64) error {
	return e.write("call_output", func(b []byte) []byte {
		b = appendInt(appendUint(b, "seq", seq), "attempt", int64(attempt))
		b = appendInt(b, "stdout_bytes", stdout)
		return appendInt(b, "stderr_bytes", stderr)
	})
}

// CallRetried says that an attempt has failed and the next one comes after delay.
func (e *Events) CallRetried(seq uint64, item []string, failed *Attempt, delay time.Duration) error {
	return e.write("call_retried", func(b []byte) []byte {
		b = appendTexts(appendUint(b, "seq", seq), "args", item)
		return appendSeconds(appendAttempt(b, failed), "delay", delay)
	})
}

// CallFinished says how a call ended. Its line waits for others of its kind, until
// [Events.Flush], the next event of another kind, or 32 KiB.
func (e *Events) CallFinished(r *Record) error {
	return e.add("call_finished", false, func(b []byte) []byte {
		b = appendTexts(appendUint(b, "seq", r.Seq), "args", r.Item)
		b = appendAttempt(b, &r.Attempt)
		b = strconv.AppendBool(appendKey(b, "flaky"), r.Flaky())
		return appendEarlier(b, r.Earlier)
	})
}

// RunFinished is the last event.
func (e *Events) RunFinished(t *Totals) error {
	return e.write("run_finished", func(b []byte) []byte {
		b = appendInt(b, "calls", t.Calls)
		b = appendInt(b, "succeeded", t.Succeeded)
		b = appendInt(b, "failed", t.Failed)
		b = appendInt(b, "flaky", t.Flaky)
		b = appendInt(b, "cancelled", t.Cancelled)
		b = appendInt(b, "not_run", t.NotRun)
		b = appendInt(b, "skipped", t.Skipped)
		b = appendSeconds(b, "wall", t.Wall)
		b = appendSeconds(b, "busy", t.Busy)
		return appendInt(b, "exit", int64(t.Exit))
	})
}

// Flush writes the lines that wait. It costs nothing if there are none.
func (e *Events) Flush() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flush()
}

// Close writes the lines that wait and closes what [OpenEvents] opened.
func (e *Events) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.flush()
	if e.own {
		if closed := e.file.Close(); err == nil && closed != nil {
			err = e.failed(closed)
		}
	}
	if e.err == nil {
		e.err = fmt.Errorf("write events to %s: %w", e.target, os.ErrClosed)
	}
	return err
}

// write adds an event and writes it at once, with the lines that waited.
func (e *Events) write(name string, fields func([]byte) []byte) error {
	return e.add(name, true, fields)
}

func (e *Events) add(name string, now bool, fields func([]byte) []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.buf = append(e.buf, `{"v":`...)
	e.buf = strconv.AppendInt(e.buf, eventVersion, 10)
	e.buf = appendString(appendKey(e.buf, "event"), name)
	e.buf = appendMoment(e.buf, "time", e.now())
	e.buf = append(fields(e.buf), '}', '\n')
	if now || len(e.buf) >= eventBatch {
		return e.flush()
	}
	return nil
}

// flush writes what waits, in one write; the caller holds mu.
func (e *Events) flush() error {
	if e.err != nil || len(e.buf) == 0 {
		return e.err
	}
	_, err := e.file.Write(e.buf)
	e.buf = e.buf[:0]
	if cap(e.buf) > 4*eventBatch { // an item of megabytes must not stay for the whole run
		e.buf = nil
	}
	if err != nil {
		return e.failed(err)
	}
	return nil
}

// failed keeps the first error, with the name of the target.
func (e *Events) failed(err error) error {
	var path *os.PathError // says the name a second time
	if errors.As(err, &path) {
		err = path.Err
	}
	e.err = fmt.Errorf("write events to %s: %w", e.target, err)
	return e.err
}
