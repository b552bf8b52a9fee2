package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// schema is a JSON Schema of the few keywords that docs/events.schema.json uses. It knows
// which fields it has seen, so that a field that is in no table is noticed although the
// schema allows it: fields may be added, by a later version.
type schema struct {
	root map[string]any
}

func readSchema(t testing.TB) *schema {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "events.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if s.root, err = decodeObject(b); err != nil {
		t.Fatal(err)
	}
	return s
}

// decodeObject reads an object with numbers as they are written.
func decodeObject(b []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the object")
	}
	return object, nil
}

// line holds one line to the schema.
func (s *schema) line(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("it is no UTF-8")
	}
	object, err := decodeObject(b)
	if err != nil {
		return err
	}
	known, err := s.check(s.root, object)
	if err != nil {
		return err
	}
	for key := range object {
		if !known[key] {
			return fmt.Errorf("the field %s is not in the schema", key)
		}
	}
	return nil
}

// check holds a value to a rule, and returns which fields of the value the rule knows.
func (s *schema) check(rule map[string]any, value any) (map[string]bool, error) {
	known := map[string]bool{}
	for _, keyword := range slices.Sorted(maps.Keys(rule)) {
		check, ok := keywords[keyword]
		if !ok {
			return nil, fmt.Errorf("the test does not know the keyword %q", keyword)
		}
		if err := check(s, rule[keyword], value, known); err != nil {
			return nil, fmt.Errorf("%s: %w", keyword, err)
		}
	}
	return known, nil
}

// keyword is what one says of a value. As in JSON Schema, those that are about another type
// than the value has say nothing.
type keyword func(s *schema, rule, value any, known map[string]bool) error

var keywords map[string]keyword

func init() { // the map refers to itself
	ignored := func(*schema, any, any, map[string]bool) error { return nil }
	keywords = map[string]keyword{
		"$schema": ignored, "title": ignored, "description": ignored, "$defs": ignored,
		"$ref": checkRef, "allOf": checkAllOf, "oneOf": checkOneOf, "not": checkNot,
		"type": checkType, "const": checkConst, "enum": checkEnum, "minimum": checkMinimum, "pattern": checkPattern,
		"required": checkRequired, "properties": checkProperties, "items": checkItems, "minItems": checkMinItems,
	}
}

func checkRef(s *schema, rule, value any, known map[string]bool) error {
	target, ok := s.root["$defs"].(map[string]any)[strings.TrimPrefix(rule.(string), "#/$defs/")].(map[string]any)
	if !ok {
		return fmt.Errorf("there is no %v", rule)
	}
	return s.merge(target, value, known)
}

func checkAllOf(s *schema, rule, value any, known map[string]bool) error {
	for _, one := range rule.([]any) {
		if err := s.merge(one.(map[string]any), value, known); err != nil {
			return err
		}
	}
	return nil
}

func checkNot(s *schema, rule, value any, _ map[string]bool) error {
	if _, err := s.check(rule.(map[string]any), value); err == nil {
		return fmt.Errorf("it is %v", rule)
	}
	return nil
}

func checkConst(_ *schema, rule, value any, _ map[string]bool) error {
	return isOneOf([]any{rule}, value)
}

func checkEnum(_ *schema, rule, value any, _ map[string]bool) error {
	return isOneOf(rule.([]any), value)
}

func checkItems(s *schema, rule, value any, _ map[string]bool) error {
	list, _ := value.([]any)
	for _, item := range list {
		if err := s.only(rule.(map[string]any), item); err != nil {
			return err
		}
	}
	return nil
}

func checkMinItems(_ *schema, rule, value any, _ map[string]bool) error {
	list, ok := value.([]any)
	if n := len(list); ok && compareNumbers(json.Number(fmt.Sprint(n)), rule) < 0 {
		return fmt.Errorf("%d items", n)
	}
	return nil
}

