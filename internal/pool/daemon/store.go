package daemon

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gpool/internal/pool/daemon/journal"
	"gpool/internal/pool/daemon/wire"
)

// The server's memory on disk: a journal of what happened, beside the files with the output.

// origin is a context that calls share, and that the journal has once.
type origin struct {
	ref uint64
	wire.Context
	written bool // in the journal
	key     string
	uses    int // calls that refer to it
}

// intern finds the origin that is like c, or makes one.
func (s *Server) intern(c wire.Context) *origin {
	key := c.Dir + "\x00" + strings.Join(c.Env, "\x00")
	if o := s.origins[key]; o != nil {
		return o
	}
	s.lastOrigin++
	o := &origin{ref: s.lastOrigin, Context: c, key: key}
	s.origins[key] = o
	return o
}

// originsMost is how many contexts are remembered for calls to come.
const originsMost = 64

// letGo drops a context that no call refers to any more, if there are many.
func (s *Server) letGo(o *origin) {
	if o.uses--; o.uses <= 0 && len(s.origins) > originsMost {
		delete(s.origins, o.key)
	}
}

// recovery is what replaying the journal gathers.
type recovery struct {
	opened  *opened
	origins map[uint64]*origin
	entries map[uint64]*entry
}

func (r *recovery) play(record []byte) error {
	if len(record) == 0 {
		return errors.New("an empty record")
	}
	switch kind(record[0]) {
	case kindOpened:
		v, err := decode[opened](record)
		r.opened = &v
		return err
	case kindOrigin:
		v, err := decode[originRecord](record)
		r.origins[v.Ref] = &origin{ref: v.Ref, Context: v.Context}
		return err
	case kindAccepted:
		return r.accepted(record)
	case kindBegun:
		v, err := decode[begunRecord](record)
		return r.change(v.N, err, func(e *entry) {
			e.begun, e.state, e.result.Start = v.Attempt, wire.Running, v.At
		})
	case kindEnded:
		v, err := decode[endedRecord](record)
		return r.change(v.N, err, func(e *entry) {
			e.result, e.state = v.Result, wire.Calling
			copy(e.kept[:], v.Kept)
		})
	case kindCalled:
		v, err := decode[calledRecord](record)
		return r.change(v.N, err, func(e *entry) {
			e.state, e.result.Callback, e.told = wire.Done, v.Problem, v.Told
		})
	case kindTaken:
		v, err := decode[numbered](record)
		return r.change(v.N, err, func(e *entry) { e.taken = true })
	case kindForgotten:
		v, err := decode[numbered](record)
		delete(r.entries, v.N)
		return err
	}
	return fmt.Errorf("a record of the kind %q, which a newer gpool has written", record[0])
}

func (r *recovery) accepted(record []byte) error {
	v, err := decode[acceptedRecord](record)
	if err != nil {
		return err
	}
	o := r.origins[v.Origin]
	if o == nil {
		return fmt.Errorf("call %d comes from nowhere", v.N)
	}
	if !v.Attached { // else its client is gone
		r.entries[v.N] = &entry{n: v.N, call: v.Call, context: o, accepted: v.At, state: wire.Waiting}
	}
	if r.opened != nil {
		r.opened.Last = max(r.opened.Last, v.N)
	}
	return nil
}

// change changes an entry. One that is not there was attached, or is gone.
func (r *recovery) change(n uint64, err error, change func(*entry)) error {
	if e := r.entries[n]; e != nil && err == nil {
		change(e)
	}
	return err
}

// openStore opens the spool, and brings back what an earlier server has left.
func (s *Server) openStore() error {
	lock, err := s.config.Place.ClaimSpool()
	if err != nil {
		return err
	}
	s.lock = lock
	r := &recovery{origins: map[uint64]*origin{}, entries: map[uint64]*entry{}}
	j, err := journal.Open(filepath.Join(s.spool, "journal"), r.play)
	if err != nil {
		return fmt.Errorf("bring back pool %q: %w", s.config.Place.Name, err)
	}
	s.journal, s.broken = j, j.Broken()
	var before *Options
	s.nonce = wire.NewNonce()
	if r.opened != nil {
		before, s.nonce, s.last = &r.opened.Options, r.opened.Nonce, r.opened.Last
		s.closed = r.opened.Closed && !s.config.Reopen
	}
	if s.broken != "" {
		s.last += idsAfterDamage
	}
	s.options = s.config.Options(before)
	s.options.Slots = min(max(s.options.Slots, 1), slotsMost)
	s.line.slots = s.options.Slots
	s.recovering = true // until Run begins
	s.recover(r)
	if err := s.sweepFiles(); err != nil {
		return errors.Join(err, j.Close())
	}
	if err := s.rewrite(); err != nil {
		if r.opened == nil {
			return errors.Join(err, j.Close())
		}
		s.unsaved = s.recovered() // the old one is whole; there may be room again, and results can be fetched
	}
	return nil
}

// recovered are the records of what has changed by the recovery.
func (s *Server) recovered() (list [][]byte) {
	list = append(list, encode(kindOpened, s.opened()))
	for _, e := range s.entries {
		if e.result.Outcome == wire.Lost {
			list = append(list, s.ending(e))
		}
	}
	return list
}

// idsAfterDamage is how many ids are left out when part of the journal could not be read: they may
// be those of calls that are in it.
const idsAfterDamage = 1_000_000

