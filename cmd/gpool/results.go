package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gpool/internal/pool/daemon/wire"
)

// get is one execution of gpool get.
type get struct {
	verb     string // in messages
	clients  *clients
	patience patience
	keep     bool
	follow   bool
	format   string
	code     int // of the first call that has not succeeded
}

const getHelp = `get waits until the call has ended, prints what it has printed, and exits as it
does. Its result is then dropped, unless it was handed in with --keep. A result
that could not be printed is kept. Of several calls the results come in the order
of the IDs, and the exit code is that of the first one that has not succeeded.

EXIT STATUS
  0      the call has succeeded
  N      its exit code; 128+N if signal N ended it; 1 if a task failed
  124    it has not ended within --timeout, or has overrun its own time limit
  125    there is no result: the ID is unknown, or was fetched, or its pool has
         ended; it was lost with its server; its output found no room; its worker
         program does not start
  126    it could not be executed any more; 127 it was not there any more
  137    its worker died, or it took too much memory
  143    it was cancelled, or its pool was terminated while get waited
  128+N  gpool was stopped by signal N; 2 bad usage`

func newGet(io stdio) *cobra.Command {
	g := &get{verb: "get", clients: newClients(exitOwn, io)}
	cmd := &cobra.Command{
		Use:   "get [flags] ID...",
		Short: "Wait for a call of a background pool, and fetch its result",
		Long:  getHelp,
		Args:  needIDs,
		RunE: func(_ *cobra.Command, ids []string) error {
			return g.clients.run(func() error { return g.all(ids) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	g.patience.define(f)
	f.BoolVar(&g.keep, "keep", false, "leave the result where it is, to be fetched again")
	f.BoolVar(&g.follow, "follow", false, "print what it prints as it comes")
	choice(f, &g.format, "format", "the result as it is (raw), or a JSON object for each call (jsonl)", "raw", "jsonl")
	g.clients.definePool(f)
	return cmd
}

func (g *get) all(ids []string) error {
	if g.follow && g.format == "jsonl" {
		return &exitError{exitUsage, errors.New("--follow prints output as it comes, and --format jsonl objects of calls that have ended: leave one of them out")}
	}
	var failed error // the last that cannot be fetched; those before it are told
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			continue
		}
		err := g.one(id)
		if _, final := errors.AsType[*exitError](err); final || err != nil && !unknown(err) {
			return err
		}
		if failed != nil && err != nil {
			fmt.Fprintf(g.clients.io.err, "gpool %s: %v\n", g.verb, failed)
		}
		failed = cmp.Or(err, failed)
	}
	if failed != nil {
		return failed
	}
	if g.code != exitOK {
		return &exitError{code: g.code}
	}
	return nil
}

// unknown reports whether an error says that one result is not there, and others may be.
func unknown(err error) bool {
	_, none := errors.AsType[*noPoolError](err)
	_, lost := errors.AsType[*keptError](err)
	return none || lost || faultOf(err) == wire.FaultUnknown
}

// one fetches the result of a call, and says that it was fetched once it is printed.
func (g *get) one(id string) error {
	info, err := g.result(id)
	if errors.Is(err, fs.ErrNotExist) { // somebody else may have fetched it meanwhile
		if _, gone := askOf(context.Background(), g.clients, id, wire.Look, wire.Lookup{ID: id}); gone != nil {
			err = gone
		}
	}
	if err != nil {
		return err
	}
	for _, remark := range remarks(&info) {
		fmt.Fprintf(g.clients.io.err, "gpool %s: %s: %s\n", g.verb, title(&info), remark)
	}
	if g.code == exitOK {
		g.code = info.Result.Code()
	}
	if g.keep {
		return nil
	}
	return g.taken(id)
}

// taken says that the result need not be kept. Somebody else may have said so, and so does a pool
// that has ended since.
func (g *get) taken(id string) error {
	l, err := g.clients.owner(id)
	if err != nil {
		return err
	}
	_, err = ask(context.Background(), l, wire.Taken, wire.Lookup{ID: id})
	if faultOf(err) == wire.FaultUnknown || hasEnded(err) {
		return nil
	}
	return err
}

// result waits for the end of a call and prints what it has printed.
func (g *get) result(id string) (wire.Info, error) {
	if g.follow {
		f := follower{get: g, id: id}
		return f.run()
	}
	info, err := g.ended(id)
	if err != nil {
		return info, err
	}
	if g.format == "jsonl" {
		return info, g.printed(printJSON(g.clients.io.out, &info))
	}
	return info, g.printed(errors.Join(
		pass(g.clients.io.out, info.Stdout, info.StdoutBytes), pass(g.clients.io.err, info.Stderr, info.StderrBytes)))
}

// ended returns a call that has ended, when it has. Its callback may still run.
func (g *get) ended(id string) (wire.Info, error) {
	return g.news(wire.Following{ID: id, Stdout: math.MaxInt64, Stderr: math.MaxInt64})
}

// news waits until a call has printed more than is known, or has ended.
func (g *get) news(known wire.Following) (info wire.Info, err error) {
	left := g.patience.left()
	if left == 0 {
		if info, err = askOf(context.Background(), g.clients, known.ID, wire.Look, wire.Lookup{ID: known.ID}); err == nil && !over(&info) {
			err = g.late(known.ID)
		}
		return info, err
	}
	ctx := context.Background()
	if left > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	known.Within = os.Getenv(idVariable)
	info, err = askOf(ctx, g.clients, known.ID, wire.Follow, known)
	if err != nil && ctx.Err() != nil {
		err = g.late(known.ID)
	}
	return info, err
}

func (g *get) late(id string) error {
	return &exitError{exitLate, fmt.Errorf("%s has not ended within %v; it goes on, and can be asked for again", id, g.patience.most)}
}

// over reports whether a call has ended, whatever its callback does.
func over(i *wire.Info) bool { return i.State == wire.Done || i.State == wire.Calling }

// printed words what happened to stdout or stderr.
func (g *get) printed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EPIPE) { // nobody reads on: no reason to say more
		return &exitError{code: exitSignal + int(syscall.SIGPIPE)}
	}
	if _, unread := errors.AsType[*keptError](err); unread {
		return err
	}
	if g.verb != "get" { // the call ends with us
		return fmt.Errorf("print the result: %w", err)
	}
	return fmt.Errorf("print the result, which is kept: %w", err)
}

