package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gpool/internal/pool/daemon/journal"
	"gpool/internal/pool/daemon/wire"
)

// How a server goes on where an earlier one has ended, however that was.

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
		if v.Over {
			r.opened, r.entries = nil, map[uint64]*entry{}
		}
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
	case kindGiven:
		v, err := decode[numbered](record)
		return r.change(v.N, err, func(e *entry) { e.given = true })
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
	lock, err := s.place.ClaimSpool()
	if err != nil {
		return err
	}
	s.lock = lock
	r := &recovery{origins: map[uint64]*origin{}, entries: map[uint64]*entry{}}
	j, err := journal.Open(filepath.Join(s.place.Spool, "journal"), r.play)
	if err != nil {
		return fmt.Errorf("bring back pool %q: %w", s.place.Name, err)
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
			err = errors.Join(err, j.Close())
			if s.broken == "" { // nothing was here before
				err = errors.Join(err, os.RemoveAll(s.place.Spool))
			}
			return err
		}
		s.unsaved = s.recovered() // the old one is whole; there may be room again, and results can be fetched
	}
	return nil
}

// recovered are the records of what has changed by the recovery.
func (s *store) recovered() (list [][]byte) {
	list = append(list, encode(kindOpened, s.opened()))
	for _, e := range s.entries {
		if e.state == wire.Calling && (e.result.Outcome == wire.Lost || e.given) {
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
		s.add(e)
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

// sweepFiles removes files of calls that the journal does not know, e.g. because the server was
// killed between forgetting a call and removing its output.
func (s *store) sweepFiles() error {
	if s.broken != "" { // they may be of calls that are in the part that could not be read
		return nil
	}
	list, err := os.ReadDir(s.place.Spool)
	if err != nil {
		return fmt.Errorf("read the spool of pool %q: %w", s.place.Name, err)
	}
	for _, file := range list {
		n, ok := numberOf(file.Name())
		if _, known := s.entries[n]; ok && !known {
			_ = os.Remove(filepath.Join(s.place.Spool, file.Name()))
		}
	}
	return nil
}
