package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
)

// What clients ask. Each question runs on a goroutine of its own, and ends at the latest with
// its connection.

func (s *Server) mux() *wire.Mux {
	m := &wire.Mux{Came: s.came, Gone: s.gone}
	handle(s, m, wire.Submit, s.submit)
	handle(s, m, wire.Await, s.await)
	handle(s, m, wire.Look, s.look)
	handle(s, m, wire.Follow, s.follow)
	handle(s, m, wire.Taken, s.take)
	handle(s, m, wire.Cancel, s.cancel)
	handle(s, m, wire.Tell, s.tell)
	handle(s, m, wire.Resize, s.resize)
	handle(s, m, wire.Close, s.shut)
	handle(s, m, wire.Join, s.join)
	handle(s, m, wire.Terminate, s.terminate)
	handle(s, m, wire.Share, s.share)
	handle(s, m, wire.Lease, s.lease)
	handle(s, m, wire.Release, s.giveBack)
	return m
}

// handle answers a method.
func handle[Q, A any](s *Server, m *wire.Mux, method wire.Method[Q, A], f func(context.Context, *wire.Peer, Q) (A, error)) {
	wire.Handle(m, method, func(ctx context.Context, p *wire.Peer, q Q) (A, error) {
		if err := s.refusal(string(method)); err != nil {
			var none A
			return none, err
		}
		a, err := f(ctx, p, q)
		if err != nil && ctx.Err() != nil { // or the client is gone, and nobody hears it
			err = s.endedFault()
		}
		return a, err
	})
}

// refusal is why a question is not answered any more. When the server ends it answers those about
// calls a bit longer, and no others: these are for the next one.
func (s *Server) refusal(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left:
		return s.endedFault()
	case s.why != lives && (method == string(wire.Submit) || method == string(wire.Lease) || method == string(wire.Tell) || method == string(wire.Resize)):
		return s.endedFault()
	}
	return nil
}

// came takes up a client that has said hello.
func (s *Server) came(p *wire.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[p], s.met = false, true
	s.consider()
}

func (s *Server) endedFault() error {
	return &wire.Fault{Code: wire.FaultEnded, Text: fmt.Sprintf("the server of pool %q has ended", s.place.Name)}
}

// gone takes back what a client had.
func (s *Server) gone(p *wire.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
	s.leftBy(p)
	for _, e := range s.attached[p] {
		s.abandon(e)
	}
	delete(s.attached, p)
	s.dispatch()
	s.consider()
}

// onlyEnd notes that all that a client still wants is the end of the pool. It may be gone already.
func (s *Server) onlyEnd(p *wire.Peer) {
	if _, here := s.peers[p]; here {
		s.peers[p] = true
	}
}

// abandon gives up a call whose client is gone.
func (s *Server) abandon(e *entry) {
	switch {
	case s.entries[e.n] != e: // its result was fetched
	case e.state == wire.Done:
		s.forget(e)
	default:
		s.giveUp(e)
	}
}

func (s *Server) closedFault() error {
	switch s.why {
	case terminated:
		return &wire.Fault{Code: wire.FaultEnded, Text: fmt.Sprintf("pool %q was terminated", s.place.Name)}
	case finished, handedOn:
		return s.endedFault()
	}
	return &wire.Fault{Code: wire.FaultClosed, Text: fmt.Sprintf("pool %q is closed, and takes no more calls; gpool pool join waits until it has ended, and then another one can be started", s.place.Name)}
}

func (s *Server) submit(_ context.Context, p *wire.Peer, q wire.Submission) (a wire.Accepted, err error) {
	for i := range q.Calls {
		if err := check(&q.Calls[i]); err != nil {
			return a, err
		}
	}
	if len(q.Calls) == 0 {
		return a, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.why != lives {
		return a, s.closedFault()
	}
	from := s.intern(q.Context)
	from.uses += len(q.Calls)
	list := make([]*entry, len(q.Calls))
	now := time.Now()
	for i := range q.Calls {
		list[i] = &entry{n: s.last + uint64(i) + 1, call: q.Calls[i], context: from, accepted: now}
		if q.Attached {
			list[i].peer = p
		}
	}
	if err := s.accept(list); err != nil {
		from.uses -= len(list) - 1
		s.letGo(from)
		return a, &wire.Fault{Code: wire.FaultFull, Text: fmt.Sprintf("pool %q cannot take the call, since its journal cannot be written (GPOOL_SPOOL chooses where): %v", s.place.Name, err)}
	}
	for _, e := range list {
		s.last = e.n
		s.add(e)
		s.enter(e)
		a.IDs = append(a.IDs, s.id(e))
	}
	if q.Attached {
		s.attached[p] = append(s.attached[p], list...)
	}
	s.compactIfLong()
	s.dispatch()
	s.consider()
	return a, nil
}

// check finds what no client of ours would send.
func check(c *wire.Call) error {
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "" || c.Path == "":
		return &wire.Fault{Code: wire.FaultBroken, Text: "a call without a command"}
	case c.Timeout < 0 || c.Retries < 0 || c.MinWait < 0 || c.MaxWait < 0:
		return &wire.Fault{Code: wire.FaultBroken, Text: "a call with a limit below zero"}
	case c.Shell == "" && c.Callback+c.ErrorCallback != "":
		return &wire.Fault{Code: wire.FaultBroken, Text: "a callback without a shell"}
	}
	return nil
}

