package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/command"
	"gpool/internal/pool/admit"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/value"
)

// callOptions say what one call is, and how it is run: by flags, or the keys of a line.
type callOptions struct {
	argv          []string // COMMAND and its arguments
	shellLine     string
	worker        []string // the program of a task, and its arguments
	task          string
	args          string // of the task, as JSON; empty is none
	shell         string
	name          string
	around        surroundings
	timeout       time.Duration
	retries       int
	backoff       span
	retryOn       retryOn
	callback      string
	errorCallback string
	keep          bool
}

// async is one execution of apply-async.
type async struct {
	clients *clients
	call    callOptions
	worker  string
	jsonl   bool
	files   []string
}

const asyncHelp = `apply-async hands one call to a pool in the background, prints its id, and ends
at once. The pool is started if it does not run. The call runs in this directory
and with this environment, unless --chdir and --env say otherwise.

  id=$(gpool apply-async -- make -C one)
  gpool get "$id"            # waits; its stdout, stderr and exit code

COMMAND is run as it is, without a shell; -c runs a shell command line instead.
With --worker PROGRAM --task NAME the call is a task of PROGRAM, whose arguments
stand in the place of COMMAND, and is given the values of --args.

The shell command lines of --callback and --error-callback run in the background
when the call has ended. Their stdin is what it has printed; GPOOL_ID, GPOOL_EXIT
and others say how it has ended.

With --jsonl each line of stdin is an object: {"argv": ["make", "-C", "one"]} or
{"command": "make -C one | tail"} or {"task": "resize", "args": ["a.png"],
"worker": ["./program"]}, with any of name, env, chdir, timeout, retries, backoff,
retry_on, callback, error_callback and keep. Flags are what holds for lines that do not say it. The
ids are printed in the order of the lines; for a line that is no call, which is
reported and passed over, an empty line stands among them.

EXIT STATUS
  0 handed in; 2 bad usage or input (with --jsonl: of at least one line); 3 gpool
  itself failed; 126 or 127 COMMAND cannot be run or was not found; 128+N stopped
  by signal N`

func newApplyAsync(io stdio) *cobra.Command {
	return (&async{clients: newClients(exitPool, io)}).command()
}

func (a *async) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "apply-async [flags] [--] COMMAND [ARG...]",
		Aliases: []string{"apply_async"},
		Short:   "Hand one call to a pool in the background, and print its id",
		Long:    asyncHelp,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := checkSeparators(cmd, words); err != nil {
				return err
			}
			if err := a.check(cmd.Flags().Changed, words); err != nil {
				return err
			}
			return a.clients.run(a.handIn)
		},
	}
	s := sections{cmd: cmd, list: new([]section)}
	cmd.Flags().SetInterspersed(false) // parsing stops at COMMAND: its flags are its own
	cmd.Flags().SortFlags = false
	s.add("What runs", a.defineWork)
	s.add("Failures and time limits", a.defineControl)
	s.add("Results", a.defineResults)
	s.add("Pool", a.clients.definePool)
	cmd.SetUsageFunc(s.usage)
	return cmd
}

func (a *async) defineWork(f *pflag.FlagSet) {
	c := &a.call
	f.StringVarP(&c.shellLine, "command", "c", "", "run this shell command line")
	f.StringVar(&c.shell, "shell", "sh", "the shell for -c and callbacks")
	f.StringVar(&a.worker, "worker", "", "run a task of this program, and not a command; needs --task")
	f.StringVar(&c.task, "task", "", "the task of the program of --worker")
	f.StringVar(&c.args, "args", "", "what the task is given: a JSON array of its arguments; [x] is x alone (without it: null)")
	f.StringVar(&c.name, "name", "", "what people call it, in status and messages")
	f.Var(&setter{flag: "--env", kind: "KEY=VALUE", read: c.around.addEnv}, "env", "add this to its environment (repeatable)")
	f.Var(parsed("--chdir", "DIR", &c.around.dir, chdir), "chdir", "run it in this directory")
	f.BoolVar(&a.jsonl, "jsonl", false, "hand in one call for each line of stdin, which is a JSON object")
	f.StringArrayVarP(&a.files, "arg-file", "a", nil, "with --jsonl: read this file instead of stdin (repeatable; - is stdin)")
}

func (a *async) defineControl(f *pflag.FlagSet) {
	c := &a.call
	f.Var(parsed("--timeout", "TIME", &c.timeout, someTime), "timeout", "end an attempt that takes longer")
	f.Var(parsed("--retries", "N", &c.retries, atLeast(0)), "retries", "run it up to N times more if it fails")
	f.Var(parsed("--backoff", "TIME[..TIME]", &c.backoff, parseSpan), "backoff", "wait before that, a random time: at first up to the first one, twice as long each time, up to the second (1s..30s)")
	c.retryOn.any = true
	f.Var(parsed("--retry-on", "LIST", &c.retryOn, parseRetryOn), "retry-on", "which failures: any, failed, exit:N, timeout, died, memory (default: any)")
}

