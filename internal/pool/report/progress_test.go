package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a Progress on a buffer, with a clock that the test moves and no
// goroutine: the test calls tick. It is used by one goroutine.
type stage struct {
	*Progress
	t        *testing.T
	terminal bytes.Buffer
	cols     int
	clock    time.Time
}

func newStage(t *testing.T, total int64) *stage {
	b := &stage{t: t, cols: 80, clock: start()}
	b.Progress = newProgress(&b.terminal, total,
		func() int { return b.cols }, func() time.Time { return b.clock })
	t.Cleanup(b.Stop)
	return b
}

// after lets seconds pass and ticks once.
func (b *stage) after(seconds float64) {
	b.clock = b.clock.Add(time.Duration(seconds * float64(time.Second)))
	b.tick()
}

// calls counts n calls, of which some failed.
func (b *stage) calls(n, failed int) {
	for i := range n {
		b.Done(i < failed)
	}
}

// shows checks the row of the cursor.
func (b *stage) shows(want string) {
	b.t.Helper()
	s := render(b.t, b.cols, b.terminal.String())
	if got := s.last(); got != want {
		b.t.Errorf("the bar is  %q\nit should be %q", got, want)
	}
	if s.wrapped > 0 {
		b.t.Errorf("%d rows wrapped", s.wrapped)
	}
}

// prints checks the rows above the cursor's.
func (b *stage) prints(want ...string) {
	b.t.Helper()
	lines := render(b.t, b.cols, b.terminal.String()).lines()
	if got := lines[:len(lines)-1]; !slices.Equal(got, want) {
		b.t.Errorf("output is %q, want %q", got, want)
	}
}

func TestUnknownThenKnownTotal(t *testing.T) {
	b := newStage(t, -1)
	b.calls(50, 0)
	b.after(1)
	b.shows("50 done, 50/s")
	b.calls(50, 3)
	b.after(1)
	b.shows("100 done, 50/s, 3 failed")
	b.SetTotal(400)
	b.after(0)
	// What was done before the total was known does not make the rate jump.
	b.shows("  25% [======>.......................] (100/400) 50/s, ETA 6s, 3 failed")
	b.SetTotal(-1)
	b.after(0)
	b.shows("100 done, 50/s, 3 failed")
}

func TestBarStaysAtItsEndAndPastIt(t *testing.T) {
	b := newStage(t, 10)
	full := " 100% [==============================] (10/10) 10/s"
	b.calls(10, 0)
	b.after(1)
	b.shows(full)
	io.WriteString(b.Writer(&b.terminal), "late\r\n")
	b.shows(full) // a finished bar is still redrawn
	b.calls(4, 0)
	b.after(0.4)
	b.shows(full) // 14 of 10
	b.SetTotal(28)
	b.after(0)
	b.shows("  50% [==============>...............] (14/28) 10/s, ETA 1s")
	b.prints("late")
}

func TestTotalZero(t *testing.T) {
	b := newStage(t, 0)
	b.after(1)
	b.calls(2, 0)
	b.after(1)
	if b.terminal.Len() > 0 {
		t.Errorf("drawn: %q", b.terminal.String())
	}
	b.SetTotal(4)
	b.after(0)
	b.shows("  50% [==============>...............] (2/4) 1.0/s, ETA 2s")
	b.SetTotal(0)
	b.after(0)
	b.shows("")
}

func TestQuietStart(t *testing.T) {
	b := newStage(t, 10)
	b.Done(false)
	b.after(0.1)
	b.Pause()
	b.Resume()
	b.after(0.09)
	io.WriteString(b.Writer(&b.terminal), "x\n")
	b.Stop()
	if got := b.terminal.String(); got != "x\n" {
		t.Errorf("a short run wrote %q", got)
	}
}

func TestStop(t *testing.T) {
	b := newStage(t, 10)
	out := b.Writer(&b.terminal)
	b.after(1)
	b.terminal.WriteString("^C") // what a terminal echoes
	b.Stop()
	b.shows("")
	b.prints()
	n := b.terminal.Len()
	b.Stop()
	b.after(1)
	b.Pause()
	b.Resume()
	b.Done(false)
	b.SetTotal(20)
	if b.terminal.Len() != n {
		t.Errorf("written after Stop: %q", b.terminal.String()[n:])
	}
	io.WriteString(out, "straight")
	if got := b.terminal.String()[n:]; got != "straight" {
		t.Errorf("a writer wrote %q after Stop", got)
	}
}

