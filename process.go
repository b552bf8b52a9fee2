package gpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"gpool/internal/pool"
	"gpool/internal/pool/launch"
	"gpool/internal/value"
)

// Errors that say what state a [Process] is in. Compare with [errors.Is].
var (
	ErrProcessNotStarted = errors.New("gpool: the process was not started")
	ErrProcessStarted    = errors.New("gpool: the process was started already")
	ErrProcessRunning    = errors.New("gpool: the process still runs")
	ErrProcessClosed     = errors.New("gpool: the process was closed")
)

// Process runs one registered task once, in a process of its own: Python's
// multiprocessing.Process. That process is this program, started again, and ends with
//
//   - 0 if the task returns nil,
//   - n & 0xff if it returns an [ExitStatus] n or calls os.Exit(n),
//   - 1 if it returns another error, panics or ends its goroutine; the error (%+v), or
//     the panic and its stack, is on the process's stderr,
//   - 2 if another goroutine of it panics, as the Go runtime does,
//   - -N if signal N ends it.
//
// Its stdin is empty, and its stdout and stderr are those of this process. It leads a
// session of its own: the terminal's Ctrl-C reaches this program alone. Commands that it
// has started end with it unless it ends with 0.
//
// It never outlives this process, also when SIGKILL ends this one: the task's context
// then ends with [ErrParentGone], and a twentieth of a second later the process with all
// that it has started. A Process of Python outlives its parent if it is no daemon.
//
// All methods may be called from any goroutine at any time. A process that runs is waited
// for by a goroutine of its own, so that none is left as a zombie, and costs five
// descriptors at most.
type Process struct {
	name     string
	identity []int // which process of which process of the main one it is
	daemon   bool
	task     string
	config   processConfig
	doneC    chan struct{}

	mu       sync.Mutex // guards what follows
	state    processState
	encode   func() ([]byte, error) // dropped by Start, and the argument with it
	leader   *launch.Leader         // while it runs
	lifeline *os.File               // while it runs; it ends when nobody holds this open
	pid      int
	code     int
}

type processState int

const (
	processInitial processState = iota
	processRunning
	processEnded
	processClosed
)

// ProcessOption is a property of a [Process], for [NewProcess].
type ProcessOption func(*processConfig)

// processConfig is what NewProcess was asked for.
type processConfig struct {
	name           string
	daemon         *bool // nil inherits it
	stdout, stderr io.Writer
	env            []string
	dir            string
	err            error // told by Start
}

// ProcessName names the process, for messages and [Current]. Without it the name is
// Process-1 and so on, and Process-1:2 for the second process that Process-1 makes.
func ProcessName(name string) ProcessOption { return func(c *processConfig) { c.name = name } }

// Daemon says what happens to the process when this program ends by [Exit] or [Main]: a
// daemon is terminated, any other is waited for. Without it the process is a daemon if
// this one is. A daemon may have processes and pools of its own; Python's may not.
func Daemon(on bool) ProcessOption { return func(c *processConfig) { c.daemon = &on } }

// ProcessStdout gets what the process writes to its stdout, instead of this process's
// stdout. A file is handed to the process as it is. Any other writer is written to as
// output arrives, from one goroutine, which also writes stderr if the two are the same
// writer; the process counts as running until that is done. A writer that blocks holds
// the process up. After an error of the writer the rest is dropped.
func ProcessStdout(w io.Writer) ProcessOption { return func(c *processConfig) { c.stdout = w } }

// ProcessStderr is [ProcessStdout] for its stderr.
func ProcessStderr(w io.Writer) ProcessOption { return func(c *processConfig) { c.stderr = w } }

// ProcessEnv adds variables to the environment of the process, or replaces some; each is
// NAME=VALUE.
func ProcessEnv(variables ...string) ProcessOption {
	return func(c *processConfig) {
		c.env = append(c.env, variables...)
		for _, v := range variables {
			if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
				wrong(&c.err, "ProcessEnv(%q): a variable is NAME=VALUE", v)
			}
		}
	}
}

// ProcessDir is the directory in which the process runs; without it, that of this one.
func ProcessDir(path string) ProcessOption { return func(c *processConfig) { c.dir = path } }

