package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/admit"
	"gpool/internal/pool/joblog"
	"gpool/internal/pool/report"
)

// run is one execution of a verb: what was asked for, checked and opened.
type run struct {
	verb    verb
	opts    *options
	words   []string // of the command line
	work    work
	rows    input.Source
	total   int // number of items if it is known, else -1
	workers int
	stdio   stdio
	ci      report.CIKind
	log     *joblog.Log     // nil without
	history *joblog.History // what need not be run; nil is nothing
	leases  *leases         // of a background pool; nil if calls run in slots of our own

	began     time.Time
	elsewhere int         // rows of other parts, if all rows are in memory
	inputDone atomic.Bool // all of it has been read

	wantsText bool   // somebody wants to know what each call runs
	name      string // of the only call, for people
}

// runVerb does what the command line says. Its error has the exit code.
func runVerb(v verb, o *options, args []string, io stdio) error {
	// A question about what runs must not end gpool while it still reads its input.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	r, err := prepare(v, o, args, io)
	if err != nil {
		return err
	}
	if err := r.openLog(); err != nil {
		return errors.Join(err, r.rows.Close())
	}
	if o.dryRun {
		defer r.rows.Close()
		return errors.Join(r.dryRun(), r.closeLog())
	}
	// The rows are not closed: a read that nobody can interrupt may still be under
	// way when a run is stopped, and the process ends with it.
	return r.execute()
}

// prepare finds everything that is wrong before a call runs.
func prepare(v verb, o *options, args []string, std stdio) (*run, error) {
	r := &run{verb: v, opts: o, words: args, stdio: std, total: -1, began: time.Now()}
	var err error
	if r.workers, err = o.jobs.count(); err != nil {
		return nil, err
	}
	if r.ci, err = report.ParseCI(o.ci, os.Getenv); err != nil {
		return nil, err
	}
	words, names, width, err := r.openRows()
	if err != nil {
		return nil, err
	}
	if r.work, err = r.resolve(words, names, width); err != nil {
		return nil, errors.Join(err, r.rows.Close())
	}
	r.wantsText = o.joblog != "" || o.results != "" || o.junit != ""
	return r, r.collect()
}

// openRows opens the rows of the calls. words are those of what runs, names those of a
// header, width is how many columns each row has, or 0 if they differ.
func (r *run) openRows() (words, names []string, width int, err error) {
	if r.verb.single {
		r.name = r.opts.callName(r.words)
		r.rows = input.FromRows([]input.Row{r.opts.row()})
		return r.words, nil, 0, nil
	}
	words, groups, err := input.SplitArgs(r.words)
	if err != nil {
		return nil, nil, 0, err
	}
	names, err = r.openInput(groups)
	return words, names, r.width(groups, names), err
}

// openLog opens the joblog, and reads what it says is done. It changes nothing yet: what
// is wrong with the command line must not cost the log of an earlier run.
func (r *run) openLog() (err error) {
	o := r.opts
	mode := joblog.SkipLogged
	if o.resumeFailed {
		mode = joblog.SkipSucceeded
	}
	switch {
	case o.joblog == "" || o.dryRun && !o.resume && !o.resumeFailed:
		return nil
	case o.resume || o.resumeFailed:
		r.log, r.history, err = joblog.Reopen(o.joblog, mode)
	default:
		r.log, err = joblog.Open(o.joblog)
	}
	if err != nil {
		return err
	}
	if h := r.history; h != nil && h.Malformed > 0 {
		fmt.Fprintf(r.stdio.err, "gpool: not all of %s is a joblog: %s from line %d on counted for nothing\n",
			o.joblog, count(int64(h.Malformed), "line"), h.FirstBad)
	}
	return nil
}

func (r *run) closeLog() error {
	if r.log == nil {
		return nil
	}
	return r.log.Close()
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
	switch p := r.opts.part; {
	case p.m > 0 && p.hash:
		r.rows = input.Hash(r.rows, p.n, p.m)
	case p.m > 0:
		r.rows = input.Slice(r.rows, p.n, p.m)
	}
	return names, nil
}

// resolve finds out what the calls do.
func (r *run) resolve(words, names []string, width int) (work, error) {
	if r.opts.tasks {
		return newTask(r.verb, r.opts, words)
	}
	return newCommands(r.verb, r.opts, words, names, width)
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

// collect reads all input of the verbs that do, and for --shuf.
func (r *run) collect() error {
	shuffle := r.opts.shuffle
	if !shuffle.on && (!r.verb.collect || r.opts.dryRun) {
		return nil
	}
	rows, err := r.readAll()
	if late, ok := errors.AsType[*exitError](err); ok { // the read still goes on, and ends with the process
		return late
	}
	if err != nil {
		return errors.Join(err, r.rows.Close())
	}
	for i := range rows {
		if rows[i].Err == input.ErrElsewhere {
			r.elsewhere++
		}
	}
	if err := r.rows.Close(); err != nil {
		return err
	}
	if shuffle.on {
		input.Shuffle(rows, shuffle.seed)
		fmt.Fprintf(r.stdio.err, "gpool: the order is that of --shuf=%d\n", shuffle.seed)
	}
	r.rows, r.total = input.FromRows(rows), len(rows)
	return nil
}

// readAll reads all rows, as long as the time of the run lasts.
func (r *run) readAll() (rows []input.Row, err error) {
	if r.opts.runTimeout == 0 {
		return input.ReadAll(r.rows)
	}
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		rows, err = input.ReadAll(r.rows)
	}()
	select {
	case <-doneC:
		return rows, err
	case <-time.After(r.opts.runTimeout):
		return nil, &exitError{exitLate, fmt.Errorf("the run was ended after %v (--run-timeout), before all of its input had come", r.opts.runTimeout)}
	}
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
			if err == input.ErrElsewhere {
				continue
			}
			if done, _ := r.done(&rows[i], seq); done {
				continue
			}
			if err == nil { // the slot is not known before a call runs: 1 stands for it
				text, err = r.work.text(&rows[i], seq, 1)
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
	ledger := newLedger(r, printer)
	gate, err := r.openGate(printer)
	if err != nil {
		return errors.Join(err, ledger.close())
	}
	if gate != nil {
		defer gate.Close()
	}
	events, err := r.openReports(ledger)
	if err == nil && r.log != nil {
		err = r.log.Begin()
	}
	if err != nil {
		return errors.Join(err, ledger.close())
	}
	story := newStory(r, printer, events)
	stopped, err := r.runPool(ledger, story, screen, gate)
	ledger.totals.Wall = time.Since(r.began)
	screen.stop()
	return r.conclude(ledger, story, stopped, err)
}

// leaveCPUs keeps this process to one thread of Go code for each 8 CPUs that there are, since they are the workers': with more threads than
// it needs the runtime wakes one for each result, to look for work that is not there. What somebody has set stands.
func leaveCPUs() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(max(1, runtime.NumCPU()/8))
	return func() { runtime.GOMAXPROCS(before) }
}

