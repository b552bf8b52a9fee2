package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// silentLines is how many calls are named at once; a hundred stuck ones are one problem.
const silentLines = 5

// Running is a call that runs, at one moment.
type Running struct {
	Seq        uint64
	Item       []string
	Attempt    int // from 1
	Slot, Pid  int // of the worker
	Since      time.Time
	LastOutput time.Time // zero if it has printed nothing
	Stdout     int64     // bytes that it has printed
	Stderr     int64
}

// Silence finds the calls that run on and print nothing: to those who watch, output that waits
// for its turn and a call that hangs look alike. It is pure: whoever asks owns the clock. One
// goroutine. The zero value is ready.
type Silence struct {
	After time.Duration // how long a call may run and print nothing before that is worth a line; 0 is a minute

	said map[attemptKey]time.Duration // for how long each call had been silent when it was named last
}

// attemptKey names one try of a call.
type attemptKey struct {
	seq     uint64
	attempt int
}

// Lines is asked about once a second, with all calls that run, and returns the lines to say
// now: for each call that has printed nothing for so long, and again at two, four, eight
// times that and so on. At most five calls are named at a time, those first that have run longest; the
// others are counted, and are not named later for the same silence. What it remembers is never
// more than the calls that it was given last.
func (s *Silence) Lines(running []Running, now time.Time) []string {
	after := cmp.Or(s.After, time.Minute)
	said := make(map[attemptKey]time.Duration)
	var due []Running
	for _, r := range running {
		key := attemptKey{r.Seq, r.Attempt}
		silent, before := r.silent(now), s.said[key]
		switch {
		case silent < after: // also of one that printed again: it begins anew
		case silent >= 2*before, silent < before: // less than before: it printed between two questions
			said[key] = rung(silent, after)
			due = append(due, r)
		default:
			said[key] = before
		}
	}
	s.said = said
	return silenceLines(due, after, now)
}

// rung is the longest of first, twice that, four times and so on that is not longer than
// silent. The next line is due at twice that, whenever the last one was said.
func rung(silent, first time.Duration) time.Duration {
	rung := first
	for rung <= silent/2 {
		rung *= 2
	}
	return rung
}

func silenceLines(due []Running, after time.Duration, now time.Time) []string {
	slices.SortFunc(due, olderFirst)
	var lines []string
	for _, r := range due[:min(len(due), silentLines)] {
		lines = append(lines, fmt.Sprintf("still running %s: %s", wholeSeconds(now.Sub(r.Since)), r.text(now)))
	}
	if more := len(due) - silentLines; more > 0 {
		lines = append(lines, fmt.Sprintf("still running: %s that printed nothing for %s or more",
			plural(int64(more), "more call"), wholeSeconds(after)))
	}
	return lines
}

// List names all calls that run, those first that have run longest, a line each.
func List(running []Running, now time.Time) []string {
	lines := make([]string, 0, len(running))
	for _, r := range slices.SortedFunc(slices.Values(running), olderFirst) {
		lines = append(lines, fmt.Sprintf("running %s: %s", wholeSeconds(now.Sub(r.Since)), r.text(now)))
	}
	return lines
}

func olderFirst(a, b Running) int {
	if order := a.Since.Compare(b.Since); order != 0 {
		return order
	}
	return int(int64(a.Seq - b.Seq))
}

// silent is for how long it has printed nothing.
func (r *Running) silent(now time.Time) time.Duration {
	if r.LastOutput.After(r.Since) {
		return now.Sub(r.LastOutput)
	}
	return now.Sub(r.Since)
}

// text says which call it is, where it runs, and what it has printed.
func (r *Running) text(now time.Time) string {
	text := callText(r.Seq, r.Item)
	if r.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", r.Attempt)
	}
	text += fmt.Sprintf(", slot %d, pid %d, ", r.Slot, r.Pid)
	printed := r.Stdout + r.Stderr
	if printed == 0 {
		return text + "printed nothing"
	}
	return text + fmt.Sprintf("printed %s, the last %s ago", plural(printed, "byte"), wholeSeconds(r.silent(now)))
}

// callText names a call: "call 12 (ITEM)".
func callText(seq uint64, item []string) string {
	text := fmt.Sprintf("call %d", seq)
	if len(item) > 0 {
		text += " (" + itemText(item) + ")"
	}
	return text
}

// wholeSeconds is a duration that only roughly matters: 60 s, 3m20s.
func wholeSeconds(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", max(0, d)/time.Second)
	}
	return formatDuration(d)
}