// keptError says that what was kept cannot be read.
type keptError struct{ error }

func (e *keptError) Unwrap() error { return e.error }

// openKept opens a file with what a call has printed; nil is one that has printed nothing.
func openKept(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &keptError{fmt.Errorf("read what the call has printed: %w", err)}
	}
	return f, nil
}

// pass passes on a file of so many bytes.
func pass(to *os.File, path string, size int64) error {
	n, err := passOn(to, path, 0)
	if err == nil && n != size {
		err = &keptError{fmt.Errorf("of what the call has printed %d bytes were kept, and %d are there: somebody has changed %s", size, n, path)}
	}
	return err
}

// passOn passes on what a file holds from an offset on, and returns how much it was. The system
// may do so without us.
func passOn(to *os.File, path string, from int64) (int64, error) {
	f, err := openKept(path)
	if err != nil || f == nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, &keptError{err}
	}
	return io.Copy(to, f)
}

// remarks are what the pool knows better than the call: everything but a plain exit code.
func remarks(i *wire.Info) (list []string) {
	r := &i.Result
	if plain := r.Outcome == wire.Failed && r.Exit > 0 && r.Signal == 0; r.Outcome != wire.Succeeded && !plain {
		list = append(list, verdictOf(r))
	}
	if r.Outcome == wire.Succeeded && r.Attempt > 1 {
		list = append(list, fmt.Sprintf("flaky: it succeeded at attempt %d", r.Attempt))
	}
	if r.Leaked {
		list = append(list, "processes that it left behind still held its output open; what they print later is lost")
	}
	if r.Callback != "" {
		list = append(list, "its callback: "+printable(r.Callback))
	}
	return list
}

// follower passes on what a call prints, as it comes.
type follower struct {
	get     *get
	id      string
	attempt int
	known   [2]int64 // bytes of stdout and stderr that were passed on
}

// run returns the call when it has ended.
func (f *follower) run() (wire.Info, error) {
	for {
		info, err := f.get.news(wire.Following{ID: f.id, Stdout: f.known[0], Stderr: f.known[1]})
		if err != nil {
			return info, err
		}
		f.begin(&info)
		if err := f.get.printed(f.pass(&info)); err != nil {
			return info, err
		}
		if over(&info) {
			return info, nil
		}
	}
}

