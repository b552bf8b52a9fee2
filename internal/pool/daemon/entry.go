package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool/daemon/wire"
)

// entry is one call from its acceptance until its result is dropped. The server's lock guards
// it, except for the files while it runs: they belong to the deliverer of its pool.
type entry struct {
	n        uint64 // of its id
	call     wire.Call
	context  *origin // nil once it is not needed any more
	accepted time.Time
	peer     *wire.Peer // of a client that is attached to it, or nil
	ticket   ticket
	runner   *runner // that has it, or nil

	state   wire.State
	result  wire.Result
	begun   int   // attempts, as the journal has it
	given   bool  // somebody gave it up
	failure error // why its output is not kept, from the first byte that was not
	taken   bool  // its result was fetched
	told    bool  // a callback has had its result
	kept    [2]int64
	made    [2]bool // there is a file of the stream
	files   [2]*os.File
	attempt int           // whose output the files hold
	asking  int           // questions of its callback that wait for calls
	problem []byte        // the end of what its callback prints
	waiters []*waiter     // for its end
	newsC   chan struct{} // closed when there is more to read; nil if nobody wants to know
}

// problemMost is how much of a callback's output is kept for the message of its failure.
const problemMost = 4 << 10

// wanted reports whether somebody may still fetch the result.
func (e *entry) wanted() bool { return !e.taken && !e.told }

// ended reports whether its own end is known, whatever its callback does.
func (e *entry) ended() bool { return e.state == wire.Calling || e.state == wire.Done }

// callback is the command line that its result calls for, or "".
func (e *entry) callback() string {
	switch {
	case e.result.Outcome == wire.Terminated:
		return ""
	case e.result.Outcome == wire.Succeeded:
		return e.call.Callback
	}
	return e.call.ErrorCallback
}

// news wakes those who follow it.
func (e *entry) news() {
	if e.newsC != nil {
		close(e.newsC)
		e.newsC = nil
	}
}

// path is the file of one of its streams.
func (e *entry) path(spool string, s ipc.Stream) string {
	suffix := ".out"
	if s == ipc.Stderr {
		suffix = ".err"
	}
	return filepath.Join(spool, strconv.FormatUint(e.n, 10)+suffix)
}

// slim drops what is not needed any more once it has ended, and its callback too.
func (s *store) slim(e *entry) {
	if e.context != nil {
		s.letGo(e.context)
	}
	e.context, e.runner, e.problem = nil, nil, nil
	e.call.Argv, e.call.Args, e.call.Env = nil, nil, nil
}

// info is what clients are told.
func (s *store) info(e *entry) wire.Info {
	i := wire.Info{
		ID: s.id(e), Name: e.call.Name, Text: e.call.Text, State: e.state, Accepted: e.accepted, Result: e.result,
		StdoutBytes: e.kept[0], StderrBytes: e.kept[1],
	}
	if e.state == wire.Running {
		i.Result.Attempt = e.attempt // whose output it is
	}
	if e.result.Outcome == wire.Terminated {
		return i // its files go at once
	}
	if i.StdoutBytes > 0 {
		i.Stdout = e.path(s.place.Spool, ipc.Stdout)
	}
	if i.StderrBytes > 0 {
		i.Stderr = e.path(s.place.Spool, ipc.Stderr)
	}
	return i
}

// waiter is one client that waits for the end of calls.
type waiter struct {
	left  int  // calls that have not ended
	any   bool // one is enough
	first *entry
	doneC chan struct{}
	done  bool
}

// over tells the waiters of a call that it has ended.
func (s *Server) over(e *entry) {
	for _, w := range e.waiters {
		w.left--
		if w.first == nil {
			w.first = e
		}
		if !w.done && (w.left == 0 || w.any) {
			w.done = true
			close(w.doneC)
		}
	}
	e.waiters = nil
}
