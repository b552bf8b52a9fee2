package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gpool/internal/command"
	"gpool/internal/ipc"
)

// play is the variable that makes the test binary a worker.
const play = "GPOOL_TEST_WORKER"

func TestMain(m *testing.M) {
	switch os.Getenv(play) {
	case "main":
		os.Exit(Main())
	case "prints":
		os.Exit(prints())
	case "recorded":
		os.Exit(recorded())
	}
	before := descriptors()
	code := m.Run()
	if code == 0 {
		code = leftovers(before)
	}
	os.Exit(code)
}

// leftovers complains about goroutines, child processes and descriptors that the tests
// have left behind.
func leftovers(before []string) (code int) {
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		fmt.Fprintf(os.Stderr, "a child process is left: wait4 gives %d, %v\n", pid, err)
		code = 1
	}
	if after := descriptors(); len(after) > len(before) {
		fmt.Fprintf(os.Stderr, "descriptors are left: %q before the tests, %q after\n", before, after)
		code = 1
	}
	return code
}

// descriptors lists what this process has open, where the system tells. The poller of
// the runtime, which comes with the first pipe and stays, is not counted.
func descriptors() (list []string) {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, n := range names {
		to, err := os.Readlink("/proc/self/fd/" + n.Name())
		if err == nil && !strings.HasPrefix(to, "anon_inode:[event") {
			list = append(list, n.Name()+" "+to)
		}
	}
	return list
}

// prints is a worker whose task prints in every way there is.
func prints() int {
	in, out, err := Guard()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	err = Serve(in, out, Config{Tasks: Registry{"print": func(context.Context, *Call) ([]byte, error) {
		fmt.Println("by Go")
		if _, err := unix.Write(1, []byte("by hand\n")); err != nil {
			return nil, err
		}
		child := exec.Command("/bin/sh", "-c", "echo by a child; cat; ls -l /proc/self/fd 2>&1")
		child.Stdin, child.Stdout = os.Stdin, os.Stdout
		if err := child.Run(); err != nil {
			return nil, err
		}
		return io.ReadAll(os.Stdin)
	}}})
	if err != nil {
		return 3
	}
	return 0
}

// worker is a worker process. Its stderr is a file, so that nobody has to read it.
type worker struct {
	*shell
	cmd    *exec.Cmd
	stderr string
	pipes  []string // of the frames, as /proc names them
}

func start(t *testing.T, env string, name string, args ...string) *worker {
	t.Helper()
	stderr := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env)
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = inR, outW
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	w := &worker{cmd: cmd, stderr: stderr, shell: &shell{parent: newParent(t, inW, outR, ipc.Limits{})}}
	for _, f := range []*os.File{inW, outR} {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil {
			w.pipes = append(w.pipes, name)
		}
	}
	t.Cleanup(func() {
		inW.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-w.endC
		outR.Close()
	})
	return w
}

func self(t *testing.T, role string) *worker {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, play+"="+role, path)
}

// ends waits for the worker and checks its exit code.
func (w *worker) ends(code int) {
	w.t.Helper()
	_ = w.cmd.Wait()
	if got := w.cmd.ProcessState.ExitCode(); got != code {
		w.t.Errorf("the worker ends with %v, want %d; it printed %q", w.cmd.ProcessState, code, w.printed())
	}
}

func (w *worker) printed() string {
	b, err := os.ReadFile(w.stderr)
	if err != nil {
		w.t.Error(err)
	}
	return string(b)
}

func (w *worker) bye() {
	w.t.Helper()
	w.numbers(ipc.KindBye, 0, 0)
	w.in.Close()
	w.ends(0)
}

