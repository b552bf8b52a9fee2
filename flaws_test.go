package gpool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"gpool"
)

// Each test here is named after a known flaw of Python's pools, F1 to F32 in
// docs/semantics.md, and shows that gpool does not have it. Figures of time are logged,
// and compared in bench; here only bounds that tell "at once" from "never" are asserted.

var (
	killSelfOn = gpool.Register2("kill-self-on", func(_ context.Context, x, victim int) (int, error) {
		if x == victim {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return x, nil
	})
	panics       = gpool.Register("panics", func(_ context.Context, what string) (int, error) { panic(what) })
	panicsBeside = gpool.Register("panics-beside", func(ctx context.Context, what string) (int, error) {
		go panic(what)
		<-ctx.Done()
		return 0, ctx.Err()
	})
	// once notes each run of an item in a file of a directory, and dies at the victim.
	once = gpool.Register3("once", func(_ context.Context, dir string, x, victim int) (int, error) {
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(x)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		if _, err := f.WriteString("."); err != nil {
			return 0, err
		}
		if x == victim {
			os.Exit(3)
		}
		return x, f.Close()
	})
	initFails = gpool.Register("init-fails", func(_ context.Context, dir string) (int, error) {
		mark(dir)
		return 0, fmt.Errorf("no model at hand: %w", errBad)
	})
	initDies = gpool.Register("init-dies", func(_ context.Context, dir string) (int, error) {
		mark(dir)
		os.Exit(9)
		return 0, nil
	})
	length = gpool.Register("length", func(_ context.Context, s string) (int, error) { return len(s), nil })
	spin   = gpool.Register2("spin", func(_ context.Context, x, victim int) (int, error) {
		for x == victim {
		}
		return os.Getpid(), nil
	})
	pidThenSpin = gpool.Register("pid-then-spin", func(_ context.Context, dir string) (int, error) {
		mark(dir)
		for {
		}
	})
	customFails = gpool.Register("custom-fails", func(_ context.Context, how string) (int, error) {
		switch how {
		case "plain":
			return 0, fmt.Errorf("on the way: %w", &customError{Code: 7, Cause: os.ErrPermission})
		case "panics":
			return 0, &explosiveError{Text: "boom"}
		case "path":
			_, err := os.Open("/nonexistent/file")
			return 0, err
		}
		return 42, nil
	})
	prints = gpool.Register("prints", func(_ context.Context, what string) (string, error) {
		fmt.Println("println", what)
		if _, err := syscall.Write(1, []byte("raw "+what+"\n")); err != nil {
			return "", err
		}
		cmd := exec.Command("echo", "child", what)
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			return "", err
		}
		rest, err := io.ReadAll(os.Stdin)
		return fmt.Sprintf("%s, %d bytes on stdin", what, len(rest)), err
	})
	blob  = gpool.Register("blob", func(_ context.Context, n int) ([]byte, error) { return bytes.Repeat([]byte{7}, n), nil })
	echo  = gpool.Register("echo-bytes", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	leaks = gpool.Register("leaks", func(ctx context.Context, mib int) (int, error) {
		block := bytes.Repeat([]byte{1}, mib<<20)
		leaked = append(leaked, block)
		time.Sleep(150 * time.Millisecond) // longer than the pool takes to look
		return os.Getpid(), nil
	})
)

var leaked [][]byte

// nested makes a pool within a worker, and so on; each level notes its pid.
func nested(ctx context.Context, dir string, level int) (int, error) {
	mark(filepath.Join(dir, strconv.Itoa(level)))
	if level == 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	p, err := gpool.New(ctx, gpool.Workers(1))
	if err != nil {
		return 0, err
	}
	defer p.Terminate()
	return gpool.Apply(ctx, p, nestTask, gpool.A2(dir, level-1))
}

// nestTask is set by init, because nested refers to it.
var nestTask *gpool.Task[gpool.Args2[string, int], int]

func init() { nestTask = gpool.Register2("nest", nested) }

// mark leaves the pid of this process as a file in a directory.
func mark(dir string) {
	_ = os.MkdirAll(dir, 0o700)
	_ = os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())), nil, 0o600)
}

