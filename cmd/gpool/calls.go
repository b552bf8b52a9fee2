package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"gpool/internal/input"
	"gpool/internal/pool"
)

// calls makes calls of rows. The pool's feeder is its only user.
type calls struct {
	run      *run
	screen   *screen
	payloads []byte // of one batch
	ends     []int
	seq      uint64 // of the last call
	skipped  int64
	warned   int // of calls that are done under another command
}

// Next implements pool.Source. A read of stdin does not heed the context; it ends
// with the process.
func (c *calls) Next(_ context.Context, max int) ([]pool.Call, error) {
	rows, err := c.run.rows.Next(max)
	if err != nil && len(rows) == 0 {
		if err == io.EOF {
			c.run.inputDone.Store(true)
			c.screen.setTotal(int64(c.seq) - c.skipped)
			return nil, err
		}
		return nil, &inputError{err}
	}
	list := make([]pool.Call, len(rows))
	c.payloads, c.ends = c.payloads[:0], c.ends[:0]
	for i := range rows {
		c.seq++
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

// add appends the payload of a row, if it has one and has to be run.
func (c *calls) add(row *input.Row) error {
	if row.Err == input.ErrElsewhere || c.isDone(row) {
		c.skipped++
		if total := int64(c.run.total); total >= 0 {
			c.screen.setTotal(total - c.skipped)
		}
		return pool.ErrSkip
	}
	if row.Err != nil {
		return row.Err
	}
	grown, err := c.run.work.payload(c.payloads, row)
	if err != nil {
		return err
	}
	c.payloads = grown
	return nil
}

// slotsTried is in how many slots a call may have run, as far as its log is searched for
// a command in which {%} stands.
const slotsTried = 64

// done asks the log whether the call of a row is done, and once for each call. differs is
// the command under which it is logged, if it is done by its number alone.
func (r *run) done(row *input.Row, seq uint64) (done bool, differs string) {
	if r.history == nil {
		return false, ""
	}
	slots := 1
	if r.work.slots() {
		slots = max(slotsTried, r.workers)
	}
	for slot := 1; slot <= slots; slot++ {
		is, other := r.history.Done(seq, r.text(row, seq, slot))
		if is && other == "" {
			return true, ""
		}
		if is {
			done, differs = true, other
		}
	}
	return done, differs
}

// isDone reports whether the call of a row need not run, since the log has it.
func (c *calls) isDone(row *input.Row) bool {
	done, differs := c.run.done(row, c.seq)
	if differs != "" {
		c.warn(row, differs)
	}
	return done
}

// warningsMost is how many calls are named that are done under another command.
const warningsMost = 5

// warn says that a call is taken to be done because of its number alone.
func (c *calls) warn(row *input.Row, other string) {
	c.warned++
	switch {
	case c.warned <= warningsMost:
		fmt.Fprintf(c.screen.err, "gpool: call %d%s is taken to be done, since GNU parallel has logged its number; but it logged another command: %s\n",
			c.seq, origin(row), other)
	case c.warned == warningsMost+1:
		fmt.Fprintf(c.screen.err, "gpool: more calls are taken to be done whose command is not that of %s\n", c.run.opts.joblog)
	}
}
