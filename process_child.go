package gpool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool/hub/wire"
	"gpool/internal/pool/launch"
	"gpool/internal/session"
)

// processMode runs one task that the parent sends through the lifeline.
const processMode = "process"

// lifelineFD is a pipe whose other end the parent holds open while it lives. What it has
// to do a process reads there first: a frame with the order and one with the argument,
// each a length of four bytes, big-endian, and one msgpack value.
const lifelineFD = 3

// maxOrder bounds a frame of the lifeline, as the frames of workers are.
const maxOrder = 1 << 30

// orphanGrace is what a task has to end by itself when its parent is gone.
const orphanGrace = 50 * time.Millisecond

// ErrInterrupted is the cause of the end of a task's context that [Process.Interrupt], or
// SIGINT, has interrupted.
var ErrInterrupted = errors.New("the process was interrupted")

// ExitStatus is an error with which the task of a [Process] chooses the exit code: its
// lowest eight bits, as os.Exit and Python's sys.exit have it. If another error wraps it,
// that is printed.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// ProcessInfo says who a process is.
type ProcessInfo struct {
	Pid    int
	Name   string // MainProcess, if nothing of this package has started it
	Daemon bool   // see [Daemon]; the workers of pools are daemons
}

// Current is the process that calls it.
func Current() ProcessInfo {
	info := ProcessInfo{Pid: os.Getpid(), Name: "MainProcess"}
	if startedAs == launch.ServeMode {
		info.Name, info.Daemon = "PoolWorker", true
	}
	relatives.mu.Lock()
	defer relatives.mu.Unlock()
	if relatives.parent != nil {
		info.Name, info.Daemon = relatives.self.name, relatives.self.daemon
	}
	return info
}

// ParentProcess is the process that has started this one.
type ParentProcess struct {
	pid   int
	name  string
	doneC chan struct{}
}

// Parent is the process that has started this one as a [Process] or as a worker of a
// pool, and nil in any other. A worker does not know its parent's name, and does not live
// to see its end.
func Parent() *ParentProcess {
	if startedAs == launch.ServeMode {
		return parentOfWorker
	}
	relatives.mu.Lock()
	defer relatives.mu.Unlock()
	return relatives.parent
}

// parentOfWorker is made early: later the parent may have changed.
var parentOfWorker = &ParentProcess{pid: os.Getppid(), doneC: make(chan struct{})}

// Pid is its id.
func (p *ParentProcess) Pid() int { return p.pid }

// Name is its name; empty in a worker of a pool.
func (p *ParentProcess) Name() string { return p.name }

// Done is closed when it has ended. This process then has a twentieth of a second left.
func (p *ParentProcess) Done() <-chan struct{} { return p.doneC }

// Alive reports whether it has not ended.
func (p *ParentProcess) Alive() bool {
	select {
	case <-p.doneC:
		return false
	default:
		return true
	}
}

// Join waits until it has ended and returns nil, or the cause of ctx when that ends first.
func (p *ParentProcess) Join(ctx context.Context) error { return await(ctx, p.doneC) }

// ProcessGo calls fn on a goroutine that [Exit], [Main] and the end of a [Process] wait
// for, before anything else: a thread of Python that is no daemon. They do not wait for
// other goroutines. fn may call ProcessGo, and keep the context of the task, which the
// task's return does not end. A panic of fn ends the process with 2.
func ProcessGo(fn func()) {
	tracked.mu.Lock()
	tracked.n++
	tracked.mu.Unlock()
	go func() {
		defer tracked.end() // also if fn ends its goroutine
		fn()
	}()
}

// tracked counts the goroutines of ProcessGo. A sync.WaitGroup may not be added to while
// it is waited for at zero, and here anybody may do that.
var tracked tracker

type tracker struct {
	mu   sync.Mutex
	n    int
	idle []chan struct{} // closed when n is 0
}

func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n > 0 {
		return
	}
	for _, c := range t.idle {
		close(c)
	}
	t.idle = nil
}

func (t *tracker) wait() {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return
	}
	idleC := make(chan struct{})
	t.idle = append(t.idle, idleC)
	t.mu.Unlock()
	<-idleC
}

