// Command bench measures gpool against its peers and its floors: go run ./bench.
//
// Machines differ and drift, so every figure is a ratio of two things that were
// measured in turn in one run: the median of the ratios of several pairs.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"gpool"
	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/launch"
	"gpool/internal/worker"
)

var (
	items = flag.Int("items", 2000, "items for each measurement of commands")
	pairs = flag.Int("pairs", 5, "pairs of measurements for each figure")
	only  = flag.String("only", "", "measure this alone: control, background or shared")
)

func main() {
	gpool.Init()
	switch {
	case len(os.Args) == 2 && os.Args[1] == "worker":
		serve()
		return
	case len(os.Args) == 2 && os.Args[1] == "lines":
		exitOn(runLines())
		return
	}
	flag.Parse()
	exitOn(measure())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run: the programs that it measures.
type bench struct {
	dir   string
	gpool string
	floor string // empty without a C compiler
	self  string
	seq   string // a file with the items
}

func measure() error {
	dir, err := os.MkdirTemp("", "gpool-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, gpool: filepath.Join(dir, "gpool"), seq: filepath.Join(dir, "items")}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", b.gpool, "gpool/cmd/gpool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build gpool: %w: %s", err, out)
	}
	b.buildFloor()
	var list bytes.Buffer
	for i := range *items {
		fmt.Fprintln(&list, i)
	}
	if err := os.WriteFile(b.seq, list.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s, %s/%s, %d CPUs; %d items, median of %d pairs\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *items, *pairs)
	switch *only {
	case "control":
		return b.control()
	case "background":
		return b.background()
	case "shared":
		return b.shared()
	}
	b.commands()
	b.start()
	if err := b.control(); err != nil {
		return err
	}
	if err := errors.Join(b.background(), b.shared()); err != nil {
		return err
	}
	return b.memory()
}

func (b *bench) buildFloor() {
	source := filepath.Join(sourceDir(), "testdata", "floor.c")
	out := filepath.Join(b.dir, "floor")
	if text, err := exec.Command("cc", "-O2", "-o", out, source).CombinedOutput(); err != nil {
		fmt.Printf("the floor is not measured, it needs a C compiler (Debian: apt-get install gcc): %v %s\n", err, text)
		return
	}
	b.floor = out
}

func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// commands compares whole runs over the same items, with 2 workers, output captured
// and in order where the peer can.
func (b *bench) commands() {
	gpool := b.run("gpool", b.gpool, "map", "-j2", "--", "/bin/echo", "{}")
	shell := b.run("gpool -c", b.gpool, "map", "-j2", "-c", "echo {}")
	b.compare("commands: /bin/echo", gpool, "xargs -P2 -n1", b.run("xargs", "xargs", "-P2", "-n1", "/bin/echo"))
	b.compare("commands: sh -c 'echo'", shell, "xargs -P2 -I{} sh -c", b.run("xargs", "xargs", "-P2", "-I{}", "sh", "-c", "echo {}"))
	if b.floor != "" {
		b.compare("commands: /bin/echo", gpool, "posix_spawn with capture (the floor)", b.run("floor", b.floor, "2", strconv.Itoa(*items)))
	}
	if _, err := exec.LookPath("parallel"); err != nil {
		fmt.Println("GNU parallel is not measured, it is not installed (Debian: apt-get install parallel)")
		return
	}
	b.compare("commands: /bin/echo", gpool, "GNU parallel -k -j2", b.run("parallel", "parallel", "--will-cite", "-k", "-j2", "/bin/echo", "{}"))
}

// run returns a function that runs a command over the items and takes the time.
func (b *bench) run(name string, argv ...string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		in, err := os.Open(b.seq)
		if err != nil {
			return 0, err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(b.dir, "out"))
		if err != nil {
			return 0, err
		}
		defer out.Close()
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin, cmd.Stdout = in, out
		from := time.Now()
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return time.Since(from), nil
	}
}

// inFresh makes an empty directory before each run.
func (b *bench) inFresh(dir string, run func() (time.Duration, error)) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		if err := os.RemoveAll(dir); err != nil {
			return 0, err
		}
		if err := os.Mkdir(dir, 0o777); err != nil {
			return 0, err
		}
		return run()
	}
}

// compare measures pairs in turn and prints how many times as fast ours is.
func (b *bench) compare(what string, ours func() (time.Duration, error), peer string, theirs func() (time.Duration, error)) {
	var ratios, our []float64
	for range *pairs {
		a, err := ours()
		if err != nil {
			fmt.Printf("%-26s %v\n", what, err)
			return
		}
		t, err := theirs()
		if err != nil {
			fmt.Printf("%-26s %s: %v\n", what, peer, err)
			return
		}
		ratios = append(ratios, float64(t)/float64(a))
		our = append(our, a.Seconds())
	}
	slices.Sort(ratios)
	slices.Sort(our)
	fmt.Printf("%-26s %5.2f times as fast as %s (%.2f to %.2f; gpool took %.3f s)\n",
		what, ratios[len(ratios)/2], peer, ratios[0], ratios[len(ratios)-1], our[len(our)/2])
}

