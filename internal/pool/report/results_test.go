package report

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"gpool/internal/ipc"
)

// shop is a folder of results under test.
type shop struct {
	*Results
	t   testing.TB
	dir string
}

func newShop(t testing.TB, dir string) *shop {
	t.Helper()
	r, err := NewResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.dir.Close() })
	return &shop{r, t, dir}
}

func (s *shop) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// run plays a call with one attempt.
func (s *shop) run(seq uint64, item, printed string) {
	s.t.Helper()
	s.ok(s.Output(seq, 1, ipc.Stdout, []byte(printed)))
	s.ok(s.Call(&Record{Seq: seq, Item: []string{item}, Command: "echo " + item, Attempt: sampleAttempt(1, Succeeded)}))
}

// tree is every file of a folder and what is in it; result.json only as the item.
func tree(t rapid.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[name] = string(b)
		if e.Name() == "result.json" {
			var result struct{ Item []string }
			if err := json.Unmarshal(b, &result); err != nil {
				return fmt.Errorf("%s: %w in %s", path, err, b)
			}
			files[name] = strings.Join(result.Item, " ")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantTree(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	if got := tree(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %.500q\nwant %.500q", got, want)
	}
}

func TestResults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := newShop(t, dir)
	s.run(1, "x", "one")
	s.ok(s.Output(2, 1, ipc.Stderr, []byte("first")))
	s.ok(s.Output(2, 3, ipc.Stdout, []byte("third")))                                        // the second printed nothing
	s.ok(s.Call(&Record{Seq: 2, Item: []string{"y", "z"}, Attempt: sampleAttempt(4, Failed), // nor did the last
		Earlier: []Attempt{sampleAttempt(1, Failed), sampleAttempt(2, TimedOut), sampleAttempt(3, Failed)}}))
	s.ok(s.Call(&Record{Seq: 3, Item: []string{"q"}, Attempt: Attempt{Status: NotStarted, Exit: 127, Error: "no such program"}}))
	s.ok(s.Call(&Record{Seq: 4, Item: []string{"r"}, Attempt: Attempt{Status: NotRun}}))
	s.ok(s.Call(&Record{Seq: 5, Item: []string{"s"}, Attempt: Attempt{Status: Skipped}}))
	s.ok(s.Output(6, 1, ipc.Stdout, []byte("only")))
	s.ok(s.Call(&Record{Seq: 6, Item: []string{"t"}, Attempt: Attempt{Status: NotRun}, Earlier: []Attempt{sampleAttempt(1, Failed)}}))
	s.ok(s.Close(&Totals{}))
	wantTree(t, dir, map[string]string{
		"1/stdout": "one", "1/stderr": "", "1/result.json": "x",
		"2/stdout": "", "2/stderr": "", "2/result.json": "y z",
		"2/attempt-1/stdout": "", "2/attempt-1/stderr": "first",
		"2/attempt-2/stdout": "", "2/attempt-2/stderr": "",
		"2/attempt-3/stdout": "third", "2/attempt-3/stderr": "",
		"3/stdout": "", "3/stderr": "", "3/result.json": "q",
		"6/stdout": "only", "6/stderr": "", "6/result.json": "t",
	})
}

// The result says everything that is known of a call, in numbers as they were.
func TestResultFields(t *testing.T) {
	s := newShop(t, t.TempDir())
	last := Attempt{N: 2, Status: OutOfMemory, Exit: 137, Signal: 9, Error: "it took 3 GiB\x00\xff", Slot: 3, Pid: 77, Start: at(1.25),
		Elapsed: 2500 * time.Millisecond, User: 1500 * time.Microsecond, System: time.Second, MaxRSS: 3 << 30, Stdout: 1 << 40, Stderr: 2}
	s.ok(s.Call(&Record{Seq: 1 << 53, Item: []string{"a\xff", "b"}, Command: "cat 'a\xff' b", Attempt: last, Earlier: []Attempt{sampleAttempt(1, Failed)}}))
	b, err := os.ReadFile(filepath.Join(s.dir, strconv.Itoa(1<<53), "result.json"))
	s.ok(err)
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	first := map[string]any{"attempt": 1., "status": "failed", "exit": 3., "signal": 0., "error": "exit code 3", "slot": 2., "worker_pid": 4711.,
		"start": 1767225601., "runtime": 1.5, "user": 1., "system": 0.02, "max_rss": 1048576., "stdout_bytes": 5., "stderr_bytes": 7.}
	b64 := base64.StdEncoding.EncodeToString
	want := map[string]any{"seq": float64(1 << 53), "item_base64": []any{b64([]byte("a\xff")), b64([]byte("b"))}, "command_base64": b64([]byte("cat 'a\xff' b")),
		"attempt": 2., "status": "out of memory", "exit": 137., "signal": 9., "error": "it took 3 GiB\x00\ufffd", "slot": 3., "worker_pid": 77.,
		"start": 1767225601.25, "runtime": 2.5, "user": 0.0015, "system": 1., "max_rss": float64(3 << 30), "stdout_bytes": float64(1 << 40), "stderr_bytes": 2.,
		"earlier": []any{first}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A run into the folder of another one keeps results of other items, and replaces those of
// the same item with all their files.
func TestResultsOfASecondRun(t *testing.T) {
	dir := t.TempDir()
	s := newShop(t, dir)
	s.run(1, "same", "old")
	s.ok(s.Output(2, 1, ipc.Stdout, []byte("old first")))
	s.ok(s.Output(2, 2, ipc.Stdout, []byte("old second")))
	s.ok(s.Call(&Record{Seq: 2, Item: []string{"retried"}, Attempt: sampleAttempt(2, Failed), Earlier: []Attempt{sampleAttempt(1, Failed)}}))
	s.run(3, "kept", "old")
	s.run(4, "done before", "old")
	s.ok(s.Output(5, 1, ipc.Stdout, []byte("killed")))
	s.ok(s.Close(nil)) // and no record of call 5

	s = newShop(t, dir)
	s.run(1, "same", "new")
	s.run(2, "retried", "new")
	s.run(3, "inserted", "new")
	s.ok(s.Call(&Record{Seq: 4, Attempt: Attempt{Status: Skipped}}))
	s.run(5, "after a kill", "new")
	s = newShop(t, dir)
	s.run(3, "third", strings.Repeat("newer ", keepMost)) // streamed before its item is known
	s.run(3, "inserted", "newer")
	s.ok(s.Close(nil))
	wantTree(t, dir, map[string]string{
		"1/stdout": "new", "1/stderr": "", "1/result.json": "same",
		"2/stdout": "new", "2/stderr": "", "2/result.json": "retried",
		"3/stdout": "old", "3/stderr": "", "3/result.json": "kept",
		"3-2/stdout": "newer", "3-2/stderr": "", "3-2/result.json": "inserted",
		"3-3/stdout": strings.Repeat("newer ", keepMost), "3-3/stderr": "", "3-3/result.json": "third",
		"4/stdout": "old", "4/stderr": "", "4/result.json": "done before",
		"5/stdout": "new", "5/stderr": "", "5/result.json": "after a kill",
	})
}

// An item that begins like another one is another one.
func TestResultsCompareWholeItems(t *testing.T) {
	items := [][]string{{"a"}, {"ab"}, {"a", "b"}, {"a b"}, nil, {""}, {"\xff"}, {"/w=="}}
	for _, one := range items {
		for _, two := range items {
			dir := t.TempDir()
			for _, item := range [][]string{one, two} {
				s := newShop(t, dir)
				s.ok(s.Call(&Record{Seq: 1, Item: item, Attempt: sampleAttempt(1, Succeeded)}))
			}
			_, err := os.Stat(filepath.Join(dir, "1-2"))
			if got, want := err == nil, !slices.Equal(one, two); got != want {
				t.Errorf("%q and then %q: two folders %v, want %v", one, two, got, want)
			}
		}
	}
}

// What is not ours is never removed.
func TestResultsLeaveOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1/notes.txt", "1/stdout", "2", "3/attempt-x/stdout", "4/stderr/deep"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := newShop(t, dir)
	for seq := range uint64(4) {
		s.run(seq+1, "a", "out")
	}
	want := map[string]string{"1/notes.txt": "mine", "1/stdout": "mine", "2": "mine", "3/attempt-x/stdout": "mine", "4/stderr/deep": "mine"}
	for seq := range 4 {
		folder := strconv.Itoa(seq+1) + "-2/"
		want[folder+"stdout"], want[folder+"stderr"], want[folder+"result.json"] = "out", "", "a"
	}
	wantTree(t, dir, want)
}

// mixture is a run of several calls that print at once, and what their files should have.
type mixture struct {
	t        *rapid.T
	r        *Results
	attempts map[uint64]int                  // of each call
	printed  map[[2]uint64]map[string]string // by stream, of seq and attempt
}

// print lets a call print a piece.
func (m *mixture) print(seq uint64) error {
	m.attempts[seq] = max(1, m.attempts[seq])
	size := rapid.SampledFrom([]int{0, 1, 10, keepMost, keepMost + 1}).Draw(m.t, "size")
	piece := strings.Repeat(string(rune('a'+len(m.printed)%26)), size)
	stream := rapid.SampledFrom([]ipc.Stream{ipc.Stdout, ipc.Stderr}).Draw(m.t, "stream")
	of := [2]uint64{seq, uint64(m.attempts[seq])}
	if m.printed[of] == nil {
		m.printed[of] = map[string]string{}
	}
	m.printed[of][streamNames[stream-1]] += piece
	return m.r.Output(seq, m.attempts[seq], stream, []byte(piece))
}

// flush leaves nothing in memory.
func (m *mixture) flush() error {
	err := m.r.Flush()
	for _, f := range m.r.open {
		if len(f.streams[0].kept)+len(f.streams[1].kept) > 0 {
			m.t.Fatal("output is in memory after a flush")
		}
	}
	return err
}

// end gives a call its record, and adds its files to those that should be there.
func (m *mixture) end(seq uint64, want map[string]string) error {
	n := m.attempts[seq]
	rec := &Record{Seq: seq, Item: []string{"item"}, Attempt: sampleAttempt(n, Succeeded)}
	folder := strconv.FormatUint(seq, 10) + "/"
	want[folder+"result.json"] = "item"
	for i := 1; i <= n; i++ {
		to := folder
		if i < n {
			rec.Earlier = append(rec.Earlier, sampleAttempt(i, Failed))
			to += fmt.Sprintf("attempt-%d/", i)
		}
		for _, name := range streamNames {
			want[to+name] = m.printed[[2]uint64{seq, uint64(i)}][name]
		}
	}
	return m.r.Call(rec)
}

// Calls print at once, in pieces of any size, with flushes and retries in between: every
// byte ends up in the file of its attempt.
func TestResultsOfMixedCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "gpool-results-*")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		r, err := NewResults(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := &mixture{t, r, map[uint64]int{}, map[[2]uint64]map[string]string{}}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			seq := rapid.Uint64Range(1, 5).Draw(t, "seq")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				m.attempts[seq]++
			case 1:
				err = m.flush()
			default:
				err = m.print(seq)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want := map[string]string{}
		for seq := range m.attempts {
			if err := m.end(seq, want); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(&Totals{}); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, dir); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %.300q\nwant %.300q", got, want)
		}
	})
}

