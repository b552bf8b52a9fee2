package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of other tools that GNU parallel's manual names, and the check that they
// catch something: testdata/alternatives.

const notTestable = 77 // exit status of a script that cannot test here

// alternatives lists the scripts.
func alternatives(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "testdata", "alternatives", "[A-Z0-9]*.sh"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no script: %v", err)
	}
	return paths
}

// runAlternative runs a script against a program.
func runAlternative(t *testing.T, path, tool string) ran {
	t.Helper()
	env := []string{"GPOOL=" + tool, "TMPDIR=" + t.TempDir()}
	if raceEnabled {
		// Everything takes several times the memory, and a second more to end.
		env = append(env, "MAXMEM=2000", "GORACE=atexit_sleep_ms=0")
	}
	return runWith(t, nil, env, "", "sh", path)
}

func TestAlternatives(t *testing.T) {
	gpool, err := exec.LookPath("gpool")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range alternatives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".sh"), func(t *testing.T) {
			switch got := runAlternative(t, path, gpool); got.code {
			case 0:
			case notTestable:
				t.Skip(got.stderr)
			default:
				t.Errorf("exit status %d, stdout %q, stderr: %s", got.code, got.stdout, got.stderr)
			}
		})
	}
}

// brokenTools are programs that are called as gpool is, have one fault each, and are
// caught by these scripts at least. $REAL is gpool; after "--" stands the command.
var brokenTools = []struct{ fault, script, caughtBy string }{
	{"mixes output", `while [ "$1" != -- ]; do shift; done; shift; exec xargs -d '\n' -P 30 -n 1 "$@"`, "MIX"},
	{"loses the first byte", `"$REAL" "$@" | tail -c +2`, "STDERRMERGE RAM SPCCHAR COMPOSED ONEREP INPUTSIZE NUMWORDS 4GB"},
	{"loses one byte of stderr", `"$REAL" "$@" 2>"$TMPDIR/e"; s=$?; tail -c +2 "$TMPDIR/e" >&2; rm "$TMPDIR/e"; exit $s`, "STDERRMERGE"},
	{"merges the streams", `exec "$REAL" "$@" 2>&1`, "STDERRMERGE"},
	{"keeps output in memory", `out=$("$REAL" "$@"; echo .); printf %s "${out%.}"`, "RAM"},
	{"hides that the disk is full", `"$REAL" "$@" 2>/dev/null; exit 0`, "DISKFULL"},
	{"leaves a temporary file", `: >"$TMPDIR/left"; exec "$REAL" "$@"`, "CLEANUP"},
	{"leaves commands behind", `exec 3<&0; "$REAL" "$@" <&3 3<&- & wait`, "CLEANUP"},
	{"splits items at blanks", `while [ "$1" != -- ]; do shift; done; shift; exec xargs -n 1 "$@"`, "SPCCHAR"},
	{"does not quote", `while [ "$1" != -- ]; do shift; done; shift; tr '\0' '\n' | while read -r line; do sh -c "$* $line"; done`, "SPCCHAR"},
	{"runs no shell", `shift; [ "$1" != -c ] || shift; exec xargs -I{} $*`, "COMPOSED"},
	{"replaces nothing", `while [ "$1" != -- ]; do shift; done; shift; while read -r line; do "$@" "$line"; done`, "ONEREP"},
	{"cuts long lines", `cut -b -65536 | exec "$REAL" "$@"`, "INPUTSIZE"},
}

func TestAlternativesCatchBrokenTools(t *testing.T) {
	if testing.Short() {
		t.Skip("tests the tests")
	}
	gpool, err := exec.LookPath("gpool")
	if err != nil {
		t.Fatal(err)
	}
	unproven := map[string]bool{}
	for _, path := range alternatives(t) {
		unproven[path] = true
	}
	for _, broken := range brokenTools {
		tool := filepath.Join(t.TempDir(), "broken")
		text := "#!/bin/sh\nREAL='" + gpool + "'\n" + broken.script + "\n"
		if err := os.WriteFile(tool, []byte(text), 0o777); err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(broken.caughtBy) {
			path := filepath.Join("..", "..", "testdata", "alternatives", name+".sh")
			delete(unproven, path)
			t.Run(name+" "+broken.fault, func(t *testing.T) {
				if raceEnabled && name == "RAM" {
					t.Skip("memory is not looked at under the race detector")
				}
				got := runAlternative(t, path, tool)
				if got.code == notTestable {
					t.Skip(got.stderr)
				}
				if got.code != 1 || !strings.Contains(got.stderr, name+": ") {
					t.Errorf("a tool that %s: exit status %d, stderr: %s", broken.fault, got.code, got.stderr)
				} else {
					t.Log(got.stderr)
				}
			})
		}
	}
	for path := range unproven {
		t.Errorf("no broken tool shows that %s can fail", path)
	}
}
