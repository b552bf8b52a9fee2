package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"gpool/internal/pool/daemon/wire"
)

func TestOwnEnvIsNotOfTheCallWeRunIn(t *testing.T) {
	before := []string{"A=1", "GPOOL_ID=x-1", "GPOOL_SEQ=1", "GPOOL_SLOT=1", "GPOOL_ATTEMPT=2", "PARALLEL_SEQ=1", "PARALLEL_JOBSLOT=1", "GPOOL_POOL=two", "GPOOL_IDX=3"}
	got := ownEnv(before)
	if want := []string{"A=1", "GPOOL_POOL=two", "GPOOL_IDX=3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(before) != 9 || before[1] != "GPOOL_ID=x-1" {
		t.Errorf("what was given became %q", before)
	}
}

func TestProgramIsFoundWhereTheCallRuns(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "here")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := newBuilder(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	call := func(argv []string, around surroundings) string {
		c, err := b.build(&callOptions{argv: argv, shell: "sh", around: around})
		if err != nil {
			code := exitCode(buildError(err))
			return fmt.Sprint(code)
		}
		return c.Path
	}
	for _, tt := range []struct {
		name   string
		around surroundings
		want   string
	}{
		{"./here", surroundings{dir: dir}, path},
		{"./here", surroundings{}, "127"},
		{"here", surroundings{dir: dir}, "127"},
		{"here", surroundings{env: []string{"PATH=" + dir}}, path},
		{"here", surroundings{}, "127"}, // what was found by another PATH is not remembered
		{dir, surroundings{}, "126"},
	} {
		if got := call([]string{tt.name}, tt.around); got != tt.want {
			t.Errorf("%s in %+v: got %s, want %s", tt.name, tt.around, got, tt.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		result  wire.Result
		want    string
		remarks int
		code    int
	}{
		{wire.Result{Outcome: wire.Succeeded}, "succeeded", 0, 0},
		{wire.Result{Outcome: wire.Succeeded, Leaked: true, Callback: "exit code 1"}, "succeeded", 2, 0},
		{wire.Result{Outcome: wire.Failed, Exit: 3, Error: "exit status 3"}, "exit code 3", 0, 3},
		{wire.Result{Outcome: wire.Failed, Exit: 137, Signal: 9}, "ended by signal 9 (killed)", 1, 137},
		{wire.Result{Outcome: wire.Failed, Exit: -1, Error: "bad\nvalue"}, `failed: "bad\nvalue"`, 1, 1},
		{wire.Result{Outcome: wire.TimedOut, Exit: -1, Error: "timed out: it was ended after 1s"}, "timed out: it was ended after 1s", 1, 124},
		{wire.Result{Outcome: wire.Lost, Exit: -1, Error: "it ran"}, "lost: it ran", 1, 125},
		{wire.Result{Outcome: wire.Cancelled, Exit: -1}, "cancelled", 1, 143},
		{wire.Result{}, "it has not ended", 1, 1},
	} {
		if got := verdictOf(&tt.result); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.result, got, tt.want)
		}
		if got := remarks(&wire.Info{Result: tt.result}); len(got) != tt.remarks {
			t.Errorf("%+v: got the remarks %q, %d are expected", tt.result, got, tt.remarks)
		}
		if got := tt.result.Code(); got != tt.code {
			t.Errorf("%+v: got the exit code %d, want %d", tt.result, got, tt.code)
		}
	}
}

