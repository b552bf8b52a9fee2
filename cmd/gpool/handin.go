package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/value"
)

// Limits of what is handed in at once, and of one line.
const (
	batchCalls = 256
	batchBytes = 1 << 20
	lineMost   = 64 << 20
)

// handInLines hands in what the lines of the input say, as they come, and prints an id for each.
func (a *async) handInLines(l *link, b *builder) error {
	rows, _, err := input.Open(a.files, a.clients.io.in, input.Format{Rows: input.WholeLine})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	h := &handing{async: a, link: l, builder: b, out: bufio.NewWriter(a.clients.io.out)}
	for {
		batch, err := rows.Next(batchCalls)
		if err == io.EOF {
			return h.verdict()
		}
		if err != nil {
			return &exitError{exitUsage, err}
		}
		for part := range portions(batch, batchBytes) {
			if err := h.handIn(part); err != nil {
				return err
			}
		}
	}
}

// portions splits rows into runs of at most so many bytes, and at least one row.
func portions(rows []input.Row, most int) func(yield func([]input.Row) bool) {
	return func(yield func([]input.Row) bool) {
		from, size := 0, 0
		for i := range rows {
			n := len(rows[i].Columns[0])
			if i > from && size+n > most {
				if !yield(rows[from:i]) {
					return
				}
				from, size = i, 0
			}
			size += n
		}
		if from < len(rows) {
			yield(rows[from:])
		}
	}
}

// handing hands in the lines of --jsonl.
type handing struct {
	*async
	link    *link
	builder *builder
	out     *bufio.Writer
	lines   int64
	bad     int64
	calls   []wire.Call // of the batch
	has     []bool      // the lines of the batch that are calls
}

// handIn hands in one batch and prints the ids. A signal waits until that is done.
func (h *handing) handIn(rows []input.Row) error {
	h.calls, h.has = h.calls[:0], h.has[:0]
	for i := range rows {
		h.has = append(h.has, h.add(&rows[i]))
	}
	if len(h.calls) == 0 {
		return h.print(nil)
	}
	if err := h.link.ready(context.Background()); err != nil {
		return err
	}
	h.clients.busy.Lock()
	defer h.clients.busy.Unlock()
	ids, err := submit(h.link, wire.Submission{Context: h.builder.context, Calls: h.calls})
	if err != nil {
		return fmt.Errorf("line %d of %s, and those after it: %w", rows[0].Line, rows[0].File, err)
	}
	clear(h.calls) // the lines that they alias may be large
	return h.print(ids)
}

// add adds the call of a line to the batch, if it is one, and reports whether it is.
func (h *handing) add(row *input.Row) bool {
	h.lines++
	line := row.Columns[0]
	if strings.TrimSpace(line) == "" {
		return false
	}
	call, err := h.parse(line)
	if err != nil {
		h.bad++
		fmt.Fprintf(h.clients.io.err, "gpool apply-async: line %d of %s was not handed in: %v\n", row.Line, row.File, err)
		return false
	}
	h.calls = append(h.calls, call)
	return true
}

func (h *handing) parse(line string) (wire.Call, error) {
	o, err := parseLine(line, &h.call)
	if err != nil {
		return wire.Call{}, err
	}
	return h.builder.build(o)
}

// print prints the ids, with an empty line in the place of each line that is no call.
func (h *handing) print(ids []string) error {
	for _, has := range h.has {
		if has {
			h.out.WriteString(ids[0]) // a bufio.Writer keeps its first error
			ids = ids[1:]
		}
		h.out.WriteByte('\n')
	}
	if err := h.out.Flush(); err != nil {
		return fmt.Errorf("print the ids of the calls, which were handed in up to line %d: %w", h.lines, err)
	}
	return nil
}

func (h *handing) verdict() error {
	if h.bad == 0 {
		return nil
	}
	return &exitError{exitUsage, fmt.Errorf("%s of %d could not be handed in", count(h.bad, "line"), h.lines)}
}

// parseLine reads the object of a line. What it does not say is as in defaults.
func parseLine(line string, defaults *callOptions) (*callOptions, error) {
	if len(line) > lineMost {
		return nil, fmt.Errorf("it has %d bytes, and at most %d are possible: hand such data in as a file", len(line), lineMost)
	}
	fields, err := fieldsOf(line)
	if err != nil {
		return nil, err
	}
	o := *defaults
	for _, f := range fields {
		set := lineKeys[f.key]
		if set == nil {
			return nil, fmt.Errorf("the key %s is unknown; there are %s", printable(f.key), strings.Join(slices.Sorted(maps.Keys(lineKeys)), ", "))
		}
		if err := set(&o, f.value); err != nil {
			return nil, fmt.Errorf("%q: %w", f.key, err)
		}
	}
	return &o, o.choose(fields)
}

// field is one key of an object with its value.
type field struct {
	key   string
	value json.RawMessage
}

// fieldsOf takes an object apart.
func fieldsOf(line string) ([]field, error) {
	// It is stricter than package json, which puts other text in for what is no text.
	if _, err := value.FromJSON([]byte(line)); err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(line))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New(`it is no JSON object, such as {"argv": ["echo", "hello"]}`)
	}
	var fields []field
	seen := map[string]bool{}
	for d.More() {
		var f field
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		f.key = key.(string) // the decoder takes nothing else there
		if err := d.Decode(&f.value); err != nil {
			return nil, err
		}
		if seen[f.key] {
			return nil, fmt.Errorf("the key %s is there twice", printable(f.key))
		}
		seen[f.key] = true
		fields = append(fields, f)
	}
	return fields, nil
}

