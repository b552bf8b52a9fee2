package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/joblog"
	"gpool/internal/pool/report"
)

// ledger is the consumer of a run. What calls print, and how they end, goes to the
// printer first, then to the reports, and to the joblog last, once all of that has left
// the process: so a crash may repeat a call on resume, and never lose one. The deliverer
// is its only user; others read its counts when the run is over.
type ledger struct {
	run       *run
	printer   *printer
	sinks     []report.Sink
	held      *held           // of the call whose output comes, if that is known already
	log       *joblog.Log     // nil without
	rows      []joblog.Row    // of calls that are printed and not logged
	early     map[uint64]bool // calls that are in the log, and whose turn has not come
	totals    report.Totals
	elsewhere int64 // calls of other parts
	exits     exitCodes
	halted    bool // by --halt
}

func newLedger(r *run, p *printer) *ledger {
	return &ledger{run: r, printer: p, log: r.log, early: map[uint64]bool{}, exits: exitCodes{how: r.opts.exitCode}}
}

// held is how a call ended, in both vocabularies.
type held struct {
	end outcome
	rec *report.Record
}

// of reads a result, once also if output comes with it before.
func (l *ledger) of(r *pool.Result) *held {
	if l.held == nil || l.held.rec.Seq != r.Call.Seq {
		h := &held{end: l.run.work.outcome(r)}
		h.rec = l.run.record(r, &h.end)
		l.held = h
	}
	return l.held
}

// Output implements pool.Consumer.
func (l *ledger) Output(o *pool.Output) error {
	var rec *report.Record
	if o.Result != nil {
		rec = l.of(o.Result).rec
	}
	if err := l.printer.output(o, rec); err != nil {
		return err
	}
	for _, s := range l.sinks {
		if err := s.Output(o.Call.Seq, o.Attempt, o.Stream, o.Data); err != nil {
			return err
		}
	}
	return nil
}

// Result implements pool.Consumer.
func (l *ledger) Result(r *pool.Result) error {
	h := l.of(r)
	l.held = nil
	if h.rec.Status == report.Skipped {
		if r.Call.Item.(*input.Row).Err == input.ErrElsewhere {
			l.elsewhere++
		} else {
			l.totals.Skipped++
		}
		return nil
	}
	l.count(h.rec)
	if err := l.printer.result(r, &h.end, h.rec); err != nil {
		return err
	}
	for _, s := range l.sinks {
		if err := s.Call(h.rec); err != nil {
			return err
		}
	}
	if l.log != nil && !l.early[r.Call.Seq] {
		l.book(h.rec, r.CutShort)
	}
	delete(l.early, r.Call.Seq)
	return nil
}

// silent is pool.Job.Silent: nothing of this call will ever be printed, so the log need
// not wait until it is its turn.
func (l *ledger) silent(r *pool.Result) {
	h := l.of(r)
	l.held = nil
	if h.end.note != "" {
		return
	}
	l.book(h.rec, false)
	l.early[r.Call.Seq] = true
}

// bookable reports whether the log may be ahead of what is printed: if nothing else tells of
// a call that has printed nothing.
func (l *ledger) bookable() bool {
	return l.log != nil && len(l.sinks) == 0 && !l.run.opts.tasks && l.run.opts.format == "raw"
}

// Flush implements pool.Consumer.
func (l *ledger) Flush() error {
	if err := l.printer.flush(); err != nil {
		return err
	}
	for _, s := range l.sinks {
		if err := s.Flush(); err != nil {
			return err
		}
	}
	for i := range l.rows {
		if err := l.log.Write(&l.rows[i]); err != nil {
			return err
		}
	}
	clear(l.rows)
	l.rows = l.rows[:0]
	return nil
}

func (l *ledger) count(rec *report.Record) {
	t := &l.totals
	t.Calls++
	t.Busy += rec.Elapsed
	for i := range rec.Earlier {
		t.Busy += rec.Earlier[i].Elapsed
	}
	switch {
	case rec.Status == report.Succeeded:
		t.Succeeded++
		if rec.Flaky() {
			t.Flaky++
		}
	case rec.Status == report.Cancelled:
		t.Cancelled++
	case rec.Status == report.NotRun:
		t.NotRun++
	default:
		t.Failed++
		l.exits.add(rec)
	}
}

