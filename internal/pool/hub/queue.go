package hub

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["queue"] = func(_ *Hub, r *wire.Request) object { return &queue{nameless: strings.HasPrefix(r.Object, "#")} }
}

// getItems is how many items a get takes at most, whatever they weigh.
const getItems = 1 << 16

// getBytes is how much a get for many items takes at most, if that is not one item alone: its
// answer must fit a frame, since what could not be sent would be lost.
const getBytes = 4 << 20

// entryCost is what one entry of an object takes beside its bytes, about.
const entryCost = 64

// queue is first in, first out, for items and for those who wait. Every operation costs as much as
// the items that it moves, however many there are.
//
// A get on a queue that is closed and empty, of which other members hold items, waits until these
// are done or come back: they can still be got. Items that the asking member holds itself
// are not waited for, since it could wait for ever. Two members that hold items and both wait for
// more are not seen: a holder says done before it asks again.
type queue struct {
	limit      int64 // 0 or less: none
	sized      bool  // limit has been said
	closed     bool
	nameless   bool // a program has named it
	counted    bool // somebody has said Done, Join or Hold: what is unfinished matters
	items      ring
	unfinished int64
	loose      int64     // of these were taken without Hold
	holders    []*holder // of one item or more, in the order in which they began to hold

	puts, gets, joins line
	begun             int // values of the first put that are in
}

// holder is a member that has items which are not done.
type holder struct {
	*member
	items ring // in the order of the queue
}

func (q *queue) do(a *ask) {
	switch a.Op {
	case wire.QueuePut:
		q.size(a)
		q.put(a)
	case wire.QueueGet:
		q.size(a)
		q.counted = q.counted || a.Hold
		q.get(a)
	case wire.QueueState:
		q.size(a)
		a.answer(wire.Reply{N: int64(q.items.n), M: q.unfinished, Flag: q.closed})
	case wire.QueueUnget:
		q.unget(a)
	case wire.QueueClose:
		q.close()
		a.answer(wire.Reply{})
	case wire.QueueDone:
		q.counted = true
		q.done(a)
	case wire.QueueJoin:
		q.counted = true
		q.join(a)
	default:
		a.unknown()
	}
}

// size takes the limit from the first request that has one: a queue may have been made by a
// join, which has none.
func (q *queue) size(a *ask) {
	if !q.sized {
		q.sized, q.limit = true, a.Init
	}
}

func (q *queue) put(a *ask) {
	switch {
	case len(a.Values) == 0:
		a.refuse(wire.FaultRefused, "%s needs an item at least", a.Op)
		return
	case q.closed:
		a.refuse(wire.FaultClosed, "the queue %q is closed: nothing can be put into it any more", a.Object)
		return
	}
	q.puts.add(a)
	q.settle()
	if a.place != nil && !a.Wait {
		q.refusePut(a, wire.FaultBusy, "the queue %q is full: it has room for %d items", a.Object, q.limit)
	}
}

func (q *queue) get(a *ask) {
	if a.N < 0 {
		a.refuse(wire.FaultRefused, "%s cannot take %d items", a.Op, a.N)
		return
	}
	q.gets.add(a)
	q.settle()
	switch {
	case a.place == nil || a.Wait:
	case q.closed:
		a.leaveLine()
		a.busy("the queue %q is closed and empty, but others hold items of it that may come back", a.Object)
	default:
		a.leaveLine()
		a.busy("the queue %q is empty", a.Object)
	}
}

// settle does what can be done now, and answers those whom that helps.
func (q *queue) settle() {
	for q.fill() || q.serve() {
	}
	q.endGets()
	if q.unfinished == 0 {
		for _, a := range q.joins.all() {
			a.answer(wire.Reply{})
		}
	}
}

// fill puts of the first put what there is room for, and reports whether that was anything.
func (q *queue) fill() bool {
	a := q.puts.head()
	if a == nil {
		return false
	}
	rest := a.Values[q.begun:]
	if q.limit > 0 {
		rest = rest[:min(int64(len(rest)), max(0, q.limit-int64(q.items.n)))]
	}
	for _, item := range rest {
		q.items.pushBack(item)
	}
	q.begun += len(rest)
	q.unfinished += int64(len(rest))
	if q.begun == len(a.Values) {
		a.leaveLine()
		a.answer(wire.Reply{N: int64(q.begun)})
		q.begun = 0
	}
	return len(rest) > 0
}

