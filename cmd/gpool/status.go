package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gpool/internal/pool/daemon/wire"
)

// status is one execution of gpool pool status.
type status struct {
	clients *clients
	json    bool
	calls   bool
}

const statusHelp = `status describes a pool: its workers, what they run, and how many calls wait, run
and have ended. --json prints one object, with times as seconds since 1970,
durations in seconds and sizes in bytes.

EXIT STATUS
  0 the pool is described; 1 no such pool runs, and none has left results or calls
  behind; 2 bad usage; 3 gpool itself failed; 128+N stopped by signal N`

func newStatus(io stdio) *cobra.Command {
	s := &status{clients: newClients(exitPool, io)}
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Describe a pool, its workers and its calls",
		Long:  statusHelp,
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return s.clients.run(func() error { return s.clients.withPool(s.run) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&s.json, "json", false, "print one JSON object")
	f.BoolVar(&s.calls, "calls", false, "list the calls, too")
	s.clients.definePool(f)
	return cmd
}

func (s *status) run(c *clients, l *link) error {
	ctx := context.Background()
	told, err := ask(ctx, l, wire.Tell, wire.Telling{Calls: s.calls})
	if _, none := errors.AsType[*noPoolError](err); none {
		return &exitError{exitFailed, err}
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.io.out)
	if s.json {
		err = json.NewEncoder(out).Encode(newStatusObject(&told, s.calls))
	} else {
		printStatus(out, &told, s.names(ctx, l, &told), time.Now())
	}
	if err := errors.Join(err, out.Flush()); err != nil {
		return outputError(err)
	}
	return nil
}

// namesMost is how many calls that run are named: each of them costs a question.
const namesMost = 100

// names says what workers run, by ids, as far as it is easily known.
func (s *status) names(ctx context.Context, l *link, told *wire.Status) map[string]string {
	names := map[string]string{}
	for i := range told.Calls {
		c := &told.Calls[i]
		names[c.ID] = cmp.Or(c.Name, c.Text)
	}
	for _, w := range told.Workers {
		if _, known := names[w.ID]; w.ID == "" || known || len(names) >= namesMost {
			continue
		}
		if info, err := askOnce(ctx, l, wire.Look, wire.Lookup{ID: w.ID}); err == nil { // it may have ended
			names[w.ID] = cmp.Or(info.Name, info.Text)
		}
	}
	return names
}

// printStatus prints the tables for people.
func printStatus(w io.Writer, s *wire.Status, names map[string]string, now time.Time) {
	closed := ""
	if s.Closed {
		closed = ", closed"
	}
	fmt.Fprintf(w, "pool %s: %s, pid %d, since %s (%s)%s\n", s.Pool, count(int64(s.Slots), "worker"), s.Pid,
		s.Started.Local().Format("2006-01-02 15:04:05"), age(now.Sub(s.Started)), closed)
	fmt.Fprintf(w, "calls: %d waiting, %d running, %s, %d done, %d of them failed\n",
		s.Waiting, s.Running, count(int64(s.Calling), "callback"), s.Done, s.Failed)
	limit := ""
	if s.Limit > 0 {
		limit = " of " + size(s.Limit)
	}
	fmt.Fprintf(w, "results: %d to fetch; %s kept%s\n", s.Kept, size(s.Bytes), limit)
	if s.Unsaved {
		fmt.Fprintf(w, "warning: the journal cannot be written in %s, so no call begins; is the disk full?\n", printable(s.Spool))
	}
	if s.Broken != "" {
		fmt.Fprintf(w, "warning: part of the journal was damaged, and is kept in %s; calls and results may be missing\n", printable(s.Broken))
	}
	printWorkers(w, s.Workers, names)
	for _, who := range s.Leased {
		fmt.Fprintf(w, "leased: %s\n", brief(who))
	}
	for _, who := range s.Leasing {
		fmt.Fprintf(w, "waits for a slot: %s\n", brief(who))
	}
	if len(s.Calls) > 0 {
		printCalls(w, s.Calls, now)
	}
}

// brief is one line of what others may have written.
func brief(text string) string { return printable(shorten([]string{text})[0]) }

// printWorkers prints a table of workers, if there are any: they start when they are needed.
func printWorkers(w io.Writer, workers []wire.Worker, names map[string]string) {
	if len(workers) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nSLOT\tSTATE\tPID\tAGE\tCALLS\tMEMORY\tRUNS")
	for i := range workers {
		k := &workers[i]
		runs := ""
		if k.ID != "" {
			runs = fmt.Sprintf("%s (%s) %s", k.ID, age(k.Busy), brief(names[k.ID]))
		} else if k.Callbacks {
			runs = "callbacks"
		} else if k.Program != "" {
			runs = "tasks of " + brief(k.Program)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%d\t%s\t%s\n", k.Slot, k.State, k.Pid, age(k.Age), k.Done, size(k.Memory), runs)
	}
	t.Flush() // what w is keeps its first error
}

func printCalls(w io.Writer, calls []wire.Info, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nID\tSTATE\tAGE\tEXIT\tCALL")
	for i := range calls {
		c := &calls[i]
		exit := "-"
		if c.Result.Outcome != "" && c.Result.Exit >= 0 {
			exit = strconv.Itoa(c.Result.Exit)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.ID, stateOf(c), age(now.Sub(c.Accepted)), exit, brief(cmp.Or(c.Name, c.Text)))
	}
	t.Flush()
}

// stateOf is where a call is in its life, and how it has ended.
func stateOf(c *wire.Info) string {
	if c.State == wire.Done && c.Result.Outcome != "" {
		return string(c.Result.Outcome)
	}
	return string(c.State)
}

// age is a time for people, with as much of it as matters.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 24*time.Hour:
		return d.Round(time.Second).String()
	}
	hours := d.Round(time.Hour) / time.Hour
	return fmt.Sprintf("%dd%dh", hours/24, hours%24)
}