// marks are the pids that were left there.
func marks(t testing.TB, dir string, n int) (pids []int) {
	t.Helper()
	for range 2000 {
		list, _ := os.ReadDir(dir)
		if len(list) >= n {
			for _, entry := range list {
				pid, err := strconv.Atoi(entry.Name())
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			return pids
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no %d processes come", n)
	return nil
}

// alive reports whether a process lives; one that waits for its parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil { // no such process, or no such file system
		return unix.Kill(pid, 0) == nil
	}
	i := bytes.LastIndexByte(stat, ')')
	return i > 0 && stat[i+2] != 'Z'
}

// goneAfter waits until none of the processes lives, and says how long that took.
func goneAfter(t testing.TB, limit time.Duration, pids ...int) time.Duration {
	t.Helper()
	begun := time.Now()
	for slices.ContainsFunc(pids, alive) {
		if time.Since(begun) > limit {
			t.Errorf("processes of %v live %v later", pids, limit)
			break
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
}

func pairs(n, with int) (list []gpool.Args2[int, int]) {
	for i := range n {
		list = append(list, gpool.A2(i, with))
	}
	return list
}

func TestF01KilledWorkerFailsItsCallAlone(t *testing.T) {
	p := newPool(t, gpool.Workers(2))
	var out []int
	var err error
	within(t, 10*time.Second, func() {
		out, err = gpool.Map(background, p, killSelfOn, pairs(100, 7), gpool.CollectErrors(), gpool.Chunk(10))
	})
	died, ok := errors.AsType[*gpool.WorkerDiedError](err)
	if !ok || died.Index != 7 || died.Signal != syscall.SIGKILL || died.Task != "kill-self-on" || died.Pid == 0 {
		t.Errorf("the error is %v", err)
	}
	for i, v := range out {
		if want := map[bool]int{true: 0, false: i}[i == 7]; v != want {
			t.Errorf("the result of %d is %d", i, v)
		}
	}
	if got, err := gpool.Map(background, p, square, upTo(10)); err != nil || got[9] != 81 {
		t.Errorf("afterwards: %v, %v", got, err)
	}
	if s := p.Stats(); len(s.Workers) != 2 || s.Deaths != 1 {
		t.Errorf("afterwards: %d workers, %d deaths", len(s.Workers), s.Deaths)
	}
}

func TestF02ExitsAndPanicsAreErrors(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	within(t, 20*time.Second, func() {
		_, err := gpool.Apply(background, p, exitOn, gpool.A2(1, 1))
		if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.ExitCode != 3 {
			t.Errorf("os.Exit(3) gives %v", err)
		}
		_, err = gpool.Apply(background, p, panics, "at the disco")
		if p, ok := errors.AsType[*gpool.PanicError](err); !ok || p.Value != "at the disco" || !strings.Contains(p.Stack, "flaws_test.go") {
			t.Errorf("a panic gives %+v", err)
		}
		_, err = gpool.Apply(background, p, panicsBeside, "elsewhere")
		if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.ExitCode != 2 || !strings.Contains(died.Stderr, "panic: elsewhere") || !strings.Contains(died.Stderr, "flaws_test.go") {
			t.Errorf("a panic of another goroutine gives %v", err)
		}
		if v, err := gpool.Apply(background, p, square, 4); v != 16 || err != nil {
			t.Errorf("afterwards: %d, %v", v, err)
		}
	})
}

func TestF03ACrashDoesNotEndThePool(t *testing.T) {
	p := newPool(t, gpool.Workers(2))
	var futures []*gpool.Future[int]
	for i := range 8 {
		futures = append(futures, gpool.ApplyAsync(background, p, exitOn, gpool.A2(i, 3)))
	}
	for i, f := range futures {
		v, err := f.Get(background)
		if _, died := errors.AsType[*gpool.WorkerDiedError](err); died != (i == 3) || i != 3 && v != i {
			t.Errorf("call %d: %d, %v", i, v, err)
		}
	}
	// Retries are left to the caller here: four starts, and then the error.
	dir := t.TempDir()
	var err error
	for range 4 {
		_, err = gpool.Apply(background, p, once, gpool.A3(dir, 1, 1))
	}
	runs, _ := os.ReadFile(filepath.Join(dir, "1"))
	if _, died := errors.AsType[*gpool.WorkerDiedError](err); !died || len(runs) != 4 {
		t.Errorf("a task that always dies was started %d times, and ended with %v", len(runs), err)
	}
	limited := newPool(t, gpool.Workers(1), gpool.RestartLimit(3, time.Minute))
	_, err = gpool.Map(background, limited, exitOn, slices.Repeat([]gpool.Args2[int, int]{{A: 1, B: 1}}, 100), gpool.CollectErrors())
	if !errors.Is(err, gpool.ErrRestartLimit) || limited.Stats().Died > 4 {
		t.Errorf("with a limit of 3 deaths, %d calls died, and the error is %v", limited.Stats().Died, err)
	}
	if _, err := gpool.Apply(background, limited, square, 1); !errors.Is(err, gpool.ErrRestartLimit) {
		t.Errorf("a pool that has failed gives %v", err)
	}
	dies := newPool(t, gpool.Workers(2), gpool.Initializer(initDies, t.TempDir()), gpool.Lazy())
	within(t, 5*time.Second, func() {
		if _, err := gpool.Map(background, dies, square, upTo(10)); !errors.Is(err, gpool.ErrRestartLimit) {
			t.Errorf("an initializer that always dies gives %v", err)
		}
	})
}

func TestF04ADeathCostsOneCallOfItsChunkAndRunsNoneTwice(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	for round := range 20 {
		dir := t.TempDir()
		var items []gpool.Args3[string, int, int]
		for i := range 25 {
			items = append(items, gpool.A3(dir, i, 7))
		}
		out, err := gpool.Map(background, p, once, items, gpool.Chunk(25), gpool.CollectErrors())
		if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.Index != 7 {
			t.Fatalf("round %d: %v", round, err)
		}
		for i := range 25 {
			runs, _ := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
			if len(runs) != 1 || i != 7 && out[i] != i {
				t.Errorf("round %d: call %d ran %d times, and its result is %d", round, i, len(runs), out[i])
			}
		}
	}
}

func TestF05AFailingInitializerFailsThePool(t *testing.T) {
	dir := t.TempDir()
	var p *gpool.Pool
	within(t, 5*time.Second, func() {
		// A pool that is not lazy may have failed before New returns, which says so then.
		var err error
		if p, err = gpool.New(background, gpool.Workers(3), gpool.Initializer(initFails, dir), gpool.Lazy()); err != nil {
			t.Fatal(err)
		}
		defer endPool(t, p)
		_, err = gpool.Map(background, p, square, upTo(10))
		init, ok := errors.AsType[*gpool.InitError](err)
		if !ok || !errors.Is(err, errBad) || !strings.Contains(init.Error(), "no model at hand") {
			t.Errorf("Map gives %v", err)
		}
		if _, err := gpool.Apply(background, p, square, 1); !errors.Is(err, errBad) {
			t.Errorf("Apply gives %v", err)
		}
	})
	if started, _ := os.ReadDir(dir); len(started) > 9 {
		t.Errorf("the initializer was tried %d times", len(started))
	}
}

func TestF06AnIteratorTakesNoMoreThanItsWindow(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(2)}, func(t *testing.T, p lifecycle) {
		for _, window := range []int{1, 4, 50} {
			var taken atomic.Int64
			endless := func(yield func(int) bool) {
				for i := 0; ; i++ {
					taken.Add(1)
					if !yield(i) {
						return
					}
				}
			}
			yielded := 0
			for v, err := range gpool.IMap(background, p, square, endless, gpool.Window(window)) {
				if err != nil || v != yielded*yielded {
					t.Fatalf("result %d is %d, %v", yielded, v, err)
				}
				if yielded++; taken.Load() > int64(yielded+window) {
					t.Errorf("window %d: %d items were taken for %d results", window, taken.Load(), yielded)
				}
				if yielded == 10 {
					break
				}
			}
			if taken.Load() > int64(10+window) {
				t.Errorf("window %d: %d items were taken for 10 results", window, taken.Load())
			}
		}
		p.Close()
		within(t, 5*time.Second, func() {
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestF06MemoryStaysFlatOverAMillionItems(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("it takes a million calls")
	}
	p := newPool(t, gpool.Workers(2))
	million := func(yield func(int) bool) {
		for i := range 1000000 {
			if !yield(i) {
				return
			}
		}
	}
	var early, late uint64
	n := 0
	for _, err := range gpool.IMap(background, p, square, million, gpool.Window(10000), gpool.Chunk(500)) {
		if err != nil {
			t.Fatal(err)
		}
		switch n++; n {
		case 100000:
			early = heapInUse()
		case 999000:
			late = heapInUse()
		}
	}
	t.Logf("live heap after 100 thousand results: %d KiB, after 999 thousand: %d KiB", early>>10, late>>10)
	if n != 1000000 || late > early+8<<20 {
		t.Errorf("%d results; the heap has grown from %d to %d bytes", n, early, late)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestF07MapEncodesAsWorkersNeedIt(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("it takes a gigabyte of arguments")
	}
	p := newPool(t, gpool.Workers(2))
	items := slices.Repeat([]string{strings.Repeat("x", 1000)}, 1000000)
	before := heapInUse()
	var peak atomic.Uint64
	stopC, doneC := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(doneC)
		var m runtime.MemStats
		for {
			select {
			case <-stopC:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapAlloc))
			}
		}
	}()
	out, err := gpool.Map(background, p, length, items)
	close(stopC)
	<-doneC
	above := int64(peak.Load()) - int64(before) - int64(len(out)*8)
	t.Logf("the heap peaks at %d MiB above input and output", above>>20)
	if err != nil || len(out) != len(items) || out[len(out)-1] != 1000 {
		t.Errorf("%d results, %v", len(out), err)
	}
	if above > 64<<20 {
		t.Errorf("the heap peaks at %d MiB above input and output", above>>20)
	}
}

func TestF08HardLimits(t *testing.T) {
	p := newPool(t, gpool.Workers(2))
	before, err := gpool.Apply(background, p, pidOf, 0)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	pids, err := gpool.Map(background, p, spin, pairs(10, 4), gpool.HardLimit(200*time.Millisecond), gpool.CollectErrors())
	took := time.Since(begun)
	timeout, ok := errors.AsType[*gpool.TimeoutError](err)
	if !ok || timeout.Index != 4 || !timeout.Hard || timeout.Limit != 200*time.Millisecond || !timeout.Timeout() {
		t.Errorf("the error is %v", err)
	}
	t.Logf("a limit of 200 ms ended the call after %v", took)
	if took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for i, pid := range pids {
		if (pid == 0) != (i == 4) {
			t.Errorf("the result of %d is %d", i, pid)
		}
	}
	s := p.Stats()
	if s.TimedOut != 1 || s.Deaths != 0 {
		t.Errorf("%d calls timed out, %d deaths", s.TimedOut, s.Deaths)
	}
	_ = before
	// What waits a second behind others has not reached a limit of half a second.
	one := newPool(t, gpool.Workers(1), gpool.HardLimit(500*time.Millisecond))
	if _, err := gpool.Map(background, one, snooze, slices.Repeat([]int{200}, 6)); err != nil {
		t.Errorf("calls of 200 ms, one behind the other, with a limit of 500 ms: %v", err)
	}
}

func TestF08SoftLimits(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(1), gpool.SoftLimit(100 * time.Millisecond)}, func(t *testing.T, p lifecycle) {
		_, err := gpool.Apply(background, p, snooze, 60000)
		if timeout, ok := errors.AsType[*gpool.TimeoutError](err); !ok || timeout.Hard || timeout.Limit != 100*time.Millisecond {
			t.Errorf("the error is %v", err)
		}
		if v, err := gpool.Apply(background, p, snooze, 20); v != 20 || err != nil {
			t.Errorf("a short call: %d, %v", v, err)
		}
		if v, err := gpool.Apply(background, p, snooze, 300, gpool.SoftLimit(time.Minute)); v != 300 || err != nil {
			t.Errorf("a call with a limit of its own: %d, %v", v, err)
		}
		if s := p.Stats(); s.Started != 1 {
			t.Errorf("%d workers were started", s.Started)
		}
	})
}

// napper sleeps through a Map and says when it is interrupted.
func init() {
	roles["napper"] = func() int {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
		defer stop()
		p, err := gpool.New(ctx, gpool.Workers(3))
		if err != nil {
			fmt.Println(err)
			return 2
		}
		for _, w := range p.Stats().Workers {
			fmt.Println("worker", w.Pid)
		}
		fmt.Println("napping")
		_, err = gpool.Map(ctx, p, snooze, slices.Repeat([]int{60000}, 12))
		stop() // a second Ctrl-C ends the program
		fmt.Println("interrupted:", errors.Is(err, context.Canceled), err)
		if os.Getenv("GPOOL_TEST_STAYS") != "" {
			fmt.Println("staying")
			time.Sleep(time.Minute)
		}
		p.Terminate()
		_ = p.Join(context.Background())
		return 0
	}
}

func TestF09CtrlC(t *testing.T) {
	for _, twice := range []bool{false, true} {
		cmd := playing("napper")
		if twice {
			cmd = playing("napper", "GPOOL_TEST_STAYS=1")
		}
		terminal, err := pty.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		defer terminal.Close()
		lines := bufio.NewScanner(terminal)
		var pids []int
		read := func(until string) (said []string) {
			for lines.Scan() {
				line := strings.TrimSpace(lines.Text())
				if pid, ok := strings.CutPrefix(line, "worker "); ok {
					n, _ := strconv.Atoi(pid)
					pids = append(pids, n)
				}
				said = append(said, line)
				if until != "" && strings.Contains(line, until) { // the terminal shows ^C before it
					return said
				}
			}
			return said
		}
		read("napping")
		begun := time.Now()
		_, _ = terminal.Write([]byte{3}) // Ctrl-C, to the foreground group
		said := read("interrupted")
		t.Logf("Map returned %v after Ctrl-C", time.Since(begun))
		if twice {
			said = append(said, read("staying")...)
			_, _ = terminal.Write([]byte{3})
		}
		said = append(said, read("")...)
		err = cmd.Wait()
		if twice {
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGINT {
				t.Errorf("a second Ctrl-C: it ended with %v", err)
			}
		} else if err != nil {
			t.Errorf("it ended with %v", err)
		}
		var rest []string
		for _, line := range said {
			if line != "^C" && line != "staying" && !strings.HasPrefix(strings.TrimPrefix(line, "^C"), "interrupted: true") {
				rest = append(rest, line)
			}
		}
		if len(pids) != 3 || rest != nil {
			t.Errorf("%d workers; it also said %q", len(pids), rest)
		}
		goneAfter(t, 5*time.Second, pids...)
	}
}

// busy keeps three workers in loops that heed nothing, until it is killed.
func init() {
	roles["busy"] = func() int {
		p, err := gpool.New(context.Background(), gpool.Workers(3))
		if err != nil {
			fmt.Println(err)
			return 2
		}
		_, err = gpool.Map(context.Background(), p, pidThenSpin, slices.Repeat([]string{os.Getenv("GPOOL_TEST_DIR")}, 3))
		fmt.Println(err)
		return 1
	}
}

func TestF10KilledParentLeavesNoWorkers(t *testing.T) {
	dir := t.TempDir()
	cmd := playing("busy", "GPOOL_TEST_DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := marks(t, dir, 3)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Logf("three spinning workers were gone %v after their parent", goneAfter(t, 5*time.Second, pids...))
}

func TestF11ReplacingWorkersNeverHangs(t *testing.T) {
	rounds, calls := 20, 10
	for _, workers := range []int{1, 4} {
		within(t, 2*time.Minute, func() {
			for round := range rounds {
				p := newPool(t, gpool.Workers(workers), gpool.MaxTasksPerChild(1))
				pids, err := gpool.Map(background, p, pidOf, upTo(calls))
				slices.Sort(pids)
				if err != nil || len(slices.Compact(pids)) != calls {
					t.Errorf("%d workers, round %d: %v, pids %v", workers, round, err, pids)
				}
				p.Close()
				if err := p.Join(background); err != nil {
					t.Errorf("%d workers, round %d: %v", workers, round, err)
				}
			}
		})
	}
}

func TestF12WhatMaxTasksPerChildCounts(t *testing.T) {
	for _, tt := range []struct {
		options []gpool.Option
		pids    int
	}{
		{[]gpool.Option{gpool.MaxTasksPerChild(2)}, 4},
		{[]gpool.Option{gpool.MaxTasksPerChild(2), gpool.CountChunks()}, 1},
		{[]gpool.Option{gpool.MaxTasksPerChild(1), gpool.CountChunks()}, 2},
	} {
		p := newPool(t, append(tt.options, gpool.Workers(1))...)
		pids, err := gpool.Map(background, p, pidOf, upTo(8), gpool.Chunk(4))
		slices.Sort(pids)
		if n := len(slices.Compact(pids)); err != nil || n != tt.pids {
			t.Errorf("%d workers ran 8 calls in chunks of 4, want %d; %v", n, tt.pids, err)
		}
	}
}

type customError struct {
	Code  int
	Cause error
}

func (e *customError) Error() string { return fmt.Sprintf("code %d: %v", e.Code, e.Cause) }
func (e *customError) Unwrap() error { return e.Cause }

// explosiveError encodes well, and panics when it is decoded.
type explosiveError struct{ Text string }

func (e *explosiveError) Error() string                  { return e.Text }
func (e *explosiveError) MarshalBinary() ([]byte, error) { return []byte(e.Text), nil }
func (e *explosiveError) UnmarshalBinary([]byte) error   { panic("it explodes") }

func init() {
	gpool.RegisterError[*customError]("custom")
	gpool.RegisterError[*explosiveError]("explosive")
}

func TestF13ErrorsTravelWhateverTheyAre(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	_, err := gpool.Apply(background, p, customFails, "plain")
	if custom, ok := errors.AsType[*customError](err); !ok || custom.Code != 7 || !errors.Is(err, os.ErrPermission) || err.Error() != "task custom-fails: on the way: code 7: permission denied" {
		t.Errorf("a registered error arrives as %v", err)
	}
	_, err = gpool.Apply(background, p, customFails, "panics")
	if _, ok := errors.AsType[*gpool.DecodeError](err); !ok || !strings.Contains(err.Error(), "boom") {
		t.Errorf("an error whose decoder panics arrives as %v", err)
	}
	_, err = gpool.Apply(background, p, customFails, "path")
	if path, ok := errors.AsType[*os.PathError](err); !ok || path.Path != "/nonexistent/file" || !errors.Is(err, os.ErrNotExist) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("an error of a file arrives as %v", err)
	}
	if v, err := gpool.Apply(background, p, customFails, "not"); v != 42 || err != nil {
		t.Errorf("afterwards: %d, %v", v, err)
	}
	if s := p.Stats(); s.Started != 1 {
		t.Errorf("%d workers were started", s.Started)
	}
}

func TestF14CallbacksMayDoAnything(t *testing.T) {
	var said lockedBuffer
	overBoth(t, []gpool.Option{gpool.Workers(1), gpool.Stderr(&said)}, func(t *testing.T, p lifecycle) {
		within(t, 20*time.Second, func() {
			var order []string
			doneC := make(chan struct{})
			f := gpool.ApplyAsync(background, p, square, 3)
			f.OnDone(func(*gpool.Future[int]) { panic("a callback that panics") })
			f.OnSuccess(func(v int) {
				out, err := gpool.Map(background, p, square, upTo(v))
				order = append(order, fmt.Sprint(len(out), err))
			})
			f.OnError(func(error) { order = append(order, "never") })
			f.OnDone(func(*gpool.Future[int]) {
				p.Terminate()
				close(doneC)
			})
			<-doneC
			if s := strings.Join(order, ", "); s != "9 <nil>" {
				t.Errorf("the callbacks did %s", s)
			}
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
		if s := said.String(); !strings.Contains(s, "a callback that panics") || !strings.Contains(s, "flaws_test.go") {
			t.Errorf("the panic is reported as %q", s)
		}
	})
}

// lockedBuffer is a buffer that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestF16TerminateAnswersEverybody(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(1)}, func(t *testing.T, p lifecycle) {
		path := filepath.Join(t.TempDir(), "begun")
		runs := gpool.ApplyAsync(background, p, touchAndWait, path)
		waitFor(t, path)
		waits := gpool.ApplyAsync(background, p, square, 1)
		all := gpool.MapAsync(background, p, square, upTo(100))
		it := gpool.Start(background, p, square, upTo(100))
		defer it.Stop()
		begun := time.Now()
		p.Terminate()
		p.Terminate()
		within(t, 5*time.Second, func() {
			for name, err := range map[string]error{
				"a call that runs": runs.Err(background), "a call that waits": waits.Err(background), "a map": all.Err(background),
			} {
				if !errors.Is(err, gpool.ErrTerminated) {
					t.Errorf("%s ends with %v", name, err)
				}
			}
			if _, ok, err := it.Next(background); ok || !errors.Is(err, gpool.ErrTerminated) {
				t.Errorf("an iterator ends with %v, %v", ok, err)
			}
		})
		t.Logf("all were answered within %v", time.Since(begun))
		if _, err := gpool.Apply(background, p, square, 1); !errors.Is(err, gpool.ErrPoolClosed) {
			t.Errorf("a call afterwards ends with %v", err)
		}
	})
}

