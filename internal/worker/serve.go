package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"gpool/internal/ipc"
)

// errCancelled is the cause in the context of a cancelled call.
var errCancelled = errors.New("the call was cancelled")

// ErrOrphaned is the cause in the context of a call whose parent has gone.
var ErrOrphaned = errors.New("the parent process is gone")

// Config is what Serve needs besides its streams.
type Config struct {
	Tasks Registry
	// Handlers answer questions of the parent, each on a goroutine of its own.
	Handlers map[string]func(ctx context.Context, payload []byte) ([]byte, error)
	// Orphaned is called by the reader when the parent is gone although it did not
	// say goodbye. In a process it kills what runs and does not return.
	Orphaned func()
	// Suspend is called by the reader when the parent is being stopped (true) and
	// when it goes on.
	Suspend func(on bool)
	Limits  ipc.Limits
}

// server is the worker's half of one connection. The reader goroutine owns the
// incoming side and never waits for anything but bytes; the runner, which is the
// goroutine that called Serve, runs one call at a time; the outbox sends.
type server struct {
	config Config
	out    *outbox
	wakeC  chan struct{} // tells the runner that the queue or the end has changed

	mu      sync.Mutex
	slot    int // from the init frame
	queue   []*chunk
	current *Call
	leaving bool // the parent said goodbye
	ended   bool // the reader is gone
	err     error

	asks     map[uint64]chan ipc.Answer
	lastAsk  uint64
	endC     chan struct{}                 // closed when no answer can come any more
	asked    map[uint64]context.CancelFunc // questions of the parent being answered
	handlers sync.WaitGroup                // goroutines that send for the reader, which must not wait
}

// chunk is a run frame in the worker's own memory.
type chunk struct {
	ipc.Run
	next      int // index of the first call that has not begun
	cancelled map[uint64]bool
}

