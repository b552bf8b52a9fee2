package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/command"
	"gpool/internal/ipc"
	"gpool/internal/rawpipe"
	"gpool/internal/session"
)

// Commands is the built-in task exec: it runs one command at a time, each in a
// process group of its own with /dev/null on its stdin, and streams what it prints.
// A call ends when its command ends, also if processes that the command left
// behind still hold its output open.
//
// It talks to the system below os/exec: the runner waits once for both streams and the
// end of the process, where os/exec would take two goroutines and four thread switches a
// command.
type Commands struct {
	environ []string // the worker's own, without the variables set for each call
	null    *os.File
	buf     []byte
	events  *watch
	prints  bool // the last command has printed much

	// What the common value of the last call said. Calls of a job share it, so it
	// is parsed once and not once a call.
	common   []byte
	spec     command.Spec
	env      []string // environ, and what spec adds
	template *command.Template
	encoder  *ipc.Encoder

	mu       sync.Mutex // guards what follows; held while a command is being started
	pid      int        // of the running command, which leads a group of the same id
	signaled bool       // the running command was asked to end
	closed   bool       // no command may be started any more

	suspended bool // no command may be started for now
	changed   *sync.Cond
}

// NewCommands returns the task exec for a worker of this process's environment.
func NewCommands() (*Commands, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open %s for the commands' input: %w", os.DevNull, err)
	}
	events, err := newWatch()
	if err != nil {
		return nil, err
	}
	x := &Commands{
		events:  events,
		environ: without(os.Environ(), callVariables),
		null:    null,
		buf:     make([]byte, ipc.PieceSize),
		encoder: ipc.NewEncoder(),
	}
	x.changed = sync.NewCond(&x.mu)
	return x, nil
}

// callVariables are set for each call. An outer gpool may have set them for its own.
var callVariables = []string{"GPOOL_SEQ=", "GPOOL_SLOT=", "GPOOL_ATTEMPT=", "PARALLEL_SEQ=", "PARALLEL_JOBSLOT="}

// without leaves out of env the variables that other sets. A program that finds a
// variable twice may take the first.
func without(env, other []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(other, func(o string) bool {
			return len(o) > len(name) && o[:len(name)] == name && o[len(name)] == '='
		})
	})
}

// Run is the task: common is a command.Spec, payload a command.Row, the value a
// command.Status. A command that exits with another code than 0 is a failure with
// its Status as data; one that could not be started is NotRun.
func (x *Commands) Run(ctx context.Context, c *Call) ([]byte, error) {
	if err := x.prepare(c.Common); err != nil {
		return nil, &Failure{Code: ipc.NotRun, Message: err.Error()}
	}
	var row command.Row
	var err error
	if len(c.Payload) > 0 {
		if row, err = command.DecodeRow(c.Payload); err != nil {
			return nil, &Failure{Code: ipc.NotRun, Message: err.Error()}
		}
	}
	argv, err := x.template.Render(command.Values{Row: row, Seq: c.Seq, Slot: c.Slot})
	if err != nil {
		return nil, &Failure{Code: ipc.NotRun, Message: err.Error()}
	}
	p, err := x.start(ctx, argv, c)
	if err != nil {
		return nil, x.notStarted(argv, err)
	}
	c.OnSignal(x.Signal)
	copyErr := p.copyOutput(ctx, c, x.buf)
	return x.finished(p.wait(), copyErr)
}

func (x *Commands) prepare(common []byte) error {
	if x.template != nil && bytes.Equal(common, x.common) {
		return nil
	}
	spec, err := command.DecodeSpec(common)
	if err != nil {
		return err
	}
	if x.template, err = command.Parse(spec); err != nil {
		return err
	}
	x.spec, x.common = spec, bytes.Clone(common)
	x.env = append(without(x.environ, spec.Env), without(spec.Env, callVariables)...)
	return nil
}

// process is a running command. The runner alone uses it.
type process struct {
	owner       *Commands
	pid, exitFD int
	out, err    int // read ends, -1 once closed
	watched     bool
	wide        bool // it prints much
	leaked      bool
	ended       bool // as exitFD has told
	reaped      bool
	status      command.Status // once reaped
}

