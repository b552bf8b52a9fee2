package hub

import (
	"fmt"
	"maps"
	"slices"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["pipe"] = func(_ *Hub, r *wire.Request) object { return newPipe(r.Init) }
}

// pipeBytes is how many bytes wait in one direction of a pipe if nobody says otherwise.
const pipeBytes = 1 << 20

// pipe is two sides, and what one has sent and the other not yet received. Messages stay whole.
// To send and to receive cost the same whatever the message: none is copied.
type pipe struct {
	limit int64 // bytes that wait in a direction, and messages too: empty ones are not for nothing
	sides [2]pipeSide
}

type pipeSide struct {
	number int
	other  *pipeSide
	users  map[*member]struct{} // members that have used it and live
	closed bool
	inbox  ring // sent by the other side

	sends, recvs, polls line
}

func newPipe(limit int64) *pipe {
	p := &pipe{limit: limit}
	if limit <= 0 {
		p.limit = pipeBytes
	}
	for i := range p.sides {
		p.sides[i] = pipeSide{number: i, other: &p.sides[1-i], users: make(map[*member]struct{})}
	}
	return p
}

func (p *pipe) do(a *ask) {
	if a.Side > 1 {
		a.refuse(wire.FaultRefused, "a pipe has the sides 0 and 1, not %d", a.Side)
		return
	}
	s := &p.sides[a.Side]
	if a.Op == wire.PipeClose {
		p.close(s)
		a.answer(wire.Reply{})
		return
	}
	if s.closed {
		a.refuse(wire.FaultClosed, "this side, %d, of the pipe %q is closed", s.number, a.Object)
		return
	}
	s.users[a.member] = struct{}{}
	switch a.Op {
	case wire.PipeSend:
		p.send(s, a)
	case wire.PipeRecv:
		p.recv(s, a)
	case wire.PipePoll:
		p.wait(&s.polls, a, "nothing waits to be received from the pipe %q", a.Object)
	default:
		a.unknown()
	}
}

func (p *pipe) send(s *pipeSide, a *ask) {
	switch {
	case !a.hasValues(1):
	case s.other.closed:
		a.broken()
	default:
		p.wait(&s.sends, a, "the pipe %q is full: messages of %d bytes wait in it", a.Object, s.other.inbox.bytes)
	}
}

func (p *pipe) recv(s *pipeSide, a *ask) {
	if a.N < 0 {
		a.refuse(wire.FaultRefused, "a message cannot be %d bytes long", a.N)
		return
	}
	p.wait(&s.recvs, a, "nothing waits to be received from the pipe %q", a.Object)
}

// wait has a wait in a line, if it must and may.
func (p *pipe) wait(l *line, a *ask, busy string, args ...any) {
	l.add(a)
	p.settle()
	if a.place != nil && !a.Wait {
		a.leaveLine()
		a.busy(busy, args...)
	}
}

// settle moves what can be moved, and answers those whom that helps.
func (p *pipe) settle() {
	for i := range p.sides {
		s := &p.sides[i]
		for p.deliver(s) || s.receive() {
		}
		s.tell()
	}
}

// deliver moves the first message that waits for room to s, if there is room, and reports whether
// it did. Of a member that ends, none goes: each is about to be given up, and one must not
// overtake another.
func (p *pipe) deliver(s *pipeSide) bool {
	a := s.other.sends.head()
	if a == nil || a.member.left || !p.fits(s, len(a.Values[0])) {
		return false
	}
	a.leaveLine()
	s.inbox.pushBack(a.Values[0])
	a.answer(wire.Reply{})
	return true
}

// fits reports whether a message of n bytes may wait for s.
func (p *pipe) fits(s *pipeSide, n int) bool {
	return s.inbox.n == 0 || int64(s.inbox.n) < p.limit && s.inbox.bytes+int64(n) <= p.limit
}

// receive answers the first of those who wait to receive, if there is a message, and reports
// whether it did. A message that is too long for one may be for the next.
func (s *pipeSide) receive() bool {
	if s.inbox.n == 0 || s.recvs.n == 0 {
		return false
	}
	a, long := s.recvs.next(), int64(len(s.inbox.front()))
	if a.N > 0 && long > a.N {
		r := wire.Refuse(wire.FaultTooLong, "the next message of the pipe %q has %d bytes, and %d were asked for at most", a.Object, long, a.N)
		r.N = long
		a.answer(r)
		return true
	}
	a.answer(wire.Reply{Values: [][]byte{s.inbox.popFront()}})
	return true
}

// tell answers those who wait to hear of messages, or of the end.
func (s *pipeSide) tell() {
	if s.inbox.n == 0 && !s.other.closed {
		return
	}
	for _, a := range s.polls.all() {
		a.answer(wire.Reply{})
	}
	for _, a := range s.recvs.all() { // none, unless this is the end
		a.refuse(wire.FaultEnd, "the pipe %q has ended: its other side is closed, and nothing is left to receive", a.Object)
	}
}

// close ends a side. What it has sent can be received still; what it has not received is forgotten.
func (p *pipe) close(s *pipeSide) {
	s.closed = true
	s.inbox = ring{}
	clear(s.users)
	for _, a := range slices.Concat(s.sends.all(), s.recvs.all(), s.polls.all()) {
		a.refuse(wire.FaultClosed, "this side, %d, of the pipe %q was closed", s.number, a.Object)
	}
	for _, a := range s.other.sends.all() {
		a.broken()
	}
	p.settle()
}

// broken answers a send that nobody will receive.
func (a *ask) broken() {
	a.refuse(wire.FaultBroken, "the pipe %q is broken: its other side is closed", a.Object)
}

func (p *pipe) cancel(a *ask) {
	a.leaveLine()
	a.cancelled()
	p.settle() // a shorter message may have waited behind it
}

func (p *pipe) leave(m *member) {
	for i := range p.sides {
		s := &p.sides[i]
		if _, used := s.users[m]; !used {
			continue
		}
		delete(s.users, m)
		if len(s.users) == 0 {
			p.close(s)
		}
	}
	p.settle()
}

func (p *pipe) drop() {
	for i := range p.sides {
		s := &p.sides[i]
		for _, a := range slices.Concat(s.sends.all(), s.recvs.all(), s.polls.all()) {
			a.gone()
		}
	}
}

func (p *pipe) describe(o *wire.Object) {
	words := make([]string, len(p.sides))
	for i := range p.sides {
		s := &p.sides[i]
		words[i] = fmt.Sprintf("%d messages for side %d", s.inbox.n, i)
		if s.closed {
			words[i] = fmt.Sprintf("side %d closed", i)
		}
		o.Bytes += s.inbox.cost()
		for m := range maps.Keys(s.users) {
			o.Holders = append(o.Holders, fmt.Sprintf("side %d: %s", i, m.who))
		}
		o.Waiting = slices.Concat(o.Waiting, s.sends.names(), s.recvs.names(), s.polls.names())
	}
	slices.Sort(o.Holders)
	o.State = words[0] + ", " + words[1]
}

// idle: a pipe that both sides have closed is of no more use than one that nobody has used.
func (p *pipe) idle() bool {
	a, b := &p.sides[0], &p.sides[1]
	return a.closed == b.closed && a.unused() && b.unused()
}

func (s *pipeSide) unused() bool {
	return len(s.users) == 0 && s.inbox.n == 0 && s.sends.n+s.recvs.n+s.polls.n == 0
}
