package hub

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/pool/hub/wire"
)

func to(m int64) func(*wire.Request) { return func(r *wire.Request) { r.M = m } }

func TestList(t *testing.T) {
	_, a, b := two(t)
	a.refused(wire.FaultMissing, wire.ListGet)
	a.refused(wire.FaultMissing, wire.ListPop, count(-1))
	wantN(t, a.done(wire.ListAppend, values("a", "b", "c")), 3)
	wantN(t, b.done(wire.ListAppend, values("d")), 4)
	wantTexts(t, a.done(wire.ListGet, count(-1)), "d")
	wantTexts(t, a.done(wire.ListGet, count(1)), "b")
	a.refused(wire.FaultMissing, wire.ListGet, count(4))
	a.refused(wire.FaultMissing, wire.ListGet, count(-5))
	a.refused(wire.FaultMissing, wire.ListSet, count(math.MinInt64), values("x"))
	a.done(wire.ListSet, count(-4), values("A"))
	wantTexts(t, b.done(wire.ListPop, count(2)), "c")
	wantTexts(t, b.done(wire.ListPop), "A")
	wantN(t, b.done(wire.ListLen), 2)
	a.done(wire.ListClear)
	wantN(t, b.done(wire.ListLen), 0)
}

func TestListInsertAndSlice(t *testing.T) {
	_, a, _ := two(t)
	for _, at := range []int64{0, 5, -9, 1, -1} { // the value is the index; Python 3 gives this list
		a.done(wire.ListInsert, count(at), values(fmt.Sprint(at)))
	}
	for _, test := range []struct {
		from, to int64
		want     string
	}{
		{0, 5, "-9 1 0 -1 5"}, {0, math.MaxInt64, "-9 1 0 -1 5"}, {math.MinInt64, -1, "-9 1 0 -1"}, {-2, 5, "-1 5"},
		{1, 3, "1 0"}, {3, 1, ""}, {9, 12, ""}, {-3, -1, "0 -1"},
	} {
		wantTexts(t, a.done(wire.ListSlice, count(test.from), to(test.to)), test.want)
	}
}

func TestListSwapAndIncr(t *testing.T) {
	_, a, _ := two(t)
	a.done(wire.ListAppend, values("a", packed(t, 40)))
	for _, test := range []struct {
		old, new, now string
		done          bool
	}{{"x", "b", "a", false}, {"a", "b", "b", true}, {"a", "c", "b", false}} {
		r := a.done(wire.ListSwap, values(test.old, test.new))
		if wantTexts(t, r, test.now); r.Flag != test.done {
			t.Fatalf("swap of %q for %q: %+v", test.old, test.new, r)
		}
	}
	wantTexts(t, a.done(wire.ListIncr, count(-1), values(packed(t, 2))), packed(t, 42))
	a.refused(wire.FaultMissing, wire.ListIncr, count(2), values(packed(t, 2)))
	a.refused(wire.FaultMissing, wire.ListSwap, count(2), values("a", "b"))
}

func TestListRefuses(t *testing.T) {
	_, a, _ := two(t)
	for _, op := range []wire.Op{wire.ListSet, wire.ListInsert, wire.ListSwap, wire.ListIncr} {
		a.refused(wire.FaultRefused, op)
		a.refused(wire.FaultRefused, op, values("1", "2", "3"))
	}
	a.refused(wire.FaultRefused, "list.nonsense")
}

func TestListDescribed(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.ListAppend, values("123", "4"))
	o := a.described("list", "x")
	want := wire.Object{Kind: "list", Name: "x", State: "2 elements", Bytes: 4 + 2*entryCost}
	if fmt.Sprint(o) != fmt.Sprint(want) {
		t.Fatalf("described as %v, want %v", o, want)
	}
	a.done(wire.ListClear)
	a.leave()
	if b.leave(); !h.Idle() {
		t.Fatal("an empty list keeps the hub busy")
	}
}

// Conformance F7: a list holds whatever bytes there are; those that were returned stay as they are.
func TestListSliceStays(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.ListAppend, values("a", "b"))
	r := a.done(wire.ListSlice, to(2))
	b.done(wire.ListSet, values("c"))
	b.done(wire.ListPop)
	b.done(wire.ListInsert, values("d"))
	wantTexts(t, r, "a b")
}

// A list is a slice, and keeps no more memory than it needs.
func TestListIsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sequence
		var model []string
		for i := range rapid.IntRange(1, 300).Draw(t, "steps") {
			v := fmt.Sprint(i)
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				at := rapid.IntRange(0, len(model)).Draw(t, "at")
				s.insert(at, []byte(v), []byte("+"))
				model = slices.Insert(model, at, v, "+")
			case 2, 3:
				if len(model) > 0 {
					at := rapid.SampledFrom([]int{0, len(model) / 2, len(model) - 1}).Draw(t, "at")
					first := s.values[:1]
					if got := string(s.take(at)); got != model[at] {
						t.Fatalf("took %q, want %q", got, model[at])
					}
					if at == 0 && first[0] != nil {
						t.Fatalf("what was taken, %q, is kept", first[0])
					}
					model = slices.Delete(model, at, at+1)
				}
			case 4:
				if len(model) > 0 {
					at := rapid.IntRange(0, len(model)-1).Draw(t, "at")
					s.set(at, []byte(v))
					model[at] = v
				}
			}
			all := strings.Join(model, " ")
			if got := texts(wire.Reply{Values: s.values}); got != all || s.bytes != int64(len(strings.Join(model, ""))) {
				t.Fatalf("the list is %q of %d bytes, want %q", got, s.bytes, all)
			}
			for _, behind := range s.values[len(s.values):cap(s.values)] {
				if behind != nil {
					t.Fatalf("what was taken, %q, is kept", behind)
				}
			}
		}
	})
}
