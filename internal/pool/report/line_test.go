package report

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLine(t *testing.T) {
	for _, test := range []struct {
		name string
		s    snapshot
		cols int
		utf8 bool
		want string
	}{
		{"unknown, nothing yet", snapshot{total: -1}, 80, false, "0 done"},
		{"unknown", snapshot{done: 1234, total: -1, rate: 56}, 80, false, "1234 done, 56/s"},
		{"unknown, failures", snapshot{done: 1234, failed: 3, total: -1, rate: 56}, 80, false, "1234 done, 56/s, 3 failed"},
		{"unknown, cut", snapshot{done: 1234, failed: 3, total: -1, rate: 56}, 12, false, "1234 done, "},
		{"empty", snapshot{total: 0}, 80, false, ""},
		{"empty, yet something is done", snapshot{done: 3, total: 0, rate: 1}, 80, false, ""},
		{"nothing yet", snapshot{total: 100}, 80, false,
			"   0% [..............................] (0/100)"},
		{"half", snapshot{done: 50, total: 100, rate: 5}, 80, false,
			"  50% [==============>...............] (50/100) 5.0/s, ETA 10s"},
		{"half, failures", snapshot{done: 50, failed: 3, total: 100, rate: 5}, 80, false,
			"  50% [==============>...............] (50/100) 5.0/s, ETA 10s, 3 failed"},
		{"half, UTF-8", snapshot{done: 50, total: 100, rate: 5}, 80, true,
			"  50% |███████████████               | (50/100) 5.0/s, ETA 10s"},
		{"failures, no rate", snapshot{done: 1, failed: 1, total: 2}, 80, false,
			"  50% [==============>...............] (1/2) 1 failed"},
		{"all", snapshot{done: 100, total: 100, rate: 5}, 80, false,
			" 100% [==============================] (100/100) 5.0/s"},
		{"overshoot", snapshot{done: 140, total: 100, rate: 5}, 80, false,
			" 100% [==============================] (100/100) 5.0/s"},
		{"a wide terminal", snapshot{done: 50, failed: 123456789, total: 100, rate: 123456789}, 200, false,
			"  50% [==============>...............] (50/100) 123456789/s, ETA 0s, 123456789 failed"},
		{"the bar shrinks", snapshot{done: 50, total: 100, rate: 5}, 50, false,
			"  50% [=======>.........] (50/100) 5.0/s, ETA 10s"},
		{"no room for a bar", snapshot{done: 50, failed: 3, total: 100, rate: 5}, 40, false,
			"50/100, 5.0/s, ETA 10s, 3 failed"},
		{"no room", snapshot{done: 50, total: 100, rate: 5}, 1, false, ""},
		{"no columns", snapshot{done: 50, total: 100, rate: 5}, 0, false, ""},
		{"an ETA beyond reason", snapshot{done: 1, total: 1 << 62, rate: 0.001}, 80, false,
			"   0% [..............................] (1/4611686018427387904) 3.6/h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.s.line(test.cols, test.utf8); strings.TrimRight(got, " ") != strings.TrimRight(test.want, " ") {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// Whatever the numbers are, the line fits and stays one line.
func TestLineFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshot{
			done:  rapid.Int64Min(0).Draw(t, "done"),
			total: rapid.Int64().Draw(t, "total"),
			rate:  rapid.Float64Min(0).Draw(t, "rate"),
		}
		s.failed = rapid.Int64Range(0, s.done).Draw(t, "failed")
		cols := rapid.IntRange(0, 300).Draw(t, "cols")
		got := s.line(cols, rapid.Bool().Draw(t, "utf8"))
		if n := len([]rune(got)); n > max(0, cols-1) {
			t.Fatalf("%d characters in %d columns: %q", n, cols, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("control characters: %q", got)
		}
	})
}

func TestFormatRate(t *testing.T) {
	for perSecond, want := range map[float64]string{
		1234567: "1234567/s", 56.4: "56/s", 5.64: "5.6/s", 1: "1.0/s", 0.5: "30.0/min", 0.001: "3.6/h",
	} {
		if got := formatRate(perSecond); got != want {
			t.Errorf("%v: got %s, want %s", perSecond, got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0s",
		400 * time.Millisecond:         "0s",
		59*time.Second + 600e6:         "1m00s",
		3*time.Minute + 20*time.Second: "3m20s",
		2*time.Hour + 5*time.Minute:    "2h05m",
		99 * time.Hour:                 "4d03h",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	s := snapshot{done: 50, failed: 3, total: 100, rate: 5}
	b.ReportAllocs()
	for b.Loop() {
		_ = s.line(80, false)
	}
}
