package daemon

import (
	"time"

	"gpool/internal/pool/daemon/wire"
)

// Options are what a pool was started with. The journal keeps them, so that a server that is
// started again after a crash is like the one before.
type Options struct {
	Slots       int
	Initializer string       // shell command line, run once in each worker that runs commands; may be empty
	Shell       string       // path of the shell for it
	Origin      wire.Context // where it runs
	MaxCalls    int          // after which a worker is replaced; 0 is never
	Nice        int
	Grace       time.Duration // from SIGTERM to SIGKILL
	MaxRSS      int64         // bytes that a call may hold; 0 is any
	Idle        time.Duration // after which a pool without work, clients and results ends; 0 is never
	SpoolLimit  int64         // bytes of output that are kept; 0 is any
	MaxAge      time.Duration // after which results are dropped; 0 is never
}

// Config is what a server needs.
type Config struct {
	Place   wire.Place
	Version string   // of gpool
	Worker  []string // arguments with which this program serves as a worker that runs commands
	// Options says what the pool should be like; before are those of a server that was here
	// before, or nil.
	Options func(before *Options) Options
	// Reopen lets a pool take calls again that was closed.
	Reopen bool
}
