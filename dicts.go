package gpool

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

// Dict is a map that processes share. It keeps the order in which keys were first set. Keys and values are copies, as in Python's
// manager: what was got does not change the dict. Each method is done at once for all processes (it is atomic), and costs a round trip to the hub;
// Incr, SetDefault, CompareAndSwap and [DictAppend] are there so that none needs a lock.
type Dict[K comparable, V any] struct{ ref }

// Item is one key of a [Dict] with its value.
type Item[K comparable, V any] struct {
	Key   K
	Value V
}

// NewDict makes a dict.
func NewDict[K comparable, V any](h Hub, o ...ObjectOption) Dict[K, V] {
	return Dict[K, V]{newHandle(h, "dict", 0, o)}
}

// keyed makes a request about a key.
func (d Dict[K, V]) keyed(op wire.Op, key K, values ...V) (*wire.Request, error) {
	r := d.request(op)
	var err error
	if r.Key, err = encodeShared(&key, d.ref); err != nil {
		return nil, err
	}
	for i := range values {
		b, err := encodeShared(&values[i], d.ref)
		if err != nil {
			return nil, err
		}
		r.Values = append(r.Values, b)
	}
	return r, nil
}

// ask does a request about a key. That the key is missing is no error.
func (d Dict[K, V]) ask(op wire.Op, key K, values ...V) (reply wire.Reply, found bool, err error) {
	r, err := d.keyed(op, key, values...)
	if err != nil {
		return reply, false, err
	}
	reply, err = d.call(context.Background(), r)
	if refused(err, wire.FaultMissing) {
		return reply, false, nil
	}
	return reply, err == nil, err
}

// one decodes the value of a reply.
func (d Dict[K, V]) one(reply wire.Reply) (v V, err error) {
	if len(reply.Values) == 0 {
		return v, nil
	}
	return v, decodeShared(reply.Values[0], &v, d.ref)
}

// Get returns the value of a key, and whether it has one.
func (d Dict[K, V]) Get(key K) (v V, ok bool, err error) {
	reply, ok, err := d.ask(wire.DictGet, key)
	if ok {
		v, err = d.one(reply)
	}
	return v, ok, err
}

// Set gives a key a value.
func (d Dict[K, V]) Set(key K, v V) error {
	_, _, err := d.ask(wire.DictSet, key, v)
	return err
}

// SetDefault gives a key a value if it has none, and returns the one that it has then, and whether this call has set it.
func (d Dict[K, V]) SetDefault(key K, v V) (now V, set bool, err error) {
	reply, _, err := d.ask(wire.DictSetDefault, key, v)
	if err == nil {
		now, err = d.one(reply)
	}
	return now, reply.Flag, err
}

// Delete removes a key, and reports whether it was there.
func (d Dict[K, V]) Delete(key K) (bool, error) {
	_, ok, err := d.ask(wire.DictDelete, key)
	return ok, err
}

// Pop removes a key and returns its value, and whether it was there.
func (d Dict[K, V]) Pop(key K) (v V, ok bool, err error) {
	reply, ok, err := d.ask(wire.DictPop, key)
	if ok {
		v, err = d.one(reply)
	}
	return v, ok, err
}

// PopItem removes the key that was set first last, and reports whether there was one.
func (d Dict[K, V]) PopItem() (item Item[K, V], ok bool, err error) {
	reply, err := d.call(context.Background(), d.request(wire.DictPopItem))
	if refused(err, wire.FaultMissing) {
		return item, false, nil
	}
	if err != nil {
		return item, false, err
	}
	items, err := d.items(reply)
	if len(items) == 1 {
		return items[0], true, err
	}
	return item, false, err
}

// Incr adds to the number of a key, and returns the sum. A key without one counts as 0. What is no number is [ErrWrongType].
func (d Dict[K, V]) Incr(key K, by V) (sum V, err error) {
	reply, _, err := d.ask(wire.DictIncr, key, by)
	if err == nil {
		sum, err = d.one(reply)
	}
	return sum, err
}

// CompareAndSwap sets a key to a value if it has the other one: if their encodings are the same.
func (d Dict[K, V]) CompareAndSwap(key K, old, new V) (bool, error) {
	reply, _, err := d.ask(wire.DictSwap, key, old, new)
	return reply.Flag, err
}