// waits counts a question that may take long, until the function that it returns is called. While
// a callback asks it, another one may run in its place: it may be what the callback waits for.
func (s *Server) waits(within string) (end func()) {
	s.asking++
	e, err := s.find(within)
	if err != nil || e.state != wire.Calling {
		e = nil
	}
	s.block(e, 1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking--
		s.block(e, -1)
	}
}

// block counts the questions of a callback, nil for none.
func (s *Server) block(e *entry, n int) {
	if e == nil {
		return
	}
	was := e.asking > 0
	e.asking += n
	if is := e.asking > 0; is != was {
		s.blocked += n
		s.resizeCallbacks()
	}
}

func (s *Server) await(ctx context.Context, _ *wire.Peer, q wire.Awaiting) (a wire.Awaited, err error) {
	s.mu.Lock()
	list, err := s.named(&q)
	if err != nil {
		s.mu.Unlock()
		return a, err
	}
	w := &waiter{any: q.Any, doneC: make(chan struct{})}
	for _, e := range list {
		if e.state == wire.Done {
			w.first = e
			continue
		}
		w.left++
		e.waiters = append(e.waiters, w)
	}
	ready := w.left == 0 || w.any && w.first != nil
	end := s.waits(q.Within)
	s.mu.Unlock()
	defer end()
	if !ready {
		w.wait(ctx, q.Until)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.first != nil {
		a.First = s.info(w.first)
	}
	for _, e := range list {
		s.tally(&a, e)
		e.waiters = slices.DeleteFunc(e.waiters, func(other *waiter) bool { return other == w })
	}
	return a, ctx.Err()
}

// wait waits for the calls, the time, or the end of the question.
func (w *waiter) wait(ctx context.Context, until time.Time) {
	var lateC <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		lateC = timer.C
	}
	select {
	case <-w.doneC:
	case <-lateC:
	case <-ctx.Done():
	}
}

// tally counts a call.
func (s *Server) tally(a *wire.Awaited, e *entry) {
	switch {
	case e.state != wire.Done:
		a.Pending++
		if len(a.Open) < wire.OpenMost {
			a.Open = append(a.Open, s.info(e))
		}
		return
	case e.result.Outcome != wire.Succeeded:
		a.Failed++
		if len(a.Failures) < wire.FailuresMost {
			a.Failures = append(a.Failures, s.info(e))
		}
	case e.result.Callback != "" && len(a.Remarks) < wire.FailuresMost:
		a.Remarks = append(a.Remarks, s.info(e))
	}
	a.Done++
}

// named finds calls by their ids, or all but that within which they are asked for. Where one is
// enough, some may be fetched already.
func (s *Server) named(q *wire.Awaiting) (list []*entry, err error) {
	if len(q.IDs) == 0 {
		for _, n := range slices.Sorted(maps.Keys(s.entries)) {
			if e := s.entries[n]; s.id(e) != q.Within {
				list = append(list, e)
			}
		}
		return list, nil
	}
	for _, id := range q.IDs {
		e, err := s.find(id)
		if err == nil && id == q.Within {
			err = s.itself(id)
		}
		switch {
		case err == nil:
			list = append(list, e)
		case !q.Any:
			return nil, err
		}
	}
	return list, nil
}

// itself refuses what would wait for the call in which it is asked.
func (s *Server) itself(within string) error {
	if e, err := s.find(within); err == nil && e.state != wire.Done {
		return &wire.Fault{Code: wire.FaultBroken, Text: fmt.Sprintf("this is part of call %s, and would wait for itself; other calls can be waited for by their ids", within)}
	}
	return nil
}

func (s *Server) look(_ context.Context, _ *wire.Peer, q wire.Lookup) (i wire.Info, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(q.ID)
	if err != nil {
		return i, err
	}
	return s.info(e), nil
}

