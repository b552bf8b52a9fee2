package pool

import (
	"time"

	"gpool/internal/ipc"
)

// EventKind says what happened.
type EventKind int

// The kinds of events. New ones are added at the end.
const (
	WorkerStarted EventKind = iota + 1 // said hello
	WorkerReady                        // ran its initializer
	WorkerLeft                         // was told to leave, and left
	WorkerLost                         // ended by itself, or was ended for a fault; Err says how
	WorkersFewer                       // the machine has no room for more than Workers; Err says why
	CallFinished                       // its result was consumed; Result says how
	CallStarted                        // an attempt of Call has begun, as far as can be told
	CallRetried                        // an attempt has failed, Result says how, and there will be another
)

// Event is one line of the pool's story: logs, the progress bar and reports are
// listeners on it. Fields that do not belong to a kind are zero.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Slot    int
	Pid     int
	Workers int
	Err     error
	Result  *Result    // without its value, if that is large
	Hello   *ipc.Hello // of WorkerStarted
	Call    *Call      // of CallStarted; not to be changed
	Attempt int
	Task    string // of an event of a call
}

// tell is the goroutine that calls the listener. It ends when the events do.
func tell(events *mailbox[Event], listen func(Event)) {
	var spare []Event
	for {
		list, open := events.wait(spare)
		if !open {
			return
		}
		for i := range list {
			if listen != nil {
				listen(list[i])
			}
		}
		spare = list
	}
}
