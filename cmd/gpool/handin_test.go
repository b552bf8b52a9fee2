package main

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/value"
)

// msgpackOf is a JSON value as a task gets it.
func msgpackOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := value.FromJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// buildLine makes the call of a line.
func buildLine(t *testing.T, line string, defaults *callOptions) (wire.Call, error) {
	t.Helper()
	b, err := newBuilder(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	o, err := parseLine(line, defaults)
	if err != nil {
		return wire.Call{}, err
	}
	return b.build(o)
}

func defaultCall() *callOptions { return &callOptions{shell: "sh", retryOn: retryOn{any: true}} }

func TestLinesThatAreCalls(t *testing.T) {
	sh, err := surroundings{}.program("COMMAND", "sh")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	anyway := wire.RetryOn{Any: true}
	withDefaults := func(change func(*callOptions)) *callOptions {
		o := defaultCall()
		change(o)
		return o
	}
	tasks := withDefaults(func(o *callOptions) { o.worker, o.task = []string{"sh", "w"}, "t" })
	for _, tt := range []struct {
		line     string
		defaults *callOptions
		want     wire.Call
	}{
		{`{"argv": ["sh", "a b"]}`, nil, wire.Call{Argv: []string{"sh", "a b"}, Path: sh, Text: "sh 'a b'", RetryOn: anyway}},
		{` {"command": "echo 1"} `, nil, wire.Call{Argv: []string{"sh", "-c", "echo 1"}, Path: sh, Text: "echo 1", RetryOn: anyway}},
		{`{"argv": ["` + sh + `"], "name": "n", "chdir": ".", "keep": true, "retries": 2, "backoff": "1s..2s", "timeout": "1m", "retry_on": "died,exit:3"}`, nil,
			wire.Call{Argv: []string{sh}, Path: sh, Text: sh, Name: "n", Dir: dir, Keep: true, Retries: 2, MinWait: time.Second, MaxWait: 2 * time.Second,
				Timeout: time.Minute, RetryOn: wire.RetryOn{Died: true, Codes: []int{3}}}},
		{`{"argv": ["sh"], "timeout": 2.5}`, nil, wire.Call{Argv: []string{"sh"}, Path: sh, Text: "sh", Timeout: 2500 * time.Millisecond, RetryOn: anyway}},
		{`{"argv": ["sh"], "env": {"B": "2", "A": "é=\u0001"}, "callback": "c", "error_callback": "e"}`,
			withDefaults(func(o *callOptions) { o.around.env = []string{"A=0", "C=3"} }),
			wire.Call{Argv: []string{"sh"}, Path: sh, Text: "sh", Env: []string{"A=é=\x01", "C=3", "B=2"}, Callback: "c", ErrorCallback: "e", Shell: sh, RetryOn: anyway}},
		{`{"task": "t", "args": [1, "x"], "worker": ["sh"]}`, nil,
			wire.Call{Argv: []string{"sh"}, Path: sh, Task: "t", Args: msgpackOf(t, `[1,"x"]`), Text: `t [1,"x"]`, RetryOn: anyway}},
		{`{"args": [[1]]}`, tasks, wire.Call{Argv: []string{"sh", "w"}, Path: sh, Task: "t", Args: msgpackOf(t, `[1]`), Text: "t [1]", RetryOn: anyway}},
		{`{"args": ["x"]}`, tasks, wire.Call{Argv: []string{"sh", "w"}, Path: sh, Task: "t", Args: msgpackOf(t, `"x"`), Text: `t "x"`, RetryOn: anyway}},
		{`{}`, tasks, wire.Call{Argv: []string{"sh", "w"}, Path: sh, Task: "t", Args: msgpackOf(t, `null`), Text: "t null", RetryOn: anyway}},
		{`{"argv": ["sh"]}`, tasks, wire.Call{Argv: []string{"sh"}, Path: sh, Text: "sh", RetryOn: anyway}},
	} {
		if tt.defaults == nil {
			tt.defaults = defaultCall()
		}
		before := *tt.defaults
		got, err := buildLine(t, tt.line, tt.defaults)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\ngot  %+v, error %v\nwant %+v", tt.line, got, err, tt.want)
		}
		if !reflect.DeepEqual(before, *tt.defaults) {
			t.Errorf("%s changed what holds for the other lines", tt.line)
		}
	}
}