func TestF17WhichErrorIsReturned(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(2)}, func(t *testing.T, p lifecycle) {
		bad := func(i int) gpool.Args2[int, []int] { return gpool.A2(i, []int{3, 8}) }
		var items []gpool.Args2[int, []int]
		for i := range 10 {
			items = append(items, bad(i))
		}
		for range 100 {
			_, err := gpool.Map(background, p, failIf, items, gpool.FirstByIndex(), gpool.Chunk(1))
			if !strings.Contains(err.Error(), "item 3: ") {
				t.Fatalf("FirstByIndex gives %v", err)
			}
		}
		out, err := gpool.Map(background, p, failIf, items, gpool.CollectErrors())
		if s := err.Error(); !errors.Is(err, errBad) || strings.Count(s, "a bad item") != 2 || strings.Index(s, "item 3: ") > strings.Index(s, "item 8: ") {
			t.Errorf("CollectErrors gives %v", err)
		}
		if len(out) != 10 || out[9] != 9 || out[3] != 0 {
			t.Errorf("the results are %v", out)
		}
		path := filepath.Join(t.TempDir(), "begun")
		failed := gpool.MapAsync(background, p, touchOrFail, []string{path, path, path, path}, gpool.FailFast())
		within(t, 20*time.Second, func() {
			if err := failed.Err(background); !errors.Is(err, errBad) {
				t.Errorf("FailFast gives %v", err)
			}
		})
		endPool(t, p) // what ran goes on for a moment, and makes its file
	})
}

