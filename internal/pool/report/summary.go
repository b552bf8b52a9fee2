package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// itemMost is how many bytes of an item people are shown: it may have 100 MB.
	itemMost = 80
	// errorMost is the same for the error of a call.
	errorMost = 200
)

// Line is a whole run in one line, for people: how its calls ended, how long it took, and what
// it gained over one call after the other. It names only what there is, but always the number
// of calls.
func (t *Totals) Line() string {
	var times []string
	times = append(times, seconds(t.Wall)+" wall")
	if t.Busy > 0 {
		times = append(times, seconds(t.Busy)+" in calls")
	}
	if speed := t.speedUp(); speed != "" {
		times = append(times, "speed-up "+speed)
	}
	line := plural(t.Calls, "call")
	if ends := t.ends(); len(ends) > 0 {
		line += ": " + strings.Join(ends, ", ")
	}
	return line + "; " + strings.Join(times, ", ")
}

// ends says how calls ended.
func (t *Totals) ends() []string {
	var ends []string
	if t.Calls > 0 && t.Failed+t.Cancelled+t.NotRun == 0 {
		ends = append(ends, "all succeeded")
	}
	for _, count := range []struct {
		n    int64
		what string
	}{
		{t.Failed, "failed"},
		{t.Flaky, "flaky"},
		{t.Cancelled, "ended by the stop"},
		{t.NotRun, "not run"},
		{t.Skipped, "done before"},
	} {
		if count.n > 0 {
			ends = append(ends, fmt.Sprintf("%d %s", count.n, count.what))
		}
	}
	return ends
}

// speedUp is how much faster the run was than its calls one by one, with two digits, or "" if
// nothing was measured.
func (t *Totals) speedUp() string {
	if t.Busy <= 0 || t.Wall <= 0 {
		return ""
	}
	switch speed := float64(t.Busy) / float64(t.Wall); {
	case speed < 0.95:
		return fmt.Sprintf("%.2f", speed)
	case speed < 9.95:
		return fmt.Sprintf("%.1f", speed)
	default:
		return fmt.Sprintf("%.0f", speed)
	}
}

// seconds is a duration for people: 0.004 s, 4.2 s, 3m20s.
func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.9995:
		return fmt.Sprintf("%.3f s", max(0, s))
	case s < 59.95:
		return fmt.Sprintf("%.1f s", s)
	default:
		return formatDuration(d)
	}
}

// plural is a number of things.
func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// itemText is an item for people: its beginning, on one line.
func itemText(columns []string) string {
	left := itemMost
	var short []string
	for _, column := range columns {
		short = append(short, beginning(column, left))
		if left -= len(column) + 1; left <= 0 {
			break
		}
	}
	return harmless(strings.Join(short, " "))
}

// errorText is how a call ended, for people, on one line.
func errorText(r *Record) string {
	if r.Error == "" {
		return string(r.Status)
	}
	return string(r.Status) + ": " + harmless(beginning(r.Error, errorMost))
}

// beginning is at most the first bytes of text, and whole characters if it has them.
func beginning(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for back := 0; back < utf8.UTFMax && end > 0 && !utf8.RuneStart(text[end]); back++ {
		end--
	}
	return text[:end] + "..."
}

// harmless keeps text from others to one line, and from giving orders to a terminal: it is
// quoted if it has control characters, those that turn the direction of writing included, or
// is no UTF-8.
func harmless(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