// book makes the row of a call for the joblog. What a stop has ended, or kept from being
// tried again, is not done, and so has none.
func (l *ledger) book(rec *report.Record, cutShort bool) {
	if rec.Status == report.Cancelled || rec.Status == report.NotRun || cutShort {
		return
	}
	row := joblog.Row{
		Seq: rec.Seq, Start: rec.Start, Runtime: rec.Elapsed, Receive: rec.Stdout, Command: rec.Command,
		Exit: rec.Exit, Signal: rec.Signal,
	}
	if row.Start.IsZero() {
		row.Start = time.Now()
	}
	switch { // what GNU parallel makes of a time limit, and of a command that a signal has ended
	case rec.Status == report.TimedOut:
		row.Exit, row.Signal = -1, 15
	case rec.Status == report.WorkerDied || rec.Status == report.OutOfMemory:
		row.Exit, row.Signal = -1, 9
	case rec.Signal != 0:
		row.Exit = 0
	case rec.Status == report.Succeeded:
		row.Exit = 0 // of a task, too
	case row.Exit <= 0:
		row.Exit = 1
	}
	l.rows = append(l.rows, row)
}

// close ends the reports with the counts of the run.
func (l *ledger) close() error {
	var errs []error
	for _, s := range l.sinks {
		errs = append(errs, s.Close(&l.totals))
	}
	if l.log != nil {
		errs = append(errs, l.log.Close())
	}
	return errors.Join(errs...)
}

// record is a result in the words of reports. Its command is made only if somebody wants
// to know it.
func (r *run) record(result *pool.Result, end *outcome) *report.Record {
	row := result.Call.Item.(*input.Row)
	rec := &report.Record{Seq: result.Call.Seq, Item: row.Columns, Attempt: end.attempt(result)}
	if r.wantsText {
		rec.Command = r.text(row, rec.Seq, max(rec.Slot, 1))
	}
	for _, e := range result.Earlier {
		earlier := r.work.outcome(e)
		rec.Earlier = append(rec.Earlier, earlier.attempt(e))
	}
	return rec
}

// text is what a call runs; of a row that is broken, the row.
func (r *run) text(row *input.Row, seq uint64, slot int) string {
	if row.Err == nil {
		if text, err := r.work.text(row, seq, slot); err == nil {
			return text
		}
	}
	return quoted(row.Columns)
}

// exitCodes makes the exit code of a run with failed calls, as --exit-code says.
type exitCodes struct {
	how                  string
	failed               int
	first, highest       int
	limit255, signalled  bool
	notExecutable, never bool // exit codes 126 and 127
}

func (e *exitCodes) add(rec *report.Record) {
	code := rec.Exit
	switch {
	case rec.Status == report.TimedOut:
		code = 124 // as timeout(1)
	case rec.Status == report.WorkerDied || rec.Status == report.OutOfMemory:
		code = exitSignal + 9
	case code <= 0:
		code = 1
	}
	e.failed++
	if e.failed == 1 {
		e.first = code
	}
	e.highest = max(e.highest, code)
	e.limit255 = e.limit255 || code == 255
	e.signalled = e.signalled || rec.Signal != 0 || rec.Status == report.WorkerDied || rec.Status == report.OutOfMemory
	e.notExecutable = e.notExecutable || rec.Status == report.NotStarted && code == 126
	e.never = e.never || rec.Status == report.NotStarted && code == 127
}

// code is the exit code of a run in which calls have failed.
func (e *exitCodes) code() int {
	switch e.how {
	case "count":
		return min(e.failed, 101) // as GNU parallel
	case "first":
		return e.first
	case "max":
		return e.highest
	case "xargs":
		switch {
		case e.never:
			return 127
		case e.notExecutable:
			return 126
		case e.signalled:
			return 125
		case e.limit255:
			return 124
		}
		return 123
	}
	return exitFailed
}

// verdict turns the outcome of a run into the exit code and its error, if any.
func (l *ledger) verdict(stopped stop, err error) error {
	t := &l.totals
	switch {
	case l.printer.broken && errors.Is(err, syscall.EPIPE): // whoever read our output has left: quietly
		return &exitError{code: exitSignal + int(syscall.SIGPIPE)}
	case err != nil:
		return l.run.failure(err)
	case stopped.signal != 0:
		return &exitError{code: exitSignal + int(stopped.signal)}
	case stopped.late:
		return &exitError{exitLate, fmt.Errorf("the run was ended after %v (--run-timeout)", l.run.opts.runTimeout)}
	case l.halted && l.run.opts.halt.On == pool.HaltOnSuccess:
		return nil
	case t.Failed > 0:
		return &exitError{code: l.exits.code()}
	case t.Flaky > 0 && l.run.opts.flaky == "fail":
		return &exitError{exitFailed, fmt.Errorf("%s succeeded only at a later attempt (--flaky fail)", count(t.Flaky, "call"))}
	case t.NotRun > 0 && !l.halted:
		return &exitError{code: exitPool, err: errors.New("not all calls were run")}
	}
	return nil
}