func TestTitleIsOneShortLine(t *testing.T) {
	for _, tt := range []struct {
		info wire.Info
		want string
	}{
		{wire.Info{ID: "x-1"}, "x-1"},
		{wire.Info{ID: "x-1", Text: "make all"}, "x-1 (make all)"},
		{wire.Info{ID: "x-1", Name: "all", Text: "make all"}, "x-1 (all)"},
		{wire.Info{ID: "x-1", Text: "a\n\x1b[2J"}, `x-1 ("a\n\x1b[2J")`},
		{wire.Info{ID: "x-1", Text: strings.Repeat("x", 1000)}, "x-1 (" + strings.Repeat("x", 80) + "...)"},
	} {
		if got := title(&tt.info); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestIDsNameTheirPool(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv(poolVariable, "three") // has no say
	for _, tt := range []struct{ flag, id, want string }{
		{"", "22222-1", "default"}, {"", "two-22222-1", "two"}, {"two", "two-22222-1", "two"},
		{"two", "22222-1", "--pool two"}, {"", "", "no id"}, {"", "22222", "no id"},
	} {
		c := newClients(exitOwn, stdio{})
		c.pool = tt.flag
		l, err := c.owner(tt.id)
		if err == nil && l.place.Name == tt.want || err != nil && strings.Contains(err.Error(), tt.want) {
			continue
		}
		t.Errorf("--pool %q %q: got %+v, error %v; want %q", tt.flag, tt.id, l, err, tt.want)
	}
}

func TestWhatHasEndedIsSaidSo(t *testing.T) {
	if got := explainOf("22222-1", &noPoolError{"default"}).Error(); !strings.Contains(got, "the pool of 22222-1 does not run") {
		t.Errorf("got %q", got)
	}
	other := &wire.Fault{Code: wire.FaultUnknown, Text: "unknown"}
	if got := explainOf("22222-1", other); got != error(other) || explainOf("x", nil) != nil {
		t.Errorf("got %v", got)
	}
}

func TestJSONOfACall(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "kept")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long := strings.Repeat("é\"\n", 60000) // more than a buffer, with a character at its end
	info := wire.Info{
		ID: "22222-1", Name: "n", Text: "echo", State: wire.Done, Stdout: write(long), Stderr: write("\xff"),
		Result: wire.Result{Outcome: wire.Failed, Exit: 3, Attempt: 1, Start: time.Unix(5, 0), End: time.Unix(7, 5e8), MaxRSS: 1024, User: time.Second},
	}
	var out bytes.Buffer
	if err := printJSON(&out, &info); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"id": "22222-1", "name": "n", "command": "echo", "status": "failed", "exit": 3.0, "signal": 0.0, "start": 5.0, "runtime": 2.5,
		"user": 1.0, "max_rss": 1024.0, "stdout": long, "stderr_base64": "/w==",
	} {
		if got[key] != want {
			t.Errorf("%s is %.80v, want %.80v", key, got[key], want)
		}
	}
	if err := printJSON(&out, &wire.Info{Stdout: "/no/such/file"}); !isKept(err) {
		t.Errorf("a file that is gone: got error %v", err)
	}
	full := errors.New("full")
	if err := printJSON(failing{full}, &info); !errors.Is(err, full) || isKept(err) {
		t.Errorf("a writer that fails: got error %v", err)
	}
}

