package gpool

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/worker"
)

// A ThreadPool is the same pool over workers that are goroutines: they speak the same
// frames over pipes in memory, so that order, windows, limits and ends are those of a
// Pool by construction. Values do not travel in the frames: they lie in a vault, and the
// payload is their number in it.

// vault keeps the values that are under way in a ThreadPool, each in a place whose number
// travels. A number counts once: places are used again, and what is asked for a second
// time, of a call that was run and then dropped, must not be the value of another.
type vault struct {
	mu     sync.Mutex
	places []place
	free   []uint32 // places that are empty
}

type place struct {
	value any
	use   uint32 // how often it was emptied; the lower half of its number
}

func newVault() *vault { return &vault{} }

// put keeps a value and appends its number.
func (v *vault) put(dst []byte, value any) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.free) == 0 {
		v.places = append(v.places, place{})
		v.free = append(v.free, uint32(len(v.places)-1))
	}
	at := v.free[len(v.free)-1]
	v.free = v.free[:len(v.free)-1]
	v.places[at].value = value
	return binary.BigEndian.AppendUint64(dst, uint64(at)<<32|uint64(v.places[at].use))
}

// look returns the value of a number, nil if it is not there any more.
func (v *vault) look(number []byte) any {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, _ := v.place(number); p != nil {
		return p.value
	}
	return nil
}

// take is look, and empties the place.
func (v *vault) take(number []byte) any {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, at := v.place(number)
	if p == nil {
		return nil
	}
	value := p.value
	p.value, p.use = nil, p.use+1
	v.free = append(v.free, at)
	return value
}

// place is called under the lock.
func (v *vault) place(number []byte) (*place, uint32) {
	if len(number) != 8 {
		return nil, 0
	}
	n := binary.BigEndian.Uint64(number)
	at, use := uint32(n>>32), uint32(n)
	if int(at) >= len(v.places) || v.places[at].use != use {
		return nil, 0
	}
	return &v.places[at], at
}

// thunk is a call as it lies in a vault: the task with its argument.
type thunk func(context.Context) (any, error)

// thunkTask is the one task of these workers: it runs what lies in the vault.
const thunkTask = "thunk"

// run is that task.
func (v *vault) run(ctx context.Context, c *worker.Call) ([]byte, error) {
	if c.ID == 0 { // a hook, which other workers run too
		return nil, v.call(ctx, v.look(c.Common), nil)
	}
	var out any
	if err := v.call(ctx, v.take(c.Payload), &out); err != nil {
		return nil, err
	}
	return v.put(nil, out), nil
}

// call runs a thunk on a goroutine of its own, so that a task which ends its goroutine
// ends no worker.
func (v *vault) call(ctx context.Context, what any, out *any) error {
	run, ok := what.(thunk)
	if !ok {
		return fmt.Errorf("the argument of the call is not there any more")
	}
	var err error
	returned := false // or panicked
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		defer func() {
			if p := recover(); p != nil {
				err, returned = panicked(p), true
			}
		}()
		result, failed := run(ctx)
		if returned = true; failed != nil {
			err = v.failure(ctx, failed)
		} else if out != nil {
			*out = result
		}
	}()
	<-doneC
	if !returned {
		err = v.failure(ctx, errGoexit)
	}
	return err
}

// failure puts an error into the vault, but not that of a call that was cancelled or has
// reached its limit: nobody asks for it.
func (v *vault) failure(ctx context.Context, err error) *worker.Failure {
	f := &worker.Failure{Code: ipc.Failed, Message: textOf(err)}
	if ctx.Err() == nil {
		f.Data = v.put(nil, err)
	}
	return f
}

// threads launches workers that are goroutines.
type threads struct{ vault *vault }

// Launch implements pool.Launcher.
func (t threads) Launch(int) (pool.Process, error) {
	p := &thread{endC: make(chan struct{})}
	p.inR, p.inW = io.Pipe()
	p.outR, p.outW = io.Pipe()
	go func() { // ends when it was told to leave, or killed and its call has ended
		defer close(p.endC)
		_ = worker.Serve(p.inR, p.outW, worker.Config{Tasks: worker.Registry{thunkTask: t.vault.run}})
		_ = p.inR.Close()
		_ = p.outW.Close()
	}()
	return p, nil
}

// thread is such a worker, as the pool sees it.
type thread struct {
	inR, outR *io.PipeReader
	inW, outW *io.PipeWriter
	endC      chan struct{}
}

func (p *thread) Pid() int                    { return os.Getpid() }
func (p *thread) Frames() pool.Stream         { return p }
func (p *thread) Stderr() io.Reader           { return untilClosed(p.endC) }
func (p *thread) Signal(syscall.Signal) error { return nil }
func (p *thread) Read(b []byte) (int, error)  { return p.outR.Read(b) }
func (p *thread) Write(b []byte) (int, error) { return p.inW.Write(b) }
func (p *thread) CloseWrite() error           { return p.inW.Close() }
func (p *thread) Memory() int64               { return 0 }
func (p *thread) CallMemory() int64           { return 0 }

// Recording says that it was running nothing when it ended: the call that it ran has
// ended before, and its result has arrived.
func (p *thread) Recording() pool.Recording { return pool.Recording{Known: true} }

// Kill ends the contexts of its calls: more is not possible. What it has yet to say is
// read to the end, or values would be left in the vault, and calls would be run twice.
func (p *thread) Kill() {
	_ = p.inR.CloseWithError(io.ErrClosedPipe)
	_ = p.inW.CloseWithError(io.EOF)
}

func (p *thread) Wait() pool.Exit {
	<-p.endC
	return pool.Exit{}
}

// untilClosed is a stream without bytes that ends when the channel is closed.
type untilClosed <-chan struct{}

func (c untilClosed) Read([]byte) (int, error) {
	<-c
	return 0, io.EOF
}
