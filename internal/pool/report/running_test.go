package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// silentCall is a call that began seconds after start, and has printed nothing.
func silentCall(seq uint64, since float64) Running {
	return Running{Seq: seq, Item: []string{"item"}, Attempt: 1, Slot: 3, Pid: 4711, Since: at(since)}
}

// saidBetween asks once a second and returns the seconds at which something was said.
func saidBetween(s *Silence, from, to int, running func(second int) []Running) (seconds []int, lines []string) {
	for second := from; second <= to; second++ {
		if now := s.Lines(running(second), at(float64(second))); len(now) > 0 {
			seconds, lines = append(seconds, second), append(lines, now...)
		}
	}
	return seconds, lines
}

func TestSilentCallsAreNamedEverLessOften(t *testing.T) {
	var s Silence
	seconds, lines := saidBetween(&s, 0, 1000, func(int) []Running { return []Running{silentCall(12, 0)} })
	if want := []int{60, 120, 240, 480, 960}; !slices.Equal(seconds, want) {
		t.Errorf("said at %v, want %v", seconds, want)
	}
	if want := "still running 60 s: call 12 (item), slot 3, pid 4711, printed nothing"; lines[0] != want {
		t.Errorf("got  %s\nwant %s", lines[0], want)
	}
	if !strings.HasPrefix(lines[2], "still running 4m00s: ") {
		t.Error(lines[2])
	}
}

func TestOutputBeginsTheSilenceAnew(t *testing.T) {
	var s Silence
	seconds, lines := saidBetween(&s, 0, 500, func(second int) []Running {
		r := silentCall(1, 0)
		if second >= 130 {
			r.Stdout, r.LastOutput = 7, at(130)
		}
		return []Running{r}
	})
	if want := []int{60, 120, 190, 250, 370}; !slices.Equal(seconds, want) {
		t.Errorf("said at %v, want %v", seconds, want)
	}
	if want := "still running 3m10s: call 1 (item), slot 3, pid 4711, printed 7 bytes, the last 60 s ago"; lines[2] != want {
		t.Errorf("got  %s\nwant %s", lines[2], want)
	}
}

func TestOutputBetweenTwoQuestions(t *testing.T) {
	var s Silence
	r := silentCall(1, 0)
	if got := s.Lines([]Running{r}, at(300)); len(got) != 1 {
		t.Errorf("after five minutes: %q", got)
	}
	r.Stdout, r.LastOutput = 1, at(310)
	if got := s.Lines([]Running{r}, at(380)); len(got) != 1 {
		t.Errorf("after 70 s of another silence: %q", got)
	}
}

func TestAnotherAttemptBeginsTheSilenceAnew(t *testing.T) {
	var s Silence
	seconds, lines := saidBetween(&s, 0, 200, func(second int) []Running {
		if second < 100 {
			return []Running{silentCall(1, 0)}
		}
		r := silentCall(1, 100)
		r.Attempt = 2
		return []Running{r}
	})
	if want := []int{60, 160}; !slices.Equal(seconds, want) {
		t.Errorf("said at %v, want %v", seconds, want)
	}
	if !strings.Contains(lines[1], "call 1 (item), attempt 2, slot 3") {
		t.Error(lines[1])
	}
}

func TestTalkingCallsAreNotNamed(t *testing.T) {
	var s Silence
	seconds, _ := saidBetween(&s, 0, 300, func(second int) []Running {
		r := silentCall(1, 0)
		r.Stdout, r.LastOutput = 1, at(float64(second-second%50))
		return []Running{r}
	})
	if len(seconds) > 0 {
		t.Errorf("said at %v", seconds)
	}
}

func TestManySilentCallsAreCounted(t *testing.T) {
	var s Silence
	var running []Running
	for seq := range uint64(8) {
		running = append(running, silentCall(seq+1, -float64(seq))) // the last is the oldest
	}
	lines := s.Lines(running, at(70))
	if len(lines) != 6 || lines[5] != "still running: 3 more calls that printed nothing for 60 s or more" {
		t.Errorf("%q", lines)
	}
	for i, line := range lines[:5] {
		if !strings.Contains(line, fmt.Sprintf("call %d ", 8-i)) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if lines := s.Lines(running, at(71)); len(lines) > 0 {
		t.Errorf("those that were counted are named: %q", lines)
	}
}

func TestSilenceForgetsCallsThatEnded(t *testing.T) {
	var s Silence
	for seq := range uint64(1000) {
		s.Lines([]Running{silentCall(seq, 0)}, at(1000))
	}
	if len(s.said) != 1 {
		t.Errorf("%d calls are remembered", len(s.said))
	}
	s.Lines(nil, at(1001))
	if len(s.said) != 0 {
		t.Errorf("%d calls are remembered", len(s.said))
	}
}

func TestListOfRunningCalls(t *testing.T) {
	young, old := silentCall(2, 100), silentCall(1, 0)
	old.Stdout, old.LastOutput, old.Attempt, old.Item = 1234, at(198), 2, []string{"a\nb"}
	young.Item = nil
	given := []Running{young, old}
	want := []string{
		`running 3m20s: call 1 ("a\nb"), attempt 2, slot 3, pid 4711, printed 1234 bytes, the last 2 s ago`,
		`running 100 s: call 2, slot 3, pid 4711, printed nothing`,
	}
	if got := List(given, at(200)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if given[0].Seq != 2 {
		t.Error("the snapshot was sorted")
	}
	if got := List(nil, at(0)); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestClocksThatGoBack(t *testing.T) {
	var s Silence
	if got := s.Lines([]Running{silentCall(1, 100)}, at(0)); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if got := List([]Running{silentCall(1, 100)}, at(0)); !strings.HasPrefix(got[0], "running 0 s: ") {
		t.Errorf("%q", got)
	}
}

func TestRung(t *testing.T) {
	for silent, want := range map[time.Duration]time.Duration{60: 60, 61: 60, 119: 60, 120: 120, 239: 120, 240: 240, 241: 240, 5000: 3840} {
		if got := rung(silent*time.Second, time.Minute); got != want*time.Second {
			t.Errorf("%d: got %v, want %d s", silent, got, want)
		}
	}
}
