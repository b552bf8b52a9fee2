package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestReportsOfRealRuns holds what gpool itself writes against the schema of events and
// the structure of JUnit files, and the reports against each other.
func TestReportsOfRealRuns(t *testing.T) {
	dir := t.TempDir()
	gpool := filepath.Join(dir, "gpool")
	if out, err := exec.Command("go", "build", "-o", gpool, "gpool/cmd/gpool").CombinedOutput(); err != nil {
		t.Fatalf("build gpool: %v: %s", err, out)
	}
	for name, run := range map[string]struct {
		args string
		exit int
	}{
		"all well":       {"map -j2 -c|echo {}|:::|1|2|3", 0},
		"retries":        {"map -j2 --retries 2 -c|echo out; echo err >&2; [ $GPOOL_ATTEMPT = {} ]|:::|1|2|3|4", 1},
		"timeouts":       {"imap-unordered -j3 --timeout 0.2 --retries 1 -- sleep|:::|0|5|0.01", 1},
		"lost workers":   {"map -j1 -c|kill -9 $PPID; : {}|:::|1|2", 1},
		"halted":         {"map -j1 --halt soon,fail=1 -- false|:::|1|2|3", 1},
		"late":           {"map -j1 --run-timeout 0.3 -- sleep|:::|5|6", 124},
		"nothing to run": {"map -- echo {}|:::", 0},
		"parts":          {"map --partition slice:1/2 -- test 1 =|:::|1|1|2|1", 1},
		"too much":       {"map --max-rss 30M -- dd bs=200M count=1000 if=/dev/zero of=/dev/null|:::|status=none", 1},
		"not there":      {"map -j1 -- ./nothing-{}|:::|a", 1},
		"odd items":      {"map -0 -a odd -- false", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			work := t.TempDir()
			if err := os.WriteFile(filepath.Join(work, "odd"), []byte("a\nb\x00\xff\xfe\x00\x1b[31mred\x00]]>\x00\xed\xa0\x80\x00"), 0o644); err != nil {
				t.Fatal(err)
			}
			verb, rest, _ := strings.Cut(run.args, " ")
			var args []string
			for i, part := range strings.Split(rest, "|") { // blanks separate the flags, | what follows
				if i == 0 {
					args = append(args, strings.Fields(part)...)
				} else {
					args = append(args, part)
				}
			}
			cmd := exec.Command(gpool, append([]string{verb, "--events", "events", "--junit", "junit.xml", "--results", "results", "--joblog", "log"}, args...)...)
			cmd.Dir = work
			out, err := cmd.CombinedOutput()
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || cmd.ProcessState.ExitCode() != run.exit {
				t.Fatalf("%v, want exit code %d: %s", err, run.exit, out)
			}
			checkRun(t, work, run.exit)
		})
	}
}

// checkRun checks the reports that a run has left in a directory.
func checkRun(t *testing.T, dir string, exit int) {
	text, err := os.ReadFile(filepath.Join(dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	schema := readSchema(t)
	counts := map[string]int{}
	var last map[string]any
	for _, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if err := schema.line(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if last, err = decodeObject(line); err != nil {
			t.Fatal(err)
		}
		event := last["event"].(string)
		counts[event]++
		if event == "call_finished" {
			counts[last["status"].(string)]++
			if s := last["status"].(string); s != string(NotRun) && s != string(Cancelled) {
				counts["rows"]++
			}
			if s := last["status"].(string); s != string(NotRun) {
				counts["folders"]++
			}
		}
	}
	number := func(key string) int {
		n, err := strconv.Atoi(fmt.Sprint(last[key]))
		if err != nil {
			t.Errorf("%s of the last event: %v", key, err)
		}
		return n
	}
	if last["event"] != "run_finished" || counts["run_started"] != 1 || counts["run_finished"] != 1 || number("exit") != exit {
		t.Errorf("the last event is %v; %v", last, counts)
	}
	if number("calls") != counts["call_finished"] || number("succeeded") != counts[string(Succeeded)] || number("not_run") != counts[string(NotRun)] {
		t.Errorf("the run counts %v, and the events are %v", last, counts)
	}
	report, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readJUnit(report); err != nil {
		t.Errorf("the JUnit report: %v", err)
	}
	if n := bytes.Count(report, []byte("<testcase ")); n != counts["call_finished"] {
		t.Errorf("the JUnit report has %d cases, and %d calls have ended", n, counts["call_finished"])
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(log, []byte("\n")) - 1; n != counts["rows"] {
		t.Errorf("the joblog has %d rows, want %d", n, counts["rows"])
	}
	folders, err := filepath.Glob(filepath.Join(dir, "results", "*", "result.json"))
	if err != nil || len(folders) != counts["folders"] {
		t.Errorf("there are %d results, want %d", len(folders), counts["folders"])
	}
}
