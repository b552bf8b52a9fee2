package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/pool"
)

// verb is one of the ways to run a command over items. They differ in data alone.
type verb struct {
	name    string
	aliases []string
	short   string
	long    string
	collect bool       // reads all input before the first call
	order   pool.Order // of results
	rows    bool       // an item is a row of arguments
}

var verbs = []verb{
	{
		name: "map", short: "Run COMMAND for each item; results in input order", collect: true, order: pool.Collected,
		long: "map reads all items, then runs COMMAND for each of them. Results are printed in input order.",
	},
	{
		name: "imap", short: "Like map, but reads items as workers get free", order: pool.Ordered,
		long: "imap reads items only as workers get free, so its input may be endless. Results are printed in input order.",
	},
	{
		name: "imap-unordered", aliases: []string{"imap_unordered"}, short: "Like imap; results as they finish", order: pool.Unordered,
		long: "imap-unordered reads items only as workers get free, and prints results as calls finish.",
	},
	{
		name: "starmap", short: "Like map, for items that are rows of arguments", collect: true, order: pool.Collected, rows: true,
		long: "starmap is map for rows: each item is split into columns, which are the arguments of COMMAND.\nColumns are separated by TAB unless --colsep, --csv or --jsonl says otherwise.",
	},
}

// options are the flags of a verb, as they were given.
type options struct {
	jobs        jobs
	chunkSize   int
	maxCalls    int
	initializer string
	tasks       bool // calls run a task of a program of the user's
	worker      string
	task        string
	unordered   bool
	batch       int
	files       []string
	null        bool
	shellLine   string
	shell       string
	colsep      string
	csv, jsonl  bool
	header      bool
	dryRun      bool
	progress    string
	lineBuffer  bool
	tag         bool
	format      string
}

const usageLine = " [flags] [--] COMMAND [ARG...] [::: ITEM...]"

const commandHelp = `

COMMAND is run directly, without a shell; -c runs a shell command line instead.
Without either, each item is a shell command line. These are replaced in it:

  {}    the item                  {#}   the number of the call, from 1
  {.}   without its extension     {%}   the slot of the worker, from 1
  {/}   its last path component   {1}   column 1 of a row; {-1} the last
  {//}  its directory             {name}  the column with that name
  {/.}  last component without extension; also {1.} {1/} {1//} {1/.}

Without any of them the item is appended. Items are lines of stdin, or of the
files of -a, or what follows ":::". Several ":::" are combined, each with each;
":::+" goes along with the source before it; "::::" reads a file.

With --worker PROGRAM --task NAME a call runs a task of PROGRAM, which serves
many calls and speaks the frames of docs/protocol.md. What stands in the place
of COMMAND are then the arguments of PROGRAM. A task is given its item as text,
or with --jsonl as the JSON value that it is, or an array of the columns of a
row; what it returns is printed as a line. "gpool tasks" lists the tasks.

  gpool map --worker python3 --task upper -- worker.py ::: a b

EXIT STATUS
  0 all calls succeeded; 1 at least one failed; 2 bad usage or input; 3 gpool
  itself failed; 128+N stopped by signal N`

func newVerb(v verb, io stdio) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:     v.name + usageLine,
		Aliases: v.aliases,
		Short:   v.short,
		Long:    v.long + commandHelp,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, v); err != nil {
				return err
			}
			return runVerb(v, o, args, io)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // parsing stops at COMMAND: its flags are its own
	f.SortFlags = false
	f.VarP(&o.jobs, "jobs", "j", "workers: N, N% of the CPUs, +N or -N relative to them (default: one for each CPU this process may use)")
	f.VarP(&o.jobs, "processes", "P", "the same as --jobs")
	f.Var(atLeastOne{"--chunksize", &o.chunkSize}, "chunksize", "items sent to a worker at once (default: "+v.chunkDefault()+")")
	f.Var(atLeastOne{"--maxtasksperchild", &o.maxCalls}, "maxtasksperchild", "calls after which a worker is replaced (default: never)")
	f.StringVar(&o.initializer, "initializer", "", "shell command line, or with --worker a task, run once in each new worker before its first call")
	if v.collect {
		f.BoolVar(&o.unordered, "unordered", false, "print results as calls finish")
	}
	f.StringVar(&o.worker, "worker", "", "run a task of this program, and not a command; needs --task")
	f.StringVar(&o.task, "task", "", "the task of the program of --worker")
	f.StringVarP(&o.shellLine, "command", "c", "", "run this shell command line; inserted values are quoted")
	f.StringVar(&o.shell, "shell", "sh", "the shell for -c, --initializer, and items that are command lines")
	f.StringArrayVarP(&o.files, "arg-file", "a", nil, "read items from this file instead of stdin (repeatable; - is stdin)")
	f.BoolVarP(&o.null, "null", "0", false, "items end with NUL instead of newline")
	if v.rows {
		f.StringVar(&o.colsep, "colsep", "", "regular expression that separates columns (default: TAB)")
		f.BoolVar(&o.csv, "csv", false, "rows are CSV")
		f.BoolVar(&o.jsonl, "jsonl", false, "rows are JSON, one a line: arrays, or objects for {name}; with --worker any values")
		f.BoolVar(&o.header, "header", false, "the first row names the columns, for {name}")
	} else {
		f.BoolVar(&o.jsonl, "jsonl", false, "with --worker: items are JSON values, one a line")
		f.VarP(atLeastOne{"--max-args", &o.batch}, "max-args", "n", "items for each COMMAND (default: 1); a task is given an array of them")
	}
	f.BoolVar(&o.lineBuffer, "line-buffer", false, "print lines as they come, of all calls at once")
	f.BoolVar(&o.tag, "tag", false, "begin each line with its item and a TAB")
	f.StringVar(&o.format, "format", "raw", "results as they are (raw), or a JSON object for each call (jsonl)")
	f.StringVar(&o.progress, "progress", "auto", "draw a progress bar on stderr: auto (on a terminal), always, never")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the commands, quoted for a shell, or what tasks would be given, and run nothing")
	return cmd
}

