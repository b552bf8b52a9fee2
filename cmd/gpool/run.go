package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/report"
)

// run is one execution of a verb: what was asked for, checked and opened.
type run struct {
	verb    verb
	opts    *options
	work    work
	rows    input.Source
	total   int // number of items if it is known, else -1
	workers int
	stdio   stdio
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
	if r.work, err = r.resolve(words, names, r.width(groups, names)); err != nil {
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

// resolve finds out what the calls do.
func (r *run) resolve(words, names []string, width int) (work, error) {
	if r.opts.tasks {
		return newTask(r.verb, r.opts, words)
	}
	return newCommands(r.opts, words, names, width)
}

// width is how many columns each row has, or 0 if they differ.
func (r *run) width(groups []input.Group, names []string) int {
	switch {
	case groups != nil:
		return r.groupWidth(groups)
	case names != nil:
		return len(names)
	case !r.verb.rows:
		return max(r.opts.batch, 1)
	}
	return 0
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

// dryRun prints what would run.
func (r *run) dryRun() error {
	out := newStdout(r.stdio.out)
	seq, bad := uint64(0), 0
	for {
		rows, err := r.rows.Next(256)
		for i := range rows {
			seq++
			text, err := "", rows[i].Err
			if err == nil {
				text, err = r.work.text(&rows[i], seq)
			}
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
		return outputError(err)
	}
	if bad > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d of %d calls could not run", bad, seq)}
	}
	return nil
}

// execute runs the calls and reports how it went.
func (r *run) execute() error {
	screen, err := newScreen(r.opts.progress, r.stdio, r.total)
	if err != nil {
		return err
	}
	defer screen.stop()
	printer := newPrinter(r, screen)
	config := pool.Config{
		Workers: r.workers, Quota: pool.Quota{N: r.opts.maxCalls},
		Stderr: screen.err, OnEvent: printer.event,
	}
	if err := r.work.configure(&config); err != nil {
		return &exitError{exitPool, err}
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
		Source:   &calls{rows: r.rows, work: r.work, onEnd: screen.setTotal},
		Consumer: consumer, Order: r.verb.order, ChunkSize: r.opts.chunkSize, Lines: r.opts.lineBuffer,
	}
	j.Task, j.Common = r.work.job()
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

// verdict turns the outcome of a run into the exit code and the last words.
func (r *run) verdict(p *printer, stopped syscall.Signal, err error) error {
	if !p.broken { // else results are missing from the counts
		p.summary(stopped)
	}
	switch {
	case errors.Is(err, syscall.EPIPE): // whoever read our output has left: quietly
		return &exitError{code: exitSignal + int(syscall.SIGPIPE)}
	case err != nil:
		return r.failure(err)
	case stopped != 0:
		return &exitError{code: exitSignal + int(stopped)}
	case p.failed.Load() > 0:
		return &exitError{code: exitFailed}
	case p.notRun.Load() > 0:
		return &exitError{code: exitPool, err: errors.New("not all calls were run")}
	}
	return nil
}

// failure is the error of a run that could not go on, with its exit code.
func (r *run) failure(err error) error {
	if _, ok := errors.AsType[*inputError](err); ok {
		return &exitError{exitUsage, err}
	}
	err = r.work.explain(err)
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit
	}
	return &exitError{exitPool, err}
}

// outputError is for what happens to stdout outside of a pool.
func outputError(err error) error {
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
	rows     input.Source
	work     work
	payloads []byte // of one batch
	ends     []int
	count    atomic.Int64
	onEnd    func(total int64)
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
	list := make([]pool.Call, len(rows))
	c.payloads, c.ends = c.payloads[:0], c.ends[:0]
	for i := range rows {
		list[i] = pool.Call{Item: &rows[i], Err: c.add(&rows[i])}
		c.ends = append(c.ends, len(c.payloads))
	}
	block := bytes.Clone(c.payloads) // one for all payloads of the batch
	start := 0
	for i, end := range c.ends {
		list[i].Payload = block[start:end:end]
		start = end
	}
	if cap(c.payloads) > payloadsKept {
		c.payloads = nil
	}
	return list, nil
}

// payloadsKept is how much memory is kept from one batch to the next.
const payloadsKept = 1 << 20

// add appends the payload of a row, if it has one.
func (c *calls) add(row *input.Row) error {
	if row.Err != nil {
		return row.Err
	}
	grown, err := c.work.payload(c.payloads, row)
	if err != nil {
		return err
	}
	c.payloads = grown
	return nil
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
