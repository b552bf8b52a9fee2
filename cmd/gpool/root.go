package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gpool"
)

func newRoot(io stdio) *cobra.Command {
	root := &cobra.Command{
		Use:     "gpool",
		Short:   "Fan commands out to worker processes",
		Long:    rootHelp,
		Version: gpool.Version,
		// Errors are printed once, by execute.
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownVerb,
		// As far as a letter too many, or two in the wrong order.
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("gpool {{.Version}}\n")
	for _, v := range verbs {
		root.AddCommand(newVerb(v, io))
	}
	root.AddCommand(newApply(io))
	root.AddCommand(newTasks(io))
	addBackground(root, io)
	addShared(root, io)
	root.AddCommand(&cobra.Command{
		Use: workerVerb, Short: "Serve calls on stdin and stdout; gpool starts this itself", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return &exitError{code: gpool.Worker()} },
	})
	root.AddCommand(&cobra.Command{
		Use: jobserverVerb, Short: "Keep tokens of make; gpool starts this itself", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return keep(args) },
	})
	return root
}

const rootHelp = `gpool runs one command for each item of its input, in parallel, in worker
processes that it keeps alive: the semantics of Python's multiprocessing pool
for shell pipelines.

  find . -name '*.png' | gpool map -- optipng -quiet {}
  gpool imap -j4 -c 'sleep {}; echo slept {}' ::: 3 1 2
  gpool map --worker ./program --task resize ::: *.png

gpool apply runs one command, with limits and retries, and exits as it does.

EXIT STATUS
  0      all calls succeeded, or there was nothing to do
  1      at least one call failed
  2      bad usage or input
  3      gpool itself failed
  124    the time of --run-timeout was up
  128+N  stopped by signal N`

// unknownVerb makes a mistyped verb an error that names the nearest one.
func unknownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "; gpool help lists the verbs"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no verb %q%s", args[0], hint)
}