// However many calls print more than fits in memory, no file stays open.
func TestResultsKeepNoFileOpen(t *testing.T) {
	s := newShop(t, t.TempDir())
	before := openFiles(t)
	for seq := range uint64(300) {
		s.ok(s.Output(seq+1, 1, ipc.Stdout, make([]byte, keepMost+1)))
		s.ok(s.Output(seq+1, 1, ipc.Stderr, []byte("little")))
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, and were %d", after, before)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

// A call whose result cannot be written says where, and so does every later one.
func TestResultsSayWhatFailed(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewResults(os.DevNull + "/x"); err == nil || !strings.Contains(err.Error(), os.DevNull) {
		t.Errorf("a folder in a device: %v", err)
	}
	s := newShop(t, dir)
	s.run(1, "a", "out")
	s.ok(os.RemoveAll(dir))
	err := s.Call(&Record{Seq: 2, Item: []string{"b"}, Attempt: sampleAttempt(1, Succeeded)})
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), filepath.Join(dir, "2")) {
		t.Errorf("without its folder: %v", err)
	}
	if again := s.Flush(); again != err {
		t.Errorf("later: %v", again)
	}
}

// TestResultsPlayer is the program that TestResultsCost watches.
func TestResultsPlayer(t *testing.T) {
	dir := os.Getenv("GPOOL_TEST_RESULTS")
	if dir == "" {
		t.Skip("it is started by TestResultsCost")
	}
	s := newShop(t, dir)
	for seq := range uint64(100) {
		s.run(seq+1, "a", "0123456789")
	}
}

