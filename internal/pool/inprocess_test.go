package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gpool/internal/pool"
	"gpool/internal/worker"
)

// inProcess launches workers as goroutines of the test, over pipes in memory: with
// testing/synctest an hour passes in no time.
type inProcess struct {
	tasks     worker.Registry
	launch    func(slot int) error                                    // fails a launch, if set
	serve     func(in io.Reader, out io.Writer, kill <-chan struct{}) // plays the worker, if set
	memory    func(pid int) int64                                     // what a worker holds, if set
	recording func() pool.Recording
	started   atomic.Int32
	alive     atomic.Int32
}

type fakeProcess struct {
	pid         int
	in, out     *pipeEnd
	errR        *io.PipeReader
	errW        *io.PipeWriter
	killC, endC chan struct{}
	kill        sync.Once
	killed      atomic.Bool
	launcher    *inProcess
}

type pipeEnd struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipeEnd() *pipeEnd {
	r, w := io.Pipe()
	return &pipeEnd{r, w}
}

func (l *inProcess) Launch(slot int) (pool.Process, error) {
	if l.launch != nil {
		if err := l.launch(slot); err != nil {
			return nil, err
		}
	}
	p := &fakeProcess{
		launcher: l, pid: 1000 + int(l.started.Add(1)), in: newPipeEnd(), out: newPipeEnd(),
		killC: make(chan struct{}), endC: make(chan struct{}),
	}
	p.errR, p.errW = io.Pipe()
	l.alive.Add(1)
	go func() { // a killed one goes on until its task ends, and nobody sees it
		defer close(p.endC)
		if l.serve != nil {
			l.serve(p.in.r, p.out.w, p.killC)
		} else {
			_ = worker.Serve(p.in.r, p.out.w, worker.Config{Tasks: l.tasks})
		}
		p.in.r.Close()
		p.out.w.Close()
		p.errW.Close()
	}()
	return p, nil
}

func (p *fakeProcess) Pid() int                    { return p.pid }
func (p *fakeProcess) Frames() pool.Stream         { return p }
func (p *fakeProcess) Stderr() io.Reader           { return p.errR }
func (p *fakeProcess) Signal(syscall.Signal) error { return nil }
func (p *fakeProcess) Read(b []byte) (int, error)  { return p.out.r.Read(b) }
func (p *fakeProcess) Write(b []byte) (int, error) { return p.in.w.Write(b) }
func (p *fakeProcess) CloseWrite() error           { return p.in.w.Close() }

func (p *fakeProcess) Memory() int64 {
	if p.launcher.memory == nil {
		return 0
	}
	return p.launcher.memory(p.pid)
}

func (p *fakeProcess) CallMemory() int64 { return p.Memory() }

func (p *fakeProcess) Recording() pool.Recording {
	if p.launcher.recording == nil {
		return pool.Recording{}
	}
	return p.launcher.recording()
}

func (p *fakeProcess) Kill() {
	p.kill.Do(func() {
		p.killed.Store(true)
		close(p.killC)
		p.in.r.CloseWithError(io.ErrClosedPipe)
		p.out.w.Close()
	})
}

func (p *fakeProcess) Wait() pool.Exit {
	select {
	case <-p.endC:
	case <-p.killC:
	}
	p.launcher.alive.Add(-1)
	p.errW.Close()
	if p.killed.Load() {
		return pool.Exit{Code: -1, Signal: syscall.SIGKILL}
	}
	return pool.Exit{}
}

// slice is a source of n calls, whose payloads are made by item.
type slice struct {
	n, next int
	item    func(i int) []byte
	err     error // after the last
	pulled  atomic.Int64
}

func (s *slice) Next(_ context.Context, max int) ([]pool.Call, error) {
	if s.next >= s.n {
		if s.err != nil {
			return nil, s.err
		}
		return nil, io.EOF
	}
	list := make([]pool.Call, min(max, s.n-s.next))
	for i := range list {
		if s.item != nil {
			list[i].Payload = s.item(s.next)
		}
		s.next++
	}
	s.pulled.Add(int64(len(list)))
	return list, nil
}

// collector is a consumer that remembers. It is read after the job.
type collector struct {
	results []pool.Result
	seqs    []uint64
	output  []byte
	onEach  func(*pool.Result) error
	flushed int // results at the last flush
}

func (c *collector) Output(o *pool.Output) error {
	c.output = append(c.output, o.Data...)
	return nil
}

func (c *collector) Result(r *pool.Result) error {
	c.results = append(c.results, *r)
	c.seqs = append(c.seqs, r.Call.Seq)
	if c.onEach != nil {
		return c.onEach(r)
	}
	return nil
}

func (c *collector) Flush() error {
	c.flushed = len(c.results)
	return nil
}

func (c *collector) kinds() map[pool.Kind]int {
	kinds := map[pool.Kind]int{}
	for _, r := range c.results {
		kinds[r.Kind]++
	}
	return kinds
}

// sleeper is a registry with one task, which sleeps as many milliseconds as its
// payload says and returns the payload.
func sleeper() worker.Registry {
	return worker.Registry{"sleep": func(ctx context.Context, c *worker.Call) ([]byte, error) {
		select {
		case <-time.After(time.Duration(number(c.Payload)) * time.Millisecond):
			return c.Payload, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}}
}

func number(b []byte) int {
	n := 0
	_, _ = fmt.Sscan(string(b), &n)
	return n
}

func digits(n int) []byte { return fmt.Append(nil, n) }

// bubble runs a test in a synctest bubble, where time passes when all wait. With the
// race detector Go 1.26 crashes now and then in such a bubble: its timers run on two
// threads with one detector context (runtime.timers.raceCtx). So with the detector a
// test runs in real time instead, if it is short.
func bubble(t *testing.T, takes length, f func(*testing.T)) {
	t.Helper()
	switch {
	case !raceEnabled:
		synctest.Test(t, func(t *testing.T) {
			f(t)
			time.Sleep(24 * time.Hour) // tasks of workers that were killed end, too
		})
	case takes == long:
		t.Skip("takes long in real time")
	default:
		f(t)
	}
}

// length says whether a test can be run in real time.
type length int

const (
	short length = iota
	long         // or it looks at the clock
)

// newPool makes a pool that is closed by the test.
func newPool(t *testing.T, config pool.Config) *pool.Pool {
	t.Helper()
	p, err := pool.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func submit(t *testing.T, p *pool.Pool, job pool.Job) *pool.Running {
	t.Helper()
	r, err := p.Submit(job)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs one job in a pool of its own and returns its error.
func run(t *testing.T, config pool.Config, job pool.Job) error {
	t.Helper()
	p := newPool(t, config)
	err := submit(t, p, job).Wait()
	p.Close()
	return err
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errBroken = errors.New("broken on purpose")
