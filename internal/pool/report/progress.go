package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

const (
	// drawEvery is how often the line is drawn anew: often enough to look alive.
	drawEvery = 100 * time.Millisecond

	// quietStart is how long nothing is drawn: a run that is over at once should
	// not flash a bar.
	quietStart = 200 * time.Millisecond

	// redrawsPerTick is how many writes between two ticks bring the bar back at
	// once. With none the bar flickers at every line of output; without a limit a
	// flood of output pays for a bar that nobody can read.
	redrawsPerTick = 20

	// defaultColumns is the width of what is not a terminal, or does not know.
	defaultColumns = 80
)

// The line is erased to the end of the screen, not of the row: if the terminal
// was made narrower, the tail of the old line has been wrapped to the rows below,
// where nothing else can be.
const (
	toColumn0    = "\r"
	eraseForward = "\x1b[J"
)

// Progress draws one line at the bottom of a terminal: count, rate, ETA and
// failures. It owns that line: everything else that goes to the same terminal
// must be written through [Progress.Writer], so that lines never mix with the bar.
//
// Every method may be called from any goroutine. [Progress.Stop] must be called;
// it ends the one goroutine that a Progress has.
type Progress struct {
	// The counters stand apart from the lock, so that counting never waits for a
	// slow terminal. Their sum is the number of calls done.
	succeeded atomic.Int64
	failed    atomic.Int64
	total     atomic.Int64 // < 0: unknown

	w       io.Writer        // the terminal
	columns func() int       // its width now
	now     func() time.Time // the clock
	utf8    bool             // the terminal can show more than ASCII

	stopOnce sync.Once
	quitC    chan struct{} // closed by Stop; ends the goroutine
	ticking  sync.WaitGroup

	// mu is the right to write to the terminal, and guards what follows. It is
	// held during writes, and never together with another lock.
	mu       sync.Mutex
	meter    meter
	drawn    bool // the bar is on the terminal
	midLine  bool // the last byte written through a Writer was not a newline
	redraws  int  // how many more writes bring the bar back before the next tick
	pausedAt time.Time
	paused   bool
	stopped  bool
}

// New starts a progress line on w, the terminal (usually stderr), for total calls;
// a total below 0 is unknown. It does not check that w is a terminal: that is the
// caller's decision, with [Enabled]; what is no terminal counts as 80 columns wide.
// getenv (usually os.Getenv) tells whether the locale is UTF-8; otherwise the bar
// is ASCII.
func New(w *os.File, total int64, getenv func(string) string) *Progress {
	ticker := time.NewTicker(drawEvery)
	p := newProgress(w, total, func() int { return columns(w) }, time.Now)
	p.utf8 = isUTF8(getenv)
	p.run(ticker.C, ticker.Stop)
	return p
}

// newProgress is New without a goroutine, and with the world as arguments.
func newProgress(w io.Writer, total int64, columns func() int, now func() time.Time) *Progress {
	p := &Progress{
		w:       w,
		columns: columns,
		now:     now,
		quitC:   make(chan struct{}),
		meter:   meter{start: now()},
	}
	p.total.Store(total)
	return p
}

// run starts the goroutine that draws at each tick, until Stop; then it calls done.
func (p *Progress) run(tickC <-chan time.Time, done func()) {
	p.ticking.Go(func() {
		defer done()
		for {
			select {
			case <-tickC:
				p.tick()
			case <-p.quitC:
				return
			}
		}
	})
}

// SetTotal says how many calls there are, once that is known (the input ended);
// below 0 it is unknown again. The next tick shows it.
func (p *Progress) SetTotal(n int64) { p.total.Store(n) }

// Done counts one finished call. It costs one atomic add and draws nothing, so it
// may be called millions of times a second.
func (p *Progress) Done(failed bool) {
	if failed {
		p.failed.Add(1)
	} else {
		p.succeeded.Add(1)
	}
}

// Writer wraps f (stdout or stderr) for output that may go to the same terminal
// as the bar. Each Write puts all its bytes on a clean line, in one Write to f.
// While the last byte written through any wrapped writer is not a newline, the
// bar stays away, so that a partial line and its rest come out as one line.
//
// f must not buffer: put a buffer in front of the wrapped writer, not behind it.
// A Write waits for other writes to the terminal, but never for [Progress.Done].
// After [Progress.Stop] the bytes go straight through.
func (p *Progress) Writer(f io.Writer) io.Writer { return &lineWriter{p: p, f: f} }

// lineWriter is what Writer returns.
type lineWriter struct {
	p *Progress
	f io.Writer
}