// serveProcess runs the one task of this process and returns its exit code.
func serveProcess() int {
	interruptC := make(chan os.Signal, 1)
	signal.Notify(interruptC, syscall.SIGINT)
	syscall.CloseOnExec(lifelineFD)
	lifeline := os.NewFile(lifelineFD, "lifeline")
	order, payload, err := readOrder(lifeline)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // nobody is left to tell
		return exitInternal
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpool: read what this process has to do:", err)
		return exitInternal
	}
	parent := &ParentProcess{pid: order.parentPid, name: order.parentName, doneC: make(chan struct{})}
	for address, key := range order.keys {
		learnKey(address, key)
	}
	relatives.mu.Lock()
	relatives.self, relatives.parent = order, parent
	relatives.mu.Unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { // until the process ends
		_, _ = io.Copy(io.Discard, lifeline)
		close(parent.doneC)
		cancel(ErrParentGone)
		dieOrphaned()
	}()
	go func() { // until the process ends
		<-interruptC
		signal.Stop(interruptC) // the next one ends the process
		cancel(ErrInterrupted)
	}()
	return order.run(ctx, payload)
}

// dieOrphaned gives the task a moment and does not return.
func dieOrphaned() {
	relatives.abandon() // the tree below dies at the same time, and not generation by generation
	time.Sleep(orphanGrace)
	if sid, leads := session.Own(); leads {
		session.Kill(sid, os.Getpid())
	}
	os.Exit(exitInternal)
}

// processOrder is what a process has to know before it can run its task.
type processOrder struct {
	task       string
	name       string
	identity   []int
	daemon     bool
	parentPid  int
	parentName string
	keys       map[wire.Address]wire.Key // of the hubs whose handles it may be given
}

// run runs the task on the goroutine that called Init, which is main's: what wants the
// process's first thread has it.
func (o *processOrder) run(ctx context.Context, payload []byte) (code int) {
	task := registeredTask(o.task)
	if task == nil {
		fmt.Fprintf(os.Stderr, "gpool: process %s: the task %q is not registered in it: register it in a package-level variable or an init function, which run before main calls Init\n", o.name, o.task)
		return exitInternal
	}
	returned := false
	defer func() {
		p := recover()
		switch {
		case p != nil:
			fmt.Fprintf(os.Stderr, "gpool: process %s: the task %s panicked: %v\n%s", o.name, o.task, p, debug.Stack())
			code = 1
		case !returned: // main's goroutine is ending and cannot be kept
			fmt.Fprintf(os.Stderr, "gpool: process %s: %v\n", o.name, errGoexit)
			Exit(1)
		}
	}()
	err := task.start(ctx, payload)
	returned = true
	return o.exitCode(err)
}

func (o *processOrder) exitCode(err error) int {
	if err == nil {
		return 0
	}
	if status, ok := err.(ExitStatus); ok {
		return int(status) & 0xff
	}
	fmt.Fprintf(os.Stderr, "gpool: process %s: the task %s failed: %+v\n", o.name, o.task, err)
	if status, ok := errors.AsType[ExitStatus](err); ok {
		return int(status) & 0xff
	}
	return 1
}

// encode pairs with decode. The order is an array, so that later versions can add to it.
func (o *processOrder) encode() []byte {
	e := ipc.NewEncoder()
	e.Array(7)
	e.Str(o.task)
	e.Str(o.name)
	e.Array(len(o.identity))
	for _, n := range o.identity {
		e.Uint(uint64(n))
	}
	daemon := uint64(0)
	if o.daemon {
		daemon = 1
	}
	e.Uint(daemon)
	e.Uint(uint64(o.parentPid))
	e.Str(o.parentName)
	e.Array(2 * len(o.keys))
	for address, key := range o.keys {
		e.Str(string(address))
		e.Bytes(key)
	}
	return e.Encoded()
}

func (o *processOrder) decode(b []byte) error {
	if err := ipc.Precheck(b); err != nil {
		return err
	}
	d := ipc.NewDecoder()
	d.Reset(b)
	n := d.Array()
	o.task, o.name = d.Str(), d.Str()
	for left := d.Array(); left > 0 && d.Err() == nil; left-- {
		o.identity = append(o.identity, int(d.Uint()))
	}
	o.daemon = d.Uint() != 0
	o.parentPid, o.parentName = int(d.Uint()), d.Str()
	o.keys = make(map[wire.Address]wire.Key)
	for left := d.Array(); left > 1 && d.Err() == nil; left -= 2 {
		address := wire.Address(d.Str())
		o.keys[address] = bytes.Clone(d.Bytes())
	}
	d.Skip(n - 7)
	return d.Err()
}

func readOrder(r io.Reader) (order processOrder, payload []byte, err error) {
	b, err := readFrame(r)
	if err != nil {
		return order, nil, err
	}
	if err := order.decode(b); err != nil {
		return order, nil, err
	}
	payload, err = readFrame(r) // its reader checks it
	return order, payload, err
}

func writeFrame(w io.Writer, body []byte) error {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// readFrame takes memory as bytes arrive, not as they are announced.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxOrder {
		return nil, fmt.Errorf("a frame of %d bytes was announced, and %d are allowed", n, maxOrder)
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(body) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}
