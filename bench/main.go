// Command bench measures gpool against its peers and its floors: go run ./bench.
//
// Machines differ and drift, so every figure is a ratio of two things that were
// measured in turn in one run: the median of the ratios of several pairs.
package main

import (
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
)

var (
	items = flag.Int("items", 20000, "items for each measurement of commands")
	pairs = flag.Int("pairs", 5, "pairs of measurements for each figure")
	only  = flag.String("only", "", "measure these groups alone: "+strings.Join(groupNames(), ", "))
	write = flag.String("write", "", "write the table of the figures, and a picture of them, into this document")
)

// group is some figures that are measured together.
type group struct {
	name    string
	measure func(*bench) error
}

// groups are all, in the order in which they are measured. It is a function since the measures lead back to it.
func groups() []group {
	return []group{
		{"commands", (*bench).commands}, {"start", (*bench).start}, {"tasks", (*bench).tasks}, {"values", (*bench).values},
		{"warm", (*bench).warm}, {"many", (*bench).many}, {"lines", (*bench).lines}, {"output", (*bench).output},
		{"control", (*bench).control}, {"background", (*bench).background}, {"shared", (*bench).shared},
	}
}

func groupNames() (names []string) {
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

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

// bench is one run: the programs that it measures, and what it has found.
type bench struct {
	dir     string
	gpool   string
	floor   string // empty without a C compiler
	self    string
	python  string // one that has msgpack, if any does
	seq     string // a file with the items
	figures []figure
	missing []string // peers that are not installed
}

func measure() error {
	dir, err := os.MkdirTemp("", "gpool-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	if err := b.prepare(); err != nil {
		return err
	}
	fmt.Printf("%s; %d items, median of %d pairs\n\n", machine(), *items, *pairs)
	var failed error
	for _, g := range groups() {
		if *only == "" || slices.Contains(strings.Split(*only, ","), g.name) {
			failed = errors.Join(failed, g.measure(b))
		}
	}
	if *write != "" {
		failed = errors.Join(failed, b.writeInto(*write))
	}
	return failed
}

// prepare builds what is measured, and finds the peers.
func (b *bench) prepare() (err error) {
	for name := range strings.SplitSeq(*only, ",") {
		if name != "" && !slices.Contains(groupNames(), name) {
			return fmt.Errorf("there is no group %q: there are %s", name, strings.Join(groupNames(), ", "))
		}
	}
	b.gpool = filepath.Join(b.dir, "gpool")
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", b.gpool, "gpool/cmd/gpool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build gpool: %w: %s", err, out)
	}
	if b.have("cc", "gcc") {
		b.floor = filepath.Join(b.dir, "floor")
		if out, err := exec.Command("cc", "-O2", "-pthread", "-o", b.floor, source("floor.c")).CombinedOutput(); err != nil {
			return fmt.Errorf("build the floors: %w: %s", err, out)
		}
	}
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if b.python == "" && exec.Command(name, "-c", "import msgpack").Run() == nil {
			b.python = name
		}
	}
	b.seq, err = b.numbers(*items)
	return err
}

// have reports whether a peer is installed, and notes it if it is not.
func (b *bench) have(program, debian string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	b.miss(program, debian)
	return false
}

func (b *bench) miss(what, debian string) {
	text := fmt.Sprintf("%s (Debian: apt-get install %s)", what, debian)
	if !slices.Contains(b.missing, text) {
		b.missing = append(b.missing, text)
		fmt.Printf("not measured, since it is not installed: %s\n", text)
	}
}

// source is a file beside this one.
func source(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "testdata", name)
}

// numbers makes a file of the numbers from 0 on.
func (b *bench) numbers(n int) (string, error) {
	var text []byte
	for i := range n {
		text = append(strconv.AppendInt(text, int64(i), 10), '\n')
	}
	file := filepath.Join(b.dir, "items-"+strconv.Itoa(n))
	return file, os.WriteFile(file, text, 0o644)
}

// measured takes the time of one run of something.
type measured = func() (time.Duration, error)

// run runs a command over the items and takes the time.
func (b *bench) run(argv ...string) measured {
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
			return 0, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
		return time.Since(from), nil
	}
}

// says runs a program that takes the time itself and prints it in seconds.
func says(argv ...string) measured {
	return func() (time.Duration, error) {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		return time.Duration(seconds * float64(time.Second)), err
	}
}

// each divides a time by the number of calls that it was for.
func each(n int, run measured) measured {
	return func() (time.Duration, error) {
		d, err := run()
		return d / time.Duration(n), err
	}
}

// inFresh makes an empty directory before each run.
func inFresh(dir string, run measured) measured {
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
