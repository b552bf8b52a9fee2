package pool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/ipc"
)

// link is one worker's life in one slot, from launch to the last wait. Its
// goroutines are its life, which launches and waits; a reader; a writer; one for
// what the worker prints; and short ones that answer questions or kill. All end
// before the loop hears that the worker is gone.
type link struct {
	slot   int // index, from 0
	config *Config
	inbox  *mailbox[message]  // of the loop
	outbox *mailbox[outgoing] // of the writer
	ctx    context.Context    // of the answers to the worker's questions
	cancel context.CancelFunc
	short  sync.WaitGroup // answers and kills
	tail   tail           // what it printed last
	owed   atomic.Int64   // bytes of output that came and were not taken; the loop adds, the deliverer takes off
	taken  atomic.Int64   // when it last did so, in nanoseconds since 1970

	mu      sync.Mutex
	proc    Process // nil until launched
	dead    bool    // must not live: kill it as soon as it is launched
	leaving bool    // was told to leave
	cause   error   // why the pool ended it
	timer   *time.Timer
}

// outgoing is one message for the worker.
type outgoing struct {
	kind    ipc.Kind // what to write; KindBye with end set also closes the stream
	numbers ipc.Numbers
	run     flight
	init    ipc.Init
	answer  ipc.Answer
	end     bool
	toldC   chan<- struct{} // closed once it has been written
}

// How long a worker that was told to leave may take, before it is asked by signal
// and then killed.
const (
	leaveTime = 2 * time.Second
	termTime  = time.Second
)

func newLink(slot int, config *Config, inbox *mailbox[message]) *link {
	l := &link{slot: slot, config: config, inbox: inbox, outbox: newMailbox[outgoing]()}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// live is the goroutine of the link: start, serve, wait, tell.
func (l *link) live() {
	proc, err := l.config.Launcher.Launch(l.slot + 1)
	if err != nil {
		l.cancel()
		l.inbox.put(gone{link: l, launch: err})
		return
	}
	l.mu.Lock()
	l.proc = proc
	if l.dead {
		l.goKill()
	} else {
		l.timer = time.AfterFunc(l.config.StartLimit, func() {
			l.fail(fmt.Errorf("it did not say hello within %v", l.config.StartLimit))
		})
	}
	l.mu.Unlock()

	var streams sync.WaitGroup
	streams.Go(func() { l.read(proc.Frames()) })
	streams.Go(func() { l.print(proc.Stderr()) })
	var writer sync.WaitGroup
	writer.Go(func() { l.write(proc.Frames()) })
	endC := make(chan struct{})
	if m := l.config.Memory; m.Soft > 0 || m.Hard > 0 || m.Call > 0 {
		l.short.Go(func() { l.measure(proc, endC) })
	}

	exit := proc.Wait()
	close(endC)
	streams.Wait()
	l.outbox.close()
	writer.Wait()
	l.cancel()
	l.mu.Lock()
	l.dead = true
	if l.timer != nil {
		l.timer.Stop()
	}
	cause := l.cause
	l.mu.Unlock()
	l.short.Wait()
	l.inbox.put(gone{link: l, pid: proc.Pid(), exit: exit, cause: cause, stderr: l.tail.String(), record: proc.Recording()})
}

// memoryPace is how often the memory of a worker is looked at, if it has a limit.
const memoryPace = 100 * time.Millisecond

// measure tells the loop how much memory the worker holds, until it has ended.
func (l *link) measure(proc Process, endC <-chan struct{}) {
	ticker := time.NewTicker(memoryPace)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m := measured{link: l, bytes: proc.Memory()}
			if l.config.Memory.Call > 0 {
				m.call = proc.CallMemory()
			}
			l.inbox.put(m)
		case <-endC:
			return
		}
	}
}

// memory is how many bytes the worker holds, or 0.
func (l *link) memory() int64 {
	l.mu.Lock()
	proc, dead := l.proc, l.dead
	l.mu.Unlock()
	if proc == nil || dead {
		return 0
	}
	return proc.Memory()
}

// kill ends the worker and what it runs. It does not wait.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.dead = true
		if l.proc != nil {
			l.goKill()
		}
	}
}

// goKill is called under the lock, once.
func (l *link) goKill() {
	proc := l.proc
	l.short.Go(proc.Kill)
}

// fail ends the worker for a fault of its own.
func (l *link) fail(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.mu.Unlock()
	l.kill()
}

// leave tells the worker that nothing more will come, once it has finished what it
// has, and begins the ladder: goodbye and the end of its input, SIGTERM, SIGKILL.
func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving {
		return
	}
	l.leaving = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.outbox.put(outgoing{kind: ipc.KindBye, end: true})
	l.timer = time.AfterFunc(l.config.LeaveLimit, func() {
		l.signal(syscall.SIGTERM)
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.dead {
			l.timer = time.AfterFunc(termTime, l.kill)
		}
	})
}

