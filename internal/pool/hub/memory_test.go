package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/memory"
	"gpool/internal/pool/hub/wire"
)

// of is the type of a block in a request, make says that it may be made.
func of(letter memory.Type) func(*wire.Request) { return func(r *wire.Request) { r.M = int64(letter) } }
func memoryNamed(name string) func(*wire.Request) {
	return func(r *wire.Request) { r.Object = name }
}

func mayMake(r *wire.Request) { r.Flag = true }

// word puts numbers into a request, as words.
func word(list ...uint64) func(*wire.Request) {
	return func(r *wire.Request) {
		for _, w := range list {
			r.Values = append(r.Values, binary.NativeEndian.AppendUint64(nil, w))
		}
	}
}

func negative(n int64) uint64 { return uint64(n) }

func wantWord(t testing.TB, r wire.Reply, want uint64) {
	t.Helper()
	if len(r.Values) != 1 || len(r.Values[0]) != 8 || binary.NativeEndian.Uint64(r.Values[0]) != want {
		t.Errorf("the reply has the values %x, want the word %x", r.Values, want)
	}
}

// memoryHub is a hub with two members whose memory ends with the test.
func memoryHub(t testing.TB) (h *Hub, a, b *fake) {
	t.Helper()
	h, a, b = two(t)
	t.Cleanup(h.End)
	return h, a, b
}

// wantUsed asserts how many bytes of memory all blocks take.
func wantUsed(t interface{ Errorf(string, ...any) }, h *Hub, when string, want int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := h.shared.arena.Used(); got != want {
		t.Errorf("%s: %d bytes of shared memory are used, want %d", when, got, want)
	}
}

// viewOf maps what a reply to MemOpen has told, as another process would.
func viewOf(t testing.TB, h *Hub, r wire.Reply) *memory.Block {
	t.Helper()
	file, err := h.SharedFile()
	if err != nil {
		t.Fatal(err)
	}
	m, err := memory.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, err := m.Map(r.N, r.M)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Unmap)
	return b
}

// D4, D6, D17: who opens a block by its name has the same memory.
func TestMemoryIsOpenedByName(t *testing.T) {
	h, a, b := memoryHub(t)
	for _, n := range []int64{8, 2000, 1 << 20} {
		name := memoryNamed(fmt.Sprintf("#%d", n))
		made := a.done(wire.MemOpen, name, initial(n), of('B'), mayMake, values("begin"))
		found := b.done(wire.MemOpen, name, initial(n), of('B'), mayMake, values("other"))
		if !made.Flag || found.Flag || made.N != found.N || made.N == 0 || made.M != n || found.M != n {
			t.Errorf("%d bytes were opened as %+v and %+v", n, made, found)
		}
		if got := viewOf(t, h, found).Bytes()[:6]; string(got) != "begin\x00" {
			t.Errorf("they begin with %q", got)
		}
	}
}

// D14
func TestMemoryThatCannotBe(t *testing.T) {
	h, a, b := memoryHub(t)
	h.LimitMemory(1 << 20)
	for what, r := range map[string][]func(*wire.Request){
		"no size":         {initial(0)},
		"a negative size": {initial(math.MinInt64)},
		"no type":         {initial(8), of(0)},
		"no such type":    {initial(8), of('c')},
		"a wide type":     {initial(8), func(r *wire.Request) { r.M = 'q' + 256 }},
		"a long value":    {initial(2), values("abc")},
		"two values":      {initial(8), values("a", "b")},
	} {
		t.Run(what, func(t *testing.T) {
			a.refused(wire.FaultRefused, wire.MemOpen, append([]func(*wire.Request){of('q'), mayMake}, r...)...)
		})
	}
	for _, n := range []int64{1 << 20, 1 << 50, math.MaxInt64} {
		a.refused(wire.FaultNoRoom, wire.MemOpen, initial(n), of('q'), mayMake)
	}
	a.refused(wire.FaultMissing, wire.MemOpen, initial(8), of('q'))
	a.refused(wire.FaultMissing, wire.ValueLoad, of('q'))
	a.refused(wire.FaultMissing, wire.MemSent)
	a.refused(wire.FaultRefused, wire.MemFile)
	a.done(wire.MemDrop) // nothing to drop is fine
	if len(h.objects) > 0 {
		t.Errorf("%d objects are left of what was refused", len(h.objects))
	}
	a.done(wire.MemOpen, initial(8), of('q'), mayMake)
	b.refused(wire.FaultMismatch, wire.MemOpen, initial(16), of('q'))
	b.refused(wire.FaultMismatch, wire.MemOpen, initial(8), of('Q'), mayMake)
	b.refused(wire.FaultMismatch, wire.ValueLoad, of('d'))
	a.done(wire.MemOpen, memoryNamed("long"), initial(16), of('q'), mayMake)
	b.refused(wire.FaultMismatch, wire.ValueLoad, memoryNamed("long"), of('q'), mayMake)
	if n := len(b.m.(*member).touched); n != 0 {
		t.Errorf("a member that has nothing has touched %d objects", n)
	}
}

