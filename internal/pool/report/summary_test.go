package report

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTotalsLine(t *testing.T) {
	const s = time.Second
	for want, totals := range map[string]Totals{
		"120 calls: 3 failed, 1 flaky, 10 not run; 4.2 s wall, 15.9 s in calls, speed-up 3.8": {
			Calls: 120, Succeeded: 107, Failed: 3, Flaky: 1, NotRun: 10, Wall: 4200e6, Busy: 15900e6},
		"25 calls: 25 failed; 0.100 s wall":                   {Calls: 25, Failed: 25, Wall: s / 10},
		"1 call: all succeeded; 0.004 s wall":                 {Calls: 1, Succeeded: 1, Wall: 4e6},
		"3 calls: all succeeded, 2 flaky; 1.0 s wall":         {Calls: 3, Succeeded: 3, Flaky: 2, Wall: s},
		"3 calls: 1 ended by the stop, 2 not run; 1.0 s wall": {Calls: 3, Cancelled: 1, NotRun: 2, Wall: s},
		"1 call: all succeeded, 99 done before; 1.0 s wall":   {Calls: 1, Succeeded: 1, Skipped: 99, Wall: s},
		"0 calls: 99 done before; 0.010 s wall":               {Skipped: 99, Wall: s / 100},
		"0 calls; 0.000 s wall":                               {},
		"9 calls: all succeeded; 3m20s wall, 2h05m in calls, speed-up 38": {
			Calls: 9, Succeeded: 9, Wall: 200 * s, Busy: 7500 * s},
		"1 call: all succeeded; 1.0 s wall, 0.250 s in calls, speed-up 0.25": {
			Calls: 1, Succeeded: 1, Wall: s, Busy: s / 4},
	} {
		if got := totals.Line(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestSecondsForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:              "0.000 s",
		0:                         "0.000 s",
		4 * time.Millisecond:      "0.004 s",
		999400 * time.Microsecond: "0.999 s",
		999900 * time.Microsecond: "1.0 s",
		4240 * time.Millisecond:   "4.2 s",
		59940 * time.Millisecond:  "59.9 s",
		59990 * time.Millisecond:  "1m00s",
		200 * time.Second:         "3m20s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestItemText(t *testing.T) {
	for _, test := range []struct {
		item []string
		want string
	}{
		{nil, ""},
		{[]string{"a b", "c"}, "a b c"},
		{[]string{"a\nb"}, `"a\nb"`},
		{[]string{"\x1b[31m"}, `"\x1b[31m"`},
		{[]string{"a\u202eb"}, `"a\u202eb"`},
		{[]string{"\xff"}, `"\xff"`},
		{[]string{strings.Repeat("x", 80)}, strings.Repeat("x", 80)},
		{[]string{strings.Repeat("x", 81)}, strings.Repeat("x", 80) + "..."},
		{[]string{strings.Repeat("x", 79) + "é"}, strings.Repeat("x", 79) + "..."},
	} {
		if got := itemText(test.item); got != test.want {
			t.Errorf("%q: got %s, want %s", test.item, got, test.want)
		}
	}
}

func TestItemTextIsShortAndHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var item []string
		for _, column := range rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "item") {
			item = append(item, string(column))
		}
		got := itemText(item)
		if len(got) > 4*(itemMost+4)+2 {
			t.Fatalf("%d bytes", len(got))
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q", got)
		}
	})
}

// A million columns cost no more than those that are shown.
func TestItemTextOfManyColumns(t *testing.T) {
	item := make([]string, 1_000_000)
	if got := itemText(item); len(got) > itemMost+4 {
		t.Errorf("%d bytes", len(got))
	}
}