// suspend tells the worker to stop what it runs, or to let it go on. The channel is
// closed once that has been written.
func (l *link) suspend(on bool) chan struct{} {
	toldC := make(chan struct{})
	m := ipc.Numbers{}
	if on {
		m.N = 1
	}
	l.outbox.put(outgoing{kind: ipc.KindSuspend, numbers: m, toldC: toldC})
	return toldC
}

// askToEnd cancels the call of an id, for a reason.
func (l *link) askToEnd(id, reason uint64) {
	l.outbox.put(outgoing{kind: ipc.KindCancel, numbers: ipc.Numbers{ID: id, N: uint64(syscall.SIGTERM), M: reason}})
}

// recall asks for the calls from an id on that have not begun.
func (l *link) recall(id uint64) {
	l.outbox.put(outgoing{kind: ipc.KindRecall, numbers: ipc.Numbers{ID: id}})
}

// signal reaches the worker alone, if there is one.
func (l *link) signal(s syscall.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proc != nil {
		_ = l.proc.Signal(s)
	}
}

// write is the writer goroutine: everything that has gathered leaves in one write.
func (l *link) write(s Stream) {
	w := ipc.NewWriter(s, l.config.Limits)
	defer s.CloseWrite()
	var spare []outgoing
	broken := false
	for {
		list, open := l.outbox.wait(spare)
		if !open {
			return
		}
		end := false
		for i := range list {
			if err := encode(w, &list[i]); err != nil { // it is too large, and has not left
				l.inbox.put(unsent{l, list[i].run.id, err})
			}
			end = end || list[i].end
		}
		if !broken {
			// A worker that has gone is noticed by its exit, which says more.
			if broken = w.Flush() != nil; broken {
				l.closed("it closed its input and did not exit")
			}
		}
		if end {
			_ = s.CloseWrite()
			broken = true
		}
		for i := range list {
			if list[i].toldC != nil {
				close(list[i].toldC)
			}
		}
		spare = list
	}
}

func encode(w *ipc.Writer, o *outgoing) error {
	w.Begin()
	switch o.kind {
	case ipc.KindInit:
		w.Init(o.init)
	case ipc.KindRun:
		encodeRun(w, &o.run)
	case ipc.KindReply:
		w.Answer(o.answer)
	default:
		w.Numbers(o.kind, o.numbers)
	}
	return w.End()
}

func encodeRun(w *ipc.Writer, f *flight) {
	run := ipc.Run{
		ID:       f.id,
		Task:     f.task(),
		Payloads: make([][]byte, len(f.calls)),
		Common:   f.common(),
		Seq:      f.calls[0].Seq,
		Attempt:  f.attempt,
	}
	for i := range f.calls {
		run.Payloads[i] = f.calls[i].Payload
	}
	w.Run(&run)
}

// arrivals is what one read brought, in the pool's own memory.
type arrivals struct {
	link *link
	list []arrival
}

type arrival struct {
	kind     ipc.Kind // hello, result, output or returned
	id       uint64
	n        uint64 // returned
	hello    ipc.Hello
	outcomes []ipc.Outcome
	start    int64
	elapsed  int64
	stream   ipc.Stream
	data     []byte
}

// maxArrivals bounds a batch, so that a busy worker does not starve the loop.
const maxArrivals = 512

// read is the reader goroutine. It waits for nothing but bytes.
func (l *link) read(s io.Reader) {
	r := ipc.NewReader(s, l.config.Limits)
	var m ipc.Message
	greeted := false
	for {
		batch := arrivals{link: l}
		err := r.Next(&m)
		for err == nil {
			if greeted != (m.Kind != ipc.KindHello) {
				err = &ipc.FormatError{Err: errors.New("a worker's first frame, and no other, is a hello")}
				break
			}
			greeted = true
			if err = l.arrived(&m, &batch); err != nil {
				break
			}
			if !r.Buffered() || len(batch.list) >= maxArrivals {
				break
			}
			err = r.Next(&m)
		}
		if len(batch.list) > 0 {
			l.inbox.put(batch)
		}
		if err != nil {
			l.lost(err)
			return
		}
	}
}

// arrived copies a message into the batch, or answers it.
func (l *link) arrived(m *ipc.Message, batch *arrivals) error {
	switch m.Kind {
	case ipc.KindHello:
		if m.Hello.Version != ipc.Version {
			return fmt.Errorf("it speaks version %d of the protocol, and this gpool speaks %d (builds %q and %q)", m.Hello.Version, ipc.Version, m.Hello.Build, ipc.BuildID())
		}
		batch.list = append(batch.list, arrival{kind: m.Kind, hello: m.Hello})
	case ipc.KindResult:
		batch.list = append(batch.list, copyResult(m))
	case ipc.KindOutput:
		batch.list = append(batch.list, arrival{kind: m.Kind, id: m.Output.ID, stream: m.Output.Stream, data: keepPiece(m.Output.Data)})
	case ipc.KindReturned:
		batch.list = append(batch.list, arrival{kind: m.Kind, id: m.Numbers.ID, n: m.Numbers.N})
	case ipc.KindCall:
		l.answer(m.Question)
	case ipc.KindCancel, ipc.KindReply: // nothing of ours is waiting for them
	default:
		if m.Kind < ipc.FirstOptional {
			return &ipc.FormatError{Err: fmt.Errorf("a worker does not send frames of kind %d", m.Kind)}
		}
	}
	return nil
}