func (a *async) defineResults(f *pflag.FlagSet) {
	c := &a.call
	f.StringVar(&c.callback, "callback", "", "shell command line that is run when it has succeeded")
	f.StringVar(&c.errorCallback, "error-callback", "", "shell command line that is run when it has not")
	f.BoolVar(&c.keep, "keep", false, "keep its result when it was fetched, until it is too old")
}

// check finds what is wrong with the command line by itself.
func (a *async) check(given func(string) bool, words []string) error {
	c := &a.call
	if given("worker") {
		c.worker = append([]string{a.worker}, words...)
	} else if len(words) > 0 {
		c.argv = words
	}
	if given("command") && strings.TrimSpace(c.shellLine) == "" {
		return errors.New("-c: the command line is empty")
	}
	if err := a.checkKind(given); err != nil {
		return err
	}
	for _, name := range []string{"backoff", "retry-on"} {
		if given(name) && c.retries == 0 && !a.jsonl {
			return fmt.Errorf("--%s: say with --retries how many times the call may be run again", name)
		}
	}
	if len(a.files) > 0 && !a.jsonl {
		return errors.New("-a: only --jsonl reads calls from files")
	}
	return nil
}

// checkKind finds command lines that name no call, or two.
func (a *async) checkKind(given func(string) bool) error {
	c := &a.call
	switch {
	case a.jsonl && (c.argv != nil || given("command")):
		return errors.New("--jsonl: the lines say what runs; leave COMMAND and -c out")
	case a.jsonl:
		return nil
	case c.argv != nil && given("command"):
		return fmt.Errorf("-c and COMMAND (%s) exclude each other: quote the whole command line after -c", command.Quote(c.argv[0]))
	case given("worker") && given("command"):
		return errors.New("-c and --worker exclude each other: a task is no command line; arguments of the program of --worker follow the flags")
	case given("worker") && c.task == "":
		return fmt.Errorf("--worker %s: say with --task which of its tasks to run; gpool tasks lists them", command.Quote(a.worker))
	case !given("worker") && (given("task") || given("args")):
		return errors.New("--task and --args: say with --worker which program has the task")
	case c.argv == nil && !given("worker") && !given("command"):
		return errors.New("the command is missing: gpool apply-async -- COMMAND [ARG...]")
	}
	return nil
}

// handIn does what the command line says.
func (a *async) handIn() error {
	l, err := a.clients.link(a.clients.name(), "--reopen")
	if err != nil {
		return err
	}
	l.always = true
	b, err := newBuilder(os.Environ(), a.call.around.dir)
	if err != nil {
		return err
	}
	if a.jsonl {
		return a.handInLines(l, b)
	}
	call, err := b.build(&a.call)
	if err != nil {
		return buildError(err)
	}
	if err := l.ready(context.Background()); err != nil {
		return err
	}
	a.clients.busy.Lock()
	defer a.clients.busy.Unlock()
	ids, err := submit(l, wire.Submission{Context: b.context, Calls: []wire.Call{call}})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.clients.io.out)
	fmt.Fprintln(out, ids[0])
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print the id of the call %s, which was handed in: %w", ids[0], err)
	}
	return nil
}

// submit hands calls in and returns their ids.
func submit(l *link, s wire.Submission) ([]string, error) {
	refused := func(err error) bool { return faultOf(err) == wire.FaultEnded } // it has taken nothing
	accepted, err := askWhile(context.Background(), l, wire.Submit, s, refused)
	switch {
	case errors.Is(err, wire.ErrServerGone):
		return nil, fmt.Errorf("the server of the pool %q ended before it said whether it takes what was handed in: "+
			"gpool pool status --calls tells whether it did (%w)", l.place.Name, err)
	case err == nil && len(accepted.IDs) != len(s.Calls):
		err = fmt.Errorf("the server of the pool %q has answered with %d ids for %d calls", l.place.Name, len(accepted.IDs), len(s.Calls))
	}
	return accepted.IDs, err
}

// buildError gives the error of a call that is none its exit code: for programs that cannot be run
// that of shells.
func buildError(err error) error {
	if program, ok := errors.AsType[*programError](err); ok {
		return &exitError{program.exitCode(), err}
	}
	return &exitError{exitUsage, err}
}

// builder turns options into calls: it finds their programs. One goroutine uses it.
type builder struct {
	context wire.Context
	found   map[string]string // programs, by what was looked for
}

// foundMost bounds what is remembered of a stream of different programs.
const foundMost = 1000

// newBuilder makes one; chdir is where calls run that do not say it, or empty.
func newBuilder(environ []string, chdir string) (*builder, error) {
	dir, err := os.Getwd()
	if err != nil && chdir != "" {
		dir, err = chdir, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the directory in which calls will run: %w; --chdir in another one helps", err)
	}
	return &builder{context: wire.Context{Dir: dir, Env: ownEnv(environ)}, found: map[string]string{}}, nil
}

