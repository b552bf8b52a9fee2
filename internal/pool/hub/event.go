package hub

import "gpool/internal/pool/hub/wire"

func init() {
	makers["event"] = func(*Hub, *wire.Request) object { return &event{} }
}

// event is a flag that can be waited for.
type event struct {
	set     bool
	waiting line
}

func (e *event) do(a *ask) {
	switch a.Op {
	case wire.EventSet:
		e.set = true
		for _, w := range e.waiting.all() {
			w.answer(wire.Reply{})
		}
		a.answer(wire.Reply{})
	case wire.EventClear:
		e.set = false
		a.answer(wire.Reply{})
	case wire.EventState:
		a.answer(wire.Reply{Flag: e.set, N: int64(e.waiting.n)})
	case wire.EventWait:
		e.wait(a)
	default:
		a.unknown()
	}
}

func (e *event) wait(a *ask) {
	switch {
	case e.set:
		a.answer(wire.Reply{})
	case a.Wait:
		e.waiting.add(a)
	default:
		a.busy("the event %q is not set", a.Object)
	}
}

func (e *event) cancel(a *ask) {
	a.leaveLine()
	a.cancelled()
}

func (e *event) leave(*member) {}

func (e *event) drop() {
	for _, w := range e.waiting.all() {
		w.gone()
	}
}

func (e *event) describe(o *wire.Object) {
	o.State = "not set"
	if e.set {
		o.State = "set"
	}
	o.Waiting = e.waiting.names()
}

func (e *event) idle() bool { return !e.set && e.waiting.n == 0 }
