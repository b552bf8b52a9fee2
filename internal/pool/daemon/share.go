package daemon

import (
	"context"
	"fmt"

	"gpool/internal/pool/daemon/wire"
	"gpool/internal/pool/hub"
	hubwire "gpool/internal/pool/hub/wire"
)

// hubVariable tells commands where the hub is that they share with others.
const hubVariable = "GPOOL_HUB"

// commons is the hub of a background pool: what its calls and the commands of its user share. It is in memory only, and
// ends with the server.
type commons struct {
	server  *Server
	hub     *hub.Hub
	address hubwire.Address
	door    *hubwire.Server
	served  chan struct{}
}

// openHub lets processes in. A pool can do without: then calls find no hub.
func (s *Server) openHub() error {
	address, err := hubwire.Fresh()
	if err != nil {
		return err
	}
	l, err := hubwire.Listen(address)
	if err != nil {
		return fmt.Errorf("listen for those who share state: %w", err)
	}
	c := &commons{server: s, hub: hub.New(), address: address, served: make(chan struct{})}
	c.door = &hubwire.Server{Hub: c, Memory: c.hub.SharedFile}
	go func() { // ends with close
		defer close(c.served)
		_ = c.door.Serve(l)
	}()
	s.hub = c
	return nil
}

func (c *commons) close() {
	if c == nil {
		return
	}
	c.hub.End()
	c.door.Close()
	<-c.served
}

// variables are what calls find it by.
func (c *commons) variables() []string {
	if c == nil {
		return nil
	}
	return []string{hubVariable + "=" + string(c.address)}
}

// Join makes a member of a process; while there are some the pool is not idle.
func (c *commons) Join(who hubwire.Peer) hubwire.Member {
	m := c.hub.Join(who)
	c.consider()
	return member{m, c}
}

func (c *commons) consider() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.consider()
}

// member is one that tells the server when it leaves.
type member struct {
	hubwire.Member
	commons *commons
}

func (m member) Leave() {
	m.Member.Leave()
	m.commons.consider()
}

// members is how many processes use the hub.
func (c *commons) members() int {
	if c == nil {
		return 0
	}
	return c.hub.Members()
}

// idle reports whether nobody would miss the hub.
func (c *commons) idle() bool { return c == nil || c.hub.Idle() }

// share says where the hub is.
func (s *Server) share(context.Context, *wire.Peer, wire.Nothing) (wire.Commons, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hub == nil {
		return wire.Commons{}, &wire.Fault{Code: wire.FaultBroken, Text: fmt.Sprintf("the pool %q has no hub: its server could not make a socket for it", s.place.Name)}
	}
	return wire.Commons{Hub: string(s.hub.address)}, nil
}
