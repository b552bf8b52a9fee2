package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests really kill, interrupt and starve. Each command that they run carries
// a mark in its environment, so that whatever is left of it can be found.

const markVariable = "GPOOL_TEST_MARK"

// day is one gpool under test.
type day struct {
	*exec.Cmd
	t    *testing.T
	mark string
	dir  string
	out  bytes.Buffer

	stdout *os.File // where a test reads it by itself
}

// newDay makes a gpool with the arguments, in an empty directory.
func newDay(t *testing.T, args ...string) *day {
	t.Helper()
	gpool, err := exec.LookPath("gpool") // TestMain has put it on the PATH
	if err != nil {
		t.Fatal(err)
	}
	d := &day{Cmd: exec.Command(gpool, args...), t: t, dir: t.TempDir()}
	d.mark = fmt.Sprintf("%s=%d-%d", markVariable, os.Getpid(), time.Now().UnixNano())
	d.Dir = d.dir
	d.Env = append(os.Environ(), d.mark)
	errFile, err := os.Create(filepath.Join(d.dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	d.Stdout, d.Stderr = &d.out, errFile
	t.Cleanup(func() {
		errFile.Close()
		for _, pid := range d.left() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return d
}

// left lists the processes, zombies apart, that carry the mark.
func (d *day) left() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte(d.mark)) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		pids = append(pids, pid)
	}
	return pids
}

// leftNames are the command lines of what is left.
func (d *day) leftNames() (names []string) {
	for _, pid := range d.left() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		names = append(names, strings.ReplaceAll(string(line), "\x00", " ")+" "+string(stat))
	}
	return names
}

// nothingLeft fails if a process with the mark lives longer than the limit. A look
// takes its time too, so the last process counts as gone when the look that did not
// find it began.
func (d *day) nothingLeft(limit time.Duration) {
	d.t.Helper()
	if raceEnabled {
		limit *= 5 // everything is slower, and the processes too
	}
	from := time.Now()
	var took time.Duration
	d.until("all processes to end", func() bool {
		took = time.Since(from)
		return len(d.left()) == 0
	})
	d.t.Logf("everything was gone after %v", took.Round(time.Millisecond))
	if took > limit {
		d.t.Errorf("processes lived %v longer, %v are allowed", took, limit)
	}
}

// until waits for a condition and returns how long that took. It looks again every
// few milliseconds: what it waits for are other processes.
func (d *day) until(what string, ok func() bool) time.Duration {
	d.t.Helper()
	from := time.Now()
	for !ok() {
		if time.Since(from) > 20*time.Second {
			d.t.Fatalf("waited 20 s for %s; processes: %q; stderr: %s", what, d.leftNames(), d.said())
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(from)
}

// files counts the files in the test's directory that match.
func (d *day) files(pattern string) int {
	list, _ := filepath.Glob(filepath.Join(d.dir, pattern))
	return len(list)
}

func (d *day) start() {
	d.t.Helper()
	if err := d.Start(); err != nil {
		d.t.Fatal(err)
	}
}

// exit waits for gpool and compares its exit code; 128+N stands for signal N.
func (d *day) exit(want int) {
	d.t.Helper()
	_ = d.Wait()
	got := d.ProcessState.ExitCode()
	if ws := d.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		got = 128 + int(ws.Signal())
	}
	if got != want {
		d.t.Errorf("gpool exited with %d, want %d; stderr: %s", got, want, d.said())
	}
}

// said is what is on stderr by now.
func (d *day) said() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "stderr"))
	if err != nil {
		d.t.Error(err)
	}
	return string(b)
}

func (d *day) says(text string) {
	d.t.Helper()
	if !strings.Contains(d.said(), text) {
		d.t.Errorf("stderr does not say %q: %s", text, d.said())
	}
}

// busy is a command with a child in the background and one that ignores SIGTERM.
const busy = `sleep 1000 & sh -c 'trap "" TERM; touch up.$0; while :; do sleep 1; done' {#}`

func TestKilledParentLeavesNothing(t *testing.T) {
	d := newDay(t, "map", "-j4", "-c", busy, ":::", "1", "2", "3", "4")
	d.start()
	d.until("4 commands", func() bool { return d.files("up.*") == 4 })
	if n := len(d.left()); n < 1+4+4*3 {
		t.Fatalf("only %d processes run: the test does not test what it should", n)
	}
	_ = d.Process.Kill()
	d.exit(128 + 9)
	d.nothingLeft(200 * time.Millisecond)
}

