package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/hub/wire"
)

const barrierHelp = `barrier lets N processes wait for each other: each calls wait, and all go on when
the last one has come. wait prints a number from 0 to N-1, to each its own. A
process that gives up, by a signal or --timeout, breaks the barrier for all, until
it is reset.

EXIT STATUS
  0 done; 1 wait: the barrier is broken; 2 bad usage; 3 gpool itself, or the hub,
  failed; 124 wait: not within --timeout; 128+N stopped by signal N`

func newBarrier(io stdio) *cobra.Command {
	plain := func(name, short string, op wire.Op) *cobra.Command {
		c, parties := &hubClient{io: io}, 0
		return hubVerb{
			use: name + " NAME", short: short,
			flags: func(f *pflag.FlagSet) {
				defineParties(f, &parties, "how many wait for each other, if the barrier is not there yet")
			},
			do: func(ctx context.Context, name string, _ []string) error {
				_, err := c.call(ctx, wire.Request{Op: op, Object: name, Init: int64(parties)})
				return err
			},
		}.command(c)
	}
	return family("barrier", "Let processes wait for each other", barrierHelp, newBarrierWait(io),
		plain("abort", "Break the barrier: all who wait, and all who come, fail", wire.BarrierAbort),
		plain("reset", "Make the barrier whole; who waits fails", wire.BarrierReset))
}

func defineParties(f *pflag.FlagSet, at *int, help string) {
	f.VarP(parsed("--count", "N", at, atLeast(1)), "count", "n", help)
}

func newBarrierWait(io stdio) *cobra.Command {
	c, parties := &hubClient{io: io}, 0
	return hubVerb{
		use: "wait NAME -n N", short: "Wait until N processes wait",
		flags: func(f *pflag.FlagSet) {
			defineParties(f, &parties, "how many wait for each other; all say the same")
			c.timeout.define(f, "", "wait no longer than this, and break the barrier then")
		},
		do: func(ctx context.Context, name string, _ []string) error {
			if parties == 0 {
				return &exitError{exitUsage, errors.New("say with -n how many processes wait for each other")}
			}
			reply, err := c.wait(ctx, wire.Request{Op: wire.BarrierWait, Object: name, Init: int64(parties)})
			if late(err) && !c.timeout.waits() {
				return tooLate("%v; the barrier is as it was", err)
			}
			if late(err) {
				return tooLate("%d processes have not come to the barrier %q within %v, and it is broken now", parties, name, c.timeout.most)
			}
			if err != nil {
				return err
			}
			return c.printNumber(reply.N)
		},
	}.command(c)
}
