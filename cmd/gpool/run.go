package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/launch"
	"gpool/internal/pool/report"
)

// run is one execution of a verb: what was asked for, checked and opened.
type run struct {
	verb     verb
	opts     *options
	spec     command.Spec
	template *command.Template
	rows     input.Source
	total    int // number of items if it is known, else -1
	workers  int
	stdio    stdio
}

// runVerb does what the command line says. Its error has the exit code.
func runVerb(v verb, o *options, args []string, io stdio) error {
	r, err := prepare(v, o, args, io)
	if err != nil {
		return err
	}
	if o.dryRun {
		defer r.rows.Close()
		return r.dryRun()
	}
	// The rows are not closed: a read that nobody can interrupt may still be under
	// way when a run is stopped, and the process ends with it.
	return r.execute()
}

// prepare finds everything that is wrong before a call runs.
func prepare(v verb, o *options, args []string, std stdio) (*run, error) {
	words, groups, err := input.SplitArgs(args)
	if err != nil {
		return nil, err
	}
	r := &run{verb: v, opts: o, stdio: std, total: -1}
	if r.workers, err = o.jobs.count(); err != nil {
		return nil, err
	}
	names, err := r.openInput(groups)
	if err != nil {
		return nil, err
	}
	if err := r.resolve(words, names); err != nil {
		return nil, errors.Join(err, r.rows.Close())
	}
	if err := r.checkWidth(groups, names); err != nil {
		return nil, errors.Join(err, r.rows.Close())
	}
	return r, r.collect()
}

// openInput opens where the items come from.
func (r *run) openInput(groups []input.Group) (names []string, err error) {
	format, err := r.opts.inputFormat(r.verb)
	if err != nil {
		return nil, err
	}
	if groups == nil {
		r.rows, names, err = input.Open(r.opts.files, r.stdio.in, format)
	} else {
		if len(r.opts.files) > 0 {
			return nil, errors.New("-a and ::: are two ways to name the items: use :::: FILE beside :::")
		}
		if r.opts.header {
			return nil, errors.New("--header: what follows ::: has no header")
		}
		var total int64
		format.Rows = input.WholeLine // the groups are the columns
		r.rows, total, err = input.Product(groups, r.stdio.in, format)
		r.total = int(total)
	}
	if err != nil {
		return nil, err
	}
	if n := r.opts.batch; n > 1 {
		r.rows = input.Batch(r.rows, n)
		if r.total > 0 {
			r.total = (r.total + n - 1) / n
		}
	}
	return names, nil
}

// resolve turns the words of the command line into what the calls run.
func (r *run) resolve(words, names []string) (err error) {
	s := command.Spec{Mode: command.Direct, Words: words, Names: names, NamedRows: r.opts.jsonl}
	switch {
	case r.opts.shellLine != "" && len(words) > 0:
		return fmt.Errorf("-c and COMMAND (%s) exclude each other: quote the whole command line after -c", words[0])
	case r.opts.shellLine != "":
		s.Mode, s.Words = command.Script, []string{r.opts.shellLine}
	case len(words) == 0:
		s.Mode = command.ItemIsScript
	}
	if s.Mode != command.Direct || r.opts.initializer != "" {
		if s.Shell, err = program(r.opts.shell); err != nil {
			return err
		}
	}
	if r.template, err = command.Parse(s); err != nil {
		return err
	}
	if name, ok := r.template.FixedProgram(); ok {
		if s.Path, err = program(name); err != nil {
			return err
		}
	}
	r.spec = s
	return nil
}

// program finds what will be executed, so that a slip is found before a call runs.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	if errors.Is(err, exec.ErrNotFound) && name == "" {
		err = errors.New("the name is empty")
	}
	return "", fmt.Errorf("COMMAND %q cannot be run: %w", name, err)
}