// NewProcess makes a process that will run t once, with in, and drop the result. It
// starts nothing: [Process.Start] does, and encodes in. What is wrong with the options,
// Start returns.
func NewProcess[In, Out any](t *Task[In, Out], in In, o ...ProcessOption) *Process {
	p := &Process{task: t.name, doneC: make(chan struct{})}
	p.encode = func() ([]byte, error) {
		b, err := t.encode(nil, &in)
		if err != nil {
			return nil, &EncodeError{What: "the argument of task " + t.name, Type: value.TypeName[In](), Err: err}
		}
		return b, nil
	}
	for _, option := range o {
		option(&p.config)
	}
	self := Current()
	p.daemon = self.Daemon
	if p.config.daemon != nil {
		p.daemon = *p.config.daemon
	}
	p.identity = relatives.nextIdentity()
	p.name = p.config.name
	if p.name == "" {
		p.name = nameOf(p.identity)
	}
	return p
}

// nameOf is like Process-1:2.
func nameOf(identity []int) string {
	numbers := make([]string, len(identity))
	for i, n := range identity {
		numbers[i] = strconv.Itoa(n)
	}
	return "Process-" + strings.Join(numbers, ":")
}

// Start starts the process, some milliseconds, and returns as soon as it lives: the task
// begins a little later. The argument is encoded before Start returns, and not kept.
//
// It fails with [ErrProcessStarted] the second time, with an [EncodeError] if the
// argument cannot travel, with [ErrNotRegistered] for a task of [Fn], and if the system
// has no room. Then the process may be started again.
func (p *Process) Start() error {
	if IsWorker() && !guarded() {
		exitUnguarded()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case processInitial:
	case processClosed:
		return ErrProcessClosed
	default:
		return ErrProcessStarted
	}
	if err := p.start(); err != nil {
		return fmt.Errorf("gpool: start process %s: %w", p.name, err)
	}
	p.state, p.encode = processRunning, nil
	return nil
}

// errNoInit is said before anything starts: a program that does not serve in its
// children would do everything again in each of them.
var errNoInit = errors.New("this program has not called gpool.Init: make gpool.Init() the first line of main (and of TestMain)")

// start is called under the lock.
func (p *Process) start() error {
	switch {
	case p.config.err != nil:
		return p.config.err
	case p.task == "":
		return fmt.Errorf("%w: a task of Fn has no name; Register it", ErrNotRegistered)
	case !guarded():
		return errNoInit
	case launch.Depth() >= maxDepth:
		return fmt.Errorf("it would be within %d others, and no more are possible; does a task start the program that runs it?", maxDepth)
	}
	payload, err := p.encode()
	if err != nil {
		return err
	}
	if len(payload) > maxOrder {
		return &EncodeError{What: "the argument of task " + p.task, Type: "value", Err: fmt.Errorf("it takes %d bytes, and %d may travel", len(payload), maxOrder)}
	}
	self, err := launch.Self()
	if err != nil {
		return err
	}
	var files startFiles
	defer files.closeTheirs()
	cmd := &exec.Cmd{
		Path: self.Path, Args: []string{self.Path}, Dir: p.config.dir,
		Env: launch.With(os.Environ(), append(slices.Clone(p.config.env),
			launch.ModeVar+"="+processMode, launch.DepthVar+"="+strconv.Itoa(launch.Depth()+1))),
	}
	if err := files.open(cmd, &p.config); err != nil {
		return err
	}
	leader, err := launch.Lead(cmd)
	if err != nil {
		files.closeOurs()
		return err
	}
	p.leader, p.lifeline, p.pid = leader, files.lifeline, leader.Pid()
	parent := Current()
	order := processOrder{
		task: p.task, name: p.name, identity: p.identity, daemon: p.daemon,
		parentPid: parent.Pid, parentName: parent.Name, keys: knownKeys(),
	}
	relatives.add(p)
	sentC := make(chan struct{})
	go send(files.lifeline, order.encode(), payload, sentC)
	go p.attend(files.lifeline, sentC, files.relays)
	return nil
}

// send ends when the process has read all, or at the latest when the lifeline is closed.
func send(lifeline *os.File, order, payload []byte, sentC chan<- struct{}) {
	defer close(sentC)
	if err := writeFrame(lifeline, order); err == nil {
		_ = writeFrame(lifeline, payload) // a process that dies over it has an exit code that says more
	}
}