// begin begins anew if another attempt prints, or a server has forgotten what it printed.
func (f *follower) begin(i *wire.Info) {
	attempt := max(1, i.Result.Attempt) // the first is not counted until something is known of it
	if attempt != f.attempt && f.known != [2]int64{} {
		fmt.Fprintf(f.get.clients.io.err, "gpool %s: %s: attempt %d begins\n", f.get.verb, title(i), attempt)
		f.known = [2]int64{}
	}
	f.attempt = attempt
	if i.StdoutBytes < f.known[0] || i.StderrBytes < f.known[1] {
		f.known = [2]int64{}
	}
}

func (f *follower) pass(i *wire.Info) error {
	io := f.get.clients.io
	for stream, to := range []struct {
		file *os.File
		path string
	}{{io.out, i.Stdout}, {io.err, i.Stderr}} {
		n, err := passOn(to.file, to.path, f.known[stream])
		f.known[stream] += n
		if err != nil {
			return err
		}
	}
	return nil
}

// callObject is what --format jsonl and status --json tell of a call.
type callObject struct {
	ID        string   `json:"id"`
	Name      string   `json:"name,omitempty"`
	Command   string   `json:"command"`
	State     string   `json:"state"`
	Status    string   `json:"status,omitempty"` // once it has ended
	Exit      *int     `json:"exit"`             // null if no command has ended
	Signal    *int     `json:"signal"`
	Code      *int     `json:"code,omitempty"` // the exit code of get
	Error     string   `json:"error,omitempty"`
	Attempt   int      `json:"attempt"`
	Slot      int      `json:"slot"`
	WorkerPid int      `json:"worker_pid"`
	Accepted  float64  `json:"accepted"` // Unix time
	Start     *float64 `json:"start"`
	Runtime   float64  `json:"runtime"` // this and the next ones: seconds
	User      float64  `json:"user"`
	System    float64  `json:"system"`
	MaxRSS    int64    `json:"max_rss"` // bytes
	Callback  string   `json:"callback_error,omitempty"`
}

func newCallObject(i *wire.Info) callObject {
	r := &i.Result
	o := callObject{
		ID: i.ID, Name: i.Name, Command: i.Text, State: string(i.State), Status: string(r.Outcome), Error: r.Error, Attempt: r.Attempt,
		Slot: r.Slot, WorkerPid: r.Pid, Accepted: unixSeconds(i.Accepted), User: r.User.Seconds(), System: r.System.Seconds(),
		MaxRSS: r.MaxRSS, Callback: r.Callback,
	}
	if r.Outcome != "" {
		code := r.Code()
		o.Code = &code
	}
	if r.Outcome != "" && r.Exit >= 0 {
		o.Exit, o.Signal = &r.Exit, &r.Signal
	}
	if !r.Start.IsZero() {
		start := unixSeconds(r.Start)
		o.Start = &start
		if !r.End.IsZero() {
			o.Runtime = r.End.Sub(r.Start).Seconds()
		}
	}
	return o
}

// unixSeconds is a time as JSON has it, 0 for none.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

// printJSON prints a call and what it has printed as one object, of which no more than a buffer
// is ever held.
func printJSON(to io.Writer, i *wire.Info) error {
	head, err := json.Marshal(newCallObject(i))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(to, 64<<10)
	w.Write(head[:len(head)-1]) // a bufio.Writer keeps its first error
	err = errors.Join(printField(w, "stdout", i.Stdout), printField(w, "stderr", i.Stderr))
	w.WriteString("}\n")
	return errors.Join(err, w.Flush())
}

// printField prints a file as one field. It is read twice: whether it is text decides on the key.
func printField(w *bufio.Writer, name, path string) error {
	f, err := openKept(path)
	if err != nil {
		return err
	}
	if f == nil {
		_, err := w.WriteString(`,"` + name + `":""`)
		return err
	}
	defer f.Close()
	text, err := isText(f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return &keptError{err}
	}
	if text {
		w.WriteString(`,"` + name + `":"`)
		_, err = io.Copy(escaper{w}, f)
	} else {
		w.WriteString(`,"` + name + `_base64":"`)
		encoder := base64.NewEncoder(base64.StdEncoding, w)
		_, err = io.Copy(encoder, f)
		err = errors.Join(err, encoder.Close())
	}
	w.WriteByte('"')
	return err
}

// isText reports whether all that can be read is UTF-8.
func isText(r io.Reader) (bool, error) {
	var check utf8Check
	buf := make([]byte, 64<<10+utf8.UTFMax)
	for {
		n, err := r.Read(buf)
		check.add(buf[:n])
		if err == io.EOF {
			return check.valid(), nil
		}
		if err != nil || check.bad {
			return false, err
		}
	}
}
