package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The flags of COMMAND belong to COMMAND, also for a verb that is added tomorrow.
func TestParsingStopsAtCommand(t *testing.T) {
	seen := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !strings.Contains(c.Use, "COMMAND") {
			return
		}
		seen++
		if err := c.ParseFlags([]string{"echo", "-j7", "--no-such-flag"}); err != nil {
			t.Errorf("%s: %v", c.CommandPath(), err)
		}
		if got := strings.Join(c.Flags().Args(), " "); got != "echo -j7 --no-such-flag" {
			t.Errorf("%s takes flags of COMMAND for its own: left over are %q", c.CommandPath(), got)
		}
	}
	walk(newRoot(stdio{}))
	if seen < len(verbs) {
		t.Errorf("%d verbs run a COMMAND, at least %d are expected", seen, len(verbs))
	}
}

func TestJobs(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, tt := range []struct {
		text string
		want int // 0: refused
	}{
		{"", 4}, {"1", 1}, {"3", 3}, {"10000", 10000}, {"0", 0}, {"10001", 0}, {"99999999999999999999", 0},
		{"100%", 4}, {"50%", 2}, {"30%", 2}, {"1%", 1}, {"200%", 8}, {"0%", 0}, {"-50%", 0}, {"%", 0}, {"300000%", 0},
		{"+1", 5}, {"+0", 4}, {"-1", 3}, {"-3", 1}, {"-4", 1}, {"-99", 1},
		{"x", 0}, {"1.5", 0}, {"1 ", 0}, {"+", 0}, {"-", 0}, {"--1", 0}, {"1x", 0}, {"0x2", 0},
	} {
		var j jobs
		err := j.Set(tt.text)
		if tt.want == 0 {
			if err == nil {
				t.Errorf("%q is taken", tt.text)
			}
			continue
		}
		if got, countErr := j.count(); err != nil || countErr != nil || got != tt.want {
			t.Errorf("%q: got %d, errors %v and %v; want %d", tt.text, got, err, countErr, tt.want)
		}
	}
}