// D18: a handle to a block that was freed is stale, which is an error.
func TestMemoryIsFreedWithItsLastUser(t *testing.T) {
	open := func(f *fake, change ...func(*wire.Request)) wire.Reply {
		return f.done(wire.MemOpen, append([]func(*wire.Request){memoryNamed("#x"), initial(64), of('i')}, change...)...)
	}
	mem := memoryNamed("#x")
	for what, free := range map[string]func(a, b *fake){
		"it drops it":       func(a, b *fake) { a.done(wire.MemDrop, mem) },
		"it ends":           func(a, b *fake) { a.leave() },
		"it opened twice":   func(a, b *fake) { open(a); open(a); a.done(wire.MemDrop, mem) },
		"both drop":         func(a, b *fake) { open(b); a.done(wire.MemDrop, mem); b.done(wire.MemDrop, mem) },
		"the other ends":    func(a, b *fake) { open(b); a.leave(); b.leave() },
		"sent and received": func(a, b *fake) { a.done(wire.MemSent, mem); open(b); a.leave(); b.leave() },
		"sent twice": func(a, b *fake) {
			a.done(wire.MemSent, mem)
			a.done(wire.MemSent, mem)
			a.done(wire.MemDrop, mem)
			open(b)
			b.done(wire.MemDrop, mem)
		},
		"its name is dropped": func(a, b *fake) { b.done(wire.Drop, memoryNamed("mem/#x")); a.done(wire.MemDrop, mem) },
		"dropped, and it ends": func(a, b *fake) {
			a.done(wire.MemSent, mem)
			b.done(wire.Drop, memoryNamed("mem/#x"))
			a.leave()
		},
	} {
		t.Run(what, func(t *testing.T) {
			h, a, b := memoryHub(t)
			open(a, mayMake)
			wantUsed(t, h, "while it is open", 64)
			free(a, b)
			wantUsed(t, h, "when nobody has it", 0)
			join(t, h, "c").refused(wire.FaultMissing, wire.MemOpen, mem, initial(64), of('i'))
			if len(h.objects) > 0 || len(h.shared.nameless) > 0 {
				t.Errorf("the hub remembers %v and %v", h.objects, h.shared.nameless)
			}
		})
	}
}

func TestMemoryIsKeptForWhoIsYetToReceiveIt(t *testing.T) {
	h, a, b := memoryHub(t)
	r := a.done(wire.MemOpen, memoryNamed("#x"), initial(8), of('q'), mayMake)
	a.done(wire.MemSent, memoryNamed("#x"))
	a.done(wire.MemOpen, memoryNamed("#x"), initial(8), of('q')) // it is not the one that it was sent to
	a.leave()
	wantUsed(t, h, "on its way", 8)
	if got := b.done(wire.MemOpen, memoryNamed("#x"), initial(8), of('q')); got.N != r.N || got.Flag {
		t.Errorf("it is received as %+v, and was sent as %+v", got, r)
	}
	b.done(wire.MemDrop, memoryNamed("#x"))
	wantUsed(t, h, "after it was received", 0)
}

func TestMemoryThatAPersonNamedStays(t *testing.T) {
	h, a, b := memoryHub(t)
	a.done(wire.ValueStore, memoryNamed("count"), of('q'), mayMake, word(7))
	a.done(wire.MemDrop, memoryNamed("count"))
	a.leave()
	wantWord(t, b.done(wire.ValueLoad, memoryNamed("count"), of('q')), 7)
	b.leave()
	if h.Idle() {
		t.Error("the hub says that nothing would be missed")
	}
	join(t, h, "c").done(wire.Drop, memoryNamed("mem/count"))
	wantUsed(t, h, "after Drop", 0)
}