// Serve speaks the worker's half of the protocol over in and out until the parent
// says goodbye, or closes in. It returns nil after a goodbye, ErrOrphaned without
// one, and the reader's error if the parent broke the protocol.
func Serve(in io.Reader, out io.Writer, config Config) error {
	s := &server{
		config: config,
		out:    newOutbox(ipc.NewWriter(out, config.Limits)),
		wakeC:  make(chan struct{}, 1),
		asks:   make(map[uint64]chan ipc.Answer),
		endC:   make(chan struct{}),
		asked:  make(map[uint64]context.CancelFunc),
	}
	names := slices.Sorted(maps.Keys(config.Tasks))
	_ = s.out.send(func(w *ipc.Writer) {
		w.Hello(ipc.Hello{Version: ipc.Version, Build: ipc.BuildID(), Pid: os.Getpid(), Tasks: names})
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	readerDone := make(chan struct{})
	go func() {
		defer close(readerDone)
		s.read(ctx, ipc.NewReader(in, config.Limits), cancel)
	}()
	s.run(ctx)
	<-readerDone
	cancel(ErrOrphaned) // nobody waits for what the handlers still do
	s.handlers.Wait()
	s.out.stop()
	return s.err
}

// read is the reader goroutine. It ends with the parent's side of the stream.
func (s *server) read(ctx context.Context, r *ipc.Reader, cancel context.CancelCauseFunc) {
	var m ipc.Message
	var err error
	for err == nil {
		if err = r.Next(&m); err == nil {
			s.handle(ctx, &m)
		}
	}
	s.mu.Lock()
	orphaned := !s.leaving
	s.ended = true
	if orphaned {
		s.err = ErrOrphaned
		if err != io.EOF {
			s.err = fmt.Errorf("read from the parent: %w", err)
		}
		s.queue = nil
	}
	s.mu.Unlock()
	close(s.endC)
	if orphaned {
		if s.config.Orphaned != nil {
			s.config.Orphaned()
		}
		cancel(ErrOrphaned)
	}
	s.wake()
}

// handle takes one message. It may take locks that are held for moments, and
// starts goroutines for what can last.
func (s *server) handle(ctx context.Context, m *ipc.Message) {
	switch m.Kind {
	case ipc.KindInit:
		s.mu.Lock()
		s.slot = m.Init.Slot
		s.mu.Unlock()
		s.enqueue(&ipc.Run{Task: m.Init.Task, Payloads: [][]byte{nil}, Common: m.Init.Common, Attempt: 1})
	case ipc.KindRun:
		s.enqueue(&m.Run)
	case ipc.KindCancel:
		s.cancelCall(m.Numbers.ID, syscall.Signal(m.Numbers.N))
	case ipc.KindRecall:
		s.recall(m.Numbers.ID)
	case ipc.KindCredit:
		s.mu.Lock()
		c := s.current
		s.mu.Unlock()
		if c != nil && c.ID == m.Numbers.ID {
			c.credit(m.Numbers.N)
		}
	case ipc.KindSuspend:
		if s.config.Suspend != nil {
			s.config.Suspend(m.Numbers.N != 0)
		}
	case ipc.KindCall:
		s.answer(ctx, m.Question)
	case ipc.KindReply:
		s.answered(m.Answer)
	case ipc.KindBye:
		s.mu.Lock()
		s.leaving = true
		s.mu.Unlock()
		s.wake()
	}
}

func (s *server) wake() {
	select {
	case s.wakeC <- struct{}{}:
	default:
	}
}

// enqueue copies a run frame out of the reader's memory: one block for all of it.
func (s *server) enqueue(m *ipc.Run) {
	size := len(m.Common)
	for _, p := range m.Payloads {
		size += len(p)
	}
	block := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		at := len(block)
		block = append(block, b...)
		return block[at:len(block):len(block)]
	}
	c := &chunk{Run: ipc.Run{ID: m.ID, Task: m.Task, Seq: m.Seq, Attempt: m.Attempt}}
	c.Payloads = make([][]byte, len(m.Payloads))
	c.Common = keep(m.Common)
	for i, p := range m.Payloads {
		c.Payloads[i] = keep(p)
	}
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.wake()
}

// cancelCall gives up the call id: a running one is signalled, a waiting one is
// answered without being begun. An id that has been answered already is ignored.
func (s *server) cancelCall(id uint64, sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == 0 { // a question, which has ids of its own
		if stop := s.asked[id]; stop != nil {
			stop()
		}
		return
	}
	if s.current != nil && s.current.ID == id {
		// Under the lock: the runner cannot go on to another call meanwhile, so
		// the signal cannot hit that one.
		s.current.interrupt(sig)
		return
	}
	for _, c := range s.queue {
		if id >= c.ID+uint64(c.next) && id < c.ID+uint64(len(c.Payloads)) {
			if c.cancelled == nil {
				c.cancelled = make(map[uint64]bool)
			}
			c.cancelled[id] = true
		}
	}
}

// recall gives back the calls from id on that have not begun. Ids rise along the
// queue, so what is given back is one range.
func (s *server) recall(id uint64) {
	id = max(id, 1) // the initializer is not given back
	s.mu.Lock()
	first, n := id, 0
	for i := len(s.queue) - 1; i >= 0; i-- {
		c := s.queue[i]
		from := max(c.next, int(min(max(id, c.ID)-c.ID, uint64(len(c.Payloads)))))
		if back := len(c.Payloads) - from; back > 0 {
			first, n = c.ID+uint64(from), n+back
			c.Payloads = c.Payloads[:from]
		}
		if c.ID <= id {
			break
		}
	}
	s.out.returned(ipc.Numbers{ID: first, N: uint64(n)}) // before a later call can begin
	s.mu.Unlock()
	s.handlers.Go(s.out.flush)
}

// run is the runner. It ends when nothing more will come.
func (s *server) run(ctx context.Context) {
	for {
		c, task, cancelled := s.begin(ctx)
		if c != nil {
			s.runOne(c, task, cancelled)
			continue
		}
		s.out.flush()
		if s.over() {
			return
		}
		<-s.wakeC
	}
}

// begin takes the next call off the queue and makes it the current one, which can
// be cancelled from then on.
func (s *server) begin(ctx context.Context) (c *Call, task string, cancelled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 && s.queue[0].next >= len(s.queue[0].Payloads) {
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
	if len(s.queue) == 0 {
		return nil, "", false
	}
	ch := s.queue[0]
	i := ch.next
	ch.next++
	id := ch.ID + uint64(i)
	c = &Call{
		ID: id, Seq: ch.Seq + uint64(i), Attempt: ch.Attempt, Slot: s.slot,
		Common: ch.Common, Payload: ch.Payloads[i],
		server: s, creditC: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	s.current = c
	return c, ch.Task, ch.cancelled[id]
}

func (s *server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && (s.leaving || s.ended)
}

func (s *server) finish() {
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
}

// runOne runs one call and hands its outcome to the outbox.
func (s *server) runOne(c *Call, name string, cancelled bool) {
	start := time.Now()
	task := s.config.Tasks[name]
	var out ipc.Outcome
	switch {
	case cancelled:
		out = ipc.Outcome{Code: ipc.Cancelled, Message: errCancelled.Error()}
	case name == "" && c.ID == 0: // an init frame without an initializer
	case task == nil:
		out = ipc.Outcome{Code: ipc.NotRun, Message: fmt.Sprintf("this worker has no task %q", name)}
	default:
		out = invoke(c.ctx, task, c)
		if out.Code != ipc.OK && context.Cause(c.ctx) == errCancelled {
			out.Code = ipc.Cancelled // whatever the task made of it
		}
	}
	c.cancel(nil)
	s.finish()
	s.out.result(c.ID, out, start, time.Since(start))
}

// invoke runs a task and turns a panic, also one of its error's methods, into a
// failure.
func invoke(ctx context.Context, task Task, c *Call) (out ipc.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			out = ipc.Outcome{Code: ipc.Panicked, Message: fmt.Sprint(p), Data: debug.Stack()}
		}
	}()
	value, err := task(ctx, c)
	if err == nil {
		return ipc.Outcome{Data: value}
	}
	out = ipc.Outcome{Code: ipc.Failed, Message: err.Error()}
	if f := (*Failure)(nil); errors.As(err, &f) {
		out.Data = f.Data
		if f.Code != ipc.OK {
			out.Code = f.Code
		}
	}
	return out
}

// ask pairs with answered.
func (s *server) ask(ctx context.Context, method string, payload []byte) ([]byte, error) {
	replyC := make(chan ipc.Answer, 1)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, ErrOrphaned
	}
	s.lastAsk++
	id := s.lastAsk
	s.asks[id] = replyC
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.asks, id)
		s.mu.Unlock()
	}()
	err := s.out.send(func(w *ipc.Writer) { w.Question(ipc.Question{ID: id, Method: method, Payload: payload}) })
	if err != nil {
		return nil, fmt.Errorf("ask the parent: %w", err)
	}
	var a ipc.Answer
	select {
	case a = <-replyC:
	case <-ctx.Done():
		_ = s.out.send(func(w *ipc.Writer) { w.Numbers(ipc.KindCancel, ipc.Numbers{ID: id}) })
		return nil, context.Cause(ctx)
	case <-s.endC:
		select {
		case a = <-replyC: // it came just before the end
		default:
			return nil, ErrOrphaned
		}
	}
	if a.Message != "" {
		return nil, errors.New(a.Message)
	}
	return a.Payload, nil
}

