package hub

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["sem"] = func(*Hub, *wire.Request) object { return newSemaphore(false) }
	makers["bsem"] = func(*Hub, *wire.Request) object { return newSemaphore(true) }
}

// semaphore is units that are taken and given back. Who is first in line keeps those behind it waiting,
// even if there are enough units for them: a request for many must not be starved by requests for few.
type semaphore struct {
	bounded bool
	began   int64 // with how many units; -1: not known yet
	free    int64
	held    map[*member]int64 // what comes back when they end
	out     int64             // sum of held; free + out never overflows
	lost    bool              // units came back from a member that ended, and nobody has been told
	waiting line
}

func newSemaphore(bounded bool) *semaphore {
	return &semaphore{bounded: bounded, began: -1, held: make(map[*member]int64)}
}

func (s *semaphore) do(a *ask) {
	if !s.begin(a) {
		return
	}
	switch a.Op {
	case wire.SemAcquire, wire.BSemAcquire:
		s.acquire(a)
	case wire.SemRelease, wire.BSemRelease:
		s.release(a)
	case wire.SemState, wire.BSemState:
		a.answer(wire.Reply{N: s.free, M: int64(s.waiting.n), Text: strings.Join(s.holders(), ", ")})
	default:
		a.unknown()
	}
}

// begin gives the semaphore the units that the first request says, and refuses others that say
// something else, as well as those that are about no units.
func (s *semaphore) begin(a *ask) bool {
	switch {
	case a.Init < 0:
		a.refuse(wire.FaultRefused, "the semaphore %q cannot begin with %d units: 0 or more are possible", a.Object, a.Init)
		return false
	case s.began >= 0 && s.began != a.Init:
		a.refuse(wire.FaultMismatch, "the semaphore %q was made with %d units, not with %d", a.Object, s.began, a.Init)
		return false
	case a.N < 1 && a.Op != wire.SemState && a.Op != wire.BSemState:
		a.refuse(wire.FaultRefused, "%s of %q: %d units are not possible: ask for 1 or more", a.Op, a.Object, a.N)
		return false
	case s.began < 0:
		s.began, s.free = a.Init, a.Init
	}
	return true
}

func (s *semaphore) acquire(a *ask) {
	switch {
	case s.bounded && a.N > s.began: // it would wait for ever, and everybody else behind it
		a.refuse(wire.FaultOverflow, "the semaphore %q never has more than %d units; %d were asked for",
			a.Object, s.began, a.N)
	case s.waiting.n == 0 && a.N <= s.free:
		s.grant(a)
	case a.Wait:
		s.waiting.add(a)
	default:
		a.busy("the semaphore %q has %d units free and %d requests waiting; %d units were asked for",
			a.Object, s.free, s.waiting.n, a.N)
	}
}

// grant takes from the free units, of which there are enough.
func (s *semaphore) grant(a *ask) {
	s.free -= a.N
	if a.Hold {
		s.held[a.member] += a.N
		s.out += a.N
	}
	a.answer(wire.Reply{Flag: s.lost})
	s.lost = false
}

func (s *semaphore) release(a *ask) {
	most := int64(math.MaxInt64)
	if s.bounded {
		most = s.began
	}
	switch {
	case a.Hold && s.held[a.member] < a.N:
		a.refuse(wire.FaultNotHeld, "%d units of the semaphore %q cannot be released: %s holds %d",
			a.N, a.Object, a.member.who, s.held[a.member])
		return
	case !a.Hold && a.N > most-s.free-s.out: // held units count: they come back
		a.refuse(wire.FaultOverflow, "the semaphore %q has at most %d units: %d are free, %d are held, and %d were released",
			a.Object, most, s.free, s.out, a.N)
		return
	case a.Hold:
		s.giveBack(a.member, a.N)
	default:
		s.free += a.N
	}
	a.answer(wire.Reply{})
	s.serve()
}

// giveBack frees units that a member holds.
func (s *semaphore) giveBack(m *member, n int64) {
	s.free += n
	s.out -= n
	s.held[m] -= n
	if s.held[m] == 0 {
		delete(s.held, m)
	}
}

// serve grants what can be granted, in the order of the line.
func (s *semaphore) serve() {
	for a := s.waiting.head(); a != nil && a.N <= s.free; a = s.waiting.head() {
		a.leaveLine()
		s.grant(a)
	}
}

func (s *semaphore) cancel(a *ask) {
	a.leaveLine()
	a.cancelled()
	if !a.member.left { // what else a member that ends has asked for must not be granted meanwhile
		s.serve()
	}
}

func (s *semaphore) leave(m *member) {
	if n := s.held[m]; n > 0 {
		s.giveBack(m, n)
		s.lost = true
	}
	s.serve() // it may have kept others waiting
}

func (s *semaphore) drop() {
	for _, a := range s.waiting.all() {
		a.gone()
	}
}

// holders says who holds units, in a stable order.
func (s *semaphore) holders() (list []string) {
	for m, n := range s.held {
		list = append(list, fmt.Sprintf("%s (%d)", m.who, n))
	}
	slices.Sort(list)
	return list
}

func (s *semaphore) describe(o *wire.Object) {
	o.State = fmt.Sprintf("%d free, began with %d", s.free, max(s.began, 0))
	if s.lost {
		o.State += ", units came back from a holder that ended"
	}
	o.Holders, o.Waiting = s.holders(), s.waiting.names()
}

func (s *semaphore) idle() bool {
	return s.began < 0 || s.free == s.began && s.out == 0 && !s.lost && s.waiting.n == 0
}
