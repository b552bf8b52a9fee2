package gpool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"gpool"
)

// TestProcess has the rows of area A of the conformance list that speak of processes, in
// its order, and then the cases next to them. A21 uses named pipes, since there is no
// Pipe yet.
func TestProcess(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"A1_current", currentProcess},
		{"A5_parent", parentOfProcess},
		{"A7_life_cycle", lifeCycle},
		{"A9_kill", killed},
		{"A9_terminate", terminated},
		{"A11_active_children", activeChildren},
		{"A12_recursion", recursion},
		{"A13_done", doneChannel},
		{"A15_many_processes", manyProcesses},
		{"A16_argument_is_dropped", argumentIsDropped},
		{"A17_descriptors_do_not_pile_up", descriptorsDoNotPileUp},
		{"A18_tracked_goroutines", trackedGoroutines},
		{"A19_parent_without_stdio", parentWithoutStdio},
		{"A20_task_closes_its_stdio", taskClosesStdio},
		{"A21_request_and_reply", requestAndReply},
		{"A22_error_on_stderr", errorOnStderr},
		{"A23_exit_codes", exitCodes},
		{"A25_AtExit_while_exiting", atExitWhileExiting},
		{"A27_join_survives_a_signal", joinSurvivesSignal},
		{"A29_pool_in_a_process", poolInProcess},
		{"A31_no_fork_bomb", noForkBomb},
		{"A32_descriptors_stay", descriptorsStay},
		{"A33_three_levels", threeLevels},
		{"F10_no_orphans", noOrphans},
		{"F26_kill_the_middle_one", killTheMiddleOne},
		{"states", processStates},
		{"join_with_an_ended_context", joinEndedContext},
		{"names", processNames},
		{"daemons_and_others_at_the_end", daemonsAtTheEnd},
		{"interrupt", interrupted},
		{"what_cannot_start", cannotStart},
		{"failed_start_leaves_nothing", failedStartLeavesNothing},
		{"environment", processEnvironment},
		{"large_argument", largeArgument},
		{"output_that_a_grandchild_holds", outputHeld},
		{"failed_process_leaves_no_command", leavesNoCommand},
		{"process_in_a_pool", processInPool},
		{"methods_at_once", methodsAtOnce},
	} {
		t.Run(test.name, test.run)
	}
}