// touchOrFail waits for ever as the first, and fails as the others.
var touchOrFail = gpool.Register("touch-or-fail", func(ctx context.Context, path string) (int, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, errBad
	}
	f.Close()
	<-ctx.Done()
	return 0, ctx.Err()
})

func TestF18SlowItemsDoNotTrapOthers(t *testing.T) {
	p := newPool(t, gpool.Workers(4))
	items := append(slices.Repeat([]int{1}, 144), slices.Repeat([]int{100}, 16)...)
	for _, place := range []string{"last", "first", "at random"} {
		switch place {
		case "first":
			slices.Reverse(items)
		case "at random":
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		}
		begun := time.Now()
		if _, err := gpool.Map(background, p, snooze, items); err != nil {
			t.Fatal(err)
		}
		ideal := (144 + 16*100) * time.Millisecond / 4
		t.Logf("slow items %s: %v, %.2f of the ideal time (the plan itself is tested in fake time in internal/pool)", place, time.Since(begun), float64(time.Since(begun))/float64(ideal))
	}
}

func TestF20ManyWorkersStart(t *testing.T) {
	if raceEnabled {
		t.Skip("200 processes under the race detector take minutes")
	}
	begun := time.Now()
	p := newPool(t, gpool.Workers(200))
	t.Logf("200 workers said hello within %v", time.Since(begun))
	if n := len(p.Stats().Workers); n != 200 {
		t.Errorf("%d workers live", n)
	}
}

