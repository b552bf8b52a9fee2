package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/command"
	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/admit"
	"gpool/internal/value"
)

// apply is the verb of one call. Its row holds the arguments of a task, if it is one.
var apply = verb{
	name: "apply", short: "Run COMMAND once, in a worker; its exit code is that of gpool",
	collect: true, order: pool.Ordered, rows: true, single: true,
}

const applyHelp = `apply runs COMMAND in a worker of its own, prints what it prints as it comes, and
exits as it does. COMMAND is run directly, as it is, without a shell: {} has no
meaning in it, nothing is appended to it, and its stdin is empty. -c runs a shell
command line instead, also as it is.

  gpool apply --timeout 10m --retries 2 -- make -C one
  gpool apply -c 'make 2>&1 | tee log'

With --worker PROGRAM --task NAME it runs a task of PROGRAM and prints what that
returns. What stands in the place of COMMAND are then the arguments of PROGRAM;
those of the task are a JSON array, which [x] gives x alone.

  gpool apply --worker python3 --task add --args '[1, 2]' -- worker.py

A separator of items (":::") is taken for a mistake, unless -- stands before
COMMAND: there is one call, and map is for items.

EXIT STATUS
  that of COMMAND; 128+N if signal N ended it; 126 if it cannot be executed, 127
  if it is not there; 1 if a task failed; 124 after --timeout; 137 if its worker
  died or --max-rss was passed; 2 bad usage; 125 gpool itself failed; 128+N
  stopped by signal N`

func newApply(io stdio) *cobra.Command {
	o := applyOptions()
	cmd := &cobra.Command{
		Use:   "apply [flags] [--] COMMAND [ARG...]",
		Short: apply.short,
		Long:  applyHelp,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, apply); err != nil {
				return err
			}
			if err := o.checkCall(cmd, args); err != nil {
				return err
			}
			if apart, err := o.runsApart(io); apart || err != nil {
				return errors.Join(err, o.applyInPool(args, io))
			}
			return ofOneCall(runVerb(apply, o, args, io))
		},
	}
	o.defineApply(sections{cmd: cmd})
	return cmd
}

// applyOptions are the options that have no flag: one call needs no summary, and the exit
// code of the first failure is its own.
func applyOptions() *options {
	return &options{jobs: jobs{"1"}, progress: "never", summary: "never", ci: "never", flaky: "pass", exitCode: "first"}
}

func (o *options) defineApply(s sections) {
	s.list = new([]section)
	f := s.cmd.Flags()
	f.SetInterspersed(false) // parsing stops at COMMAND: its flags are its own
	f.SortFlags = false
	s.add("What runs", func(f *pflag.FlagSet) {
		o.defineCall(f)
		f.StringVar(&o.initializer, "initializer", "", "shell command line, or with --worker a task, run in the worker before the call")
		f.Var(parsed("--nice", "N", &o.nice, atLeast(-40)), "nice", "makes what runs nicer to others by N")
		f.BoolVar(&o.dryRun, "dry-run", false, "print the command, quoted for a shell, or what the task would be given, and run nothing")
	})
	s.add("Where it runs", func(f *pflag.FlagSet) {
		f.StringVar(&o.pool, "pool", "", "by the workers of this background pool, in turn with the calls that others hand it ($GPOOL_POOL has no say)")
	})
	s.add("Failures and limits", o.defineLimits)
	s.add("Output", func(f *pflag.FlagSet) {
		choice(f, &o.format, "format", "the result as it is (raw), or a JSON object (jsonl)", "raw", "jsonl")
	})
	s.cmd.SetUsageFunc(s.usage)
}

