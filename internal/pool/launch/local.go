// Package launch starts workers. Local starts them on this machine; another
// launcher would start them elsewhere. Parent only.
package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"gpool/internal/blackbox"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/rawpipe"
	"gpool/internal/session"

	"golang.org/x/sys/unix"
)

// Local launches worker processes on this machine, each as the leader of a session
// of its own: the terminal's Ctrl-C and Ctrl-Z reach the parent alone, a command
// that asks the terminal a question fails instead of being stopped in the
// background, and whatever a worker has started can be found when it dies.
type Local struct {
	Path string   // the program
	Args []string // its arguments, without the name
	Env  []string // its environment; nil is this process's own
	Dir  string   // its directory; empty is this process's own
	// Box gives each worker a black box (package blackbox) as descriptor BoxFD, for
	// workers that know what to do with it.
	Box bool
	// Nice is added to the niceness of workers, and of all that they start.
	Nice int
	// Commands says that the workers are ours and run commands, so that what a call holds
	// is what its worker has started, and not the worker itself.
	Commands bool
}

// BoxFD is the descriptor of a worker's black box.
const BoxFD = 3

// Self launches this program again, with the given arguments. On Linux it is the
// very file that runs, also after an upgrade has replaced it on the disk.
func Self(args ...string) (*Local, error) {
	path := "/proc/self/exe"
	if _, err := os.Stat(path); err != nil {
		if path, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program to start workers with it: %w", err)
		}
	}
	return &Local{Path: path, Args: args}, nil
}

// drainTime is how long the output of a worker that has ended is still read: what
// it wrote is in the pipes already, and a child that it left behind may hold them
// open for ever.
const drainTime = 200 * time.Millisecond

// Launch starts one worker. Any goroutine may call it.
func (l *Local) Launch(slot int) (pool.Process, error) {
	var p pipes
	in, out, errs := p.make(), p.make(), p.make()
	if p.err != nil {
		p.close()
		return nil, fmt.Errorf("make pipes for worker %d: %w", slot, p.err)
	}
	cmd := &exec.Cmd{
		Path: l.Path, Args: append([]string{l.Path}, l.Args...), Env: l.Env, Dir: l.Dir,
		Stdin: in.r, Stdout: out.w, Stderr: errs.w,
	}
	w := &local{in: in.w, out: out.r, errs: errs.r, commands: l.Commands}
	var err error
	if w.frames, err = newFrames(w.in, w.out, slot <= wideSlots, l.Commands); err != nil {
		p.close()
		return nil, fmt.Errorf("make pipes for worker %d: %w", slot, err)
	}
	if l.Box {
		box, file, err := blackbox.New()
		if err != nil {
			p.close()
			return nil, fmt.Errorf("make a black box for worker %d: %w", slot, err)
		}
		defer file.Close()
		w.box, cmd.ExtraFiles = box, []*os.File{file}
	}
	if w.Leader, err = Lead(cmd); err != nil {
		p.close()
		w.closeBox()
		return nil, fmt.Errorf("start worker %d: %w", slot, err)
	}
	in.r.Close()
	out.w.Close()
	errs.w.Close()
	if err := l.renice(w.Pid()); err != nil {
		w.Kill()
		_ = w.Frames().CloseWrite()
		out.r.Close()
		errs.r.Close()
		_ = w.Wait()
		w.closeBox()
		return nil, fmt.Errorf("start worker %d: %w", slot, err)
	}
	return w, nil
}

// renice makes a new worker nicer, before it has heard of a call. It reaches the group,
// which is the worker alone so far, with all of its threads; what these make inherits it.
func (l *Local) renice(pid int) error {
	if l.Nice == 0 {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PGRP, pid, niceness()+l.Nice); err != nil {
		return fmt.Errorf("make it nicer by %d: %w", l.Nice, err)
	}
	return nil
}

type pipe struct{ r, w *os.File }

// pipes keeps the first error, so that making three needs one check.
type pipes struct {
	list []pipe
	err  error
}

func (p *pipes) make() (made pipe) {
	if p.err != nil {
		return made
	}
	if made.r, made.w, p.err = HighPipe(); p.err == nil {
		p.list = append(p.list, made)
	}
	return made
}

func (p *pipes) close() {
	for _, made := range p.list {
		made.r.Close()
		made.w.Close()
	}
}

// local is a worker process on this machine.
type local struct {
	*Leader
	in, out, errs *os.File
	frames        pool.Stream   // of in and out
	box           *blackbox.Box // nil without
	commands      bool
}

func (p *local) Stderr() io.Reader   { return closing{p.errs, p.errs} }
func (p *local) Frames() pool.Stream { return p.frames }

// Wait pairs with Launch.
func (p *local) Wait() pool.Exit {
	exit := p.Leader.Wait()
	late := time.Now().Add(drainTime)
	_ = p.out.SetReadDeadline(late)
	_ = p.errs.SetReadDeadline(late)
	return exit
}

// Memory is what the process holds, not what it has started.
func (p *local) Memory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone { // its pid may be somebody else's
		return 0
	}
	return resident(p.Pid())
}

// CallMemory is what the process and all that it has started hold; of one that runs
// commands, what these hold.
func (p *local) CallMemory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0
	}
	all := session.Memory(p.Pid())
	if p.commands {
		all -= resident(p.Pid())
	}
	return max(0, all)
}

// Recording reads the black box, once.
func (p *local) Recording() (r pool.Recording) {
	if p.box == nil {
		return r
	}
	defer p.closeBox()
	running, finished := p.box.Read()
	r.Known, r.Running = p.box.Opened(), running
	for _, f := range finished {
		r.Finished = append(r.Finished, ipc.Result{
			ID: f.ID, Start: f.Start, Elapsed: f.Elapsed,
			Outcomes: []ipc.Outcome{{Code: ipc.Code(f.Code), Message: f.Message, Data: f.Data}},
		})
	}
	return r
}

func (p *local) closeBox() {
	if p.box != nil {
		p.box.Close()
		p.box = nil
	}
}

func newExit(state *os.ProcessState) pool.Exit {
	if state == nil { // somebody else has waited for it
		return pool.Exit{Code: -1}
	}
	e := pool.Exit{Code: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		e.MaxRSS = maxRSS(usage)
	}
	return e
}

// frames is the connection of a worker: its stdin and stdout.
type frames struct {
	io.Reader
	io.Writer
	in *os.File
}

// Large values pass with fewer changes of process through pipes that hold more. A user may have 64 MiB in pipes, and beyond that gets
// tiny ones, so only the first workers have such.
const wideSlots = 32

// quiet says that this process is gpool over its own workers of commands, see package rawpipe.
func newFrames(in, out *os.File, wide, quiet bool) (pool.Stream, error) {
	for _, f := range []*os.File{in, out} {
		if conn, err := f.SyscallConn(); err == nil && wide {
			_ = conn.Control(func(fd uintptr) { rawpipe.Widen(int(fd)) })
		}
	}
	if !quiet {
		return frames{closing{out, out}, in, in}, nil
	}
	w, err := rawpipe.New(in)
	r, err2 := rawpipe.New(out)
	return frames{closing{r, out}, w, in}, errors.Join(err, err2)
}

func (f frames) CloseWrite() error { return f.in.Close() }

// closing closes a file at its end, which is when its only reader is done with it.
type closing struct {
	io.Reader
	file *os.File
}

func (c closing) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err != nil {
		_ = c.file.Close()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // see drainTime
		err = io.EOF
	}
	return n, err
}
