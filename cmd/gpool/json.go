package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf8"

	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/shelf"
	"gpool/internal/value"
)

// jsonLines prints one object for each call. Output waits for the end of its call,
// on disk if it is much. What is no UTF-8 travels in base64, under another key: no
// byte is lost, and no reader is surprised.
type jsonLines struct {
	w       *bufio.Writer
	work    work
	shelf   shelf.Shelf
	streams [2]captured
}

// captured is one stream of the call under way.
type captured struct {
	pieces []shelf.Piece
	check  utf8Check
}

const captureMemory = 4 << 20

func newJSON(w *bufio.Writer, work work) *jsonLines {
	return &jsonLines{w: w, work: work, shelf: shelf.Shelf{Limit: captureMemory}}
}

func (f *jsonLines) output(_ *pool.Call, s ipc.Stream, b []byte) error {
	c := &f.streams[s-1]
	c.check.add(b)
	p, err := f.shelf.Put(bytes.Clone(b))
	if err != nil {
		return err
	}
	c.pieces = append(c.pieces, p)
	return nil
}

// record is the object without the two streams, which follow its last field.
type record struct {
	Seq         uint64          `json:"seq"`
	Args        any             `json:"args,omitempty"` // []string or []json.RawMessage
	ArgsB64     []string        `json:"args_base64,omitempty"`
	Status      string          `json:"status"`
	*commandEnd                 // nil for tasks
	Error       string          `json:"error,omitempty"`
	Slot        int             `json:"slot"`
	WorkerPid   int             `json:"worker_pid"`
	Attempt     int             `json:"attempt"`
	Start       float64         `json:"start"`
	Runtime     float64         `json:"runtime"`
	Value       json.RawMessage `json:"value,omitempty"` // of tasks
}

var kindNames = map[pool.Kind]string{
	pool.Succeeded: "succeeded", pool.Failed: "failed", pool.NotStarted: "not started",
	pool.WorkerDied: "worker died", pool.Cancelled: "cancelled", pool.TimedOut: "timed out",
}

func (f *jsonLines) result(r *pool.Result, o *outcome) error {
	rec := record{
		Seq: r.Call.Seq, Status: kindNames[o.kind], commandEnd: o.command,
		Slot: r.Slot, WorkerPid: r.Pid, Attempt: r.Attempt, Runtime: r.Elapsed.Seconds(),
	}
	if !r.Start.IsZero() {
		rec.Start = float64(r.Start.UnixMicro()) / 1e6
	}
	if o.err != nil {
		rec.Error = o.err.Error()
	}
	row := r.Call.Item.(*input.Row)
	if args := f.work.args(row); args != nil {
		rec.Args = args
	} else {
		rec.setArgs(row.Columns)
	}
	if o.value != nil {
		text, err := value.AppendJSON(nil, o.value)
		if err != nil {
			return err
		}
		rec.Value = text
	}
	head, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f.w.Write(head[:len(head)-1]) // a bufio.Writer keeps its first error
	for i, name := range []string{"stdout", "stderr"} {
		if o.command == nil && f.streams[i].pieces == nil { // few tasks have streams
			continue
		}
		if err := f.stream(name, &f.streams[i]); err != nil {
			return err
		}
	}
	_, err = f.w.WriteString("}\n")
	return err
}

func (r *record) setArgs(columns []string) {
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
