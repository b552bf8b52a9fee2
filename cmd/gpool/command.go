package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/launch"
)

// commands is the work of running a command for each row.
type commands struct {
	opts     *options
	spec     command.Spec
	template *command.Template
	encoder  *ipc.Encoder // of payloads; the pool's feeder is its only user

	mu     sync.Mutex // guards status
	status command.StatusReader
}

// newCommands turns the words of the command line into what the calls run. names are
// those of a header, width is how many columns each row has if that is known, else 0.
func newCommands(v verb, o *options, words, names []string, width int) (*commands, error) {
	s, err := resolve(v, o, words, names)
	if err != nil {
		return nil, err
	}
	w := &commands{opts: o, encoder: ipc.NewEncoder()}
	if w.template, err = command.Parse(s); err != nil {
		return nil, err
	}
	if name, ok := w.template.FixedProgram(); ok {
		if s.Path, err = o.around.program("COMMAND", name); err != nil {
			return nil, err
		}
	}
	if c := w.template.Columns(); width > 0 && c > width {
		return nil, fmt.Errorf("the template names column %d, but an item has %d: give starmap rows, or name a column that is there", c, width)
	}
	w.spec = s
	return w, nil
}

func resolve(v verb, o *options, words, names []string) (s command.Spec, err error) {
	s = command.Spec{Mode: command.Direct, Words: words, Names: names, NamedRows: o.jsonl, Env: o.around.env, Dir: o.around.dir}
	switch {
	case o.shellLine != "" && len(words) > 0:
		return s, fmt.Errorf("-c and COMMAND (%s) exclude each other: quote the whole command line after -c", words[0])
	case v.single && o.shellLine != "":
		s.Mode, s.Words = command.Literal, []string{o.shell, "-c", o.shellLine}
	case v.single:
		s.Mode = command.Literal
	case o.shellLine != "":
		s.Mode, s.Words = command.Script, []string{o.shellLine}
	case len(words) == 0:
		s.Mode = command.ItemIsScript
	}
	if s.Mode == command.Script || s.Mode == command.ItemIsScript || o.initializer != "" {
		s.Shell, err = o.around.program("COMMAND", o.shell)
	}
	return s, err
}

func (w *commands) configure(c *pool.Config) error {
	self, err := launch.Self(workerVerb)
	if err != nil {
		return err
	}
	self.Nice, self.Commands = w.opts.nice, true
	c.Launcher = self
	if w.opts.initializer != "" {
		c.InitTask = command.ExecTask
		s := w.spec
		c.InitCommon = command.Spec{Mode: command.Script, Words: []string{w.opts.initializer}, Shell: s.Shell, Env: s.Env, Dir: s.Dir}.Encoded()
	}
	return nil
}

func (w *commands) job() (task string, common []byte) {
	return command.ExecTask, w.spec.Encoded()
}

func (w *commands) payload(dst []byte, row *input.Row) ([]byte, error) {
	w.encoder.Reset()
	row.Row.Append(w.encoder)
	return append(dst, w.encoder.Encoded()...), nil
}

func (w *commands) text(row *input.Row, seq uint64, slot int) (string, error) {
	argv, err := w.template.Render(command.Values{Row: row.Row, Seq: seq, Slot: slot})
	if err != nil {
		return "", err
	}
	isLine := w.opts.shellLine != "" || w.spec.Mode == command.ItemIsScript
	if isLine && w.opts.shell == "sh" && w.opts.around.own() {
		return argv[2], nil
	}
	return w.opts.around.before(command.QuoteArgv(argv)), nil
}

func (w *commands) slots() bool { return w.template.HasSlot() }

// outcome finds how the command of a call ended: its status travels as the value of a
// success, or in the data of a failure.
func (w *commands) outcome(r *pool.Result) outcome {
	o := outcome{kind: r.Kind, err: r.Err, command: &commandEnd{}}
	data := r.Value
	var failure *pool.TaskError
	if errors.As(r.Err, &failure) {
		data = failure.Data
	}
	if len(data) == 0 { // none has ended
		return o
	}
	w.mu.Lock()
	status, err := w.status.Read(data)
	w.mu.Unlock()
	if err != nil { // our own worker wrote it
		o.note = err.Error()
		return o
	}
	o.command = &commandEnd{
		Exit: &status.Exit, Signal: &status.Signal, maxRSS: int64(status.MaxRSS) << 10,
		user: time.Duration(status.User) * time.Microsecond, system: time.Duration(status.System) * time.Microsecond,
	}
	if status.Leaked {
		o.note = "processes that it left behind still hold its output open; what they print from now on is lost"
	}
	return o
}

func (w *commands) args(*input.Row) []json.RawMessage { return nil }

func (w *commands) explain(err error) error { return err }
