package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/blackbox"
	"gpool/internal/ipc"
)

// The causes in the context of a call that should end.
var (
	ErrCancelled = errors.New("the call was cancelled")
	ErrTimedOut  = errors.New("the call's time limit has passed")
	ErrOrphaned  = errors.New("the parent process is gone")
)

// causeOf is the cause that a cancel frame gives for its reason.
func causeOf(reason uint64) error {
	if reason == ipc.ReasonTimeLimit {
		return ErrTimedOut
	}
	return ErrCancelled
}

// cancelCode is how a call that has not succeeded is answered if err is, or wraps, the
// cause of a cancel; else it is OK.
func cancelCode(err error) ipc.Code {
	switch {
	case errors.Is(err, ErrCancelled):
		return ipc.Cancelled
	case errors.Is(err, ErrTimedOut):
		return ipc.TimedOut
	}
	return ipc.OK
}

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
	// Procs is how many threads may run Go code at once; 0 leaves that as it is.
	Procs int
	// Signature says how the arguments and the result of a task look; nil says nothing.
	Signature func(task string) string
	// Log is told in one line what nobody can be answered; nil prints it on standard
	// error.
	Log func(line string)
	// Box keeps the results that have not left, so that the parent finds them if this
	// process dies; nil keeps none. It stays the caller's.
	Box *blackbox.Recorder
}

// server is the worker's half of one connection. The reader goroutine owns the
// incoming side and never waits for anything but bytes; the runner, which is the
// goroutine that called Serve, runs one call at a time; the outbox sends.
type server struct {
	config Config
	out    *outbox
	wakeC  chan struct{} // tells the runner that the queue or the end has changed

	serial uint64    // of this connection in its process
	born   time.Time // see now

	// The runner's: the task of the last call, which is mostly that of the next one.
	task     Task
	taskName string

	mu      sync.Mutex
	slot    int // from the init frame
	queue   []*chunk
	current *Call
	room    []Call   // for the next ones
	final   *ipc.Run // the finalizer, or nil; nil also after a failed initializer
	leaving bool     // the parent said goodbye
	ended   bool     // the reader is gone
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
	next      int              // index of the first call that has not begun
	cancelled map[uint64]error // why, by id
}

// serials numbers the connections of this process.
var serials atomic.Uint64