func TestKilledParentWithIdleAndStartingWorkersLeavesNothing(t *testing.T) {
	d := newDay(t, "imap", "-j4", "--initializer", "touch init.$$; sleep 1000", "--", "true")
	stdin, err := d.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	fmt.Fprint(stdin, "1\n2\n3\n4\n")
	d.until("initializers", func() bool { return d.files("init.*") > 0 })
	_ = d.Process.Kill()
	d.exit(128 + 9)
	stdin.Close()
	d.nothingLeft(200 * time.Millisecond)
}

func TestKilledWorkerCostsOneCall(t *testing.T) {
	// The seventh command of a chunk of ten kills the worker that runs it, while a
	// child in the background is left to be found.
	d := newDay(t, "map", "-j2", "--chunksize", "10", "-c",
		`echo {}; [ {} != 7 ] || { sleep 1000 & kill -9 $PPID; sleep 1000; }`)
	d.Stdin = strings.NewReader(numbers(1, 40))
	d.start()
	d.exit(1)
	want := numbers(1, 40)
	if got := d.out.String(); got != want && got != strings.Replace(want, "7\n", "", 1) {
		t.Errorf("stdout is %q", got)
	}
	d.says("call 7 (line 7 of standard input, 7): worker ")
	d.says("killed by signal 9")
	d.says("gpool: 40 calls: 1 failed")
	d.nothingLeft(200 * time.Millisecond)
}

func TestTerminateOnceDrainsTwiceKills(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(unix.SignalName(sig)+" once", func(t *testing.T) {
			d := newDay(t, "map", "-j2", "-c", `touch up.{}; while [ ! -e go ]; do sleep 0.02; done; echo {}`, ":::", "1", "2", "3", "4")
			d.start()
			d.until("2 commands", func() bool { return d.files("up.*") == 2 })
			_ = d.Process.Signal(sig)
			d.until("the answer", func() bool { return strings.Contains(d.said(), "no more calls are begun") })
			if err := os.WriteFile(filepath.Join(d.dir, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			d.exit(128 + int(sig))
			if got := d.out.String(); got != "1\n2\n" {
				t.Errorf("the calls that ran printed %q", got)
			}
			d.says("2 not run")
			d.nothingLeft(200 * time.Millisecond)
		})
	}
	t.Run("twice", func(t *testing.T) {
		d := newDay(t, "map", "-j2", "-c", busy, ":::", "1", "2", "3", "4")
		d.start()
		d.until("2 commands", func() bool { return d.files("up.*") == 2 })
		_ = d.Process.Signal(syscall.SIGTERM)
		d.until("the answer", func() bool { return strings.Contains(d.said(), "no more calls are begun") })
		_ = d.Process.Signal(syscall.SIGTERM)
		from := time.Now()
		d.exit(128 + 15)
		if took := time.Since(from); took > 3*time.Second {
			t.Errorf("it took %v to end", took)
		}
		d.nothingLeft(200 * time.Millisecond)
	})
}

func TestClosedOutputEndsTheRunQuietly(t *testing.T) {
	d := newDay(t, "imap", "-j2", "--", "echo", "{}")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	yes := exec.Command("yes")
	yesOut, err := yes.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := yes.Start(); err != nil {
		t.Fatal(err)
	}
	d.Stdin, d.Stdout = yesOut, w
	d.start()
	w.Close()
	yesOut.Close()
	three := make([]byte, 6)
	if _, err := io.ReadFull(r, three); err != nil || string(three) != "y\ny\ny\n" {
		t.Errorf("read %q, %v", three, err)
	}
	r.Close()
	from := time.Now()
	d.exit(128 + int(syscall.SIGPIPE))
	if took := time.Since(from); took > 2*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	if d.said() != "" {
		t.Errorf("it said %q", d.said())
	}
	_ = yes.Wait()
	d.nothingLeft(200 * time.Millisecond)
}

func TestFullDiskStopsTheRun(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	d := newDay(t, "imap", "-j2", "--", "echo", "{}")
	d.Stdin, d.Stdout = strings.NewReader(numbers(1, 100000)), full
	d.start()
	d.exit(3)
	d.says("no space left on device")
	d.nothingLeft(time.Second)
}

func TestFullDiskForOutputThatWaitsStopsTheRun(t *testing.T) {
	// The first call is slow, so the 20 MB of the others must wait, in a temporary
	// file on a disk of 1 MB. The mount is in a name space of its own.
	if exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt").Run() != nil {
		t.Skip("a disk of 1 MB needs unshare, mount and the right to use them")
	}
	d := newDay(t, "map", "-j3", "-c", `[ {} != 1 ] || sleep 1000; head -c 5000000 /dev/zero`, ":::", "1", "2", "3", "4", "5")
	within(d, "unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=1m none /mnt && TMPDIR=/mnt exec "$0" "$@"`)
	d.start()
	d.exit(3)
	d.says("keep output that must wait in a temporary file in /mnt")
	d.says("no space left on device")
	d.nothingLeft(time.Second)
}

// within runs gpool by another command, which gets it as its last arguments.
func within(d *day, command ...string) {
	d.t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		d.t.Skip(err)
	}
	d.Args = append(append(command, d.Path), d.Args[1:]...)
	d.Path = path
}