func TestF26PoolsWithinPools(t *testing.T) {
	dir := t.TempDir()
	p := newPool(t, gpool.Workers(1))
	f := gpool.ApplyAsync(background, p, nestTask, gpool.A2(dir, 3))
	var pids []int
	for _, level := range []string{"3", "2", "1", "0"} {
		pids = append(pids, marks(t, filepath.Join(dir, level), 1)...)
	}
	if err := syscall.Kill(pids[1], syscall.SIGKILL); err != nil { // the worker of the second pool
		t.Fatal(err)
	}
	t.Logf("the tree below the killed worker was gone after %v", goneAfter(t, 5*time.Second, pids[1:]...))
	within(t, 20*time.Second, func() {
		err := f.Err(background)
		if died, ok := errors.AsType[*gpool.WorkerDiedError](err); !ok || died.Signal != syscall.SIGKILL || died.Pid != pids[1] {
			t.Errorf("the outer call ends with %v", err)
		}
	})
	// A program that starts itself without an end is stopped.
	_, err := gpool.Apply(background, p, nestTask, gpool.A2(t.TempDir(), 12))
	if err == nil || !strings.Contains(err.Error(), "make a pool within 10 others") {
		t.Errorf("12 levels give %v", err)
	}
}

func TestF27WhatTasksPrintIsForwarded(t *testing.T) {
	var said lockedBuffer
	p := newPool(t, gpool.Workers(2), gpool.Stderr(&said))
	out, err := gpool.Map(background, p, prints, []string{"a", "b", "c"})
	if err != nil || strings.Join(out, "; ") != "a, 0 bytes on stdin; b, 0 bytes on stdin; c, 0 bytes on stdin" {
		t.Errorf("the results are %q, %v", out, err)
	}
	p.Close()
	if err := p.Join(background); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(said.String()), "\n")
	slices.Sort(got)
	var want []string
	for _, how := range []string{"child", "println", "raw"} {
		want = append(want, how+" a", how+" b", how+" c")
	}
	if !slices.Equal(got, want) {
		t.Errorf("they said %q", got)
	}
}

