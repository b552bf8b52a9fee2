package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/report"
	"gpool/internal/value"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func newStdout(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, 64<<10) }

// form is one way to print results: raw, by lines, as JSON, or for a CI system. It gets
// what is to be shown.
type form interface {
	output(o *pool.Output, rec *report.Record) error // rec with pool.Job.Hold, else nil
	result(r *pool.Result, o *outcome, rec *report.Record) error
}

// printer prints results, and says on stderr what went wrong. The deliverer is its only
// user, except for event and summary.
type printer struct {
	run    *run
	screen *screen
	out    *bufio.Writer
	err    *bufio.Writer
	form   form

	listed int          // failures that were listed
	broken bool         // results could not be written; set by the deliverer, read after it
	fewer  atomic.Int64 // how many workers the machine had room for; 0 if for all
}

// listLimit is how many failures are named on stderr; more are counted.
const listLimit = 20

func newPrinter(r *run, s *screen) *printer {
	p := &printer{run: r, screen: s, out: newStdout(s.out), err: bufio.NewWriterSize(s.err, 8<<10)}
	switch {
	case r.eventsOnStdout():
		p.form = onlyErrors{p.err}
	case r.opts.format == "jsonl":
		p.form = newJSON(p.out, r.work, r.opts.showAttempts)
	case r.opts.lineBuffer || r.opts.tag:
		p.form = &lines{streams: [2]io.Writer{p.out, p.err}, tag: r.opts.tag}
	case r.ci != report.NoCI:
		p.form = &folded{ci: report.NewCI(r.ci, p.out)}
	default:
		p.form = raw{p.out, p.err}
	}
	return p
}

// output prints what a call has printed, unless nobody is to see it.
func (p *printer) output(o *pool.Output, rec *report.Record) error {
	if !p.shows(o) {
		return nil
	}
	return p.writing(p.form.output(o, rec))
}

// shows reports whether output is shown: that of a failed attempt only if the call fails
// in the end. Where it is printed as it comes nobody can know that.
func (p *printer) shows(o *pool.Output) bool {
	return o.Result == nil || o.Attempt == o.Result.Attempt || o.Result.Kind != pool.Succeeded || p.run.opts.showAttempts
}

// result prints how a call ended.
func (p *printer) result(r *pool.Result, o *outcome, rec *report.Record) error {
	if err := p.writing(p.form.result(r, o, rec)); err != nil {
		return err
	}
	switch {
	case rec.Status == report.Cancelled || rec.Status == report.NotRun:
		return nil
	case rec.Status.Failure() && !p.known(rec, o):
		p.list(r, reason(o.err)+p.ofAttempts(rec))
	case rec.Flaky():
		p.list(r, fmt.Sprintf("flaky: it succeeded at attempt %d; before that: %s", rec.N, rec.Earlier[len(rec.Earlier)-1].Error))
	}
	if o.note != "" {
		p.list(r, o.note)
	}
	p.screen.done(rec.Status.Failure())
	return nil
}

// known reports whether the exit code of gpool says all that there is to know about how
// its one call ended.
func (p *printer) known(rec *report.Record, o *outcome) bool {
	return p.run.verb.single && rec.Status == report.Failed && o.exit() > 0 && rec.Signal == 0 && len(rec.Earlier) == 0
}

func (p *printer) ofAttempts(rec *report.Record) string {
	switch {
	case len(rec.Earlier) == 0:
		return ""
	case p.run.verb.single:
		return fmt.Sprintf(", after %d attempts", rec.N)
	}
	return fmt.Sprintf(" (attempt %d)", rec.N)
}

// flush writes what has gathered. stdout goes first: what is said about a call comes
// after what it printed.
func (p *printer) flush() error {
	return p.writing(errors.Join(p.out.Flush(), p.err.Flush()))
}

