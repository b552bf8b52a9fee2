package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/report"
	"gpool/internal/shelf"
	"gpool/internal/value"
)

// jsonLines prints one object for each call. Output waits for the end of its call,
// on disk if it is much. What is no UTF-8 travels in base64, under another key: no
// byte is lost, and no reader is surprised.
type jsonLines struct {
	w        *bufio.Writer
	work     work
	shelf    shelf.Shelf
	attempts map[int]*streams // of the call under way

	showAttempts bool // also those of calls that succeed in the end
}

// streams are stdout and stderr of one attempt.
type streams [2]captured

type captured struct {
	pieces []shelf.Piece
	check  utf8Check
}

const captureMemory = 4 << 20

func newJSON(w *bufio.Writer, work work, showAttempts bool) *jsonLines {
	return &jsonLines{w: w, work: work, shelf: shelf.Shelf{Limit: captureMemory}, attempts: map[int]*streams{}, showAttempts: showAttempts}
}

// of returns the streams of an attempt.
func (f *jsonLines) of(attempt int) *streams {
	s := f.attempts[attempt]
	if s == nil {
		s = new(streams)
		f.attempts[attempt] = s
	}
	return s
}

func (f *jsonLines) output(o *pool.Output, _ *report.Record) error {
	c := &f.of(o.Attempt)[o.Stream-1]
	c.check.add(o.Data)
	var last shelf.Piece
	if n := len(c.pieces); n > 0 {
		last = c.pieces[n-1]
	}
	p, err := f.shelf.Put(bytes.Clone(o.Data), last)
	if err != nil {
		return err
	}
	if len(c.pieces) == 0 || !c.pieces[len(c.pieces)-1].Join(p) {
		c.pieces = append(c.pieces, p)
	}
	return nil
}

// object is the object without what each attempt printed, which follows its last field.
type object struct {
	Seq     uint64   `json:"seq"`
	Args    any      `json:"args,omitempty"` // []string or []json.RawMessage
	ArgsB64 []string `json:"args_base64,omitempty"`
	attempt
	Value json.RawMessage `json:"value,omitempty"` // of tasks
}

// attempt is what is told of an attempt, and of a call as its last one.
type attempt struct {
	Status      report.Status `json:"status"`
	*commandEnd               // nil for tasks
	Error       string        `json:"error,omitempty"`
	Slot        int           `json:"slot"`
	WorkerPid   int           `json:"worker_pid"`
	Attempt     int           `json:"attempt"`
	Start       float64       `json:"start"`
	Runtime     float64       `json:"runtime"`
}

func newAttempt(r *pool.Result, o *outcome) attempt {
	a := attempt{
		Status: o.status(r), commandEnd: o.command,
		Slot: r.Slot, WorkerPid: r.Pid, Attempt: r.Attempt, Runtime: r.Elapsed.Seconds(),
	}
	if !r.Start.IsZero() {
		a.Start = float64(r.Start.UnixMicro()) / 1e6
	}
	if o.err != nil {
		a.Error = o.err.Error()
	}
	return a
}

func (f *jsonLines) result(r *pool.Result, o *outcome, _ *report.Record) error {
	whole := object{Seq: r.Call.Seq, attempt: newAttempt(r, o)}
	row := r.Call.Item.(*input.Row)
	if args := f.work.args(row); args != nil {
		whole.Args = args
	} else {
		whole.setArgs(row.Columns)
	}
	if o.value != nil {
		text, err := value.AppendJSON(nil, o.value)
		if err != nil {
			return err
		}
		whole.Value = text
	}
	err := f.open(whole, r.Attempt, o, true)
	shown := r.Kind != pool.Succeeded || f.showAttempts
	for i, e := range r.Earlier {
		between := ","
		if i == 0 {
			between = `,"earlier":[`
		}
		f.w.WriteString(between) // a bufio.Writer keeps its first error
		end := f.work.outcome(e)
		err = errors.Join(err, f.open(newAttempt(e, &end), e.Attempt, &end, shown))
		f.w.WriteByte('}')
	}
	if len(r.Earlier) > 0 {
		f.w.WriteByte(']')
	}
	clear(f.attempts)
	if err != nil {
		return err
	}
	_, err = f.w.WriteString("}\n")
	return err
}