// After Drop a name can be used again, and who has the old block still has it alone.
func TestADroppedNameIsFree(t *testing.T) {
	for _, told := range []bool{true, false} {
		h, a, b := memoryHub(t)
		old := a.done(wire.MemOpen, initial(8), of('q'), mayMake, word(1))
		b.done(wire.Drop, memoryNamed("mem/x"))
		fresh := a.done(wire.MemOpen, initial(8), of('q'), mayMake, word(2))
		if !fresh.Flag || fresh.N == old.N {
			t.Fatalf("the old block is %+v and the new one %+v", old, fresh)
		}
		if got := memory.Load[int64](viewOf(t, h, old).Word(0)); got != 1 {
			t.Errorf("the old block holds %d", got)
		}
		if told {
			a.done(wire.MemDrop, count(fresh.N)) // a person's name: it stays
			a.done(wire.MemDrop, count(fresh.N))
			wantUsed(t, h, "the old block is still mapped", 16)
			a.done(wire.MemDrop, count(old.N))
		} else {
			a.done(wire.MemDrop)
		}
		wantUsed(t, h, "the old block is gone", 8)
		wantWord(t, b.done(wire.ValueLoad, of('q')), 2)
	}
}

// D1, D2, and F24 by way of the hub.
func TestValuesAreTheSameMemory(t *testing.T) {
	h, a, b := memoryHub(t)
	a.done(wire.ValueStore, of('b'), mayMake, word(0x7f00+127)) // only 8 bits count
	r := b.done(wire.MemOpen, initial(8), of('b'))
	w := viewOf(t, h, r).Word(0)
	if got := memory.Load[int8](w); got != 127 {
		t.Errorf("what the hub stored is read as %d", got)
	}
	wantWord(t, a.done(wire.ValueAdd, of('b'), word(1)), negative(-128))
	if got := memory.Add(w, int8(-1)); got != 127 {
		t.Errorf("the sum is %d", got)
	}
	wantWord(t, b.done(wire.ValueLoad, of('b')), 127)
	if r := a.done(wire.ValueSwap, of('b'), word(126, 1)); r.Flag {
		t.Error("what it does not hold was swapped")
	} else {
		wantWord(t, r, 127)
	}
	r = a.done(wire.ValueSwap, of('b'), word(127, negative(-5)))
	wantWord(t, r, negative(-5))
	if !r.Flag || memory.Load[int8](w) != -5 {
		t.Errorf("the swap says %v, and the memory %d", r.Flag, memory.Load[int8](w))
	}
}

func TestValuesOfOtherTypes(t *testing.T) {
	_, a, _ := memoryHub(t)
	for letter, want := range map[memory.Type]uint64{
		'd': math.Float64bits(1.5), 'f': uint64(math.Float32bits(1.5)), '?': 1, 'L': math.MaxUint64,
	} {
		name := memoryNamed("a " + letter.String())
		wantWord(t, a.done(wire.ValueLoad, name, of(letter), mayMake), 0)
		wantWord(t, a.done(wire.ValueAdd, name, of(letter), word(want)), want)
		wantWord(t, a.done(wire.ValueLoad, name, of(letter)), want)
	}
}

func TestWhatIsNoWordIsRefused(t *testing.T) {
	h, a, _ := memoryHub(t)
	for _, op := range []wire.Op{wire.ValueStore, wire.ValueAdd, wire.ValueSwap} {
		for _, list := range [][]string{nil, {"short"}, {"longer than 8"}, {"12345678", "short"}, {"12345678", "12345678", "12345678"}} {
			a.refused(wire.FaultRefused, op, of('q'), mayMake, values(list...))
		}
	}
	a.refused(wire.FaultRefused, wire.ValueLoad, of('q'), mayMake, word(1))
	a.refused(wire.FaultRefused, wire.ValueSwap, of('q'), mayMake, word(1))
	a.refused(wire.FaultRefused, "value.divide", of('q'), mayMake)
	if len(h.objects) > 0 {
		t.Errorf("%d objects are left", len(h.objects))
	}
}

func TestMemoryDescribesItself(t *testing.T) {
	_, a, b := memoryHub(t)
	for _, f := range []*fake{b, a} {
		f.done(wire.MemOpen, initial(800), of('d'), mayMake)
	}
	a.done(wire.MemSent)
	d := a.described("mem", "x")
	if d.State != "800 bytes of type d, sent" || strings.Join(d.Holders, " ") != "a b" || d.Bytes != 800 {
		t.Errorf("it is described as %+v", d)
	}
}

func TestTheFileEndsWithTheHub(t *testing.T) {
	h, a, _ := memoryHub(t)
	file, err := h.SharedFile()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := h.SharedFile(); again != file {
		t.Error("there are two files")
	}
	r := a.done(wire.MemOpen, initial(8), of('q'), mayMake, word(9))
	b := viewOf(t, h, r)
	for range 2 {
		h.End()
	}
	if got := memory.Load[int64](b.Word(0)); got != 9 {
		t.Errorf("what is mapped has become %d", got)
	}
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is open: %v", err)
	}
	if _, err := h.SharedFile(); err == nil {
		t.Error("there is a file after the end")
	}
	a.refused(wire.FaultGone, wire.ValueLoad, of('q'))
	b.Unmap()
	if maps, _ := os.ReadFile("/proc/self/maps"); strings.Contains(string(maps), "gpool shared memory") {
		t.Error("the memory is still mapped")
	}
}

