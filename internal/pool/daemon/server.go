package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
)

// Server is one pool in the background. Make it with New, and let it serve with Run.
type Server struct {
	config  Config
	started time.Time
	endC    chan struct{} // closed when the server is to end

	serving sync.WaitGroup // of clients, and of seats
	closing sync.WaitGroup // of pools whose runners are not needed any more

	mu sync.Mutex // guards what follows, and all entries, runners and leases
	store

	hub      *commons // nil if it cannot be had
	line     line
	held     time.Time          // nothing begins before it
	runners  map[string]*runner // that take calls, by what they run
	open     map[*runner]bool   // also those that take none any more, and have not ended
	leases   map[*wire.Peer]*lessee
	attached map[*wire.Peer][]*entry // calls that end with their client
	seats    []*wire.Seat
	conns    map[*net.UnixConn]bool
	peers    map[*wire.Peer]bool // clients that have asked something; true if all that they want is the end
	met      bool                // a client has come: whoever started the server for something
	asking   int                 // questions that wait for calls
	blocked  int                 // callbacks that have asked one
	done     int                 // calls that have ended since the server began
	failed   int                 // of these

	why       reason    // it ends
	left      bool      // nothing is served any more
	idleSince time.Time // zero if it is not idle
	dropDue   time.Time // when the oldest result is too old; zero if there is none
	joinedC   chan struct{}
}

// reason is why a server ends.
type reason int

const (
	lives      reason = iota
	finished          // there is nothing to do, and nobody who wants something
	handedOn          // it was told to: the next server goes on with everything
	terminated        // nothing of the pool is to be left
)

// New claims the place of a pool, and brings back what an earlier server has left there. It starts
// no process. Its errors: wire.ErrTaken if the pool has a server, and what the system says.
func New(config Config) (*Server, error) {
	seat, err := wire.Claim(config.Place)
	if err != nil {
		if _, lost := os.Lstat(config.Place.Socket); errors.Is(err, wire.ErrTaken) && lost != nil {
			config.Place.Recall()
		}
		return nil, err
	}
	s := &Server{
		config: config, seats: []*wire.Seat{seat}, started: time.Now(), endC: make(chan struct{}), joinedC: make(chan struct{}),
		store: newStore(config.Place), runners: map[string]*runner{}, open: map[*runner]bool{},
		leases: map[*wire.Peer]*lessee{}, attached: map[*wire.Peer][]*entry{}, conns: map[*net.UnixConn]bool{}, peers: map[*wire.Peer]bool{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openStore(); err != nil {
		if s.lock != nil {
			_ = s.lock.Close()
		}
		err = errors.Join(err, seat.Close())
		if errors.Is(err, wire.ErrTaken) {
			config.Place.Recall()
		}
		return nil, err
	}
	return s, nil
}

// Reseat takes the place of the pool again, if somebody has removed its socket: its clients could
// not reach it any more. Any goroutine may call it while Run runs.
func (s *Server) Reseat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(s.place.Socket); err == nil || s.left || s.recovering {
		return // it is there again, not needed any more, or in Run's hands
	}
	for _, seat := range s.seats {
		_ = seat.Close() // what is left of it would be in our own way
	}
	s.seats = nil
	seat, err := wire.Claim(s.place)
	if err != nil {
		return // the next client tries again
	}
	s.seats = append(s.seats, seat)
	s.serving.Go(func() { s.welcome(seat) })
}

// Run serves clients until the pool ends: closed and done, terminated, idle for long enough, or
// because ctx has ended; then what was accepted is left to the next server. It returns when
// nothing of the pool is left but what that needs.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopRunners(pool.Terminate)
		s.end(handedOn)
	})
	defer stop()
	s.begin()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		s.keep()
	}()
	<-s.endC
	<-kept
	s.endRunners()
	s.quiesce()
	err := s.leave()
	s.hub.close()
	s.serving.Wait()
	return err
}