// open writes an object without its end, and in it what an attempt printed, if that is
// shown.
func (f *jsonLines) open(v any, attempt int, o *outcome, shown bool) error {
	head, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f.w.Write(head[:len(head)-1])
	if !shown {
		return nil
	}
	streams := f.of(attempt)
	for i, name := range []string{"stdout", "stderr"} {
		if o.command == nil && streams[i].pieces == nil { // few tasks have streams
			continue
		}
		if err := f.stream(name, &streams[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *object) setArgs(columns []string) {
	for _, c := range columns {
		if !utf8.ValidString(c) {
			for _, c := range columns {
				r.ArgsB64 = append(r.ArgsB64, base64.StdEncoding.EncodeToString([]byte(c)))
			}
			return
		}
	}
	if len(columns) > 0 {
		r.Args = columns
	}
}

// stream writes one stream as a field, from the shelf, without ever holding it all.
func (f *jsonLines) stream(name string, c *captured) error {
	text := c.check.valid()
	if !text {
		name += "_base64"
	}
	f.w.WriteString(`,"` + name + `":"`)
	sink := io.Writer(escaper{f.w})
	var encoder io.WriteCloser
	if !text {
		encoder = base64.NewEncoder(base64.StdEncoding, f.w)
		sink = encoder
	}
	for _, p := range c.pieces {
		err := f.shelf.Take(p, func(b []byte) error {
			_, err := sink.Write(b)
			return err
		})
		if err != nil {
			return err
		}
	}
	if encoder != nil {
		if err := encoder.Close(); err != nil {
			return err
		}
	}
	*c = captured{}
	return f.w.WriteByte('"')
}

// escaper writes UTF-8 as the inside of a JSON string. It works byte by byte, so a
// character may be cut between two writes.
type escaper struct{ w *bufio.Writer }

func (e escaper) Write(b []byte) (int, error) {
	from := 0
	for i, c := range b {
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		e.w.Write(b[from:i])
		from = i + 1
		switch c {
		case '"', '\\':
			e.w.Write([]byte{'\\', c})
		case '\n':
			e.w.WriteString(`\n`)
		case '\t':
			e.w.WriteString(`\t`)
		default:
			e.w.WriteString(`\u00` + strconv.FormatUint(uint64(c)>>4, 16) + strconv.FormatUint(uint64(c)&15, 16))
		}
	}
	_, err := e.w.Write(b[from:])
	return len(b), err
}

// utf8Check decides whether a stream that arrives in pieces is valid UTF-8.
type utf8Check struct {
	bad  bool
	tail []byte // the beginning of a character whose rest has not come
}

func (u *utf8Check) add(b []byte) {
	if u.bad {
		return
	}
	for len(u.tail) > 0 && len(b) > 0 && !utf8.FullRune(u.tail) {
		u.tail = append(u.tail, b[0])
		b = b[1:]
	}
	if len(u.tail) > 0 {
		if !utf8.FullRune(u.tail) {
			return
		}
		u.bad = !utf8.Valid(u.tail)
		u.tail = u.tail[:0]
	}
	cut := len(b)
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if utf8.RuneStart(b[len(b)-back]) {
			if !utf8.FullRune(b[len(b)-back:]) {
				cut = len(b) - back
			}
			break
		}
	}
	u.bad = u.bad || !utf8.Valid(b[:cut])
	u.tail = append(u.tail, b[cut:]...)
}

func (u *utf8Check) valid() bool { return !u.bad && len(u.tail) == 0 }
