package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/admit"
)

// sections are the flags of a command, in groups with titles, as its help lists them.
type sections struct {
	cmd  *cobra.Command
	list *[]section
}

type section struct {
	title string
	flags *pflag.FlagSet
}

// add makes a group. What is defined in it is a flag of the command.
func (s *sections) add(title string, define func(f *pflag.FlagSet)) {
	f := pflag.NewFlagSet(title, pflag.ContinueOnError)
	f.SortFlags = false
	define(f)
	s.cmd.Flags().AddFlagSet(f)
	*s.list = append(*s.list, section{title, f})
}

// usage prints the groups one after the other; cobra would print one list.
func (s *sections) usage(cmd *cobra.Command) error {
	out := cmd.OutOrStderr()
	fmt.Fprintf(out, "Usage:\n  %s\n", cmd.UseLine())
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(out, "\nAliases:\n  %s\n", cmd.NameAndAliases())
	}
	for _, part := range *s.list {
		fmt.Fprintf(out, "\n%s:\n%s", part.title, part.flags.FlagUsages())
	}
	fmt.Fprintf(out, "\n  -h, --help   help for %s\n", cmd.Name())
	return nil
}

// define makes the flags of a verb.
func (o *options) define(v verb, s sections) {
	s.list = new([]section)
	f := s.cmd.Flags()
	f.SetInterspersed(false) // parsing stops at COMMAND: its flags are its own
	f.SortFlags = false
	s.add("Workers", func(f *pflag.FlagSet) { o.defineWorkers(v, f) })
	s.add("What runs", o.defineWork)
	s.add("Input", func(f *pflag.FlagSet) { o.defineInput(v, f) })
	s.add("Output", func(f *pflag.FlagSet) { o.defineOutput(v, f) })
	s.add("Failures and time limits", o.defineControl)
	s.add("Logs and reports", o.defineReports)
	s.add("When calls begin", o.defineAdmission)
	s.cmd.SetUsageFunc(s.usage)
}

func (o *options) defineWorkers(v verb, f *pflag.FlagSet) {
	f.VarP(&o.jobs, "jobs", "j", "workers: N, N% of the CPUs, +N or -N relative to them (default: one for each CPU this process may use)")
	f.VarP(&o.jobs, "processes", "P", "the same as --jobs")
	f.Var(parsed("--chunksize", "N", &o.chunkSize, atLeast(1)), "chunksize", "items sent to a worker at once (default: "+v.chunkDefault()+")")
	f.Var(parsed("--maxtasksperchild", "N", &o.maxCalls, atLeast(1)), "maxtasksperchild", "calls after which a worker is replaced (default: never)")
	f.StringVar(&o.initializer, "initializer", "", "shell command line, or with --worker a task, run once in each new worker before its first call")
	f.Var(parsed("--nice", "N", &o.nice, atLeast(-40)), "nice", "makes what runs nicer to others by N")
	f.StringVar(&o.pool, "pool", "", "run calls in slots of this background pool, in turn with those that others hand it ($GPOOL_POOL has no say)")
}

func (o *options) defineWork(f *pflag.FlagSet) {
	f.StringVarP(&o.shellLine, "command", "c", "", "run this shell command line; inserted values are quoted")
	f.StringVar(&o.shell, "shell", "sh", "the shell for -c, --initializer, and items that are command lines")
	f.StringVar(&o.worker, "worker", "", "run a task of this program, and not a command; needs --task")
	f.StringVar(&o.task, "task", "", "the task of the program of --worker")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the commands, quoted for a shell, or what tasks would be given, and run nothing")
}

func (o *options) defineInput(v verb, f *pflag.FlagSet) {
	f.StringArrayVarP(&o.files, "arg-file", "a", nil, "read items from this file instead of stdin (repeatable; - is stdin)")
	f.BoolVarP(&o.null, "null", "0", false, "items end with NUL instead of newline")
	if v.rows {
		f.StringVar(&o.colsep, "colsep", "", "regular expression that separates columns (default: TAB)")
		f.BoolVar(&o.csv, "csv", false, "rows are CSV")
		f.BoolVar(&o.jsonl, "jsonl", false, "rows are JSON, one a line: arrays, or objects for {name}; with --worker any values")
		f.BoolVar(&o.header, "header", false, "the first row names the columns, for {name}")
	} else {
		f.BoolVar(&o.jsonl, "jsonl", false, "with --worker: items are JSON values, one a line")
		f.VarP(parsed("--max-args", "N", &o.batch, atLeast(1)), "max-args", "n", "items for each COMMAND (default: 1); a task is given an array of them")
	}
	f.Var(parsed("--partition", "PART", &o.part, parsePart), "partition", "run one part only: slice:2/5 is each fifth call from the second on, hash:2/5 goes by the items")
	f.Var(&o.shuffle, "shuf", "read all items and run them in a random order; --shuf=SEED in that of before")
	f.Lookup("shuf").NoOptDefVal = newSeed
}

