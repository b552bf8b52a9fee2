package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bats runs its files by GNU parallel; here gpool takes its place, by the wrapper
// testdata/bats/parallel, and must not be told from it.

// needTool skips the test without a program, or fails it if TESTS_NEED names the program.
func needTool(t *testing.T, name string) {
	t.Helper()
	version, err := exec.Command(name, "--version").Output()
	if err == nil && name == "parallel" && !bytes.HasPrefix(version, []byte("GNU parallel")) {
		err = errors.New("it is not GNU parallel, but another program of that name")
	}
	if err == nil {
		return
	}
	if slices.Contains(strings.Fields(os.Getenv("TESTS_NEED")), name) {
		t.Fatalf("TESTS_NEED names %s, which cannot be used: %v", name, err)
	}
	t.Skipf("needs %s: %v", name, err)
}

// batsWrapper is the directory that is put before the PATH for bats to find gpool there.
func batsWrapper(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "testdata", "bats"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// suite copies the bats files of a folder to where their paths need quoting, which a
// source tree should not have.
func suite(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's a suite, grüße")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for file, as := range map[string]string{
		"first.bats": `1 it's "quoted" $HOME {}.bats`, "second.bats": "2  blänks.bats", "third.bats": "3.bats",
	} {
		text, err := os.ReadFile(filepath.Join(batsWrapper(t), name, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, as), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// ran is what a program has done.
type ran struct {
	stdout, stderr string
	code           int
}

// runWith runs a program with directories before the PATH, with more in its environment,
// and with this on its stdin.
func runWith(t *testing.T, dirs, env []string, stdin, name string, args ...string) ran {
	t.Helper()
	cmd := exec.Command(name, args...)
	path := strings.Join(append(dirs, os.Getenv("PATH")), string(os.PathListSeparator))
	cmd.Env = append(append(os.Environ(), "PATH="+path), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// recorded makes a gpool that leaves a file when it is used: a test that never came to
// it proves nothing.
func recorded(t *testing.T) (env []string, used func() bool) {
	t.Helper()
	gpool, err := exec.LookPath("gpool")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "recorded gpool")
	text := "#!/bin/sh\n: >'" + dir + "/used'\nexec '" + gpool + "' \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o777); err != nil {
		t.Fatal(err)
	}
	return []string{"GPOOL=" + script}, func() bool {
		_, err := os.Stat(filepath.Join(dir, "used"))
		return err == nil
	}
}

func TestBatsCannotTellGpoolFromGNUParallel(t *testing.T) {
	needTool(t, "bats")
	needTool(t, "parallel")
	for _, c := range []struct {
		suite, option string
		code          int
		plan          string
		uses          bool // bats calls its parallel
	}{
		{"mixed", "", 1, "1..22\n", true},
		{"mixed", "--no-parallelize-within-files", 1, "1..22\n", true},
		{"passing", "", 0, "1..8\n", true},
		{"passing", "--no-parallelize-within-files", 0, "1..8\n", true},
		{"passing", "--no-parallelize-across-files", 0, "1..8\n", false},
	} {
		t.Run(c.suite+c.option, func(t *testing.T) {
			args := slices.DeleteFunc([]string{"--tap", "--jobs", "4", c.option, suite(t, c.suite)},
				func(arg string) bool { return arg == "" })
			want := runWith(t, nil, nil, "", "bats", args...)
			env, used := recorded(t)
			got := runWith(t, []string{batsWrapper(t)}, env, "", "bats", args...)
			if got != want {
				t.Errorf("by gpool, bats ends with %d and says\n%s%s\nby GNU parallel with %d and\n%s%s",
					got.code, got.stdout, got.stderr, want.code, want.stdout, want.stderr)
			}
			if got.code != c.code || !strings.HasPrefix(got.stdout, c.plan) || got.stderr != "" {
				t.Errorf("bats ends with %d and says\n%s%s", got.code, got.stdout, got.stderr)
			}
			if used() != c.uses {
				t.Errorf("gpool was used: %v", used())
			}
		})
	}
}

// awkwardNames are what a file can be called; no newline, which bats does not pass on.
var awkwardNames = []string{"plain", "two  blanks ", "it's", `say "hi"`, `back\slash`, "$HOME", "`x`", "*", "a;b", "{}", "{#}", "grüße", "#", "~", "-n"}

// The two forms of bats' call are given to the wrapper and to GNU parallel; the words are
// quoted as bash does it.
func TestTheWrapperReadsBatsCallsAsGNUParallel(t *testing.T) {
	needTool(t, "bash")
	needTool(t, "parallel")
	names := strings.Join(awkwardNames, "\n") + "\n"
	format := `'%s|%s|%s|%s\n' \{\} a\ \'b\  `
	for form, c := range map[string]struct {
		args  []string
		stdin string
	}{
		"bats 1.8":  {append([]string{"--keep-order", "--jobs", "3", "printf", format, "{}", "/list", ":::"}, awkwardNames...), ""},
		"bats 1.13": {[]string{"--keep-order", "--jobs", "3", "--", "printf", format, "{#}", "{}", "/list"}, names},
		"failures":  {[]string{"--keep-order", "--jobs", "3", "--", "echo {}; echo {#} >&2; exit", "{#}"}, "a\nb\n"},
	} {
		t.Run(form, func(t *testing.T) {
			// Where both streams go to one place, as with bats.
			both := `"$0" "$@" 2>&1 || exit 1`
			env, used := recorded(t)
			want := runWith(t, nil, []string{"PARALLEL_SHELL=/bin/bash", "PARALLEL="}, c.stdin,
				"sh", append([]string{"-c", both, "parallel"}, c.args...)...)
			got := runWith(t, []string{batsWrapper(t)}, env, c.stdin, "sh", append([]string{"-c", both, "parallel"}, c.args...)...)
			if got != want || got.stdout == "" || !used() {
				t.Errorf("%q makes of it\n%+v\nGNU parallel\n%+v", c.args, got, want)
			}
		})
	}
}

// With --abort, newer versions of bats pass --halt now,fail=1. GNU parallel then throws
// away what the files that it ends have printed; gpool prints it.
func TestTheWrapperHaltsAtTheFirstFailure(t *testing.T) {
	needTool(t, "bash")
	call := `'echo begin $0; case $0 in 1|3) touch up.$0; exec sleep 1000;; esac; while [ ! -e up.1 ]; do sleep 0.02; done; exit 1'`
	d := newDay(t, "--keep-order", "--jobs", "2", "--halt", "now,fail=1", "--", "sh", "-c", call, "{#}", "{}")
	d.Env = append(d.Env, "GPOOL="+d.Path)
	d.Path = filepath.Join(batsWrapper(t), "parallel")
	d.Stdin = strings.NewReader("a\nb\nc\n")
	d.start()
	d.exit(1)
	if got := d.out.String(); got != "begin 1\nbegin 2\n" || d.said() != "" {
		t.Errorf("stdout is %q, stderr %q", got, d.said())
	}
	d.nothingLeft(time.Second)
}

func TestTheWrapperSaysWhatGpoolCannotDo(t *testing.T) {
	needTool(t, "bash")
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"--version"}, "", 0},
		{[]string{"--keep-order", "--jobs", "none", "echo", "{}", ":::", "a"}, `none`, 2},
		{[]string{"--keep-order", "--pipe", "cat"}, "--pipe", 2},
	} {
		got := runWith(t, nil, nil, "", filepath.Join(batsWrapper(t), "parallel"), c.args...)
		if got.code != c.code || !strings.Contains(got.stderr, c.says) || (got.stderr == "") != (c.code == 0) {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
}
