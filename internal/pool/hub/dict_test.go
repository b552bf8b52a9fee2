package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/pool/hub/wire"
)

// wantItems asserts what a dict has, in order.
func wantItems(t testing.TB, f *fake, want string) {
	t.Helper()
	wantTexts(t, f.done(wire.DictItems), want)
}

func TestDict(t *testing.T) {
	_, a, b := two(t)
	a.refused(wire.FaultMissing, wire.DictGet, key("k"))
	a.refused(wire.FaultMissing, wire.DictDelete, key("k"))
	a.refused(wire.FaultMissing, wire.DictPop, key("k"))
	a.refused(wire.FaultMissing, wire.DictPopItem)
	a.done(wire.DictSet, key("k"), values("1"))
	b.done(wire.DictSet, key("l"), values("2"))
	b.done(wire.DictSet, key("k"), values("3")) // keeps its place
	wantItems(t, a, "k 3 l 2")
	wantTexts(t, a.done(wire.DictGet, key("k")), "3")
	a.done(wire.DictUpdate, values("m", "4", "k", "5", "", "6"))
	wantItems(t, a, "k 5 l 2 m 4  6")
	wantTexts(t, a.done(wire.DictPopItem), " 6")
	wantTexts(t, a.done(wire.DictPop, key("k")), "5")
	a.done(wire.DictDelete, key("l"))
	a.done(wire.DictSet, key("k"), values("7")) // has a new place
	wantItems(t, b, "m 4 k 7")
	wantN(t, b.done(wire.DictLen), 2)
	b.done(wire.DictClear)
	wantItems(t, a, "")
	wantN(t, b.done(wire.DictLen), 0)
}

func TestDictRefuses(t *testing.T) {
	_, a, _ := two(t)
	for _, op := range []wire.Op{wire.DictSet, wire.DictSetDefault, wire.DictIncr, wire.DictSwap, wire.SpaceSet} {
		a.refused(wire.FaultRefused, op, key("k"))
		a.refused(wire.FaultRefused, op, key("k"), values("1", "2", "3"))
	}
	a.refused(wire.FaultRefused, wire.DictUpdate, values("k"))
	a.refused(wire.FaultRefused, "dict.nonsense")
	a.refused(wire.FaultRefused, "space.incr", key("k"), values("\x01"))
	wantN(t, a.done(wire.DictLen), 0)
}

func TestDictSetDefault(t *testing.T) {
	_, a, b := two(t)
	for i, f := range []*fake{a, b} {
		r := f.done(wire.DictSetDefault, key("k"), values(f.name))
		if wantTexts(t, r, "a"); r.Flag != (i == 0) {
			t.Fatalf("the default of %s: %+v", f.name, r)
		}
	}
}

func TestDictSwap(t *testing.T) {
	_, a, _ := two(t)
	for _, test := range []struct {
		old, new string
		done     bool
		now      string
	}{
		{"1", "2", false, ""}, // nothing there
		{"", "1", true, "1"},
		{"", "2", false, "1"},
		{"2", "3", false, "1"},
		{"1", "3", true, "3"},
		{"3", "", true, ""},
		{"", "", true, ""},
	} {
		r := a.done(wire.DictSwap, key("k"), values(test.old, test.new))
		if r.Flag != test.done || texts(r) != test.now || len(r.Values) != min(1, len(test.now)) {
			t.Fatalf("swap of %q for %q: %+v", test.old, test.new, r)
		}
	}
	wantN(t, a.done(wire.DictLen), 0)
}

func TestDictArithmetic(t *testing.T) {
	_, a, b := two(t)
	for _, f := range []*fake{a, b, a} {
		f.done(wire.DictIncr, key("n"), values(packed(t, 2)))
		f.done(wire.DictAppend, key("l"), values(packed(t, f.name), packed(t, "-")))
	}
	wantTexts(t, a.done(wire.DictGet, key("n")), packed(t, 6))
	wantTexts(t, a.done(wire.DictIncr, key("n"), values(packed(t, -7))), packed(t, -1))
	wantTexts(t, a.done(wire.DictIncr, key("f"), values(packed(t, 0.5))), packed(t, 0.5))
	wantTexts(t, a.done(wire.DictGet, key("l")), packed(t, strings.Split("a-b-a-", "")[:6]))
	wantN(t, a.done(wire.DictAppend, key("l"), values(packed(t, "x"))), 7)
}

