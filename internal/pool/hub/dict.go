package hub

import (
	"bytes"
	"container/list"
	"fmt"

	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

func init() {
	makers["dict"] = func(*Hub, *wire.Request) object { return newDict() }
	makers["space"] = makers["dict"]
}

// dict maps keys to values, in the order in which the keys were first set. A value is never
// changed, only replaced: what was handed out stays what it was. Every operation costs the same
// however many keys there are, apart from items; append copies the value.
type dict struct {
	places map[string]*list.Element
	order  list.List // of *entry
	bytes  int64     // of keys and values
}

type entry struct {
	key   string
	value []byte
}

func newDict() *dict { return &dict{places: make(map[string]*list.Element)} }

func (d *dict) do(a *ask) {
	switch a.Op {
	case wire.DictGet, wire.SpaceGet:
		d.get(a)
	case wire.DictSet, wire.SpaceSet:
		d.setOne(a)
	case wire.DictSetDefault:
		d.setDefault(a)
	case wire.DictDelete, wire.SpaceDelete:
		d.remove(a)
	case wire.DictPop:
		d.pop(a)
	case wire.DictPopItem:
		d.popItem(a)
	case wire.DictIncr:
		d.incr(a)
	case wire.DictAppend:
		d.append(a)
	case wire.DictSwap:
		d.swap(a)
	case wire.DictUpdate:
		d.update(a)
	case wire.DictClear:
		*d = *newDict()
		a.answer(wire.Reply{})
	case wire.DictLen:
		a.answer(wire.Reply{N: int64(len(d.places))})
	case wire.DictItems, wire.SpaceItems:
		a.answer(wire.Reply{Values: d.items()})
	default:
		a.unknown()
	}
}

// at is the entry of a key, or nil.
func (d *dict) at(key []byte) *entry {
	if place := d.places[string(key)]; place != nil {
		return place.Value.(*entry)
	}
	return nil
}

func (d *dict) set(key, value []byte) {
	if e := d.at(key); e != nil {
		d.bytes += int64(len(value) - len(e.value))
		e.value = value
		return
	}
	e := &entry{key: string(key), value: value}
	d.places[e.key] = d.order.PushBack(e)
	d.bytes += int64(len(key) + len(value))
}

func (d *dict) delete(e *entry) {
	d.order.Remove(d.places[e.key])
	delete(d.places, e.key)
	d.bytes -= int64(len(e.key) + len(e.value))
}

// found is the entry of the key that a names. If there is none, it answers, and returns nil.
func (d *dict) found(a *ask) *entry {
	e := d.at(a.Key)
	if e == nil {
		a.refuse(wire.FaultMissing, "the %s %q has no key %.80q", a.Op.Kind(), a.Object, readable(a.Key))
	}
	return e
}

func (d *dict) get(a *ask) {
	if e := d.found(a); e != nil {
		a.answer(one(e.value))
	}
}

func (d *dict) setOne(a *ask) {
	if a.hasValues(1) {
		d.set(a.Key, a.Values[0])
		a.answer(wire.Reply{})
	}
}

func (d *dict) setDefault(a *ask) {
	if !a.hasValues(1) {
		return
	}
	if e := d.at(a.Key); e != nil {
		a.answer(one(e.value))
		return
	}
	d.set(a.Key, a.Values[0])
	r := one(a.Values[0])
	r.Flag = true
	a.answer(r)
}

func (d *dict) remove(a *ask) {
	if e := d.found(a); e != nil {
		d.delete(e)
		a.answer(wire.Reply{})
	}
}

func (d *dict) pop(a *ask) {
	if e := d.found(a); e != nil {
		d.delete(e)
		a.answer(one(e.value))
	}
}

func (d *dict) popItem(a *ask) {
	last := d.order.Back()
	if last == nil {
		a.refuse(wire.FaultMissing, "the dict %q is empty", a.Object)
		return
	}
	e := last.Value.(*entry)
	d.delete(e)
	a.answer(wire.Reply{Values: [][]byte{[]byte(e.key), e.value}})
}

func (d *dict) incr(a *ask) {
	if !a.hasValues(1) {
		return
	}
	old := zero
	if e := d.at(a.Key); e != nil {
		old = e.value
	}
	sum, err := add(old, a.Values[0])
	if err != nil {
		a.fail(err, "add to the key %.80q of the dict %q", readable(a.Key), a.Object)
		return
	}
	d.set(a.Key, sum)
	a.answer(one(sum))
}

func (d *dict) append(a *ask) {
	var old []byte
	if e := d.at(a.Key); e != nil {
		old = e.value
	}
	longer, n, err := extend(old, a.Values)
	if err != nil {
		a.fail(err, "append to the key %.80q of the dict %q", readable(a.Key), a.Object)
		return
	}
	d.set(a.Key, longer)
	a.answer(wire.Reply{N: int64(n)})
}

func (d *dict) swap(a *ask) {
	if !a.hasValues(2) {
		return
	}
	var now []byte
	e := d.at(a.Key)
	if e != nil {
		now = e.value
	}
	done := bytes.Equal(now, a.Values[0])
	if done {
		now = a.Values[1]
		switch {
		case len(now) > 0:
			d.set(a.Key, now)
		case e != nil:
			d.delete(e)
		}
	}
	r := wire.Reply{Flag: done}
	if len(now) > 0 {
		r.Values = [][]byte{now}
	}
	a.answer(r)
}

func (d *dict) update(a *ask) {
	if len(a.Values)%2 != 0 {
		a.refuse(wire.FaultRefused, "%s needs a value for each key, not %d in all", a.Op, len(a.Values))
		return
	}
	for i := 0; i < len(a.Values); i += 2 {
		d.set(a.Values[i], a.Values[i+1])
	}
	a.answer(wire.Reply{})
}

func (d *dict) items() [][]byte {
	items := make([][]byte, 0, 2*len(d.places))
	for place := d.order.Front(); place != nil; place = place.Next() {
		e := place.Value.(*entry)
		items = append(items, []byte(e.key), e.value)
	}
	return items
}

func (d *dict) cancel(*ask) {} // nobody waits for a dict

func (d *dict) leave(*member) {}

func (d *dict) drop() {}

func (d *dict) describe(o *wire.Object) {
	o.State = fmt.Sprintf("%d keys", len(d.places))
	o.Bytes = d.bytes + entryCost*int64(len(d.places))
}

func (d *dict) idle() bool { return len(d.places) == 0 }

// one is a reply of one value.
func one(value []byte) wire.Reply { return wire.Reply{Values: [][]byte{value}} }

// hasValues reports whether a has n values. If not, it answers.
func (a *ask) hasValues(n int) bool {
	if len(a.Values) != n {
		a.refuse(wire.FaultRefused, "%s needs %d values, not %d", a.Op, n, len(a.Values))
	}
	return len(a.Values) == n
}

// readable is a key as people have written it, if it is text or a number.
func readable(key []byte) string {
	text, err := value.AppendText(nil, key)
	if err != nil {
		return string(key)
	}
	return string(text)
}