// A call with little output takes ten system calls: a folder, three files, a rename.
func TestResultsCost(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if slices.Contains(strings.Fields(os.Getenv("TESTS_NEED")), "strace") {
			t.Fatal(err)
		}
		t.Skip("strace is not there")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	dir := t.TempDir()
	command := exec.Command(strace, "-f", "-o", trace, "-e", "trace=mkdirat,openat,write,close,renameat,renameat2,fsync,fstat,lseek,fcntl",
		os.Args[0], "-test.run", "^TestResultsPlayer$")
	command.Env = append(os.Environ(), "GPOOL_TEST_RESULTS="+dir)
	if out, err := command.CombinedOutput(); err != nil {
		t.Skipf("strace does not work here: %v: %.300s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	from, to := strings.Index(string(b), `"2", 0777`), strings.Index(string(b), `"100", 0777`)
	if from < 0 || to < 0 {
		t.Fatal("the trace has no folders")
	}
	if n := float64(strings.Count(string(b[from:to]), "\n")) / 98; n > 10.5 {
		t.Errorf("%.2f system calls for a call", n)
	}
}

func BenchmarkResults(b *testing.B) {
	s := newShop(b, b.TempDir())
	rec := &Record{Item: []string{"images/0001.png"}, Command: "convert images/0001.png", Attempt: sampleAttempt(1, Succeeded)}
	out := []byte("0123456789")
	b.ReportAllocs()
	for b.Loop() {
		rec.Seq++
		if err := errors.Join(s.Output(rec.Seq, 1, ipc.Stdout, out), s.Call(rec)); err != nil {
			b.Fatal(err)
		}
	}
}