func (s *Server) follow(ctx context.Context, _ *wire.Peer, q wire.Following) (i wire.Info, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(q.ID)
	if err != nil {
		return i, err
	}
	end := s.waits(q.Within)
	defer func() {
		s.mu.Unlock()
		end()
		s.mu.Lock()
	}()
	for !e.ended() && e.kept[0] <= q.Stdout && e.kept[1] <= q.Stderr && ctx.Err() == nil {
		if e.newsC == nil {
			e.newsC = make(chan struct{})
		}
		newsC := e.newsC
		s.mu.Unlock()
		select {
		case <-newsC:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	return s.info(e), ctx.Err()
}

func (s *Server) take(_ context.Context, _ *wire.Peer, q wire.Lookup) (n wire.Nothing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(q.ID)
	switch {
	case s.left:
		return n, s.endedFault()
	case err != nil:
		return n, err
	case !e.ended():
		return n, &wire.Fault{Code: wire.FaultBroken, Text: fmt.Sprintf("call %s has not ended, so its result was not fetched", q.ID)}
	case e.state == wire.Done && !e.call.Keep:
		s.forget(e)
	case !e.taken:
		s.settle(e, &e.taken) // its callback still reads it, or it is to be kept
		s.write(encode(kindTaken, numbered{e.n}))
	}
	s.consider()
	return n, nil
}

func (s *Server) cancel(_ context.Context, _ *wire.Peer, q wire.Lookup) (i wire.Info, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(q.ID)
	if s.left {
		err = s.endedFault()
	}
	if err != nil {
		return i, err
	}
	i = s.info(e) // as it was found
	s.giveUp(e)
	s.dispatch()
	return i, nil
}

// slotsMost keeps a slip of the finger from taking the machine down.
const slotsMost = 10000

// resize changes the number of slots.
func (s *Server) resize(_ context.Context, _ *wire.Peer, q wire.Size) (n wire.Nothing, err error) {
	if q.N < 1 || q.N > slotsMost {
		return n, &wire.Fault{Code: wire.FaultBroken, Text: fmt.Sprintf("a pool has 1 to %d slots", slotsMost)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Slots, s.line.slots = q.N, q.N
	s.write(encode(kindOpened, s.opened()))
	for _, r := range s.runners {
		if r.key != callbackKey {
			_ = r.pool.Resize(q.N) // one that is closed needs none
		}
	}
	s.dispatch()
	return n, nil
}

// shut takes no more calls.
func (s *Server) shut(_ context.Context, p *wire.Peer, _ wire.Nothing) (n wire.Nothing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.write(encode(kindOpened, s.opened()))
	}
	s.onlyEnd(p)
	s.consider()
	return n, nil
}

func (s *Server) join(ctx context.Context, p *wire.Peer, q wire.Joining) (n wire.Nothing, err error) {
	s.mu.Lock()
	if err := s.itself(q.Within); err != nil {
		s.mu.Unlock()
		return n, err
	}
	if !s.closed {
		defer s.mu.Unlock()
		return n, &wire.Fault{Code: wire.FaultOpen, Text: fmt.Sprintf("pool %q is not closed, so it may be handed more calls: gpool pool close first", s.place.Name)}
	}
	s.onlyEnd(p)
	s.consider()
	end := s.waits("")
	s.mu.Unlock()
	defer end()
	select {
	case <-s.joinedC:
	case <-s.endC:
	case <-ctx.Done():
		return n, context.Cause(ctx)
	}
	return n, nil
}

// terminate ends all calls at once, and tells everybody who waits for them.
func (s *Server) terminate(_ context.Context, p *wire.Peer, _ wire.Nothing) (n wire.Nothing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onlyEnd(p)
	if s.why == terminated {
		return n, nil
	}
	over := s.opened()
	over.Over = true
	s.write(encode(kindOpened, over)) // or the next server would go on with it, if this one is killed
	s.end(terminated)
	for _, e := range s.entries {
		s.line.leave(&e.ticket)
		if e.state != wire.Done {
			s.cut(e)
		}
	}
	s.stopRunners(pool.Terminate)
	s.refuseLeases(s.closedFault())
	return n, nil
}

// cut is the end of a call with its pool. Its callback does not run, as in Python.
func (s *Server) cut(e *entry) {
	if !e.ended() {
		e.result.Outcome, e.result.Exit, e.result.Error, e.result.End = wire.Terminated, -1, "its pool was terminated", time.Now()
	}
	e.state = wire.Done
	e.news()
	s.over(e)
}
