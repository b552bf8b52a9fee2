package memory

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func sorted(m blocks) []int64 { return slices.Sorted(maps.Keys(m)) }

func newTestArena(t testing.TB, limit int64) *Arena {
	t.Helper()
	a, err := NewArena(limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// plainArena is over a file that cannot be sealed, as where there is no memory without a name.
func plainArena(t testing.TB, limit int64) *Arena {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(segment); err != nil {
		t.Fatal(err)
	}
	a, err := newArena(file, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if a.sealed {
		t.Error("a file with a name was sealed")
	}
	return a
}

func view(t testing.TB, a *Arena) *Memory {
	t.Helper()
	m, err := Open(a.File())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func alloc(t testing.TB, a *Arena, length int64, first string) int64 {
	t.Helper()
	offset, err := a.Alloc(length, []byte(first))
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

func mapped(t testing.TB, m *Memory, offset, length int64) *Block {
	t.Helper()
	b, err := m.Map(offset, length)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Unmap)
	return b
}

var arenas = map[string]func(testing.TB, int64) *Arena{"without a name": newTestArena, "plain file": plainArena}

// D5, D14: what is allocated is zero, also where something was before.
func TestWhatIsAllocatedAgainIsZero(t *testing.T) {
	for what, make := range arenas {
		t.Run(what, func(t *testing.T) {
			a := make(t, 8<<20)
			m := view(t, a)
			for range 3 {
				for _, n := range []int64{8, 100, Small, Small + 1, unit, 3<<20 + 5} {
					offset := alloc(t, a, n, "begin")
					b := mapped(t, m, offset, n)
					if !bytes.Equal(b.Bytes()[:5], []byte("begin")) || len(bytes.Trim(b.Bytes()[5:], "\x00")) > 0 {
						t.Errorf("%d bytes at %d are not as they must begin", n, offset)
					}
					for i := range b.Bytes() {
						b.Bytes()[i] = 0xff
					}
					b.Unmap()
					a.Free(offset)
				}
			}
			if a.Used() != 0 {
				t.Errorf("%d bytes are used when none are", a.Used())
			}
		})
	}
}

func TestWhereThereAreNoHolesZerosAreWritten(t *testing.T) {
	a := plainArena(t, 8<<20)
	offset := alloc(t, a, 2*unit, strings.Repeat("x", 2*unit))
	kept := alloc(t, a, unit, "kept")
	readOnly, err := os.Open(a.file.Name()) // no hole can be punched through it
	if err != nil {
		t.Fatal(err)
	}
	own := a.file
	a.file = readOnly
	if err := a.erase(offset, 2*unit); err == nil {
		t.Error("zeros were written to a file that cannot be written to")
	}
	a.Free(offset)
	a.file = own
	readOnly.Close()
	if again := alloc(t, a, 2*unit, ""); again == offset || again < kept {
		t.Errorf("space that is not zero was given away: %d", again)
	}
}

func TestLargeBlocksGiveTheirMemoryBack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files have no holes here")
	}
	a := newTestArena(t, 64<<20)
	offset := alloc(t, a, 32<<20, strings.Repeat("x", 32<<20))
	before := taken(t, a.File())
	a.Free(offset)
	if after := taken(t, a.File()); before < 32<<20 || after > 1<<20 {
		t.Errorf("the file took %d bytes, and takes %d", before, after)
	}
}

// D14
func TestWhatCannotBeAllocated(t *testing.T) {
	a := newTestArena(t, 4<<20)
	for _, n := range []int64{0, -1, -1 << 63, 4} {
		if offset, err := a.Alloc(n, make([]byte, 5)); err == nil {
			t.Errorf("%d bytes are at %d", n, offset)
		}
	}
	for _, n := range []int64{4 << 20, 1 << 50, 1<<63 - 1} {
		if offset, err := a.Alloc(n, nil); !errors.Is(err, ErrNoRoom) {
			t.Errorf("%d bytes are at %d: %v", n, offset, err)
		}
	}
	if a.Used() != 0 {
		t.Errorf("%d bytes are used", a.Used())
	}
	defer func() {
		if recover() == nil {
			t.Error("what is no block was freed")
		}
	}()
	a.Free(unit)
}

func TestTheLimit(t *testing.T) {
	for limit, want := range map[int64]int64{1: segment, segment: segment, segment + 1: 2 * segment, 1<<63 - 1: MaxLimit} {
		if got := newTestArena(t, limit).Limit(); got != want {
			t.Errorf("the limit of %d is %d, want %d", limit, got, want)
		}
	}
	if half := newTestArena(t, 0).Limit(); half < 64<<20 {
		t.Errorf("half of the machine's memory is %d bytes", half)
	}
}

// D4, D17
func TestTwoViewsAreTheSameMemory(t *testing.T) {
	a := newTestArena(t, 0)
	for _, n := range []int64{8, 64, Small, 5 << 20} {
		offset := alloc(t, a, n, "")
		one, other := mapped(t, view(t, a), offset, n), mapped(t, view(t, a), offset, n)
		if int64(len(one.Bytes())) != n || cap(one.Bytes()) != len(one.Bytes()) {
			t.Errorf("the slice is %d of %d bytes, want %d", len(one.Bytes()), cap(one.Bytes()), n)
		}
		last := int(n/8 - 1)
		Store(one.Word(last), -7)
		if got := Load[int](other.Word(last)); got != -7 {
			t.Errorf("the other one reads %d", got)
		}
	}
}

func TestUnmapAndCloseInAnyOrder(t *testing.T) {
	a := newTestArena(t, 0)
	m := view(t, a)
	small, large := alloc(t, a, 8, "ab"), alloc(t, a, unit, "cd")
	first, second, alone := mapped(t, m, small, 8), mapped(t, m, small, 8), mapped(t, m, large, unit)
	for range 2 {
		first.Unmap()
	}
	if first.Bytes() != nil {
		t.Error("there are bytes after Unmap")
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if string(second.Bytes()[:2])+string(alone.Bytes()[:2]) != "abcd" || len(m.segments) != 1 {
		t.Error("what is in use is gone when the memory is closed")
	}
	if _, err := m.Map(small, 8); !errors.Is(err, ErrClosed) {
		t.Errorf("a block of closed memory: %v", err)
	}
	alone.Unmap()
	second.Unmap()
	if len(m.segments) != 0 {
		t.Errorf("%d segments stay mapped", len(m.segments))
	}
}

// D18: what cannot be is an error, and never a fault when it is touched.
func TestMapRefusesWhatIsNotThere(t *testing.T) {
	a := newTestArena(t, 4<<20)
	m := view(t, a)
	for _, place := range []span{
		{-8, 8}, {0, 0}, {0, -1}, {1<<63 - 8, 16}, {1<<63 - 1, 1<<63 - 1}, {4, 8}, {segment - 8, 16},
		{unit + 4096, unit}, {segment, 8}, {0, segment + 1}, {unit, segment}, {1 << 50, 1 << 20},
	} {
		if b, err := m.Map(place.start, place.length); err == nil {
			t.Errorf("%d bytes at %d were mapped", place.length, place.start)
			b.Unmap()
		}
	}
	if _, err := m.Map(segment, 8); !strings.Contains(err.Error(), "only 1048576 bytes") {
		t.Errorf("the error does not say why: %v", err)
	}
}

func TestNobodyCanCutSealedMemory(t *testing.T) {
	a := newTestArena(t, 4<<20)
	if !a.sealed {
		t.Skip("nothing can be sealed here")
	}
	if a.File().Truncate(0) == nil {
		t.Error("it was cut")
	}
	alloc(t, a, 3<<20, "x") // and yet it grows
}

// D9
func TestBlocksAreUnmappedByTheCollector(t *testing.T) {
	a := newTestArena(t, 0)
	m := view(t, a)
	offset, large := alloc(t, a, 64, ""), alloc(t, a, unit, "")
	type handle struct{ block *Block }
	const each = 500
	var ended sync.WaitGroup
	ended.Add(4 * each)
	for range 4 {
		go func() {
			for i := range each {
				place, n := offset, int64(64)
				if i%10 == 0 {
					place, n = large, unit
				}
				b, err := m.Map(place, n)
				if err != nil {
					t.Error(err)
					ended.Done()
					continue
				}
				runtime.AddCleanup(&handle{b}, func(b *Block) { b.Unmap(); ended.Done() }, b)
				if i%50 == 0 {
					runtime.GC()
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { ended.Wait(); close(done) }()
	for collected := false; !collected; {
		runtime.GC()
		select {
		case <-done:
			collected = true
		case <-time.After(time.Millisecond):
		}
	}
	for start, s := range m.segments {
		if s.blocks != 0 {
			t.Errorf("the segment at %d is used %d times", start, s.blocks)
		}
	}
}

// parts are what the test binary plays.
var parts = map[string]func() error{"adder": addsInAChild, "creator": createsAndHangs}

const adds = 20000

// addsInAChild adds to the two words that the parent made first.
func addsInAChild() error {
	file := os.NewFile(3, "memory")
	defer file.Close()
	m, err := Open(file)
	if err != nil {
		return err
	}
	defer m.Close()
	b, err := m.Map(unit, 16)
	if err != nil {
		return err
	}
	defer b.Unmap()
	for range adds {
		Add(b.Word(0), 1)
		Add(b.Word(1), 0.5)
	}
	return nil
}

// D1, D2 and F24
func TestF24FourProcessesAddTwentyThousandEach(t *testing.T) {
	a := newTestArena(t, 0)
	offset := alloc(t, a, 16, "")
	if offset != unit {
		t.Fatalf("the first block is at %d", offset)
	}
	var children []*exec.Cmd
	for range 4 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), part+"=adder")
		child.ExtraFiles = []*os.File{a.File()}
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	for _, child := range children {
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	}
	b := mapped(t, view(t, a), offset, 16)
	if n, half := Load[int](b.Word(0)), Load[float64](b.Word(1)); n != 4*adds || half != 2*adds {
		t.Errorf("they have added up to %d and %g, want %d and %d", n, half, 4*adds, 2*adds)
	}
}

// createsAndHangs has memory until it is killed.
func createsAndHangs() error {
	a, err := NewArena(0)
	if err != nil {
		return err
	}
	if _, err := a.Alloc(unit, []byte("x")); err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString("made")
	select {}
}

// D16
func TestAKilledCreatorLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	before, _ := filepath.Glob("/dev/shm/gpool-*")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), part+"=creator", "TMPDIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Error(err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	after, _ := filepath.Glob("/dev/shm/gpool-*")
	left, _ := os.ReadDir(dir)
	if len(left) > 0 || slices.ContainsFunc(after, func(name string) bool { return !slices.Contains(before, name) }) {
		t.Errorf("it has left %v and %v; %v were there", left, after, before)
	}
}

func BenchmarkMap(b *testing.B) {
	for what, n := range map[string]int64{"small": 8, "large": unit} {
		b.Run(what, func(b *testing.B) {
			a := newTestArena(b, 0)
			m := view(b, a)
			offset := alloc(b, a, n, "")
			for b.Loop() {
				block, err := m.Map(offset, n)
				if err != nil {
					b.Fatal(err)
				}
				block.Unmap()
			}
		})
	}
}

func BenchmarkAllocAndFree(b *testing.B) {
	for what, n := range map[string]int64{"small": 8, "large": unit} {
		b.Run(what, func(b *testing.B) {
			a := newTestArena(b, 0)
			for b.Loop() {
				a.Free(alloc(b, a, n, ""))
			}
		})
	}
}
