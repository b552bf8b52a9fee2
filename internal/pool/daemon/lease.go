package daemon

import (
	"context"

	"gpool/internal/pool/daemon/wire"
)

// lease is a client's wish for a slot.
type lease struct {
	peer   *wire.Peer
	ticket ticket
	grantC chan error // has room for the one answer
}

// lessee is a client that has slots, or waits for some.
type lessee struct {
	who     string
	held    int
	waiting map[*lease]bool
}

// lease waits for a slot of the pool, in turn with calls. The slot is the client's until it
// says so, or its connection ends.
func (s *Server) lease(ctx context.Context, p *wire.Peer, q wire.Leasing) (n wire.Nothing, err error) {
	l := &lease{peer: p, grantC: make(chan error, 1)}
	if err := s.queueLease(l, q); err != nil {
		return n, err
	}
	select {
	case err = <-l.grantC:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		s.withdraw(l)
		err = context.Cause(ctx)
	}
	return n, err
}

func (s *Server) queueLease(l *lease, q wire.Leasing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	its := s.leases[l.peer]
	if s.why != lives || s.closed && its == nil && !s.runs(q.ID) {
		return s.closedFault()
	}
	if its == nil {
		its = &lessee{who: q.Who, waiting: map[*lease]bool{}}
		s.leases[l.peer] = its
	}
	its.waiting[l] = true
	l.ticket = ticket{lease: l}
	s.line.enter(&l.ticket)
	s.dispatch()
	return nil
}

// runs reports whether a call runs. Who is part of it may have slots of a pool that is closed, as
// one who had some before: that work was handed in in time.
func (s *Server) runs(id string) bool {
	e, err := s.find(id)
	return err == nil && e.state == wire.Running
}

// grant gives a client its slot.
func (s *Server) grant(l *lease) {
	who := s.leases[l.peer]
	delete(who.waiting, l)
	who.held++
	l.grantC <- nil
}

// withdraw is for a client that does not want its slot any more.
func (s *Server) withdraw(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.leases[l.peer]
	switch {
	case who == nil: // its connection has ended, and all went back
	case s.line.leave(&l.ticket):
		delete(who.waiting, l)
	case who.held > 0: // it was granted in this moment
		who.held--
		s.release(1)
	}
	s.consider()
}

// giveBack takes slots back from a client.
func (s *Server) giveBack(_ context.Context, p *wire.Peer, q wire.Size) (n wire.Nothing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.leases[p]
	if who == nil || q.N < 0 || q.N > who.held {
		return n, &wire.Fault{Code: wire.FaultBroken, Text: "slots are given back that were not leased"}
	}
	who.held -= q.N
	s.release(q.N)
	s.consider()
	return n, nil
}

func (s *Server) release(n int) {
	s.line.free(n)
	s.dispatch()
}

// leftBy takes back all slots of a client that is gone.
func (s *Server) leftBy(p *wire.Peer) {
	who := s.leases[p]
	if who == nil {
		return
	}
	delete(s.leases, p)
	for l := range who.waiting {
		s.line.leave(&l.ticket)
	}
	s.release(who.held)
}

// refuseLeases answers clients that wait for a slot, and will get none.
func (s *Server) refuseLeases(why error) {
	for _, who := range s.leases {
		for l := range who.waiting {
			s.line.leave(&l.ticket)
			l.grantC <- why
		}
		clear(who.waiting)
	}
}