// begin goes on with what an earlier server has left.
func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recovering = false
	_ = s.openHub() // who wants it is told
	for _, e := range s.entries {
		if e.state == wire.Calling {
			s.conclude(e)
		}
	}
	for _, seat := range s.seats {
		s.serving.Go(func() { s.welcome(seat) })
	}
	s.dispatch()
	s.consider()
}

// welcome serves each client on a goroutine of its own, until the seat is closed.
func (s *Server) welcome(seat *wire.Seat) {
	mux := s.mux()
	for {
		conn, err := seat.Accept()
		if err != nil {
			return
		}
		if !s.connected(conn) {
			_ = conn.Close() // without a hello: to its client we are not there
			continue
		}
		s.serving.Go(func() {
			_ = mux.Serve(conn, s.config.Version) // its error is the client's
			s.disconnected(conn)
		})
	}
}

// connected reports whether there is still somebody to serve a client.
func (s *Server) connected(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *Server) disconnected(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// quiesce lets answers leave that are known, before the connections end with the process.
func (s *Server) quiesce() {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		asking := s.asking
		s.mu.Unlock()
		if asking == 0 {
			return
		}
	}
}

// patience is how long an ending server waits for a client.
const patience = time.Second

// leave takes the pool off the disk, but for what somebody may still want.
func (s *Server) leave() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	if s.why == finished {
		s.forgetUnwanted()
	}
	for deadline := time.Now().Add(patience); s.save() != nil && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond) // nobody else needs the lock any more
	}
	err := s.journal.Close()
	if s.place.Holds(s.lock) && (s.why == terminated || !s.keeps()) {
		err = errors.Join(err, os.RemoveAll(s.place.Spool))
	}
	err = errors.Join(err, s.lock.Close())
	for _, seat := range s.seats {
		err = errors.Join(err, seat.Close())
	}
	for conn := range s.conns {
		_ = conn.CloseRead() // what is being answered still leaves, if somebody reads it
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
	}
	return err
}

// forgetUnwanted drops results that nobody waits for.
func (s *Server) forgetUnwanted() {
	for _, e := range s.entries {
		if !e.wanted() && !e.call.Keep {
			s.forget(e)
		}
	}
}

// keeps reports whether there is a result that may still be fetched, or a part of the journal that
// nobody could read.
func (s *Server) keeps() bool {
	if aside, _ := filepath.Glob(filepath.Join(s.place.Spool, "journal.broken*")); aside != nil {
		return true
	}
	for _, e := range s.entries {
		if e.wanted() || e.call.Keep {
			return true
		}
	}
	return false
}

// end lets Run end. What is to be terminated is so also if it ends already.
func (s *Server) end(why reason) {
	if s.why == lives {
		close(s.endC)
	}
	s.why = max(s.why, why)
}

// consider looks whether the pool is done, or idle.
func (s *Server) consider() {
	if s.why != lives || s.recovering {
		return
	}
	// Who has had a slot may want another one: between two calls a run has none.
	busy := len(s.unsaved) > 0 || len(s.leases) > 0 || s.line.busy > 0 || s.line.length() > 0 || s.calling() > 0
	if s.closed && !busy {
		s.joined()
		if s.met && s.clients() == 0 && s.hub.members() == 0 {
			s.end(finished)
			return
		}
	}
	// A closed pool that is done waits for its clients; an open one for results to be fetched.
	idle := !busy && (s.closed || len(s.peers) == 0 && s.wanted == 0 && s.hub.idle())
	switch {
	case !idle:
		s.idleSince = time.Time{}
	case s.idleSince.IsZero():
		s.idleSince = time.Now()
		s.wake()
	}
}

// clients counts those that want something else than the end.
func (s *Server) clients() int {
	n := 0
	for _, onlyEnd := range s.peers {
		if !onlyEnd {
			n++
		}
	}
	return n
}

// joined answers those who wait for the pool to be done.
func (s *Server) joined() {
	select {
	case <-s.joinedC:
	default:
		close(s.joinedC)
	}
}

// calling counts callbacks.
func (s *Server) calling() (n int) {
	if r := s.runners[callbackKey]; r != nil {
		n = len(r.open)
	}
	return n
}