// DictAppend adds elements to the list of a key, which may be missing, and returns its length.
func DictAppend[K comparable, E any](d Dict[K, []E], key K, elements ...E) (int, error) {
	if reflect.TypeFor[E]().Kind() == reflect.Uint8 {
		return 0, fmt.Errorf("gpool: append to %s: bytes travel as one value, to which nothing can be appended: use Set", d.what())
	}
	r, err := d.keyed(wire.DictAppend, key)
	if err != nil {
		return 0, err
	}
	for i := range elements {
		b, err := encodeShared(&elements[i], d.ref)
		if err != nil {
			return 0, err
		}
		r.Values = append(r.Values, b)
	}
	reply, err := d.call(context.Background(), r)
	return int(reply.N), err
}

// Update sets all keys of a map at once.
func (d Dict[K, V]) Update(m map[K]V) error {
	r := d.request(wire.DictUpdate)
	for key, v := range m {
		k, err := encodeShared(&key, d.ref)
		if err != nil {
			return err
		}
		b, err := encodeShared(&v, d.ref)
		if err != nil {
			return err
		}
		r.Values = append(r.Values, k, b)
	}
	_, err := d.call(context.Background(), r)
	return err
}

// Clear removes all keys.
func (d Dict[K, V]) Clear() error {
	_, err := d.call(context.Background(), d.request(wire.DictClear))
	return err
}

// Len is the number of keys.
func (d Dict[K, V]) Len() (int, error) {
	reply, err := d.call(context.Background(), d.request(wire.DictLen))
	return int(reply.N), err
}

// Items returns all keys with their values, as they are at one moment, in their order. What changes meanwhile does not matter to it.
func (d Dict[K, V]) Items() ([]Item[K, V], error) {
	reply, err := d.call(context.Background(), d.request(wire.DictItems))
	if err != nil {
		return nil, err
	}
	return d.items(reply)
}

