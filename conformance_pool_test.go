package gpool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
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
	"weak"

	"github.com/vmihailenco/msgpack/v5"

	"gpool"
)

// The conformance list (docs/semantics.md): what CPython's tests assert of its pools, as
// far as it has a meaning here. A row is named after its number and after CPython's test.

// conformanceRow is one row of the list.
type conformanceRow[P any] struct {
	name    string
	options []gpool.Option // two workers without any
	// both is run over workers that are processes and over goroutines, with a directory
	// that is there until the pool has ended.
	both func(t *testing.T, p P, dir string)
	// alone is for rows that make their own pools.
	alone func(t *testing.T)
}

func overRows[P any](t *testing.T, rows []conformanceRow[P], over map[string]func(*testing.T, ...gpool.Option) P) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if r.alone != nil {
				r.alone(t)
				return
			}
			for _, kind := range slices.Sorted(maps.Keys(over)) {
				t.Run(kind, func(t *testing.T) {
					dir := t.TempDir() // before the pool, so that it outlives it
					options := append([]gpool.Option{gpool.Workers(2)}, r.options...)
					r.both(t, over[kind](t, options...), dir)
				})
			}
		})
	}
}

// until waits for a condition that nothing tells of.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come that %s", what)
		}
	}
}

// collected runs the garbage collector until a condition holds.
func collected(t *testing.T, what string, condition func() bool) {
	t.Helper()
	until(t, what, func() bool {
		runtime.GC()
		return condition()
	})
}

// gate is a file that calls wait for, in whatever process they run.
type gate string

func newGate(dir string) gate { return gate(filepath.Join(dir, "gate")) }