// pieceMemory is memory for pieces of output: much of it passes through, and little is there at any moment.
var pieceMemory = sync.Pool{New: func() any { return new([ipc.PieceSize]byte) }}

// smallPiece is not worth the room.
const smallPiece = 4 << 10

// keepPiece copies a piece of output.
func keepPiece(b []byte) []byte {
	if len(b) < smallPiece || len(b) > ipc.PieceSize {
		return bytes.Clone(b)
	}
	room := pieceMemory.Get().(*[ipc.PieceSize]byte)
	return room[:copy(room[:], b)]
}

// donePiece gives back the memory of a piece that nobody looks at any more.
func donePiece(b []byte) {
	if cap(b) == ipc.PieceSize {
		pieceMemory.Put((*[ipc.PieceSize]byte)(b[:ipc.PieceSize]))
	}
}

// copyResult takes a result out of the reader's memory, unless it is in its own: one block for its bytes.
func copyResult(message *ipc.Message) arrival {
	m := &message.Result
	a := arrival{kind: ipc.KindResult, id: m.ID, start: m.Start, elapsed: m.Elapsed}
	a.outcomes = append([]ipc.Outcome(nil), m.Outcomes...)
	if message.Owned {
		return a
	}
	size := 0
	for i := range m.Outcomes {
		size += len(m.Outcomes[i].Data)
	}
	block := make([]byte, 0, size)
	for i := range a.outcomes {
		o := &a.outcomes[i]
		at := len(block)
		block = ipc.Append(block, o.Data)
		o.Data = block[at:len(block):len(block)]
	}
	return a
}

// answer lets the handler answer a question on a goroutine of its own.
func (l *link) answer(q ipc.Question) {
	id, method, payload := q.ID, q.Method, bytes.Clone(q.Payload)
	handler := l.config.Handler
	l.short.Go(func() {
		a := ipc.Answer{ID: id}
		err := fmt.Errorf("nobody answers questions of kind %q here", method)
		if handler != nil {
			a.Payload, err = handler(l.ctx, l.slot+1, method, payload)
		}
		if err != nil {
			a.Message = err.Error()
		}
		l.outbox.put(outgoing{kind: ipc.KindReply, answer: a})
	})
}

// lost deals with the end of the frames. A clean end is explained by the exit that
// follows; a worker that closes its frames and lives on is ended.
func (l *link) lost(err error) {
	var format *ipc.FormatError
	if errors.As(err, &format) {
		l.fail(fmt.Errorf("what it writes on its stdout are no frames: %w", err))
		return
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		l.fail(err)
		return
	}
	l.closed("it closed its frames and did not exit")
}

// closed gives a worker a moment to exit that has closed one of its streams.
func (l *link) closed(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leaving && !l.dead {
		l.timer.Stop()
		l.timer = time.AfterFunc(termTime, func() { l.fail(errors.New(what)) })
	}
}

// greeted stops the clock of the start.
func (l *link) greeted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil && !l.leaving {
		l.timer.Stop()
	}
}

// print passes on what the worker prints, by whole lines, and remembers the end.
func (l *link) print(r io.Reader) {
	buf := make([]byte, 8<<10)
	var line []byte
	for {
		n, err := r.Read(buf)
		l.tail.write(buf[:n])
		line = append(line, buf[:n]...)
		if i := bytes.LastIndexByte(line, '\n'); i >= 0 || len(line) > 64<<10 {
			if i < 0 {
				i = len(line) - 1
			}
			_, _ = l.config.Stderr.Write(line[:i+1])
			line = append(line[:0], line[i+1:]...)
		}
		if err != nil {
			if len(line) > 0 {
				_, _ = l.config.Stderr.Write(append(line, '\n'))
			}
			return
		}
	}
}

// tail keeps the beginning and the end of what a worker printed: a crash of a Go
// program says why in its first lines, most others in their last. The print
// goroutine writes it; it is read after that has ended.
type tail struct{ first, last []byte }

const tailSize = 1 << 10 // of each

func (t *tail) write(b []byte) {
	if room := tailSize - len(t.first); room > 0 {
		n := min(room, len(b))
		t.first, b = append(t.first, b[:n]...), b[n:]
	}
	t.last = append(t.last, b...)
	if extra := len(t.last) - tailSize; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
}

func (t *tail) String() string { return strings.TrimSpace(string(t.first) + string(t.last)) }