// ownEnv is an environment without what tells of the call that we run in, if we do: a call that is
// handed in from there is another one.
func ownEnv(environ []string) []string {
	own := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		return slices.Contains(callVariables, key)
	})
	for i, pair := range own {
		if flags, ok := strings.CutPrefix(pair, makeFlags+"="); ok {
			own[i] = makeFlags + "=" + admit.WithoutJobserver(flags)
		}
	}
	return own
}

// callVariables are those of a call, and of its callback.
var callVariables = []string{
	idVariable, "GPOOL_SEQ", "GPOOL_SLOT", "GPOOL_ATTEMPT", "PARALLEL_SEQ", "PARALLEL_JOBSLOT", "GPOOL_STDOUT", "GPOOL_STDERR",
	"GPOOL_EXIT", "GPOOL_STATUS", "GPOOL_ERROR", "GPOOL_NAME", "GPOOL_START", "GPOOL_END",
}

// build makes a call of what was asked for, or says what is wrong with it.
func (b *builder) build(o *callOptions) (c wire.Call, err error) {
	c = wire.Call{
		Name: o.name, Dir: o.around.dir, Env: lastOfEach(o.around.env), Timeout: o.timeout, Retries: o.retries, MinWait: o.backoff.from, MaxWait: o.backoff.to,
		RetryOn: o.retryOn.message(), Callback: o.callback, ErrorCallback: o.errorCallback, Keep: o.keep,
	}
	if o.callback != "" || o.errorCallback != "" {
		if c.Shell, err = b.program("--shell", o.shell, surroundings{}); err != nil {
			return c, err
		}
	}
	if err := b.work(&c, o); err != nil {
		return c, err
	}
	return c, checkNULs(&c)
}

// work sets what the call runs.
func (b *builder) work(c *wire.Call, o *callOptions) (err error) {
	what := "COMMAND"
	switch {
	case o.task != "" && len(o.worker) == 0:
		return fmt.Errorf("the task %s: say with --worker, or the key \"worker\", which program has it", printable(o.task))
	case o.task != "":
		what, c.Argv, c.Task = "--worker", o.worker, o.task
		if c.Args, err = taskArgs(o.args); err != nil {
			return err
		}
		if c.Text, err = taskText(o.task, c.Args); err != nil {
			return err
		}
	case o.shellLine != "":
		c.Argv = []string{o.shell, "-c", o.shellLine}
		c.Text = o.shellLine
		if o.shell != "sh" {
			c.Text = command.QuoteArgv(c.Argv)
		}
	default:
		c.Argv = o.argv
		c.Text = command.QuoteArgv(c.Argv)
	}
	c.Path, err = b.program(what, c.Argv[0], o.around)
	return err
}

// taskArgs is the one value that a task is given: an argument alone is the value.
func taskArgs(text string) ([]byte, error) {
	if text == "" {
		return []byte{value.Nil}, nil
	}
	args, err := value.FromJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("the arguments of the task: %w", err)
	}
	elements, err := value.Elements(args)
	if err != nil || !isArray(text) {
		return nil, fmt.Errorf("the arguments of the task: a JSON array is needed, such as [1, \"two\"], and not %s", shorten([]string{text})[0])
	}
	if len(elements) == 1 {
		return slices.Clone(elements[0]), nil
	}
	return args, nil
}

func taskText(name string, args []byte) (string, error) {
	text, err := value.AppendJSON([]byte(name+" "), args)
	return string(text), err
}

// program finds what will be executed there, as an absolute path: the server's directory is another.
// What was found before is still there, or its call fails: streams of calls name the same program
// again and again.
func (b *builder) program(what, name string, around surroundings) (string, error) {
	if around.dir == "" {
		around.dir = b.context.Dir
	}
	key := name
	if strings.Contains(name, "/") {
		key = around.from(name)
	}
	_, otherPath := around.value("PATH")
	if path, ok := b.found[key]; ok && !otherPath {
		return path, nil
	}
	path, err := around.program(what, name)
	if err != nil {
		return "", err
	}
	path = around.from(path)
	if !otherPath {
		if len(b.found) >= foundMost {
			clear(b.found)
		}
		b.found[key] = path
	}
	return path, nil
}

// message is what the server is told of --retry-on.
func (r *retryOn) message() wire.RetryOn {
	return wire.RetryOn{
		Any: r.any, Failed: r.failed, Timeout: r.timeout, Died: r.died, Memory: r.memory,
		Codes: slices.Sorted(maps.Keys(r.codes)),
	}
}

// lastOfEach leaves the last setting of each variable.
func lastOfEach(pairs []string) []string {
	var kept []string
	at := map[string]int{}
	for _, pair := range pairs {
		key, _, _ := strings.Cut(pair, "=")
		if i, ok := at[key]; ok {
			kept[i] = pair
			continue
		}
		at[key] = len(kept)
		kept = append(kept, pair)
	}
	return kept
}

// checkNULs refuses what no program can be given.
func checkNULs(c *wire.Call) error {
	texts := slices.Concat(c.Argv, c.Env, []string{c.Dir, c.Name, c.Task, c.Callback, c.ErrorCallback})
	if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "\x00") }) {
		return errors.New("a NUL byte is in it, which no program can be given")
	}
	return nil
}
