package gpool_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gpool"
)

// note and noteToo append a number to a file.
var (
	note    = gpool.Register2("note", appendNumber)
	noteToo = gpool.Register2("note-too", appendNumber)
)

func appendNumber(_ context.Context, path string, n int) (int, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteString(strconv.Itoa(n) + " ")
	return n, errors.Join(err, f.Close())
}

// TestCallsBeginInTheOrderInWhichTheyWereHandedIn, whatever their tasks: with one
// worker that is the order in which they run.
func TestCallsBeginInTheOrderInWhichTheyWereHandedIn(t *testing.T) {
	overBoth(t, []gpool.Option{gpool.Workers(1)}, func(t *testing.T, p lifecycle) {
		path := filepath.Join(t.TempDir(), "order")
		var want strings.Builder
		var last *gpool.Future[int]
		for i := range 200 {
			task := note
			if i%3 == 0 {
				task = noteToo
			}
			last = gpool.ApplyAsync(background, p, task, gpool.A2(path, i))
			want.WriteString(strconv.Itoa(i) + " ")
		}
		if err := last.Err(background); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want.String() {
			t.Errorf("they ran in the order %s, %v", got, err)
		}
	})
}

type (
	numbers   []int
	seqOfInts iter.Seq[int]
	seqOrFail iter.Seq2[int, error]
)

// TestItemsComeInManyForms: whatever can be ranged over.
func TestItemsComeInManyForms(t *testing.T) {
	p := newThreads(t)
	plain := func(yield func(int) bool) { _ = yield(1) && yield(2) }
	failing := func(yield func(int, error) bool) { _ = yield(1, nil) && yield(2, nil) && yield(0, errBad) }
	check := func(name string, out []int, err error, fails bool) {
		t.Helper()
		if fails != errors.Is(err, errBad) || !fails && (err != nil || len(out) != 2 || out[1] != 4) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	all := func(seq iter.Seq2[int, error]) (out []int, last error) {
		for v, err := range seq {
			if err != nil {
				last = err
				continue
			}
			out = append(out, v)
		}
		if errors.Is(last, errBad) && len(out) != 2 {
			t.Errorf("%d results come before the error of the input", len(out))
		}
		return out, last
	}
	for _, form := range []struct {
		name             string
		fails            bool
		mapped, iterated func() ([]int, error)
	}{
		{"a slice", false,
			func() ([]int, error) { return gpool.Map(background, p, square, []int{1, 2}) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, []int{1, 2})) }},
		{"a named slice", false,
			func() ([]int, error) { return gpool.Map(background, p, square, numbers{1, 2}) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, numbers{1, 2})) }},
		{"a function", false,
			func() ([]int, error) { return gpool.Map(background, p, square, plain) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, plain)) }},
		{"an iter.Seq", false,
			func() ([]int, error) { return gpool.Map(background, p, square, iter.Seq[int](plain)) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, iter.Seq[int](plain))) }},
		{"a named sequence", false,
			func() ([]int, error) { return gpool.Map(background, p, square, seqOfInts(plain)) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, seqOfInts(plain))) }},
		{"a function that fails", true,
			func() ([]int, error) { return gpool.Map(background, p, square, failing) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, failing)) }},
		{"an iter.Seq2", true,
			func() ([]int, error) { return gpool.Map(background, p, square, iter.Seq2[int, error](failing)) },
			func() ([]int, error) {
				return all(gpool.IMapUnordered(background, p, square, iter.Seq2[int, error](failing)))
			}},
		{"a named sequence that fails", true,
			func() ([]int, error) { return gpool.Map(background, p, square, seqOrFail(failing)) },
			func() ([]int, error) { return all(gpool.IMap(background, p, square, seqOrFail(failing))) }},
	} {
		out, err := form.mapped()
		check("Map of "+form.name, out, err, form.fails)
		out, err = form.iterated()
		check("IMap of "+form.name, out, err, form.fails)
	}
}

// TestWrongOptionsAreErrors, before anything starts or runs.
func TestWrongOptionsAreErrors(t *testing.T) {
	for name, o := range map[string]gpool.Option{
		"Workers(0)": gpool.Workers(0), "MaxTasksPerChild(0)": gpool.MaxTasksPerChild(0), "SoftLimit(0s)": gpool.SoftLimit(0),
		"HardLimit(-1ns)": gpool.HardLimit(-1), "Window(0)": gpool.Window(0), "Grace(0s)": gpool.Grace(0), "MaxMemory(-1, 0)": gpool.MaxMemory(-1, 0),
		"RestartLimit(0, 1ns)": gpool.RestartLimit(0, 1), `Env("=x")`: gpool.Env("=x"), "WorkerProcs(0)": gpool.WorkerProcs(0),
	} {
		if _, err := gpool.New(background, o); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s gives %v", name, err)
		}
	}
	threads := newThreads(t)
	for _, o := range []gpool.Option{gpool.Env("A=b"), gpool.Dir("/"), gpool.Executable("x"), gpool.MaxMemory(1, 1), gpool.HardLimit(1), gpool.BreakOnCrash()} {
		if p, err := gpool.NewThreadPool(background, o); err == nil {
			endPool(t, p)
			t.Errorf("a ThreadPool takes %v", o)
		}
	}
	if _, err := gpool.Apply(background, threads, square, 1, gpool.HardLimit(1)); err == nil {
		t.Error("a call of a ThreadPool takes a HardLimit")
	}
	if _, err := gpool.Map(background, threads, square, []int{1}, gpool.Chunk(0)); err == nil || !strings.Contains(err.Error(), "Chunk(0): ") {
		t.Errorf("Chunk(0) gives %v", err)
	}
	for _, err := range gpool.IMap(background, threads, square, []int{1}, gpool.Window(-1)) {
		if err == nil || !strings.Contains(err.Error(), "Window(-1): ") {
			t.Errorf("Window(-1) gives %v", err)
		}
	}
	if _, err := gpool.New(background, gpool.Executable("/nonexistent/program"), gpool.Workers(1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there gives %v", err)
	}
	for name, register := range map[string]func(){
		"no name":              func() { gpool.Register("", func(context.Context, int) (int, error) { return 0, nil }) },
		"a blank":              func() { gpool.Register("a b", func(context.Context, int) (int, error) { return 0, nil }) },
		"a name that is taken": func() { gpool.Register("square", func(context.Context, int) (int, error) { return 0, nil }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a task with %s is registered", name)
				}
			}()
			register()
		}()
	}
	p := newPool(t, gpool.Workers(1))
	closure := gpool.Fn(func(context.Context, int) (int, error) { return 0, nil })
	if _, err := gpool.Apply(background, p, closure, 1); !errors.Is(err, gpool.ErrNotRegistered) {
		t.Errorf("a closure in a pool of processes gives %v", err)
	}
}