func TestF28ErrorsSayWhere(t *testing.T) {
	p := newPool(t, gpool.Workers(1))
	_, err := gpool.Map(background, p, failIf, []gpool.Args2[int, []int]{gpool.A2(5, []int{5})})
	failed, ok := errors.AsType[*gpool.TaskError](err)
	if !ok || failed.Task != "fail-if" || failed.Index != 0 || failed.Pid == 0 || failed.Worker != 1 {
		t.Errorf("the error is %#v", err)
	}
	if s := fmt.Sprintf("%+v", err); !strings.Contains(s, "main_test.go:") || !strings.Contains(s, fmt.Sprint("pid ", failed.Pid)) {
		t.Errorf("%%+v says %s", s)
	}
	if s := fmt.Sprintf("%v", err); s != "task fail-if, item 0: item 5: a bad item" {
		t.Errorf("%%v says %s", s)
	}
	_, err = gpool.Apply(background, p, panics, "here")
	if s := fmt.Sprintf("%+v", err); !strings.Contains(s, "flaws_test.go:") || !strings.HasPrefix(s, "task panics: it panicked: here") {
		t.Errorf("%%+v of a panic says %s", s)
	}
}

func init() {
	roles["starved"] = func() int {
		limit := syscall.Rlimit{Cur: 64, Max: 64}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			fmt.Println(err)
			return 2
		}
		_, err := gpool.New(context.Background(), gpool.Workers(200))
		fmt.Println(errors.Is(err, gpool.ErrNoRoom), err)
		p, err := gpool.New(context.Background(), gpool.Workers(4))
		if err != nil {
			fmt.Println(err)
			return 2
		}
		fmt.Println(gpool.Map(context.Background(), p, square, upTo(3)))
		fmt.Println(errors.Is(p.Resize(300), gpool.ErrNoRoom))
		return 0
	}
}