// serve hands the first get what it can take, and reports whether there was one and anything to
// take.
func (q *queue) serve() bool {
	if q.items.n == 0 || q.gets.n == 0 {
		return false
	}
	a := q.gets.next()
	n := min(max(1, a.N), int64(q.items.n))
	var taken [][]byte
	for size := 0; int64(len(taken)) < min(n, getItems) && (taken == nil || size+len(q.items.front()) <= getBytes); {
		item := q.items.popFront()
		size += len(item)
		taken = append(taken, item)
	}
	if a.Hold {
		q.hold(a.member, taken)
	} else {
		q.loose += int64(len(taken))
	}
	a.answer(wire.Reply{Values: taken})
	return true
}

func (q *queue) hold(m *member, items [][]byte) {
	i := q.holder(m)
	if i < 0 {
		i = len(q.holders)
		q.holders = append(q.holders, &holder{member: m})
	}
	for _, item := range items {
		q.holders[i].items.pushBack(item)
	}
}

// holder is where in holders m is, or -1.
func (q *queue) holder(m *member) int {
	return slices.IndexFunc(q.holders, func(h *holder) bool { return h.member == m })
}

// release takes a holder out of the list if it has nothing left.
func (q *queue) release(i int) {
	if q.holders[i].items.n == 0 {
		q.holders = slices.Delete(q.holders, i, i+1)
	}
}

// endGets refuses the gets that nothing can come for any more. If several members hold items,
// something may still come for everybody.
func (q *queue) endGets() {
	if !q.closed || q.items.n > 0 || len(q.holders) > 1 {
		return
	}
	for p := q.gets.first; p != nil; p = p.next {
		if len(q.holders) == 0 || q.holders[0].member == p.member {
			p.leaveLine() // keeps p.next
			p.refuse(wire.FaultClosed, "the queue %q is closed, and nothing is left in it", p.Object)
		}
	}
}

// unget puts items back. If the member holds such an item, it does so no longer: else there would
// be two of it.
func (q *queue) unget(a *ask) {
	for _, item := range slices.Backward(a.Values) {
		if i := q.holder(a.member); i >= 0 {
			q.holders[i].items.remove(item)
			q.release(i)
		}
		q.items.pushFront(item)
	}
	q.loose = max(0, q.loose-int64(len(a.Values))) // about: of those that are held none was loose
	a.answer(wire.Reply{})
	q.settle()
}

func (q *queue) close() {
	q.closed = true
	for a := q.puts.head(); a != nil; a = q.puts.head() {
		q.refusePut(a, wire.FaultClosed, "the queue %q was closed", a.Object)
	}
	q.settle()
}

func (q *queue) done(a *ask) {
	n := max(1, a.N)
	switch {
	case a.N < 0:
		a.refuse(wire.FaultRefused, "%d items cannot be done", a.N)
		return
	case n > q.unfinished:
		a.refuse(wire.FaultOverflow, "of the queue %q %d items cannot be done: %d are unfinished (done is said once for each that was put)",
			a.Object, n, q.unfinished)
		return
	}
	q.unfinished -= n
	if i := q.holder(a.member); i >= 0 {
		n = q.drain(i, n)
	}
	// Who holds nothing means what was taken without Hold, as long as there is some: what others hold is theirs.
	loose := min(n, q.loose)
	q.loose, n = q.loose-loose, n-loose
	for n > 0 && len(q.holders) > 0 {
		n = q.drain(0, n)
	}
	a.answer(wire.Reply{})
	q.settle()
}

// drain drops up to n items that a holder has, oldest first, and returns how many are still to
// be dropped.
func (q *queue) drain(i int, n int64) int64 {
	for held := &q.holders[i].items; n > 0 && held.n > 0; n-- {
		held.popFront()
	}
	q.release(i)
	return n
}

func (q *queue) join(a *ask) {
	switch {
	case q.unfinished == 0:
		a.answer(wire.Reply{})
	case a.Wait:
		q.joins.add(a)
	default:
		a.busy("%d items of the queue %q are unfinished", q.unfinished, a.Object)
	}
}

// refusePut ends a put that waits, and says how much of it is in.
func (q *queue) refusePut(a *ask, code wire.FaultCode, format string, args ...any) {
	r := wire.Refuse(code, format, args...)
	if q.puts.head() == a {
		r.N, q.begun = int64(q.begun), 0
	}
	a.leaveLine()
	a.answer(r)
}