func isKept(err error) bool {
	_, kept := errors.AsType[*keptError](err)
	return kept
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestAFollowerBeginsAnewWithAnAttempt(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	f := follower{get: &get{clients: newClients(exitOwn, stdio{err: null})}}
	for _, tt := range []struct {
		attempt int
		bytes   int64
		known   int64 // before
		want    int64 // known after
	}{{0, 5, 0, 0}, {1, 9, 5, 5}, {2, 9, 9, 0}, {2, 3, 9, 0}} {
		f.known[0] = tt.known
		f.begin(&wire.Info{StdoutBytes: tt.bytes, Result: wire.Result{Attempt: tt.attempt}})
		if f.known[0] != tt.want {
			t.Errorf("attempt %d, %d bytes: known are %d, want %d", tt.attempt, tt.bytes, f.known[0], tt.want)
		}
	}
}

func startOptions(t *testing.T, args ...string) *poolOptions {
	t.Helper()
	o, f := &poolOptions{}, pflag.NewFlagSet("start", pflag.ContinueOnError)
	o.define(f)
	f.StringVar(&o.pool, "pool", "", "")
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestServerIsGivenTheFlagsOfStart(t *testing.T) {
	args := []string{"--grace=1s", "--idle=0", "--initializer=a b", "--jobs=50%", "--max-rss=1G"}
	o := startOptions(t, append(args, "--pool=two")...)
	if got := o.arguments(); !slices.Equal(got, args) {
		t.Errorf("got %q, want %q", got, args)
	}
	served := startOptions(t, o.arguments()...)
	if served.grace != time.Second || served.idle != 0 || served.initializer != "a b" || served.jobs.text != "50%" || served.maxRSS != 1<<30 {
		t.Errorf("the server has %+v", served)
	}
	if !served.given("idle") || served.given("max-age") || served.maxAge != 7*24*time.Hour {
		t.Errorf("flags that were given, and defaults, are mixed up: %+v", served)
	}
}

func TestStartOfAPoolThatRuns(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status wire.Status
		want   string
	}{
		{nil, wire.Status{Slots: 4}, ""},
		{[]string{"--pool=x"}, wire.Status{Slots: 4}, ""},
		{[]string{"-j4"}, wire.Status{Slots: 4}, ""},
		{[]string{"-j5"}, wire.Status{Slots: 4}, "gpool pool resize 5"},
		{[]string{"-j4", "--nice=3"}, wire.Status{Slots: 4}, "--nice cannot be changed"},
		{nil, wire.Status{Slots: 4, Closed: true}, "closed"},
	} {
		o := startOptions(t, tt.args...)
		n, err := o.jobs.count()
		got := o.differs(&tt.status, n)
		if err != nil || (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%q: got %q, error %v; want %q", tt.args, got, err, tt.want)
		}
	}
}

func TestStatusForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	s := wire.Status{
		Pool: "two", Pid: 7, Slots: 1, Started: now.Add(-90 * time.Second), Closed: true, Waiting: 1, Running: 2, Done: 3, Failed: 4,
		Kept: 5, Bytes: 3 << 19, Limit: 10 << 30, Leased: []string{"make \x1b"},
		Workers: []wire.Worker{{Slot: 1, Pid: 8, State: "busy", ID: "x-1", Age: time.Hour, Busy: time.Second, Done: 9, Memory: 2048}},
		Calls:   []wire.Info{{ID: "x-1", State: wire.Running, Text: "make all", Accepted: now.Add(-30 * time.Hour)}, {ID: "x-2", State: wire.Done, Name: "n", Accepted: now, Result: wire.Result{Outcome: wire.Failed, Exit: 2}}},
	}
	var out strings.Builder
	printStatus(&out, &s, map[string]string{"x-1": "make all"}, now)
	want := `pool two: 1 worker, pid 7, since 2026-01-02 03:02:35 (1m30s), closed
calls: 1 waiting, 2 running, 0 callbacks, 3 done, 4 of them failed
results: 5 to fetch; 1.5M kept of 10.0G

SLOT  STATE  PID  AGE     CALLS  MEMORY  RUNS
1     busy   8    1h0m0s  9      2.0K    x-1 (1s) make all
leased: "make \x1b"

ID   STATE    AGE   EXIT  CALL
x-1  running  1d6h  -     make all
x-2  failed   0s    2     n
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestStatusForProgramsHasAllKeys(t *testing.T) {
	b, err := json.Marshal(newStatusObject(&wire.Status{Workers: []wire.Worker{{Slot: 1}}}, true))
	want := `{"pool":"","pid":0,"version":"","started":0,"slots":0,"closed":false,"waiting":0,"running":0,"callbacks":0,"done":0,"failed":0,"kept":0,` +
		`"spool":"","spool_bytes":0,"spool_limit":0,"workers":[{"slot":1,"state":"","pid":0,"age":0,"calls_done":0,"memory":0}],"leased":[],"leasing":[],"calls":[]}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, error %v", b, err)
	}
}

// The commands parse and refuse as their help says.
func TestCommandLinesOfApplyAsync(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // empty: it is taken
	}{
		{"-- true", ""}, {"-c true", ""}, {"--worker w --task t", ""}, {"--worker w --task t --args [1] -- a", ""}, {"--jsonl", ""}, {"--jsonl -a f", ""},
		{"--jsonl --worker w -- a", ""}, {"--jsonl --backoff 1", ""}, {"--retries 1 --backoff 1 true", ""},
		{"", "the command is missing"}, {"-c true -- x", "-c and COMMAND"}, {"--worker w", "--task"}, {"--task t -- x", "--worker"}, {"--args [1] x", "--worker"},
		{"--worker w --task t -c x", "exclude each other"}, {"--jsonl -- x", "the lines say"}, {"--jsonl -c x", "the lines say"},
		{"--backoff 1 true", "--retries"}, {"-a f true", "--jsonl"}, {"--timeout 200% true", "--timeout"}, {"--env =1 true", "--env"}, {"--chdir /no/such true", "--chdir"},
	} {
		a := &async{clients: newClients(exitPool, stdio{})}
		cmd := a.command()
		err := cmd.ParseFlags(strings.Fields(tt.args))
		if err == nil {
			err = a.check(cmd.Flags().Changed, cmd.Flags().Args())
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %q", tt.args, err, tt.want)
		}
	}
}
