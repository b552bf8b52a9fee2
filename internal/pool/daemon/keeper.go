package daemon

import (
	"time"

	"gpool/internal/pool/daemon/wire"
)

// saveAgain is how long after a failure the journal is tried again.
const saveAgain = time.Second

// closedIdle is how long a pool that is closed and done waits for clients that have not left.
const closedIdle = 10 * time.Second

// keep is the goroutine that does what is due by time: it drops what is too old, tries the journal
// again, and ends a pool that has been idle for long enough. It ends with the server.
func (s *Server) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.endC:
			return
		case <-s.wakeC:
		case <-timer.C:
		}
		timer.Reset(s.housekeeping(time.Now()))
	}
}

// housekeeping does what is due, and says for how long nothing is.
func (s *Server) housekeeping(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Hour
	if len(s.unsaved) > 0 && s.save() != nil {
		wait = saveAgain
	}
	if !s.place.Holds(s.lock) && s.line.busy == 0 {
		s.end(handedOn) // somebody has removed the spool, and with it all that could be fetched
	}
	if held := s.held.Sub(now); held > 0 {
		wait = min(wait, held)
	} else {
		s.dispatch()
	}
	wait = min(wait, s.dropOld(now))
	s.consider() // something may have been written at last
	idle := s.options.Idle
	if s.closed {
		idle = closedIdle
	}
	if idle > 0 && !s.idleSince.IsZero() {
		left := s.idleSince.Add(idle).Sub(now)
		if left <= 0 {
			s.end(finished)
			return time.Hour
		}
		wait = min(wait, left)
	}
	return wait
}

// dropOld drops results that are too old, and says for how long there will be none.
func (s *Server) dropOld(now time.Time) time.Duration {
	if s.dropDue.IsZero() {
		return time.Hour
	}
	if left := s.dropDue.Sub(now); left > 0 {
		return left
	}
	s.dropDue = time.Time{}
	for _, e := range s.entries {
		if e.state != wire.Done {
			continue
		}
		if due := e.result.End.Add(s.options.MaxAge); due.After(now) {
			s.dropAt(due)
		} else {
			s.forget(e)
		}
	}
	s.consider()
	if s.dropDue.IsZero() {
		return time.Hour
	}
	return s.dropDue.Sub(now)
}

// dropAt lets the keeper drop results at a time.
func (s *Server) dropAt(due time.Time) {
	if s.dropDue.IsZero() || due.Before(s.dropDue) {
		s.dropDue = due
		s.wake()
	}
}