// checkWidth finds columns that no item can have.
func (r *run) checkWidth(groups []input.Group, names []string) error {
	width := 0
	switch {
	case groups != nil:
		width = r.groupWidth(groups)
	case names != nil:
		width = len(names)
	case !r.verb.rows:
		width = max(r.opts.batch, 1)
	}
	if c := r.template.Columns(); width > 0 && c > width {
		return fmt.Errorf("the template names column %d, but an item has %d: give starmap rows, or name a column that is there", c, width)
	}
	return nil
}

func (r *run) groupWidth(groups []input.Group) int {
	width := 0
	for _, g := range groups {
		if g.FromFiles {
			width += len(g.Values)
		} else {
			width++
		}
	}
	return width * max(r.opts.batch, 1)
}

// collect reads all input of the verbs that do.
func (r *run) collect() error {
	if !r.verb.collect || r.opts.dryRun {
		return nil
	}
	rows, err := input.ReadAll(r.rows)
	if err != nil {
		return errors.Join(err, r.rows.Close())
	}
	if err := r.rows.Close(); err != nil {
		return err
	}
	r.rows, r.total = input.FromRows(rows), len(rows)
	return nil
}

// dryRun prints what would run. The slot of a call is not known before it runs: 1
// stands for it.
func (r *run) dryRun() error {
	out := newStdout(r.stdio.out)
	seq, bad := uint64(0), 0
	for {
		rows, err := r.rows.Next(256)
		for i := range rows {
			seq++
			text, err := r.commandLine(&rows[i], seq)
			if err != nil {
				bad++
				fmt.Fprintf(r.stdio.err, "gpool: call %d%s: %v\n", seq, origin(&rows[i]), err)
				continue
			}
			out.WriteString(text + "\n")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	if err := out.Flush(); err != nil {
		return r.outputError(err)
	}
	if bad > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d of %d calls could not run", bad, seq)}
	}
	return nil
}

// commandLine is the text that runs one row when it is pasted into a shell.
func (r *run) commandLine(row *input.Row, seq uint64) (string, error) {
	if row.Err != nil {
		return "", row.Err
	}
	argv, err := r.template.Render(command.Values{Row: row.Row, Seq: seq, Slot: 1})
	if err != nil {
		return "", err
	}
	if r.spec.Mode != command.Direct && r.opts.shell == "sh" {
		return argv[2], nil
	}
	return command.QuoteArgv(argv), nil
}

// execute runs the calls and reports how it went.
func (r *run) execute() error {
	screen, err := newScreen(r.opts.progress, r.stdio, r.total)
	if err != nil {
		return err
	}
	defer screen.stop()
	launcher, err := launch.Self(workerVerb)
	if err != nil {
		return &exitError{exitPool, err}
	}
	printer := newPrinter(r, screen)
	config := pool.Config{
		Workers: r.workers, Launcher: launcher, Quota: pool.Quota{N: r.opts.maxCalls},
		Stderr: screen.err, OnEvent: printer.event,
	}
	if r.opts.initializer != "" {
		config.InitTask = command.ExecTask
		config.InitCommon = encoded(command.Spec{Mode: command.Script, Words: []string{r.opts.initializer}, Shell: r.spec.Shell}.Append)
	}
	p, err := pool.New(config)
	if err != nil {
		return &exitError{exitPool, err}
	}
	signals := watchSignals(p, screen)
	running, err := p.Submit(r.job(printer, screen))
	if err == nil {
		err = running.Wait()
	}
	if err != nil {
		p.Stop(pool.Kill) // nothing of a run that has failed is left behind
	}
	p.Close()
	stopped := signals.stop()
	screen.stop()
	return r.verdict(printer, stopped, err)
}

func (r *run) job(consumer *printer, screen *screen) pool.Job {
	j := pool.Job{
		Task:     command.ExecTask,
		Common:   encoded(r.spec.Append),
		Source:   &calls{rows: r.rows, encoder: ipc.NewEncoder(), onEnd: screen.setTotal},
		Consumer: consumer, Order: r.verb.order, ChunkSize: r.opts.chunkSize, Lines: r.opts.lineBuffer,
	}
	if r.opts.unordered {
		j.Order = pool.Unordered
	}
	if r.verb.collect {
		j.Total = r.total
	} else if j.ChunkSize == 0 {
		j.ChunkSize = 1
	}
	return j
}

func encoded(write func(*ipc.Encoder)) []byte {
	e := ipc.NewEncoder()
	write(e)
	return e.Copy()
}

// verdict turns the outcome of a run into the exit code and the last words.
func (r *run) verdict(p *printer, stopped syscall.Signal, err error) error {
	if !p.broken { // else results are missing from the counts
		p.summary(stopped)
	}
	switch {
	case errors.Is(err, syscall.EPIPE): // whoever read our output has left: quietly
		return &exitError{code: exitSignal + int(syscall.SIGPIPE)}
	case err != nil:
		code := exitPool
		var in *inputError
		if errors.As(err, &in) {
			code = exitUsage
		}
		return &exitError{code, err}
	case stopped != 0:
		return &exitError{code: exitSignal + int(stopped)}
	case p.failed.Load() > 0:
		return &exitError{code: exitFailed}
	case p.notRun.Load() > 0:
		return &exitError{code: exitPool, err: errors.New("not all calls were run")}
	}
	return nil
}

// outputError is for what happens to stdout outside of a pool.
func (r *run) outputError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return &exitError{code: exitSignal + int(syscall.SIGPIPE)}
	}
	return &exitError{exitPool, fmt.Errorf("write the results: %w", err)}
}

