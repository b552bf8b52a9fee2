package worker

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gpool/internal/command"
	"gpool/internal/ipc"
)

// shell is a parent whose worker runs commands; its calls have rising ids.
type shell struct {
	*parent
	lastID uint64
}

func newShell(t *testing.T) *shell {
	t.Helper()
	commands, err := NewCommands()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(commands.close)
	s := &shell{parent: serve(t, Config{Tasks: Registry{command.ExecTask: commands.Run}, Suspend: commands.Suspend})}
	s.next() // hello
	return s
}

// ended is how a call went.
type ended struct {
	ipc.Outcome
	status   command.Status
	out, err string
}

func (s *shell) start(spec command.Spec, columns ...string) {
	s.t.Helper()
	e := ipc.NewEncoder()
	spec.Append(e)
	common := e.Copy()
	e.Reset()
	command.Row{Columns: columns}.Append(e)
	s.lastID++
	run := ipc.Run{ID: s.lastID, Task: command.ExecTask, Payloads: [][]byte{e.Copy()}, Common: common, Seq: s.lastID, Attempt: 2}
	s.send(func(w *ipc.Writer) { w.Run(&run) })
}

// finish takes the output of the call, giving credit for it, and its result.
func (s *shell) finish() (end ended) {
	s.t.Helper()
	for {
		m := s.next()
		switch m.Kind {
		case ipc.KindOutput:
			if m.Output.Stream == ipc.Stdout {
				end.out += string(m.Output.Data)
			} else {
				end.err += string(m.Output.Data)
			}
			s.numbers(ipc.KindCredit, s.lastID, uint64(len(m.Output.Data)))
		case ipc.KindResult:
			if m.Result.ID != s.lastID || len(m.Result.Outcomes) != 1 {
				s.t.Fatalf("result of %d, want %d", m.Result.ID, s.lastID)
			}
			end.Outcome = m.Result.Outcomes[0]
			var r command.StatusReader
			var err error
			if end.status, err = r.Read(end.Data); err != nil {
				s.t.Fatalf("%v; the outcome is %+v", err, end.Outcome)
			}
			return end
		}
	}
}

func (s *shell) exec(spec command.Spec, columns ...string) ended {
	s.t.Helper()
	s.start(spec, columns...)
	return s.finish()
}

// close gives back what a worker keeps until its process ends.
func (x *Commands) close() {
	x.null.Close()
	x.events.close()
}