func (g gate) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(string(g), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g gate) pass(ctx context.Context) error {
	for {
		if _, err := os.Stat(string(g)); err == nil {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// started lists what calls of confGate have begun, in whatever order.
func started(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "started-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ledger reads what calls of confRecord have written, in the order of time.
func ledger(t *testing.T, dir string) (list []int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// hasEnded reports whether a process is gone, or a zombie that its new parent has to
// take notice of.
func hasEnded(pid int) bool {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, rest, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// pids are those of the workers that live.
func pids(s gpool.Stats) (list []int) {
	for _, w := range s.Workers {
		if w.Pid != 0 {
			list = append(list, w.Pid)
		}
	}
	slices.Sort(list)
	return list
}

// got asks for a result that must come.
func got[T any](t *testing.T, f *gpool.Future[T]) T {
	t.Helper()
	v, err := answer(t, f)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// answer asks for a result or an error that must come.
func answer[T any](t *testing.T, f *gpool.Future[T]) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	v, err := f.Get(ctx)
	if errors.Is(err, context.DeadlineExceeded) && !f.Ready() {
		t.Fatal("the result does not come")
	}
	return v, err
}

func wantList(t *testing.T, list, want []int) {
	t.Helper()
	if !slices.Equal(list, want) {
		t.Fatalf("got %v, want %v", list, want)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func squares(n int) []int {
	list := upTo(n)
	for i := range list {
		list[i] *= i
	}
	return list
}

// works fails the test if a pool does not run calls any more.
func works(t *testing.T, r gpool.Runner) {
	t.Helper()
	if y := got(t, gpool.ApplyAsync(background, r, square, 12)); y != 144 {
		t.Fatalf("got %d, want 144", y)
	}
}

// failingAt yields numbers and then an error in the place of the one at index bad.
func failingAt(bad int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range bad {
			if !yield(i, nil) {
				return
			}
		}
		yield(0, errSayWhen)
	}
}

var errSayWhen = errors.New("somebody said when")

// confPower is arguments by name.
type confPower struct {
	Base, Exp int
	Negative  bool
}

// confObject is large enough to have a place of its own in memory.
type confObject struct {
	N   int
	Pad [8]int
}

// confShy cannot be encoded.
type confShy struct{ N int }

var errShy = errors.New("it does not want to travel")

func (confShy) EncodeMsgpack(*msgpack.Encoder) error  { return errShy }
func (*confShy) DecodeMsgpack(*msgpack.Decoder) error { return errShy }

// confError is a registered type of errors.
type confError struct{ Code int }

func (e *confError) Error() string { return fmt.Sprintf("code %d", e.Code) }

func init() { gpool.RegisterError[*confError]("conf-error") }

// Tasks of the conformance list.
var (
	confPow = gpool.Register("conf-pow", func(_ context.Context, in confPower) (int, error) {
		y := 1
		for range in.Exp {
			y *= in.Base
		}
		if in.Negative {
			y = -y
		}
		return y, nil
	})
	// conf-gate makes a file that says it has begun, waits for the gate, and returns the
	// pid of its process.
	confGate = gpool.Register("conf-gate", func(ctx context.Context, dir string) (int, error) {
		f, err := os.CreateTemp(dir, "started-")
		if err != nil {
			return 0, err
		}
		f.Close()
		return os.Getpid(), newGate(dir).pass(ctx)
	})
	// conf-gated is square that waits for the gate, unless x is negative: then it fails.
	confGated = gpool.Register2("conf-gated", func(ctx context.Context, dir string, x int) (int, error) {
		if x < 0 {
			return 0, fmt.Errorf("item %d: %w", x, errBad)
		}
		return x * x, newGate(dir).pass(ctx)
	})
	// conf-record writes x into the ledger.
	confRecord = gpool.Register2("conf-record", func(_ context.Context, dir string, x int) (int, error) {
		return x, record(dir, x)
	})
	// conf-gated-record does so once the gate is open.
	confGatedRecord = gpool.Register2("conf-gated-record", func(ctx context.Context, dir string, x int) (int, error) {
		if err := newGate(dir).pass(ctx); err != nil {
			return 0, err
		}
		return x, record(dir, x)
	})
	confObjects = gpool.Register("conf-object", func(_ context.Context, o *confObject) (*confObject, error) {
		return &confObject{N: o.N + 1}, nil
	})
	confTakesShy = gpool.Register("conf-takes-shy", func(context.Context, confShy) (int, error) { return 1, nil })
	confGivesShy = gpool.Register("conf-gives-shy", func(_ context.Context, x int) (confShy, error) { return confShy{x}, nil })
	confBigError = gpool.Register("conf-big-error", func(_ context.Context, size int) (int, error) {
		return 0, errors.New(strings.Repeat("x", size))
	})
	confTypedError = gpool.Register("conf-typed-error", func(_ context.Context, code int) (int, error) {
		return 0, fmt.Errorf("within: %w", &confError{code})
	})
	confPanic = gpool.Register("conf-panic", func(_ context.Context, text string) (int, error) { panic(text) })
	// conf-initialized fails if the initializer has not run in its process.
	confInit = gpool.Register("conf-init", func(_ context.Context, x int) (int, error) {
		confInitialized.Add(int64(x))
		return 0, nil
	})
	confReadInit = gpool.Register("conf-read-init", func(context.Context, int) (int, error) {
		return int(confInitialized.Load()), nil
	})
	confFailingInit = gpool.Register("conf-failing-init", func(_ context.Context, code int) (int, error) {
		return 0, &confError{code}
	})
)

var confInitialized atomic.Int64

func record(dir string, x int) error {
	f, err := os.OpenFile(filepath.Join(dir, "ledger"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, x) // one write, so lines of many processes do not mix
	return err
}

// withDir pairs each number with the directory of a test.
func withDir(dir string, xs ...int) []gpool.Args2[string, int] {
	list := make([]gpool.Args2[string, int], len(xs))
	for i, x := range xs {
		list[i] = gpool.A2(dir, x)
	}
	return list
}

func TestPoolConformance(t *testing.T) {
	over := map[string]func(*testing.T, ...gpool.Option) lifecycle{}
	for kind, create := range poolKinds {
		over[kind] = func(t *testing.T, o ...gpool.Option) lifecycle {
			p, err := create(background, o...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { endPool(t, p) })
			return p
		}
	}
	overRows(t, poolRows, over)
}

var poolKinds = map[string]func(context.Context, ...gpool.Option) (lifecycle, error){
	"Pool":       func(ctx context.Context, o ...gpool.Option) (lifecycle, error) { return gpool.New(ctx, o...) },
	"ThreadPool": func(ctx context.Context, o ...gpool.Option) (lifecycle, error) { return gpool.NewThreadPool(ctx, o...) },
}

// isThreads tells a pool of goroutines.
func isThreads(p lifecycle) bool {
	_, ok := p.(*gpool.ThreadPool)
	return ok
}

var poolRows = []conformanceRow[lifecycle]{
	{name: "E1_apply", both: func(t *testing.T, p lifecycle, _ string) {
		for in, want := range map[confPower]int{
			{Base: 5}:                         1, // what is not given is zero
			{Base: 2, Exp: 10}:                1024,
			{Base: 2, Exp: 3, Negative: true}: -8,
		} {
			if y, err := gpool.Apply(background, p, confPow, in); y != want || err != nil {
				t.Errorf("%+v: %d, %v; want %d", in, y, err, want)
			}
		}
	}},
	{name: "E2_map", both: func(t *testing.T, p lifecycle, _ string) {
		for _, o := range [][]gpool.CallOption{nil, {gpool.Chunk(20)}, {gpool.Chunk(1000)}} {
			out, err := gpool.Map(background, p, square, upTo(100), o...)
			if err != nil {
				t.Fatal(err)
			}
			wantList(t, out, squares(100))
		}
		out, err := gpool.Map(background, p, square, slices.Values(upTo(10)))
		if err != nil {
			t.Fatal(err)
		}
		wantList(t, out, squares(10))
	}},
	{name: "E3_starmap", both: func(t *testing.T, p lifecycle, _ string) {
		var in []gpool.Args2[int, int]
		for i := range 100 {
			in = append(in, gpool.A2(i, 99-i))
		}
		want := slices.Repeat([]int{99}, 100)
		for _, o := range [][]gpool.CallOption{nil, {gpool.Chunk(20)}} {
			out, err := gpool.Starmap(background, p, add, in, o...)
			if err != nil {
				t.Fatal(err)
			}
			wantList(t, out, want)
		}
	}},
	{name: "E4_starmap_async", both: func(t *testing.T, p lifecycle, _ string) {
		in := []gpool.Args2[int, int]{gpool.A2(1, 2), gpool.A2(3, 4), gpool.A2(-1, 1)}
		wantList(t, got(t, gpool.StarmapAsync(background, p, add, in)), []int{3, 7, 0})
	}},
	{name: "E5_map_async", both: func(t *testing.T, p lifecycle, _ string) {
		wantList(t, got(t, gpool.MapAsync(background, p, square, upTo(10))), squares(10))
	}},
	{name: "E6_map_async_callbacks", both: func(t *testing.T, p lifecycle, _ string) {
		values, failures := make(chan []int, 2), make(chan error, 2)
		good := gpool.MapAsync(background, p, square, upTo(10))
		good.OnSuccess(func(list []int) { values <- list })
		good.OnError(func(err error) { failures <- err })
		bad := gpool.MapAsync(background, p, failIf, []gpool.Args2[int, []int]{gpool.A2(1, []int{2}), gpool.A2(2, []int{2})})
		bad.OnSuccess(func(list []int) { values <- list })
		bad.OnError(func(err error) { failures <- err })
		within(t, 20*time.Second, func() {
			wantList(t, <-values, squares(10)) // the whole list, once
			if err := <-failures; !errors.Is(err, errBad) || err != bad.Err(background) {
				t.Errorf("the callback got %v, and Get %v", err, bad.Err(background))
			}
		})
		lastC := make(chan struct{})
		good.OnDone(func(*gpool.Future[[]int]) { bad.OnDone(func(*gpool.Future[[]int]) { close(lastC) }) })
		within(t, 20*time.Second, func() { <-lastC })
		if len(values) != 0 || len(failures) != 0 {
			t.Errorf("callbacks were called more than once, or both of one call")
		}
	}},
	{name: "E7_map_unpicklable", both: func(t *testing.T, p lifecycle, _ string) {
		out, err := gpool.Map(background, p, confTakesShy, []confShy{{1}, {2}})
		if isThreads(p) { // nothing travels
			if err != nil {
				t.Fatal(err)
			}
			wantList(t, out, []int{1, 1})
			return
		}
		if e, ok := errors.AsType[*gpool.EncodeError](err); !ok || !errors.Is(err, errShy) || !strings.Contains(e.Type, "confShy") {
			t.Fatalf("Map of what cannot be encoded: %v", err)
		}
		if _, err := gpool.Apply(background, p, confTakesShy, confShy{3}); !errors.Is(err, errShy) {
			t.Fatalf("Apply of what cannot be encoded: %v", err)
		}
		works(t, p)
	}},
	{name: "E8_map_chunksize", both: func(t *testing.T, p lifecycle, dir string) {
		if out := got(t, gpool.MapAsync(background, p, square, []int(nil), gpool.Chunk(1))); len(out) != 0 {
			t.Errorf("Map of nothing in chunks: %v", out)
		}
		for _, n := range []int{0, -1} {
			if out, err := gpool.Map(background, p, confRecord, withDir(dir, 1), gpool.Chunk(n)); err == nil {
				t.Errorf("Map with Chunk(%d): %v", n, out)
			}
			for _, err := range gpool.IMap(background, p, confRecord, withDir(dir, 1), gpool.Chunk(n)) {
				if err == nil {
					t.Errorf("IMap with Chunk(%d) has a result", n)
				}
			}
		}
		wantList(t, ledger(t, dir), nil)
	}},
	{name: "E9_map_handle_iterable_exception", both: func(t *testing.T, p lifecycle, _ string) {
		for range 2 {
			for _, bad := range []int{0, 3, 50} {
				_, err := gpool.Map(background, p, square, failingAt(bad), gpool.Chunk(2))
				if err != errSayWhen {
					t.Errorf("Map of an input that fails at %d: %v", bad, err)
				}
				if err := gpool.MapAsync(background, p, square, failingAt(bad)).Err(background); err != errSayWhen {
					t.Errorf("MapAsync of an input that fails at %d: %v", bad, err)
				}
			}
			works(t, p)
		}
		func() {
			defer func() {
				if recover() != "when" {
					t.Errorf("a panic of the input does not reach the caller of Map")
				}
			}()
			_, _ = gpool.Map(background, p, square, iter.Seq[int](func(func(int) bool) { panic("when") }))
		}()
		works(t, p)
	}},
	{name: "E10_async", both: func(t *testing.T, p lifecycle, dir string) {
		f := gpool.ApplyAsync(background, p, confGated, gpool.A2(dir, 7))
		if f.Ready() {
			t.Error("the result is there before the task has ended")
		}
		if _, err := f.Successful(); err != gpool.ErrNotReady {
			t.Errorf("Successful before the end: %v", err)
		}
		newGate(dir).open(t)
		if y := got(t, f); y != 49 {
			t.Errorf("got %d, want 49", y)
		}
		if ok, err := f.Successful(); !ok || err != nil || !f.Ready() {
			t.Errorf("after the end: successful %v, %v; ready %v", ok, err, f.Ready())
		}
		if y := got(t, f); y != 49 {
			t.Errorf("Get a second time: %d", y)
		}
	}},
	{name: "E11_async_timeout", both: func(t *testing.T, p lifecycle, dir string) {
		path := filepath.Join(dir, "begun")
		f := gpool.ApplyAsync(background, p, touchAndWait, path)
		waitFor(t, path)
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		if _, err := f.Get(ctx); err != context.DeadlineExceeded {
			t.Errorf("Get with a time that is over: %v", err)
		}
		if f.Ready() {
			t.Error("the call has ended with the time of Get")
		}
		within(t, 20*time.Second, func() {
			p.Terminate()
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
		_, err := answer(t, f)
		wantError(t, err, gpool.ErrTerminated)
	}},
	{name: "E12_imap", both: func(t *testing.T, p lifecycle, _ string) {
		for _, n := range []int{10, 1000} {
			for _, chunk := range []int{1, 100} {
				var list []int
				for y, err := range gpool.IMap(background, p, square, upTo(n), gpool.Chunk(chunk)) {
					if err != nil {
						t.Fatal(err)
					}
					list = append(list, y)
				}
				wantList(t, list, squares(n))
			}
		}
		it := gpool.Start(background, p, square, upTo(3))
		defer it.Stop()
		for i := range 3 {
			if y, ok, err := it.Next(background); y != i*i || !ok || err != nil {
				t.Errorf("result %d: %d, %v, %v", i, y, ok, err)
			}
		}
		for range 2 {
			if _, ok, err := it.Next(background); ok || err != nil {
				t.Errorf("after the end: %v, %v", ok, err)
			}
		}
	}},
	{name: "E12_imap_next_timeout", both: func(t *testing.T, p lifecycle, dir string) {
		it := gpool.Start(background, p, confGated, withDir(dir, 0, 1, 2))
		defer it.Stop()
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		defer cancel()
		if _, ok, err := it.Next(ctx); ok || err != context.DeadlineExceeded {
			t.Errorf("Next with a time that is over: %v, %v", ok, err)
		}
		newGate(dir).open(t)
		for i := range 3 { // nothing is lost
			if y, ok, err := it.Next(background); y != i*i || !ok || err != nil {
				t.Errorf("result %d: %d, %v, %v", i, y, ok, err)
			}
		}
	}},
	{name: "E13_imap_handle_iterable_exception", both: func(t *testing.T, p lifecycle, _ string) {
		for _, bad := range []int{0, 1, 3, 40} {
			for _, chunk := range []int{1, 2, 4} {
				var list []int
				var last error
				for y, err := range gpool.IMap(background, p, square, failingAt(bad), gpool.Chunk(chunk)) {
					if last != nil {
						t.Fatal("something follows the error of the input")
					}
					if last = err; err == nil {
						list = append(list, y)
					}
				}
				if last != errSayWhen {
					t.Errorf("an input that fails at %d in chunks of %d: %v", bad, chunk, last)
				}
				wantList(t, list, squares(bad))
			}
		}
		works(t, p)
	}},
	{name: "E13_imap_goes_on_after_an_error", both: func(t *testing.T, p lifecycle, _ string) {
		var in []gpool.Args2[int, []int]
		for i := range 9 {
			in = append(in, gpool.A2(i, []int{3, 7}))
		}
		for _, chunk := range []int{1, 4} { // Python ends there if chunks have more than one
			var good, bad []int
			i := 0
			for y, err := range gpool.IMap(background, p, failIf, in, gpool.Chunk(chunk)) {
				if errors.Is(err, errBad) {
					bad = append(bad, i)
				} else {
					good = append(good, y)
				}
				i++
			}
			wantList(t, good, []int{0, 1, 2, 4, 5, 6, 8})
			wantList(t, bad, []int{3, 7})
		}
	}},
	{name: "E14_imap_unordered", both: func(t *testing.T, p lifecycle, dir string) {
		for _, chunk := range []int{1, 53} {
			var list []int
			for y, err := range gpool.IMapUnordered(background, p, square, upTo(400), gpool.Chunk(chunk)) {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, y)
			}
			slices.Sort(list)
			wantList(t, list, squares(400))
		}
		in := slices.Concat(withDir(dir, 5), withDir(t.TempDir(), 6))
		newGate(in[1].A).open(t)
		var list []int
		for y, err := range gpool.IMapUnordered(background, p, confGated, in) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, y)
			newGate(dir).open(t)
		}
		wantList(t, list, []int{36, 25}) // as they end
	}},
	{name: "E15_imap_unordered_handle_iterable_exception", both: func(t *testing.T, p lifecycle, _ string) {
		for _, bad := range []int{0, 1, 3, 40} {
			for _, chunk := range []int{1, 3} {
				seen := map[int]bool{}
				var failures int
				for y, err := range gpool.IMapUnordered(background, p, square, failingAt(bad), gpool.Chunk(chunk)) {
					switch {
					case err == errSayWhen:
						failures++
					case err != nil:
						t.Fatal(err)
					case seen[y]:
						t.Fatalf("%d comes twice", y)
					}
					seen[y] = true
				}
				if failures != 1 {
					t.Errorf("an input that fails at %d in chunks of %d: %d errors", bad, chunk, failures)
				}
			}
		}
		works(t, p)
	}},
	{name: "E16_make_pool", alone: func(t *testing.T) {
		for _, n := range []int{0, -1} {
			if _, err := gpool.New(background, gpool.Workers(n)); err == nil {
				t.Errorf("New with Workers(%d) succeeds", n)
			}
			if _, err := gpool.NewThreadPool(background, gpool.Workers(n)); err == nil {
				t.Errorf("NewThreadPool with Workers(%d) succeeds", n)
			}
		}
		p := newPool(t, gpool.Workers(3))
		if list := slices.Compact(pids(p.Stats())); len(list) != 3 || slices.Contains(list, os.Getpid()) {
			t.Errorf("the workers of a pool of 3 are %v", list)
		}
		if n := len(newThreads(t, gpool.Workers(3)).Stats().Workers); n != 3 {
			t.Errorf("a pool of 3 has %d workers", n)
		}
	}},
	{name: "E17_terminate", both: func(t *testing.T, p lifecycle, dir string) {
		path := filepath.Join(dir, "begun")
		held := gpool.ApplyAsync(background, p, touchAndWait, path)
		waitFor(t, path)
		all := gpool.MapAsync(background, p, snooze, slices.Repeat([]int{100}, 10000), gpool.Chunk(1))
		one := gpool.ApplyAsync(background, p, snooze, 100)
		within(t, 20*time.Second, func() {
			p.Terminate()
			for _, f := range []gpool.AnyFuture{held, all, one} {
				wantError(t, f.Err(background), gpool.ErrTerminated)
			}
			p.Terminate() // again is fine
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
			p.Close()
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
	}},
	{name: "E18_empty_iterable", both: func(t *testing.T, p lifecycle, _ string) {
		nothing := []int{}
		out, err := gpool.Map(background, p, square, nothing)
		if out == nil || len(out) != 0 || err != nil {
			t.Errorf("Map of nothing: %v, %v", out, err)
		}
		for y, err := range gpool.IMap(background, p, square, nothing) {
			t.Errorf("IMap of nothing: %v, %v", y, err)
		}
		for y, err := range gpool.IMapUnordered(background, p, square, slices.Values(nothing)) {
			t.Errorf("IMapUnordered of nothing: %v, %v", y, err)
		}
		calledC := make(chan []int, 1)
		f := gpool.MapAsync(background, p, square, nothing)
		f.OnSuccess(func(list []int) { calledC <- list }) // in Python it is not called
		within(t, 20*time.Second, func() {
			if list := <-calledC; len(list) != 0 {
				t.Errorf("the callback gets %v", list)
			}
		})
	}},
	{name: "E19_context", alone: func(t *testing.T) {
		for kind, create := range poolKinds {
			t.Run(kind, func(t *testing.T) {
				ctx, cancel := context.WithCancel(background)
				defer cancel()
				p, err := create(ctx, gpool.Workers(2))
				if err != nil {
					t.Fatal(err)
				}
				wantList(t, got(t, gpool.MapAsync(background, p, square, upTo(10))), squares(10))
				f := gpool.ApplyAsync(background, p, touchAndWait, filepath.Join(t.TempDir(), "begun"))
				cancel() // the end of the with block: terminate, and not close
				_, err = answer(t, f)
				wantError(t, err, gpool.ErrTerminated)
				within(t, 20*time.Second, func() {
					if err := p.Join(background); err != nil {
						t.Error(err)
					}
				})
				wantError(t, gpool.MapAsync(background, p, square, upTo(10)).Err(background), gpool.ErrPoolClosed)
			})
		}
	}},
	{name: "E20_traceback", both: func(t *testing.T, p lifecycle, _ string) {
		_, err := gpool.Apply(background, p, confPanic, "Catch this")
		e, ok := errors.AsType[*gpool.PanicError](err)
		if !ok || e.Value != "Catch this" || !strings.Contains(e.Stack, "conformance_pool_test.go") {
			t.Fatalf("a panic: %+v", err)
		}
		if text := fmt.Sprintf("%+v", err); !strings.Contains(text, "conformance_pool_test.go") || !strings.Contains(err.Error(), "Catch this") {
			t.Errorf("printed: %s", text)
		}
		_, err = gpool.Apply(background, p, confTypedError, 5)
		failed, ok := errors.AsType[*gpool.TaskError](err)
		switch {
		case isThreads(p) && ok: // nothing is added
			t.Errorf("the error of a goroutine is wrapped: %v", err)
		case isThreads(p):
		case !ok || failed.Pid == os.Getpid() || failed.Worker < 1 || !strings.Contains(failed.Origin, "conformance_pool_test.go:"):
			t.Errorf("an error: %+v", err)
		case !strings.Contains(fmt.Sprintf("%+v", err), failed.Origin):
			t.Errorf("printed: %+v", err)
		}
		works(t, p)
	}},
	{name: "E21_wrapped_exception", both: func(t *testing.T, p lifecycle, _ string) {
		_, err := gpool.Apply(background, p, failIf, gpool.A2(1, []int{1}))
		wantError(t, err, errBad)
		_, err = gpool.Map(background, p, confTypedError, []int{7})
		if e, ok := errors.AsType[*confError](err); !ok || e.Code != 7 {
			t.Errorf("an error of a registered type: %#v", err)
		}
		if threads, ok := p.(*gpool.ThreadPool); ok {
			own := errors.New("its own")
			fail := gpool.Fn(func(context.Context, int) (int, error) { return 0, own })
			if _, err := gpool.Map(background, threads, fail, []int{1}); err != own {
				t.Errorf("the error of a goroutine: %#v", err)
			}
		}
	}},
	{name: "E22_map_waits_for_all", both: func(t *testing.T, p lifecycle, dir string) {
		f := gpool.MapAsync(background, p, confGated, withDir(dir, -1, 2, 3, -4, 5), gpool.Chunk(1))
		until(t, "a call has failed", func() bool { return p.Stats().Failed > 0 })
		if f.Ready() {
			t.Error("Map does not wait for the others after an error")
		}
		newGate(dir).open(t)
		out, err := answer(t, f)
		wantError(t, err, errBad)
		wantList(t, out, []int{0, 4, 9, 0, 25})
	}},
	{name: "E22_large_errors", both: func(t *testing.T, p lifecycle, _ string) {
		within(t, 20*time.Second, func() {
			out, err := gpool.Map(background, p, confBigError, slices.Repeat([]int{1 << 20}, 4), gpool.CollectErrors())
			if len(out) != 4 || err == nil || len(err.Error()) < 4<<20 {
				t.Errorf("%d results, and an error of %d bytes", len(out), len(fmt.Sprint(err)))
			}
			for _, err := range gpool.IMap(background, p, confBigError, []int{1 << 20, 1 << 20}) {
				if err == nil || len(err.Error()) < 1<<20 {
					t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
				}
			}
			p.Close()
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
	}},
	{name: "E23_release_task_refs", both: func(t *testing.T, p lifecycle, _ string) {
		var refs []weak.Pointer[confObject]
		func() {
			in := make([]*confObject, 10)
			for i := range in {
				in[i] = &confObject{N: i}
			}
			out, err := gpool.Map(background, p, confObjects, in)
			if err != nil || out[9].N != 10 {
				t.Fatal(out, err)
			}
			for y, err := range gpool.IMap(background, p, confObjects, in) {
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, y)
			}
			for _, o := range append(in, out...) {
				refs = append(refs, weak.Make(o))
			}
		}()
		collected(t, "arguments and results are dropped", func() bool {
			return !slices.ContainsFunc(refs, func(r weak.Pointer[confObject]) bool { return r.Value() != nil })
		})
		works(t, p)
	}},
	{name: "E23_release_task_refs_of_what_was_given_up", both: func(t *testing.T, p lifecycle, _ string) {
		var mu sync.Mutex // the inputs run on goroutines of their own
		var refs []weak.Pointer[confObject]
		for range 50 {
			endless := func(yield func(*confObject) bool) {
				for i := 0; ; i++ {
					o := &confObject{N: i}
					mu.Lock()
					refs = append(refs, weak.Make(o))
					mu.Unlock()
					if !yield(o) {
						return
					}
				}
			}
			it := gpool.Start(background, p, confObjects, endless, gpool.Window(20))
			if _, ok, err := it.Next(background); !ok || err != nil {
				t.Fatal(err)
			}
			it.Stop()
			works(t, p)
		}
		collected(t, "what was taken and not run is dropped", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return !slices.ContainsFunc(refs, func(r weak.Pointer[confObject]) bool { return r.Value() != nil })
		})
		works(t, p)
	}},
	{name: "E24_enter", both: func(t *testing.T, p lifecycle, dir string) {
		p.Close()
		refused := func() {
			t.Helper()
			for what, err := range map[string]error{
				"Apply":  gpool.ApplyAsync(background, p, confRecord, gpool.A2(dir, 1)).Err(background),
				"Map":    gpool.MapAsync(background, p, confRecord, withDir(dir, 2)).Err(background),
				"empty":  gpool.MapAsync(background, p, confRecord, withDir(dir)).Err(background),
				"Resize": p.Resize(3),
				"iterator": func() error {
					_, _, err := gpool.Start(background, p, confRecord, withDir(dir, 3)).Next(background)
					return err
				}(),
			} {
				if !errors.Is(err, gpool.ErrPoolClosed) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for _, err := range gpool.IMapUnordered(background, p, confRecord, withDir(dir, 4)) {
				wantError(t, err, gpool.ErrPoolClosed)
			}
		}
		refused()
		p.Terminate()
		refused()
		wantList(t, ledger(t, dir), nil)
	}},
	{name: "E24_join_of_a_running_pool", both: func(t *testing.T, p lifecycle, dir string) {
		wantError(t, p.Join(background), gpool.ErrPoolRunning)
		f := gpool.ApplyAsync(background, p, confGated, gpool.A2(dir, 2))
		p.Close()
		p.Close()
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		defer cancel()
		if err := p.Join(ctx); err != context.DeadlineExceeded {
			t.Errorf("Join of a pool that works, for a while: %v", err)
		}
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
		if y := got(t, f); y != 4 {
			t.Errorf("what was handed in before Close is %d", y)
		}
	}},
	{name: "E25_resource_warning", alone: func(t *testing.T) {
		for kind, create := range poolKinds {
			t.Run(kind, func(t *testing.T) {
				var text lockedBuffer
				var list []int
				func() {
					p, err := create(background, gpool.Workers(2), gpool.Stderr(&text))
					if err != nil {
						t.Fatal(err)
					}
					works(t, p)
					list = pids(p.Stats())
				}()
				collected(t, "a pool that was dropped says so", func() bool { return strings.Contains(text.String(), "dropped") })
				if kind == "Pool" {
					until(t, "its workers end", func() bool { return !slices.ContainsFunc(list, lives) })
				}
			})
		}
	}},
	{name: "E26_async_error_callback", both: func(t *testing.T, p lifecycle, _ string) {
		f := gpool.ApplyAsync(background, p, failIf, gpool.A2(1, []int{1}))
		toldC := make(chan error, 2)
		f.OnSuccess(func(int) { t.Error("the callback for success is called") })
		f.OnError(func(err error) { toldC <- err })
		within(t, 20*time.Second, func() {
			if told := <-toldC; told != f.Err(background) {
				t.Errorf("the callback got %v, and Get %v", told, f.Err(background))
			}
		})
		wantError(t, f.Err(background), errBad)
	}},
	{name: "E27_unpickleable_result", options: []gpool.Option{gpool.Workers(2)}, both: func(t *testing.T, p lifecycle, _ string) {
		if isThreads(p) { // nothing travels
			if y := got(t, gpool.ApplyAsync(background, p, confGivesShy, 3)); y.N != 3 {
				t.Errorf("got %v", y)
			}
			return
		}
		before := pids(p.Stats())
		for i := range 20 {
			f := gpool.ApplyAsync(background, p, confGivesShy, i)
			toldC := make(chan error, 1)
			f.OnError(func(err error) { toldC <- err })
			_, err := answer(t, f)
			if e, ok := errors.AsType[*gpool.EncodeError](err); !ok || !strings.Contains(e.Type, "confShy") {
				t.Fatalf("a result that cannot be encoded: %v", err)
			}
			within(t, 20*time.Second, func() {
				if told := <-toldC; told != err {
					t.Errorf("the callback got %v", told)
				}
			})
		}
		wantList(t, pids(p.Stats()), before)
	}},
	{name: "E28_pool_worker_lifetime", options: []gpool.Option{gpool.Workers(3), gpool.MaxTasksPerChild(10)}, both: func(t *testing.T, p lifecycle, _ string) {
		before := pids(p.Stats())
		var futures []*gpool.Future[int]
		for i := range 100 {
			futures = append(futures, gpool.ApplyAsync(background, p, square, i))
		}
		for i, f := range futures {
			if y := got(t, f); y != i*i {
				t.Errorf("result %d: %d", i, y)
			}
		}
		until(t, "there are 3 workers again", func() bool { return len(pids(p.Stats())) == 3 })
		s := p.Stats()
		if s.Started < 10 || s.Deaths != 0 {
			t.Errorf("%d workers were started for 100 calls, 10 each; %d died", s.Started, s.Deaths)
		}
		if after := pids(s); !isThreads(p) && slices.Equal(after, before) {
			t.Errorf("after 100 calls the workers are still %v", after)
		}
		p.Close()
		within(t, 20*time.Second, func() {
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
	}},
	{name: "E28_maxtasksperchild_counts_calls", options: []gpool.Option{gpool.Workers(1), gpool.MaxTasksPerChild(2)}, both: func(t *testing.T, p lifecycle, _ string) {
		wantPids(t, p, 4, gpool.Chunk(4)) // 8 items
	}},
	{name: "E28_maxtasksperchild_counts_chunks", options: []gpool.Option{gpool.Workers(1), gpool.MaxTasksPerChild(1), gpool.CountChunks()}, both: func(t *testing.T, p lifecycle, _ string) {
		wantPids(t, p, 2, gpool.Chunk(4))
	}},
	{name: "E29_pool_worker_lifetime_early_close", options: []gpool.Option{gpool.Workers(3), gpool.MaxTasksPerChild(1)}, both: func(t *testing.T, p lifecycle, dir string) {
		var futures []*gpool.Future[int]
		for i := range 6 {
			futures = append(futures, gpool.ApplyAsync(background, p, confGated, gpool.A2(dir, i)))
		}
		p.Close()
		newGate(dir).open(t)
		within(t, 20*time.Second, func() {
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
		for i, f := range futures {
			if y := got(t, f); y != i*i {
				t.Errorf("result %d: %d", i, y)
			}
		}
	}},
	{name: "E30_pool_maxtasksperchild_invalid", alone: func(t *testing.T) {
		for _, n := range []int{0, -1} {
			if _, err := gpool.New(background, gpool.MaxTasksPerChild(n)); err == nil {
				t.Errorf("New with MaxTasksPerChild(%d) succeeds", n)
			}
			if _, err := gpool.NewThreadPool(background, gpool.MaxTasksPerChild(n)); err == nil {
				t.Errorf("NewThreadPool with MaxTasksPerChild(%d) succeeds", n)
			}
		}
	}},
	{name: "E31_worker_finalization_via_atexit_handler", alone: func(t *testing.T) {
		for _, end := range []string{"return", "exit"} {
			for kind := range poolKinds {
				t.Run(kind+"/"+end, func(t *testing.T) { endsUnclosed(t, kind, end) })
			}
		}
	}},
	{name: "E33_pool_initializer", alone: func(t *testing.T) {
		o := []gpool.Option{gpool.Workers(2), gpool.Initializer(confInit, 7), gpool.MaxTasksPerChild(1)}
		p := newPool(t, o...)
		out, err := gpool.Map(background, p, confReadInit, upTo(6)) // in replacements, too
		if err != nil {
			t.Fatal(err)
		}
		wantList(t, out, slices.Repeat([]int{7}, 6))
		confInitialized.Store(0)
		threads := newThreads(t, gpool.Workers(2), gpool.Initializer(confInit, 7))
		until(t, "the initializers have run", func() bool {
			for _, w := range threads.Stats().Workers {
				if w.State == "starting" {
					return false
				}
			}
			return true
		})
		if n := got(t, gpool.ApplyAsync(background, threads, confReadInit, 0)); n != 14 {
			t.Errorf("the initializers of 2 goroutines have added %d, and 7 each is 14", n)
		}
	}},
	{name: "E33_failing_initializer", alone: func(t *testing.T) {
		for kind, create := range poolKinds {
			t.Run(kind, func(t *testing.T) {
				p, err := create(background, gpool.Workers(2), gpool.Initializer(confFailingInit, 9))
				if err == nil { // it said hello before it failed
					defer endPool(t, p)
					_, err = answer(t, gpool.ApplyAsync(background, p, square, 1))
				}
				if e, ok := errors.AsType[*gpool.InitError](err); !ok {
					t.Fatalf("a pool whose initializer fails: %v", err)
				} else if typed, ok := errors.AsType[*confError](e); !ok || typed.Code != 9 {
					t.Errorf("the error of the initializer: %v", e.Err)
				}
				wantError(t, err, gpool.ErrRestartLimit)
			})
		}
	}},
	{name: "E34_release_unused_processes", alone: func(t *testing.T) {
		dir := t.TempDir()
		script := filepath.Join(dir, "worker.sh")
		// The first three starts succeed, and each leaves its pid.
		text := "#!/bin/sh\nfor i in 1 2 3; do\n  mkdir \"$1/$i\" 2>/dev/null && echo $$ >\"$1/$i/pid\" && exec \"$2\"\ndone\necho no fourth >&2\nexit 1\n"
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		within(t, 60*time.Second, func() {
			_, err = gpool.New(background, gpool.Workers(4), gpool.Executable("/bin/sh", script, dir, self), gpool.Stderr(io.Discard))
		})
		if e, ok := errors.AsType[*gpool.StartError](err); !ok || !strings.Contains(e.Error(), "no fourth") {
			t.Fatalf("New whose fourth worker does not start: %v", err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*", "pid"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if pid, _ := strconv.Atoi(strings.TrimSpace(string(b))); pid > 0 && lives(pid) {
				t.Errorf("worker %d is left", pid)
			}
		}
	}},

	{name: "K1_buffersize_validation", both: func(t *testing.T, p lifecycle, dir string) {
		for _, n := range []int{0, -1} {
			var err error
			for _, err = range gpool.IMap(background, p, confRecord, withDir(dir, 1), gpool.Window(n)) {
				if err == nil {
					t.Errorf("IMap with Window(%d) has a result", n)
				}
			}
			if err == nil {
				t.Errorf("IMap with Window(%d) has no error", n)
			}
			if _, err := gpool.New(background, gpool.Window(n)); err == nil {
				t.Errorf("New with Window(%d) succeeds", n)
			}
		}
		wantList(t, ledger(t, dir), nil)
	}},
	{name: "K2_buffersize_when_buffer_is_full", both: func(t *testing.T, p lifecycle, _ string) {
		for _, unordered := range []bool{false, true} {
			for _, window := range []int{1, 2, 7} {
				var taken atomic.Int64
				endless := func(yield func(int) bool) {
					for i := range 1 << 30 {
						if taken.Add(1); !yield(i) {
							return
						}
					}
				}
				start := gpool.Start[int, int, func(func(int) bool)]
				if unordered {
					start = gpool.StartUnordered[int, int, func(func(int) bool)]
				}
				it := start(background, p, square, endless, gpool.Window(window))
				for yielded := range 20 {
					until(t, "the window is full", func() bool { return taken.Load() >= int64(yielded+window) })
					if y, ok, err := it.Next(background); !ok || err != nil || !unordered && y != yielded*yielded {
						t.Fatalf("result %d: %d, %v, %v", yielded, y, ok, err)
					}
					if n := taken.Load(); n > int64(yielded+1+window) {
						t.Fatalf("%d items were taken when %d results were yielded, with a window of %d", n, yielded+1, window)
					}
				}
				it.Stop()
			}
		}
	}},
	{name: "K3_buffersize_close_join", both: func(t *testing.T, p lifecycle, _ string) {
		it := gpool.Start(background, p, square, upTo(10), gpool.Window(2))
		defer it.Stop()
		if y, ok, err := it.Next(background); y != 0 || !ok || err != nil {
			t.Fatal(y, ok, err)
		}
		p.Close()
		within(t, 20*time.Second, func() {
			if err := p.Join(background); err != nil {
				t.Error(err)
			}
		})
		n := 1 // what was taken is there, and then the reason for the end
		for y, ok, err := it.Next(background); ; y, ok, err = it.Next(background) {
			if !ok {
				wantError(t, err, gpool.ErrPoolClosed)
				break
			}
			if y != n*n || err != nil {
				t.Fatalf("result %d: %d, %v", n, y, err)
			}
			n++
		}
		if n > 4 {
			t.Errorf("%d results with a window of 2", n)
		}
	}},
	{name: "K4_raising_callbacks", alone: func(t *testing.T) {
		for kind, create := range poolKinds {
			t.Run(kind, func(t *testing.T) {
				var text lockedBuffer
				p, err := create(background, gpool.Workers(1), gpool.Stderr(&text))
				if err != nil {
					t.Fatal(err)
				}
				defer endPool(t, p)
				good := gpool.ApplyAsync(background, p, square, 3)
				good.OnSuccess(func(int) { panic("in a callback") })
				bad := gpool.ApplyAsync(background, p, failIf, gpool.A2(1, []int{1}))
				bad.OnError(func(error) { panic("in an error callback") })
				all := gpool.MapAsync(background, p, square, upTo(3))
				all.OnSuccess(func([]int) { panic("in a callback of Map") })
				if y := got(t, good); y != 9 {
					t.Errorf("got %d", y)
				}
				_, err = answer(t, bad)
				wantError(t, err, errBad)
				wantList(t, got(t, all), squares(3))
				until(t, "the panics are printed", func() bool {
					s := text.String()
					return strings.Contains(s, "in a callback\n") && strings.Contains(s, "in an error callback\n") && strings.Contains(s, "in a callback of Map\n")
				})
				works(t, p)
			})
		}
	}},
}

func lives(pid int) bool { return !hasEnded(pid) }

// wantPids runs 8 items in chunks over a pool of one worker, and counts the workers that
// have run some of them.
func wantPids(t *testing.T, p lifecycle, want int, chunk gpool.CallOption) {
	t.Helper()
	out, err := gpool.Map(background, p, pidOf, upTo(8), chunk)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.Compact(out)); !isThreads(p) && n != want {
		t.Errorf("%d workers have run 8 items, want %d: %v", n, want, out)
	}
	if n := p.Stats().Started; n < uint64(want) {
		t.Errorf("%d workers were started, want %d", n, want)
	}
}

// play runs the test binary in a role, with a directory, and returns what it has printed.
func play(t *testing.T, role, dir string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := playing(role, roleDirVar+"="+dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the program: %v\n%s", err, out.Bytes())
	}
	return out.String()
}

const roleDirVar = "GPOOL_TEST_ROLE_DIR"

func init() {
	for kind, create := range poolKinds {
		for end, exit := range map[string]func(int){"return": os.Exit, "exit": gpool.Exit} {
			roles["conf-unclosed-"+kind+"-"+end] = func() int {
				p, err := create(background, gpool.Workers(3))
				if err != nil {
					fmt.Println(err)
					return 1
				}
				begun := filepath.Join(os.Getenv(roleDirVar), "begun")
				gpool.ApplyAsync(background, p, touchAndWait, begun)
				for _, err := os.Stat(begun); err != nil; _, err = os.Stat(begun) {
					time.Sleep(time.Millisecond)
				}
				for _, w := range p.Stats().Workers {
					fmt.Println(w.Pid)
				}
				exit(0)
				return 1
			}
		}
	}
}

// endsUnclosed plays a program that ends without having closed its pool, while a call
// runs.
func endsUnclosed(t *testing.T, kind, end string) {
	out := play(t, "conf-unclosed-"+kind+"-"+end, t.TempDir())
	fields := strings.Fields(out)
	if len(fields) != 3 {
		t.Fatalf("it printed %q", out)
	}
	for _, field := range fields {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("it printed %q", out)
		}
		until(t, "its workers are gone", func() bool { return hasEnded(pid) })
	}
}
