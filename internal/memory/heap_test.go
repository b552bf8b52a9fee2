package memory

import (
	"testing"

	"pgregory.net/rapid"
)

// blocks are those that a test has been given: their lengths, by offset.
type blocks map[int64]int64

// take allocates n bytes and checks that nobody else has them.
func (b blocks) take(t *rapid.T, h *heap, n int64) {
	at, ok := h.alloc(n)
	if !ok {
		if n <= h.limit-h.top {
			t.Fatalf("no room for %d bytes, and %d are behind all others", n, h.limit-h.top)
		}
		return
	}
	align := int64(unit)
	if n <= Small {
		align = min(h.small[at/unit*unit].size(), 64)
	}
	if at <= 0 || at%align != 0 || at+n > h.top || h.top > h.limit {
		t.Fatalf("%d bytes lie at %d of %d, to be aligned to %d", n, at, h.top, align)
	}
	if n <= Small && at/segment != (at+n-1)/segment {
		t.Fatalf("%d bytes at %d lie in two segments", n, at)
	}
	for other, m := range b {
		if at < other+m && other < at+n {
			t.Fatalf("%d bytes at %d overlap %d at %d", n, at, m, other)
		}
	}
	b[at] = n
}

// drop frees a block, and then cannot do it again.
func (b blocks) drop(t *rapid.T, h *heap, at int64) {
	empty, ok := h.free(at)
	if !ok {
		t.Fatalf("the block at %d cannot be freed", at)
	}
	delete(b, at)
	for other, m := range b {
		if other < empty.end() && empty.start < other+m {
			t.Fatalf("%d bytes at %d became empty with %d live ones at %d", empty.length, empty.start, m, other)
		}
	}
	h.give(empty)
	if _, ok := h.free(at); ok {
		t.Fatalf("the block at %d was freed twice", at)
	}
}

func (b blocks) check(t *rapid.T, h *heap) {
	var used int64
	for _, n := range b {
		rounded := (n + unit - 1) / unit * unit
		if n <= Small {
			rounded = smallest << classOf(n)
		}
		used += rounded
	}
	if used != h.used {
		t.Fatalf("%d bytes are used, it says %d", used, h.used)
	}
	for i, s := range h.gaps.bySize {
		if s.end() >= h.top || h.gaps.lengths[s.start] != s.length || h.gaps.starts[s.end()] != s.start {
			t.Fatalf("the gap %v is no gap", s)
		}
		if _, touches := h.gaps.lengths[s.end()]; touches || i > 0 && shorter(h.gaps.bySize[i-1], s) >= 0 {
			t.Fatalf("the gaps %v are not joined and sorted", h.gaps.bySize)
		}
	}
}

func TestBlocksNeverOverlapAndFreedSpaceIsFoundAgain(t *testing.T) {
	lengths := rapid.OneOf(rapid.Int64Range(1, 64), rapid.Int64Range(1, Small), rapid.Int64Range(Small+1, 20*unit))
	rapid.Check(t, func(t *rapid.T) {
		h := newHeap(rapid.Int64Range(1, 10).Draw(t, "limit in segments") * segment)
		live := make(blocks)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			if len(live) == 0 || rapid.IntRange(0, 2).Draw(t, "take or drop") > 0 {
				live.take(t, h, lengths.Draw(t, "length"))
			} else {
				live.drop(t, h, rapid.SampledFrom(sorted(live)).Draw(t, "which"))
			}
			live.check(t, h)
		}
		for _, at := range sorted(live) {
			live.drop(t, h, at)
		}
		live.check(t, h)
		empty := int64(len(h.small)+1) * unit // one of each class stays, and nothing lies in the first
		for _, gap := range h.gaps.bySize {
			empty += gap.length
		}
		if len(h.small) > classes || empty != h.top {
			t.Errorf("nothing is left, and %d bytes of %d can be had", empty, h.top)
		}
	})
}

// Small blocks fill a unit before they take another one, and give back all but the last.
func TestUnitsOfSmallBlocksComeAndGo(t *testing.T) {
	for n := int64(smallest); n <= Small; n *= 2 {
		h := newHeap(segment)
		var offsets []int64
		for at, ok := h.alloc(n); ok; at, ok = h.alloc(n) {
			offsets = append(offsets, at)
		}
		if want := (segment - unit) / n; int64(len(offsets)) != want || h.used != want*n {
			t.Errorf("there are %d blocks of %d bytes, want %d", len(offsets), n, want)
		}
		again := offsets[len(offsets)/2]
		h.free(again)
		if at, _ := h.alloc(n); at != again {
			t.Errorf("the one that was freed is at %d, and the next one at %d", again, at)
		}
		for _, at := range offsets {
			empty, _ := h.free(at)
			h.give(empty)
		}
		if len(h.small) != 1 || h.used != 0 {
			t.Errorf("%d units and %d bytes of blocks of %d bytes are left", len(h.small), h.used, n)
		}
	}
}

func TestTheBestGapIsTaken(t *testing.T) {
	h := newHeap(100 * unit)
	offsets := make([]int64, 0, 8)
	for _, units := range []int64{3, 1, 5, 1, 2, 1, 4, 1} {
		at, _ := h.alloc(units * unit)
		offsets = append(offsets, at)
	}
	for _, i := range []int{0, 2, 4, 6} { // 3, 5, 2 and 4 units, with one block between each
		empty, _ := h.free(offsets[i])
		h.give(empty)
	}
	for _, step := range []struct{ units, from int64 }{{4, offsets[6]}, {2, offsets[4]}, {3, offsets[0]}, {1, offsets[2]}} {
		if at, _ := h.alloc(step.units * unit); at != step.from {
			t.Errorf("%d units are at %d, want %d", step.units, at, step.from)
		}
	}
}

func TestWhatIsNoBlockCannotBeFreed(t *testing.T) {
	h := newHeap(10 * segment)
	word, _ := h.alloc(8)
	large, _ := h.alloc(3 * unit)
	for _, at := range []int64{-8, 0, 1, word + 1, word + 8, large + unit, 1 << 40, -1 << 63, 1<<63 - 1} {
		if _, ok := h.free(at); ok {
			t.Errorf("something at %d was freed", at)
		}
	}
}

func TestALengthBeyondAllIsRefused(t *testing.T) {
	h := newHeap(segment)
	for _, n := range []int64{segment, segment + 1, 1 << 62, 1<<63 - 1} {
		if at, ok := h.alloc(n); ok {
			t.Errorf("%d bytes are at %d", n, at)
		}
	}
	if _, ok := h.alloc(segment - unit); !ok {
		t.Error("the largest that fits was refused")
	}
}