func TestF29TooFewDescriptorsAreAnError(t *testing.T) {
	out, err := playing("starved").CombinedOutput()
	want := "true gpool: start 200 workers: the machine has no room for so many: they take 1016 file descriptors, and this process may open 64 (ulimit -n)\n[0 1 4] <nil>\ntrue\n"
	if err != nil || string(out) != want {
		t.Errorf("%v; it says\n%s", err, out)
	}
}

func TestF30LargeValues(t *testing.T) {
	p := newPool(t, gpool.Workers(2))
	const size = 80 << 20 // more than a frame may have
	begun := time.Now()
	large := gpool.ApplyAsync(background, p, blob, size)
	small, err := gpool.Map(background, p, square, upTo(100))
	if err != nil || small[99] != 99*99 {
		t.Errorf("small calls beside it: %v", err)
	}
	out, err := large.Get(background)
	if err != nil || len(out) != size || out[size-1] != 7 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	back, err := gpool.Apply(background, p, echo, out)
	if err != nil || !bytes.Equal(back, out) {
		t.Errorf("%d bytes come back, %v", len(back), err)
	}
	t.Logf("80 MiB came, and went there and back, within %v", time.Since(begun))
}

func TestF31GrowingWorkersAreReplaced(t *testing.T) {
	soft := newPool(t, gpool.Workers(1), gpool.MaxMemory(100<<20, 0))
	pids, err := gpool.Map(background, soft, leaks, []int{10, 120, 10, 10}, gpool.Chunk(4))
	if err != nil || pids[0] != pids[1] || pids[1] == pids[2] || pids[2] != pids[3] {
		t.Errorf("soft: pids %v, %v", pids, err)
	}
	hard := newPool(t, gpool.Workers(1), gpool.MaxMemory(0, 100<<20))
	pids, err = gpool.Map(background, hard, leaks, []int{10, 120, 10}, gpool.Chunk(3), gpool.CollectErrors())
	died, ok := errors.AsType[*gpool.WorkerDiedError](err)
	if !ok || !errors.Is(err, gpool.ErrMemoryLimit) || died.Index != 1 || pids[0] == 0 || pids[2] == 0 {
		t.Errorf("hard: pids %v, %v", pids, err)
	}
}