// BenchmarkSpawn runs a command from its start to its end, as a call does without the frames.
func BenchmarkSpawn(b *testing.B) {
	x, err := NewCommands()
	if err != nil {
		b.Fatal(err)
	}
	defer x.close()
	e := ipc.NewEncoder()
	(&command.Spec{Words: []string{"/bin/true"}}).Append(e)
	s := &server{out: newOutbox(ipc.NewWriter(io.Discard, ipc.Limits{}), nil)}
	defer s.out.stop()
	call := &Call{ID: 1, Seq: 1, Attempt: 1, Slot: 1, Common: e.Copy(), server: s}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Run(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}

// sh is a command line as `gpool -c` sends it, without placeholders.
func sh(line string) command.Spec {
	return command.Spec{Words: []string{"/bin/sh", "-c", line}}
}

func TestHowCommandsEnd(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := write("script", "echo script \"$@\"\n", 0o755)
	plain := write("plain", "", 0o644)
	in := func(name string) command.Spec { return command.Spec{Words: []string{name}, Dir: dir} }
	for _, c := range []struct {
		what         string
		spec         command.Spec
		column       string
		code         ipc.Code
		exit, signal int
		message      string
		out, err     string
	}{
		{"bytes", sh(`printf 'a\000b'; printf 'e\377' >&2; exit 3`), "", ipc.Failed, 3, 0, "exit status 3", "a\x00b", "e\xff"},
		{"nothing", sh(`:`), "", ipc.OK, 0, 0, "", "", ""},
		{"closed output", sh(`exec >&- 2>&-; exit 4`), "", ipc.Failed, 4, 0, "exit status 4", "", ""},
		{"a signal", sh(`kill -9 $$`), "", ipc.Failed, 137, 9, "killed by signal 9 (SIGKILL)", "", ""},
		{"an item", command.Spec{Words: []string{"echo"}}, "a b", ipc.OK, 0, 0, "", "a b\n", ""},
		{"stdin", command.Spec{Words: []string{"/bin/sh", "-c", "cat; echo end"}}, "", ipc.OK, 0, 0, "", "end\n", ""},
		{"no such program", command.Spec{Words: []string{"no-such-program"}}, "", ipc.NotRun, 127, 0, "start no-such-program: executable file not found in $PATH", "", ""},
		{"no such path", command.Spec{Words: []string{"/no/such"}}, "", ipc.NotRun, 127, 0, "start /no/such: no such file or directory", "", ""},
		{"no such resolved path", command.Spec{Words: []string{"such"}, Path: "/no/such"}, "", ipc.NotRun, 127, 0, "start such: no such file or directory", "", ""},
		{"no such directory", command.Spec{Words: []string{"echo"}, Dir: "/no/such"}, "", ipc.NotRun, 127, 0, "its directory, /no/such, is not there", "", ""},
		{"not executable", command.Spec{Words: []string{plain}}, "", ipc.NotRun, 126, 0, "permission denied", "", ""},
		{"a directory", command.Spec{Words: []string{dir}}, "", ipc.NotRun, 126, 0, "is a directory", "", ""},
		{"too long", command.Spec{Words: []string{"echo"}}, strings.Repeat("x", 3<<20), ipc.NotRun, 126, 0,
			"argument list too long: its arguments take 3145734 bytes, and its environment ", "", ""},
		{"a script without a first line", command.Spec{Words: []string{script}}, "x", ipc.OK, 0, 0, "", "script x\n", ""},
		{"a program below the directory", in("./script"), "", ipc.OK, 0, 0, "", "script \n", ""},
		{"none below the directory", in("./other"), "", ipc.NotRun, 127, 0, "no such file", "", ""},
	} {
		end := s.exec(c.spec, c.column)
		if end.Code != c.code || end.status.Exit != c.exit || end.status.Signal != c.signal || end.status.Leaked {
			t.Errorf("%s: code %d, %+v, %q", c.what, end.Code, end.status, end.Message)
		}
		if end.out != c.out || end.err != c.err {
			t.Errorf("%s: printed %q and %q", c.what, end.out, end.err)
		}
		if c.message == "" && end.Message != "" || !strings.Contains(end.Message, c.message) {
			t.Errorf("%s: %q, want %q", c.what, end.Message, c.message)
		}
	}
}

func TestARowThatIsNoneAndASpecThatIsNone(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	for id, common := range []string{"", "\xc0", "\x93"} {
		run := ipc.Run{ID: uint64(id + 1), Task: command.ExecTask, Payloads: [][]byte{{0xc1}}, Common: []byte(common), Seq: 1, Attempt: 1}
		s.send(func(w *ipc.Writer) { w.Run(&run) })
		if m := s.next(); m.Result.Outcomes[0].Code != ipc.NotRun || m.Result.Outcomes[0].Message == "" {
			t.Errorf("%q: %v", common, show(m))
		}
	}
}

func TestLargeOutputOnBothStreams(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	end := s.exec(sh(`head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait`))
	if end.Code != ipc.OK || len(end.out) != 3000000 || len(end.err) != 3000000 {
		t.Errorf("code %d, %d and %d bytes", end.Code, len(end.out), len(end.err))
	}
}

// What an outer gpool has set, and what the command line sets anew, is there once.
func TestTheEnvironmentOfACommand(t *testing.T) {
	for _, pair := range os.Environ() { // that of whoever runs the tests
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "GPOOL_") {
			t.Setenv(name, "") // and so as it was afterwards
			os.Unsetenv(name)
		}
	}
	t.Setenv("GPOOL_SEQ", "outer")
	t.Setenv("PARALLEL_SEQ", "outer")
	t.Setenv("GPOOL_TEST_MINE", "outer")
	t.Setenv("GPOOL_TEST_MINE_TOO", "outer")
	s := newShell(t)
	s.send(func(w *ipc.Writer) { w.Init(ipc.Init{Slot: 3}) })
	s.next()
	defer s.leave()
	spec := command.Spec{Words: []string{"env"}, Env: []string{"GPOOL_TEST_MINE=inner=1"}}
	var got []string
	for line := range strings.Lines(s.exec(spec).out) {
		if strings.HasPrefix(line, "GPOOL_") || strings.HasPrefix(line, "PARALLEL_") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	slices.Sort(got)
	want := []string{"GPOOL_ATTEMPT=2", "GPOOL_SEQ=1", "GPOOL_SLOT=3", "GPOOL_TEST_MINE=inner=1", "GPOOL_TEST_MINE_TOO=outer", "PARALLEL_JOBSLOT=3", "PARALLEL_SEQ=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// held is a fifo that processes can hold open: the test sees when the last one has
// ended, without asking again and again.
type held struct {
	t    *testing.T
	path string
}

func newHeld(t *testing.T) held {
	path := filepath.Join(t.TempDir(), "held")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return held{t, path}
}

// opened waits until a process holds it.
func (h held) opened() *os.File {
	h.t.Helper()
	f, err := os.Open(h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// gone waits until nobody does.
func (h held) gone(f *os.File) {
	h.t.Helper()
	if _, err := io.Copy(io.Discard, f); err != nil {
		h.t.Error(err)
	}
	f.Close()
}

func TestACancelReachesTheWholeGroup(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	h := newHeld(t)
	s.start(sh(`echo begun; sleep 1000 9>` + h.path + ` & wait`))
	f := h.opened()
	s.numbers(ipc.KindCancel, s.lastID, sigTerm)
	end := s.finish()
	if end.Code != ipc.Cancelled || end.status.Signal != int(syscall.SIGTERM) || end.out != "begun\n" {
		t.Errorf("code %d, %+v, printed %q", end.Code, end.status, end.out)
	}
	h.gone(f)
}

// A call ends with its command, whoever holds its output, and whatever he prints.
func TestSomebodyElseHoldsTheOutput(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	for what, line := range map[string]string{
		"in silence":       `sleep 1000 9>%s & echo $$`,
		"and prints":       `yes 9>%s & echo $$`,
		"on stdout only":   `sleep 1000 9>%s 2>/dev/null & echo $$`,
		"with much before": `sleep 1000 9>%s & echo $$; head -c 60000 /dev/zero >&2`,
	} {
		h := newHeld(t)
		s.start(sh(fmt.Sprintf(line, h.path)))
		f := h.opened()
		end := s.finish()
		if end.Code != ipc.OK || !end.status.Leaked {
			t.Errorf("%s: code %d, %+v", what, end.Code, end.status)
		}
		if what == "with much before" && len(end.err) != 60000 {
			t.Errorf("%s: %d bytes arrived", what, len(end.err))
		}
		// yes may have printed before the pid, or died of a closed pipe already.
		for line := range strings.Lines(end.out) {
			pid := 0
			if _, err := fmt.Sscan(line, &pid); err == nil {
				_ = unix.Kill(-pid, syscall.SIGKILL)
			}
		}
		h.gone(f)
	}
}

// What a command prints last is never lost, and never taken for somebody else's.
func TestTheLastWordsOfACommandArrive(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	for range 50 {
		if end := s.exec(command.Spec{Words: []string{"echo", "last"}}); end.out != "last \n" && end.out != "last\n" || end.status.Leaked {
			t.Fatalf("%q, %+v", end.out, end.status)
		}
	}
}

func TestACancelledCallStartsNoCommand(t *testing.T) {
	s := newShell(t)
	defer s.leave()
	path := filepath.Join(t.TempDir(), "made")
	h := newHeld(t)
	s.start(sh(`exec 9>` + h.path + `; sleep 1000`))
	f := h.opened()
	first := s.lastID
	s.start(command.Spec{Words: []string{"touch", path}})
	s.numbers(ipc.KindCancel, s.lastID, sigTerm)
	s.numbers(ipc.KindCancel, first, sigTerm)
	for n := 0; n < 2; {
		m := s.next()
		for _, o := range m.Result.Outcomes {
			n++
			if o.Code != ipc.Cancelled {
				t.Errorf("%s", show(m))
			}
		}
	}
	h.gone(f)
	if _, err := os.Stat(path); err == nil {
		t.Error("the command has run")
	}
}

func TestAfterKillNoCommandIsStarted(t *testing.T) {
	commands, err := NewCommands()
	if err != nil {
		t.Fatal(err)
	}
	defer commands.null.Close()
	commands.Kill()
	if _, err := commands.fork("/bin/sh", []string{"sh"}, nil, true); err != ErrOrphaned {
		t.Errorf("got error %v", err)
	}
}

func TestWithout(t *testing.T) {
	env := []string{"A=1", "AB=2", "B", "=C=3", "A=4"}
	if got := without(env, []string{"A=x", "C=y"}); !slices.Equal(got, []string{"AB=2", "B", "=C=3"}) || !bytes.Equal([]byte(env[0]), []byte("A=1")) {
		t.Errorf("%q, from %q", got, env)
	}
}