// runPool runs the job in a pool of its own, and returns when nothing of either is left.
func (r *run) runPool(ledger *ledger, story *story, screen *screen, gate *admit.Admission) (stopped stop, err error) {
	closeHub, err := openHub()
	if err != nil { // it can do without
		fmt.Fprintf(screen.err, "gpool: what runs will find no hub of this run (gpool lock and the like use the background pool): %v\n", err)
	}
	defer closeHub()
	config := r.config(screen, story, gate)
	if err := r.work.configure(&config); err != nil {
		return stopped, &exitError{exitPool, err}
	}
	p, err := pool.New(config)
	if err != nil {
		return stopped, &exitError{exitPool, err}
	}
	signals := watchSignals(p, screen, r)
	story.begin(p)
	r.leases.whenLost(func() { p.Stop(pool.Terminate) })
	running, err := p.Submit(r.job(ledger, screen))
	defer leaveCPUs()() // while the first workers start
	if err == nil {
		err = errors.Join(running.Wait(), r.leases.lost())
		ledger.halted = running.Halted()
	}
	if err != nil || signals.ending.Load() || ledger.halted && r.opts.halt.Now {
		p.Stop(pool.Kill) // nothing of a run that did not end by itself is left behind
	}
	story.stop()
	p.Close()
	return signals.stop(), err
}

func (r *run) config(screen *screen, story *story, gate *admit.Admission) pool.Config {
	c := pool.Config{
		Workers: r.workers, Quota: pool.Quota{N: r.opts.maxCalls}, Grace: r.opts.killAfter(),
		Stderr: screen.err, OnEvent: story.hear, CallEvents: story.events != nil,
	}
	if gate != nil {
		c.Gate = gate
	}
	c.Memory.Soft, c.Memory.Call = r.opts.maxWorkerRSS, r.opts.maxRSS
	return c
}

func (r *run) job(ledger *ledger, screen *screen) pool.Job {
	o := r.opts
	j := pool.Job{
		Source:   &calls{run: r, screen: screen},
		Consumer: ledger, Order: r.verb.order, ChunkSize: o.chunkSize, Lines: o.lineBuffer, Hold: o.holds(),
		Retry: r.retry(), Limits: o.limits(), Halt: o.halt,
	}
	j.Task, j.Common = r.work.job()
	// A command takes longer than the round trip, and what is under way at a crash runs twice.
	j.Single = r.log != nil && !o.tasks
	if ledger.bookable() {
		j.Silent = ledger.silent
	}
	if o.unordered {
		j.Order = pool.Unordered
	}
	if r.verb.collect || o.shuffle.on {
		j.Total, j.Finite = r.total, true
	}
	if !r.verb.collect && j.ChunkSize == 0 {
		j.ChunkSize = 1
	}
	return j
}

// conclude ends the reports, says how it went, and makes the exit code of it.
func (r *run) conclude(l *ledger, s *story, stopped stop, err error) error {
	t := &l.totals
	left := int64(0) // calls that have no result
	if known := int64(r.total); r.total >= 0 {
		left = max(0, known-t.Calls-t.Skipped-l.elsewhere)
	}
	if err == nil { // the pool has not even taken them
		t.Calls, t.NotRun, left = t.Calls+left, t.NotRun+left, 0
	}
	verdict := l.verdict(stopped, err)
	t.Exit = exitCode(verdict)
	if f, ok := l.printer.form.(*folded); ok && err == nil {
		err = errors.Join(f.ci.Finish(t), l.printer.out.Flush())
	}
	failed := errors.Join(l.close(), s.end(t))
	if !l.printer.broken { // else results are missing from the counts
		l.printer.summary(t, stopped)
		if left > 0 && !r.verb.single {
			l.printer.say("%s more have no result: the run could not go on, and some of them may have run", count(left, "call"))
		}
	}
	// A call that failed and was run again under another number has two rows; with
	// --resume both count, and one is left.
	if n := r.history.Left(); n > 0 && r.opts.resumeFailed && err == nil && stopped == (stop{}) && !l.halted {
		l.printer.say("%s that succeeded by %s had no item in this run", count(int64(n), "call"), r.opts.joblog)
	}
	if err == nil && failed != nil {
		return &exitError{exitPool, failed}
	}
	return verdict
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