// attend waits for the end of the process, and then for what belongs to it.
func (p *Process) attend(lifeline *os.File, sentC <-chan struct{}, relays []*relay) {
	for _, r := range relays {
		go r.run() // until the process has ended, and a drainTime longer
	}
	exit := p.leader.Wait()
	_ = lifeline.Close()
	<-sentC
	late := time.Now().Add(drainTime)
	for _, r := range relays {
		_ = r.from.SetReadDeadline(late)
	}
	for _, r := range relays {
		<-r.doneC
	}
	p.mu.Lock()
	p.state, p.code = processEnded, exitCode(exit)
	p.leader, p.lifeline = nil, nil
	p.mu.Unlock()
	relatives.remove(p)
	close(p.doneC)
}

// exitCode is -N for signal N, as Python has it.
func exitCode(e pool.Exit) int {
	if e.Signal != 0 {
		return -int(e.Signal)
	}
	return e.Code
}

// Join waits until the process has ended. It returns nil then, also if ctx has ended
// too, and otherwise the cause of ctx when that ends; the process goes on. It returns
// [ErrProcessNotStarted] or [ErrProcessClosed] at once. How the process has ended,
// [Process.ExitCode] tells.
func (p *Process) Join(ctx context.Context) error {
	p.mu.Lock()
	state := p.state
	p.mu.Unlock()
	switch state {
	case processInitial:
		return ErrProcessNotStarted
	case processClosed:
		return ErrProcessClosed
	}
	return await(ctx, p.doneC)
}

// await prefers what is ready to an end of ctx.
func await(ctx context.Context, doneC <-chan struct{}) error {
	select {
	case <-doneC:
		return nil
	default:
	}
	select {
	case <-doneC:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when the process has ended. It may be asked for before the start.
func (p *Process) Done() <-chan struct{} { return p.doneC }

// Alive reports whether the process was started and has not ended.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == processRunning
}

// ExitCode is how the process has ended, see [Process]; false before the start, while it
// runs, and once it was closed.
func (p *Process) ExitCode() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code, p.state == processEnded
}

// Pid is the id of the process; 0 before the start, and once it was closed.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Name is the name of the process, see [ProcessName].
func (p *Process) Name() string { return p.name }

// Daemon reports whether the process is a daemon, see [Daemon].
func (p *Process) Daemon() bool { return p.daemon }

// Terminate sends SIGTERM to the process and returns at once. Unless its program or task
// catches that, it ends with -15, and what it has started ends with it; functions of
// [AtExit] are not called there. It is no error if the process has ended, but one before
// the start.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Interrupt sends SIGINT to the process and returns at once: the task's context ends with
// [ErrInterrupted], and what the task then returns counts. If the task has not begun, and
// the second time, the process ends with -2. Errors are those of [Process.Terminate].
func (p *Process) Interrupt() error { return p.signal(syscall.SIGINT) }

// Kill ends the process and its session with SIGKILL and returns at once; processes and
// pools that it has made end by themselves at once, see [ErrParentGone]. Errors are those
// of [Process.Terminate].
func (p *Process) Kill() error {
	leader, err := p.running()
	if leader == nil {
		return err
	}
	leader.Kill()
	return nil
}

func (p *Process) signal(s syscall.Signal) error {
	leader, err := p.running()
	if leader == nil {
		return err
	}
	if err := leader.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("gpool: signal process %s: %w", p.name, err)
	}
	return nil
}

// running returns nil and no error if the process has ended.
func (p *Process) running() (*launch.Leader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case processInitial:
		return nil, ErrProcessNotStarted
	case processClosed:
		return nil, ErrProcessClosed
	}
	return p.leader, nil
}

// Close forgets the process: methods that return an error return [ErrProcessClosed] from
// then on, but for Close itself. It returns [ErrProcessRunning] while the process runs. There
// is no need to call it: a process that has ended holds nothing but memory.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == processRunning {
		return ErrProcessRunning
	}
	p.state, p.encode, p.pid = processClosed, nil, 0
	return nil
}

// ActiveChildren lists the processes that were started here and have not ended, in the
// order of their start.
func ActiveChildren() []*Process {
	relatives.mu.Lock()
	defer relatives.mu.Unlock()
	return slices.Clone(relatives.children)
}

// relatives is what this process knows of itself, its parent and its children.
var relatives family

type family struct {
	mu       sync.Mutex
	self     processOrder   // of a Process; else empty
	parent   *ParentProcess // of a Process; else nil
	made     int            // processes, for their identities
	children []*Process     // that run
}