// Conformance F8: attributes are set, read, deleted. A space and a dict of one name are two.
func TestSpace(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.SpaceSet, key("x"), values("1"))
	b.done(wire.SpaceSet, key("y"), values("2"))
	wantTexts(t, b.done(wire.SpaceGet, key("x")), "1")
	a.done(wire.SpaceDelete, key("x"))
	b.refused(wire.FaultMissing, wire.SpaceGet, key("x"))
	b.refused(wire.FaultMissing, wire.SpaceDelete, key("x"))
	wantTexts(t, a.done(wire.SpaceItems), "y 2")
	wantItems(t, a, "")
}

// Conformance F5: what was returned is of one moment, and stays as it is.
func TestDictItemsStay(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.DictUpdate, values("k", packed(t, 1), "l", packed(t, []int{1})))
	r := a.done(wire.DictItems)
	before := texts(r)
	b.done(wire.DictIncr, key("k"), values(packed(t, 1)))
	b.done(wire.DictAppend, key("l"), values(packed(t, 2)))
	b.done(wire.DictClear)
	wantTexts(t, r, before)
}

func TestDictDescribed(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.DictUpdate, values("k", "123", "l", "4"))
	a.done(wire.DictSet, key("k"), values("12"))
	o := a.described("dict", "x")
	want := wire.Object{Kind: "dict", Name: "x", State: "2 keys", Bytes: 5 + 2*entryCost}
	if fmt.Sprint(o) != fmt.Sprint(want) {
		t.Fatalf("described as %v, want %v", o, want)
	}
	a.leave()
	if b.leave(); h.Idle() {
		t.Fatal("a dict with keys is said to be idle")
	}
}

// A dict is a map, with its keys in a slice.
func TestDictIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDict()
		h := New()
		h.objects["dict/x"] = d
		m := h.Join(wire.Peer{})
		model, order := map[string]string{}, []string{}
		set := func(k, v string) {
			if _, there := model[k]; !there {
				order = append(order, k)
			}
			model[k] = v
		}
		remove := func(k string) string {
			v := model[k]
			delete(model, k)
			order = slices.DeleteFunc(order, func(o string) bool { return o == k })
			return v
		}
		for i := range rapid.IntRange(1, 80).Draw(t, "steps") {
			k := rapid.SampledFrom(strings.Fields("a b cc ddd")).Draw(t, "key")
			v := fmt.Sprint(i)
			now, there := model[k]
			ask := wire.Request{Object: "x", Key: []byte(k), Values: [][]byte{[]byte(v)}}
			want := ""
			switch op := rapid.IntRange(0, 6).Draw(t, "op"); op {
			case 0, 1:
				ask.Op = wire.DictSet
				set(k, v)
			case 2:
				ask.Op, want = wire.DictPop, remove(k)
			case 3:
				ask.Op = wire.DictPopItem
				if len(order) > 0 {
					last := order[len(order)-1]
					want = last + " " + remove(last)
				}
			case 4:
				ask.Op, want = wire.DictSetDefault, now
				if !there {
					set(k, v)
					want = v
				}
			case 5:
				ask.Op, want = wire.DictGet, now
			case 6:
				ask.Op = wire.DictSwap
				ask.Values = [][]byte{[]byte(now), ask.Values[0]}
				set(k, v)
				want = v
			}
			m.Do(1, &ask, func(r wire.Reply) {
				if texts(r) != want {
					t.Fatalf("%s of %s: %+v, want %q", ask.Op, k, r, want)
				}
			})
			checkDict(t, d, model, order)
		}
	})
}

func checkDict(t *rapid.T, d *dict, model map[string]string, order []string) {
	var want []string
	size := 0
	for _, k := range order {
		want = append(want, k, model[k])
		size += len(k) + len(model[k])
	}
	got := texts(wire.Reply{Values: d.items()})
	if got != strings.Join(want, " ") || d.bytes != int64(size) || d.order.Len() != len(d.places) {
		t.Fatalf("the dict has %q (%d bytes), want %q (%d)", got, d.bytes, want, size)
	}
}
