package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	large := bytes.Repeat([]byte("large"), 1<<20)
	j, got := open(t, path)
	if len(got) != 0 {
		t.Fatalf("a new journal has %q", got)
	}
	add(t, j)
	add(t, j, three[0])
	add(t, j, three[1:]...)
	add(t, j, large)
	if cap(j.buf) > keptBuffer {
		t.Errorf("a buffer of %d bytes is kept", cap(j.buf))
	}
	shut(t, j)

	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != j.Size() {
		t.Errorf("%v, %v; the size is told as %d", info, err, j.Size())
	}
	j, got = open(t, path)
	defer shut(t, j)
	if !same(got, slices.Concat(three, [][]byte{large})) {
		t.Errorf("got %d records", len(got))
	}
	if j.Cut() != 0 || j.Broken() != "" || j.Size() != info.Size() {
		t.Errorf("cut %d, broken %q, size %d", j.Cut(), j.Broken(), j.Size())
	}
}

// TestTornAtEveryByte: exactly the whole records before it are there, and what is written then is
// read again.
func TestTornAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	all := fileOf(three...)
	for size := range len(all) {
		path := filepath.Join(dir, fmt.Sprint(size))
		put(t, path, all[:size])
		n, end := 0, len(firstLine)
		for n < len(three) && end+headSize+len(three[n]) <= size {
			end += headSize + len(three[n])
			n++
		}
		if size < len(firstLine) {
			end = 0
		}
		j, got := open(t, path)
		if !same(got, three[:n]) || j.Cut() != int64(size-end) {
			t.Fatalf("of %d bytes %q was read and %d cut off", size, got, j.Cut())
		}
		add(t, j, []byte("next"))
		shut(t, j)
		if want := append(slices.Clone(three[:n]), []byte("next")); !same(records(t, path), want) {
			t.Fatalf("after an Append to %d bytes the records are %q", size, records(t, path))
		}
		if names := neighbours(t, path); names != nil {
			t.Fatalf("%d bytes left %q", size, names)
		}
	}
}

// TestEveryFlippedBit: what is before it is read, and all from the damaged record on is put aside.
func TestEveryFlippedBit(t *testing.T) {
	dir := t.TempDir()
	all := fileOf(three...)
	for bit := len(firstLine) * 8; bit < len(all)*8; bit++ {
		path := filepath.Join(dir, fmt.Sprint(bit))
		bad := bytes.Clone(all)
		bad[bit/8] ^= 1 << (bit % 8)
		put(t, path, bad)
		n, end := 0, len(firstLine)
		for end+headSize+len(three[n]) <= bit/8 {
			end += headSize + len(three[n])
			n++
		}
		j, got := open(t, path)
		shut(t, j)
		if !same(got, three[:n]) || j.Cut() != 0 || j.Broken() != path+".broken" {
			t.Fatalf("bit %d: %q, cut %d, broken %q", bit, got, j.Cut(), j.Broken())
		}
		if !bytes.Equal(contents(t, j.Broken()), bad[end:]) || !bytes.Equal(contents(t, path), all[:end]) {
			t.Fatalf("bit %d: %q is put aside and %q left", bit, contents(t, j.Broken()), contents(t, path))
		}
	}
}

func TestBrokenFilesAreNumbered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for n, want := range []string{".broken", ".broken.2", ".broken.3"} {
		rest := append(make([]byte, 5000), byte(n)) // zeroed, as power failures leave it
		put(t, path, append(fileOf(three...), rest...))
		j, got := open(t, path)
		shut(t, j)
		if !same(got, three) || j.Broken() != path+want || !bytes.Equal(contents(t, path+want), rest) {
			t.Fatalf("%d: %q, broken %q", n, got, j.Broken())
		}
	}
	if !same(records(t, path), three) || len(contents(t, path+".broken")) != 5001 {
		t.Error("an older broken file has been changed")
	}
}

func TestAFileThatIsNoJournalIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ contents, want string }{
		"text":    {"hello\n", `begins with "hello\n" and is no journal`},
		"long":    {strings.Repeat("x", 100), `"xxxxxxxxxxxxxxxx" and is no journal`},
		"newer":   {"gpool journal 2\nabc", "another version of gpool"},
		"newest":  {"gpool journal 117\n", "another version of gpool"},
		"cut":     {"gpool jou\n", "no journal"},
		"windows": {"gpool journal 1\r\n", "another version of gpool"},
	} {
		path := filepath.Join(dir, name)
		put(t, path, []byte(c.contents))
		put(t, path+".new", []byte("somebody's"))
		j, err := Open(path, nil)
		if j != nil || err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if string(contents(t, path)) != c.contents || len(neighbours(t, path)) != 1 {
			t.Errorf("%s: it has been changed to %q", name, contents(t, path))
		}
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                              "directory",
		fifo:                             "no regular file",
		filepath.Join(dir, "no", "file"): "no such file",
	} {
		if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestReplayThatFails ends Open before anything has been changed.
func TestReplayThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	all := fileOf(three...)
	for _, file := range [][]byte{all, all[:len(all)-1], append(bytes.Clone(all), make([]byte, 20)...)} {
		put(t, path, file)
		calls := 0
		_, err := Open(path, func([]byte) error {
			calls++
			if calls == 2 {
				return errNo
			}
			return nil
		})
		if !errors.Is(err, errNo) || !strings.Contains(err.Error(), path) || calls != 2 {
			t.Errorf("after %d calls: %v", calls, err)
		}
		if !bytes.Equal(contents(t, path), file) || neighbours(t, path) != nil {
			t.Errorf("it has been changed")
		}
	}
}

func TestRecordThatIsTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	tooLong := make([]byte, MaxRecord+1)
	if err := j.Append([]byte("before"), tooLong); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Error(err)
	}
	add(t, j, three...)
	if err := j.Rewrite(slices.Values([][]byte{tooLong})); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Error(err)
	}
	add(t, j, tooLong[:MaxRecord])
	shut(t, j)
	if got := records(t, path); !same(got, slices.Concat(three, [][]byte{tooLong[:MaxRecord]})) {
		t.Errorf("%d records", len(got))
	}
}

// TestALengthIsNotBelieved: a length that is possible but longer than the file costs no memory, and one
// that is impossible is damage.
func TestALengthIsNotBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for length, broken := range map[uint32]bool{MaxRecord: false, MaxRecord + 1: true, 1<<32 - 1: true} {
		put(t, path, head{length: length}.append(fileOf(three...)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		j, _ := open(t, path)
		runtime.ReadMemStats(&after)
		shut(t, j)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("length %d takes %d bytes of memory", length, n)
		}
		if (j.Broken() != "") != broken || (j.Cut() == headSize) == broken {
			t.Errorf("length %d: cut %d, broken %q", length, j.Cut(), j.Broken())
		}
	}
}

func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	for range 100 {
		add(t, j, three...)
	}
	many := slices.Repeat([][]byte{bytes.Repeat([]byte("x"), 1000)}, 1000) // more than one write
	for _, next := range [][][]byte{many, nil, three} {
		if err := j.Rewrite(slices.Values(next)); err != nil {
			t.Fatal(err)
		}
		if want := fileOf(next...); !bytes.Equal(contents(t, path), want) || j.Size() != int64(len(want)) {
			t.Fatalf("%d records: the size is %d", len(next), j.Size())
		}
	}
	add(t, j, []byte("next"))
	shut(t, j)
	if got := records(t, path); !same(got, append(slices.Clone(three), []byte("next"))) {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if names := neighbours(t, path); names != nil {
		t.Errorf("%q are left", names)
	}
}

