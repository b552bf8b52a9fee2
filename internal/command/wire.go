package command

import (
	"errors"
	"fmt"

	"gpool/internal/ipc"
)

// ExecTask is the name of the built-in task that runs a command. Its common value
// is an encoded Spec, its payload an encoded Row, its value an encoded Status.
const ExecTask = "exec"

// Append writes s as the common value of the exec task.
func (s Spec) Append(e *ipc.Encoder) {
	e.Array(8)
	e.Uint(uint64(s.Mode))
	appendStrings(e, s.Words)
	e.BytesOf(s.Shell)
	e.BytesOf(s.Path)
	appendNames(e, s.Names)
	named := uint64(0)
	if s.NamedRows {
		named = 1
	}
	e.Uint(named)
	appendStrings(e, s.Env)
	e.BytesOf(s.Dir)
}

// Encoded is s as Append writes it, in memory of its own.
func (s Spec) Encoded() []byte {
	e := ipc.NewEncoder()
	s.Append(e)
	return e.Copy()
}

// DecodeSpec reads what Append wrote.
func DecodeSpec(b []byte) (s Spec, err error) {
	d, err := open(b)
	if err != nil {
		return s, err
	}
	n := d.Array()
	s.Mode = Mode(d.Uint())
	s.Words = decodeStrings(d)
	s.Shell = d.Str()
	s.Path = d.Str()
	s.Names = decodeNames(d)
	s.NamedRows = d.Uint() == 1
	s.Env = decodeStrings(d)
	s.Dir = d.Str()
	d.Skip(n - 8)
	if err := d.Err(); err != nil {
		return s, fmt.Errorf("read what to run: %w", err)
	}
	return s, nil
}

// Append writes r as a payload of the exec task: an array of columns, or, when the
// row has names of its own, an array of the two arrays.
func (r Row) Append(e *ipc.Encoder) {
	if r.Names == nil {
		appendStrings(e, r.Columns)
		return
	}
	e.Array(2)
	appendStrings(e, r.Columns)
	appendStrings(e, r.Names)
}

// DecodeRow reads what Append wrote.
func DecodeRow(b []byte) (r Row, err error) {
	d, err := open(b)
	if err != nil {
		return r, err
	}
	n := d.Array()
	if n > 0 && d.IsArray() {
		r.Columns, r.Names = decodeStrings(d), decodeStrings(d)
	} else {
		r.Columns = make([]string, 0, n)
		for ; n > 0 && d.Err() == nil; n-- {
			r.Columns = append(r.Columns, d.Str())
		}
	}
	if err := d.Err(); err != nil {
		return r, fmt.Errorf("read an item: %w", err)
	}
	if r.Names != nil && len(r.Names) != len(r.Columns) {
		return r, errors.New("read an item: its columns and names differ in number")
	}
	return r, nil
}

// Status is how a command ended.
type Status struct {
	Exit   int  // its exit code; 128+Signal if a signal ended it
	Signal int  // the signal that ended it, or 0
	Leaked bool // a process that it left behind still held its output open
	MaxRSS int  // KiB, the largest of its processes that were waited for
	User   int  // µs of processor time
	System int  // µs of processor time
}

// Append writes s as a value of the exec task.
func (s Status) Append(e *ipc.Encoder) {
	leaked := uint64(0)
	if s.Leaked {
		leaked = 1
	}
	e.Array(6)
	e.Uint(uint64(s.Exit))
	e.Uint(uint64(s.Signal))
	e.Uint(leaked)
	e.Uint(uint64(s.MaxRSS))
	e.Uint(uint64(s.User))
	e.Uint(uint64(s.System))
}

// StatusReader decodes values of the exec task without allocating. One goroutine.
type StatusReader struct{ d *ipc.Decoder }

// Read reads what Status.Append wrote.
func (r *StatusReader) Read(b []byte) (s Status, err error) {
	if err := ipc.Precheck(b); err != nil {
		return s, fmt.Errorf("read how a command ended: %w", err)
	}
	if r.d == nil {
		r.d = ipc.NewDecoder()
	}
	r.d.Reset(b)
	n := r.d.Array()
	s.Exit = int(r.d.Uint())
	s.Signal = int(r.d.Uint())
	s.Leaked = r.d.Uint() == 1
	s.MaxRSS = int(r.d.Uint())
	s.User = int(r.d.Uint())
	s.System = int(r.d.Uint())
	r.d.Skip(n - 6)
	if err := r.d.Err(); err != nil {
		return s, fmt.Errorf("read how a command ended: %w", err)
	}
	return s, nil
}

func open(b []byte) (*ipc.Decoder, error) {
	if err := ipc.Precheck(b); err != nil {
		return nil, fmt.Errorf("read a value of the exec task: %w", err)
	}
	d := ipc.NewDecoder()
	d.Reset(b)
	return d, nil
}

func appendStrings(e *ipc.Encoder, list []string) {
	e.Array(len(list))
	for _, s := range list {
		e.BytesOf(s)
	}
}

func decodeStrings(d *ipc.Decoder) []string {
	n := d.Array()
	list := make([]string, 0, n)
	for ; n > 0 && d.Err() == nil; n-- {
		list = append(list, d.Str())
	}
	return list
}

// appendNames keeps nil apart from empty: a header without columns is a header.
func appendNames(e *ipc.Encoder, list []string) {
	if list == nil {
		e.Array(0)
		return
	}
	e.Array(1)
	appendStrings(e, list)
}

func decodeNames(d *ipc.Decoder) []string {
	if d.Array() == 0 {
		return nil
	}
	return decodeStrings(d)
}