func (s *server) answered(a ipc.Answer) {
	s.mu.Lock()
	replyC := s.asks[a.ID]
	delete(s.asks, a.ID)
	s.mu.Unlock()
	if replyC != nil {
		a.Payload = bytes.Clone(a.Payload)
		replyC <- a // has room for the one answer
	}
}

// answer runs the handler of a question on a goroutine of its own, which ends with
// the handler; Serve waits for it.
func (s *server) answer(ctx context.Context, q ipc.Question) {
	h := s.config.Handlers[q.Method]
	if h == nil {
		method := q.Method
		h = func(context.Context, []byte) ([]byte, error) {
			return nil, fmt.Errorf("this worker answers no question %q", method)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.asked[q.ID] = cancel
	s.mu.Unlock()
	payload := bytes.Clone(q.Payload)
	id := q.ID
	s.handlers.Go(func() {
		a := ipc.Answer{ID: id}
		var err error
		if a.Payload, err = h(ctx, payload); err != nil {
			a.Message = err.Error()
		}
		s.mu.Lock()
		delete(s.asked, id)
		s.mu.Unlock()
		cancel()
		if err := s.out.send(func(w *ipc.Writer) { w.Answer(a) }); err != nil {
			_ = s.out.send(func(w *ipc.Writer) { w.Answer(ipc.Answer{ID: id, Message: err.Error()}) })
		}
	})
}
