package gpool

import (
	"context"
	"crypto/hmac"
	"fmt"

	"gpool/internal/pool/hub/wire"
)

// Manager is a hub of its own, for processes that no pool has started, also on other machines: Python's SyncManager. One process
// serves it (the command gpool manager, or [ListenManager]), and others dial it. Objects that are to be found from there have names ([Named]).
//
// Handles travel as everywhere; a worker that gets one of a manager with a key asks its pool for that.
type Manager struct {
	post    *post
	address wire.Address
	host    *host    // of the process that serves it
	far     *farPost // of others
}

func (m *Manager) hubOf() (*post, error) { return m.post, nil }

// ListenManager serves a manager in this process, at "unix:PATH", "tcp:HOST:PORT" or "tls:HOST:PORT"; the port 0 is any, see [Manager.Address].
// It goes on until Close.
//
// Who has the key may do everything; nothing but the proof that it is there is read of others. It has 16 bytes or more, and is needed for tcp and tls; without
// one a Unix socket is for processes of the same user. What travels by tcp can be read and changed on its way; by tls it cannot, and the key proves that nobody
// sits in between, so no certificates are needed.
func ListenManager(address string, key []byte) (*Manager, error) {
	a, err := wire.ParseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("gpool: listen for a manager: %w", err)
	}
	h := newHost()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.listen(a, key); err != nil {
		return nil, fmt.Errorf("gpool: listen for a manager at %s: %w", a, err)
	}
	learnKey(h.address, key)
	return &Manager{post: h.post, address: h.address, host: h}, nil
}

// DialManager connects this process with a manager. A wrong key is an error that says so. The connection is made again when
// it has ended and the manager is used; what this process held is lost then. All Managers of one address share the connection, and so its Close.
func DialManager(ctx context.Context, address string, key []byte) (*Manager, error) {
	a, err := wire.ParseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("gpool: dial a manager: %w", err)
	}
	p := postAt(a)
	posts.Lock()
	far, ours := posts.far[a], posts.keys[a]
	posts.Unlock()
	if far == nil { // this process serves it
		if !hmac.Equal(ours, key) {
			return nil, fmt.Errorf("gpool: reach the hub at %s: it %w", a, wire.ErrKey)
		}
		return &Manager{post: p, address: a}, nil
	}
	if err := far.dialWith(ctx, key); err != nil {
		return nil, err
	}
	return &Manager{post: p, address: a, far: far}, nil
}

// Address is where other processes find the manager.
func (m *Manager) Address() string { return string(m.address) }

// Close ends the manager, if this process serves it: whoever uses it is told [ErrHubGone]. Else it ends the connection.
func (m *Manager) Close() error {
	if m.host != nil {
		m.host.end()
	}
	if m.far != nil {
		m.far.close()
	}
	return nil
}
