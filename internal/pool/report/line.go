package report

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	// barMost is the widest the bar gets: more columns say nothing more.
	barMost = 30
	// barLeast is the narrowest bar worth its place; below it numbers are shown alone.
	barLeast = 8
	// etaMost is the longest ETA shown: beyond it the number is noise.
	etaMost = 100 * 24 * time.Hour
)

// snapshot is everything that the line says. It is a value, taken at one moment.
type snapshot struct {
	done, failed int64   // failed calls are done too
	total        int64   // < 0: unknown
	rate         float64 // calls per second, 0: unknown
}

// line is the text for a terminal of cols columns: no control characters, and
// shorter than the terminal is wide, because a character in the last column
// leaves some terminals on the next row. It is empty when there is nothing to
// show: a total of 0, or no room.
func (s snapshot) line(cols int, utf8 bool) string {
	switch {
	case s.total == 0:
		return ""
	case s.total < 0:
		return cut(fmt.Sprintf("%d done%s", s.done, s.facts(", ")), cols-1)
	}
	if bar := s.bar(cols-1, utf8); bar != "" {
		return bar
	}
	return cut(fmt.Sprintf("%d/%d%s", s.shown(), s.total, s.facts(", ")), cols-1)
}

// shown is the count as the bar may show it: a total can be wrong, and the
// library refuses more than its maximum.
func (s snapshot) shown() int64 { return min(s.done, s.total) }

// facts is what follows the count: rate, ETA and failures, each only when it is
// known, and with prefix in front if there is any.
func (s snapshot) facts(prefix string) string {
	var facts []string
	if s.rate > 0 {
		facts = append(facts, formatRate(s.rate))
		if eta := s.eta(); eta != "" {
			facts = append(facts, "ETA "+eta)
		}
	}
	if s.failed > 0 {
		facts = append(facts, fmt.Sprintf("%d failed", s.failed))
	}
	if len(facts) == 0 {
		return ""
	}
	return prefix + strings.Join(facts, ", ")
}

// eta is how long the rest will take, or empty: nothing left, no total, or so
// long that nobody can know.
func (s snapshot) eta() string {
	if s.total <= s.done {
		return ""
	}
	seconds := float64(s.total-s.done) / s.rate
	// Compared as a float first: a duration of 2^63 nanoseconds would wrap.
	if seconds >= etaMost.Seconds() {
		return ""
	}
	return formatDuration(time.Duration(seconds * float64(time.Second)))
}

// bar draws the line with the library's bar in it, or returns "" if room columns
// are too few.
//
// Every line is a bar of its own, drawn once into a buffer (a few microseconds,
// ten times a second). So the total may change, the count may pass it or reach
// it early, and a line may be cleared and drawn again: to a bar that lives on,
// each of these is a way to stop drawing. Rate and ETA are the meter's, and stand
// in the description. The library's spinner, ticker and terminal size stay unused.
func (s snapshot) bar(room int, utf8 bool) string {
	count := fmt.Sprintf("(%d/%d)", s.shown(), s.total)
	facts := s.facts("")
	// " 45% [" bar "] " count " " facts
	width := room - len("100% [] ") - 1 - len(count) - 1 - len(facts)
	if width < barLeast {
		return ""
	}
	theme := progressbar.ThemeASCII
	if utf8 {
		theme = progressbar.ThemeDefault
	}
	var out bytes.Buffer // not the terminal itself: the library calls Sync on an *os.File after each write
	bar := progressbar.NewOptions64(s.total,
		progressbar.OptionSetWriter(&out),
		progressbar.OptionSetTheme(theme),
		progressbar.OptionSetWidth(min(width, barMost)),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetDescription(facts),
	)
	// It fails only above its maximum or when the writer does: neither can be.
	_ = bar.Set64(s.shown())
	return strings.TrimRight(strings.TrimPrefix(out.String(), "\r"), " ")
}

// cut shortens ASCII text to at most room columns.
func cut(text string, room int) string {
	return text[:max(0, min(len(text), room))]
}

// formatRate chooses the unit in which the number is easy to read.
func formatRate(perSecond float64) string {
	switch {
	case perSecond >= 10:
		return fmt.Sprintf("%.0f/s", perSecond)
	case perSecond >= 1:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	default:
		return fmt.Sprintf("%.1f/h", perSecond*3600)
	}
}

// formatDuration shows the two largest units: 45s, 3m20s, 2h05m, 4d03h.
func formatDuration(d time.Duration) string {
	seconds := int64(d.Round(time.Second) / time.Second)
	minutes, hours := seconds/60, seconds/3600
	switch {
	case minutes == 0:
		return strconv.FormatInt(seconds, 10) + "s"
	case hours == 0:
		return fmt.Sprintf("%dm%02ds", minutes, seconds%60)
	case hours < 24:
		return fmt.Sprintf("%dh%02dm", hours, minutes%60)
	default:
		return fmt.Sprintf("%dd%02dh", hours/24, hours%24)
	}
}