func TestPartialLine(t *testing.T) {
	b := newStage(t, 10)
	out, log := b.Writer(&b.terminal), b.Writer(&b.terminal)
	b.after(1)
	io.WriteString(out, "first half, ")
	b.after(1)
	b.Pause()
	b.Resume()
	b.shows("first half,")
	io.WriteString(out, "")
	io.WriteString(out, "second half")
	b.after(1)
	b.shows("first half, second half")
	io.WriteString(log, "\r\n") // the newline may come from any writer
	b.after(1)
	b.shows("   0% [..............................] (0/10)")
	b.prints("first half, second half")

	io.WriteString(out, "left over")
	b.Stop()
	b.shows("left over")
}

func TestPause(t *testing.T) {
	b := newStage(t, 100)
	bar := "  50% [==============>...............] (50/100) 5.0/s, ETA 10s"
	b.calls(50, 0)
	b.after(10)
	b.shows(bar)
	b.Pause()
	b.shows("")
	b.after(1800)
	b.Pause() // the first one counts
	b.after(1800)
	io.WriteString(b.Writer(&b.terminal), "while it pauses\r\n")
	b.shows("")
	b.Resume()
	b.shows(bar)
	b.Resume()
	b.shows(bar)
	b.prints("while it pauses")
}

// Writes bring the bar back at once, but a flood of them does not pay for it.
func TestRedrawsAreBounded(t *testing.T) {
	b := newStage(t, 10)
	var output bytes.Buffer // not on the terminal, so that its bytes are the bar's alone
	out := b.Writer(&output)
	b.after(1)
	io.WriteString(out, "a line\n")
	b.shows("   0% [..............................] (0/10)")
	for range 1000 {
		io.WriteString(out, "a line\n")
	}
	if n := strings.Count(b.terminal.String(), "0%"); n != 1+redrawsPerTick {
		t.Errorf("%d draws in one tick", n)
	}
	b.shows("")
	b.after(0.1)
	b.shows("   0% [..............................] (0/10)")
}

func TestWidth(t *testing.T) {
	b := newStage(t, 100)
	b.calls(50, 50)
	b.after(10)
	for cols := 200; cols >= 0; cols-- {
		b.terminal.Reset()
		b.cols = cols
		b.after(0)
		if s := render(t, max(1, cols), b.terminal.String()); s.wrapped > 0 || len(s.last()) >= max(1, cols) {
			t.Errorf("%d columns: %q", cols, s.last())
		}
	}
}

// brokenWriter takes a few bytes and fails.
type brokenWriter struct{ err error }

func (w brokenWriter) Write(b []byte) (int, error) { return min(2, len(b)), w.err }

func TestWriterPassesErrorsOn(t *testing.T) {
	b := newStage(t, 10)
	wrong := errors.New("no space left")
	n, err := b.Writer(brokenWriter{wrong}).Write([]byte("abc\n"))
	if n != 2 || err != wrong {
		t.Errorf("got %d, %v", n, err)
	}
	b.after(1)
	if b.terminal.Len() > 0 { // the terminal stands in the middle of a line
		t.Errorf("drawn: %q", b.terminal.String())
	}
}

func TestBrokenTerminal(t *testing.T) {
	p := newProgress(brokenWriter{errors.New("hung up")}, 10, func() int { return 80 }, start)
	p.meter.start = at(-1)
	p.tick()
	var out bytes.Buffer
	if n, err := io.WriteString(p.Writer(&out), "a line\n"); n != 7 || err != nil || out.String() != "a line\n" {
		t.Errorf("the bar's terminal broke a write: %d, %v", n, err)
	}
	p.Stop()
}

func TestEnabled(t *testing.T) {
	master, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pty: %v", err)
	}
	defer master.Close()
	defer tty.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()

	for _, test := range []struct {
		mode string
		w    *os.File
		term string
		want bool
	}{
		{"auto", tty, "xterm", true},
		{"auto", tty, "dumb", false},
		{"auto", tty, "", false},
		{"auto", null, "xterm", false},
		{"always", tty, "dumb", true},
		{"always", null, "", true},
		{"never", tty, "xterm", false},
		{"never", null, "", false},
	} {
		got, err := Enabled(test.mode, test.w, environment("TERM="+test.term))
		if got != test.want || err != nil {
			t.Errorf("%s, %s, TERM=%q: %v, %v", test.mode, test.w.Name(), test.term, got, err)
		}
	}
	for _, mode := range []string{"", "Auto", "yes"} {
		got, err := Enabled(mode, tty, environment("TERM=xterm"))
		if got || err == nil || !strings.Contains(err.Error(), "auto, always or never") {
			t.Errorf("mode %q: %v, %v", mode, got, err)
		}
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if got, err := Enabled("auto", closed, environment("TERM=xterm")); got || err != nil {
		t.Errorf("a closed file: %v, %v", got, err)
	}
}