func (d Dict[K, V]) items(reply wire.Reply) ([]Item[K, V], error) {
	items := make([]Item[K, V], len(reply.Values)/2)
	for i := range items {
		if err := decodeShared(reply.Values[2*i], &items[i].Key, d.ref); err != nil {
			return nil, err
		}
		if err := decodeShared(reply.Values[2*i+1], &items[i].Value, d.ref); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// Map returns a copy as a map.
func (d Dict[K, V]) Map() (map[K]V, error) {
	items, err := d.Items()
	if err != nil {
		return nil, err
	}
	m := make(map[K]V, len(items))
	for _, item := range items {
		m[item.Key] = item.Value
	}
	return m, nil
}

// MarshalBinary makes the handle a value that can travel.
func (d Dict[K, V]) MarshalBinary() ([]byte, error) { return d.marshal() }

// MarshalText is [Dict.MarshalBinary], for JSON and the like.
func (d Dict[K, V]) MarshalText() ([]byte, error) { return d.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (d *Dict[K, V]) UnmarshalBinary(b []byte) error { return d.unmarshal(b, "dict") }

// UnmarshalText reads what MarshalText has written.
func (d *Dict[K, V]) UnmarshalText(text []byte) error { return d.UnmarshalBinary(text) }

// List is a list that processes share. Its elements are copies. Each method is atomic, and costs a round trip to the hub. An index
// below 0 counts from the end; one that is out of range is [ErrStaleHandle].
type List[T any] struct{ ref }

// NewList makes a list.
func NewList[T any](h Hub, o ...ObjectOption) List[T] { return List[T]{newHandle(h, "list", 0, o)} }

func (l List[T]) ask(op wire.Op, n int, values ...T) (wire.Reply, error) {
	r := l.request(op)
	r.N = int64(n)
	for i := range values {
		b, err := encodeShared(&values[i], l.ref)
		if err != nil {
			return wire.Reply{}, err
		}
		r.Values = append(r.Values, b)
	}
	return l.call(context.Background(), r)
}

// one decodes the element of a reply.
func (l List[T]) one(reply wire.Reply, err error) (v T, _ error) {
	if err != nil || len(reply.Values) == 0 {
		return v, err
	}
	return v, decodeShared(reply.Values[0], &v, l.ref)
}

// Append adds elements at the end, and returns the length.
func (l List[T]) Append(elements ...T) (int, error) {
	reply, err := l.ask(wire.ListAppend, 0, elements...)
	return int(reply.N), err
}

// Get returns an element.
func (l List[T]) Get(i int) (T, error) { return l.one(l.ask(wire.ListGet, i)) }

// Set replaces an element.
func (l List[T]) Set(i int, v T) error {
	_, err := l.ask(wire.ListSet, i, v)
	return err
}

// Insert puts an element before another one. As in Python, no index is out of range for it.
func (l List[T]) Insert(i int, v T) error {
	_, err := l.ask(wire.ListInsert, i, v)
	return err
}

// Pop removes an element and returns it.
func (l List[T]) Pop(i int) (T, error) { return l.one(l.ask(wire.ListPop, i)) }

// Slice returns the elements from one index up to another, as a slice of Python's with both given.
func (l List[T]) Slice(from, to int) ([]T, error) {
	r := l.request(wire.ListSlice)
	r.N, r.M = int64(from), int64(to)
	reply, err := l.call(context.Background(), r)
	if err != nil {
		return nil, err
	}
	elements := make([]T, len(reply.Values))
	for i, b := range reply.Values {
		if err := decodeShared(b, &elements[i], l.ref); err != nil {
			return nil, err
		}
	}
	return elements, nil
}

// Elements returns all elements.
func (l List[T]) Elements() ([]T, error) { return l.Slice(0, 1<<62) }

// Len is the number of elements.
func (l List[T]) Len() (int, error) {
	reply, err := l.ask(wire.ListLen, 0)
	return int(reply.N), err
}

// Clear removes all elements.
func (l List[T]) Clear() error {
	_, err := l.ask(wire.ListClear, 0)
	return err
}

// CompareAndSwap replaces an element if it is a certain one: if their encodings are the same.
func (l List[T]) CompareAndSwap(i int, old, new T) (bool, error) {
	reply, err := l.ask(wire.ListSwap, i, old, new)
	return reply.Flag, err
}

// Incr adds to an element that is a number, and returns the sum.
func (l List[T]) Incr(i int, by T) (T, error) { return l.one(l.ask(wire.ListIncr, i, by)) }

// MarshalBinary makes the handle a value that can travel.
func (l List[T]) MarshalBinary() ([]byte, error) { return l.marshal() }

// MarshalText is [List.MarshalBinary], for JSON and the like.
func (l List[T]) MarshalText() ([]byte, error) { return l.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (l *List[T]) UnmarshalBinary(b []byte) error { return l.unmarshal(b, "list") }

// UnmarshalText reads what MarshalText has written.
func (l *List[T]) UnmarshalText(text []byte) error { return l.UnmarshalBinary(text) }

// Namespace is a set of names with values of any types.
type Namespace struct{ ref }

// NewNamespace makes a namespace.
func NewNamespace(h Hub, o ...ObjectOption) Namespace {
	return Namespace{newHandle(h, "space", 0, o)}
}

func (n Namespace) named(op wire.Op, name string) *wire.Request {
	r := n.request(op)
	r.Key, _ = value.Append(nil, &name) // text can be encoded
	return r
}

// Set gives a name a value.
func (n Namespace) Set(name string, v any) error {
	r := n.named(wire.SpaceSet, name)
	b, err := encodeShared(&v, n.ref)
	if err != nil {
		return err
	}
	r.Values = [][]byte{b}
	_, err = n.call(context.Background(), r)
	return err
}

// NamespaceGet returns the value of a name, and whether it has one.
func NamespaceGet[T any](n Namespace, name string) (v T, ok bool, err error) {
	reply, err := n.call(context.Background(), n.named(wire.SpaceGet, name))
	switch {
	case refused(err, wire.FaultMissing):
		return v, false, nil
	case err != nil || len(reply.Values) != 1:
		return v, false, err
	}
	return v, true, decodeShared(reply.Values[0], &v, n.ref)
}

// Delete removes a name, and reports whether it had a value.
func (n Namespace) Delete(name string) (bool, error) {
	_, err := n.call(context.Background(), n.named(wire.SpaceDelete, name))
	if refused(err, wire.FaultMissing) {
		return false, nil
	}
	return err == nil, err
}

// String is like Namespace(a=1, b="x"), as Python has it; of a hub that cannot be reached it is the error.
func (n Namespace) String() string {
	reply, err := n.call(context.Background(), n.request(wire.SpaceItems))
	if err != nil {
		return fmt.Sprintf("Namespace(%v)", err)
	}
	var fields []string
	for i := 0; i+1 < len(reply.Values); i += 2 {
		var name string
		text, err := value.AppendJSON(nil, reply.Values[i+1])
		if err != nil || value.Decode(reply.Values[i], &name) != nil {
			continue
		}
		fields = append(fields, name+"="+string(text))
	}
	return "Namespace(" + strings.Join(fields, ", ") + ")"
}

// MarshalBinary makes the handle a value that can travel.
func (n Namespace) MarshalBinary() ([]byte, error) { return n.marshal() }

// MarshalText is [Namespace.MarshalBinary], for JSON and the like.
func (n Namespace) MarshalText() ([]byte, error) { return n.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (n *Namespace) UnmarshalBinary(b []byte) error { return n.unmarshal(b, "space") }

// UnmarshalText reads what MarshalText has written.
func (n *Namespace) UnmarshalText(text []byte) error { return n.UnmarshalBinary(text) }