func (o *options) defineOutput(v verb, f *pflag.FlagSet) {
	if v.collect {
		f.BoolVar(&o.unordered, "unordered", false, "print results as calls finish")
	}
	f.BoolVar(&o.lineBuffer, "line-buffer", false, "print lines as they come, of all calls at once")
	f.BoolVar(&o.tag, "tag", false, "begin each line with its item and a TAB")
	choice(f, &o.format, "format", "results as they are (raw), or a JSON object for each call (jsonl)", "raw", "jsonl")
	choice(f, &o.progress, "progress", "draw a progress bar on stderr: auto (on a terminal), always, never", "auto", "always", "never")
	choice(f, &o.summary, "summary", "say in a last line on stderr how the run went: auto (if there is something to tell, on a terminal, or with a log or report)", "auto", "always", "never")
	o.stillAfter = time.Minute
	f.Var(&setter{flag: "--still-running", kind: "TIME", text: "1m", read: func(text string) (err error) {
		o.stillAfter, err = duration(text)
		return err
	}}, "still-running", "name on stderr calls that have run for so long and print nothing; 0 names none")
	choice(f, &o.ci, "ci", "fold the output of calls that pass, and mark failures, for this CI system", "never", "auto", "github", "gitlab")
}

func (o *options) defineRetries(f *pflag.FlagSet) {
	f.Var(parsed("--retries", "N", &o.retries, atLeast(0)), "retries", "run a call that fails up to N times more")
	f.Var(parsed("--backoff", "TIME[..TIME]", &o.backoff, parseSpan), "backoff", "wait before that, a random time: at first up to the first one, twice as long each time, up to the second (1s..30s)")
	o.retryOn.any = true
	f.Var(parsed("--retry-on", "LIST", &o.retryOn, parseRetryOn), "retry-on", "which failures: any, failed, exit:N, timeout, died, memory (default: any)")
	f.BoolVar(&o.showAttempts, "show-attempts", false, "print the output of failed attempts also of calls that succeed in the end")
}

func (o *options) defineControl(f *pflag.FlagSet) {
	o.defineRetries(f)
	choice(f, &o.flaky, "flaky", "whether calls that succeed at a later attempt let the run pass or fail", "pass", "fail")
	f.Var(parsed("--timeout", "TIME", &o.timeout, parseTimeLimit), "timeout", "end an attempt that takes longer: 30s, 2m, or 300% of the median so far")
	f.Var(parsed("--grace", "TIME", &o.grace, someTime), "grace", "time from SIGTERM to SIGKILL for what is ended (default: 0.5s), and to finish after the first Ctrl-C (default: 10s)")
	f.Var(parsed("--run-timeout", "TIME", &o.runTimeout, someTime), "run-timeout", "end the whole run after this time, with exit code 124")
	f.Var(parsed("--halt", "WHEN", &o.halt, parseHalt), "halt", "end the run early: now or soon, a comma, fail, success or done, =, and N or N% (now,fail=1)")
	f.BoolVar(&o.failFast, "fail-fast", false, "the same as --halt now,fail=1")
	choice(f, &o.exitCode, "exit-code", "of a run with failed calls: 1 (any), their number up to 101 (count), that of the first one or the highest, or as xargs has it", "any", "count", "first", "max", "xargs")
}

func (o *options) defineReports(f *pflag.FlagSet) {
	f.StringVar(&o.joblog, "joblog", "", "log finished calls in this file, in the format of GNU parallel; +FILE appends")
	f.BoolVar(&o.resume, "resume", false, "do not run what --joblog says is done")
	f.BoolVar(&o.resumeFailed, "resume-failed", false, "do not run what --joblog says has succeeded")
	f.StringVar(&o.results, "results", "", "keep what each call prints, and how it ended, in a folder of its own in this one")
	f.StringVar(&o.junit, "junit", "", "write a JUnit report to this file")
	f.StringVar(&o.events, "events", "", "write what happens as JSON lines to this file, or to fd:N, or - for stdout")
}

func (o *options) defineAdmission(f *pflag.FlagSet) {
	f.Var(parsed("--delay", "TIME", &o.delay, duration), "delay", "least time between the beginnings of two calls")
	f.Var(parsed("--rate", "RATE", &o.rate, admit.ParseRate), "rate", "how many calls may begin: 5/s, 300/m, 10/h")
	f.Var(parsed("--load", "LOAD", &o.load, func(text string) (float64, error) { return admit.ParseLoad(text, runtime.NumCPU()) }), "load", "begin no call while the load average is above this: 4, or 80% of the CPUs")
	f.Var(parsed("--memfree", "SIZE", &o.memFree, admit.ParseSize), "memfree", "begin no call while less memory is free: 512M, 2G")
	f.Var(parsed("--max-rss", "SIZE", &o.maxRSS, admit.ParseSize), "max-rss", "end a call that takes more memory, with all that it has started")
	f.Var(parsed("--max-worker-rss", "SIZE", &o.maxWorkerRSS, admit.ParseSize), "max-worker-rss", "replace a worker that takes more memory, when its call has ended")
}

// choice is a flag that is one of some words, the first of which is the default.
func choice(f *pflag.FlagSet, at *string, name, help string, words ...string) {
	*at = words[0]
	s := parsed("--"+name, strings.Join(words, "|"), at, oneOf(words...))
	s.text = words[0]
	f.Var(s, name, help)
}

// shuffle is the value of --shuf.
type shuffle struct {
	on   bool
	seed uint64
}

// newSeed is what stands for a seed that nobody has chosen.
const newSeed = "new"

func (s *shuffle) String() string { return "" }
func (s *shuffle) Type() string   { return "SEED" }

func (s *shuffle) Set(text string) (err error) {
	s.on = true
	if text == newSeed {
		s.seed = uint64(rand.Uint32()) // short enough to be typed
		return nil
	}
	if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
		return &badValue{"--shuf", text, "a seed is a number, as an earlier run has printed it"}
	}
	return nil
}