// Serve speaks the worker's half of the protocol over in and out until the parent
// says goodbye, or closes in. After a goodbye it runs the finalizer, if the parent has
// named one, and returns nil. Without one it returns ErrOrphaned, or the reader's error
// if the parent broke the protocol.
func Serve(in io.Reader, out io.Writer, config Config) error {
	s := &server{
		serial: serials.Add(1),
		born:   time.Now(),
		config: config,
		out:    newOutbox(ipc.NewWriter(out, config.Limits), config.Box),
		wakeC:  make(chan struct{}, 1),
		asks:   make(map[uint64]chan ipc.Answer),
		endC:   make(chan struct{}),
		asked:  make(map[uint64]context.CancelFunc),
	}
	_ = s.out.send(func(w *ipc.Writer) { w.Hello(config.hello()) })
	if config.Procs > 0 { // while the parent reads that
		runtime.GOMAXPROCS(config.Procs)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	readerDone := make(chan struct{})
	go func() {
		defer close(readerDone)
		s.read(ctx, ipc.NewReader(in, config.Limits), cancel)
	}()
	s.run(ctx)
	s.finalize(ctx)
	<-readerDone
	cancel(ErrOrphaned) // nobody waits for what the handlers still do
	s.handlers.Wait()
	s.out.stop()
	return s.err
}

func (c *Config) hello() ipc.Hello {
	h := ipc.Hello{Version: ipc.Version, Build: ipc.BuildID(), Pid: os.Getpid(), Tasks: slices.Sorted(maps.Keys(c.Tasks))}
	if c.Signature != nil {
		for _, task := range h.Tasks {
			h.Signatures = append(h.Signatures, c.Signature(task))
		}
	}
	return h
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
		if m.Init.FinalTask != "" {
			s.final = &ipc.Run{Task: m.Init.FinalTask, Payloads: [][]byte{nil}, Common: bytes.Clone(m.Init.FinalCommon), Attempt: 1}
		}
		s.mu.Unlock()
		s.enqueue(&ipc.Run{Task: m.Init.Task, Payloads: [][]byte{nil}, Common: m.Init.Common, Attempt: 1}, false)
	case ipc.KindRun:
		s.enqueue(&m.Run, m.Owned)
	case ipc.KindCancel:
		s.cancelCall(m.Numbers.ID, syscall.Signal(m.Numbers.N), causeOf(m.Numbers.M))
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

// enqueue takes a run frame out of the reader's memory, unless it is in its own: one block for all of it.
func (s *server) enqueue(m *ipc.Run, owned bool) {
	size := len(m.Common)
	for _, p := range m.Payloads {
		size += len(p)
	}
	if owned {
		size = 0
	}
	block := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		if owned {
			return b
		}
		at := len(block)
		block = ipc.Append(block, b)
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
// answered without being begun. An id that has been answered already is ignored. The
// first cause stands; the signals of later cancels arrive all the same.
func (s *server) cancelCall(id uint64, sig syscall.Signal, cause error) {
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
		s.current.interrupt(sig, cause)
		return
	}
	for _, c := range s.queue {
		if id >= c.ID+uint64(c.next) && id < c.ID+uint64(len(c.Payloads)) {
			if c.cancelled == nil {
				c.cancelled = make(map[uint64]error)
			}
			if c.cancelled[id] == nil {
				c.cancelled[id] = cause
			}
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
	var last time.Time // when a call ended, if the next one can begin then
	for {
		c, task, cancelled := s.begin(ctx)
		if c != nil {
			last = s.runOne(c, task, cancelled, last)
			continue
		}
		last = time.Time{}
		s.out.flush()
		if s.over() {
			return
		}
		<-s.wakeC
	}
}

// begin takes the next call off the queue and makes it the current one, which can
// be cancelled from then on.
func (s *server) begin(ctx context.Context) (c *Call, task string, cancelled error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 && s.queue[0].next >= len(s.queue[0].Payloads) {
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
	if len(s.queue) == 0 {
		return nil, "", nil
	}
	ch := s.queue[0]
	i := ch.next
	ch.next++
	c = s.newCall(ctx, &ch.Run, i)
	return c, ch.Task, ch.cancelled[c.ID]
}

// callsAtOnce is for how many calls of a chunk memory is taken at once. It is given back when
// the last of them is not looked at any more.
const callsAtOnce = 32

// newCall makes the call at index i of a chunk the current one. The lock is held.
func (s *server) newCall(ctx context.Context, r *ipc.Run, i int) *Call {
	if len(s.room) == 0 {
		s.room = make([]Call, min(len(r.Payloads)-i, callsAtOnce))
	}
	c := &s.room[0]
	s.room = s.room[1:]
	c.ID, c.Seq, c.Attempt, c.Slot = r.ID+uint64(i), r.Seq+uint64(i), r.Attempt, s.slot
	c.Common, c.Payload, c.server = r.Common, r.Payloads[i], s
	c.ctx.parent, c.ctx.call = ctx, c
	s.current = c
	return c
}

func (s *server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && (s.leaving || s.ended)
}

// runOne runs one call and hands its outcome to the outbox. Whenever the process dies,
// the parent can tell from the box and from what has left (blackbox.Box.Read) where the
// call was:
//
//   - Before Begin, in execute, the box says that nothing runs: the call has not begun.
//   - From there on the box names it, and it has no outcome: it is the victim.
//   - It has an outcome from one instant in outbox.result on: when its record counts,
//     or, if the box cannot take it, when the write that carries it is whole. The box
//     still names it, but what has an outcome is no victim.
//   - After Done the box names nothing until the next Begin, which is later still.
//
// The outbox forgets a record only after the write that carries the outcome, so an
// outcome is in the box, in the stream or in both, and never in neither.
//
// It began at start, or begins now if that is zero; when it has ended is returned.
func (s *server) runOne(c *Call, name string, cancelled error, start time.Time) (end time.Time) {
	if start.IsZero() {
		start = s.now()
	}
	var out ipc.Outcome
	if cancelled != nil {
		out = ipc.Outcome{Code: cancelCode(cancelled), Message: cancelled.Error()}
	} else {
		out = s.execute(c, name)
	}
	s.finish(c, out.Code)
	end = s.now()
	s.out.result(c.ID, out, start, end.Sub(start))
	s.config.Box.Done()
	return end
}

// now is what time it is, for half the price of time.Now: the system is asked for one clock and not for two. If
// somebody sets the clock, this one does not follow.
func (s *server) now() time.Time { return s.born.Add(time.Since(s.born)) }

// execute runs the task of a call, or says why it cannot.
func (s *server) execute(c *Call, name string) (out ipc.Outcome) {
	if name == "" && c.ID == 0 { // an init frame without an initializer
		return out
	}
	task := s.task
	if name != s.taskName {
		task = s.config.Tasks[name]
		s.task, s.taskName = task, name
	}
	if task == nil {
		return ipc.Outcome{Code: ipc.NotRun, Message: fmt.Sprintf("this worker has no task %q", name)}
	}
	if c.ID != 0 { // that the initializer ran the parent sees by the answer that is missing
		s.config.Box.Begin(c.ID)
	}
	out = invoke(&c.ctx, task, c)
	if out.Code != ipc.OK {
		if code := cancelCode(c.ctx.why()); code != ipc.OK {
			out.Code = code // whatever the task made of it
		}
	}
	return out
}

// finish ends the current call. A failed initializer takes the finalizer with it.
func (s *server) finish(c *Call, code ipc.Code) {
	c.ctx.end(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
	if c.ID == 0 && code != ipc.OK {
		s.final = nil
	}
}

// finalize runs the finalizer if the worker leaves in order: the parent has said
// goodbye, all calls have been answered, and the initializer, if any, has succeeded.
// The end of the stream, which follows a goodbye, does not cancel it: the reader
// cancels only where there was none. Nobody waits for an answer, so a failure is told
// in the log.
func (s *server) finalize(ctx context.Context) {
	s.mu.Lock()
	final := s.final
	if !s.leaving || final == nil {
		s.mu.Unlock()
		return
	}
	c := s.newCall(ctx, final, 0)
	s.mu.Unlock()
	out := s.execute(c, final.Task)
	s.finish(c, out.Code)
	if out.Code == ipc.OK {
		return
	}
	what := "failed"
	if out.Code == ipc.Panicked {
		what = "panicked"
	}
	s.config.log(fmt.Sprintf("the finalizer %q %s: %s", final.Task, what, out.Message))
}

// log tells text in one line.
func (c *Config) log(text string) {
	line := strings.Join(strings.Fields(text), " ")
	if c.Log != nil {
		c.Log(line)
		return
	}
	fmt.Fprintln(os.Stderr, "gpool worker:", line)
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