func TestLinesThatAreNone(t *testing.T) {
	for line, want := range map[string]string{
		`[1]`:                                         "no JSON object",
		`"x"`:                                         "no JSON object",
		`{"argv": ["sh"]`:                             "JSON",
		`{"argv": ["sh"]} x`:                          "JSON",
		"{\"argv\": [\"sh\xff\"]}":                    "UTF-8",
		`{}`:                                          "does not say what runs",
		`{"name": "x"}`:                               "does not say what runs",
		`{"argv": ["sh"], "foo": 1}`:                  "the key foo is unknown",
		`{"argv": ["sh"], "argv": []}`:                "twice",
		`{"argv": "sh"}`:                              `"argv"`,
		`{"argv": []}`:                                "empty",
		`{"argv": ["sh", null]}`:                      "null",
		`{"argv": ["sh", 1]}`:                         `"argv"`,
		`{"argv": [""]}`:                              "the name is empty",
		`{"argv": ["no-such-program"]}`:               "not found",
		`{"argv": ["sh", "a\u0000"]}`:                 "NUL",
		`{"command": " "}`:                            `"command": it is empty`,
		`{"command": null}`:                           `"command": a string is needed`,
		`{"command": "x", "argv": []}`:                `"argv"`,
		`{"argv": ["sh"], "task": "t"}`:               "exclude each other",
		`{"argv": ["sh"], "args": []}`:                `"args" is for tasks`,
		`{"task": "t", "args": [1]}`:                  "which program has it",
		`{"task": "t", "args": {}, "worker": ["sh"]}`: "a JSON array is needed",
		`{"argv": ["sh"], "env": ["A=1"]}`:            `"env": an object of strings`,
		`{"argv": ["sh"], "env": {"A": 1}}`:           `"env": an object of strings`,
		`{"argv": ["sh"], "env": {"A": null}}`:        `"A" cannot be`,
		`{"argv": ["sh"], "env": {"": "1"}}`:          `"" cannot be`,
		`{"argv": ["sh"], "chdir": "/no/such"}`:       `"chdir"`,
		`{"argv": ["sh"], "timeout": 0}`:              "more than 0",
		`{"argv": ["sh"], "timeout": -1}`:             "below zero",
		`{"argv": ["sh"], "timeout": true}`:           `"timeout"`,
		`{"argv": ["sh"], "timeout": "200%"}`:         `"timeout"`,
		`{"argv": ["sh"], "retries": 1.5}`:            `"retries": a whole number`,
		`{"argv": ["sh"], "retries": -1}`:             "at least 0",
		`{"argv": ["sh"], "retry_on": "x"}`:           `"retry_on"`,
		`{"argv": ["sh"], "backoff": 3}`:              `"backoff"`,
		`{"argv": ["sh"], "keep": "yes"}`:             `"keep": true or false`,
	} {
		_, err := buildLine(t, line, defaultCall())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v; want one with %q", line, err, want)
		}
	}
}

// Every key is in the help, or nobody would know of it.
func TestHelpNamesAllKeys(t *testing.T) {
	for _, key := range slices.Sorted(maps.Keys(lineKeys)) {
		if key != "worker" && !strings.Contains(asyncHelp, key) {
			t.Errorf("the help does not name the key %s", key)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, line := range []string{`{"argv": ["sh", "a"]}`, `{"command": "x", "timeout": 1e3, "env": {"A": "1"}}`, `{"task": "t", "args": [[]], "worker": ["sh"]}`, `{"a`} {
		f.Add(line)
	}
	b, err := newBuilder(nil, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseLine(line, defaultCall())
		if err != nil {
			return
		}
		call, err := b.build(o)
		if err != nil {
			return
		}
		if len(call.Argv) == 0 || call.Path == "" || call.Text == "" || call.Timeout < 0 || call.Retries < 0 {
			t.Errorf("%q became %+v", line, call)
		}
	})
}

func TestPortions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringN(0, 20, 40), 0, 30).Draw(t, "lines")
		most := rapid.IntRange(1, 60).Draw(t, "most")
		rows := make([]input.Row, len(lines))
		for i, line := range lines {
			rows[i].Row = command.Row{Columns: []string{line}}
		}
		var got []string
		for part := range portions(rows, most) {
			size := 0
			for _, row := range part {
				got = append(got, row.Columns[0])
				size += len(row.Columns[0])
			}
			if len(part) == 0 || len(part) > 1 && size > most {
				t.Fatalf("a portion of %d rows has %d bytes, at most %d are wanted", len(part), size, most)
			}
		}
		if !slices.Equal(got, lines) {
			t.Fatalf("got %q of %q", got, lines)
		}
	})
}