// Write implements [io.Writer]. The count and error are those of the wrapped writer.
func (l *lineWriter) Write(b []byte) (int, error) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	hidden := p.drawn
	p.clear()
	n, err := l.f.Write(b)
	if n > 0 {
		p.midLine = b[n-1] != '\n'
	}
	if hidden && p.redraws > 0 {
		p.redraws--
		p.draw()
	}
	return n, err
}

// Pause clears the line and keeps it clear until [Progress.Resume]: for a Ctrl-Z,
// before the process stops itself. Writers go on working.
func (p *Progress) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused || p.stopped {
		return
	}
	p.clear()
	p.paused = true
	p.pausedAt = p.now()
}

// Resume draws the line again after [Progress.Pause]. The time between the two
// counts neither for the rate nor for the ETA.
func (p *Progress) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		return
	}
	p.paused = false
	p.meter.skip(p.now().Sub(p.pausedAt))
	p.draw()
}

// Stop clears the line and ends the goroutine; when it returns, nothing is drawn
// any more, and the cursor is at the start of a clean row, unless the last output
// was a partial line, which is left as it is. Calling it again does no harm.
func (p *Progress) Stop() {
	p.stopOnce.Do(func() {
		p.mu.Lock()
		p.clear()
		p.stopped = true
		p.mu.Unlock()
		close(p.quitC)
	})
	p.ticking.Wait()
}

// tick is what happens ten times a second.
func (p *Progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.redraws = redrawsPerTick
	if !p.paused {
		p.meter.observe(p.now(), p.done())
	}
	p.draw()
}

// done is how many calls have finished.
func (p *Progress) done() int64 { return p.succeeded.Load() + p.failed.Load() }

// draw puts the line on the terminal, over the one that may be there. The caller
// holds mu. The cursor is left in column 0, where the ^C that a terminal echoes
// does not make the line longer than the terminal.
func (p *Progress) draw() {
	now := p.now()
	if p.stopped || p.paused || p.midLine || now.Sub(p.meter.start) < quietStart {
		return
	}
	text := p.snapshot(now).line(p.columns(), p.utf8)
	if text == "" {
		p.clear()
		return
	}
	p.drawn = true
	p.put(toColumn0 + text + eraseForward + toColumn0)
}

// clear takes the line off the terminal, if it is there. The caller holds mu.
func (p *Progress) clear() {
	if p.drawn {
		p.drawn = false
		p.put(toColumn0 + eraseForward)
	}
}

// put writes to the terminal in one call, so that nobody sees half a line. Errors
// are dropped: the line is decoration, and a run does not fail for it.
func (p *Progress) put(s string) { _, _ = io.WriteString(p.w, s) }

// snapshot is what there is to show at now. The caller holds mu.
func (p *Progress) snapshot(now time.Time) snapshot {
	failed := p.failed.Load()
	done := failed + p.succeeded.Load()
	return snapshot{
		done:   done,
		failed: failed,
		total:  p.total.Load(),
		rate:   p.meter.rate(now, done),
	}
}

// Enabled decides for --progress whether there is a bar on w: mode is auto, always
// or never, and auto means that w is a terminal and TERM is set and not "dumb".
// Any other mode is an error. getenv is usually os.Getenv.
func Enabled(mode string, w *os.File, getenv func(string) string) (bool, error) {
	switch mode {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		name := getenv("TERM")
		return name != "" && name != "dumb" && isTerminal(w), nil
	}
	return false, fmt.Errorf("--progress %q is not known: use auto, always or never", mode)
}

// isUTF8 reports whether the locale's characters are UTF-8. The first variable
// that is set decides, as in setlocale(3).
func isUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := getenv(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// isTerminal reports whether w is a terminal.
func isTerminal(w *os.File) (is bool) {
	withDescriptor(w, func(fd int) { is = term.IsTerminal(fd) })
	return is
}

// columns is the width of w now: terminals are resized while a run goes on.
func columns(w *os.File) (cols int) {
	withDescriptor(w, func(fd int) {
		if width, _, err := term.GetSize(fd); err == nil {
			cols = width
		}
	})
	if cols <= 0 {
		return defaultColumns
	}
	return cols
}

// withDescriptor lends the descriptor of w to f; if w is closed, f is not called.
// [os.File.Fd] is avoided because a descriptor kept from it may be another file's
// by the time it is used.
func withDescriptor(w *os.File, f func(fd int)) {
	conn, err := w.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { f(int(fd)) }) // its only error is that w is closed
}
