package daemon

import (
	"fmt"
	"time"

	"gpool/internal/pool/daemon/wire"
)

// The life of a call, from its place in the line to the end of its callback. All of this is under
// the server's lock.

// enter puts a call in the line.
func (s *Server) enter(e *entry) {
	e.state = wire.Waiting
	e.ticket = ticket{entry: e}
	s.line.enter(&e.ticket)
}

// dispatch gives free slots to those who wait.
func (s *Server) dispatch() {
	// What cannot be written down does not begin: it might begin again after a crash.
	if s.why != lives || s.recovering || len(s.unsaved) > 0 {
		return
	}
	if time.Now().Before(s.held) {
		return // see lost
	}
	for {
		t, ok := s.line.next()
		if !ok {
			return
		}
		if t.lease != nil {
			s.grant(t.lease)
			continue
		}
		s.start(t.entry)
	}
}

// start hands a call that has a slot to the workers that can run it.
func (s *Server) start(e *entry) {
	r, err := s.runnerFor(e)
	if err != nil {
		s.line.free(1)
		s.finish(e, wire.Result{Outcome: wire.NotStarted, Exit: 125, Error: err.Error()})
		return
	}
	e.state = wire.Running
	e.runner = r
	r.put(e)
}

// finish books the end of a call that has a result.
func (s *Server) finish(e *entry, r wire.Result) {
	if r.End.IsZero() {
		r.End = time.Now()
	}
	e.result = r
	s.conclude(e)
}

// conclude follows the end of a call: it is written down, and then its callback runs.
func (s *Server) conclude(e *entry) {
	e.state = wire.Calling
	s.write(s.ending(e))
	e.news()
	if s.why == handedOn || s.recovering {
		return // the next server does the rest, or begin
	}
	command := e.callback()
	if command == "" || s.why == terminated {
		s.finished(e)
		return
	}
	if err := s.startCallback(e, command); err != nil {
		s.calledBack(e, err.Error())
	}
}

// calledBack books the end of a callback, with what went wrong.
func (s *Server) calledBack(e *entry, problem string) {
	e.result.Callback = problem
	if problem == "" {
		s.settle(e, &e.told)
	}
	s.finished(e)
}

// finished is when nothing more follows.
func (s *Server) finished(e *entry) {
	e.state = wire.Done
	s.write(s.called(e))
	s.slim(e)
	if age := s.options.MaxAge; age > 0 {
		s.dropAt(e.result.End.Add(age))
	}
	if !s.recovering {
		s.done++
		if e.result.Outcome != wire.Succeeded {
			s.failed++
		}
	}
	e.news()
	s.over(e)
	if e.taken && !e.call.Keep || e.peer != nil && e.peer.Context().Err() != nil {
		s.forget(e)
	}
	s.consider()
}

// lost is for a call that ran when the server before was killed.
func (s *Server) lost(e *entry) {
	if e.given {
		s.finish(e, wire.Result{Outcome: wire.Cancelled, Exit: -1, Attempt: e.begun, Start: e.result.Start, Error: "it was cancelled"})
		return
	}
	if on := e.call.RetryOn; e.begun <= e.call.Retries && (on.Any || on.Died) {
		s.erase(e)
		s.enter(e)
		// The worker that ran it ends by itself when it sees that its parent is gone.
		s.held = time.Now().Add(orphanTime)
		time.AfterFunc(orphanTime, s.wake)
		return
	}
	s.finish(e, wire.Result{
		Outcome: wire.Lost, Exit: -1, Attempt: e.begun, Start: e.result.Start,
		Error: "it ran when the server of its pool ended, so nobody knows how it has ended itself; --retries lets such calls run again",
	})
}

// orphanTime is how long a worker whose parent was killed may live on.
const orphanTime = 200 * time.Millisecond

// giveUp cancels a call.
func (s *Server) giveUp(e *entry) {
	switch {
	case e.state == wire.Waiting && s.line.leave(&e.ticket):
		s.finish(e, wire.Result{Outcome: wire.Cancelled, Exit: -1, Error: "it was cancelled before it began"})
	case e.runner != nil:
		if !e.given && e.state == wire.Running {
			s.write(encode(kindGiven, numbered{e.n}))
		}
		e.given = true
		e.runner.job.Cancel(e)
	}
}

// find looks a call up.
func (s *Server) find(id string) (*entry, error) {
	name, nonce, n, err := wire.ParseID(id)
	if err != nil {
		return nil, &wire.Fault{Code: wire.FaultUnknown, Text: err.Error()}
	}
	if e := s.entries[n]; e != nil && nonce == s.nonce && name == s.place.Name {
		return e, nil
	}
	text := fmt.Sprintf("pool %q has no call %s", s.place.Name, id)
	switch {
	case name != s.place.Name:
		text += fmt.Sprintf(": it belongs to pool %q", name)
	case nonce != s.nonce:
		text += ": it was handed to a pool of this name that has ended, and what was not fetched went with it"
	case n <= s.last && s.broken != "":
		text += fmt.Sprintf(": its result was fetched, or it was in the part of the journal that was damaged, and is kept in %s", s.broken)
	case n <= s.last:
		text += " any more: its result was fetched (--keep leaves it there), or dropped because it was too old"
	}
	return nil, &wire.Fault{Code: wire.FaultUnknown, Text: text}
}
