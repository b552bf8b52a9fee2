package report

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ciEnv(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestParseCI(t *testing.T) {
	for _, test := range []struct {
		mode string
		env  func(string) string
		want CIKind
	}{
		{"auto", ciEnv(), NoCI},
		{"auto", ciEnv("GITHUB_ACTIONS", "true"), GitHub},
		{"auto", ciEnv("GITLAB_CI", "true"), GitLab},
		{"auto", ciEnv("GITHUB_ACTIONS", "false", "CI", "true"), NoCI},
		{"never", ciEnv("GITHUB_ACTIONS", "true"), NoCI},
		{"github", ciEnv("GITLAB_CI", "true"), GitHub},
		{"gitlab", ciEnv(), GitLab},
	} {
		if got, err := ParseCI(test.mode, test.env); got != test.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", test.mode, got, err, test.want)
		}
	}
	if _, err := ParseCI("jenkins", ciEnv()); err == nil || !strings.Contains(err.Error(), `"jenkins"`) {
		t.Errorf("an unknown mode: %v", err)
	}
}

// passedCall and failedCall make records of calls that took 1.2 s and 0.5 s.
func passedCall(seq uint64, item ...string) *Record {
	return &Record{Seq: seq, Item: item,
		Attempt: Attempt{N: 1, Status: Succeeded, Start: start(), Elapsed: 1200 * time.Millisecond}}
}

func failedCall(seq uint64, item ...string) *Record {
	return &Record{Seq: seq, Item: item, Attempt: Attempt{
		N: 1, Status: Failed, Exit: 3, Error: "exit status 3", Start: start(), Elapsed: time.Second / 2}}
}

// playCall prints a call that printed some pieces.
func playCall(t testing.TB, c *CI, r *Record, pieces ...string) {
	t.Helper()
	err := c.Begin(r)
	for _, piece := range pieces {
		n, writeErr := c.Write([]byte(piece))
		if n != len(piece) && writeErr == nil {
			t.Errorf("Write of %d bytes took %d", len(piece), n)
		}
		err = errors.Join(err, writeErr)
	}
	if err := errors.Join(err, c.End()); err != nil {
		t.Fatal(err)
	}
}