// recover takes over what was there: what waits, waits again; what ran is lost, or runs
// again if its client has said so.
func (s *Server) recover(r *recovery) {
	for _, n := range slices.Sorted(maps.Keys(r.entries)) {
		e := r.entries[n]
		s.entries[n] = e
		e.context = s.intern(e.context.Context)
		e.context.uses++
		e.made = [2]bool{e.kept[0] > 0, e.kept[1] > 0}
		s.bytes += e.kept[0] + e.kept[1]
		switch e.state {
		case wire.Running:
			s.measure(e)
			s.lost(e)
		case wire.Waiting:
			s.enter(e)
		case wire.Done:
			s.finished(e)
		}
	}
}

// rewrite makes the journal as short as it can be.
func (s *Server) rewrite() error {
	if err := s.journal.Rewrite(s.snapshot()); err != nil {
		for _, o := range s.origins {
			o.written = false // of the old journal nobody knows
		}
		s.nowhere.written = false
		return fmt.Errorf("write the journal of pool %q in %s: %w", s.config.Place.Name, s.spool, err)
	}
	s.unsaved = nil
	s.compact = 2*s.journal.Size() + compactFrom
	return nil
}

// compactFrom is how much a journal may grow, beside twice what it was, until it is rewritten.
const compactFrom = 4 << 20

// snapshot is the state of the server in as few records as possible.
func (s *Server) snapshot() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !yield(encode(kindOpened, s.opened())) {
			return
		}
		for _, o := range s.origins {
			o.written = false
		}
		s.nowhere.written = false
		for _, n := range slices.Sorted(maps.Keys(s.entries)) {
			for _, record := range s.records(s.entries[n]) {
				if !yield(record) {
					return
				}
			}
		}
	}
}

func (s *Server) opened() opened {
	return opened{Nonce: s.nonce, Last: s.last, Options: s.options, Closed: s.closed}
}

// records are what the journal has to know of an entry.
func (s *Server) records(e *entry) (list [][]byte) {
	from := e.context
	if from == nil { // it has ended, and nothing of it will run
		from = s.nowhere
	}
	list = s.acceptance(list, e, from)
	switch e.state {
	case wire.Running:
		list = append(list, encode(kindBegun, begunRecord{e.n, e.begun, e.result.Start}))
	case wire.Calling:
		list = append(list, s.ending(e))
	case wire.Done:
		list = append(list, s.ending(e), s.called(e))
	}
	if e.taken {
		list = append(list, encode(kindTaken, numbered{e.n}))
	}
	return list
}

// acceptance appends the record of an entry, and of its origin if the journal has not got it.
func (s *Server) acceptance(list [][]byte, e *entry, from *origin) [][]byte {
	if !from.written {
		from.written = true
		list = append(list, encode(kindOrigin, originRecord{from.ref, from.Context}))
	}
	return append(list, encode(kindAccepted, acceptedRecord{e.n, from.ref, e.call, e.accepted, e.peer != nil}))
}

func (s *Server) ending(e *entry) []byte {
	return encode(kindEnded, endedRecord{e.n, e.result, e.kept[:]})
}

// called says that nothing more follows.
func (s *Server) called(e *entry) []byte {
	return encode(kindCalled, calledRecord{e.n, e.told, e.result.Callback})
}

// write books what has happened. What cannot be written is kept, and tried again by the keeper: a
// full disk does not stop what runs.
func (s *Server) write(records ...[]byte) {
	if s.recovering { // the journal is written anew after it
		return
	}
	if len(s.unsaved) == 0 && s.journal.Append(records...) == nil {
		s.compactIfLong()
		return
	}
	s.unsaved = append(s.unsaved, records...)
	s.wake()
}

// save tries again what could not be written: as it is, or by making the journal shorter, which
// leaves out what nobody needs any more.
func (s *Server) save() error {
	if len(s.unsaved) == 0 {
		return nil
	}
	if s.journal.Append(s.unsaved...) == nil {
		s.unsaved = nil
		return nil
	}
	return s.rewrite()
}

// accept books calls that are new: all or none of them.
func (s *Server) accept(list []*entry) error {
	if !s.config.Place.Holds(s.lock) {
		return errors.New("its spool was removed; gpool pool terminate ends it, and then another one can be started")
	}
	if err := s.save(); err != nil {
		return err
	}
	err := s.journal.Append(s.acceptances(list)...)
	if err != nil && s.rewrite() == nil {
		err = s.journal.Append(s.acceptances(list)...)
	}
	if err != nil {
		for _, e := range list {
			e.context.written = false
		}
	}
	return err
}

func (s *Server) acceptances(list []*entry) (records [][]byte) {
	for _, e := range list {
		records = s.acceptance(records, e, e.context)
	}
	return records
}

// compactIfLong rewrites a journal that is long for what is in it. If that fails the old
// one goes on.
func (s *Server) compactIfLong() {
	if s.journal.Size() > s.compact {
		if s.rewrite() != nil {
			s.compact = s.journal.Size() * 2
		}
	}
}

// sweepFiles removes files of calls that the journal does not know, e.g. because the server was
// killed between forgetting a call and removing its output.
func (s *Server) sweepFiles() error {
	if s.broken != "" { // they may be of calls that are in the part that could not be read
		return nil
	}
	list, err := os.ReadDir(s.spool)
	if err != nil {
		return fmt.Errorf("read the spool of pool %q: %w", s.config.Place.Name, err)
	}
	for _, file := range list {
		n, ok := numberOf(file.Name())
		if _, known := s.entries[n]; ok && !known {
			_ = os.Remove(filepath.Join(s.spool, file.Name()))
		}
	}
	return nil
}
