package worker

import (
	"context"
	"sync"
	"syscall"

	"gpool/internal/ipc"
)

// Task runs one call and returns its value. A task that fails returns an error; a
// *Failure chooses the code and the data that travel, any other error is Failed
// with its text. The context ends when the call is cancelled or the parent is gone.
type Task func(ctx context.Context, c *Call) ([]byte, error)

// Registry holds the tasks that a worker offers, by name.
type Registry map[string]Task

// Failure is an error that knows how it travels.
type Failure struct {
	Code    ipc.Code
	Message string
	Data    []byte
}

func (f *Failure) Error() string { return f.Message }

// Call is what a task is given. Its bytes belong to the task until it returns.
type Call struct {
	ID      uint64 // of this connection; 0 for the initializer and the finalizer
	Seq     uint64 // of its job, from 1
	Attempt int    // from 1
	Slot    int    // of this worker, from 1
	Common  []byte // what all calls of the job share
	Payload []byte // the item

	server *server
	ctx    callContext

	mu      sync.Mutex
	creditC chan struct{}        // wakes Output when credit has come; nil until it waits
	unpaid  int                  // bytes of output that the parent has not taken yet
	signal  func(syscall.Signal) // how to signal what the call runs, or nil
	missed  syscall.Signal       // came when that was not known yet, or 0
}

// outputWindow is how many bytes of output may be under way for one call. Beyond
// it, Output waits: that is what makes a slow reader of gpool's output slow down
// the command, instead of filling somebody's memory.
const outputWindow = 1 << 20

// Token is a number that no other call of this process has, and never 0.
func (c *Call) Token() uint64 { return c.server.serial<<48 | c.ID + 1 }

// Output sends bytes that the call printed, in order, ahead of its result. The
// bytes are copied. It waits while a window's worth of earlier ones has not been
// taken, and returns the context's error when the call is cancelled meanwhile. Many
// goroutines may call it at once.
func (c *Call) Output(ctx context.Context, s ipc.Stream, b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), ipc.PieceSize)]
		b = b[len(piece):]
		if err := c.reserve(ctx, len(piece)); err != nil {
			return err
		}
		c.server.out.output(ipc.Output{ID: c.ID, Stream: s, Data: piece})
	}
	return nil
}

// reserve waits until n bytes fit into the window.
func (c *Call) reserve(ctx context.Context, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := false
	for c.unpaid+n > outputWindow {
		if c.creditC == nil {
			c.creditC = make(chan struct{}, 1)
		}
		creditC := c.creditC
		c.mu.Unlock()
		c.server.out.flush()
		select {
		case <-creditC:
		case <-ctx.Done():
			c.mu.Lock()
			return context.Cause(ctx)
		}
		waited = true
		c.mu.Lock()
	}
	c.unpaid += n
	if waited {
		c.wakeOutput() // there may be room for another one that waits
	}
	return nil
}

// credit pairs with Output: the parent has taken n bytes.
func (c *Call) credit(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unpaid -= int(min(n, uint64(max(c.unpaid, 0))))
	c.wakeOutput()
}

// wakeOutput is called under the lock; without a channel nobody waits.
func (c *Call) wakeOutput() {
	select {
	case c.creditC <- struct{}{}:
	default:
	}
}

// OnSignal sets how the signals of a cancel reach what the call runs. One that came
// before is delivered at once.
func (c *Call) OnSignal(f func(syscall.Signal)) {
	c.mu.Lock()
	c.signal = f
	missed := c.missed
	c.mu.Unlock()
	if missed != 0 {
		f(missed)
	}
}

// interrupt ends the call's context, whose first cause stands, and passes the signal on.
func (c *Call) interrupt(sig syscall.Signal, cause error) {
	c.mu.Lock()
	f := c.signal
	if f == nil {
		c.missed = sig
	}
	c.mu.Unlock()
	c.ctx.end(cause)
	if f != nil {
		f(sig)
	}
}

// Ask puts a question to the parent and waits for the answer. Many goroutines may
// ask at once; answers come in any order.
func (c *Call) Ask(ctx context.Context, method string, payload []byte) ([]byte, error) {
	return c.server.ask(ctx, method, payload)
}