func TestGitHubLog(t *testing.T) {
	var out bytes.Buffer
	c := NewCI(GitHub, &out)
	playCall(t, c, passedCall(1, "quiet"))
	playCall(t, c, passedCall(2, "100%", "##[x]"), "one\n", "::set-output name=a::b")
	playCall(t, c, failedCall(3, "a:b,c"), "oops\n##[endgroup]\n", "no newline")
	flaky := passedCall(4)
	flaky.N, flaky.Earlier = 2, []Attempt{{N: 1, Status: Failed}}
	playCall(t, c, flaky, "at last\n")
	stopped := passedCall(5, "late")
	stopped.Status = Cancelled
	playCall(t, c, stopped, "begun\n")
	if err := c.Finish(&Totals{Calls: 5, Succeeded: 3, Failed: 1, Flaky: 1, Cancelled: 1, Wall: time.Second}); err != nil {
		t.Fatal(err)
	}
	want := `::group::call 2 (100%25 ## [x]), 1.2 s
one
:: set-output name=a::b
::endgroup::
call 3 (a:b,c), 0.500 s: failed
oops
## [endgroup]
no newline
::error title=call 3 (a%3Ab%2Cc)::failed: exit status 3
::group::call 4, 1.2 s, attempt 2
at last
::endgroup::
::group::call 5 (late), 1.2 s, cancelled
begun
::endgroup::

1 failed call, once more:
call 3 (a:b,c), 0.500 s: failed: exit status 3
oops
## [endgroup]
no newline

5 calls: 1 failed, 1 flaky, 1 ended by the stop; 1.0 s wall
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGitLabLog(t *testing.T) {
	var out bytes.Buffer
	c := NewCI(GitLab, &out)
	playCall(t, c, passedCall(1, "a\nb"), "one\nsection_end:1:x\r\x1b[0K")
	playCall(t, c, failedCall(2, "c"), "oops")
	if err := c.Finish(&Totals{Calls: 2, Succeeded: 1, Failed: 1, Wall: time.Second}); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[0Ksection_start:1767225600:gpool_1767225600000_1[collapsed=true]\r\x1b[0Kcall 1 (\"a\\nb\"), 1.2 s\n" +
		"one\nsection_end :1:x\r\x1b[0K\n" +
		"\x1b[0Ksection_end:1767225601:gpool_1767225600000_1\r\x1b[0K\n" +
		"call 2 (c), 0.500 s: failed\noops\n" +
		"\x1b[31mcall 2 (c): failed: exit status 3\x1b[0m\n" +
		"\n1 failed call, once more:\n" +
		"\x1b[31mcall 2 (c), 0.500 s: failed: exit status 3\x1b[0m\noops\n\n" +
		"2 calls: 1 failed; 1.0 s wall\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Sections have to have the form that GitLab looks for, also for a call that never began.
func TestGitLabSections(t *testing.T) {
	form := regexp.MustCompile(`^\x1b\[0Ksection_(start|end):\d+:[a-z0-9_]+(\[collapsed=true\])?\r\x1b\[0K`)
	for _, r := range []*Record{passedCall(1), {Seq: 2, Attempt: Attempt{Status: Skipped}}} {
		for _, order := range []string{GitLab.group(r), GitLab.endGroup(r)} {
			if !form.MatchString(order) {
				t.Errorf("%q", order)
			}
		}
	}
}

func TestWithoutCI(t *testing.T) {
	var out bytes.Buffer
	c := NewCI(NoCI, &out)
	playCall(t, c, passedCall(1), "one\n")
	if got := out.String(); got != "one\n" {
		t.Errorf("%q", got)
	}
}

func TestManyFailures(t *testing.T) {
	var out bytes.Buffer
	c := NewCI(GitHub, &out)
	for seq := range uint64(25) {
		playCall(t, c, failedCall(seq+1), fmt.Sprintf("output of %d\n", seq+1), strings.Repeat(strings.Repeat("x", 99)+"\n", 100))
	}
	printed := out.Len()
	if err := c.Finish(&Totals{Calls: 25, Failed: 25}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n::error title="); n != annotationMost {
		t.Errorf("%d annotations", n)
	}
	again := out.String()[printed:]
	for text, n := range map[string]int{
		"the first 20 of 25 failed calls, once more:\n": 1,
		", 0.500 s: failed: exit status 3\n":            20,
		"of output)\n" + strings.Repeat("x", 99) + "\n": 20,
		strings.Repeat("x", 99) + "\n":                  20 * (repeatBytes / 100),
		"output of":                                     0,
		"15 failed calls have no annotation":            1,
		"\n25 calls: 25 failed; ":                       1,
	} {
		if got := strings.Count(again, text); got != n {
			t.Errorf("%q is there %d times, not %d", text, got, n)
		}
	}
	if len(again) > 20*(repeatBytes+200)+500 {
		t.Errorf("%d bytes are printed again", len(again))
	}
}

func TestCIErrorsStay(t *testing.T) {
	full := errors.New("full")
	c := NewCI(GitHub, writeFunc(func([]byte) (int, error) { return 0, full }))
	if err := c.Begin(passedCall(1)); err != nil {
		t.Errorf("nothing was written, and Begin says %v", err)
	}
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, full) {
		t.Errorf("Write: %d, %v", n, err)
	}
	for what, err := range map[string]error{
		"End": c.End(), "Begin": c.Begin(failedCall(2)), "End again": c.End(), "Finish": c.Finish(&Totals{}),
	} {
		if !errors.Is(err, full) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever items, errors and output are, GitHub sees the groups and annotations of gpool
// and no other order.
func TestGitHubSeesOrdersOfGpoolOnly(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"::", "##[", "]", "\n", "\r", " ", "%", "%0A", "error", "::error::x", "endgroup", "section_end:1:x\r\x1b[0K", "\xff",
		}), 0, 8).Draw(t, "words"), "")
	})
	own := regexp.MustCompile(`^(::group::call |::endgroup::$|::error title=call )`)
	rapid.Check(t, func(t *rapid.T) {
		var out bytes.Buffer
		c := NewCI(GitHub, &out)
		for seq := range uint64(3) {
			r := passedCall(seq, text.Draw(t, "item"))
			if rapid.Bool().Draw(t, "fails") {
				r.Status, r.Error = Failed, text.Draw(t, "error")
			}
			_ = c.Begin(r)
			for _, piece := range rapid.SliceOfN(text, 0, 3).Draw(t, "output") {
				_, _ = c.Write([]byte(piece))
			}
			_ = c.End()
		}
		_ = c.Finish(&Totals{})
		for _, line := range lineEnds.Split(out.String(), -1) {
			if order := taken(line); order != "" && !own.MatchString(line) {
				t.Fatalf("%q has the order %q", out.String(), order)
			}
		}
	})
}

func TestLastBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lastBytes
		var all []byte
		for range rapid.IntRange(0, 10).Draw(t, "pieces") {
			piece := bytes.Repeat([]byte{byte(len(all))}, rapid.IntRange(0, 3*repeatBytes).Draw(t, "bytes"))
			all = append(all, piece...)
			l.add(piece)
			if len(l.kept) > 2*repeatBytes {
				t.Fatalf("%d bytes are kept", len(l.kept))
			}
		}
		got := l.bytes()
		if !bytes.HasSuffix(all, got) || len(got) > repeatBytes || l.cut() != (len(all) > repeatBytes) {
			t.Fatalf("%d bytes of %d", len(got), len(all))
		}
		if !l.cut() && len(got) < len(all) {
			t.Fatalf("%d bytes of %d", len(got), len(all))
		}
	})
}
