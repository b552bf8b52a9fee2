package daemon

import (
	"gpool/internal/pool/daemon/wire"
)

// Options are what a pool was started with. The journal keeps them, so that a server that is
// started again after a crash is like the one before.
type Options = wire.Options

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
