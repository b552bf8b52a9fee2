// Command gpool fans commands out to worker processes. See gpool help.
package main

import (
	"errors"
	"fmt"
	"os"

	"gpool"
)

// workerVerb is how gpool is started as a worker: by itself, with nothing else.
const workerVerb = "worker"

func main() {
	// Before anything else: a worker needs no command line, and starts often.
	if len(os.Args) == 2 && os.Args[1] == workerVerb {
		os.Exit(gpool.Worker())
	}
	os.Exit(execute(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is what the process was given.
type stdio struct{ in, out, err *os.File }

// Exit codes of gpool itself.
const (
	exitOK     = 0
	exitFailed = 1   // at least one call failed
	exitUsage  = 2   // bad usage or input
	exitPool   = 3   // the pool itself failed
	exitLate   = 124 // the time of the run was up, as timeout(1) has it
	exitSignal = 128 // and the number of the signal that ended the run

	exitNotExecutable = 126 // as shells have it
	exitNotFound      = 127
)

// exitError is an error that knows its exit code. Everything else is bad usage:
// what cobra returns has no type.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// execute runs one command line and returns the exit code.
func execute(args []string, io stdio) int {
	root := newRoot(io)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(io.err, "%s: %s\n", cmd.CommandPath(), text)
	}
	return exitCode(err)
}

// exitCode is that of an error, also of none.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	return exitUsage
}