// environment is a getenv made of NAME=value pairs.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestIsUTF8(t *testing.T) {
	for _, test := range []struct {
		pairs string
		want  bool
	}{
		{"", false},
		{"LANG=C", false},
		{"LANG=en_US.UTF-8", true},
		{"LANG=C.utf8", true},
		{"LC_CTYPE=de_DE.ISO-8859-1 LANG=en_US.UTF-8", false},
		{"LC_ALL=C LC_CTYPE=en_US.UTF-8 LANG=en_US.UTF-8", false},
		{"LC_ALL= LC_CTYPE=en_US.UTF-8", true},
	} {
		if got := isUTF8(environment(strings.Fields(test.pairs)...)); got != test.want {
			t.Errorf("%q: %v", test.pairs, got)
		}
	}
}

// New as a program uses it: its own ticker, and an end to its goroutine, without
// which the bubble would panic.
func TestNew(t *testing.T) {
	for _, test := range []struct{ locale, want string }{
		{"LANG=C", "  50% [==============>...............] (1/2) "},
		{"LANG=C.UTF-8", "  50% |███████████████               | (1/2) "},
	} {
		synctest.Test(t, func(t *testing.T) {
			file, err := os.CreateTemp(t.TempDir(), "terminal") // "always" without a terminal: 80 columns
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			p := New(file, 2, environment(test.locale))
			p.Done(false)
			time.Sleep(quietStart - time.Millisecond)
			synctest.Wait()
			if got := content(t, file); got != "" {
				t.Errorf("drawn too early: %q", got)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			got := content(t, file)
			if !strings.Contains(got, toColumn0+test.want) {
				t.Errorf("drawn: %q, want %q", got, test.want)
			}
			if n := strings.Count(got, "(1/2)"); n < 9 || n > 11 {
				t.Errorf("%d draws in a second", n)
			}
			p.Stop()
			if got := render(t, 80, content(t, file)).lines(); !slices.Equal(got, []string{""}) {
				t.Errorf("left after Stop: %q", got)
			}
		})
	}
}

func content(t *testing.T, file *os.File) string {
	t.Helper()
	b, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// terminal is a real pty: a Progress writes to tty, and a goroutine collects what
// a terminal emulator would receive.
type terminal struct {
	t        *testing.T
	tty      *os.File
	master   *os.File
	mu       sync.Mutex
	received bytes.Buffer
	readC    chan struct{} // closed when everything has been read
}

func newTerminal(t *testing.T, cols int) *terminal {
	master, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pty: %v", err)
	}
	x := &terminal{t: t, tty: tty, master: master, readC: make(chan struct{})}
	x.resize(cols)
	go func() {
		defer close(x.readC)
		_, _ = io.Copy(x, master) // ends with EIO when the tty is closed
	}()
	t.Cleanup(func() { x.close() })
	return x
}

func (x *terminal) resize(cols int) {
	x.t.Helper()
	if err := pty.Setsize(x.master, &pty.Winsize{Rows: 24, Cols: uint16(cols)}); err != nil {
		x.t.Fatal(err)
	}
}

// Write collects; it is called by the reading goroutine.
func (x *terminal) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.received.Write(b)
}

// stream is what has been received up to now.
func (x *terminal) stream() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.received.String()
}

// close closes the tty and returns everything that was written to it.
func (x *terminal) close() string {
	x.tty.Close()
	<-x.readC
	x.master.Close()
	return x.stream()
}

