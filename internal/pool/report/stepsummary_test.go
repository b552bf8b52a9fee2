package report

import (
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gpool/internal/ipc"
)

var _ Sink = (*StepSummary)(nil)

// stepSummaryOf plays a run and returns what is in the file afterwards.
func stepSummaryOf(t testing.TB, t0 *Totals, records ...*Record) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "summary.md")
	if err := os.WriteFile(path, []byte("| earlier |\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewStepSummary(path)
	for _, r := range records {
		if err := s.Output(r.Seq, 1, ipc.Stdout, []byte("not shown")); err != nil {
			t.Fatal(err)
		}
		if err := s.Call(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t0); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStepSummary(t *testing.T) {
	killed := failedCall(3, "c|d")
	killed.Exit, killed.Signal, killed.Error, killed.N = 137, 9, "killed", 2
	killed.Earlier = []Attempt{{N: 1, Status: Failed}}
	unborn := failedCall(4)
	unborn.Status, unborn.Exit, unborn.N, unborn.Error = NotStarted, -1, 0, ""
	flaky := passedCall(5, "e")
	flaky.N, flaky.Earlier = 2, []Attempt{{N: 1, Status: TimedOut, Error: "over 1 s"}}
	got := stepSummaryOf(t, &Totals{Calls: 7, Succeeded: 3, Failed: 3, Flaky: 1, NotRun: 1, Wall: time.Second, Busy: 2 * time.Second},
		passedCall(1, "a"), failedCall(2, "b"), killed, unborn, flaky)
	want := `| earlier |

### gpool: 7 calls: 3 failed, 1 flaky, 1 not run; 1.0 s wall, 2.0 s in calls, speed-up 2.0

| calls | succeeded | failed | flaky | not run | wall time | time in calls | speed-up |
|---|---|---|---|---|---|---|---|
| 7 | 3 | 3 | 1 | 1 | 1.0 s | 2.0 s | 2.0 |

| call | item | status | exit | attempts | error |
|---|---|---|---|---|---|
| 2 | <code>b</code> | failed | 3 | 1 | <code>exit status 3</code> |
| 3 | <code>c&#124;d</code> | failed | 137 (signal 9) | 2 | <code>killed</code> |
| 4 |  | not started |  | 0 |  |

| call | item | attempts | first | error |
|---|---|---|---|---|
| 5 | <code>e</code> | 2 | timed out | <code>over 1 s</code> |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStepSummaryOfManyCallsStaysSmall(t *testing.T) {
	var records []*Record
	worst := strings.Repeat("\x00", 1000)
	for seq := range uint64(300) {
		bad := failedCall(seq, worst)
		bad.Error = worst
		flaky := passedCall(seq, worst)
		flaky.Earlier = []Attempt{{Status: Failed, Error: worst}}
		records = append(records, bad, flaky)
	}
	got := stepSummaryOf(t, &Totals{Calls: 600, Failed: 300, Succeeded: 300, Flaky: 300}, records...)
	if len(got) > 512<<10 {
		t.Errorf("%d bytes", len(got))
	}
	for _, text := range []string{"\nand 250 more failed calls\n", "\nand 280 more flaky calls\n"} {
		if !strings.Contains(got, text) {
			t.Errorf("%q is missing", text)
		}
	}
}

func TestStepSummaryMakesItsFileAndNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.md")
	if err := NewStepSummary(path).Close(&Totals{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	err := NewStepSummary(filepath.Join(path, "x")).Close(&Totals{})
	if err == nil || !strings.Contains(err.Error(), "GITHUB_STEP_SUMMARY") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// A cell is read as the text that it was made of, and nothing in it means anything else.
func TestMarkdownCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := harmless(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")))
		cell := code(text)
		if text == "" {
			if cell != "" {
				t.Fatalf("a cell without text: %q", cell)
			}
			return
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(cell, "<code>"), "</code>")
		if got := html.UnescapeString(inner); got != text {
			t.Fatalf("%q is read as %q", text, got)
		}
		if strings.ContainsAny(inner, "<>|`*_[]\\~@:.\n\r") {
			t.Fatalf("%q", inner)
		}
	})
}
