package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

// TestMain lets the test binary play gpool: testscript puts it on the PATH under that
// name. A worker is this same file started with one argument, under whatever name the
// system gives it, so it is told by the argument, as in main.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerVerb {
		main()
	}
	testscript.Main(leakChecked{m}, map[string]func(){"gpool": main, "taskworker": taskWorker})
}

// leakChecked fails the tests if one of them has left a gpool or a worker running.
type leakChecked struct{ m *testing.M }

// Run implements testscript.TestingM.
func (l leakChecked) Run() int {
	for _, name := range []string{poolVariable, idVariable, "GPOOL_SPOOL"} { // of whoever runs the tests
		os.Unsetenv(name)
	}
	if err := workers.make(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare workers in other languages:", err)
		return 1
	}
	code := l.m.Run()
	workers.remove()
	gpool, err := exec.LookPath("gpool")
	if err != nil {
		fmt.Fprintln(os.Stderr, "look for processes left behind:", err)
		return 1
	}
	var left []string
	for range 20 { // an orphaned worker needs a moment to leave
		if left = running(gpool); left == nil {
			return code
		}
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "the tests left processes of gpool behind: %s\n", strings.Join(left, ", "))
	return 1
}

// running names the processes that run a program. Only Linux can tell.
func running(program string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && path == program {
			found = append(found, filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { endPoolsIn(env.WorkDir) })
			return workers.setup(env)
		},
		Condition: workers.condition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":     exits,
			"usage":     usage,
			"jsoncheck": jsonCheck,
			"cmpsorted": cmpSorted,
		},
	})
}

// endPoolsIn ends the background pools that a script has left running, because it has failed.
func endPoolsIn(work string) {
	sockets, _ := filepath.Glob(filepath.Join(work, "*", "gpool", "*.sock"))
	for _, socket := range sockets {
		cmd := exec.Command("gpool", "pool", "terminate", "--pool", strings.TrimSuffix(filepath.Base(socket), ".sock"))
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+filepath.Dir(filepath.Dir(socket)), "GPOOL_SPOOL="+filepath.Join(work, "spool"))
		_ = cmd.Run() // it may have ended meanwhile
	}
}

func noNegation(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("this command cannot be negated")
	}
}

// exits CODE PROGRAM [ARG...] is exec for a program that must end with CODE.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg)
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s ended with %d instead of %s", args[1], code, args[0])
	}
}

// usage TEXT ARG... runs gpool with the arguments, which must be refused: exit code 2,
// one line on stderr that holds TEXT, and nothing else happens. The scripts prove the
// latter by commands that make the file "ran".
func usage(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg)
	exits(ts, false, append([]string{"2", "gpool"}, args[1:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout is not empty")
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") || !strings.HasPrefix(said, "gpool") {
		ts.Fatalf("stderr is not one line of gpool")
	}
	if !strings.Contains(said, args[0]) {
		ts.Fatalf("stderr does not say %q", args[0])
	}
	if _, err := os.Stat(ts.MkAbs("ran")); err == nil {
		ts.Fatalf("the command was run all the same")
	}
}

// jsoncheck FILE OBJECT... checks that FILE holds one JSON object a line, as many as
// there are arguments, and that each holds all the keys of its argument, with the same
// values.
func jsonCheck(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg)
	text, ended := strings.CutSuffix(ts.ReadFile(args[0]), "\n")
	if !ended {
		ts.Fatalf("%s does not end with a newline", args[0])
	}
	lines := strings.Split(text, "\n")
	if len(lines) != len(args)-1 {
		ts.Fatalf("%s has %d lines instead of %d", args[0], len(lines), len(args)-1)
	}
	for i, line := range lines {
		var got map[string]json.RawMessage
		ts.Check(json.Unmarshal([]byte(line), &got))
		var want map[string]json.RawMessage
		ts.Check(json.Unmarshal([]byte(args[i+1]), &want))
		for key, value := range want {
			if !bytes.Equal(got[key], value) {
				ts.Fatalf("line %d: %q is %s instead of %s", i+1, key, got[key], value)
			}
		}
	}
}

// cmpsorted FILE1 FILE2 compares files whose lines may come in any order.
func cmpSorted(ts *testscript.TestScript, neg bool, args []string) {
	noNegation(ts, neg)
	if len(args) != 2 {
		ts.Fatalf("usage: cmpsorted FILE1 FILE2")
	}
	var sorted [2]string
	for i, name := range args {
		sorted[i] = strings.Join(slices.Sorted(strings.Lines(ts.ReadFile(name))), "")
	}
	if sorted[0] != sorted[1] {
		ts.Fatalf("%s and %s hold different lines:\n%s---\n%s", args[0], args[1], sorted[0], sorted[1])
	}
}
