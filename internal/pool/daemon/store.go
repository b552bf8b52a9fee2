package daemon

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"gpool/internal/pool/daemon/journal"
	"gpool/internal/pool/daemon/wire"
)

// store is the server's memory on disk: a journal of what has happened, beside the files with the
// output. The server's lock guards it.
type store struct {
	place      wire.Place
	lock       *os.File // of the spool, which is ours as long as it is open
	journal    *journal.Journal
	unsaved    [][]byte      // what the journal could not take
	compact    int64         // size at which the journal is rewritten
	recovering bool          // what is booked is in the journal already
	broken     string        // what could not be read of the journal, a file; or ""
	wakeC      chan struct{} // tells the keeper that something is due

	// What the journal says.
	options    Options
	closed     bool   // takes no calls any more
	nonce      string // of all ids
	last       uint64 // number of the last call
	entries    map[uint64]*entry
	origins    map[string]*origin
	lastOrigin uint64
	nowhere    *origin // of calls that will not run any more
	bytes      int64   // of output in the spool
	wanted     int     // entries whose result somebody may still fetch
}

func newStore(place wire.Place) store {
	return store{
		place: place, wakeC: make(chan struct{}, 1), nowhere: &origin{},
		entries: map[uint64]*entry{}, origins: map[string]*origin{},
	}
}

func (s *store) id(e *entry) string { return wire.FormatID(s.place.Name, s.nonce, e.n) }

// wake lets the keeper look what is due.
func (s *store) wake() {
	select {
	case s.wakeC <- struct{}{}:
	default:
	}
}

// origin is a context that calls share, and that the journal has once.
type origin struct {
	ref uint64
	wire.Context
	written bool // in the journal
	key     string
	uses    int // calls that refer to it
}

// intern finds the origin that is like c, or makes one.
func (s *store) intern(c wire.Context) *origin {
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
func (s *store) letGo(o *origin) {
	if o.uses--; o.uses <= 0 && len(s.origins) > originsMost {
		delete(s.origins, o.key)
	}
}

// rewrite makes the journal as short as it can be.
func (s *store) rewrite() error {
	if err := s.journal.Rewrite(s.snapshot()); err != nil {
		for _, o := range s.origins {
			o.written = false // of the old journal nobody knows
		}
		s.nowhere.written = false
		return fmt.Errorf("write the journal of pool %q in %s: %w", s.place.Name, s.place.Spool, err)
	}
	s.unsaved = nil
	s.compact = 2*s.journal.Size() + compactFrom
	return nil
}

// compactFrom is how much a journal may grow, beside twice what it was, until it is rewritten.
const compactFrom = 4 << 20

// snapshot is the state of the server in as few records as possible.
func (s *store) snapshot() iter.Seq[[]byte] {
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

func (s *store) opened() opened {
	return opened{Nonce: s.nonce, Last: s.last, Options: s.options, Closed: s.closed}
}

// records are what the journal has to know of an entry.
func (s *store) records(e *entry) (list [][]byte) {
	from := e.context
	if from == nil { // it has ended, and nothing of it will run
		from = s.nowhere
	}
	list = s.acceptance(list, e, from)
	switch e.state {
	case wire.Waiting, wire.Running:
		if e.begun > 0 {
			list = append(list, encode(kindBegun, begunRecord{e.n, e.begun, e.result.Start}))
		}
		if e.given {
			list = append(list, encode(kindGiven, numbered{e.n}))
		}
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
func (s *store) acceptance(list [][]byte, e *entry, from *origin) [][]byte {
	if !from.written {
		from.written = true
		list = append(list, encode(kindOrigin, originRecord{from.ref, from.Context}))
	}
	return append(list, encode(kindAccepted, acceptedRecord{e.n, from.ref, e.call, e.accepted, e.peer != nil}))
}

func (s *store) ending(e *entry) []byte {
	return encode(kindEnded, endedRecord{e.n, e.result, e.kept[:]})
}

// called says that nothing more follows.
func (s *store) called(e *entry) []byte {
	return encode(kindCalled, calledRecord{e.n, e.told, e.result.Callback})
}

// write books what has happened. What cannot be written is kept, and tried again by the keeper: a
// full disk does not stop what runs.
func (s *store) write(records ...[]byte) {
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
func (s *store) save() error {
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
func (s *store) accept(list []*entry) error {
	if !s.place.Holds(s.lock) {
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

func (s *store) acceptances(list []*entry) (records [][]byte) {
	for _, e := range list {
		records = s.acceptance(records, e, e.context)
	}
	return records
}

// compactIfLong rewrites a journal that is long for what is in it. If that fails the old
// one goes on.
func (s *store) compactIfLong() {
	if s.journal.Size() > s.compact {
		if s.rewrite() != nil {
			s.compact = s.journal.Size() * 2
		}
	}
}

// add takes a call up.
func (s *store) add(e *entry) {
	s.entries[e.n] = e
	if e.wanted() {
		s.wanted++
	}
}

// settle sets one of the fields that say that nobody waits for a result any more.
func (s *store) settle(e *entry, field *bool) {
	if s.entries[e.n] == e && e.wanted() {
		s.wanted--
	}
	*field = true
}

// forget drops a result.
func (s *store) forget(e *entry) {
	s.settle(e, new(bool))
	delete(s.entries, e.n)
	s.write(encode(kindForgotten, numbered{e.n}))
	s.erase(e)
}
