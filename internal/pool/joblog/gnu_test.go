package joblog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gnuParallel runs GNU parallel on items and returns what it prints. Without the program the test is skipped, unless
// TESTS_NEED names it.
func gnuParallel(t *testing.T, items []string, args ...string) string {
	t.Helper()
	version, err := exec.Command("parallel", "--version").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("GNU parallel")) {
		if slices.Contains(strings.Fields(os.Getenv("TESTS_NEED")), "parallel") {
			t.Fatalf("TESTS_NEED names parallel, and it is not here: %v", err)
		}
		t.Skip("needs GNU parallel")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "parallel", append([]string{"--will-cite", "-0", "-k", "-j2"}, args...)...)
	cmd.Env = append(os.Environ(), "PARALLEL_SHELL=/bin/sh", "PARALLEL=", "PARALLEL_HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(strings.Join(items, "\x00"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if errs.Len() > 0 {
		t.Fatalf("parallel says %s, %v", errs.String(), err)
	}
	return string(out)
}

// quotedWord quotes a word in another way than GNU parallel does.
func quotedWord(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func resume(t *testing.T, path string, mode Mode) *History {
	t.Helper()
	log, h, err := Resume(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return h
}

var awkward = []string{"plain", "two  blanks", "a\tb", "line\nbreak", "it's", `say "hi"`, `back\slash`, "$HOME", "*", "a;b", "`x`", "-n", "é",
	"\xff\xfe", "{}", "#", "~", "a=b", "!x", "(x)", "", "'", "\n"}

// TestRowsAreThoseOfGNUParallel: but for the last digit of the start, which is the mark, writing again
// what GNU parallel wrote changes no byte.
func TestRowsAreThoseOfGNUParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	gnuParallel(t, awkward, "--joblog", path, "printf '%s\n'\t{}; test {#} = 5 && kill $$; exit {#}")
	head, rest, _ := strings.Cut(contents(t, path), "\n")
	if head+"\n" != header {
		t.Fatalf("the header is %q", head)
	}
	lines := strings.SplitAfter(rest, "\n")
	for _, line := range lines[:len(lines)-1] {
		r, err := ParseRow([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		got, want := strings.Split(string(r.Append(nil)), "\t"), strings.Split(line, "\t")
		if got[2] = want[2]; !slices.Equal(got, want) {
			t.Errorf("written again\n%q, by GNU parallel\n%q", got, want)
		}
	}
	if len(lines)-1 != len(awkward) {
		t.Errorf("%d rows", len(lines)-1)
	}
}

// TestGNUParallelResumesOurs: it runs what is missing, or failed, and nothing else.
func TestGNUParallelResumesOurs(t *testing.T) {
	for _, c := range []struct{ option, want string }{
		{"--resume", "sixth\n"}, {"--resume-failed", "third\nsixth\n"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		items := []string{"first", "line\nbreak", "third", "t\tab", "it's", "sixth"}
		var rows []*Row
		for i, item := range items[:5] {
			rows = append(rows, row(uint64(i+1), "echo "+quotedWord(item)))
		}
		rows[2].Exit = 3
		write(t, create(t, path), rows...)
		if got := gnuParallel(t, items, c.option, "--joblog", path, "echo {}"); got != c.want {
			t.Errorf("%s runs\n%q, want\n%q", c.option, got, c.want)
		}
		if got := gnuParallel(t, items, c.option, "--joblog", path, "echo {}"); got != "" {
			t.Errorf("%s of what is done runs %q", c.option, got)
		}
	}
}

// TestWeResumeGNUParallel: a thousand items that need quotes are all recognised, and none is said to
// differ.
func TestWeResumeGNUParallel(t *testing.T) {
	count := 1000
	if testing.Short() {
		count = 100
	}
	random := rand.New(rand.NewPCG(1, 2))
	var items []string
	for i := range count {
		item := fmt.Sprint(i)
		for range random.IntN(3) {
			item += awkward[random.IntN(len(awkward))]
		}
		items = append(items, item)
	}
	path := filepath.Join(t.TempDir(), "log")
	gnuParallel(t, items, "--joblog", path, ": {}")
	h := resume(t, path, SkipSucceeded)
	if h.Rows != count || h.Malformed != 0 {
		t.Errorf("%d rows, %d malformed", h.Rows, h.Malformed)
	}
	expectDone(t, h, items, h.Ours)
	if done, differs := h.Done(1, ": other"); !done || differs == "" {
		t.Errorf("another command: done %v, differs %q", done, differs)
	}
	if done, _ := h.Done(uint64(count+1), ": more"); done {
		t.Error("an item that is new is done")
	}
}

// TestTurnsWithGNUParallel: it resumes our log, and we resume both.
func TestTurnsWithGNUParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	items, rows := awkward[:20], []*Row(nil)
	for i, item := range items[:8] {
		rows = append(rows, row(uint64(i+1), ": "+quotedWord(item)))
	}
	write(t, create(t, path), rows...)
	gnuParallel(t, items[:15], "--resume", "--joblog", path, ": {}")
	h := resume(t, path, SkipLogged)
	if h.Rows != 15 || h.Ours < 8 {
		t.Errorf("%d rows, %d ours", h.Rows, h.Ours)
	}
	expectDone(t, h, items[:15], h.Ours-8)
	for i, item := range items[15:] {
		if done, _ := h.Done(uint64(i+16), ": "+quotedWord(item)); done {
			t.Errorf("item %d is done, and nobody ran it", i+16)
		}
	}
}

// expectDone asks for all items. A few rows of GNU parallel's may be taken for ours, by a chance that no
// test can rule out: their calls may run again, for they are quoted in another way.
func expectDone(t *testing.T, h *History, items []string, taken int) {
	t.Helper()
	for i, item := range items {
		done, differs := h.Done(uint64(i+1), ": "+quotedWord(item))
		if done && differs == "" {
			continue
		}
		if taken--; taken < 0 || differs != "" {
			t.Errorf("item %d, %q: done %v, logged as %q", i+1, item, done, differs)
		}
	}
}