// size is a number of bytes for people.
func size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + "B"
	}
	value, unit := float64(n), -1
	for value >= 1024 {
		value, unit = value/1024, unit+1
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + string("KMGTPE"[unit])
}

// statusObject is what --json prints.
type statusObject struct {
	Pool       string         `json:"pool"`
	Pid        int            `json:"pid"`
	Version    string         `json:"version"`
	Started    float64        `json:"started"`
	Slots      int            `json:"slots"`
	Closed     bool           `json:"closed"`
	Waiting    int            `json:"waiting"`
	Running    int            `json:"running"`
	Callbacks  int            `json:"callbacks"`
	Done       int            `json:"done"`
	Failed     int            `json:"failed"`
	Kept       int            `json:"kept"`
	Spool      string         `json:"spool"`
	Unsaved    bool           `json:"journal_stuck,omitempty"`  // it cannot be written, and so no call begins
	Broken     string         `json:"journal_broken,omitempty"` // a file with what could not be read of it
	SpoolBytes int64          `json:"spool_bytes"`
	SpoolLimit int64          `json:"spool_limit"`
	Workers    []workerObject `json:"workers"`
	Leased     []string       `json:"leased"`
	Leasing    []string       `json:"leasing"`        // runs that wait for a slot
	Calls      []callObject   `json:"calls,omitzero"` // with --calls
}

type workerObject struct {
	Slot      int     `json:"slot"`
	State     string  `json:"state"`
	Pid       int     `json:"pid"`
	Program   string  `json:"program,omitempty"`   // of tasks
	Callbacks bool    `json:"callbacks,omitempty"` // it runs those, and takes no slot of the pool
	Age       float64 `json:"age"`
	Done      uint64  `json:"calls_done"`
	Memory    int64   `json:"memory"`
	ID        string  `json:"id,omitempty"`   // of the call that it runs
	Busy      float64 `json:"busy,omitempty"` // with that call
}

func newStatusObject(s *wire.Status, calls bool) statusObject {
	o := statusObject{
		Pool: s.Pool, Pid: s.Pid, Version: s.Version, Started: unixSeconds(s.Started), Slots: s.Slots, Closed: s.Closed,
		Waiting: s.Waiting, Running: s.Running, Callbacks: s.Calling, Done: s.Done, Failed: s.Failed, Kept: s.Kept,
		Spool: s.Spool, Broken: s.Broken, Unsaved: s.Unsaved, SpoolBytes: s.Bytes, SpoolLimit: s.Limit, Workers: []workerObject{}, Leased: append([]string{}, s.Leased...), Leasing: append([]string{}, s.Leasing...),
	}
	for i := range s.Workers {
		w := &s.Workers[i]
		o.Workers = append(o.Workers, workerObject{
			Slot: w.Slot, State: w.State, Pid: w.Pid, Program: w.Program, Age: w.Age.Seconds(), Done: w.Done, Memory: w.Memory,
			ID: w.ID, Busy: w.Busy.Seconds(), Callbacks: w.Callbacks,
		})
	}
	if calls {
		o.Calls = []callObject{}
		for i := range s.Calls {
			o.Calls = append(o.Calls, newCallObject(&s.Calls[i]))
		}
	}
	return o
}
