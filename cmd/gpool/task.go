package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/launch"
	"gpool/internal/value"
)

// userProgram is a program of the user's that serves as a worker.
type userProgram struct {
	path   string
	argv   []string // as the user has written it
	around surroundings
}

// findProgram looks for the program of --worker. words are its arguments.
func findProgram(name string, words []string, around surroundings) (*userProgram, error) {
	path, err := around.program("--worker", name)
	if err != nil {
		return nil, err
	}
	return &userProgram{path, append([]string{name}, words...), around}, nil
}

// launcher gives each worker one thread of Go code, as package gpool does: there are as
// many workers as CPUs.
func (p *userProgram) launcher(nice int) pool.Launcher {
	l := launch.Program{Path: p.path, Args: p.argv[1:], Env: p.around.env, Dir: p.around.dir, Procs: 1}.Launcher()
	l.Nice = nice
	return l
}

func (p *userProgram) String() string { return command.QuoteArgv(shorten(p.argv)) }

// failure words why workers of the program do not start.
func (p *userProgram) failure(err error) error {
	if died, ok := errors.AsType[*pool.WorkerDiedError](err); ok && died.Cause == nil {
		err = fmt.Errorf("it ended before it had said hello: %w", died)
	}
	return fmt.Errorf("%s does not work as a worker: %w", p, err)
}

// task is the work of running a task of a user's program for each row.
type task struct {
	program     *userProgram
	name        string
	initializer string // a task, or empty
	json        bool   // columns are JSON values
	unpack      bool   // an array alone in its row is the row
	batch       bool   // the argument is an array of the columns, also of one
	nice        int
}

func newTask(v verb, o *options, words []string) (*task, error) {
	p, err := findProgram(o.worker, words, o.around)
	if err != nil {
		return nil, err
	}
	return &task{
		program: p, name: o.task, initializer: o.initializer,
		json: o.jsonl, unpack: o.jsonl && v.rows, batch: o.batch > 0, nice: o.nice,
	}, nil
}

func (t *task) configure(c *pool.Config) error {
	c.Launcher = t.program.launcher(t.nice)
	c.Tasks = []string{t.name}
	if t.initializer != "" {
		c.InitTask = t.initializer
		c.Tasks = append(c.Tasks, t.initializer)
	}
	return nil
}

func (t *task) job() (name string, common []byte) { return t.name, nil }

// payload is one value: that of the only column, or an array of those of all. A row of none
// is nil: what a task in Go that takes no argument, which takes a struct{}, is given.
func (t *task) payload(dst []byte, row *input.Row) ([]byte, error) {
	columns := row.Columns
	switch {
	case len(columns) == 0:
		return append(dst, value.Nil), nil
	case len(columns) == 1 && !t.batch:
		return t.only(dst, columns[0])
	}
	dst = value.AppendArray(dst, len(columns))
	for _, column := range columns {
		var err error
		if dst, err = t.column(dst, column); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func (t *task) column(dst []byte, text string) ([]byte, error) {
	if !t.json {
		return value.AppendString(dst, text), nil
	}
	v, err := value.FromJSON([]byte(text))
	return append(dst, v...), err
}

// only is the argument of a row of one column. A JSON array is the row in its place,
// and so is written as it is, unless it is a row of one itself.
func (t *task) only(dst []byte, text string) ([]byte, error) {
	from := len(dst)
	dst, err := t.column(dst, text)
	if err != nil || !t.unpack || !isArray(text) {
		return dst, err
	}
	elements, err := value.Elements(dst[from:])
	if err == nil && len(elements) == 1 {
		dst = append(dst[:from], elements[0]...)
	}
	return dst, err
}

func isArray(text string) bool { return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "[") }

// text is the name and the arguments, as JSON.
func (t *task) text(row *input.Row, _ uint64, _ int) (string, error) {
	b, err := t.payload(nil, row)
	if err != nil {
		return "", err
	}
	text, err := value.AppendJSON([]byte(t.name+" "), b)
	return string(text), err
}

func (t *task) slots() bool { return false }

// outcome holds what a task has returned against what it may return: its program may
// be anybody's.
func (t *task) outcome(r *pool.Result) outcome {
	o := outcome{kind: r.Kind, err: r.Err}
	if failure, ok := errors.AsType[*pool.TaskError](r.Err); ok && failure.Code == ipc.Panicked {
		o.err = fmt.Errorf("it panicked: %w", failure)
	}
	if r.Kind != pool.Succeeded {
		return o
	}
	if o.value, o.err = value.Returned(r.Value); o.err != nil {
		o.kind = pool.Failed
	}
	return o
}

// args are JSON only if the items were. One that is broken is a string.
func (t *task) args(row *input.Row) []json.RawMessage {
	if !t.json {
		return nil
	}
	if len(row.Columns) == 1 && t.unpack && isArray(row.Columns[0]) {
		var elements []json.RawMessage
		if json.Unmarshal([]byte(row.Columns[0]), &elements) == nil {
			return elements
		}
	}
	list := make([]json.RawMessage, len(row.Columns))
	for i, column := range row.Columns {
		list[i] = json.RawMessage(column)
		if !json.Valid(list[i]) {
			list[i], _ = json.Marshal(column) // a string always can
		}
	}
	return list
}

// explain makes a task that the program has not the user's mistake, as a COMMAND that
// is not there.
func (t *task) explain(err error) error {
	if refused, ok := errors.AsType[*pool.RefusedError](err); ok && len(refused.Missing) > 0 {
		return &exitError{exitUsage, fmt.Errorf("%s offers no task %q: %s", t.program, refused.Missing[0], offered(refused.Offered))}
	}
	if _, ok := errors.AsType[*pool.StartError](err); ok {
		return t.program.failure(err)
	}
	return err
}

// offered lists the tasks of a program.
func offered(names []string) string {
	if len(names) == 0 {
		return "it offers none"
	}
	const most = 20
	names = slices.Sorted(slices.Values(names))
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	for i := range names {
		names[i] = printable(names[i])
	}
	return "it has " + strings.Join(names, ", ") + more
}
