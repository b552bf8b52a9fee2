package pool

import (
	"gpool/internal/ipc"
	"gpool/internal/shelf"
)

// order decides whose turn it is to be printed. It is pure: it names calls, and the
// deliverer moves bytes. A call that has the turn is printed as it goes; all others
// wait until they get it.
type order struct {
	sorted bool
	turn   uint64            // the call that has the turn, 0 if none has
	done   map[uint64]*entry // finished calls that wait (sorted)
	queue  []*entry          // the same in the order in which they finished (unsorted)
}

// entry is a call that the deliverer knows of.
type entry struct {
	call   *Call
	pieces []kept
	unpaid int // bytes that the worker has not been credited with
	result Result
}

// kept is a piece of a call's output on the shelf.
type kept struct {
	attempt int
	stream  ipc.Stream
	piece   shelf.Piece
}

func newOrder(o Order) *order {
	if o == Unordered {
		return &order{}
	}
	return &order{sorted: true, turn: 1, done: make(map[uint64]*entry)}
}

// prints reports whether output of the call seq may be printed now; the first one
// that asks gets a free turn.
func (o *order) prints(seq uint64) bool {
	if o.turn == 0 {
		o.turn = seq
	}
	return o.turn == seq
}

// passes reports whether the end of a call is next in any case, and takes it: then it is not finished.
func (o *order) passes(seq uint64) bool {
	if !o.sorted {
		return o.turn == 0 && len(o.queue) == 0
	}
	if seq != o.turn {
		return false
	}
	o.turn++
	return true
}

// finished takes the end of a call.
func (o *order) finished(e *entry) {
	switch {
	case o.sorted:
		o.done[e.call.Seq] = e
	case e.call.Seq == o.turn: // before those that finished while it was printing
		o.queue = append([]*entry{e}, o.queue...)
		o.turn = 0
	default:
		o.queue = append(o.queue, e)
	}
}

// waits reports whether a finished call cannot be printed yet, since others come before.
func (o *order) waits(seq uint64) bool { return o.turn != 0 && seq != o.turn }

// next returns the next finished call to print, until there is none.
func (o *order) next() *entry {
	if o.sorted {
		e := o.done[o.turn]
		if e != nil {
			delete(o.done, o.turn)
			o.turn++
		}
		return e
	}
	if o.turn != 0 || len(o.queue) == 0 {
		return nil
	}
	e := o.queue[0]
	o.queue[0] = nil
	o.queue = o.queue[1:]
	return e
}