// inputError is the failure of the input itself.
type inputError struct{ error }

func (e *inputError) Unwrap() error { return e.error }

// calls makes calls of rows. The pool's feeder is its only user.
type calls struct {
	rows    input.Source
	encoder *ipc.Encoder
	ends    []int
	count   atomic.Int64
	onEnd   func(total int64)
}

// Next implements pool.Source. A read of stdin does not heed the context; it ends
// with the process.
func (c *calls) Next(_ context.Context, max int) ([]pool.Call, error) {
	rows, err := c.rows.Next(max)
	if err != nil && len(rows) == 0 {
		if err == io.EOF {
			c.onEnd(c.count.Load())
			return nil, err
		}
		return nil, &inputError{err}
	}
	c.count.Add(int64(len(rows)))
	c.encoder.Reset()
	c.ends = c.ends[:0]
	for i := range rows {
		if rows[i].Err == nil {
			rows[i].Row.Append(c.encoder)
		}
		c.ends = append(c.ends, c.encoder.Len())
	}
	block := c.encoder.Copy() // one for all payloads of the batch
	list := make([]pool.Call, len(rows))
	start := 0
	for i, end := range c.ends {
		list[i] = pool.Call{Payload: block[start:end:end], Item: &rows[i], Err: rows[i].Err}
		start = end
	}
	return list, nil
}

// screen is where gpool writes: stdout and stderr, and the progress bar that shares
// the terminal with them.
type screen struct {
	out, err io.Writer
	bar      *report.Progress // nil without
}

func newScreen(mode string, std stdio, total int) (*screen, error) {
	show, err := report.Enabled(mode, std.err, os.Getenv)
	if err != nil {
		return nil, err
	}
	s := &screen{out: std.out, err: lenient{std.err}}
	if show {
		s.bar = report.New(std.err, int64(total), os.Getenv)
		s.err = s.bar.Writer(lenient{std.err})
		if isTerminal(std.out) {
			s.out = s.bar.Writer(std.out)
		}
	}
	return s, nil
}

// lenient drops what a reader of stderr who has left would have got. Only results
// end a run when nobody wants them.
type lenient struct{ w io.Writer }

func (l lenient) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		return len(b), nil
	}
	return n, err
}

func (s *screen) setTotal(n int64) {
	if s.bar != nil {
		s.bar.SetTotal(n)
	}
}

func (s *screen) done(failed bool) {
	if s.bar != nil {
		s.bar.Done(failed)
	}
}

func (s *screen) stop() {
	if s.bar != nil {
		s.bar.Stop()
	}
}
