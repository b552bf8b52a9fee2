package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/input"
	"gpool/internal/pool/hub/wire"
)

// queueVerb is one execution of a verb of a queue.
type queueVerb struct {
	*hubClient
	room int  // --max
	most int  // -n of get
	all  bool // --all
	null bool
	put  int64 // lines that were put so far
}

const queueHelp = `queue puts lines into a queue that other processes get them from, each line once,
first in, first out. A queue is made when it is first used; who does that says with
--max how many items it has room for (default: any number).

  gpool queue put urls --max 1000 < list &
  while url=$(gpool queue get urls); do fetch "$url"; done

get ends with 1 when the queue is closed and empty. join waits until as many items
are done, by gpool queue done, as were put.

EXIT STATUS
  0      done
  1      get: closed and empty; put: closed
  2      bad usage
  3      gpool itself, or the hub, failed
  124    not within --timeout; get --try: nothing is there now
  128+N  stopped by signal N; 141 if the reader of the output has left`

func newQueue(io stdio) *cobra.Command {
	verb := func(make func(q *queueVerb) hubVerb) *cobra.Command {
		q := &queueVerb{hubClient: &hubClient{io: io}}
		return make(q).command(q.hubClient)
	}
	return family("queue", "Pass lines from process to process", queueHelp,
		verb((*queueVerb).putVerb), verb((*queueVerb).getVerb), verb((*queueVerb).lenVerb),
		verb((*queueVerb).closeVerb), verb((*queueVerb).doneVerb), verb((*queueVerb).joinVerb))
}

func (q *queueVerb) defineRoom(f *pflag.FlagSet) {
	f.Var(parsed("--max", "N", &q.room, atLeast(1)), "max", "room for N items, if the queue is not there yet (default: any number)")
}

func (q *queueVerb) defineNull(f *pflag.FlagSet) {
	f.BoolVarP(&q.null, "null", "0", false, "items end with NUL instead of newline")
}

func (q *queueVerb) putVerb() hubVerb {
	return hubVerb{
		use: "put NAME [ITEM...]", short: "Put items, or each line of stdin, into a queue", most: -1,
		flags: func(f *pflag.FlagSet) {
			q.defineRoom(f)
			q.defineNull(f)
			q.timeout.define(f, "", "wait no longer than this for room (0: not at all)")
		},
		do: func(ctx context.Context, name string, items []string) error {
			if len(items) > 0 {
				return q.putItems(ctx, name, items)
			}
			return q.putLines(ctx, name)
		},
	}
}

// putLines puts lines as they come: a line that comes alone goes at once, and many together.
func (q *queueVerb) putLines(ctx context.Context, name string) error {
	lines, _, err := input.Open(nil, q.io.in, input.Format{Null: q.null})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for {
		var batch []input.Row
		q.unhurried(func() { batch, err = lines.Next(batchCalls) })
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w (%s put before)", err, count(q.put, "item"))}
		}
		for part := range portions(batch, batchBytes) {
			items := make([]string, len(part))
			for i, row := range part {
				if row.Err != nil {
					return &exitError{exitUsage, fmt.Errorf("%w (%s put before)", row.Err, count(q.put, "item"))}
				}
				items[i] = row.Columns[0]
			}
			if err := q.putItems(ctx, name, items); err != nil {
				return err
			}
		}
	}
}

// putItems puts some items, all of them or as many as there is room for in time. It waits for the room
// of one item only, so that it knows how many were put when it gives up.
func (q *queueVerb) putItems(ctx context.Context, name string, items []string) error {
	values := make([][]byte, len(items))
	for i, text := range items {
		values[i] = asText(text)
	}
	for len(values) > 0 {
		n, err := q.putSome(ctx, name, values)
		q.put += int64(n)
		values = values[n:]
		if err != nil {
			return q.unput(name, err)
		}
	}
	return nil
}

// putSome puts what there is room for, or else waits to put one, and tells how many were put.
func (q *queueVerb) putSome(ctx context.Context, name string, values [][]byte) (int, error) {
	r := wire.Request{Op: wire.QueuePut, Object: name, Init: int64(q.room), Values: values}
	reply, err := q.call(ctx, r)
	switch {
	case err == nil:
		return len(values), nil
	case reply.N > 0 && reply.N <= int64(len(values)): // the hub's word
		if late(err) {
			err = nil // the rest gets its turn
		}
		return int(reply.N), err
	case !late(err):
		return 0, err
	}
	r.Values = values[:1]
	if _, err = q.wait(ctx, r); err != nil {
		return 0, err
	}
	return 1, nil
}

// unput says how many items were put before something went wrong.
func (q *queueVerb) unput(name string, err error) error {
	put := count(q.put, "item") + " put"
	if late(err) {
		return tooLate("the queue %q is full (%s)", name, put)
	}
	if _, ok := errors.AsType[signalled](err); ok {
		fmt.Fprintf(q.io.err, "gpool queue put: %v (%s)\n", err, put)
		return err
	}
	return fmt.Errorf("%w (%s)", err, put)
}

