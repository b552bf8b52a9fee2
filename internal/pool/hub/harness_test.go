package hub

import (
	"testing"

	"gpool/internal/pool/hub/wire"
)

// fake is a member that remembers what it was answered. It is of one goroutine, as the hub is in
// these tests: whatever is answered at all is answered before a method returns.
type fake struct {
	t       testing.TB
	m       wire.Member
	name    string
	last    uint64
	answers map[uint64][]wire.Reply
}

// fakes makes a hub with a member of each name.
func fakes(t testing.TB, names ...string) (*Hub, []*fake) {
	h := New()
	var list []*fake
	for _, name := range names {
		list = append(list, join(t, h, name))
	}
	return h, list
}

// two makes a hub with two members, which is what most tests need.
func two(t testing.TB) (h *Hub, a, b *fake) {
	h, list := fakes(t, "a", "b")
	return h, list[0], list[1]
}

func join(t testing.TB, h *Hub, name string) *fake {
	return &fake{
		t: t, m: h.Join(wire.Peer{From: name}), name: name,
		answers: make(map[uint64][]wire.Reply),
	}
}

// start does a request and returns its id, by which waits and got ask after it.
func (f *fake) start(r wire.Request) uint64 {
	f.last++
	id := f.last
	f.m.Do(id, &r, func(reply wire.Reply) { f.answers[id] = append(f.answers[id], reply) })
	return id
}

// do does a request on the object "x" that must be answered at once, and returns its answer.
// Change says what the request has besides.
func (f *fake) do(op wire.Op, change ...func(*wire.Request)) wire.Reply {
	f.t.Helper()
	return f.got(f.start(request(op, change...)))
}

// done is do for a request that must not be refused.
func (f *fake) done(op wire.Op, change ...func(*wire.Request)) wire.Reply {
	f.t.Helper()
	reply := f.do(op, change...)
	if reply.Fault != "" {
		f.t.Fatalf("%s of %s: refused: %s: %s", op, f.name, reply.Fault, reply.Text)
	}
	return reply
}

// refused is do for a request that must be refused with that fault, in words.
func (f *fake) refused(code wire.FaultCode, op wire.Op, change ...func(*wire.Request)) wire.Reply {
	f.t.Helper()
	reply := f.do(op, change...)
	if reply.Fault != code || reply.Text == "" {
		f.t.Fatalf("%s of %s: %+v, want the fault %q in words", op, f.name, reply, code)
	}
	return reply
}

// waiting starts a request that may wait, and must.
func (f *fake) waiting(op wire.Op, change ...func(*wire.Request)) uint64 {
	f.t.Helper()
	r := request(op, change...)
	r.Wait = true
	id := f.start(r)
	f.waits(id)
	return id
}

// waits asserts that requests are not answered.
func (f *fake) waits(ids ...uint64) {
	f.t.Helper()
	for _, id := range ids {
		if list := f.answers[id]; len(list) > 0 {
			f.t.Fatalf("request %d of %s has been answered: %+v", id, f.name, list)
		}
	}
}

// got is the one answer of a request.
func (f *fake) got(id uint64) wire.Reply {
	f.t.Helper()
	list := f.answers[id]
	if len(list) != 1 {
		f.t.Fatalf("request %d of %s has %d answers, want one: %+v", id, f.name, len(list), list)
	}
	return list[0]
}

// granted is got for a request that must have been done.
func (f *fake) granted(id uint64) wire.Reply {
	f.t.Helper()
	reply := f.got(id)
	if reply.Fault != "" {
		f.t.Fatalf("request %d of %s: refused: %s: %s", id, f.name, reply.Fault, reply.Text)
	}
	return reply
}

// failed asserts that a request was answered with a fault.
func (f *fake) failed(code wire.FaultCode, ids ...uint64) {
	f.t.Helper()
	for _, id := range ids {
		if reply := f.got(id); reply.Fault != code || reply.Text == "" {
			f.t.Fatalf("request %d of %s: %+v, want the fault %q in words", id, f.name, reply, code)
		}
	}
}

func (f *fake) cancel(id uint64) { f.m.Cancel(id) }

func (f *fake) leave() { f.m.Leave() }

// described is what the hub says of an object.
func (f *fake) described(kind, name string) wire.Object {
	f.t.Helper()
	for _, b := range f.done(wire.Describe).Values {
		o, err := wire.DecodeObject(b)
		if err != nil {
			f.t.Fatal(err)
		}
		if o.Kind == kind && o.Name == name {
			return o
		}
	}
	f.t.Fatalf("the hub does not describe %s %q", kind, name)
	return wire.Object{}
}

func request(op wire.Op, change ...func(*wire.Request)) wire.Request {
	r := wire.Request{Op: op, Object: "x"}
	for _, c := range change {
		c(&r)
	}
	return r
}

// What a request has besides its operation.

func named(name string) func(*wire.Request) { return func(r *wire.Request) { r.Object = name } }
func owner(who uint64) func(*wire.Request)  { return func(r *wire.Request) { r.Owner = who } }
func with(lock string) func(*wire.Request)  { return func(r *wire.Request) { r.With = lock } }
func initial(n int64) func(*wire.Request)   { return func(r *wire.Request) { r.Init = n } }
func count(n int64) func(*wire.Request)     { return func(r *wire.Request) { r.N = n } }
func hold(r *wire.Request)                  { r.Hold = true }
func wait(r *wire.Request)                  { r.Wait = true }
func action(r *wire.Request)                { r.Action = true }
func side(n uint8) func(*wire.Request)      { return func(r *wire.Request) { r.Side = n } }
func key(k string) func(*wire.Request)      { return func(r *wire.Request) { r.Key = []byte(k) } }
func values(list ...string) func(*wire.Request) {
	return func(r *wire.Request) {
		for _, v := range list {
			r.Values = append(r.Values, []byte(v))
		}
	}
}