// Tasks that are run as processes. What they have to tell they write to files.
var (
	processNothing = gpool.Register("process-nothing", func(context.Context, int) (int, error) { return 0, nil })

	// process-who writes who it is, who its parent is, and what it was given.
	processWho = gpool.Register2("process-who", func(_ context.Context, path, arg string) (int, error) {
		self, parent := gpool.Current(), gpool.Parent()
		return 0, save(path, fmt.Sprintf("%d %s %v %d %s %v %s", self.Pid, self.Name, self.Daemon, parent.Pid(), parent.Name(), parent.Alive(), arg))
	})

	// process-stubborn makes a file, with its pid, and heeds nothing.
	processStubborn = gpool.Register("process-stubborn", func(_ context.Context, path string) (int, error) {
		if err := save(path, strconv.Itoa(os.Getpid())); err != nil {
			return 0, err
		}
		for { //nolint:staticcheck // busy on purpose
		}
	})

	// process-await waits for a file and then makes another.
	processAwait = gpool.Register2("process-await", func(ctx context.Context, awaited, made string) (int, error) {
		return 0, errors.Join(waitForFile(ctx, awaited), save(made, ""))
	})

	// process-exit returns, or does, what is asked for.
	processExit = gpool.Register("process-exit", func(_ context.Context, how string) (int, error) {
		word, number, _ := strings.Cut(how, " ")
		n, _ := strconv.Atoi(number)
		switch word {
		case "status":
			return 0, gpool.ExitStatus(n)
		case "wrapped":
			return 0, fmt.Errorf("it is over: %w", gpool.ExitStatus(n))
		case "os.Exit":
			os.Exit(n)
		case "error":
			return 0, errors.New("a text")
		case "panic":
			panic("no way")
		case "foreign":
			go func() { panic("another goroutine") }()
			select {}
		case "Goexit":
			runtime.Goexit()
		}
		return 0, nil
	})

	processDescriptors = gpool.Register2("process-descriptors", func(ctx context.Context, awaited, made string) (int, error) {
		return 0, errors.Join(save(made, strconv.Itoa(descriptors())), waitForFile(ctx, awaited))
	})

	// process-track starts goroutines that nobody but the process waits for.
	processTrack = gpool.Register2("process-track", func(ctx context.Context, awaited, file string) (int, error) {
		gpool.AtExit(func() { _ = appendLine(file, "at exit") })
		gpool.ProcessGo(func() {
			gpool.ProcessGo(func() {
				_ = waitForFile(ctx, awaited)
				_ = appendLine(file, "second")
			})
			_ = appendLine(file, "first")
			runtime.Goexit()
		})
		go func() { select {} }() // is not waited for
		return 0, nil
	})

	// process-print fails if its streams cannot be written to.
	processPrint = gpool.Register("process-print", func(context.Context, int) (int, error) {
		_, err := fmt.Println("a line")
		_, errorsErr := fmt.Fprintln(os.Stderr, "a line")
		return 0, errors.Join(err, errorsErr)
	})

	// process-close-stdio closes its streams in some way and has children then. That
	// one of them is killed while its argument is sent must not end it by SIGPIPE.
	processCloseStdio = gpool.Register2("process-close-stdio", func(_ context.Context, how, file string) (int, error) {
		for _, f := range []*os.File{os.Stdout, os.Stderr} {
			if how == "file" {
				_ = f.Close()
			} else {
				_ = syscall.Close(int(f.Fd()))
			}
		}
		for i := range 3 {
			p := gpool.NewProcess(processWho, gpool.A2(file+strconv.Itoa(i), "x"), gpool.ProcessStdout(&bytes.Buffer{}))
			q := gpool.NewProcess(processPrint, 0)
			large := gpool.NewProcess(processLength, make([]byte, 4<<20))
			if err := errors.Join(p.Start(), q.Start(), large.Start(), large.Kill(), p.Join(background), q.Join(background), large.Join(background)); err != nil {
				return 0, err
			}
			for _, child := range []*gpool.Process{p, q} {
				if code, _ := child.ExitCode(); code != 0 {
					return 0, gpool.ExitStatus(40 + i)
				}
			}
		}
		return 0, nil
	})

	// process-upper answers over two named pipes until it is told to stop.
	processUpper = gpool.Register2("process-upper", func(_ context.Context, requests, replies string) (int, error) {
		in, err := os.Open(requests)
		if err != nil {
			return 0, err
		}
		out, err := os.OpenFile(replies, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(in)
		for lines.Scan() && lines.Text() != "stop" {
			if _, err := fmt.Fprintln(out, strings.ToUpper(lines.Text())); err != nil {
				return 0, err
			}
		}
		return 0, lines.Err()
	})

	processAtExit = gpool.Register("process-at-exit", func(_ context.Context, file string) (int, error) {
		gpool.AtExit(func() { _ = save(file, "") }) // the last one that is called
		gpool.AtExit(func() { panic("an exit function") })
		for range 8 {
			go func() {
				for range 1000 {
					gpool.AtExit(func() {})
				}
			}()
		}
		return 0, nil
	})

	processPool = gpool.Register2("process-pool", func(ctx context.Context, file string, depth int) (int, error) {
		p, err := gpool.New(ctx, gpool.Workers(2))
		if err != nil {
			return 0, err
		}
		squares, err := gpool.Map(ctx, p, square, upTo(10))
		if err != nil {
			return 0, err
		}
		return 0, save(file, fmt.Sprint(squares)) // and the process's end terminates the pool
	})

	// process-parent has three busy children.
	processParent = gpool.Register("process-parent", func(ctx context.Context, file string) (int, error) {
		for i := range 3 {
			if err := gpool.NewProcess(processStubborn, file+strconv.Itoa(i)).Start(); err != nil {
				return 0, err
			}
		}
		select {}
	})

	// process-ends has a daemon that heeds SIGTERM, one that does not, and a process
	// that is none, and returns.
	processEnds = gpool.Register2("process-ends", func(ctx context.Context, awaited, file string) (int, error) {
		first := gpool.NewProcess(touchAndWait, file+"daemon", gpool.Daemon(true), gpool.ProcessName("daemon"))
		second := gpool.NewProcess(processDeaf, file+"deaf", gpool.Daemon(true))
		third := gpool.NewProcess(processAwait, gpool.A2(awaited, file+"done"))
		if err := errors.Join(first.Start(), second.Start(), third.Start(), waitForFile(ctx, file+"daemon"), waitForFile(ctx, file+"deaf")); err != nil {
			return 0, err
		}
		gpool.AtExit(func() { _ = save(awaited, "") })
		return 0, nil
	})

	processDeaf = gpool.Register("process-deaf", func(_ context.Context, path string) (int, error) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
		if err := save(path, strconv.Itoa(os.Getpid())); err != nil {
			return 0, err
		}
		select {}
	})

	processEnvironmentTask = gpool.Register("process-environment", func(_ context.Context, file string) (int, error) {
		dir, err := os.Getwd()
		if err != nil {
			return 0, err
		}
		n, stdinErr := os.Stdin.Read(make([]byte, 1))
		return 0, save(file, fmt.Sprintf("%s|%s|%s|%s|%d %v|%v", os.Getenv("PROCESS_TEST"), dir, os.Getenv("GPOOL_WORKER"), os.Getenv("GPOOL_DEPTH"), n, stdinErr, gpool.IsWorker()))
	})

	processLength = gpool.Register("process-length", func(_ context.Context, b []byte) (int, error) {
		return 0, gpool.ExitStatus(len(b) >> 20)
	})

	// process-leave leaves a command behind, which holds its stdout, and fails or not.
	processLeave = gpool.Register2("process-leave", func(_ context.Context, file string, fail bool) (int, error) {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		fmt.Println("the last word")
		if err := save(file, strconv.Itoa(cmd.Process.Pid)); err != nil || !fail {
			return 0, err
		}
		return 0, gpool.ExitStatus(9)
	})

	// process-command-has-fd runs a command that must not have a descriptor.
	processCommandHasFD = gpool.Register("process-command-has-fd", func(_ context.Context, fd int) (int, error) {
		return 0, exec.Command("sh", "-c", fmt.Sprintf("[ ! -e /dev/fd/%d ]", fd)).Run()
	})

	processHasFD = gpool.Register("process-has-fd", func(_ context.Context, fd int) (int, error) {
		var status syscall.Stat_t
		if err := syscall.Fstat(fd, &status); err != syscall.EBADF {
			return 0, fmt.Errorf("descriptor %d: %v", fd, err)
		}
		return 0, nil
	})

	processNoResult = gpool.Register("process-no-result", func(context.Context, int) (chan int, error) { return nil, nil })
	processNoArg    = gpool.Register("process-no-argument", func(context.Context, chan int) (int, error) { return 0, nil })

	processHeavy = gpool.Register2("process-heavy", func(ctx context.Context, path string, _ *heavy) (int, error) {
		return 0, errors.Join(save(path, ""), waitForFile(ctx, path+"go"))
	})

	// process-from-a-worker has a process as the task of a pool.
	processFromWorker = gpool.Register("process-from-a-worker", func(_ context.Context, file string) (string, error) {
		p := gpool.NewProcess(processWho, gpool.A2(file, "x"))
		if err := runChild(p); err != nil {
			return "", err
		}
		return fmt.Sprint(gpool.Current().Name, p.Daemon(), gpool.Parent().Pid()), nil
	})
)

