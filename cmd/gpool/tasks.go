package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gpool/internal/command"
	"gpool/internal/ipc"
	"gpool/internal/pool"
)

// helloLimit is how long gpool tasks waits for a program: somebody sits and waits, too.
const helloLimit = 10 * time.Second

// listing is one execution of gpool tasks.
type listing struct {
	worker string
	format string
	words  []string // the arguments of the program
	stdio  stdio
}

func newTasks(io stdio) *cobra.Command {
	l := &listing{stdio: io}
	cmd := &cobra.Command{
		Use:   "tasks --worker PROGRAM [flags] [--] [ARG...]",
		Short: "List the tasks that a worker program offers",
		Long: `tasks starts PROGRAM with its ARGs as a worker, and lists the tasks that it
offers for --task, with the types of their arguments and results as the program
words them.

EXIT STATUS
  0 the tasks are listed; 2 bad usage; 3 PROGRAM does not work as a worker;
  128+N stopped by signal N`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			l.words = args
			return l.run()
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // parsing stops at the first ARG: its flags are the program's
	f.SortFlags = false
	f.StringVar(&l.worker, "worker", "", "the program (required)")
	f.StringVar(&l.format, "format", "raw", "a table for people (raw), or a JSON object for each task (jsonl)")
	return cmd
}

func (l *listing) run() error {
	if l.format != "raw" && l.format != "jsonl" {
		return fmt.Errorf("--format %q: it is raw or jsonl", l.format)
	}
	if l.worker == "" {
		hint := "PROGRAM"
		if len(l.words) > 0 {
			hint = command.QuoteArgv(append([]string{l.words[0], "--"}, l.words[1:]...))
		}
		return fmt.Errorf("the program is missing: gpool tasks --worker %s", hint)
	}
	p, err := findProgram(l.worker, l.words, surroundings{})
	if err != nil {
		return err
	}
	hello, err := l.ask(p)
	if err != nil {
		return err
	}
	if len(hello.Tasks) == 0 {
		fmt.Fprintf(l.stdio.err, "gpool: %s offers no tasks\n", p)
	}
	if err := l.print(offersOf(hello)); err != nil {
		return outputError(err)
	}
	return nil
}

// ask starts one worker and returns what it says first. The first failure is the
// answer: the pool would try again.
func (l *listing) ask(p *userProgram) (*ipc.Hello, error) {
	helloC, lostC := make(chan *ipc.Hello, 1), make(chan error, 1)
	workers, err := pool.New(pool.Config{
		Workers: 1, Eager: true, Launcher: p.launcher(0), StartLimit: helloLimit, Stderr: lenient{l.stdio.err},
		OnEvent: func(e pool.Event) {
			switch e.Kind {
			case pool.WorkerStarted:
				put(helloC, e.Hello)
			case pool.WorkerLost:
				put(lostC, e.Err)
			}
		},
	})
	if err != nil {
		return nil, &exitError{exitPool, err}
	}
	defer workers.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if err := workers.Started(ctx); err != nil { // no process could be made
			put(lostC, err)
		}
	}()
	signalC := make(chan os.Signal, 1)
	signal.Notify(signalC, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signalC)
	select {
	case hello := <-helloC:
		return hello, nil
	case err := <-lostC:
		workers.Stop(pool.Kill)
		return nil, &exitError{exitPool, p.failure(err)}
	case sig := <-signalC:
		workers.Stop(pool.Kill)
		return nil, &exitError{code: exitSignal + int(sig.(syscall.Signal))}
	}
}

// put keeps the first of what is put into c, which has room for one, and never waits.
func put[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// offer is one line of the list.
type offer struct {
	Task      string `json:"task"`
	Signature string `json:"signature,omitempty"`
}

func offersOf(hello *ipc.Hello) []offer {
	list := make([]offer, len(hello.Tasks))
	for i, name := range hello.Tasks {
		list[i].Task = name
		if i < len(hello.Signatures) {
			list[i].Signature = hello.Signatures[i]
		}
	}
	slices.SortFunc(list, func(a, b offer) int { return cmp.Compare(a.Task, b.Task) })
	return list
}

func (l *listing) print(list []offer) error {
	out := bufio.NewWriter(l.stdio.out)
	if l.format == "jsonl" {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for _, o := range list {
			if err := encoder.Encode(o); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, o := range list {
		line := printable(o.Task)
		if o.Signature != "" {
			line += "\t" + printable(o.Signature)
		}
		fmt.Fprintln(table, line)
	}
	return errors.Join(table.Flush(), out.Flush())
}