// TestRewriteThatFails leaves the records that were there, and a journal that goes on.
func TestRewriteThatFails(t *testing.T) {
	panics := func(yield func([]byte) bool) {
		yield(make([]byte, 2*flushAt))
		panic(errNo)
	}
	for name, fail := range map[string]func(t *testing.T, j *Journal) error{
		"no place": func(t *testing.T, j *Journal) error {
			if err := os.Mkdir(j.path+newSuffix, 0o700); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(j.path + newSuffix)
			return j.Rewrite(slices.Values(three))
		},
		"no rename": func(t *testing.T, j *Journal) error {
			moved := j.path + ".moved"
			err := errors.Join(os.Rename(j.path, moved), os.MkdirAll(filepath.Join(j.path, "full"), 0o700))
			if err != nil {
				t.Fatal(err)
			}
			failed := j.Rewrite(slices.Values(three))
			if err := errors.Join(os.RemoveAll(j.path), os.Rename(moved, j.path)); err != nil {
				t.Fatal(err)
			}
			return failed
		},
		"panic": func(t *testing.T, j *Journal) (err error) {
			defer func() { err, _ = recover().(error) }()
			return j.Rewrite(iter.Seq[[]byte](panics))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			j, _ := open(t, path)
			add(t, j, three[0])
			if err := fail(t, j); err == nil || (name != "panic" && !strings.Contains(err.Error(), path)) {
				t.Fatal(err)
			}
			if names := neighbours(t, path); names != nil {
				t.Errorf("%q are left", names)
			}
			add(t, j, three[1:]...)
			shut(t, j)
			if got := records(t, path); !same(got, three) {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestLeftoverOfARewrite is removed, and never read.
func TestLeftoverOfARewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for _, begun := range []bool{false, true} {
		if begun {
			put(t, path, fileOf(three...))
		}
		put(t, path+".new", fileOf([]byte("not yet")))
		if got := records(t, path); begun != same(got, three) || neighbours(t, path) != nil {
			t.Errorf("%q, and beside it %q", got, neighbours(t, path))
		}
	}
}

func TestClosedJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	shut(t, j)
	if err := j.Append(three...); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if err := j.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

// model is a journal, and the records that it must have.
type model struct {
	path string
	j    *Journal
	want [][]byte
}

func (m *model) reopen(t *rapid.T) {
	var got [][]byte
	m.j, got = open(t, m.path)
	if !same(got, m.want) {
		t.Fatalf("the records are %q and not %q", got, m.want)
	}
	if int64(len(fileOf(m.want...))) != m.j.Size() {
		t.Fatalf("the size is %d", m.j.Size())
	}
}

var someRecords = rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 0, 6)

func (m *model) append(t *rapid.T) {
	batch := someRecords.Draw(t, "batch")
	add(t, m.j, batch...)
	m.want = append(m.want, batch...)
}

func (m *model) rewrite(t *rapid.T) {
	m.want = m.want[rapid.IntRange(0, len(m.want)).Draw(t, "dropped"):]
	if err := m.j.Rewrite(slices.Values(m.want)); err != nil {
		t.Fatal(err)
	}
}

// crash cuts the file anywhere.
func (m *model) crash(t *rapid.T) {
	shut(t, m.j)
	size := rapid.IntRange(0, int(m.j.Size())).Draw(t, "size")
	if err := os.Truncate(m.path, int64(size)); err != nil {
		t.Fatal(err)
	}
	for len(fileOf(m.want...)) > size && len(m.want) > 0 {
		m.want = m.want[:len(m.want)-1]
	}
	m.reopen(t)
	if whole := len(fileOf(m.want...)); size >= whole && m.j.Cut() != int64(size-whole) {
		t.Fatalf("%d bytes are cut off, of %d", m.j.Cut(), size)
	}
}

func TestModel(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &model{path: filepath.Join(dir, fmt.Sprint(runs))}
		m.reopen(t)
		defer func() { _ = m.j.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"rewrite": m.rewrite,
			"crash":   m.crash,
			"reopen": func(t *rapid.T) {
				shut(t, m.j)
				m.reopen(t)
				if m.j.Cut() != 0 {
					t.Fatalf("%d bytes are cut off", m.j.Cut())
				}
			},
		})
		if names := neighbours(t, m.path); names != nil {
			t.Fatalf("%q are left", names)
		}
	})
}

// FuzzOpen: whatever is in a file, Open refuses it and leaves it alone, or makes a journal of it that
// can be written and read.
func FuzzOpen(f *testing.F) {
	all := fileOf(three...)
	for _, seed := range [][]byte{
		nil, []byte(firstLine[:5]), []byte(firstLine), all, all[:len(all)-2], append(bytes.Clone(all), make([]byte, 30)...),
		[]byte("gpool journal 2\n"), head{length: MaxRecord}.append([]byte(firstLine)), append([]byte(firstLine), all...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		put(t, path, file)
		var before [][]byte
		j, err := Open(path, func(record []byte) error {
			before = append(before, bytes.Clone(record))
			return nil
		})
		if err != nil {
			if !bytes.Equal(contents(t, path), file) {
				t.Fatal("a refused file has been changed")
			}
			return
		}
		kept := contents(t, path)
		if j.Broken() != "" {
			kept = append(kept, contents(t, j.Broken())...)
		}
		if len(file) >= len(firstLine) && !bytes.Equal(kept, file[:len(file)-int(j.Cut())]) {
			t.Fatalf("%q became %q", file, kept)
		}
		add(t, j, []byte("next"))
		shut(t, j)
		j, after := open(t, path)
		shut(t, j)
		if !same(after, append(before, []byte("next"))) || j.Cut() != 0 || j.Broken() != "" {
			t.Fatalf("%q became %q", before, after)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			j, _ := open(b, filepath.Join(b.TempDir(), "journal"))
			defer shut(b, j)
			records := slices.Repeat([][]byte{make([]byte, 200)}, batch)
			b.SetBytes(int64(200 * batch))
			b.ReportAllocs()
			for b.Loop() {
				add(b, j, records...)
				if j.Size() > 256<<20 { // else the benchmark would fill the disk
					if err := j.Rewrite(slices.Values(records)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	const n = 100_000
	path := filepath.Join(b.TempDir(), "journal")
	put(b, path, fileOf(slices.Repeat([][]byte{make([]byte, 200)}, n)...))
	b.SetBytes(n * (headSize + 200))
	for b.Loop() {
		j, err := Open(path, func([]byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		shut(b, j)
	}
}