func TestFewFilesMeanFewerWorkers(t *testing.T) {
	d := newDay(t, "map", "-j30", "--", "sh", "-c", "sleep 0.2; echo $0", "{}")
	within(d, "sh", "-c", `ulimit -n 40; exec "$0" "$@"`)
	d.Stdin = strings.NewReader(numbers(1, 40))
	d.start()
	d.exit(0)
	if got := d.out.String(); got != numbers(1, 40) {
		t.Errorf("stdout is %q", got)
	}
	d.says("the run goes on with fewer")
	d.says("too many open files")
}

func TestNoMoreProcessesMeansFewerWorkers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the limit of processes must be that of a user who has no others: needs root")
	}
	const nobody = 64321 // no other process has this user
	d := newDay(t, "map", "-j30", "--", "sh", "-c", "sleep 0.2; echo $0", "{}")
	d.readable()
	within(d, "prlimit", "--nproc=60")
	d.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	d.Stdin = strings.NewReader(numbers(1, 40))
	d.start()
	_ = d.Wait()
	results := strings.Count(d.out.String(), "\n")
	code := d.ProcessState.ExitCode()
	t.Logf("%d of 40 results, exit code %d, stderr: %s", results, code, d.said())
	if code == 2 && strings.Contains(d.said(), "failed to create new OS thread") {
		// The Go runtime itself cannot go on without a thread, in gpool as in any
		// program: it said so, and nothing may be left.
		d.nothingLeft(time.Second)
		return
	}
	// A command may find no room for its own children; then it fails, and says so.
	if (code != 0 && code != 1) || (results < 40) != (code != 0) {
		t.Errorf("%d of 40 results and exit code %d", results, code)
	}
	d.says("there is room for") // before the first worker is started
	d.nothingLeft(time.Second)
}

// readable builds gpool where another user may run it, as it is shipped: with cgo, as
// tests are linked, a process needs more threads.
func (d *day) readable() {
	d.t.Helper()
	dir, err := os.MkdirTemp("", "gpool-test-")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	d.Path, d.Dir = filepath.Join(dir, "gpool"), dir
	build := exec.Command("go", "build", "-o", d.Path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		d.t.Fatalf("build gpool: %v: %s", err, out)
	}
}

func TestOutputOfManyLargeCallsIsWholeAndMemoryBounded(t *testing.T) {
	// 30 calls write 3 MB to each stream, in pieces: a MIX test of GNU parallel's.
	const calls, size = 30, 3_000_000
	script := `b=$(head -c 100000 /dev/zero | tr '\0' {2}); i=0; while [ $i -lt 30 ]; do printf %s "$b"; printf %s "$b" >&2; i=$((i+1)); done`
	letters := "abcdefghijklmnopqrstuvwxyz0123"
	for _, verb := range []string{"starmap", "starmap --unordered"} {
		args := append(strings.Fields(verb), "-j4", "-c", script)
		var rows strings.Builder
		for i := range calls {
			fmt.Fprintf(&rows, "%d\t%c\n", i, letters[i])
		}
		d := newDay(t, args...)
		d.Stdin = strings.NewReader(rows.String())
		d.start()
		peak := d.watchMemory()
		d.exit(0)
		for name, b := range map[string][]byte{"stdout": d.out.Bytes(), "stderr": []byte(d.said())} {
			if len(b) != calls*size {
				t.Errorf("%s: %s has %d bytes of %d", verb, name, len(b), calls*size)
			}
			for i := 0; i+size <= len(b); i += size {
				if n := bytes.Count(b[i:i+size], b[i:i+1]); n != size {
					t.Errorf("%s: %s of call %d is mixed: %d of %d bytes are the same", verb, name, i/size+1, n, size)
				}
			}
		}
		if mib := <-peak; mib > 64 && !raceEnabled {
			t.Errorf("%s: the parent used %d MiB for %d MB of output", verb, mib, 2*calls*size/1_000_000)
		} else {
			t.Logf("%s: the parent used %d MiB at most", verb, mib)
		}
	}
}

