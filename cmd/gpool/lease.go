package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"gpool/internal/pool/daemon/wire"
)

// leases are slots of a background pool in which the calls of a run take place, each for one
// call and in turn with the calls of others. They implement admit.Lender: what is asked of the
// server is asked by goroutines, which end with its answer or with the connection.
type leases struct {
	client *wire.Client
	who    string // for the pool's status
	own    int    // 1 if the run is itself a call of the pool, and so has a slot already
	asking sync.WaitGroup

	mu     sync.Mutex // guards what follows
	wake   func()
	used   int // leased slots in which a call runs
	free   int // that were granted, and have no call yet
	asked  bool
	closed bool
	err    error  // why there will be no more
	end    func() // ends the run then
}

// openLeases connects to a pool, which is started if it is not there, and returns how many slots it
// has.
func openLeases(name, who string, io stdio) (l *leases, slots int, err error) {
	to, err := newClients(exitPool, io).link(name, "--reopen")
	if err != nil {
		return nil, 0, err
	}
	to.always = true
	status, err := ask(context.Background(), to, wire.Tell, wire.Telling{})
	if err != nil {
		return nil, 0, err
	}
	l = &leases{client: to.client, who: who}
	if namesCallOf(name) && to.runsUs() {
		l.own = 1
	}
	return l, status.Slots, nil
}

// namesCallOf reports whether our environment has the id of a call of a pool.
func namesCallOf(pool string) bool {
	of, _, _, err := wire.ParseID(os.Getenv(idVariable))
	return err == nil && of == pool
}

// runsUs reports whether that call runs, and so has a slot. We are part of it, and no callback, nor
// left behind by a call that has ended: if we waited for another slot, none might ever be free.
func (l *link) runsUs() bool {
	info, err := ask(context.Background(), l, wire.Look, wire.Lookup{ID: os.Getenv(idVariable)})
	return err == nil && info.State == wire.Running
}

// Attach implements admit.Lender.
func (l *leases) Attach(wake func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = wake
}

// Take implements admit.Lender.
func (l *leases) Take(running int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended(running)
	if running < l.own {
		return true
	}
	if l.free > 0 {
		l.free--
		l.used++
		return true
	}
	if !l.asked && !l.closed && l.err == nil {
		l.asked = true
		l.asking.Go(l.ask)
	}
	return false
}

// ended gives back the slots of calls that have ended.
func (l *leases) ended(running int) {
	if n := l.used - max(0, running-l.own); n > 0 {
		l.used -= n
		l.giveBack(n)
	}
}

func (l *leases) giveBack(n int) {
	l.asking.Go(func() {
		_, _ = wire.Ask(context.Background(), l.client, wire.Release, wire.Size{N: n}) // or the connection has ended, and so have all
	})
}

// ask waits for a slot.
func (l *leases) ask() {
	_, err := wire.Ask(context.Background(), l.client, wire.Lease, wire.Leasing{Who: l.who, ID: os.Getenv(idVariable)})
	l.mu.Lock()
	l.asked = false
	if err == nil {
		l.free++
	}
	wake := l.wake
	l.mu.Unlock()
	if err != nil {
		l.lose(err)
	}
	wake()
}

// lose is the end of the pool, or of our connection to it.
func (l *leases) lose(err error) {
	l.mu.Lock()
	end := l.end
	if l.closed || l.err != nil {
		end = nil
	} else {
		l.err = fmt.Errorf("the run has lost the slots of its background pool: %w", err)
	}
	l.mu.Unlock()
	if end != nil {
		end()
	}
}

// whenLost says how to end the run if the pool ends before it. Without leases nothing does.
func (l *leases) whenLost(end func()) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = end
	l.asking.Go(func() {
		<-l.client.Done()
		l.lose(wire.ErrServerGone)
	})
}

// lost is why the pool has ended before the run, or nil.
func (l *leases) lost() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Settle implements admit.Lender.
func (l *leases) Settle(running int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended(running)
	if l.free > 0 {
		l.giveBack(l.free)
		l.free = 0
	}
}

// Release implements admit.Lender.
func (l *leases) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_ = l.client.Close()
}

// Wait implements admit.Lender.
func (l *leases) Wait() { l.asking.Wait() }
