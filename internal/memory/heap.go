package memory

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	// Small is the length of the largest block, in bytes, that shares its pages with others.
	Small = 2 << 10

	// unit is what large blocks are multiples of, and what small ones are cut from. The page size of
	// every system divides it, so that a large block can be mapped, and punched out, alone.
	unit = 64 << 10

	// segment is what a process maps at once for small blocks. It begins at a multiple of itself.
	segment = 1 << 20

	smallest = 8 // bytes of the smallest block, which is one word
	classes  = 9 // of small blocks: 8, 16, 32 up to 2048 bytes
)

// heap decides where blocks lie. It knows offsets alone, and is pure. It gives no block at offset
// 0, which may stand for none.
//
// Large blocks are whole units. They lie in the gap that they fit best, else behind everything
// else. Small ones have the next power of two of bytes, at a multiple of it, in a unit of blocks of
// the same size.
type heap struct {
	limit int64 // of the offsets
	top   int64 // behind everything that is used
	used  int64 // bytes of all live blocks, rounded up
	gaps  gaps  // below top
	large map[int64]int64
	small map[int64]*slots // by the offset of their unit
	roomy [classes][]*slots
}

func newHeap(limit int64) *heap {
	return &heap{limit: limit, top: unit, gaps: newGaps(), large: make(map[int64]int64), small: make(map[int64]*slots)}
}

// alloc finds a place for n bytes, of which there are 1 or more. It takes a binary search in the
// gaps, or a look at up to 128 words of bits.
func (h *heap) alloc(n int64) (offset int64, ok bool) {
	if n > Small {
		return h.allocLarge(n)
	}
	class := classOf(n)
	if len(h.roomy[class]) == 0 {
		at, ok := h.units(unit)
		if !ok {
			return 0, false
		}
		s := newSlots(at, class)
		h.small[at] = s
		h.roomy[class] = append(h.roomy[class], s)
	}
	last := len(h.roomy[class]) - 1
	s := h.roomy[class][last]
	offset = s.take()
	if s.full() {
		h.roomy[class] = h.roomy[class][:last]
	}
	h.used += s.size()
	return offset, true
}

func (h *heap) allocLarge(n int64) (offset int64, ok bool) {
	if n > h.limit { // rounding it up might overflow
		return 0, false
	}
	n = (n + unit - 1) / unit * unit
	offset, ok = h.units(n)
	if ok {
		h.large[offset] = n
		h.used += n
	}
	return offset, ok
}

// units finds n bytes, which are whole units.
func (h *heap) units(n int64) (offset int64, ok bool) {
	if offset, ok = h.gaps.take(n); ok {
		return offset, true
	}
	if n > h.limit-h.top {
		return 0, false
	}
	offset = h.top
	h.top += n
	return offset, true
}

// free ends a block. It returns the units that nobody uses now, if any: once they are zero, give
// makes them available. ok is unset if there is no such block.
func (h *heap) free(offset int64) (empty span, ok bool) {
	if n, large := h.large[offset]; large {
		delete(h.large, offset)
		h.used -= n
		return span{offset, n}, true
	}
	s := h.small[offset/unit*unit]
	if s == nil || !s.has(offset) {
		return span{}, false
	}
	wasFull := s.full()
	s.free(offset)
	h.used -= s.size()
	roomy := &h.roomy[s.class]
	if wasFull {
		*roomy = append(*roomy, s)
	}
	// The last unit of a class stays, or one value that comes and goes would take and give a unit
	// each time.
	if s.live > 0 || len(*roomy) == 1 {
		return span{}, true
	}
	*roomy = slices.DeleteFunc(*roomy, func(other *slots) bool { return other == s })
	delete(h.small, s.at)
	return span{s.at, unit}, true
}

// give makes units available that free has returned.
func (h *heap) give(s span) {
	if s.length == 0 {
		return
	}
	if whole := h.gaps.add(s); whole.end() == h.top {
		h.gaps.remove(whole)
		h.top = whole.start
	}
}

// classOf is the size class of n bytes: those of class c have smallest<<c bytes.
func classOf(n int64) int { return bits.Len64(uint64(max(n, smallest)-1) / smallest) }

// slots is a unit that is cut into blocks of one size.
type slots struct {
	at    int64
	class int
	live  int
	taken []uint64 // a bit for each block
}

func newSlots(at int64, class int) *slots {
	return &slots{at: at, class: class, taken: make([]uint64, (unit/(smallest<<class)+63)/64)}
}

func (s *slots) size() int64 { return smallest << s.class }

func (s *slots) full() bool { return s.live == unit>>s.class/smallest }

// take finds the first free block, of which there is one.
func (s *slots) take() (offset int64) {
	word := slices.IndexFunc(s.taken, func(w uint64) bool { return w != ^uint64(0) })
	bit := bits.TrailingZeros64(^s.taken[word])
	s.taken[word] |= 1 << bit
	s.live++
	return s.at + int64(word*64+bit)*s.size()
}

// place is where the bit of a block is.
func (s *slots) place(offset int64) (word int64, mask uint64) {
	i := (offset - s.at) / s.size()
	return i / 64, 1 << (i % 64)
}

// has reports whether a block that is taken begins at offset.
func (s *slots) has(offset int64) bool {
	word, mask := s.place(offset)
	return offset%s.size() == 0 && s.taken[word]&mask != 0
}

func (s *slots) free(offset int64) {
	word, mask := s.place(offset)
	s.taken[word] &^= mask
	s.live--
}

// span is some bytes of the file.
type span struct{ start, length int64 }

func (s span) end() int64 { return s.start + s.length }

// gaps is spans that nobody uses; no two of them touch.
type gaps struct {
	bySize  []span          // the shortest first, and of the same length the one that begins first
	lengths map[int64]int64 // by start
	starts  map[int64]int64 // by end
}

func newGaps() gaps { return gaps{lengths: make(map[int64]int64), starts: make(map[int64]int64)} }

func shorter(a, b span) int {
	return cmp.Or(cmp.Compare(a.length, b.length), cmp.Compare(a.start, b.start))
}

// add joins a span with those that touch it, and returns the whole.
func (g *gaps) add(s span) span {
	if start, ok := g.starts[s.start]; ok {
		before := span{start, s.start - start}
		g.remove(before)
		s = span{start, before.length + s.length}
	}
	if length, ok := g.lengths[s.end()]; ok {
		behind := span{s.end(), length}
		g.remove(behind)
		s.length += behind.length
	}
	g.insert(s)
	return s
}

// take cuts n bytes from the beginning of the shortest gap that has them.
func (g *gaps) take(n int64) (start int64, ok bool) {
	i, _ := slices.BinarySearchFunc(g.bySize, span{length: n}, shorter)
	if i == len(g.bySize) {
		return 0, false
	}
	s := g.bySize[i]
	g.remove(s)
	if s.length > n {
		g.insert(span{s.start + n, s.length - n})
	}
	return s.start, true
}

func (g *gaps) insert(s span) {
	i, _ := slices.BinarySearchFunc(g.bySize, s, shorter)
	g.bySize = slices.Insert(g.bySize, i, s)
	g.lengths[s.start] = s.length
	g.starts[s.end()] = s.start
}

func (g *gaps) remove(s span) {
	i, _ := slices.BinarySearchFunc(g.bySize, s, shorter)
	g.bySize = slices.Delete(g.bySize, i, i+1)
	delete(g.lengths, s.start)
	delete(g.starts, s.end())
}
