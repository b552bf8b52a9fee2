package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

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
	single  bool       // one call without an item: what runs is literal, and its exit code is that of gpool
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
	pool        string // in whose slots calls run; empty if in our own
	chunkSize   int
	maxCalls    int
	initializer string
	tasks       bool // calls run a task of a program of the user's
	worker      string
	task        string
	args        string // of the task, if there is one call
	shellLine   string
	shell       string
	around      surroundings
	name        string // of the one call, in messages
	dryRun      bool

	batch      int
	files      []string
	null       bool
	colsep     string
	csv, jsonl bool
	header     bool
	part       part
	shuffle    shuffle

	unordered  bool
	lineBuffer bool
	tag        bool
	format     string
	progress   string
	summary    string
	stillAfter time.Duration
	ci         string

	retries      int
	backoff      span
	retryOn      retryOn
	showAttempts bool
	flaky        string
	timeout      timeLimit
	grace        time.Duration // 0 if it was not given
	runTimeout   time.Duration
	halt         pool.Halt
	failFast     bool
	exitCode     string

	joblog       string
	resume       bool
	resumeFailed bool
	results      string
	junit        string
	events       string

	delay        time.Duration
	rate         float64
	load         float64
	memFree      int64
	maxRSS       int64
	maxWorkerRSS int64
	nice         int
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
  itself failed; 124 the time of --run-timeout was up; 128+N stopped by signal N`

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
	o.define(v, sections{cmd: cmd})
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
	if o.format == "jsonl" && (o.lineBuffer || o.tag) {
		return fmt.Errorf("--format jsonl prints one object for each call; leave --line-buffer and --tag out")
	}
	if err := o.checkControl(given); err != nil {
		return err
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

func flagError(_ *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*badValue](err); ok {
		return bad
	}
	return err
}
