package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/hub/wire"
)

const eventHelp = `event is a flag that processes wait for. It is not set when it is first used, and
stays set until it is cleared.

EXIT STATUS
  0 done; is-set: it is set; 1 is-set: it is not; 2 bad usage; 3 gpool itself, or
  the hub, failed; 124 wait: not within --timeout; 128+N stopped by signal N`

func newEvent(io stdio) *cobra.Command {
	plain := func(name, short string, op wire.Op) *cobra.Command {
		c := &hubClient{io: io}
		return hubVerb{use: name + " NAME", short: short, do: func(ctx context.Context, name string, _ []string) error {
			_, err := c.call(ctx, wire.Request{Op: op, Object: name})
			return err
		}}.command(c)
	}
	return family("event", "Set a flag, or wait for it", eventHelp,
		plain("set", "Set the flag: all who wait go on", wire.EventSet), plain("clear", "Clear the flag", wire.EventClear),
		newEventWait(io), newEventIsSet(io))
}

func newEventWait(io stdio) *cobra.Command {
	c := &hubClient{io: io}
	return hubVerb{
		use: "wait NAME", short: "Wait until the flag is set",
		flags: func(f *pflag.FlagSet) { c.timeout.define(f, "", "wait no longer than this (0: not at all)") },
		do: func(ctx context.Context, name string, _ []string) error {
			_, err := c.wait(ctx, wire.Request{Op: wire.EventWait, Object: name})
			if late(err) {
				err = tooLate("the event %q is not set after %v", name, c.timeout.most)
			}
			return err
		},
	}.command(c)
}

func newEventIsSet(io stdio) *cobra.Command {
	c := &hubClient{io: io}
	return hubVerb{use: "is-set NAME", short: "Tell by the exit code whether the flag is set", do: func(ctx context.Context, name string, _ []string) error {
		reply, err := c.call(ctx, wire.Request{Op: wire.EventState, Object: name})
		if err == nil && !reply.Flag {
			err = &exitError{code: exitFailed}
		}
		return err
	}}.command(c)
}
