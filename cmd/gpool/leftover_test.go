package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stubborn is a shell command line that prints, and starts processes in the background
// that ignore SIGTERM; then it does what follows.
const stubborn = `(trap "" TERM INT HUP; while :; do sleep 0.05; done) & (trap "" TERM; exec sleep 1000) & echo begun {}; `

// TestNothingIsLeft ends runs in every way there is, each at random moments: afterwards
// no process of any call lives longer than 200 ms, or 200 ms more than the grace.
func TestNothingIsLeft(t *testing.T) {
	const grace = time.Second
	signal := func(sig unix.Signal) func(*day) { return func(d *day) { _ = d.Process.Signal(sig) } }
	for _, way := range []struct {
		name  string
		flags []string
		line  string     // after what is stubborn
		end   func(*day) // at the moment; nil if the run ends by itself
		limit time.Duration
	}{
		{"SIGINT", nil, "sleep 1000", signal(unix.SIGINT), grace},
		{"SIGTERM", nil, "sleep 1000", signal(unix.SIGTERM), grace},
		{"SIGHUP", nil, "sleep 1000", signal(unix.SIGHUP), grace},
		{"SIGTERM, with calls that end", nil, "sleep 0.1", signal(unix.SIGTERM), grace},
		{"SIGKILL", nil, "sleep 1000", signal(unix.SIGKILL), 0},
		{"SIGKILL, with calls that end", nil, "sleep 0.1", signal(unix.SIGKILL), 0},
		{"closed stdout", []string{"--line-buffer"}, "while :; do echo more; sleep 0.01; done", func(d *day) { _ = d.stdout.Close() }, grace},
		{"--timeout", []string{"--timeout", "MOMENT"}, "sleep 1000", nil, grace},
		{"--run-timeout", []string{"--run-timeout", "MOMENT"}, "sleep 1000", nil, grace},
		{"--halt now", []string{"--halt", "now,fail=1"}, "test {} != 3 || { sleep MOMENT; exit 1; }; sleep 1000", nil, grace},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			random := rand.New(rand.NewPCG(2, 3))
			worst := time.Duration(0)
			for range rounds(t, 2) {
				moment := time.Duration(random.Int64N(int64(400 * time.Millisecond)))
				worst = max(worst, endsIn(t, way.flags, way.line, way.end, grace, moment, way.limit))
			}
			t.Logf("the last process was gone at most %v after the grace of %v", worst.Round(time.Millisecond), way.limit)
		})
	}
}

// endsIn runs one gpool to its end and returns how much longer than the limit anything
// of it has lived after the moment.
func endsIn(t *testing.T, flags []string, line string, end func(*day), grace, moment, limit time.Duration) time.Duration {
	t.Helper()
	atMoment := strings.NewReplacer("MOMENT", fmt.Sprintf("%.3f", moment.Seconds()+0.001))
	args := []string{"map", "-j4", "--grace", grace.String(), "--chunksize", "1"}
	for _, f := range flags {
		args = append(args, atMoment.Replace(f))
	}
	d := newDay(t, append(args, "-c", stubborn+atMoment.Replace(line))...)
	calls := 4
	if strings.HasPrefix(line, "sleep 0") {
		calls = 1000 // they end, and there is always another one
	}
	d.Stdin = strings.NewReader(numbers(1, calls))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stdout, d.stdout = w, r
	go io.Copy(io.Discard, r) // ends when gpool has, or it is closed
	d.start()
	w.Close()
	began := time.Now()
	waited := make(chan struct{})
	go func() {
		_ = d.Wait()
		close(waited)
	}()
	if end != nil {
		time.Sleep(moment)
		end(d)
	}
	at := time.Now()
	if end == nil {
		at = began.Add(moment)
	}
	<-waited
	var gone time.Time
	d.until("all processes to end", func() bool {
		gone = time.Now()
		return len(d.left()) == 0
	})
	r.Close()
	late := gone.Sub(at) - limit
	allowed := 200 * time.Millisecond
	if end == nil {
		allowed += 300 * time.Millisecond // until the call has begun, from when its limit counts
	}
	if raceEnabled || testing.CoverMode() != "" {
		allowed *= 5
	}
	if late > allowed {
		t.Errorf("at %v: processes lived %v longer than the grace of %v; stderr: %s", moment, late, limit, d.said())
	}
	return late
}
