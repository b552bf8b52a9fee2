// Package hub keeps what processes share: locks, semaphores, conditions, events, barriers, queues, pipes, dicts and lists.
//
// It is memory and decisions: no goroutine, no clock, no connection. A request is answered at once,
// or kept until another request, or the end of a member, makes the answer possible. How
// requests get here is the business of package wire, and of those who call it in their own process.
package hub

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"gpool/internal/pool/hub/wire"
)

// Hub is what some processes share. Its methods may be called from any goroutine and never wait
// for more than each other.
type Hub struct {
	mu      sync.Mutex        // guards all that follows, with all objects and members
	objects map[string]object // by kind/name
	members map[*member]struct{}
	due     []func() // answers, which leave when the lock is released
	ended   bool
	sweepAt int // number of objects at which those are forgotten that are as good as new
	shared  sharedMemory
}

// sweepLeast is how many objects a hub has before it looks for such.
const sweepLeast = 1024

// object is one thing that is shared. Its methods are called under the lock of the hub.
type object interface {
	// do answers a request, or keeps it: then somebody else's do, cancel or leave answers it.
	do(a *ask)
	// cancel answers a request that was kept and is given up.
	cancel(a *ask)
	// leave takes from a member that ends what it has. What it waited for was cancelled before.
	leave(m *member)
	// drop answers whoever waits with FaultGone (gone makes it).
	drop()
	// describe fills in State, Holders, Waiting and Bytes.
	describe(o *wire.Object)
	// idle reports whether nothing would be lost if the object were forgotten: it is as if it had just been made.
	idle() bool
}

// makers make the objects of each kind from the first request that touches them.
var makers = map[string]func(h *Hub, r *wire.Request) object{}

// New makes a hub.
func New() *Hub {
	return &Hub{objects: make(map[string]object), members: make(map[*member]struct{}), sweepAt: sweepLeast}
}

// member is one process that uses the hub.
type member struct {
	hub     *Hub
	who     wire.Peer
	open    map[uint64]*ask     // that wait
	touched map[object]struct{} // where it may have left something
	left    bool
}

// ask is one request of a member.
type ask struct {
	*wire.Request
	member *member
	id     uint64
	done   func(wire.Reply)
	at     object
	place  *place // in a line; nil if it is in none
}