func checkMinimum(_ *schema, rule, value any, _ map[string]bool) error {
	if n, ok := value.(json.Number); ok && compareNumbers(n, rule) < 0 {
		return fmt.Errorf("%v is less than %v", value, rule)
	}
	return nil
}

func checkPattern(_ *schema, rule, value any, _ map[string]bool) error {
	if text, ok := value.(string); ok && !regexp.MustCompile(rule.(string)).MatchString(text) {
		return fmt.Errorf("%q does not match %v", value, rule)
	}
	return nil
}

func (s *schema) merge(rule map[string]any, value any, known map[string]bool) error {
	more, err := s.check(rule, value)
	maps.Copy(known, more)
	return err
}

// only is check of a value within another, which has no unknown fields either.
func (s *schema) only(rule map[string]any, value any) error {
	known, err := s.check(rule, value)
	if object, ok := value.(map[string]any); ok && err == nil {
		for key := range object {
			if !known[key] {
				return fmt.Errorf("the field %s is not in the schema", key)
			}
		}
	}
	return err
}

func checkOneOf(s *schema, rule, value any, known map[string]bool) error {
	var matched int
	var errs []error
	for _, one := range rule.([]any) {
		more, err := s.check(one.(map[string]any), value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		matched++
		maps.Copy(known, more)
	}
	if matched != 1 {
		return fmt.Errorf("%d match: %w", matched, errors.Join(errs...))
	}
	return nil
}

func checkType(_ *schema, rule, value any, _ map[string]bool) error {
	var ok bool
	switch value := value.(type) {
	case map[string]any:
		ok = rule == "object"
	case []any:
		ok = rule == "array"
	case string:
		ok = rule == "string"
	case bool:
		ok = rule == "boolean"
	case json.Number:
		ok = rule == "number" || rule == "integer" && !strings.ContainsAny(value.String(), ".eE")
	}
	if !ok {
		return fmt.Errorf("%v is no %v", value, rule)
	}
	return nil
}

func checkRequired(_ *schema, rule, value any, _ map[string]bool) error {
	object, isObject := value.(map[string]any)
	for _, key := range rule.([]any) {
		if _, ok := object[key.(string)]; isObject && !ok {
			return fmt.Errorf("%v is missing", key)
		}
	}
	return nil
}

func checkProperties(s *schema, rule, value any, known map[string]bool) error {
	object, _ := value.(map[string]any)
	for key, field := range object {
		of, ok := rule.(map[string]any)[key].(map[string]any)
		if !ok {
			continue
		}
		known[key] = true
		if err := s.only(of, field); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func isOneOf(list []any, value any) error {
	for _, one := range list {
		if reflect.DeepEqual(one, value) {
			return nil
		}
	}
	return fmt.Errorf("%v is none of %v", value, list)
}

func compareNumbers(a, b any) int {
	x, okX := new(big.Rat).SetString(a.(json.Number).String())
	y, okY := new(big.Rat).SetString(b.(json.Number).String())
	if !okX || !okY {
		return -1
	}
	return x.Cmp(y)
}

// wire is Events into a file under test, with a clock that stands.
type wire struct {
	*Events
	t    testing.TB
	path string
}

func newWire(t testing.TB) *wire {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	e, err := OpenEvents(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return at(1.25) }
	t.Cleanup(func() { e.file.Close() })
	return &wire{e, t, path}
}

func (w *wire) lines() []string {
	w.t.Helper()
	b, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(b) == 0 {
		return nil
	}
	if b[len(b)-1] != '\n' {
		w.t.Errorf("the last line is cut: %q", b)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// playEvents writes every event, with all its fields.
func playEvents(e *Events, item []string, text string) error {
	seed := uint64(1<<64 - 1)
	why := errors.New(text)
	failed := sampleAttempt(1, Failed)
	failed.Error = text
	return errors.Join(
		e.RunStarted(RunStart{Command: append([]string{"gpool", "map"}, item...), Version: text, Workers: 4, Total: 100, Seed: &seed, Partition: "2/5"}),
		e.RunStarted(RunStart{Total: -1}),
		e.WorkerStarted(1, 4711), e.WorkerReady(1, 4711), e.WorkerLeft(1, 4711),
		e.WorkerDied(1, 4711, why), e.WorkersFewer(2, why), e.WorkersFewer(2, nil),
		e.CallStarted(1, item, 1, 2, 4711, at(1)), e.CallStarted(1, nil, 1, 2, 4711, time.Time{}),
		e.CallOutput(1, 1, 1<<40, 0),
		e.CallRetried(1, item, &failed, 1500*time.Millisecond),
		e.CallFinished(&Record{Seq: 1, Item: item, Command: text, Attempt: sampleAttempt(2, Succeeded), Earlier: []Attempt{failed}}),
		e.CallFinished(&Record{Seq: 2, Item: item, Attempt: Attempt{Status: NotStarted, Exit: -1, Error: text, Elapsed: -1}}),
		e.RunFinished(&Totals{Calls: 100, Succeeded: 90, Failed: 10, Flaky: 1, Wall: time.Minute, Busy: time.Hour, Exit: 1}),
	)
}

func TestEventsFollowTheirSchema(t *testing.T) {
	s := readSchema(t)
	w := newWire(t)
	for i, text := range []string{"plain", "\x00\x1b[31m\"\\\n\r\t\x7f", "\xff\xfe", "ä\u2028\U0001f600", strings.Repeat("long ", 1e5), ""} {
		if err := playEvents(w.Events, []string{text, "b"}, text); err != nil {
			t.Fatal(err)
		}
		if n := len(w.lines()); n != 15*(i+1) {
			t.Errorf("%d lines", n)
		}
	}
	seen := map[string]bool{}
	for _, line := range w.lines() {
		if err := s.line([]byte(line)); err != nil {
			t.Errorf("%v: %.300s", err, line)
		}
		var event struct{ Event string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		seen[event.Event] = true
	}
	if rules := s.root["oneOf"].([]any); len(seen) != len(rules) {
		t.Errorf("%d events were written, the schema has %d: %v", len(seen), len(rules), seen)
	}
}

// Whatever an item is made of, a reader gets its bytes back.
func TestEventsKeepItems(t *testing.T) {
	s := readSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		item := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			if rapid.Bool().Draw(t, "text") {
				return rapid.String().Draw(t, "string")
			}
			return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		}), 0, 4).Draw(t, "item")
		line := append([]byte(`{"v":1,"event":"call_output","time":1,"attempt":1,"stdout_bytes":0,"stderr_bytes":0,"seq":1`), appendTexts(nil, "args", item)...)
		line = append(line, '}')
		if err := s.line(line); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		var got struct {
			Args   []string
			Base64 []string `json:"args_base64"`
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		for _, b := range got.Base64 {
			column, err := base64.StdEncoding.DecodeString(b)
			if err != nil {
				t.Fatal(err)
			}
			got.Args = append(got.Args, string(column))
		}
		if !slices.Equal(got.Args, item) {
			t.Fatalf("%q became %q", item, got.Args)
		}
	})
}

// The schema must be able to refuse.
func TestEventSchemaRefuses(t *testing.T) {
	s := readSchema(t)
	w := newWire(t)
	if err := playEvents(w.Events, []string{"a\xff"}, "x"); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(w.lines(), "\n")
	for _, change := range [][2]string{
		{`"v":1,`, `"v":2,`}, {`"v":1,`, ``}, {`"event":"call_finished"`, `"event":"call_ended"`}, {`"event":"worker_left"`, `"event":"call_started"`},
		{`"seq":1,`, `"seq":0,`}, {`"seq":1,`, `"seq":"1",`}, {`"seq":1,`, ``}, {`"status":"succeeded"`, `"status":"fine"`},
		{`"exit":3`, `"exit":3.5`}, {`"exit":-1`, `"exit":-2`}, {`"args_base64":["Yf8="]`, `"args_base64":["Yf8"]`},
		{`"args_base64":["Yf8="]`, `"args_base64":[]`}, {`"args_base64":["Yf8="]`, `"args":["a"],"args_base64":["Yf8="]`},
		{`"flaky":true`, `"flaky":1`}, {`"earlier":[{`, `"earlier":[{"new":1,`}, {`"delay":1.5`, `"new":1.5`}, {`"calls":100`, `"calls":-1`},
		{`"time":1`, `"time":"1`}, {`}`, ``}, {`"slot":1`, `"slot":1e0`}, {`"error":"x"`, `"error":null`},
	} {
		bad := strings.ReplaceAll(all, change[0], change[1])
		refused := 0
		for _, line := range strings.Split(bad, "\n") {
			if s.line([]byte(line)) != nil {
				refused++
			}
		}
		if bad == all || refused == 0 {
			t.Errorf("%q in the place of %q passes, in %d lines", change[1], change[0], strings.Count(all, change[0]))
		}
	}
	if _, err := s.check(map[string]any{"maxItems": json.Number("1")}, nil); err == nil {
		t.Error("an unknown keyword passes")
	}
}

func TestEventExactly(t *testing.T) {
	w := newWire(t)
	r := &Record{Seq: 7, Item: []string{"a", "b"}, Attempt: sampleAttempt(2, Succeeded), Earlier: []Attempt{sampleAttempt(1, Failed)}}
	if err := errors.Join(w.CallFinished(r), w.WorkerDied(1, 9, errors.New("signal 9"))); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"v":1,"event":"call_finished","time":1767225601.250000,"seq":7,"args":["a","b"],"attempt":2,"status":"succeeded","exit":0,"signal":0,` +
			`"slot":2,"worker_pid":4711,"start":1767225602.000000,"runtime":1.500000,"user":1.000000,"system":0.020000,"max_rss":1048576,"stdout_bytes":5,` +
			`"stderr_bytes":7,"flaky":true,"earlier":[{"attempt":1,"status":"failed","exit":3,"signal":0,"error":"exit code 3","slot":2,"worker_pid":4711,` +
			`"start":1767225601.000000,"runtime":1.500000,"user":1.000000,"system":0.020000,"max_rss":1048576,"stdout_bytes":5,"stderr_bytes":7}]}`,
		`{"v":1,"event":"worker_died","time":1767225601.250000,"slot":1,"worker_pid":9,"error":"signal 9"}`,
	}
	if got := w.lines(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The example in docs/events.md is a run that follows the schema, and names every event
// and field that the schema has.
func TestEventsDocs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := readSchema(t)
	examples := 0
	scanner := bufio.NewScanner(bytes.NewReader(b))
	for scanner.Scan() {
		if line := scanner.Bytes(); bytes.HasPrefix(line, []byte("{")) {
			examples++
			if err := s.line(line); err != nil {
				t.Errorf("%v: %s", err, line)
			}
		}
	}
	if examples < 5 {
		t.Errorf("%d lines of an example", examples)
	}
	for name, rule := range s.root["$defs"].(map[string]any) {
		properties, _ := rule.(map[string]any)["properties"].(map[string]any)
		if event, ok := properties["event"]; ok && event.(map[string]any)["const"] != name {
			t.Errorf("the rule %s is of the event %v", name, event)
		}
		for field := range properties {
			if !bytes.Contains(b, []byte("`"+field+"`")) {
				t.Errorf("docs/events.md does not say what %s of %s is", field, name)
			}
		}
	}
}

// Finished calls gather; any other event, a flush or much of them bring them out, in order.
func TestEventsGather(t *testing.T) {
	w := newWire(t)
	r := &Record{Seq: 1, Item: []string{"a"}, Attempt: sampleAttempt(1, Succeeded)}
	want := func(n int) {
		t.Helper()
		if got := len(w.lines()); got != n {
			t.Errorf("%d lines, want %d", got, n)
		}
	}
	for range 3 {
		if err := w.CallFinished(r); err != nil {
			t.Fatal(err)
		}
	}
	want(0)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want(3)
	if err := errors.Join(w.CallFinished(r), w.WorkerReady(1, 2)); err != nil {
		t.Fatal(err)
	}
	want(5)
	for range 1000 {
		if err := w.CallFinished(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.lines()); n < 900 {
		t.Errorf("%d lines after many calls", n)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want(1005)
	if err := w.CallFinished(r); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Lines of many goroutines stay whole, also for a reader of a pipe.
func TestEventsOfManyGoroutines(t *testing.T) {
	s := readSchema(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	e, err := OpenEvents("-", write)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for range 50 {
				if err := playEvents(e, []string{strings.Repeat("x", g*2000)}, "why"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		group.Wait()
		_ = e.Close()
		write.Close() // stdout is the caller's
	}()
	scanner := bufio.NewScanner(read)
	n := 0
	for scanner.Scan() {
		n++
		if err := s.line(scanner.Bytes()); err != nil {
			t.Fatalf("%v: %.200s", err, scanner.Text())
		}
	}
	if n != 4*50*15 {
		t.Errorf("%d lines", n)
	}
}

// A reader who left, or a full disk: the first error stays and names the target.
func TestEventsKeepTheFirstError(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	e, err := OpenEvents("-", write)
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	first := e.WorkerReady(1, 2)
	if !errors.Is(first, syscall.EPIPE) || !strings.Contains(first.Error(), "standard output") {
		t.Errorf("a reader who left: %v", first)
	}
	r := &Record{Seq: 1}
	if again := e.CallFinished(r); again != first {
		t.Errorf("later: %v", again)
	}
	if closed := e.Close(); closed != first {
		t.Errorf("at the end: %v", closed)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		e, err := OpenEvents("/dev/full", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.WorkerReady(1, 2); !errors.Is(err, syscall.ENOSPC) || strings.Count(err.Error(), "/dev/full") != 1 {
			t.Errorf("a full disk: %v", err)
		}
		_ = e.Close()
	}
}

// inherit makes a descriptor as a shell passes one: without close-on-exec.
func inherit(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestOpenEventsRefuses(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	defer read.Close()
	reading := inherit(t, read)
	defer syscall.Close(reading)
	for target, want := range map[string]string{
		"-":                             "the results go there",
		"fd:1":                          "the results go there",
		"/nowhere/events":               "no such file",
		t.TempDir():                     "is a directory",
		"fd:":                           "number of a descriptor",
		"fd:0":                          "number of a descriptor",
		"fd:-1":                         "number of a descriptor",
		"fd:three":                      "number of a descriptor",
		"fd:99999999999":                "number of a descriptor",
		"fd:54321":                      "not open",
		fmt.Sprintf("fd:%d", reading):   "reading only",
		fmt.Sprintf("fd:%d", read.Fd()): "not open", // our own
	} {
		_, err := OpenEvents(target, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "events") {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
}

func TestEventsThroughADescriptor(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	writing := inherit(t, write)
	write.Close()
	e, err := OpenEvents(fmt.Sprintf("fd:%d", writing), nil)
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(writing), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("workers would inherit the descriptor: flags %d, %v", flags, err)
	}
	if err := errors.Join(e.WorkerReady(1, 2), e.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(read) // ends: the descriptor has been closed
	if err != nil || !strings.Contains(string(b), "worker_ready") || b[len(b)-1] != '\n' {
		t.Errorf("through the descriptor came %q, %v", b, err)
	}
}

func BenchmarkCallFinished(b *testing.B) {
	w := newWire(b)
	r := &Record{Seq: 1, Item: []string{"images/0001.png"}, Attempt: sampleAttempt(1, Succeeded)}
	b.ReportAllocs()
	for b.Loop() {
		if err := w.CallFinished(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallStarted(b *testing.B) {
	w := newWire(b)
	item := []string{"images/0001.png"}
	b.ReportAllocs()
	for b.Loop() {
		if err := w.CallStarted(1, item, 1, 2, 4711, at(1)); err != nil {
			b.Fatal(err)
		}
	}
}