func TestF32StatsAddUp(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(2)}, func(t *testing.T, p lifecycle) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		var futures []*gpool.Future[int]
		for i := range 2 {
			futures = append(futures, gpool.ApplyAsync(ctx, p, touchAndWait, filepath.Join(dir, strconv.Itoa(i))))
			waitFor(t, filepath.Join(dir, strconv.Itoa(i)))
		}
		for range 3 {
			futures = append(futures, gpool.ApplyAsync(ctx, p, touchAndWait, filepath.Join(dir, "later")))
		}
		s := p.Stats()
		busy := 0
		for _, w := range s.Workers {
			if w.State == "busy" && w.Pid != 0 && w.Busy > 0 && w.Age >= w.Busy {
				busy++
			}
		}
		if busy != 2 || s.Running != 2 || s.Target != 2 {
			t.Errorf("two calls run, and the pool says %+v", s)
		}
		cancel()
		for _, f := range futures {
			if err := f.Err(background); !errors.Is(err, gpool.ErrCancelled) {
				t.Errorf("a cancelled call ends with %v", err)
			}
		}
		if out, err := gpool.Map(background, p, square, upTo(50)); err != nil || len(out) != 50 {
			t.Fatal(err)
		}
		p.Close()
		if err := p.Join(background); err != nil {
			t.Fatal(err)
		}
		s = p.Stats()
		if s.Succeeded != 50 || s.Cancelled < 2 || s.Cancelled > 5 || s.Failed != 0 || s.Running != 0 || s.Waiting != 0 || s.Run.Count() < 50 {
			t.Errorf("at the end the pool says %+v", s)
		}
	})
}