// Join makes a member of a process.
func (h *Hub) Join(who wire.Peer) wire.Member {
	m := &member{hub: h, who: who, open: make(map[uint64]*ask), touched: make(map[object]struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.left = h.ended
	if !m.left {
		h.members[m] = struct{}{}
	}
	return m
}

// answer ends a request. The answer leaves when the lock is released.
func (a *ask) answer(r wire.Reply) {
	delete(a.member.open, a.id)
	if !a.member.left {
		a.member.hub.due = append(a.member.hub.due, func() { a.done(r) })
	}
}

// refuse answers with a fault.
func (a *ask) refuse(code wire.FaultCode, format string, args ...any) {
	a.answer(wire.Refuse(code, format, args...))
}

// release gives the lock up and sends the answers that have come up.
func (h *Hub) release() {
	due := h.due
	h.due = nil
	h.mu.Unlock()
	for _, send := range due {
		send()
	}
}

// Do does a request.
func (m *member) Do(id uint64, r *wire.Request, done func(wire.Reply)) {
	h := m.hub
	h.mu.Lock()
	defer h.release()
	a := &ask{Request: r, member: m, id: id, done: done}
	switch {
	case m.left:
		h.due = append(h.due, func() { done(wire.Refuse(wire.FaultGone, "the hub has ended")) })
		return
	case m.open[id] != nil:
		h.due = append(h.due, func() { done(wire.Refuse(wire.FaultRefused, "the request %d is open", id)) })
		return
	}
	switch r.Op {
	case wire.Drop:
		h.drop(a)
		return
	case wire.Describe:
		h.describe(a)
		return
	}
	kind := r.Op.Kind()
	if kind == "value" {
		kind = "mem" // the same block, for those who cannot map it
	}
	key := kind + "/" + r.Object
	o := h.objects[key]
	if o == nil {
		make := makers[kind]
		if make == nil || r.Object == "" {
			a.refuse(wire.FaultRefused, "a hub cannot do %q with the object %q", r.Op, r.Object)
			return
		}
		if len(h.objects) >= h.sweepAt {
			h.sweep()
		}
		o = make(h, r)
		h.objects[key] = o
	}
	a.at = o
	m.touched[o] = struct{}{}
	m.open[id] = a
	o.do(a)
}

// Cancel gives a request up.
func (m *member) Cancel(id uint64) {
	m.hub.mu.Lock()
	defer m.hub.release()
	if a := m.open[id]; a != nil {
		a.at.cancel(a)
	}
}

// Leave ends a member. What waits for it goes on, and is told.
func (m *member) Leave() {
	m.hub.mu.Lock()
	defer m.hub.release()
	m.leave()
}

// leave is called under the lock.
func (m *member) leave() {
	if m.left {
		return
	}
	m.left = true
	delete(m.hub.members, m)
	for _, id := range slices.Sorted(maps.Keys(m.open)) {
		if a := m.open[id]; a != nil {
			a.at.cancel(a)
		}
	}
	for o := range m.touched {
		o.leave(m)
	}
}

// End refuses whatever waits and whatever comes.
func (h *Hub) End() {
	h.mu.Lock()
	defer h.release()
	h.ended = true
	for key, o := range h.objects {
		o.drop()
		delete(h.objects, key)
	}
	for m := range h.members {
		m.left = true
		delete(h.members, m)
	}
	h.shared.close()
}

// Members is how many processes use the hub.
func (h *Hub) Members() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members)
}

// Idle reports whether nobody uses the hub and nothing in it would be missed.
func (h *Hub) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.members) > 0 {
		return false
	}
	for _, o := range h.objects {
		if !o.idle() {
			return false
		}
	}
	return true
}

// sweep forgets objects that are as if they had just been made: programs make them by the thousand, and
// need not say when they are done with one. It costs some time for each object, but only when their number has doubled. Memory counts
// its own users.
func (h *Hub) sweep() {
	for key, o := range h.objects {
		if _, counted := o.(*block); counted || !o.idle() {
			continue
		}
		delete(h.objects, key)
		for m := range h.members {
			delete(m.touched, o)
		}
	}
	h.sweepAt = max(sweepLeast, 2*len(h.objects))
}

func (h *Hub) drop(a *ask) {
	o := h.objects[a.Object]
	if o == nil {
		a.refuse(wire.FaultMissing, "there is no %s", a.Object)
		return
	}
	delete(h.objects, a.Object)
	for m := range h.members {
		delete(m.touched, o)
	}
	o.drop() // a block is touched again by those who keep it
	a.answer(wire.Reply{})
}

// gone answers a request whose object was dropped.
func (a *ask) gone() {
	if a.member.hub.ended {
		a.refuse(wire.FaultGone, "the hub has ended")
		return
	}
	a.refuse(wire.FaultGone, "the %s %q was dropped", a.Op.Kind(), a.Object)
}

// cancelled answers a request that was given up.
func (a *ask) cancelled() { a.refuse(wire.FaultCancelled, "%s was given up", a.Op) }

// busy answers a request that may not wait.
func (a *ask) busy(format string, args ...any) { a.refuse(wire.FaultBusy, format, args...) }

// unknown answers an operation that the kind does not have.
func (a *ask) unknown() { a.refuse(wire.FaultRefused, "a hub cannot do %q", a.Op) }

func (h *Hub) describe(a *ask) {
	var reply wire.Reply
	for _, key := range slices.Sorted(maps.Keys(h.objects)) {
		kind, name, _ := strings.Cut(key, "/")
		d := wire.Object{Kind: kind, Name: name}
		h.objects[key].describe(&d)
		reply.Values = append(reply.Values, d.Encode())
	}
	a.answer(reply)
}