func TestWhatATaskPrintsCannotBreakTheFrames(t *testing.T) {
	w := self(t, "prints")
	w.next()
	w.shell.parent.run(1, "print", "", "")
	m := w.next()
	if got := show(m); got != "result 1: " {
		t.Errorf("the worker said %s", got)
	}
	m = w.next()
	if got := show(m); got != "result 2: " {
		t.Errorf("the worker said %s", got)
	}
	w.bye()
	var said []string
	for line := range strings.Lines(w.printed()) {
		if strings.HasPrefix(line, "by ") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	if want := []string{"by Go", "by hand", "by a child"}; !slices.Equal(said, slices.Concat(want, want)) {
		t.Errorf("stderr holds %q", said)
	}
	for _, name := range w.pipes {
		if strings.Contains(w.printed(), name) {
			t.Errorf("the child has inherited the frames, %s:\n%s", name, w.printed())
		}
	}
}

func TestTheInitializerPrintsToStandardError(t *testing.T) {
	w := self(t, "main")
	w.next()
	e := ipc.NewEncoder()
	sh(`echo out; echo err >&2; env | grep -c GPOOL_SEQ`).Append(e)
	w.send(func(p *ipc.Writer) { p.Init(ipc.Init{Slot: 1, Task: command.ExecTask, Common: e.Copy()}) })
	if got := show(w.next()); !strings.HasPrefix(got, "result 0: [1 exit status 1 ") { // grep finds none
		t.Errorf("the worker said %s", got)
	}
	w.bye()
	if got := w.printed(); got != "out\nerr\n0\n" {
		t.Errorf("stderr holds %q", got)
	}
}

// The end of stdin follows the goodbye at once, and does not end the finalizer.
func TestTheFinalizerOfAWorkerProcess(t *testing.T) {
	for script, want := range map[string]string{
		`sleep 0.1; echo "seq=$GPOOL_SEQ slot=$GPOOL_SLOT"`: "seq= slot=3\n",
		`exit 3`: "gpool worker: the finalizer \"exec\" failed: exit status 3\n",
	} {
		w := self(t, "main")
		w.next()
		e := ipc.NewEncoder()
		sh(script).Append(e)
		w.send(func(p *ipc.Writer) {
			p.Init(ipc.Init{Slot: 3, FinalTask: command.ExecTask, FinalCommon: e.Copy()})
		})
		w.bye()
		if got := w.printed(); got != want {
			t.Errorf("stderr holds %q, want %q", got, want)
		}
	}
}

// The frames of the document's session, sent to a real worker.
func TestTheSessionInTheProtocol(t *testing.T) {
	read := func(name string) []byte {
		text, err := os.ReadFile("../../testdata/frames/" + name + ".hex")
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			for _, digits := range strings.Fields(line) {
				n, err := strconv.ParseUint(digits, 16, 8)
				if err != nil {
					t.Fatal(err)
				}
				b = append(b, byte(n))
			}
		}
		return b
	}
	message := func(name string) (m ipc.Message) {
		if err := ipc.NewReader(strings.NewReader(string(read(name))), ipc.Limits{}).Next(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	e := ipc.NewEncoder()
	command.Spec{Words: []string{"echo"}}.Append(e)
	if golden := message("run").Run.Common; string(golden) != string(e.Encoded()) {
		t.Errorf("the spec of `echo` is % x, and the golden one % x", e.Encoded(), golden)
	}
	w := self(t, "main")
	hello := w.next().Hello
	want := message("hello").Hello
	want.Build, want.Pid = ipc.BuildID(), w.cmd.Process.Pid
	if fmt.Sprint(hello) != fmt.Sprint(want) {
		t.Errorf("the worker's hello is %+v, want %+v", hello, want)
	}
	for _, name := range []string{"init", "run", "bye"} {
		if _, err := w.in.Write(read(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"result-init", "output"} {
		if got, want := show(w.next()), show(message(name)); got != want {
			t.Errorf("the worker said %s, want %s", got, want)
		}
	}
	w.lastID = 1
	end := w.finish()
	var r command.StatusReader
	golden, err := r.Read(message("result").Result.Outcomes[0].Data)
	if err != nil || end.Code != ipc.OK || end.status.Exit != golden.Exit {
		t.Errorf("code %d, %+v; the golden one is %+v, %v", end.Code, end.status, golden, err)
	}
	w.in.Close()
	w.ends(0)
}

func TestAnOrphanedWorkerTakesItsCommandAlong(t *testing.T) {
	w := self(t, "main")
	w.next()
	h := newHeld(t)
	w.shell.start(sh(`exec 9>` + h.path + `; sleep 1000 & sleep 1000`))
	f := h.opened()
	w.in.Close()
	w.ends(orphanedExit)
	h.gone(f)
}

// state is the letter of a process's state.
func state(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

func TestSuspend(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc to see the state of a process in")
	}
	s := newShell(t)
	defer s.leave()
	h := newHeld(t)
	s.start(sh(`echo $$; read word <` + h.path + `; echo $word`))
	pid := 0
	if _, err := fmt.Sscan(string(s.next().Output.Data), &pid); err != nil {
		t.Fatal(err)
	}
	s.numbers(ipc.KindSuspend, 0, 1)
	s.numbers(ipc.KindRecall, 9, 0) // the worker itself goes on, and has taken what came before
	s.next()
	for limit := time.Now().Add(5 * time.Second); state(t, pid) != "T"; { // it is on its way
		if time.Now().After(limit) {
			t.Fatalf("the command's state is %s", state(t, pid))
		}
	}
	s.numbers(ipc.KindSuspend, 0, 0)
	f, err := os.OpenFile(h.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "on")
	f.Close()
	if end := s.finish(); end.Code != ipc.OK || end.out != "on\n" {
		t.Errorf("code %d, printed %q", end.Code, end.out)
	}
	// No command starts meanwhile.
	s.numbers(ipc.KindSuspend, 0, 1)
	s.start(command.Spec{Words: []string{"echo"}}, "later")
	s.numbers(ipc.KindRecall, 9, 0)
	if got := show(s.next()); got != "returned 9+0" {
		t.Errorf("a suspended worker said %s", got)
	}
	s.numbers(ipc.KindSuspend, 0, 0)
	if end := s.finish(); end.out != "later\n" {
		t.Errorf("code %d, printed %q", end.Code, end.out)
	}
}

// The worker in the document's Python serves a real parent.
func TestTheTenLineWorkerInTheProtocol(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	if code == nil {
		t.Fatal("docs/protocol.md shows no worker in Python")
	}
	python := ""
	for _, path := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(path, "-c", "import msgpack").Run() == nil {
			python = path
			break
		}
	}
	if python == "" {
		t.Skip("there is no python3 with msgpack: apt-get install python3-msgpack, or pip install msgpack")
	}
	w := start(t, "PYTHONUNBUFFERED=", python, "-c", string(code[1]))
	if h := w.next().Hello; h.Version != ipc.Version || h.Pid != w.cmd.Process.Pid || !slices.Equal(h.Tasks, []string{"upper"}) {
		t.Errorf("its hello is %+v", h)
	}
	w.send(func(p *ipc.Writer) { p.Init(ipc.Init{Slot: 1}) })
	// Each payload and value is a msgpack str.
	w.shell.parent.run(1, "upper", "\xa1a", "\xa2ä")
	w.numbers(ipc.KindCredit, 1, 1) // optional, and unknown to it
	w.shell.parent.run(3, "upper", "\xa1c")
	for _, want := range []string{"result 0: ", "result 1: \xa1A \xa2Ä", "result 3: \xa1C"} {
		if got := show(w.next()); got != want {
			t.Errorf("it said %s, want %s", got, want)
		}
	}
	w.bye()
}