func (v verb) chunkDefault() string {
	if v.collect {
		return "what takes some 20 ms, at most items/(4*workers)"
	}
	return "1"
}

// check finds what is wrong with the flags by themselves.
func (o *options) check(cmd *cobra.Command, v verb) error {
	given := cmd.Flags().Changed
	o.tasks = given("worker")
	if err := o.checkTask(given); err != nil {
		return err
	}
	if o.jsonl && !o.tasks && !v.rows {
		return fmt.Errorf("--jsonl: a COMMAND takes text, so JSON rows are for starmap; any verb gives JSON values to a task (--worker and --task)")
	}
	if given("command") && strings.TrimSpace(o.shellLine) == "" {
		return fmt.Errorf("-c: the command line is empty")
	}
	if o.format != "raw" && o.format != "jsonl" {
		return fmt.Errorf("--format %q: it is raw or jsonl", o.format)
	}
	if o.format == "jsonl" && (o.lineBuffer || o.tag) {
		return fmt.Errorf("--format jsonl prints one object for each call; leave --line-buffer and --tag out")
	}
	rows := 0
	for _, name := range []string{"colsep", "csv", "jsonl"} {
		if v.rows && given(name) {
			rows++
		}
	}
	if rows > 1 {
		return fmt.Errorf("--colsep, --csv and --jsonl exclude each other")
	}
	if o.jsonl && o.header {
		return fmt.Errorf("--header: JSON objects name their columns themselves")
	}
	return nil
}

// checkTask finds flags that do not go with the kind of work.
func (o *options) checkTask(given func(string) bool) error {
	switch {
	case !o.tasks && given("task"):
		return fmt.Errorf("--task %s: say with --worker which program has it", command.Quote(o.task))
	case !o.tasks:
		return nil
	case o.task == "":
		return fmt.Errorf("--worker %s: say with --task which of its tasks to run; gpool tasks lists them", command.Quote(o.worker))
	}
	for _, f := range []struct{ name, flag, why string }{
		{"command", "-c", "a task is no command line; arguments of the program of --worker follow the flags"},
		{"shell", "--shell", "no shell runs a task"},
		{"line-buffer", "--line-buffer", "what a task returns is printed as a whole"},
	} {
		if given(f.name) {
			return fmt.Errorf("%s and --worker exclude each other: %s", f.flag, f.why)
		}
	}
	return nil
}

// inputFormat says how bytes become rows.
func (o *options) inputFormat(v verb) (input.Format, error) {
	f := input.Format{Null: o.null, Header: o.header}
	switch {
	case o.tasks && o.jsonl:
		f.Rows = input.JSONText
	case !v.rows:
	case o.csv:
		f.Rows = input.CSV
	case o.jsonl:
		f.Rows = input.JSONL
	default:
		f.Rows = input.Columns
		if o.colsep != "" {
			sep, err := regexp.Compile(o.colsep)
			if err != nil {
				return f, fmt.Errorf("--colsep: %w", err)
			}
			f.Sep = sep
		}
	}
	return f, nil
}

// badValue is the error of a flag's value. It is a sentence of its own: what pflag says
// around it is left out.
type badValue struct{ flag, value, why string }

func (e *badValue) Error() string {
	return fmt.Sprintf("%s %s: %s", e.flag, command.Quote(e.value), e.why)
}

func flagError(_ *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*badValue](err); ok {
		return bad
	}
	return err
}

// atLeastOne is the value of a flag that counts something. It is 0 if not given.
type atLeastOne struct {
	flag string
	n    *int
}

func (a atLeastOne) String() string {
	if a.n == nil { // pflag asks a zero value
		return "0"
	}
	return strconv.Itoa(*a.n)
}

func (a atLeastOne) Type() string { return "N" }

func (a atLeastOne) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return &badValue{a.flag, s, "a whole number is needed"}
	}
	if n < 1 {
		return &badValue{a.flag, s, "at least 1 is needed"}
	}
	*a.n = n
	return nil
}

// jobs is the value of -j.
type jobs struct{ text string }

func (j *jobs) String() string { return j.text }
func (j *jobs) Type() string   { return "N" }

func (j *jobs) Set(s string) error {
	j.text = s
	if _, err := j.count(); err != nil {
		return &badValue{"-j", s, err.Error()}
	}
	return nil
}

// maxWorkers keeps a slip of the finger from taking the machine down.
const maxWorkers = 10000

// count is the number of workers. The Go runtime knows how many CPUs this process
// may use: it looks at its affinity and at the quota of its cgroup.
func (j *jobs) count() (int, error) {
	cpus := runtime.GOMAXPROCS(0)
	s := j.text
	if s == "" {
		return cpus, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("it is N, N%%, +N or -N")
	}
	switch {
	case percent && n > 0:
		n = int(math.Ceil(float64(cpus) * float64(n) / 100))
	case percent:
		return 0, fmt.Errorf("more than 0%% is needed")
	case s[0] == '+' || s[0] == '-':
		n = max(1, cpus+n)
	case n < 1:
		return 0, fmt.Errorf("at least 1 worker is needed")
	}
	if n > maxWorkers {
		return 0, fmt.Errorf("at most %d workers are possible", maxWorkers)
	}
	return n, nil
}