// D9: handles end in cleanups, on a goroutine of the runtime's, while others make new ones.
func TestMemoryIsFreedByTheCollector(t *testing.T) {
	h := New()
	defer h.End()
	m := h.Join(wire.Peer{From: "a"})
	type handle struct{ name string }
	var last atomic.Uint64
	call := func(r *wire.Request) wire.Reply {
		answer := make(chan wire.Reply, 1)
		m.Do(last.Add(1), r, func(r wire.Reply) { answer <- r })
		return <-answer
	}
	var freed, making sync.WaitGroup
	for g := range 4 {
		making.Go(func() {
			for i := range 300 {
				name := fmt.Sprintf("#%d-%d", g, i)
				if r := call(&wire.Request{Op: wire.MemOpen, Object: name, Init: int64(1 + i*40), M: 'b', Flag: true}); r.Fault != "" {
					t.Errorf("%s: %s", name, r.Text)
				}
				freed.Add(1)
				runtime.AddCleanup(&handle{name}, func(name string) {
					defer freed.Done()
					call(&wire.Request{Op: wire.MemDrop, Object: name})
				}, name)
				if i%50 == 0 {
					runtime.GC()
				}
			}
		})
	}
	making.Wait()
	done := make(chan struct{})
	go func() { freed.Wait(); close(done) }()
	for collected := false; !collected; runtime.GC() {
		select {
		case <-done:
			collected = true
		default:
		}
	}
	wantUsed(t, h, "when all handles are gone", 0)
}

// model is what a test knows of one block.
type model struct {
	name           string
	users, senders map[*fake]bool
	dropped        bool
}

func (b *model) wanted() bool {
	return !b.dropped && !strings.HasPrefix(b.name, "#") || len(b.users) > 0 || len(b.senders) > 0
}

// models are all blocks that were ever made, the oldest first, of which one of a name has not been dropped or freed.
type models []*model

func (list models) named(name string) *model {
	for _, b := range list {
		if b.name == name && !b.dropped && b.wanted() {
			return b
		}
	}
	return nil
}

func (list *models) open(f *fake, name string) {
	b := list.named(name)
	r := f.done(wire.MemOpen, memoryNamed(name), initial(8), of('q'), mayMake)
	if r.Flag != (b == nil) {
		f.t.Fatalf("%s: it was made: %v", name, r.Flag)
	}
	if b == nil {
		b = &model{name: name, users: make(map[*fake]bool), senders: make(map[*fake]bool)}
		*list = append(*list, b)
	}
	b.users[f] = true
	maps.DeleteFunc(b.senders, func(sender *fake, _ bool) bool { return sender != f })
}

func (list models) drop(f *fake, name string) {
	f.done(wire.MemDrop, memoryNamed(name))
	for _, b := range list {
		if b.name == name && b.users[f] {
			delete(b.users, f)
			return
		}
	}
}

func (list models) sent(f *fake, name string) {
	if b := list.named(name); b != nil {
		f.done(wire.MemSent, memoryNamed(name))
		if !b.users[f] { // it passes on what was sent to it
			clear(b.senders)
		}
		b.senders[f] = true
	}
}

func (list models) forget(f *fake, name string) {
	if b := list.named(name); b != nil {
		f.done(wire.Drop, memoryNamed("mem/"+name))
		b.dropped = true
		clear(b.senders)
	}
}

func (list models) end(f *fake) {
	f.leave()
	for _, b := range list {
		delete(b.users, f)
	}
}

// Random scripts of members that open, drop, send, end, and drop names.
func TestMemoryIsFreedWhenNobodyWantsIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, members := fakes(t, "a", "b", "c")
		defer h.End()
		if _, err := h.SharedFile(); err != nil {
			rt.Fatal(err)
		}
		var all models
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "member")
			f, name := members[i], rapid.SampledFrom([]string{"#p", "#q", "person"}).Draw(rt, "name")
			switch rapid.SampledFrom([]string{"open", "open", "drop", "sent", "end", "forget"}).Draw(rt, "what") {
			case "open":
				all.open(f, name)
			case "drop":
				all.drop(f, name)
			case "sent":
				all.sent(f, name)
			case "forget":
				all.forget(f, name)
			case "end":
				all.end(f)
				members[i] = join(t, h, f.name)
			}
			wanted := 0
			for _, b := range all {
				if b.wanted() {
					wanted++
				}
			}
			wantUsed(rt, h, "after a step", int64(8*wanted))
		}
	})
}
