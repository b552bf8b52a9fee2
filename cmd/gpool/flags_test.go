package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"gpool/internal/pool"
)

// reads is a table of texts and what a flag makes of them; an error that holds the text
// is wanted where the value is an error.
func reads[T any](t *testing.T, parse func(string) (T, error), want map[string]any) {
	t.Helper()
	for text, w := range want {
		got, err := parse(text)
		if why, bad := w.(wrong); bad {
			if err == nil || !strings.Contains(err.Error(), string(why)) {
				t.Errorf("%q: %v, %v; want an error that says %q", text, got, err, why)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(any(got), w) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, w)
		}
	}
}

// wrong is what an error says.
type wrong string

func TestDurations(t *testing.T) {
	reads(t, duration, map[string]any{
		"5": 5 * time.Second, "0.25": 250 * time.Millisecond, "0": time.Duration(0), "90s": 90 * time.Second, "1.5m": 90 * time.Second,
		"1h30m": 90 * time.Minute, "1d": 24 * time.Hour, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "1d3.5h16.6m4s": 27*time.Hour + 46*time.Minute + 40*time.Second,
		"": wrong("a time is needed"), "x": wrong("a time is needed"), "5 s": wrong("a time is needed"), "d": wrong("a time is needed"),
		"-1": wrong("not below zero"), "-1d": wrong("not below zero"), "1e300": wrong("more time than there is"), "NaN": wrong("not below zero"), "Inf": wrong("more time"),
	})
}

func TestTimeLimits(t *testing.T) {
	reads(t, parseTimeLimit, map[string]any{
		"2m": timeLimit{after: 2 * time.Minute}, "300%": timeLimit{medians: 3}, "50.5%": timeLimit{medians: 0.505},
		"0": wrong("more than 0"), "0%": wrong("percentage"), "-5%": wrong("percentage"), "%": wrong("percentage"), "NaN%": wrong("percentage"),
	})
	reads(t, parseSpan, map[string]any{
		"1s..30s": span{time.Second, 30 * time.Second}, "2": span{2 * time.Second, 2 * time.Second}, "0..1": span{0, time.Second},
		"3s..1s": wrong("longest wait comes second"), "1s..": wrong("a time is needed"), "..1s": wrong("a time is needed"),
	})
}

func TestRetryOn(t *testing.T) {
	reads(t, parseRetryOn, map[string]any{
		"any": retryOn{any: true}, "timeout,died": retryOn{timeout: true, died: true}, "failed,memory": retryOn{failed: true, memory: true},
		"exit:75": retryOn{codes: map[int]bool{75: true}}, "exit:75,exit:1,timeout": retryOn{codes: map[int]bool{75: true, 1: true}, timeout: true},
		"exit:75,111": retryOn{codes: map[int]bool{75: true, 111: true}},
		"":            wrong("is not any"), "exit:0": wrong("from 1 to 255"), "exit:256": wrong("from 1 to 255"), "exit:x": wrong("from 1 to 255"), "75": wrong("is not any"), "any,": wrong("is not any"),
	})
	on := retryOn{codes: map[int]bool{75: true}, timeout: true}
	for _, c := range []struct {
		kind pool.Kind
		exit int
		want bool
	}{{pool.Failed, 75, true}, {pool.Failed, 1, false}, {pool.TimedOut, 143, true}, {pool.WorkerDied, -1, false}, {pool.OutOfMemory, -1, false}, {pool.NotStarted, 75, false}} {
		if on.matches(c.kind, c.exit) != c.want {
			t.Errorf("kind %d with exit code %d matches: %v", c.kind, c.exit, !c.want)
		}
	}
}

func TestHalts(t *testing.T) {
	reads(t, parseHalt, map[string]any{
		"never": pool.Halt{}, "0": pool.Halt{}, "now,fail=1": pool.Halt{Now: true, On: pool.HaltOnFail, N: 1}, "2": pool.Halt{Now: true, On: pool.HaltOnFail, N: 1},
		"soon,success=3": pool.Halt{On: pool.HaltOnSuccess, N: 3}, "-1": pool.Halt{On: pool.HaltOnSuccess, N: 1}, "soon,done=12.5%": pool.Halt{On: pool.HaltOnDone, Percent: 12.5},
		"10%": pool.Halt{On: pool.HaltOnFail, Percent: 10},
		"":    wrong("it is never"), "now": wrong("it is never"), "later,fail=1": wrong("it is never"), "now,crash=1": wrong("it is never"), "now,fail": wrong("it is never"),
		"now,fail=0": wrong("1 or more"), "now,fail=x": wrong("1 or more"), "soon,fail=0%": wrong("more than 0%"), "soon,fail=101%": wrong("at most 100%"), "3": wrong("it is never"),
	})
}

func TestPartsOfFlags(t *testing.T) {
	reads(t, parsePart, map[string]any{
		"slice:2/5": part{n: 2, m: 5}, "hash:1/1": part{hash: true, n: 1, m: 1},
		"slice:0/5": wrong("from 1 to M"), "slice:6/5": wrong("from 1 to M"), "slice:1": wrong("slice:N/M"), "2/5": wrong("slice:N/M"), "hash:a/b": wrong("from 1 to M"),
	})
	for _, p := range []part{{}, {false, 2, 5}, {true, 1, 3}} {
		if p.m > 0 {
			if again, err := parsePart(p.String()); err != nil || again != p {
				t.Errorf("%+v is written as %q, which is read as %+v, %v", p, p.String(), again, err)
			}
		}
	}
}