func (q *queue) cancel(a *ask) {
	if a.Op == wire.QueuePut {
		q.refusePut(a, wire.FaultCancelled, "%s was given up", a.Op)
		return
	}
	a.leaveLine()
	a.cancelled()
}

// leave gives back to the queue what the member held: it is unfinished, and the next in turn.
func (q *queue) leave(m *member) {
	i := q.holder(m)
	if i < 0 {
		return
	}
	for held := &q.holders[i].items; held.n > 0; {
		q.items.pushFront(held.popBack())
	}
	q.release(i)
	q.settle()
}

func (q *queue) drop() {
	for a := q.puts.head(); a != nil; a = q.puts.head() {
		q.refusePut(a, wire.FaultGone, "queue %q was dropped", a.Object)
	}
	for _, a := range append(q.gets.all(), q.joins.all()...) {
		a.gone()
	}
}

func (q *queue) describe(o *wire.Object) {
	state := []string{fmt.Sprintf("%d items", q.items.n)}
	if q.limit > 0 {
		state[0] = fmt.Sprintf("%d of %d items", q.items.n, q.limit)
	}
	if q.unfinished > 0 {
		state = append(state, fmt.Sprintf("%d unfinished", q.unfinished))
	}
	if q.closed {
		state = append(state, "closed")
	}
	o.State = strings.Join(state, ", ")
	o.Bytes = q.items.cost()
	for _, h := range q.holders {
		o.Holders = append(o.Holders, h.who.String())
		o.Bytes += h.items.cost()
	}
	o.Waiting = slices.Concat(q.puts.names(), q.gets.names(), q.joins.names())
}

func (q *queue) idle() bool {
	finished := q.unfinished == 0 || q.nameless && !q.counted
	return !q.closed && q.items.n == 0 && finished && len(q.holders) == 0 &&
		q.puts.n+q.gets.n+q.joins.n == 0
}

// ring is items in a row that come and go at both ends. It grows and shrinks with them, at a cost
// that is constant for each on average, and keeps nothing of what was taken.
type ring struct {
	slots [][]byte // a power of two, or none
	first int
	n     int
	bytes int64 // of the items
}

// slot is the place of the item i.
func (r *ring) slot(i int) *[]byte { return &r.slots[(r.first+i)&(len(r.slots)-1)] }

func (r *ring) front() []byte { return *r.slot(0) }

func (r *ring) cost() int64 { return r.bytes + entryCost*int64(r.n) }

func (r *ring) pushBack(item []byte) {
	r.fit(r.n + 1)
	r.n++
	*r.slot(r.n - 1) = item
	r.bytes += int64(len(item))
}

func (r *ring) pushFront(item []byte) {
	r.fit(r.n + 1)
	r.n++
	r.first = (r.first - 1) & (len(r.slots) - 1)
	*r.slot(0) = item
	r.bytes += int64(len(item))
}

func (r *ring) popFront() []byte {
	item := *r.slot(0)
	*r.slot(0) = nil
	r.first = (r.first + 1) & (len(r.slots) - 1)
	r.shrink(item)
	return item
}

func (r *ring) popBack() []byte {
	item := *r.slot(r.n - 1)
	*r.slot(r.n - 1) = nil
	r.shrink(item)
	return item
}

// shrink books that item was taken.
func (r *ring) shrink(item []byte) {
	r.n--
	r.bytes -= int64(len(item))
	r.fit(r.n)
}

// fit makes room for n items, and gives up memory if they need a quarter of it or less.
func (r *ring) fit(n int) {
	size := len(r.slots)
	switch {
	case n > size:
		size = max(4, 2*size)
	case size > 16 && n <= size/4:
		size /= 2
	default:
		return
	}
	slots := make([][]byte, size)
	for i := range r.n {
		slots[i] = *r.slot(i)
	}
	r.slots, r.first = slots, 0
}

// remove takes out the newest item that is equal to this one, if there is one.
func (r *ring) remove(item []byte) {
	for i := r.n - 1; i >= 0; i-- {
		if bytes.Equal(*r.slot(i), item) {
			for ; i < r.n-1; i++ {
				*r.slot(i) = *r.slot(i + 1)
			}
			// The last place holds what is now the one before it, or what was to be removed.
			*r.slot(i) = item
			r.popBack()
			return
		}
	}
}