func (f *family) nextIdentity() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	return append(slices.Clone(f.self.identity), f.made)
}

func (f *family) add(p *Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.children = append(f.children, p)
}

func (f *family) remove(p *Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.children = slices.DeleteFunc(f.children, func(other *Process) bool { return other == p })
}

// daemonGrace is how long a daemon may take to end when the program does.
const daemonGrace = 500 * time.Millisecond

// endProcesses ends daemons and waits for the others, also for those that are started
// meanwhile.
func endProcesses() {
	for {
		list := ActiveChildren()
		if len(list) == 0 {
			return
		}
		daemons := slices.DeleteFunc(slices.Clone(list), func(p *Process) bool { return !p.daemon })
		for _, p := range daemons {
			_ = p.Terminate()
		}
		impatience := time.AfterFunc(daemonGrace, func() {
			for _, p := range daemons {
				_ = p.Kill()
			}
		})
		for _, p := range list {
			<-p.doneC
		}
		impatience.Stop()
	}
}

// abandon lets the children know at once that this process is about to end.
func (f *family) abandon() {
	for _, p := range ActiveChildren() {
		p.mu.Lock()
		if p.lifeline != nil {
			_ = p.lifeline.Close()
		}
		p.mu.Unlock()
	}
}

// startFiles are the descriptors that Start opens.
type startFiles struct {
	lifeline *os.File // this process's end
	relays   []*relay
	theirs   []*os.File // that only the new process should have
}

func (f *startFiles) closeTheirs() {
	for _, file := range f.theirs {
		_ = file.Close()
	}
}

// closeOurs is for a start that failed.
func (f *startFiles) closeOurs() {
	if f.lifeline != nil {
		_ = f.lifeline.Close()
	}
	for _, r := range f.relays {
		_ = r.from.Close()
	}
}

// open makes the streams of cmd. If it fails none is open.
func (f *startFiles) open(cmd *exec.Cmd, c *processConfig) (err error) {
	defer func() {
		if err != nil {
			f.closeOurs()
		}
	}()
	if cmd.Stdout, err = f.stream(c.stdout, os.Stdout); err != nil {
		return fmt.Errorf("its stdout: %w", err)
	}
	if c.stderr != nil && sameWriter(c.stdout, c.stderr) {
		cmd.Stderr = cmd.Stdout
	} else if cmd.Stderr, err = f.stream(c.stderr, os.Stderr); err != nil {
		return fmt.Errorf("its stderr: %w", err)
	}
	r, w, err := launch.HighPipe()
	if err != nil {
		return err
	}
	f.lifeline, f.theirs = w, append(f.theirs, r)
	cmd.ExtraFiles = []*os.File{r} // becomes lifelineFD
	return nil
}

// stream is what the process gets for a writer; nil is the null device.
func (f *startFiles) stream(w io.Writer, inherited *os.File) (io.Writer, error) {
	if w == nil {
		if !isOpen(inherited) { // a program that has closed it does not want output
			return nil, nil
		}
		return inherited, nil
	}
	if file, ok := w.(*os.File); ok {
		if !isOpen(file) {
			return nil, os.ErrClosed
		}
		return file, nil
	}
	r, to, err := launch.HighPipe()
	if err != nil {
		return nil, err
	}
	f.relays = append(f.relays, &relay{from: r, to: w, doneC: make(chan struct{})})
	f.theirs = append(f.theirs, to)
	return to, nil
}

// sameWriter is false for writers that cannot be compared.
func sameWriter(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

func isOpen(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = conn.Control(func(fd uintptr) {
		var status syscall.Stat_t
		open = syscall.Fstat(int(fd), &status) == nil
	})
	return err == nil && open
}

// drainTime is how long output is still read once its process has ended: what that wrote
// is in the pipe already, and somebody whom it left behind may hold it open for ever.
const drainTime = 200 * time.Millisecond

// relay hands output to a writer that is no file.
type relay struct {
	from  *os.File
	to    io.Writer
	doneC chan struct{}
}

func (r *relay) run() {
	defer close(r.doneC)
	defer r.from.Close()
	buf := make([]byte, 32<<10)
	var failed error
	for {
		n, err := r.from.Read(buf)
		if n > 0 && failed == nil {
			_, failed = r.to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