type heavy struct{ Data []byte }

// Tasks that run themselves are made in init, as a variable cannot be used where it is
// made.
var (
	processTree  *gpool.Task[gpool.Args3[string, string, int], int]
	processChain *gpool.Task[gpool.Args2[string, int], int]
)

func init() {
	// process-tree writes its path to a file, and has two children one after the other.
	processTree = gpool.Register3("process-tree", func(_ context.Context, file, path string, depth int) (int, error) {
		if err := appendLine(file, path); err != nil || depth == 0 {
			return 0, err
		}
		for _, branch := range []string{"0", "1"} {
			if err := runChild(gpool.NewProcess(processTree, gpool.A3(file, path+branch, depth-1))); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})

	// process-chain has a child, which has a child and so on; the last one is busy. Each
	// writes its pid.
	processChain = gpool.Register2("process-chain", func(_ context.Context, file string, depth int) (int, error) {
		if depth == 0 {
			return 0, runChild(gpool.NewProcess(processStubborn, file+"0"))
		}
		if err := save(file+strconv.Itoa(depth), strconv.Itoa(os.Getpid())); err != nil {
			return 0, err
		}
		return 0, runChild(gpool.NewProcess(processChain, gpool.A2(file, depth-1)))
	})

	if how := os.Getenv(noInitVar); how != "" {
		runWithoutInit(how)
	}
}

// noInitVar makes the test binary a program that has forgotten to call Init.
const noInitVar = "PROCESS_TEST_NO_INIT"

// runWithoutInit writes a line for each process that there is.
func runWithoutInit(how string) {
	what, file, _ := strings.Cut(how, " ")
	if err := appendLine(file, strconv.Itoa(os.Getpid())); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var err error
	if what == "pool" {
		_, err = gpool.New(background, gpool.Workers(1))
	} else {
		p := gpool.NewProcess(processNothing, 0)
		if err = p.Start(); err == nil {
			err = p.Join(background)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// runChild starts a process and waits for its end, which must be one with 0.
func runChild(p *gpool.Process) error {
	if err := errors.Join(p.Start(), p.Join(background)); err != nil {
		return err
	}
	if code, ok := p.ExitCode(); code != 0 || !ok {
		return fmt.Errorf("%s has ended with %d, %v", p.Name(), code, ok)
	}
	return nil
}

// save writes a file that is there at once with all of its content.
func save(path, content string) error {
	if err := os.WriteFile(path+".part", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// waitForFile is for tasks.
func waitForFile(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// startProcess returns a process that runs; it is killed if the test does not end it.
func startProcess[In, Out any](t *testing.T, task *gpool.Task[In, Out], in In, o ...gpool.ProcessOption) *gpool.Process {
	t.Helper()
	p := gpool.NewProcess(task, in, o...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.Alive() {
			_ = p.Kill()
			<-p.Done()
		}
	})
	return p
}

// endsWith waits for the end of a process.
func endsWith(t *testing.T, p *gpool.Process, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	if err := p.Join(ctx); err != nil {
		t.Fatalf("%s: %v", p.Name(), err)
	}
	if code, ok := p.ExitCode(); code != want || !ok {
		t.Errorf("%s has ended with %d, %v, want %d", p.Name(), code, ok, want)
	}
}

// contentOf waits for a file.
func contentOf(t *testing.T, path string) string {
	t.Helper()
	waitFor(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(contentOf(t, path), "\n"), "\n")
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(contentOf(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// isGone is true of a zombie too: somebody else's init may be slow to reap it.
func isGone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(after, "Z")
}

func eventuallyGone(t *testing.T, limit time.Duration, pids ...int) {
	t.Helper()
	start := time.Now()
	for slices.ContainsFunc(pids, func(pid int) bool { return !isGone(pid) }) {
		if time.Since(start) > limit {
			t.Fatalf("after %v some of %v are there still", limit, pids)
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%d processes are gone after %v", len(pids), time.Since(start).Round(time.Millisecond))
}

func currentProcess(t *testing.T) {
	want := gpool.ProcessInfo{Pid: os.Getpid(), Name: "MainProcess"}
	if got := gpool.Current(); got != want {
		t.Errorf("Current is %+v, want %+v", got, want)
	}
}

func parentOfProcess(t *testing.T) {
	if p := gpool.Parent(); p != nil {
		t.Errorf("the main process has the parent %d", p.Pid())
	}
	file := filepath.Join(t.TempDir(), "who")
	p := startProcess(t, processWho, gpool.A2(file, "an argument"), gpool.ProcessName("a name"), gpool.Daemon(true))
	endsWith(t, p, 0)
	want := fmt.Sprintf("%d a name true %d MainProcess true an argument", p.Pid(), os.Getpid())
	if got := contentOf(t, file); got != want {
		t.Errorf("the process says %q, want %q", got, want)
	}
}

// checkProcess holds a process against what it should be.
func checkProcess(t *testing.T, p *gpool.Process, when string, alive, listed, ended bool) {
	t.Helper()
	if p.Alive() != alive {
		t.Errorf("%s: Alive is %v", when, p.Alive())
	}
	if got := slices.Contains(gpool.ActiveChildren(), p); got != listed {
		t.Errorf("%s: that ActiveChildren has it is %v", when, got)
	}
	if code, ok := p.ExitCode(); ok != ended || (!ok && code != 0) {
		t.Errorf("%s: the exit code is %d, %v", when, code, ok)
	}
	select {
	case <-p.Done():
		if !ended {
			t.Errorf("%s: Done is closed", when)
		}
	default:
		if ended {
			t.Errorf("%s: Done is not closed", when)
		}
	}
}

func lifeCycle(t *testing.T) {
	dir := t.TempDir()
	p := gpool.NewProcess(processAwait, gpool.A2(dir+"/go", dir+"/done"))
	checkProcess(t, p, "before the start", false, false, false)
	if p.Pid() != 0 || p.Daemon() {
		t.Errorf("before the start: pid %d, daemon %v", p.Pid(), p.Daemon())
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	checkProcess(t, p, "running", true, true, false)
	if pid := p.Pid(); pid == 0 || pid == os.Getpid() {
		t.Errorf("running: pid %d", pid)
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	checkProcess(t, p, "joined", false, false, true)
	waitFor(t, dir+"/done")
}

func killed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := startProcess(t, processStubborn, file)
	if pid := pidIn(t, file); pid != p.Pid() {
		t.Errorf("the process is %d, and Pid says %d", pid, p.Pid())
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	endsWith(t, p, -int(syscall.SIGKILL))
	checkProcess(t, p, "killed", false, false, true)
}

func terminated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := startProcess(t, processStubborn, file)
	waitFor(t, file)
	if err := p.Terminate(); err != nil {
		t.Error(err)
	}
	endsWith(t, p, -int(syscall.SIGTERM))
	checkProcess(t, p, "terminated", false, false, true)
}

func activeChildren(t *testing.T) {
	if list := gpool.ActiveChildren(); len(list) > 0 {
		t.Fatalf("there are %d children", len(list))
	}
	dir := t.TempDir()
	p := startProcess(t, processAwait, gpool.A2(dir+"/go", dir+"/done"))
	q := startProcess(t, processNothing, 0)
	<-q.Done() // nobody joins it
	if list := gpool.ActiveChildren(); len(list) != 1 || list[0] != p {
		t.Errorf("there are %d children, want the one that runs", len(list))
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	if list := gpool.ActiveChildren(); len(list) > 0 {
		t.Errorf("there are %d children after the join", len(list))
	}
}

func recursion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tree")
	endsWith(t, startProcess(t, processTree, gpool.A3(file, "r", 2)), 0)
	want := []string{"r", "r0", "r00", "r01", "r1", "r10", "r11"}
	if got := linesOf(t, file); !slices.Equal(got, want) {
		t.Errorf("the tree is %v, want %v", got, want)
	}
}

func doneChannel(t *testing.T) {
	dir := t.TempDir()
	p := gpool.NewProcess(processAwait, gpool.A2(dir+"/go", dir+"/done"))
	doneC := p.Done() // may be asked for early
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-doneC:
		t.Error("Done is closed while it runs")
	default:
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-doneC:
	case <-time.After(20 * time.Second):
		t.Error("Done is not closed")
	}
	checkProcess(t, p, "done", false, false, true)
}

func manyProcesses(t *testing.T) {
	const n = 100
	before := descriptors()
	var list []*gpool.Process
	for range n {
		list = append(list, startProcess(t, processNothing, 0))
	}
	for _, p := range list {
		endsWith(t, p, 0)
	}
	list = nil
	dir := t.TempDir()
	for i := range n {
		list = append(list, startProcess(t, touchAndWait, filepath.Join(dir, strconv.Itoa(i))))
	}
	for i, p := range list {
		if i%10 == 0 {
			waitFor(t, filepath.Join(dir, strconv.Itoa(i))) // the others may not have begun
		}
		if err := p.Terminate(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range list {
		endsWith(t, p, -int(syscall.SIGTERM))
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
	if err := eventually(func() error {
		if after := descriptors(); after > before {
			return fmt.Errorf("%d descriptors were open before and %d are after", before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func argumentIsDropped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "running")
	p, argument := startHeavy(t, file)
	if err := eventually(func() error {
		if runtime.GC(); argument.Value() != nil {
			return errors.New("the argument is still there")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	waitFor(t, file)
	if !p.Alive() {
		t.Error("the process does not run any more")
	}
	if err := save(file+"go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	runtime.KeepAlive(p)
}

//go:noinline
func startHeavy(t *testing.T, file string) (*gpool.Process, weak.Pointer[heavy]) {
	arg := &heavy{make([]byte, 1<<20)}
	return startProcess(t, processHeavy, gpool.A2(file, arg)), weak.Make(arg)
}

func descriptorsDoNotPileUp(t *testing.T) {
	dir := t.TempDir()
	var list []*gpool.Process
	var counts []string
	for i := range 8 {
		made := filepath.Join(dir, strconv.Itoa(i))
		list = append(list, startProcess(t, processDescriptors, gpool.A2(dir+"/go", made), gpool.ProcessStdout(&bytes.Buffer{})))
		counts = append(counts, contentOf(t, made)) // while the others run
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		endsWith(t, p, 0)
	}
	if slices.ContainsFunc(counts, func(n string) bool { return n != counts[0] }) {
		t.Errorf("the children have %v descriptors open", counts)
	}
}

func trackedGoroutines(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, processTrack, gpool.A2(dir+"/go", dir+"/lines"))
	waitFor(t, dir+"/lines")
	if !p.Alive() {
		t.Error("the process has not waited")
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	if got, want := linesOf(t, dir+"/lines"), []string{"first", "second", "at exit"}; !slices.Equal(got, want) {
		t.Errorf("the process has done %v, want %v", got, want)
	}
}

func parentWithoutStdio(t *testing.T) {
	for _, how := range []string{"file", "descriptor"} {
		file := filepath.Join(t.TempDir(), how)
		endsWith(t, startProcess(t, processCloseStdio, gpool.A2(how, file)), 0)
		for i := range 3 {
			waitFor(t, file+strconv.Itoa(i))
		}
	}
}

func taskClosesStdio(t *testing.T) {
	// What it does after it has closed its streams is what parentWithoutStdio looks at.
	endsWith(t, startProcess(t, processCloseStdio, gpool.A2("file", filepath.Join(t.TempDir(), "x")),
		gpool.ProcessStdout(&bytes.Buffer{}), gpool.ProcessStderr(&bytes.Buffer{})), 0)
}

func requestAndReply(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"/requests", "/replies"} {
		if err := syscall.Mkfifo(dir+name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startProcess(t, processUpper, gpool.A2(dir+"/requests", dir+"/replies"))
	out, err := os.OpenFile(dir+"/requests", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := os.Open(dir + "/replies")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	replies := bufio.NewScanner(in)
	for _, word := range []string{"hello", "world"} {
		if _, err := fmt.Fprintln(out, word); err != nil {
			t.Fatal(err)
		}
		if !replies.Scan() || replies.Text() != strings.ToUpper(word) {
			t.Errorf("the reply to %s is %q, %v", word, replies.Text(), replies.Err())
		}
	}
	if !p.Alive() {
		t.Error("the process has stopped by itself")
	}
	if _, err := fmt.Fprintln(out, "stop"); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
}

func errorOnStderr(t *testing.T) {
	for how, want := range map[string][]string{
		"error":   {"gpool: process worker bee: the task process-exit failed: a text\n"},
		"panic":   {"gpool: process worker bee: the task process-exit panicked: no way\n", "process_test.go:"},
		"Goexit":  {"gpool: process worker bee: ", "Goexit"},
		"foreign": {"panic: another goroutine", "process_test.go:"},
	} {
		code := 1
		if how == "foreign" {
			code = 2
		}
		var errs bytes.Buffer
		endsWith(t, startProcess(t, processExit, how, gpool.ProcessName("worker bee"), gpool.ProcessStderr(&errs)), code)
		for _, text := range want {
			if !strings.Contains(errs.String(), text) {
				t.Errorf("%s: %q is not in what it prints:\n%s", how, text, errs.String())
			}
		}
	}
}

func exitCodes(t *testing.T) {
	for _, test := range []struct {
		how  string
		code int
		errs string
	}{
		{"", 0, ""},
		{"status 0", 0, ""},
		{"status 1", 1, ""},
		{"status 42", 42, ""},
		{"status 261", 5, ""},
		{"status -1", 255, ""},
		{"wrapped 7", 7, "gpool: process p: the task process-exit failed: it is over: exit status 7\n"},
		{"error", 1, "gpool: process p: the task process-exit failed: a text\n"},
		{"os.Exit 8", 8, ""},
		{"os.Exit 0", 0, ""},
	} {
		var errs bytes.Buffer
		endsWith(t, startProcess(t, processExit, test.how, gpool.ProcessName("p"), gpool.ProcessStderr(&errs)), test.code)
		if errs.String() != test.errs {
			t.Errorf("%s: it prints %q, want %q", test.how, errs.String(), test.errs)
		}
	}
}

func atExitWhileExiting(t *testing.T) {
	for range 3 {
		file := filepath.Join(t.TempDir(), "last")
		var errs bytes.Buffer
		endsWith(t, startProcess(t, processAtExit, file, gpool.ProcessStderr(&errs)), 0)
		if _, err := os.Stat(file); err != nil {
			t.Errorf("the first function was not called in the end: %v", err)
		}
		if !strings.Contains(errs.String(), "an exit function") || strings.Contains(errs.String(), "DATA RACE") {
			t.Errorf("it prints %s", errs.String())
		}
	}
}

// catch hands signals over until the test has ended.
func catch(t *testing.T, s os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 10)
	signal.Notify(c, s)
	t.Cleanup(func() { signal.Stop(c) })
	return c
}

func joinSurvivesSignal(t *testing.T) {
	caughtC := catch(t, syscall.SIGUSR1)
	dir := t.TempDir()
	p := startProcess(t, processAwait, gpool.A2(dir+"/go", dir+"/done"))
	joinedC := make(chan error, 1)
	go func() { joinedC <- p.Join(background) }()
	for range 5 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		<-caughtC
	}
	select {
	case err := <-joinedC:
		t.Errorf("Join returns %v at a signal", err)
	default:
	}
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	if err := <-joinedC; err != nil {
		t.Error(err)
	}
	endsWith(t, p, 0)
}

func poolInProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "squares")
	endsWith(t, startProcess(t, processPool, gpool.A2(file, 0)), 0)
	if got, want := contentOf(t, file), "[0 1 4 9 16 25 36 49 64 81]"; got != want {
		t.Errorf("the squares are %s, want %s", got, want)
	}
}

func noForkBomb(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"pool", "process"} {
		file := filepath.Join(t.TempDir(), "pids")
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), noInitVar+"="+what+" "+file)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "gpool.Init") {
			t.Errorf("%s: it ends with %v and prints %s", what, err, out)
		}
		if pids := linesOf(t, file); len(pids) != 1 {
			t.Errorf("%s: there were %d processes, want the program alone", what, len(pids))
		}
	}
	// Workers of such a program, if there were any.
	workers := filepath.Join(t.TempDir(), "pids")
	_, err = gpool.New(background, gpool.Workers(1), gpool.Env(noInitVar+"=pool "+workers))
	if _, is := errors.AsType[*gpool.StartError](err); !is || !strings.Contains(err.Error(), "gpool.Init") || len(linesOf(t, workers)) > 3 {
		t.Errorf("a pool whose workers forget Init gives %v", err)
	}
	// A process of such a program, if there were one.
	file := filepath.Join(t.TempDir(), "pids")
	var errs bytes.Buffer
	p := startProcess(t, processNothing, 0, gpool.ProcessEnv(noInitVar+"=process "+file), gpool.ProcessStderr(&errs))
	endsWith(t, p, 3)
	if !strings.Contains(errs.String(), "gpool.Init") || len(linesOf(t, file)) != 1 {
		t.Errorf("it prints %s", errs.String())
	}
}

func descriptorsStay(t *testing.T) {
	high, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	for _, stdout := range []gpool.ProcessOption{gpool.ProcessStdout(os.Stdout), gpool.ProcessStdout(&bytes.Buffer{})} {
		endsWith(t, startProcess(t, processHasFD, high, stdout), 0)
	}
	endsWith(t, startProcess(t, processCommandHasFD, 3), 0) // what the process itself has from its parent
}

func threeLevels(t *testing.T) {
	names := filepath.Join(t.TempDir(), "tree")
	endsWith(t, startProcess(t, processTree, gpool.A3(names, "", 3)), 0)
	if got := linesOf(t, names); len(got) != 15 || got[3] != "000" {
		t.Errorf("the tree is %q", got)
	}
}

func noOrphans(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := startProcess(t, processParent, file)
	var pids []int
	for i := range 3 {
		pids = append(pids, pidIn(t, file+strconv.Itoa(i)))
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventuallyGone(t, time.Second, pids...)
	endsWith(t, p, -int(syscall.SIGKILL))
}

func killTheMiddleOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := startProcess(t, processChain, gpool.A2(file, 2))
	pids := []int{pidIn(t, file+"0"), pidIn(t, file+"1")}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventuallyGone(t, time.Second, pids...)
	endsWith(t, p, -int(syscall.SIGKILL))
}

func processStates(t *testing.T) {
	dir := t.TempDir()
	expect := func(when string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	p := gpool.NewProcess(processAwait, gpool.A2(dir+"/go", dir+"/done"))
	expect("join before the start", p.Join(background), gpool.ErrProcessNotStarted)
	expect("terminate before the start", p.Terminate(), gpool.ErrProcessNotStarted)
	expect("kill before the start", p.Kill(), gpool.ErrProcessNotStarted)
	expect("interrupt before the start", p.Interrupt(), gpool.ErrProcessNotStarted)
	expect("start", p.Start(), nil)
	expect("start twice", p.Start(), gpool.ErrProcessStarted)
	expect("close while it runs", p.Close(), gpool.ErrProcessRunning)
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	expect("join twice", p.Join(background), nil)
	expect("start after the end", p.Start(), gpool.ErrProcessStarted)
	expect("terminate after the end", p.Terminate(), nil)
	expect("kill after the end", p.Kill(), nil)
	expect("interrupt after the end", p.Interrupt(), nil)
	endsWith(t, p, 0)
	expect("close", p.Close(), nil)
	expect("close twice", p.Close(), nil)
	expect("start after close", p.Start(), gpool.ErrProcessClosed)
	expect("join after close", p.Join(background), gpool.ErrProcessClosed)
	expect("terminate after close", p.Terminate(), gpool.ErrProcessClosed)
	expect("kill after close", p.Kill(), gpool.ErrProcessClosed)
	if code, ok := p.ExitCode(); code != 0 || ok || p.Alive() || p.Pid() != 0 {
		t.Errorf("closed: exit code %d, %v, alive %v, pid %d", code, ok, p.Alive(), p.Pid())
	}
	q := gpool.NewProcess(processNothing, 0)
	expect("close before the start", q.Close(), nil)
	expect("start after close", q.Start(), gpool.ErrProcessClosed)
}

func joinEndedContext(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, processAwait, gpool.A2(dir+"/go", dir+"/done"))
	gaveUp := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(background)
	cancel(gaveUp)
	past, stop := context.WithTimeout(background, -time.Second)
	defer stop()
	within(t, 5*time.Second, func() {
		if err := p.Join(ctx); err != gaveUp {
			t.Errorf("Join returns %v", err)
		}
		if err := p.Join(past); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join returns %v", err)
		}
	})
	checkProcess(t, p, "not waited for", true, true, false)
	if err := save(dir+"/go", ""); err != nil {
		t.Fatal(err)
	}
	endsWith(t, p, 0)
	if err := p.Join(ctx); err != nil {
		t.Errorf("Join of a process that has ended returns %v", err)
	}
}

func processNames(t *testing.T) {
	a, b := gpool.NewProcess(processNothing, 0), gpool.NewProcess(processNothing, 0)
	var i, j int
	if _, err := fmt.Sscanf(a.Name()+" "+b.Name(), "Process-%d Process-%d", &i, &j); err != nil || j != i+1 {
		t.Errorf("the names are %s and %s", a.Name(), b.Name())
	}
	if p := gpool.NewProcess(processNothing, 0, gpool.ProcessName("mine")); p.Name() != "mine" {
		t.Errorf("the name is %s", p.Name())
	}
	var out bytes.Buffer
	p := gpool.NewProcess(processNamesTask, 0, gpool.ProcessStdout(&out), gpool.Daemon(true))
	name := p.Name()
	if err := runChild(p); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("%s:1 %s:2 mine false true\n", name, name); out.String() != want {
		t.Errorf("children are called %q, want %q", out.String(), want)
	}
}

// process-names prints the names of children, and whether they are daemons.
var processNamesTask = gpool.Register("process-names", func(context.Context, int) (int, error) {
	a, b := gpool.NewProcess(processNothing, 0), gpool.NewProcess(processNothing, 0)
	c := gpool.NewProcess(processNothing, 0, gpool.ProcessName("mine"), gpool.Daemon(false))
	fmt.Println(a.Name(), b.Name(), c.Name(), c.Daemon(), a.Daemon())
	return 0, nil
})

func daemonsAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, processEnds, gpool.A2(dir+"/go", dir+"/"))
	pid := pidIn(t, dir+"/deaf")
	endsWith(t, p, 0)
	if _, err := os.Stat(dir + "/done"); err != nil {
		t.Errorf("the process that is no daemon was not waited for: %v", err)
	}
	if !isGone(pid) {
		t.Errorf("the daemon %d is left", pid)
	}
}

func interrupted(t *testing.T) {
	dir := t.TempDir()
	var errs bytes.Buffer
	p := startProcess(t, touchAndWait, dir+"/waits", gpool.ProcessStderr(&errs))
	waitFor(t, dir+"/waits")
	if err := p.Interrupt(); err != nil {
		t.Error(err)
	}
	endsWith(t, p, 1)
	if !strings.Contains(errs.String(), gpool.ErrInterrupted.Error()) {
		t.Errorf("the cause is not in what it prints: %s", errs.String())
	}
	q := startProcess(t, processInterrupted, dir+"/twice")
	waitFor(t, dir+"/twice")
	if err := q.Interrupt(); err != nil {
		t.Error(err)
	}
	waitFor(t, dir+"/twice.interrupted")
	for range 1000 { // the handler is taken away a moment before or after the context ends
		if err := q.Interrupt(); err != nil {
			t.Error(err)
		}
		select {
		case <-q.Done():
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	endsWith(t, q, -int(syscall.SIGINT))
}

// process-interrupted goes on when it is interrupted.
var processInterrupted = gpool.Register("process-interrupted", func(ctx context.Context, path string) (int, error) {
	if err := save(path, ""); err != nil {
		return 0, err
	}
	<-ctx.Done()
	if err := save(path+".interrupted", ""); err != nil {
		return 0, err
	}
	select {}
})

func cannotStart(t *testing.T) {
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	fn := gpool.Fn(func(context.Context, int) (int, error) { return 0, nil })
	for _, test := range []struct {
		p    *gpool.Process
		want string
	}{
		{gpool.NewProcess(fn, 0), "a task of Fn has no name"},
		{gpool.NewProcess(processNoArg, make(chan int)), "encode the argument of task process-no-argument"},
		{gpool.NewProcess(processNothing, 0, gpool.ProcessEnv("x")), "a variable is NAME=VALUE"},
		{gpool.NewProcess(processNothing, 0, gpool.ProcessDir(filepath.Join(t.TempDir(), "none"))), "no such file"},
		{gpool.NewProcess(processNothing, 0, gpool.ProcessStderr(closed)), "already closed"},
	} {
		err := test.p.Start()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Start returns %v, want %q", err, test.want)
		}
		checkProcess(t, test.p, test.want, false, false, false)
		if err := test.p.Join(background); !errors.Is(err, gpool.ErrProcessNotStarted) {
			t.Errorf("Join returns %v", err)
		}
	}
	if err := gpool.NewProcess(fn, 0).Start(); !errors.Is(err, gpool.ErrNotRegistered) {
		t.Errorf("Start returns %v", err)
	}
	if err := gpool.NewProcess(processNoArg, make(chan int)).Start(); !errorIs[*gpool.EncodeError](err) {
		t.Errorf("Start returns %v", err)
	}
	p := gpool.NewProcess(processNothing, 0)
	t.Setenv("GPOOL_DEPTH", "10")
	if err := p.Start(); err == nil || !strings.Contains(err.Error(), "within 10 others") {
		t.Errorf("Start returns %v", err)
	}
	t.Setenv("GPOOL_DEPTH", "9")
	if err := runChild(p); err != nil { // a start that failed may be tried again
		t.Error(err)
	}
	if err := runChild(gpool.NewProcess(processNoResult, 0)); err != nil {
		t.Errorf("a result that cannot travel: %v", err)
	}
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func failedStartLeavesNothing(t *testing.T) {
	before := descriptors()
	for range 20 {
		p := gpool.NewProcess(processNothing, 0, gpool.ProcessDir("/dev/null"), gpool.ProcessStdout(&bytes.Buffer{}), gpool.ProcessStderr(&bytes.Buffer{}))
		if err := p.Start(); err == nil {
			t.Fatal("it starts")
		}
	}
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors were open before and %d are after", before, after)
	}
}

func processEnvironment(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := runChild(gpool.NewProcess(processEnvironmentTask, "who", gpool.ProcessEnv("PROCESS_TEST=first", "PROCESS_TEST=a value"), gpool.ProcessDir(dir))); err != nil {
		t.Fatal(err)
	}
	if got, want := contentOf(t, filepath.Join(dir, "who")), "a value|"+dir+"||1|0 EOF|true"; got != want {
		t.Errorf("the process sees %s, want %s", got, want)
	}
}

func largeArgument(t *testing.T) {
	endsWith(t, startProcess(t, processLength, make([]byte, 20<<20)), 20)
	p := startProcess(t, processLength, make([]byte, 20<<20))
	if err := p.Kill(); err != nil { // while it reads
		t.Error(err)
	}
	endsWith(t, p, -int(syscall.SIGKILL))
}

func outputHeld(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	var out bytes.Buffer
	p := startProcess(t, processLeave, gpool.A2(file, false), gpool.ProcessStdout(&out), gpool.ProcessStderr(&out))
	endsWith(t, p, 0)
	pid := pidIn(t, file)
	if isGone(pid) {
		t.Error("what a process leaves that ends well should go on")
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if out.String() != "the last word\n" {
		t.Errorf("the output is %q", out.String())
	}
}

func leavesNoCommand(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the session of a process that has ended can be searched on Linux only")
	}
	file := filepath.Join(t.TempDir(), "pid")
	endsWith(t, startProcess(t, processLeave, gpool.A2(file, true), gpool.ProcessStdout(&bytes.Buffer{})), 9)
	eventuallyGone(t, 5*time.Second, pidIn(t, file))
}

func processInPool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "who")
	p := newPool(t, gpool.Workers(1))
	got, err := gpool.Apply(background, p, processFromWorker, file)
	if want := fmt.Sprint("PoolWorker", true, os.Getpid()); err != nil || got != want {
		t.Errorf("the task returns %q, %v, want %q", got, err, want)
	}
	if who := contentOf(t, file); !strings.Contains(who, " Process-1 true ") || !strings.HasSuffix(who, " PoolWorker true x") {
		t.Errorf("its process says %q", who)
	}
}

func methodsAtOnce(t *testing.T) {
	dir := t.TempDir()
	p := gpool.NewProcess(touchAndWait, dir+"/waits", gpool.ProcessStdout(&bytes.Buffer{}))
	var callers sync.WaitGroup
	var starts sync.Map
	for i := range 8 {
		callers.Go(func() {
			if p.Start() == nil {
				starts.Store(i, true)
			}
			p.Alive()
			p.ExitCode()
			p.Pid()
			gpool.ActiveChildren()
			waitFor(t, dir+"/waits")
			_ = p.Close()
			if err := p.Terminate(); err != nil && !errors.Is(err, gpool.ErrProcessClosed) {
				t.Error(err)
			}
			if err := p.Kill(); err != nil && !errors.Is(err, gpool.ErrProcessClosed) {
				t.Error(err)
			}
			<-p.Done()
		})
	}
	callers.Wait()
	n := 0
	starts.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("it was started %d times", n)
	}
}
