// Package worker is the worker's half of gpool: it serves calls that arrive in
// frames, keeps the frames apart from what tasks print, and holds the built-in task
// exec. It runs in worker processes only.
package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/term"

	"gpool/internal/command"
	"gpool/internal/rawpipe"
	"gpool/internal/session"
)

// Main serves the built-in tasks on this process's stdin and stdout until the
// parent is done with it, and returns the exit code. It must be the first thing
// that the process does.
func Main() int {
	if term.IsTerminal(0) || term.IsTerminal(1) {
		fmt.Fprintln(os.Stderr, "gpool worker: this verb speaks binary frames and is started by gpool itself; try gpool help")
		return 2
	}
	// One thread runs Go code at a time here: the runner waits in the kernel nearly
	// always, and a second one would only look for work that is not there, at the
	// cost of a tenth of all processor time (go run ./bench).
	return onStdio(true, func() (Config, error) {
		ignoreChildren()
		commands, err := NewCommands()
		return Config{
			Procs: 1,
			Tasks: Registry{command.ExecTask: commands.Run},
			Orphaned: func() {
				// The frames are closed by the exit, so nobody waits for a last word.
				commands.Kill()
				os.Exit(orphanedExit)
			},
			Suspend: commands.Suspend,
		}, err
	})
}

// Program serves a program's own tasks on this process's stdin and stdout until the
// parent is done with it, and returns the exit code. procs is how many threads may run
// Go code at once. It must be the first thing that the process does.
func Program(procs int, config Config) int {
	config.Procs = procs
	config.Orphaned = func() {
		if sid, leads := session.Own(); leads {
			session.Kill(sid, os.Getpid())
		}
		os.Exit(orphanedExit)
	}
	return onStdio(false, func() (Config, error) { return config, nil })
}

// onStdio serves; quietly says that no task computes in this process, see package rawpipe.
func onStdio(quietly bool, configure func() (Config, error)) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "gpool worker:", err)
		return 3
	}
	inFile, outFile, err := Guard()
	if err != nil {
		return fail(err)
	}
	in, out := io.Reader(inFile), io.Writer(outFile)
	if quietly {
		if in, err = rawpipe.New(inFile); err != nil {
			return fail(err)
		}
		if out, err = rawpipe.New(outFile); err != nil {
			return fail(err)
		}
	}
	config, err := configure()
	if err != nil {
		return fail(err)
	}
	err = Serve(in, out, config)
	if err != nil && !errors.Is(err, ErrOrphaned) && !errors.Is(err, syscall.EPIPE) {
		return fail(err)
	}
	return 0
}

// orphanedExit is the exit code of a worker whose parent has gone. Nobody is left to
// read it but a system log.
const orphanedExit = 3
