package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"gpool/internal/pool/daemon/wire"
)

// wait is one execution of gpool wait.
type wait struct {
	clients  *clients
	patience patience
	any      bool
}

const waitHelp = `wait waits until the calls have ended, and their callbacks; without IDs until all
calls of the pool have. It names those that have not succeeded on stderr. Their
results stay, for gpool get. The calls go on if it is interrupted.

EXIT STATUS
  0      all of them have succeeded, or there were none; --any: one has ended
  1      at least one has not; --any: there is none, but those that were fetched
  124    they have not all ended within --timeout
  125    gpool cannot say: an ID is unknown, or its pool has ended
  128+N  stopped by signal N; 2 bad usage`

func newWait(io stdio) *cobra.Command {
	w := &wait{clients: newClients(exitOwn, io)}
	cmd := &cobra.Command{
		Use:   "wait [flags] [ID...]",
		Short: "Wait until calls of a background pool have ended",
		Long:  waitHelp,
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, ids []string) error {
			return w.clients.run(func() error { return w.run(ids) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	w.patience.define(f)
	f.BoolVar(&w.any, "any", false, "wait for the first one that ends, and print its ID; exit code 1 if there is none")
	w.clients.definePool(f)
	return cmd
}

func (w *wait) run(ids []string) error {
	groups, err := w.groups(ids)
	if err != nil {
		return err
	}
	all, err := w.await(groups)
	_, none := errors.AsType[*noPoolError](err)
	switch {
	case none && len(ids) == 0: // all that the pool has is nothing
		fmt.Fprintf(w.clients.io.err, "gpool wait: %v\n", err)
		if w.any {
			return &exitError{code: exitFailed}
		}
		return nil
	case err != nil && len(ids) > 0:
		return explainOf(ids[0], err)
	case err != nil:
		return err
	case w.any:
		return w.first(&all)
	}
	return w.verdict(&all)
}

// group is calls of one pool.
type group struct {
	link *link
	ids  []string // none are all
}

// groups sorts ids by their pools.
func (w *wait) groups(ids []string) ([]*group, error) {
	if len(ids) == 0 {
		l, err := w.clients.link(w.clients.name())
		return []*group{{link: l}}, err
	}
	var list []*group
	for _, id := range ids {
		l, err := w.clients.owner(id)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(list, func(g *group) bool { return g.link == l })
		if at < 0 {
			at, list = len(list), append(list, &group{link: l})
		}
		list[at].ids = append(list[at].ids, id)
	}
	return list, nil
}

// await asks all pools at once, and puts their answers together. With --any the first answer is
// the only one.
func (w *wait) await(groups []*group) (sum wire.Awaited, err error) {
	type answer struct {
		wire.Awaited
		err error
	}
	ctx, cancel := w.patience.context()
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel() // of those whose answers are not needed any more
	answerC := make(chan answer, len(groups))
	for _, g := range groups {
		asking.Go(func() {
			a, err := ask(ctx, g.link, wire.Await, wire.Awaiting{IDs: g.ids, Any: w.any, Until: w.patience.until, Within: os.Getenv(idVariable)})
			if err != nil && ctx.Err() == context.DeadlineExceeded {
				err = &exitError{exitLate, fmt.Errorf("the server of the pool %q has not answered within %v", g.link.place.Name, w.patience.most)}
			}
			answerC <- answer{a, err}
		})
	}
	for range groups {
		a := <-answerC
		if a.err != nil {
			return sum, a.err
		}
		sum.Done += a.Done
		sum.Failed += a.Failed
		sum.Pending += a.Pending
		sum.Failures = append(sum.Failures, a.Failures...)
		sum.Remarks = append(sum.Remarks, a.Remarks...)
		sum.Open = append(sum.Open, a.Open...)
		if w.any && a.First.ID != "" {
			sum.First = a.First
			return sum, nil
		}
	}
	return sum, nil
}

// first prints which call has ended first.
func (w *wait) first(all *wire.Awaited) error {
	switch {
	case all.First.ID == "" && all.Pending == 0:
		return &exitError{code: exitFailed} // there is none
	case all.First.ID == "":
		return w.late(all)
	}
	if _, err := fmt.Fprintln(w.clients.io.out, all.First.ID); err != nil {
		return outputError(err)
	}
	return nil
}

// failuresNamed is how many failures are named.
const failuresNamed = 20

// verdict names what has failed.
func (w *wait) verdict(all *wire.Awaited) error {
	named := min(len(all.Failures), failuresNamed)
	for i := range named {
		w.name(&all.Failures[i])
	}
	for i := range min(len(all.Remarks), failuresNamed) {
		w.name(&all.Remarks[i])
	}
	if more := all.Failed - named; more > 0 {
		fmt.Fprintf(w.clients.io.err, "gpool wait: %s more failed\n", count(int64(more), "call"))
	}
	switch {
	case all.Pending > 0:
		return w.late(all)
	case all.Failed > 0:
		return &exitError{code: exitFailed}
	}
	return nil
}

func (w *wait) name(i *wire.Info) {
	if i.Result.Outcome != wire.Succeeded {
		fmt.Fprintf(w.clients.io.err, "gpool wait: %s: %s\n", title(i), verdictOf(&i.Result))
	}
	if i.Result.Callback != "" {
		fmt.Fprintf(w.clients.io.err, "gpool wait: %s: its callback: %s\n", title(i), printable(i.Result.Callback))
	}
}

func (w *wait) late(all *wire.Awaited) error {
	have := "have"
	if all.Pending == 1 {
		have = "has"
	}
	var open []string
	for i := range all.Open {
		open = append(open, title(&all.Open[i]))
	}
	if all.Pending > len(open) {
		open = append(open, "...")
	}
	return &exitError{exitLate, fmt.Errorf("%s %s not ended within %v: %s", count(int64(all.Pending), "call"), have, w.patience.most, strings.Join(open, ", "))}
}

func newReady(io stdio) *cobra.Command {
	c := newClients(exitOwn, io)
	cmd := &cobra.Command{
		Use:   "ready ID",
		Short: "Tell by the exit code whether a call of a background pool has ended",
		Long: `ready tells whether the call has ended, and its callback, without waiting.

EXIT STATUS
  0 it has ended; 1 it has not; 125 gpool cannot say: the ID is unknown, or its
  pool has ended; 2 bad usage`,
		Args: func(cmd *cobra.Command, ids []string) error {
			if len(ids) > 1 {
				return fmt.Errorf("ready is about one call, and not about %d: gpool wait --timeout 0 takes many", len(ids))
			}
			return needIDs(cmd, ids)
		},
		RunE: func(_ *cobra.Command, ids []string) error {
			return c.run(func() error {
				info, err := askOf(context.Background(), c, ids[0], wire.Look, wire.Lookup{ID: ids[0]})
				if err == nil && info.State != wire.Done {
					err = &exitError{code: exitFailed}
				}
				return err
			})
		},
	}
	c.definePool(cmd.Flags())
	return cmd
}

func newCancel(io stdio) *cobra.Command {
	c := newClients(exitOwn, io)
	cmd := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Give calls of a background pool up",
		Long: `cancel drops calls that wait. Those that run are asked to end (SIGTERM), and
killed when the grace of the pool has passed. It does not wait for that. Of a
call that has ended it gives the callback up, if that runs.

EXIT STATUS
  0 they were given up; 1 at least one had ended before; 125 gpool cannot do it:
  an ID is unknown, or its pool has ended; 2 bad usage; 128+N stopped by signal N`,
		Args: needIDs,
		RunE: func(_ *cobra.Command, ids []string) error {
			return c.run(func() error { return cancelAll(c, ids) })
		},
	}
	c.definePool(cmd.Flags())
	return cmd
}

// cancelAll gives all of the calls up that it can. The first error is told last.
func cancelAll(c *clients, ids []string) error {
	var ended []string
	var failed error
	for _, id := range ids {
		info, err := askOf(context.Background(), c, id, wire.Cancel, wire.Lookup{ID: id})
		switch {
		case err != nil && failed == nil:
			failed = err
		case err != nil:
			fmt.Fprintf(c.io.err, "gpool cancel: %v\n", err)
		case info.State == wire.Calling:
			fmt.Fprintf(c.io.err, "gpool cancel: %s has ended; its callback was given up\n", title(&info))
		case over(&info):
			ended = append(ended, title(&info))
		}
	}
	if failed == nil && len(ended) > 0 {
		return &exitError{exitFailed, fmt.Errorf("ended before it could be given up: %s", strings.Join(ended, ", "))}
	}
	return failed
}