func (q *queueVerb) getVerb() hubVerb {
	return hubVerb{
		use: "get NAME", short: "Take items out of a queue, and print them",
		flags: func(f *pflag.FlagSet) {
			q.most = 1
			f.VarP(parsed("--max-items", "N", &q.most, atLeast(1)), "max-items", "n", "take up to N items, if they are there (default: 1)")
			f.BoolVar(&q.all, "all", false, "take items as they come, until the queue is closed and empty")
			q.defineNull(f)
			q.timeout.define(f, "", "wait no longer than this for an item (0: not at all)")
			q.timeout.defineTry(f, "do not wait: --timeout 0")
			q.defineRoom(f)
		},
		do: func(ctx context.Context, name string, _ []string) error {
			if !q.all {
				err := q.get(ctx, name, q.most)
				if hubFault(err) == wire.FaultClosed { // the usual end of a loop
					return &exitError{code: exitFailed}
				}
				return err
			}
			for {
				err := q.get(ctx, name, batchCalls)
				if hubFault(err) == wire.FaultClosed {
					return nil
				}
				if err != nil {
					return err
				}
			}
		},
	}
}

// get takes items and prints them. Those that cannot be printed go back to where they were.
func (q *queueVerb) get(ctx context.Context, name string, most int) error {
	reply, err := q.wait(ctx, wire.Request{Op: wire.QueueGet, Object: name, Init: int64(q.room), N: int64(most)})
	if late(err) {
		return tooLate("the queue %q is empty", name)
	}
	if err != nil {
		return err
	}
	left := reply.Values
	putBack := func() error {
		if len(left) == 0 {
			return nil
		}
		back := wire.Request{Op: wire.QueueUnget, Object: name, Values: left}
		_, lost := q.call(context.WithoutCancel(ctx), back)
		return lost
	}
	q.setRescue(func() { _ = putBack() }) // nobody hears of an error: a reader that does not read has held us up
	for len(left) > 0 && err == nil {
		if err = context.Cause(ctx); err == nil { // else a signal came
			var printed int
			printed, err = q.printSome(left)
			q.rescuing.Lock()
			left = left[printed:]
			q.rescuing.Unlock()
		}
	}
	q.setRescue(nil)
	if lost := putBack(); lost != nil {
		return &exitError{exitPool, fmt.Errorf("%s of the queue %q lost, which could neither be printed (%v) nor put back: %w", count(int64(len(left)), "item"), name, err, lost)}
	}
	return err
}

// setRescue says what is to be done if gpool has to end while it prints.
func (q *queueVerb) setRescue(rescue func()) {
	q.rescuing.Lock()
	defer q.rescuing.Unlock()
	q.rescue = rescue
}

// pieceSize is what a pipe takes as a whole or not at all (POSIX has 512 bytes at least, Linux and macOS this): so of a
// piece that could not be printed nothing was, unless it is one item that is longer.
const pieceSize = 4096

// printSome prints the first of some items, at least one, and tells how many were printed in full.
func (q *queueVerb) printSome(items [][]byte) (printed int, err error) {
	end := "\n"
	if q.null {
		end = "\x00"
	}
	var text []byte
	var ends []int
	for _, item := range items {
		line := asLine(item) + end
		if len(text) > 0 && len(text)+len(line) > pieceSize {
			break
		}
		text = append(text, line...)
		ends = append(ends, len(text))
	}
	n, err := q.io.out.Write(text)
	for printed < len(ends) && ends[printed] <= n {
		printed++
	}
	if err != nil {
		err = outputError(err)
	}
	return printed, err
}

func (q *queueVerb) lenVerb() hubVerb {
	return hubVerb{use: "len NAME", short: "Print how many items are in a queue", do: func(ctx context.Context, name string, _ []string) error {
		reply, err := q.call(ctx, wire.Request{Op: wire.QueueState, Object: name})
		if err != nil {
			return err
		}
		return q.printNumber(reply.N)
	}}
}

func (q *queueVerb) closeVerb() hubVerb {
	return hubVerb{use: "close NAME", short: "Let nothing more be put into a queue", do: func(ctx context.Context, name string, _ []string) error {
		_, err := q.call(ctx, wire.Request{Op: wire.QueueClose, Object: name})
		return err
	}}
}

func (q *queueVerb) doneVerb() hubVerb {
	return hubVerb{use: "done NAME [N]", short: "Say that an item, or N of them, has been dealt with", most: 1, do: func(ctx context.Context, name string, args []string) error {
		n := 1
		if len(args) > 0 {
			var err error
			if n, err = atLeast(1)(args[0]); err != nil {
				return &exitError{exitUsage, &badValue{"N", args[0], err.Error()}}
			}
		}
		_, err := q.call(ctx, wire.Request{Op: wire.QueueDone, Object: name, N: int64(n)})
		return err
	}}
}

func (q *queueVerb) joinVerb() hubVerb {
	return hubVerb{
		use: "join NAME", short: "Wait until all items of a queue are done",
		flags: func(f *pflag.FlagSet) { q.timeout.define(f, "", "wait no longer than this (0: not at all)") },
		do: func(ctx context.Context, name string, _ []string) error {
			_, err := q.wait(ctx, wire.Request{Op: wire.QueueJoin, Object: name})
			if late(err) {
				err = tooLate("items of the queue %q are not done after %v", name, q.timeout.most.Round(time.Millisecond))
			}
			return err
		},
	}
}
