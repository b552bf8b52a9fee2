package launch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gpool/internal/pool"
)

// The test binary plays the workers: with the variable set it is one of parts.
const part = "GPOOL_TEST_PART"

var parts = map[string]func(){
	// echo says its session, and then repeats what it reads.
	"echo": func() {
		sid, _ := unix.Getsid(0)
		fmt.Println(sid == os.Getpid())
		_, _ = io.Copy(os.Stdout, os.Stdin)
	},
	"fails":   func() { fmt.Fprintln(os.Stderr, "no luck"); os.Exit(7) },
	"crashes": func() { startChild("sleep", "1000"); _ = unix.Kill(os.Getpid(), unix.SIGKILL); select {} },
	"leaves":  func() { startChild("sleep", "1000"); os.Exit(0) },
	"quits":   func() { startChild("sleep", "1000"); os.Exit(3) },
	"stubborn": func() {
		startChild("sh", "-c", `trap "" TERM; while :; do sleep 1; done`)
		_, _ = io.Copy(io.Discard, os.Stdin)
		select {}
	},
}

// startChild starts a process that holds the worker's output open, and prints its pid.
func startChild(argv ...string) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Println(cmd.Process.Pid)
}

func TestMain(m *testing.M) {
	if play := parts[os.Getenv(part)]; play != nil {
		play()
		os.Exit(0)
	}
	r, w, _ := os.Pipe() // the runtime opens its own descriptors with the first one
	r.Close()
	w.Close()
	before := descriptors()
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		code = 1
	}
	if after := descriptors(); after != before {
		fmt.Printf("%d descriptors were open before the tests and %d are after\n", before, after)
		code = 1
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		fmt.Printf("a child is left: %d, %v\n", pid, err)
		code = 1
	}
	os.Exit(code)
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

func launchPart(t *testing.T, name string) (pool.Process, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &Local{Path: self, Env: append(os.Environ(), part+"="+name)}
	p, err := l.Launch(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Frames().CloseWrite() })
	return p, bufio.NewReader(p.Frames())
}

// rest reads both streams to their end, which also closes them.
func rest(t *testing.T, p pool.Process, out io.Reader) (stdout, stderr string) {
	t.Helper()
	a, err := io.ReadAll(out)
	b, err2 := io.ReadAll(p.Stderr())
	if err != nil || err2 != nil {
		t.Errorf("read what is left: %v, %v", err, err2)
	}
	return string(a), string(b)
}

func TestStreamsAndSession(t *testing.T) {
	p, out := launchPart(t, "echo")
	if line, err := out.ReadString('\n'); line != "true\n" || err != nil {
		t.Errorf("a worker leads a session of its own: %q, %v", line, err)
	}
	if _, err := io.WriteString(p.Frames(), "frames"); err != nil {
		t.Error(err)
	}
	if err := p.Frames().CloseWrite(); err != nil {
		t.Error(err)
	}
	if e := p.Wait(); e.Code != 0 || e.Signal != 0 || e.MaxRSS == 0 {
		t.Errorf("it ended with %+v", e)
	}
	if stdout, _ := rest(t, p, out); stdout != "frames" {
		t.Errorf("it repeated %q", stdout)
	}
}

func TestExits(t *testing.T) {
	p, out := launchPart(t, "fails")
	if e := p.Wait(); e.Code != 7 || e.Signal != 0 {
		t.Errorf("it ended with %+v", e)
	}
	if _, stderr := rest(t, p, out); stderr != "no luck\n" {
		t.Errorf("it said %q", stderr)
	}
	self := &Local{Path: "/nonexistent/program"}
	if _, err := self.Launch(3); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start worker 3") {
		t.Errorf("a missing program gives %v", err)
	}
}

// TestWhatAWorkerLeavesBehind: a worker that ends badly takes along what it started;
// one that leaves in order may leave something behind, and its output then ends all
// the same.
func TestWhatAWorkerLeavesBehind(t *testing.T) {
	for name, lives := range map[string]bool{"crashes": false, "quits": false, "leaves": true} {
		p, out := launchPart(t, name)
		var child int
		if _, err := fmt.Fscan(out, &child); err != nil {
			t.Fatal(err)
		}
		e := p.Wait()
		if name == "crashes" && e.Signal != syscall.SIGKILL {
			t.Errorf("%s: it ended with %+v", name, e)
		}
		from := time.Now()
		_, _ = rest(t, p, out)
		if took := time.Since(from); took > 10*drainTime {
			t.Errorf("%s: its output ended only after %v", name, took)
		}
		if lives && !alive(child) {
			t.Errorf("%s: its child was ended", name)
		} else if !lives && !dies(child) {
			t.Errorf("%s: its child lives", name)
		}
		_ = unix.Kill(child, unix.SIGKILL)
	}
}

func TestKillEndsEverything(t *testing.T) {
	p, out := launchPart(t, "stubborn")
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(0); err != nil {
		t.Errorf("it does not live: %v", err)
	}
	p.Kill()
	p.Kill()
	if e := p.Wait(); e.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %+v", e)
	}
	p.Kill()
	_, _ = rest(t, p, out)
	if !dies(child) {
		t.Error("its child lives")
		_ = unix.Kill(child, unix.SIGKILL)
	}
}

// alive reports whether a process lives; one that waits for its parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil { // no such process, or no such file system
		return unix.Kill(pid, 0) == nil
	}
	i := strings.LastIndexByte(string(stat), ')')
	return i > 0 && stat[i+2] != 'Z'
}

// dies waits a second for the end of a process that was killed.
func dies(pid int) bool {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !alive(pid) {
			return true
		}
	}
	return false
}
