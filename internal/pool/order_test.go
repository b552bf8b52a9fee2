package pool

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestOrderPrintsEachCallOnceAndInOneStretch plays random runs: calls print and
// finish in any order, and what comes out must be whole calls, in input order if that
// was asked for.
func TestOrderPrintsEachCallOnceAndInOneStretch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]Order{Unordered, Ordered, Collected}).Draw(t, "order")
		n := rapid.IntRange(1, 12).Draw(t, "calls")
		o := newOrder(mode)
		var printed []uint64 // the call of each piece and each end, in print order
		running := make([]uint64, n)
		for i := range running {
			running[i] = uint64(i + 1)
		}
		pieces := map[uint64]int{} // waiting
		want := map[uint64]int{}
		emit := func(seq uint64, n int) {
			for range n {
				printed = append(printed, seq)
			}
		}
		for len(running) > 0 {
			i := rapid.IntRange(0, len(running)-1).Draw(t, "who")
			seq := running[i]
			if rapid.Bool().Draw(t, "prints") {
				want[seq]++
				if o.prints(seq) {
					emit(seq, pieces[seq]+1)
					pieces[seq] = 0
				} else {
					pieces[seq]++
				}
				continue
			}
			running = slices.Delete(running, i, i+1)
			want[seq]++
			if want[seq] == 1 && o.passes(seq) { // it has printed nothing: what the deliverer tries first
				emit(seq, 1)
			} else {
				o.finished(&entry{call: &Call{Seq: seq}})
			}
			for e := o.next(); e != nil; e = o.next() {
				emit(e.call.Seq, pieces[e.call.Seq]+1)
				pieces[e.call.Seq] = 0
			}
		}
		blocks := slices.Compact(slices.Clone(printed))
		if len(blocks) != n {
			t.Fatalf("%d calls were printed in the stretches %v", n, blocks)
		}
		if mode != Unordered && !slices.IsSorted(blocks) {
			t.Fatalf("printed in the order %v", blocks)
		}
		for seq, pieces := range want {
			got := 0
			for _, p := range printed {
				if p == seq {
					got++
				}
			}
			if got != pieces {
				t.Fatalf("call %d: %d pieces of %d were printed", seq, got, pieces)
			}
		}
	})
}

// BenchmarkOrder brings calls in order that have ended in it, or a hundred at a time in the opposite one.
func BenchmarkOrder(b *testing.B) {
	for _, tt := range []struct {
		name string
		at   func(i uint64) uint64
	}{
		{"as they come", func(i uint64) uint64 { return i }},
		{"backwards", func(i uint64) uint64 { return i/100*100 + 99 - i%100 }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			o, i := newOrder(Ordered), uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				seq := tt.at(i) + 1
				i++
				if o.passes(seq) {
					continue
				}
				o.finished(&entry{call: &Call{Seq: seq}})
				for e := o.next(); e != nil; e = o.next() {
				}
			}
		})
	}
}
