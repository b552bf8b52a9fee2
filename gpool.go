// Package gpool fans work out to worker processes with the semantics of Python's
// multiprocessing pool. The command gpool (cmd/gpool) is its first customer.
//
// So far the package holds what every program that starts itself as a worker needs.
package gpool

import "gpool/internal/worker"

// Version is the version of the library and of the command.
const Version = "0.1.0"

// Worker makes this process a worker that offers the built-in task exec: it serves
// calls on its stdin and stdout until the parent is done, and returns the exit code
// that the process should end with. It must be called before anything else reads or
// writes: it moves descriptors 0 and 1 out of everybody's reach. Call it once.
func Worker() int { return worker.Main() }