// defineCall makes the flags that say what one call is.
func (o *options) defineCall(f *pflag.FlagSet) {
	f.StringVarP(&o.shellLine, "command", "c", "", "run this shell command line, as it is")
	f.StringVar(&o.shell, "shell", "sh", "the shell for -c and --initializer")
	f.StringVar(&o.worker, "worker", "", "run a task of this program, and not a command; needs --task")
	f.StringVar(&o.task, "task", "", "the task of the program of --worker")
	f.StringVar(&o.args, "args", "", "the arguments of the task, a JSON array (without it: null)")
	f.Var(&setter{flag: "--env", kind: "KEY=VALUE", read: o.around.addEnv}, "env", "add this to the environment (repeatable)")
	f.Var(parsed("--chdir", "DIR", &o.around.dir, chdir), "chdir", "run in this directory")
	f.StringVar(&o.name, "name", "", "how messages name the call (default: by what it runs)")
}

// defineLimits makes the flags for the failures and limits of one call.
func (o *options) defineLimits(f *pflag.FlagSet) {
	o.defineRetries(f)
	f.Var(parsed("--timeout", "TIME", &o.timeout.after, someTime), "timeout", "end an attempt that takes longer, with exit code 124: 30s, 2m")
	f.Var(parsed("--grace", "TIME", &o.grace, someTime), "grace", "time from SIGTERM to SIGKILL for what is ended (default: 0.5s)")
	f.Var(parsed("--max-rss", "SIZE", &o.maxRSS, admit.ParseSize), "max-rss", "end a call that takes more memory, with all that it has started")
}

// checkCall finds what is wrong with the call itself.
func (o *options) checkCall(cmd *cobra.Command, args []string) error {
	if !o.tasks && o.shellLine == "" && len(args) == 0 {
		return errors.New("there is no command to run: name it, or give a shell command line with -c")
	}
	if err := checkSeparators(cmd, args); err != nil {
		return err
	}
	if err := o.checkPool(cmd.Flags().Changed); err != nil {
		return err
	}
	return o.checkArgs(cmd.Flags().Changed("args"))
}

// checkSeparators takes the separators of items for a mistake, where there is one call.
func checkSeparators(cmd *cobra.Command, args []string) error {
	if _, groups, err := input.SplitArgs(args); (groups != nil || err != nil) && cmd.ArgsLenAtDash() != 0 {
		return errors.New("::: begins the items of many calls, and this is one: use map; or write -- before COMMAND if it is a word of it")
	}
	return nil
}

// checkArgs finds what is wrong with the arguments of a task.
func (o *options) checkArgs(given bool) error {
	o.jsonl = given
	switch {
	case !given:
		return nil
	case !o.tasks:
		return errors.New("--args: they are those of a task (--worker and --task); those of a COMMAND follow it")
	case !isArray(o.args):
		return &badValue{"--args", o.args, "a JSON array is needed, such as [1, \"two\"]"}
	}
	if _, err := value.FromJSON([]byte(o.args)); err != nil {
		return fmt.Errorf("--args: %w", err)
	}
	return nil
}

// row is that of the only call.
func (o *options) row() input.Row {
	if !o.jsonl {
		return input.Row{}
	}
	return input.Row{Row: command.Row{Columns: []string{o.args}}}
}

// callName is how messages name the only call, unless the user has said it: by what it runs.
func (o *options) callName(words []string) string {
	switch {
	case o.name != "":
		return printable(o.name)
	case o.tasks:
		return printable(o.task)
	case o.shellLine != "":
		return shown([]string{o.shellLine})
	}
	return shown(words)
}

// exitOwn is the exit code when gpool itself has failed, as env, nohup and timeout have it:
// 3 may be that of COMMAND.
const exitOwn = 125

// ofOneCall makes the exit code of a run that of its one call: what is not there, or cannot
// be executed, has the codes that shells give it. A failure of gpool has an error; that of a
// call has none, whatever its code.
func ofOneCall(err error) error {
	if program, ok := errors.AsType[*programError](err); ok {
		return &exitError{program.exitCode(), err}
	}
	if exit, ok := errors.AsType[*exitError](err); ok && exit.code == exitPool && exit.err != nil {
		return &exitError{exitOwn, exit.err}
	}
	return err
}