// start measures how long gpool takes from start to exit, and a worker to its hello.
func (b *bench) start() {
	one := func(argv ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			const times = 20
			from := time.Now()
			for range times {
				if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
					return 0, err
				}
			}
			return time.Since(from) / times, nil
		}
	}
	true1 := one("/bin/true")
	b.compareTimes("start to exit of gpool map -- true ::: 1", one(b.gpool, "map", "--", "true", ":::", "1"), "/bin/true", true1)
	b.compareTimes("start of a worker to its hello", b.hello, "/bin/true", true1)
}

func (b *bench) hello() (time.Duration, error) {
	const times = 20
	var total time.Duration
	for range times {
		launcher := &launch.Local{Path: b.gpool, Args: []string{"worker"}}
		from := time.Now()
		p, err := launcher.Launch(1)
		if err != nil {
			return 0, err
		}
		var m ipc.Message
		if err := ipc.NewReader(p.Frames(), ipc.Limits{}).Next(&m); err != nil {
			return 0, err
		}
		total += time.Since(from)
		p.Kill()
		p.Wait()
	}
	return total / times, nil
}

func (b *bench) compareTimes(what string, ours func() (time.Duration, error), peer string, theirs func() (time.Duration, error)) {
	var ratios []float64
	var our, their []time.Duration
	for range *pairs {
		a, err := ours()
		t, err2 := theirs()
		if err != nil || err2 != nil {
			fmt.Println(what, err, err2)
			return
		}
		our, their = append(our, a), append(their, t)
		ratios = append(ratios, float64(a)/float64(t))
	}
	slices.Sort(ratios)
	slices.Sort(our)
	slices.Sort(their)
	m := len(our) / 2
	fmt.Printf("%s: %v, %.2f times %s (%v)\n", what, our[m].Round(time.Microsecond), ratios[m], peer, their[m].Round(time.Microsecond))
}

// memory measures the peak of the parent over a short and a long input, on a cheap
// task in real workers: imap, chunks of 100, results in order.
func (b *bench) memory() error {
	var peaks []int
	for _, n := range []int{300_000, 3_000_000} {
		var kibs []int
		for range 3 {
			kib, err := b.lines(n)
			if err != nil {
				return err
			}
			kibs = append(kibs, kib)
		}
		slices.Sort(kibs)
		fmt.Printf("memory: %d lines, cheap task: the parent used %.1f MiB at most (median of 3)\n", n, float64(kibs[1])/1024)
		peaks = append(peaks, kibs[1])
	}
	fmt.Printf("memory: %.2f times as much for ten times the lines\n", float64(peaks[1])/float64(peaks[0]))
	return nil
}

// lines returns the peak, in KiB, of a parent that gets n lines.
func (b *bench) lines(n int) (int, error) {
	seq := exec.Command("seq", strconv.Itoa(n))
	lines, err := seq.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(b.self, "lines")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = lines, &out, os.Stderr
	if err := seq.Start(); err != nil {
		return 0, err
	}
	if err := cmd.Run(); err != nil {
		return 0, err
	}
	if err := seq.Wait(); err != nil {
		return 0, err
	}
	var done, kib int
	if _, err := fmt.Sscan(out.String(), &done, &kib); err != nil || done != n {
		return 0, fmt.Errorf("%d lines in, %q out: %v", n, out.String(), err)
	}
	return kib, nil
}

// serve is a worker with a cheap task, which returns its payload.
func serve() {
	in, out, err := worker.Guard()
	exitOn(err)
	_ = worker.Serve(in, out, worker.Config{Tasks: worker.Registry{
		"echo": func(_ context.Context, c *worker.Call) ([]byte, error) { return c.Payload, nil },
	}})
}

// runLines is the parent of that worker, as gpool imap is one: it prints how many
// lines came back in order, and the peak of its memory in KiB.
func runLines() error {
	launcher, err := launch.Self("worker")
	if err != nil {
		return err
	}
	p, err := pool.New(pool.Config{Workers: 2, Launcher: launcher, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	rows, _, err := input.Open(nil, os.Stdin, input.Format{})
	if err != nil {
		return err
	}
	c := &counter{}
	r, err := p.Submit(pool.Job{Task: "echo", Order: pool.Ordered, ChunkSize: 100, Source: source{rows}, Consumer: c})
	if err != nil {
		return err
	}
	if err := r.Wait(); err != nil {
		return err
	}
	p.Close()
	fmt.Println(c.n, peak())
	return nil
}

type source struct{ rows input.Source }

func (s source) Next(_ context.Context, max int) ([]pool.Call, error) {
	rows, err := s.rows.Next(max)
	list := make([]pool.Call, len(rows))
	for i := range rows {
		list[i] = pool.Call{Payload: []byte(rows[i].Columns[0]), Item: &rows[i]}
	}
	if len(rows) > 0 {
		err = nil
	}
	return list, err
}

type counter struct{ n int }

func (c *counter) Output(*pool.Output) error { return nil }
func (c *counter) Flush() error              { return nil }

func (c *counter) Result(r *pool.Result) error {
	c.n++
	if want := strconv.Itoa(c.n); string(r.Value) != want {
		return fmt.Errorf("result %s is %q", want, r.Value)
	}
	return nil
}

// peak is the peak of this process's resident memory, in KiB.
func peak() int {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib
		}
	}
	return 0
}