// choose makes sure that the object says what runs, once.
func (o *callOptions) choose(fields []field) error {
	var kinds, ofTasks []string
	for _, f := range fields {
		switch f.key {
		case "argv", "command", "task":
			kinds = append(kinds, f.key)
		case "args", "worker":
			ofTasks = append(ofTasks, f.key)
		}
	}
	switch {
	case len(kinds) > 1:
		return fmt.Errorf("%q and %q exclude each other", kinds[0], kinds[1])
	case len(kinds) == 0 && o.task == "":
		return errors.New(`it does not say what runs: one of "argv", "command" and "task" is needed`)
	case len(kinds) == 1 && kinds[0] != "task":
		o.task = "" // of the command line, for other lines
		if len(ofTasks) > 0 {
			return fmt.Errorf("%q is for tasks, and %q is none", ofTasks[0], kinds[0])
		}
	}
	return nil
}

// lineKeys are the keys of a line, and what each of them sets.
var lineKeys = map[string]func(*callOptions, json.RawMessage) error{
	"argv":           func(o *callOptions, v json.RawMessage) error { return wordsTo(&o.argv, v) },
	"command":        func(o *callOptions, v json.RawMessage) error { return someTextTo(&o.shellLine, v) },
	"task":           func(o *callOptions, v json.RawMessage) error { return someTextTo(&o.task, v) },
	"args":           func(o *callOptions, v json.RawMessage) error { o.args = string(v); return nil },
	"worker":         func(o *callOptions, v json.RawMessage) error { return wordsTo(&o.worker, v) },
	"name":           func(o *callOptions, v json.RawMessage) error { return textTo(&o.name, v) },
	"env":            envTo,
	"chdir":          func(o *callOptions, v json.RawMessage) error { return parsedTo(&o.around.dir, v, chdir) },
	"timeout":        func(o *callOptions, v json.RawMessage) error { return timeTo(&o.timeout, v) },
	"retries":        retriesTo,
	"backoff":        func(o *callOptions, v json.RawMessage) error { return parsedTo(&o.backoff, v, parseSpan) },
	"retry_on":       func(o *callOptions, v json.RawMessage) error { return parsedTo(&o.retryOn, v, parseRetryOn) },
	"callback":       func(o *callOptions, v json.RawMessage) error { return textTo(&o.callback, v) },
	"error_callback": func(o *callOptions, v json.RawMessage) error { return textTo(&o.errorCallback, v) },
	"keep":           keepTo,
}

// decodeTo reads a value of one type. null is none of any: package json would pass over it.
func decodeTo[T any](at *T, v json.RawMessage, needed string) error {
	var read T
	if string(v) == "null" || json.Unmarshal(v, &read) != nil {
		return fmt.Errorf("%s is needed, and not %s", needed, shorten([]string{string(v)})[0])
	}
	*at = read
	return nil
}

func textTo(at *string, v json.RawMessage) error { return decodeTo(at, v, "a string") }

func someTextTo(at *string, v json.RawMessage) error {
	if err := textTo(at, v); err != nil {
		return err
	}
	if strings.TrimSpace(*at) == "" {
		return errors.New("it is empty")
	}
	return nil
}

func wordsTo(at *[]string, v json.RawMessage) error {
	var words []*string
	const needed = "an array of strings, of which the first names a program,"
	if err := decodeTo(&words, v, needed); err != nil {
		return err
	}
	*at = make([]string, len(words))
	for i, w := range words {
		if w == nil {
			return errors.New(needed + " and null is no string")
		}
		(*at)[i] = *w
	}
	if len(words) == 0 {
		return errors.New(needed + " and it is empty")
	}
	return nil
}

func envTo(o *callOptions, v json.RawMessage) error {
	var env map[string]*string
	if err := decodeTo(&env, v, "an object of strings"); err != nil {
		return err
	}
	o.around.env = slices.Clone(o.around.env) // the defaults are those of other lines, too
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if key == "" || strings.Contains(key, "=") || env[key] == nil {
			return fmt.Errorf("%q cannot be a variable with a value", key)
		}
		o.around.env = append(o.around.env, key+"="+*env[key])
	}
	return nil
}

// timeTo reads a time as a flag has it, or as a number of seconds, which is the same text without
// quotes.
func timeTo(at *time.Duration, v json.RawMessage) error {
	if v = bytes.TrimSpace(v); len(v) > 0 && v[0] != '"' {
		var number json.Number
		if err := decodeTo(&number, v, "a string or a number of seconds"); err != nil {
			return err
		}
		v = json.RawMessage(`"` + number.String() + `"`)
	}
	return parsedTo(at, v, someTime)
}

// parsedTo reads what a flag has as its text.
func parsedTo[T any](at *T, v json.RawMessage, parse func(string) (T, error)) error {
	var text string
	if err := textTo(&text, v); err != nil {
		return err
	}
	read, err := parse(text)
	if err == nil {
		*at = read
	}
	return err
}

func retriesTo(o *callOptions, v json.RawMessage) error {
	if err := decodeTo(&o.retries, v, "a whole number"); err != nil {
		return err
	}
	if o.retries < 0 {
		return errors.New("at least 0 is needed")
	}
	return nil
}

func keepTo(o *callOptions, v json.RawMessage) error { return decodeTo(&o.keep, v, "true or false") }