func (x *Commands) start(ctx context.Context, argv []string, c *Call) (*process, error) {
	path, err := x.lookUp(argv[0])
	if err != nil {
		return nil, err
	}
	env := x.environment(c)
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p, err := x.fork(path, argv, env, c.ID != 0)
		if errors.Is(err, syscall.ENOEXEC) { // a script without a first line
			path, argv = "/bin/sh", append([]string{"sh", path}, argv[1:]...)
			p, err = x.fork(path, argv, env, c.ID != 0)
		}
		if !errors.Is(err, syscall.EAGAIN) || pause > time.Second {
			return p, err
		}
		// The machine has no room for one more process at the moment.
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// lookUp finds the program, as seen from the directory in which it will run.
func (x *Commands) lookUp(name string) (string, error) {
	if x.spec.Path != "" {
		return x.spec.Path, nil
	}
	if strings.Contains(name, "/") && x.spec.Dir != "" && !filepath.IsAbs(name) {
		if _, err := exec.LookPath(filepath.Join(x.spec.Dir, name)); err != nil {
			return "", plain(err)
		}
		return name, nil // it is executed from there
	}
	path, err := exec.LookPath(name)
	return path, plain(err)
}

// plain takes off what names the program once more.
func plain(err error) error {
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err
}

func (x *Commands) environment(c *Call) []string {
	env := make([]string, 0, len(x.env)+5)
	env = append(env, x.env...)
	slot := strconv.Itoa(c.Slot)
	env = append(env, "GPOOL_SLOT="+slot, "PARALLEL_JOBSLOT="+slot)
	if c.ID != 0 { // initializer and finalizer belong to no call
		seq := strconv.FormatUint(c.Seq, 10)
		env = append(env, "GPOOL_SEQ="+seq, "PARALLEL_SEQ="+seq, "GPOOL_ATTEMPT="+strconv.Itoa(c.Attempt))
	}
	return env
}

// fork starts the command, with fresh pipes for what it prints if capture is set,
// else with the worker's standard error. The lock is held from before the fork until
// the pid is known, so that an orphaned worker cannot miss it.
func (x *Commands) fork(path string, argv, env []string, capture bool) (*process, error) {
	p := &process{owner: x, exitFD: -1, out: -1, err: -1}
	outW, errW := 2, 2
	if capture {
		var err error
		if p.out, outW, err = newPipe(); err != nil {
			return nil, fmt.Errorf("make a pipe for its output: %w", err)
		}
		defer closeNow(outW)
		if p.err, errW, err = newPipe(); err != nil {
			p.close()
			return nil, fmt.Errorf("make a pipe for its output: %w", err)
		}
		defer closeNow(errW)
	}
	attr := &syscall.ProcAttr{
		Dir:   x.spec.Dir,
		Env:   env,
		Files: []uintptr{x.null.Fd(), uintptr(outW), uintptr(errW)},
	}
	err := x.forkLocked(p, path, argv, attr)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (x *Commands) forkLocked(p *process, path string, argv []string, attr *syscall.ProcAttr) (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.suspended && !x.closed {
		x.changed.Wait()
	}
	if x.closed {
		return ErrOrphaned
	}
	p.pid, p.exitFD, err = startProcess(path, argv, attr)
	x.pid = p.pid
	return err
}

func (p *process) close() {
	for _, fd := range []*int{&p.out, &p.err, &p.exitFD} {
		if *fd >= 0 {
			closeNow(*fd)
			*fd = -1
		}
	}
}

// askInterval is how often the end of a command is asked for where the system has
// no descriptor of it.
const askInterval = 20 // milliseconds

// shortLife is how long only the end of a command is waited for: the output of one that is over by then
// is read once, and the worker does not wake up whenever it prints or closes something. It waits in the kernel
// without a word to the runtime, so whatever else arrives in this time waits with it. If the last command has printed
// more than a pipe holds the next one may, too, and would have to wait.
const shortLife = 4 * time.Millisecond

// outputGrace is how long the output of a command may stay open after its end, for
// what is on its way through a child, as in `echo > >(cat)`. Who holds it open for
// longer is not waited for.
const outputGrace = 100 * time.Millisecond

// poll waits for some of the descriptors of the command.
func (p *process) poll(fds []unix.PollFd, milliseconds int) (int, error) {
	events := p.owner.events
	if !p.watched {
		n, err := pollNow(fds, 0)
		if n > 0 || err != nil {
			return n, err
		}
		for _, fd := range []int{p.out, p.err, p.exitFD} {
			if events.add(fd) != nil { // the system watches no more: then a thread waits
				return unix.Poll(fds, milliseconds)
			}
		}
		p.watched = true
	}
	return events.poll(fds, milliseconds)
}

// copyOutput sends what the command prints until it has ended and its output too, or
// the grace is over. It returns an error when the output could not be handed on.
func (p *process) copyOutput(ctx context.Context, c *Call, buf []byte) (err error) {
	fds := []unix.PollFd{
		{Fd: int32(p.out), Events: unix.POLLIN},
		{Fd: int32(p.err), Events: unix.POLLIN},
		{Fd: int32(p.exitFD), Events: unix.POLLIN}, // poll passes over -1
	}
	wait := -1 // milliseconds
	if p.exitFD < 0 {
		wait = askInterval
	} else if !p.owner.prints {
		if _, err := pollNow(fds[2:], shortLife); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for its end: %w", err)
		}
	}
	defer func() { p.owner.prints = p.wide }()
	var end time.Time // of the grace, once the command has ended
	for p.out >= 0 || p.err >= 0 {
		n, pollErr := p.poll(fds, wait)
		if pollErr == unix.EINTR {
			continue
		}
		if pollErr != nil {
			return fmt.Errorf("wait for its output: %w", pollErr)
		}
		if fds[0].Revents != 0 {
			p.readSome(ctx, c, &p.out, ipc.Stdout, buf, fds[0].Revents, &err)
			fds[0].Fd = int32(p.out)
		}
		if fds[1].Revents != 0 {
			p.readSome(ctx, c, &p.err, ipc.Stderr, buf, fds[1].Revents, &err)
			fds[1].Fd = int32(p.err)
		}
		if end.IsZero() {
			if fds[2].Revents == 0 && (p.exitFD >= 0 || n > 0 || !p.reap()) {
				continue
			}
			p.ended = true
			end, fds[2].Fd = time.Now().Add(outputGrace), -1
		}
		left := time.Until(end)
		if left <= 0 {
			break
		}
		wait = int(left/time.Millisecond) + 1
	}
	p.readRest(ctx, c, &p.out, ipc.Stdout, buf, &err)
	p.readRest(ctx, c, &p.err, ipc.Stderr, buf, &err)
	return err
}

// readSome reads once from a stream of which poll said so much. What is read by less than was asked for, of a pipe into which
// nobody can write, was the last of it.
func (p *process) readSome(ctx context.Context, c *Call, fd *int, s ipc.Stream, buf []byte, said int16, failed *error) {
	n := p.read(ctx, c, fd, s, buf, failed)
	switch {
	case n == len(buf) && !p.wide:
		p.wide = true
		rawpipe.Widen(*fd) // the next piece gathers while this one is on its way
	case n > 0 && n < len(buf) && said&unix.POLLHUP != 0:
		closeNow(*fd)
		*fd = -1
	}
}

// read reads once from a stream that has something to say, and closes it at its end.
func (p *process) read(ctx context.Context, c *Call, fd *int, s ipc.Stream, buf []byte, failed *error) int {
	n, err := rawpipe.ReadNow(*fd, buf)
	if err == unix.EINTR {
		return 0
	}
	if n <= 0 {
		closeNow(*fd)
		*fd = -1
		return 0
	}
	if *failed == nil {
		*failed = c.Output(ctx, s, buf[:n])
	}
	return n
}

// readRest reads what is in a pipe when the grace is over. If somebody else
// still holds the pipe, then what he adds is not the command's, and has no end.
func (p *process) readRest(ctx context.Context, c *Call, fd *int, s ipc.Stream, buf []byte, failed *error) {
	if *fd < 0 {
		return
	}
	poll := []unix.PollFd{{Fd: int32(*fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, 0); err != unix.EINTR {
			break
		}
	}
	if poll[0].Revents&unix.POLLHUP != 0 {
		for *fd >= 0 {
			p.read(ctx, c, fd, s, buf, failed)
		}
		return
	}
	p.leaked = true
	rest, _ := unix.IoctlGetInt(*fd, ioctlWaiting)
	for rest > 0 && *fd >= 0 {
		rest -= p.read(ctx, c, fd, s, buf[:min(rest, len(buf))], failed)
	}
}

// reap waits for the command if it has ended, and reports whether it has. The pid is
// forgotten under the lock that Signal takes, so that no signal can reach a process
// that has got the same pid since.
func (p *process) reap() bool {
	x := p.owner
	x.mu.Lock()
	defer x.mu.Unlock()
	if !p.reaped {
		if x.signaled && p.exitFD >= 0 {
			// It has ended. What it leaves of its group has been asked to end too,
			// and has not. The group's id is still its own: it is not reaped yet.
			_ = unix.Kill(-p.pid, syscall.SIGKILL)
		}
		var ws syscall.WaitStatus
		var usage syscall.Rusage
		got, err := reapNow(p.pid, &ws, &usage)
		if got != p.pid && (err == nil || err == syscall.EINTR) {
			return false
		}
		if x.signaled && p.exitFD < 0 { // the end was not known before: the best there is
			_ = unix.Kill(-p.pid, syscall.SIGKILL)
		}
		p.reaped, x.pid, x.signaled = true, 0, false
		p.status = newStatus(ws, usage)
		if err != nil {
			p.status.Exit = 255 // somebody else has waited for it: nobody knows, so no success
		}
	}
	return true
}

// wait returns how the command ended, once it has.
func (p *process) wait() command.Status {
	if p.exitFD >= 0 && !p.ended {
		fds := []unix.PollFd{{Fd: int32(p.exitFD), Events: unix.POLLIN}}
		for {
			if _, err := p.poll(fds, -1); err != unix.EINTR {
				break
			}
		}
	}
	for !p.reap() {
		time.Sleep(time.Millisecond) // only where there is no exitFD
	}
	p.close()
	p.status.Leaked = p.leaked
	return p.status
}

func newStatus(ws syscall.WaitStatus, usage syscall.Rusage) command.Status {
	status := command.Status{
		Exit:   ws.ExitStatus(),
		MaxRSS: maxRSS(usage),
		User:   int(usage.Utime.Nano() / 1000),
		System: int(usage.Stime.Nano() / 1000),
	}
	if ws.Signaled() {
		status.Signal = int(ws.Signal())
		status.Exit = 128 + status.Signal
	}
	return status
}

func (x *Commands) finished(status command.Status, copyErr error) ([]byte, error) {
	x.encoder.Reset()
	status.Append(x.encoder)
	data := x.encoder.Copy()
	switch {
	case copyErr != nil: // or what the cancel makes of it
		return nil, &Failure{Code: ipc.Failed, Message: copyErr.Error(), Data: data}
	case status.Signal != 0:
		return nil, &Failure{Code: ipc.Failed, Message: "killed by " + signalName(status.Signal), Data: data}
	case status.Exit != 0:
		return nil, &Failure{Code: ipc.Failed, Message: "exit status " + strconv.Itoa(status.Exit), Data: data}
	}
	return data, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// size is what words take as arguments.
func size(words []string) (n int) {
	for _, w := range words {
		n += len(w) + 1
	}
	return n
}

func signalName(n int) string {
	if name := unix.SignalName(syscall.Signal(n)); name != "" {
		return "signal " + strconv.Itoa(n) + " (" + name + ")"
	}
	return "signal " + strconv.Itoa(n)
}

// notStarted explains why a command could not be started, with the exit code that
// a shell would give.
func (x *Commands) notStarted(argv []string, err error) error {
	status := command.Status{Exit: 126}
	hint := ""
	switch {
	case cancelCode(err) != ipc.OK, errors.Is(err, ErrOrphaned):
		return &Failure{Code: ipc.Cancelled, Message: err.Error()} // or timed out: see execute
	case errors.Is(err, syscall.ENOENT) && x.spec.Dir != "" && !isDir(x.spec.Dir):
		status.Exit = 127
		hint = ": its directory, " + command.Quote(x.spec.Dir) + ", is not there"
	case errors.Is(err, syscall.ENOENT), errors.Is(err, exec.ErrNotFound):
		status.Exit = 127
	case errors.Is(err, syscall.E2BIG):
		hint = fmt.Sprintf(": its arguments take %d bytes, and its environment %d; hand long items over in a file", size(argv), size(x.env))
	case errors.Is(err, syscall.EAGAIN):
		hint = ": the limit of processes is reached; use fewer workers (-j) or raise it (ulimit -u)"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		hint = ": the limit of open files is reached; use fewer workers (-j) or raise it (ulimit -n)"
	}
	x.encoder.Reset()
	status.Append(x.encoder)
	name := command.Quote(argv[0])
	if len(name) > 200 {
		name = name[:200] + "..."
	}
	return &Failure{Code: ipc.NotRun, Message: fmt.Sprintf("start %s: %v%s", name, err, hint), Data: x.encoder.Copy()}
}

// Signal sends sig to the group of the running command, if one runs. Any goroutine.
func (x *Commands) Signal(sig syscall.Signal) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pid > 0 {
		_ = unix.Kill(-x.pid, sig)
		x.signaled = true
	}
}

// Kill ends the running command, and everything else that this worker has started
// if it leads a session of its own. No command can be started afterwards.
func (x *Commands) Kill() {
	x.mu.Lock()
	x.closed = true
	x.changed.Broadcast()
	if x.pid > 0 {
		_ = unix.Kill(-x.pid, syscall.SIGKILL)
	}
	x.mu.Unlock()
	if sid, ok := session.Own(); ok {
		session.Kill(sid, os.Getpid())
	}
}

// Suspend stops the running command, and lets none start, until it is called with
// false. The worker itself goes on: a stopped one would not see that its parent is
// gone.
func (x *Commands) Suspend(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.suspended = on
	x.changed.Broadcast()
	if x.pid > 0 {
		_ = unix.Kill(-x.pid, sig)
	}
}
