package worker

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
	"testing"
	"testing/synctest"

	"gpool/internal/ipc"
)

// parent talks to a worker as gpool does. What the worker says is gathered by a
// goroutine, so that nobody waits for anybody.
type parent struct {
	t      *testing.T
	w      *ipc.Writer
	in     io.WriteCloser
	writes atomic.Int32 // of the worker
	doneC  chan error   // what Serve returned

	mu    sync.Mutex
	heard []ipc.Message
	newC  chan struct{}
	endC  chan struct{} // the worker's stream has ended
}

func newParent(t *testing.T, in io.WriteCloser, out io.Reader, limits ipc.Limits) *parent {
	p := &parent{t: t, w: ipc.NewWriter(in, ipc.Limits{}), in: in, doneC: make(chan error, 1), newC: make(chan struct{}, 1), endC: make(chan struct{})}
	go func() {
		defer close(p.endC)
		r := ipc.NewReader(out, limits)
		var m ipc.Message
		for {
			if err := r.Next(&m); err != nil {
				if err != io.EOF {
					t.Errorf("the worker's stream ends with %v", err)
				}
				return
			}
			p.mu.Lock()
			p.heard = append(p.heard, copyOf(m))
			p.mu.Unlock()
			select {
			case p.newC <- struct{}{}:
			default:
			}
		}
	}()
	return p
}

func copyOf(m ipc.Message) ipc.Message {
	m.Result.Outcomes = append([]ipc.Outcome(nil), m.Result.Outcomes...)
	for i := range m.Result.Outcomes {
		m.Result.Outcomes[i].Data = bytes.Clone(m.Result.Outcomes[i].Data)
	}
	m.Output.Data = bytes.Clone(m.Output.Data)
	m.Question.Payload = bytes.Clone(m.Question.Payload)
	m.Answer.Payload = bytes.Clone(m.Answer.Payload)
	return m
}

type countedWriter struct {
	io.Writer
	n *atomic.Int32
}

func (w countedWriter) Write(b []byte) (int, error) {
	w.n.Add(1)
	return w.Writer.Write(b)
}

// serve starts a worker in this process.
func serve(t *testing.T, config Config) *parent {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p := newParent(t, inW, outR, config.Limits)
	go func() {
		err := Serve(inR, countedWriter{outW, &p.writes}, config)
		outW.Close()
		p.doneC <- err
	}()
	return p
}

func (p *parent) send(encode func(*ipc.Writer)) {
	p.t.Helper()
	p.w.Begin()
	encode(p.w)
	if err := p.w.End(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.w.Flush(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *parent) numbers(k ipc.Kind, id, n uint64) {
	p.t.Helper()
	p.send(func(w *ipc.Writer) { w.Numbers(k, ipc.Numbers{ID: id, N: n}) })
}

// overrun cancels a call for its time limit.
func (p *parent) overrun(id uint64) {
	p.t.Helper()
	p.send(func(w *ipc.Writer) {
		w.Numbers(ipc.KindCancel, ipc.Numbers{ID: id, N: sigTerm, M: ipc.ReasonTimeLimit})
	})
}

func (p *parent) run(id uint64, task string, payloads ...string) {
	p.t.Helper()
	m := ipc.Run{ID: id, Task: task, Common: []byte("common"), Seq: 100 + id, Attempt: 1}
	for _, s := range payloads {
		m.Payloads = append(m.Payloads, []byte(s))
	}
	p.send(func(w *ipc.Writer) { w.Run(&m) })
}

// take returns what the worker has said since the last take. In a bubble only.
func (p *parent) take() []ipc.Message {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.heard
	p.heard = nil
	return list
}

// next waits for one message.
func (p *parent) next() ipc.Message {
	p.t.Helper()
	for {
		p.mu.Lock()
		if len(p.heard) > 0 {
			m := p.heard[0]
			p.heard = p.heard[1:]
			p.mu.Unlock()
			return m
		}
		p.mu.Unlock()
		select {
		case <-p.newC:
		case <-p.endC:
			p.mu.Lock()
			n := len(p.heard)
			p.mu.Unlock()
			if n == 0 {
				p.t.Fatal("the worker has gone")
			}
		}
	}
}

// wants compares what the worker has said since the last take, as show writes it.
func (p *parent) wants(want ...string) {
	p.t.Helper()
	var got []string
	for _, m := range p.take() {
		got = append(got, show(m))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.t.Errorf("the worker said\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func show(m ipc.Message) string {
	switch m.Kind {
	case ipc.KindHello:
		return fmt.Sprint("hello ", m.Hello.Tasks)
	case ipc.KindResult:
		s := fmt.Sprintf("result %d:", m.Result.ID)
		for _, o := range m.Result.Outcomes {
			if o.Code == ipc.OK {
				s += " " + brief(string(o.Data))
			} else {
				s += fmt.Sprintf(" [%d %s %s]", o.Code, o.Message, brief(string(o.Data)))
			}
		}
		return s
	case ipc.KindOutput:
		return fmt.Sprintf("output %d/%d: %s", m.Output.ID, m.Output.Stream, brief(string(m.Output.Data)))
	case ipc.KindReturned:
		return fmt.Sprintf("returned %d+%d", m.Numbers.ID, m.Numbers.N)
	case ipc.KindCancel:
		return fmt.Sprintf("cancel %d/%d", m.Numbers.ID, m.Numbers.N)
	case ipc.KindCall:
		return fmt.Sprintf("call %d %s: %s", m.Question.ID, m.Question.Method, brief(string(m.Question.Payload)))
	case ipc.KindReply:
		return fmt.Sprintf("reply %d: %s%s", m.Answer.ID, brief(string(m.Answer.Payload)), m.Answer.Message)
	}
	return fmt.Sprint("kind ", m.Kind)
}

func brief(s string) string {
	if len(s) > 100 {
		return fmt.Sprint(len(s), " bytes")
	}
	return s
}

// leave says goodbye, and checks how the worker ends.
func (p *parent) leave() {
	p.t.Helper()
	p.numbers(ipc.KindBye, 0, 0)
	p.in.Close()
	if err := <-p.doneC; err != nil {
		p.t.Errorf("Serve returns %v", err)
	}
	<-p.endC
}

// bubble runs a test with a worker in fake time, past its hello.
func bubble(t *testing.T, config Config, test func(*testing.T, *parent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, config)
		p.take()
		test(t, p)
		p.leave()
	})
}

// tasks are what the tests run. A task that should last waits for a channel of the
// test, for its context, or in fake time.
var tasks = Registry{
	"echo": func(_ context.Context, c *Call) ([]byte, error) { return c.Payload, nil },
	"hang": func(ctx context.Context, c *Call) ([]byte, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	},
	"fail":  func(_ context.Context, c *Call) ([]byte, error) { return nil, errors.New(string(c.Payload)) },
	"panic": func(_ context.Context, c *Call) ([]byte, error) { panic(string(c.Payload)) },
}

// gate is a task that waits at each call until the test lets it go on. The channel is
// made in the bubble.
func gate(openC *chan struct{}) Task {
	return func(ctx context.Context, c *Call) ([]byte, error) {
		select {
		case <-*openC:
			return c.Payload, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const sigTerm = uint64(syscall.SIGTERM)
