package hub

import (
	"bytes"
	"fmt"
	"slices"

	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["list"] = func(*Hub, *wire.Request) object { return &sequence{} }
}

// sequence is the list of those who share one. A value is never changed, only replaced. To append
// and to pop at either end costs the same however long the list is; to insert and to pop
// elsewhere moves what is behind, 24 bytes a value.
type sequence struct {
	values [][]byte
	bytes  int64
}

func (s *sequence) do(a *ask) {
	switch a.Op {
	case wire.ListAppend:
		s.insert(len(s.values), a.Values...)
		a.answer(wire.Reply{N: int64(len(s.values))})
	case wire.ListGet:
		if i, ok := s.index(a); ok {
			a.answer(one(s.values[i]))
		}
	case wire.ListSet:
		s.setOne(a)
	case wire.ListInsert:
		if a.hasValues(1) {
			s.insert(s.clamp(a.N), a.Values[0])
			a.answer(wire.Reply{})
		}
	case wire.ListPop:
		if i, ok := s.index(a); ok {
			a.answer(one(s.take(i)))
		}
	case wire.ListSlice:
		from, to := s.clamp(a.N), s.clamp(a.M)
		a.answer(wire.Reply{Values: slices.Clone(s.values[from:max(from, to)])})
	case wire.ListLen:
		a.answer(wire.Reply{N: int64(len(s.values))})
	case wire.ListClear:
		*s = sequence{}
		a.answer(wire.Reply{})
	case wire.ListSwap:
		s.swap(a)
	case wire.ListIncr:
		s.incr(a)
	default:
		a.unknown()
	}
}

// index is the place that a names. If there is none, it answers.
func (s *sequence) index(a *ask) (i int, ok bool) {
	at, n := a.N, int64(len(s.values))
	if at < 0 {
		at += n
	}
	if at < 0 || at >= n {
		a.refuse(wire.FaultMissing, "the list %q has no index %d: it has %d elements", a.Object, a.N, n)
		return 0, false
	}
	return int(at), true
}

// clamp is the place between two values that is nearest to index at.
func (s *sequence) clamp(at int64) int {
	n := int64(len(s.values))
	if at < 0 {
		at += n
	}
	return int(min(max(at, 0), n))
}

func (s *sequence) insert(i int, values ...[]byte) {
	s.values = slices.Insert(s.values, i, values...)
	for _, v := range values {
		s.bytes += int64(len(v))
	}
}

func (s *sequence) set(i int, value []byte) {
	s.bytes += int64(len(value) - len(s.values[i]))
	s.values[i] = value
}

// take removes a value. The memory of a list that has become much shorter is given up.
func (s *sequence) take(i int) []byte {
	value := s.values[i]
	if i == 0 {
		s.values[0] = nil
		s.values = s.values[1:]
	} else {
		s.values = slices.Delete(s.values, i, i+1)
	}
	if cap(s.values) > 64 && len(s.values) < cap(s.values)/4 {
		s.values = slices.Clone(s.values)
	}
	s.bytes -= int64(len(value))
	return value
}

func (s *sequence) setOne(a *ask) {
	if !a.hasValues(1) {
		return
	}
	if i, ok := s.index(a); ok {
		s.set(i, a.Values[0])
		a.answer(wire.Reply{})
	}
}

func (s *sequence) swap(a *ask) {
	if !a.hasValues(2) {
		return
	}
	i, ok := s.index(a)
	if !ok {
		return
	}
	done := bytes.Equal(s.values[i], a.Values[0])
	if done {
		s.set(i, a.Values[1])
	}
	r := one(s.values[i])
	r.Flag = done
	a.answer(r)
}

func (s *sequence) incr(a *ask) {
	if !a.hasValues(1) {
		return
	}
	i, ok := s.index(a)
	if !ok {
		return
	}
	sum, err := add(s.values[i], a.Values[0])
	if err != nil {
		a.fail(err, "add to index %d of the list %q", a.N, a.Object)
		return
	}
	s.set(i, sum)
	a.answer(one(sum))
}

func (s *sequence) cancel(*ask) {} // nobody waits for a list

func (s *sequence) leave(*member) {}

func (s *sequence) drop() {}

func (s *sequence) describe(o *wire.Object) {
	o.State = fmt.Sprintf("%d elements", len(s.values))
	o.Bytes = s.bytes + entryCost*int64(len(s.values))
}

func (s *sequence) idle() bool { return len(s.values) == 0 }
