package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/pool/joblog"
)

// rounds is how often a test that kills at random moments does so: few in a usual run,
// as many as GPOOL_ROUNDS says in a long one.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("GPOOL_ROUNDS")
	if text == "" {
		if raceEnabled {
			usual = max(1, usual/4)
		}
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("GPOOL_ROUNDS: %v", err)
	}
	return n
}

// TestResumeAfterAnyCrash kills gpool with SIGKILL at a random moment of a run of short
// calls that each append a line to a file, and resumes it until it ends: then every call
// is done, the joblog is whole, and of those that ran twice there are no more than
// were in flight at the kills.
func TestResumeAfterAnyCrash(t *testing.T) {
	const calls, workers = 2000, 4
	moment := rand.New(rand.NewPCG(1, 1))
	worst := 0
	for round := range rounds(t, 6) {
		verb := []string{"map", "imap-unordered"}[round%2]
		dir := t.TempDir()
		kills := 0
		for ; ; kills++ {
			d := newDay(t, verb, "-j", strconv.Itoa(workers), "--joblog", "log", "--resume", "-c", "echo {} >>done")
			d.Dir = dir
			d.Stdin = strings.NewReader(numbers(1, calls))
			d.start()
			if kills < 2 {
				time.Sleep(time.Duration(moment.Int64N(int64(800 * time.Millisecond))))
				_ = d.Process.Signal(unix.SIGKILL)
			}
			_ = d.Wait()
			d.nothingLeft(200 * time.Millisecond)
			if d.ProcessState.ExitCode() == 0 {
				break
			}
			if kills >= 2 {
				t.Fatalf("the last run ended with %v: %s", d.ProcessState, d.said())
			}
		}
		twice := ranTwice(t, filepath.Join(dir, "done"), calls)
		// In flight is what was handed to a worker and is not in the log: the call that each
		// runs, and as many results on their way to the log at most.
		const inFlight = 2 * workers
		worst = max(worst, twice)
		if twice > inFlight*kills {
			t.Errorf("%s, round %d: %d calls ran twice after %d kills", verb, round, twice, kills)
		}
		t.Logf("%s: %d kills, %d calls ran twice", verb, kills, twice)
		wholeLog(t, filepath.Join(dir, "log"), calls)
	}
	t.Logf("at most %d calls ran twice", worst)
}

// ranTwice counts the lines of a file that are there more than once; each must be there.
func ranTwice(t *testing.T, path string, calls int) (twice int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		ran[line]++
	}
	for i := 1; i <= calls; i++ {
		n := ran[strconv.Itoa(i)]
		if n == 0 {
			t.Errorf("call %d has not run", i)
		}
		twice += max(0, n-1)
	}
	if len(ran) != calls {
		t.Errorf("%d different lines, want %d", len(ran), calls)
	}
	return twice
}

// wholeLog checks that a log has nothing but whole rows, one for each call at least.
func wholeLog(t *testing.T, path string, calls int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[uint64]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			if want := "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"; lines.Text() != want {
				t.Errorf("the header is %q", lines.Text())
			}
			continue
		}
		row, err := joblog.ParseRow(lines.Bytes())
		if err != nil || row.Command != fmt.Sprintf("echo %d >>done", row.Seq) || !row.Succeeded() {
			t.Errorf("line %d is %q: %v", n, lines.Text(), err)
		}
		seen[row.Seq] = true
	}
	if len(seen) != calls {
		t.Errorf("the log has %d of %d calls", len(seen), calls)
	}
}