// watchMemory sends the peak of gpool's resident memory, in MiB, once it has ended.
// The kernel's own account, in the usage of a child, counts what the parent of the
// fork used, too.
func (d *day) watchMemory() <-chan int {
	peakC := make(chan int, 1)
	path := fmt.Sprintf("/proc/%d/status", d.Process.Pid)
	go func() {
		kib := 0
		for {
			status, err := os.ReadFile(path)
			_, rest, ok := strings.Cut(string(status), "VmHWM:")
			if err != nil || !ok { // it has ended
				peakC <- kib / 1024
				return
			}
			_, _ = fmt.Sscan(rest, &kib)
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return peakC
}

// numbers is the lines from a to b.
func numbers(a, b int) string {
	var s strings.Builder
	for i := a; i <= b; i++ {
		fmt.Fprintln(&s, i)
	}
	return s.String()
}

// TestWorkersKilledAtRandomCostOneCallEach kills workers again and again: every call
// has one result, and each victim is named.
func TestWorkersKilledAtRandomCostOneCallEach(t *testing.T) {
	const calls = 200
	d := newDay(t, "imap", "-j4", "--chunksize", "5", "-c", "echo {}; sleep 0.02; true")
	d.Stdin = strings.NewReader(numbers(1, calls))
	d.start()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.exit(1)
	}()
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	kills := 0
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		case <-time.After(time.Duration(rng.IntN(60)) * time.Millisecond):
			// Not one that is starting: the third of those in a row would end the run.
			if busy := d.parents("sleep"); len(busy) > 0 && kills < 15 {
				kills++
				_ = unix.Kill(busy[rng.IntN(len(busy))], unix.SIGKILL)
			}
		}
	}
	seen := map[string]int{}
	for line := range strings.Lines(d.out.String()) {
		seen[strings.TrimSuffix(line, "\n")]++
	}
	twice := 0
	for _, n := range seen {
		if n != 1 {
			twice++
		}
	}
	died := strings.Count(d.said(), "died: killed by signal 9")
	if len(seen) < calls-died || twice > 0 {
		t.Errorf("%d of %d calls printed, %d of them more than once; %d workers are said to have died: %s", len(seen), calls, twice, died, d.said())
	}
	if died == 0 || !strings.Contains(d.said(), fmt.Sprintf("gpool: %d calls: ", calls)) {
		t.Errorf("%d kills, and it said %s", kills, d.said())
	}
	t.Logf("%d kills cost %d calls", kills, died)
	d.nothingLeft(200 * time.Millisecond)
}

// parents lists the parents' parents of the commands of a name: the workers whose
// shells run them.
func (d *day) parents(name string) (pids []int) {
	parent := map[int]int{}
	var running []int
	for _, pid := range d.left() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		var ppid int
		i := bytes.LastIndexByte(stat, ')')
		if i < 0 {
			continue
		}
		if _, err := fmt.Sscanf(string(stat[i+2:]), "%1s %d", new(string), &ppid); err != nil {
			continue
		}
		parent[pid] = ppid
		if bytes.Contains(stat[:i], []byte("("+name)) {
			running = append(running, pid)
		}
	}
	for _, pid := range running {
		if worker := parent[parent[pid]]; worker > 1 && worker != d.Process.Pid {
			pids = append(pids, worker)
		}
	}
	return pids
}

// workers lists the pids of gpool's workers.
func (d *day) workers() (pids []int) {
	for _, pid := range d.left() {
		if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.HasSuffix(args, []byte("\x00"+workerVerb+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestStalledOutputDoesNotHoldTheSecondSignal: nobody reads what gpool prints, nor
// what it says, and nobody closes it either.
func TestStalledOutputDoesNotHoldTheSecondSignal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	d := newDay(t, "map", "-j2", "-c", "head -c 300000 /dev/zero; touch up.{#}; sleep 1000", ":::", "1", "2", "3", "4")
	d.Stdout, d.Stderr = w, w
	d.start()
	d.until("2 commands", func() bool { return d.files("up.*") == 2 })
	const first = syscall.SIGTERM
	_ = d.Process.Signal(first)
	from := time.Now()
	stop := time.AfterFunc(100*time.Millisecond, func() { _ = d.Process.Signal(syscall.SIGINT) })
	defer stop.Stop()
	d.exit(128 + int(first))
	if took := time.Since(from); took > 10*time.Second {
		t.Errorf("it took %v to end", took)
	}
	d.nothingLeft(200 * time.Millisecond)
}

func TestALeftReaderOfStderrLosesNoResults(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	d := newDay(t, "map", "-j2", "-c", "echo {}; echo err >&2", ":::", "1", "2", "3")
	d.Stderr = w
	d.start()
	d.exit(0)
	if got := d.out.String(); got != numbers(1, 3) {
		t.Errorf("stdout is %q", got)
	}
}