// On a real terminal: the bar, log lines, output in pieces, calls that finish and
// a total that becomes known, all at once. Every line must be on a row of its own.
func TestTerminal(t *testing.T) {
	const cols, writers, linesEach = 60, 4, 200
	x := newTerminal(t, cols)
	var looks atomic.Int64 // the clock: every look at it takes a millisecond
	p := newProgress(x.tty, -1, func() int { return columns(x.tty) }, func() time.Time {
		return at(float64(looks.Add(1)) / 1000)
	})
	p.meter.start = at(-1) // nothing is quiet
	tickC := make(chan time.Time)
	p.run(tickC, func() {})

	var group sync.WaitGroup
	want := map[string]bool{}
	for w := range writers {
		out := p.Writer(x.tty)
		for i := range linesEach {
			want[fmt.Sprintf("writer %d line %d", w, i)] = true
		}
		group.Go(func() {
			for i := range linesEach {
				fmt.Fprintf(out, "writer %d line %d\n", w, i)
				p.Done(i%50 == 0)
				if i%3 == 0 {
					tickC <- time.Time{} // drawn while the other writers write
				}
				if i == linesEach/2 {
					p.SetTotal(writers * linesEach)
				}
			}
		})
	}
	group.Wait()

	// A partial line, while the ticks go on, and its rest.
	out, log := p.Writer(x.tty), p.Writer(x.tty)
	for _, piece := range []string{"a line", " in", " pieces", "\n"} {
		io.WriteString(out, piece)
		tickC <- time.Time{}
		tickC <- time.Time{} // the first has been drawn
	}
	want["a line in pieces"] = true
	io.WriteString(log, "two\nlines\n")
	want["two"], want["lines"] = true, true
	tickC <- time.Time{}
	tickC <- time.Time{}
	p.Stop()
	io.WriteString(out, "after the bar\n")
	want["after the bar"] = true

	stream := x.close()
	s := render(t, cols, stream)
	for _, line := range s.lines() {
		if line != "" && !want[line] {
			t.Errorf("not a line of output: %q", line)
		}
		delete(want, line)
	}
	if len(want) > 0 {
		t.Errorf("%d lines are missing: %v", len(want), want)
	}
	if s.last() != "" || s.col != 0 || s.wrapped > 0 {
		t.Errorf("at the end: row %q, column %d, %d wrapped", s.last(), s.col, s.wrapped)
	}
	if !strings.Contains(stream, " done, ") || !strings.Contains(stream, "(800/800)") || !strings.Contains(stream, "16 failed") {
		t.Error("the bar was not drawn, or not in both forms, or not to its end")
	}
}

// With nothing injected: the ticker draws, the size is the terminal's, and follows it.
func TestTerminalLive(t *testing.T) {
	x := newTerminal(t, 60)
	p := New(x.tty, 100, environment())
	defer p.Stop()
	p.Done(true)
	x.await("[......")
	x.resize(24) // no room for a bar
	x.await("\r1/100, ")
	p.Pause()
	fmt.Fprintln(p.Writer(x.tty), "paused")
	p.Resume()
	p.Stop()
	stream := x.close()
	if got := render(t, 60, stream).lines(); !slices.Equal(got, []string{"paused", ""}) {
		t.Errorf("left on the terminal: %q", got)
	}
	after := stream[strings.LastIndex(stream, "\r1/100"):]
	if s := render(t, 24, after); s.wrapped > 0 {
		t.Errorf("wraps in 24 columns: %q", after)
	}
}

// await waits until want has been received.
func (x *terminal) await(want string) {
	x.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(x.stream(), want) {
			return
		}
	}
	x.t.Fatalf("%q never came: %q", want, x.stream())
}

// Everything at once, for the race detector.
func TestConcurrency(t *testing.T) {
	p := newProgress(io.Discard, -1, func() int { return 80 }, time.Now)
	tickC := make(chan time.Time)
	ended := false
	p.run(tickC, func() { ended = true })
	out := p.Writer(io.Discard)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 500 {
				p.Done(i%10 == 0)
				fmt.Fprintf(out, "%d", i)
				if i%20 == g {
					tickC <- time.Time{}
					p.SetTotal(int64(i))
					p.Pause()
					p.Resume()
				}
			}
		})
	}
	group.Wait()
	group.Go(p.Stop)
	group.Go(p.Stop)
	group.Go(func() { fmt.Fprintln(out) })
	group.Wait()
	if !ended { // unsynchronised, so that -race sees it if Stop does not wait
		t.Error("Stop has returned, and the goroutine goes on")
	}
	if n, failed := p.done(), p.failed.Load(); n != 2000 || failed != 200 {
		t.Errorf("%d done, %d failed", n, failed)
	}
}

func BenchmarkDone(b *testing.B) {
	p := newProgress(io.Discard, -1, func() int { return 80 }, time.Now)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.Done(false)
		}
	})
}
