package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gpool"
)

// TestMain lets the test binary play its own workers, and fails if anything is left of
// what the tests have started.
func TestMain(m *testing.M) {
	gpool.Init()
	if role := roles[os.Getenv(roleVar)]; role != nil {
		os.Exit(role())
	}
	if raceEnabled { // else each worker sleeps for a second before it exits
		os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	}
	r, w, _ := os.Pipe() // the runtime opens its own descriptors with the first one
	r.Close()
	w.Close()
	before := descriptors()
	code := m.Run()
	for _, check := range []func() error{
		func() error { return goleak.Find() },
		func() error {
			if after := descriptors(); after != before {
				return fmt.Errorf("%d descriptors were open before the tests and %d are after", before, after)
			}
			return nil
		},
		func() error {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
				return fmt.Errorf("a child is left: %d, %v", pid, err)
			}
			return nil
		},
	} {
		if err := eventually(check); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// The test binary also plays programs that use gpool and are killed, interrupted or
// starved: with the variable set it is one of roles.
const roleVar = "GPOOL_TEST_ROLE"

var roles = map[string]func() int{}

// playing starts the test binary in a role.
func playing(role string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), roleVar+"="+role), env...)
	return cmd
}

// eventually asks until there is no error, for two seconds.
func eventually(check func() error) (err error) {
	for range 200 {
		if err = check(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// descriptors counts what this process has open, where the system can tell.
func descriptors() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// newPool makes a pool of processes that is gone when the test has ended.
func newPool(t testing.TB, o ...gpool.Option) *gpool.Pool {
	t.Helper()
	p, err := gpool.New(context.Background(), o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endPool(t, p) })
	return p
}

// newThreads is newPool for a pool of goroutines.
func newThreads(t testing.TB, o ...gpool.Option) *gpool.ThreadPool {
	t.Helper()
	p, err := gpool.NewThreadPool(context.Background(), o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endPool(t, p) })
	return p
}

// lifecycle is what pools of both kinds have.
type lifecycle interface {
	gpool.Runner
	Close()
	Join(context.Context) error
	Terminate()
	Resize(int) error
	Stats() gpool.Stats
}

func endPool(t testing.TB, p lifecycle) {
	t.Helper()
	p.Terminate()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Join(ctx); errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the pool has not ended: %v", err)
	}
}

// overBoth runs a test over a pool of processes and over one of goroutines.
func overBoth(t *testing.T, o []gpool.Option, test func(*testing.T, lifecycle)) {
	t.Helper()
	t.Run("Pool", func(t *testing.T) { test(t, newPool(t, o...)) })
	t.Run("ThreadPool", func(t *testing.T) { test(t, newThreads(t, o...)) })
}

// within fails the test if f takes longer.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		f()
	}()
	select {
	case <-doneC:
	case <-time.After(d):
		buf := make([]byte, 1<<20)
		t.Fatalf("it takes longer than %v\n%s", d, buf[:runtime.Stack(buf, true)])
	}
}

// upTo is 0 to n-1.
func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// waitFor waits until a file is there: how a task tells that it has begun.
func waitFor(t testing.TB, path string) {
	t.Helper()
	for range 2000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s does not come", filepath.Base(path))
}

var background = context.Background()

// Tasks of the tests. Each does one thing.
var (
	square = gpool.Register("square", func(_ context.Context, x int) (int, error) { return x * x, nil })
	add    = gpool.Register2("add", func(_ context.Context, a, b int) (int, error) { return a + b, nil })
	// snooze sleeps so many milliseconds, or until its context ends.
	snooze = gpool.Register("snooze", func(ctx context.Context, ms int) (int, error) {
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return ms, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	})
	// touch-and-wait makes a file and then waits until its context ends.
	touchAndWait = gpool.Register("touch-and-wait", func(ctx context.Context, path string) (int, error) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	pidOf  = gpool.Register("pid", func(context.Context, int) (int, error) { return os.Getpid(), nil })
	exitOn = gpool.Register2("exit-on", func(_ context.Context, x, victim int) (int, error) {
		if x == victim {
			os.Exit(3)
		}
		return x, nil
	})
	failIf = gpool.Register2("fail-if", func(_ context.Context, x int, bad []int) (int, error) {
		for _, b := range bad {
			if x == b {
				return 0, fmt.Errorf("item %d: %w", x, errBad)
			}
		}
		return x, nil
	})
)

var errBad = errors.New("a bad item")