// writing says what was being done when a write failed.
func (p *printer) writing(err error) error {
	if err != nil {
		p.broken = true
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// reason is an error as one line; what a task says may be anything.
func reason(err error) string {
	if limit, ok := errors.AsType[*pool.LimitError](err); ok {
		return limit.Reason()
	}
	if _, ok := errors.AsType[*pool.TaskError](err); ok {
		return printable(err.Error())
	}
	return err.Error()
}

// list says on stderr what happened to a call.
func (p *printer) list(r *pool.Result, what string) {
	p.listed++
	if p.listed == listLimit+1 {
		fmt.Fprintln(p.err, "gpool: more failures are counted and not listed")
	}
	if p.listed > listLimit {
		return
	}
	fmt.Fprintf(p.err, "gpool: %s: %s\n", p.run.naming(r.Call), what)
}

// naming is how messages name a call.
func (r *run) naming(c *pool.Call) string {
	if r.verb.single {
		return r.name
	}
	return fmt.Sprintf("call %d%s", c.Seq, origin(c.Item.(*input.Row)))
}

// origin names an item for people: where it came from and how it begins.
func origin(row *input.Row) string {
	var where []string
	if row.Line > 0 && row.Err == nil { // the error of a bad row names its line
		where = append(where, fmt.Sprintf("line %d of %s", row.Line, row.File))
	}
	if len(row.Columns) > 0 {
		where = append(where, shown(row.Columns))
	}
	if where == nil {
		return ""
	}
	return " (" + strings.Join(where, ", ") + ")"
}

// shown is the beginning of an item for people.
func shown(columns []string) string {
	short := shorten(columns)
	text := strings.ToValidUTF8(quoted(short), "\uFFFD")
	if strings.ContainsFunc(text, unicode.IsControl) {
		text = strconv.Quote(strings.Join(short, " "))
	}
	return text
}

// quoted is an item as words of a shell.
func quoted(columns []string) string { return command.QuoteArgv(columns) }

// printable keeps text from others to one line, and from giving orders to the terminal.
func printable(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return strconv.Quote(text)
	}
	return text
}

// shorten keeps 80 bytes of what may be 100 MB.
func shorten(columns []string) []string {
	left := 80
	var short []string
	for _, c := range columns {
		if len(c) > left {
			cut := c[:left]
			for len(cut) > 0 && !utf8.RuneStart(c[len(cut)]) {
				cut = cut[:len(cut)-1]
			}
			return append(short, cut+"...")
		}
		left -= len(c)
		short = append(short, c)
	}
	return short
}

// summary is the last line, on how the calls of the run have ended.
func (p *printer) summary(t *report.Totals, stopped stop) {
	if n := p.fewer.Load(); n > 0 {
		p.say("the run ended with %s of %d", count(n, "worker"), p.run.workers)
	}
	_, said := p.form.(*folded) // with the failures, at the end of the output
	wrong := t.Failed+t.Flaky+t.Cancelled+t.NotRun > 0
	how := p.run.opts.summary
	switch {
	case how == "never" || said:
	case how == "always" || wrong || p.run.reports() || isTerminal(p.run.stdio.err):
		p.say("%s", t.Line())
	}
	if stopped.signal != 0 && !wrong && !p.run.inputDone.Load() {
		p.say("the rest of the input was not read")
	}
}

// say prints a line of gpool's own on stderr, at once. Any goroutine may call it.
func (p *printer) say(format string, args ...any) {
	fmt.Fprintf(p.screen.err, "gpool: "+format+"\n", args...)
}

// raw prints output as it is.
type raw struct{ out, err *bufio.Writer }

func (f raw) output(o *pool.Output, _ *report.Record) error {
	w := f.out
	if o.Stream == ipc.Stderr {
		w = f.err
	}
	_, err := w.Write(o.Data)
	return err
}

func (f raw) result(_ *pool.Result, o *outcome, _ *report.Record) error { return writeText(f.out, o) }

// writeText writes the value of a task, if there is one, as a line.
func writeText(w io.Writer, o *outcome) error {
	if o.value == nil {
		return nil
	}
	text, err := value.AppendText(nil, o.value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// onlyErrors prints stderr alone: stdout has the events.
type onlyErrors struct{ err *bufio.Writer }

func (f onlyErrors) output(o *pool.Output, _ *report.Record) error {
	if o.Stream != ipc.Stderr {
		return nil
	}
	_, err := f.err.Write(o.Data)
	return err
}

func (f onlyErrors) result(*pool.Result, *outcome, *report.Record) error { return nil }

// lines prints whole lines, each with the item before it if tag is set. Output of
// several calls may arrive at once; the beginning of a line waits for its end. A
// call's last line gets a newline if it has none, so that no two calls share a line.
type lines struct {
	streams [2]io.Writer
	tag     bool
	open    map[uint64]*openLines // by call
}

// openLines are the unfinished lines of an attempt.
type openLines struct {
	attempt int
	streams [2][]byte
}

// lineLimit is how much of a line waits for its end.
const lineLimit = 1 << 20

func (f *lines) output(o *pool.Output, _ *report.Record) error {
	if open := f.open[o.Call.Seq]; open != nil && open.attempt != o.Attempt {
		if err := f.finish(o.Call); err != nil { // no two attempts share a line either
			return err
		}
	}
	return f.add(o.Call, o.Attempt, o.Stream, o.Data)
}

func (f *lines) add(c *pool.Call, attempt int, s ipc.Stream, b []byte) error {
	if f.open == nil {
		f.open = make(map[uint64]*openLines)
	}
	open := f.open[c.Seq]
	if open == nil {
		open = &openLines{attempt: attempt}
		f.open[c.Seq] = open
	}
	w, begun := f.streams[s-1], &open.streams[s-1]
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 && len(*begun)+len(b) < lineLimit {
			*begun = append(*begun, b...)
			return nil
		}
		if i < 0 { // too long to wait for
			i = len(b) - 1
		}
		*begun = append(*begun, b[:i+1]...)
		b = b[i+1:]
		if err := f.line(w, c, *begun); err != nil {
			return err
		}
		*begun = (*begun)[:0]
	}
	return nil
}

func (f *lines) line(w io.Writer, c *pool.Call, line []byte) error {
	if f.tag {
		if _, err := io.WriteString(w, strings.Join(c.Item.(*input.Row).Columns, " ")+"\t"); err != nil {
			return err
		}
	}
	_, err := w.Write(line)
	return err
}

func (f *lines) result(r *pool.Result, o *outcome, _ *report.Record) error {
	err := writeText(writerFunc(func(b []byte) error { return f.add(r.Call, r.Attempt, ipc.Stdout, b) }), o)
	if err != nil {
		return err
	}
	return f.finish(r.Call)
}

// finish ends the lines of a call that have no end.
func (f *lines) finish(c *pool.Call) error {
	open := f.open[c.Seq]
	if open == nil {
		return nil
	}
	delete(f.open, c.Seq)
	for i, rest := range open.streams {
		if len(rest) == 0 {
			continue
		}
		if err := f.line(f.streams[i], c, append(rest, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// writerFunc is a function that takes all that it is given, as a writer.
type writerFunc func([]byte) error

func (f writerFunc) Write(b []byte) (int, error) { return len(b), f(b) }

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
