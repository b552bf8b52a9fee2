package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/value"
)

// What calls print: a file for each stream of a call, made with the first byte. Between the
// limits of size and age it is the disk's, and costs no memory.

// numberOf reads the number of a call from the name of its file.
func numberOf(name string) (n uint64, ok bool) {
	number, found := strings.CutSuffix(name, ".out")
	if !found {
		number, found = strings.CutSuffix(name, ".err")
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return n, found && err == nil
}

// keepOutput adds to what a call has printed. After a failure, which it returns once, the rest is
// dropped. The deliverer of the call's runner is the only one who writes its files.
func (s *Server) keepOutput(e *entry, stream ipc.Stream, data []byte) (err error) {
	if e.failure != nil {
		return nil
	}
	if err = s.takeRoom(int64(len(data))); err == nil {
		err = e.append(s.place.Spool, stream, data)
		if err != nil {
			err = fmt.Errorf("its output could not be kept in the spool (GPOOL_SPOOL chooses where that is): %w", err)
			s.mu.Lock()
			s.bytes -= int64(len(data))
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		e.failure = err
		return err
	}
	e.kept[stream-1] += int64(len(data))
	e.news()
	return nil
}

// append writes to the file of a stream. What a full disk has taken in part is cut off.
func (e *entry) append(spool string, stream ipc.Stream, data []byte) error {
	at := &e.files[stream-1]
	if *at == nil {
		file, err := os.OpenFile(e.path(spool, stream), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		*at, e.made[stream-1] = file, true
	}
	if _, err := (*at).Write(data); err != nil {
		return errors.Join(err, (*at).Truncate(e.kept[stream-1]))
	}
	return nil
}

// takeRoom counts bytes that come into the spool. At its limit, results make room that nobody waits
// for: those that were fetched and are only kept, or that a callback has had; the oldest first.
func (s *Server) takeRoom(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.options.SpoolLimit
	if limit > 0 && s.bytes+n > limit {
		s.makeRoom(s.bytes + n - limit)
	}
	if limit > 0 && s.bytes+n > limit {
		return fmt.Errorf("its output could not be kept: the spool of the pool has its limit of %d MiB of results that wait to be fetched; fetch them (gpool get), or start the pool with a higher --spool-limit", limit>>20)
	}
	s.bytes += n
	return nil
}

// makeRoom drops results that nobody waits for.
func (s *store) makeRoom(n int64) {
	var kept []*entry
	for _, e := range s.entries {
		if !e.wanted() && e.state == wire.Done && e.kept[0]+e.kept[1] > 0 {
			kept = append(kept, e)
		}
	}
	slices.SortFunc(kept, func(a, b *entry) int { return a.result.End.Compare(b.result.End) })
	for _, e := range kept {
		if n <= 0 {
			return
		}
		n -= e.kept[0] + e.kept[1]
		s.forget(e)
	}
}

// restart begins the files of a call anew, for another attempt.
func (s *Server) restart(e *entry, attempt int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.attempt = attempt
	for i := range e.files {
		s.bytes -= e.kept[i]
		e.kept[i] = 0
		if e.files[i] != nil {
			if err := e.files[i].Truncate(0); err != nil {
				e.failure = err
			}
		}
	}
}

// keepValue keeps what a task has returned, as a line.
func (s *Server) keepValue(e *entry, p *pool.Result) error {
	v, err := value.Returned(p.Value)
	if err != nil {
		return err
	}
	text, err := value.AppendText(nil, v)
	if err != nil {
		return fmt.Errorf("write what it returned as text: %w", err)
	}
	return s.keepOutput(e, ipc.Stdout, append(text, '\n'))
}

// close ends the writing of a call's files.
func (s *store) close(e *entry) {
	for i, file := range e.files {
		if file != nil {
			if err := file.Close(); err != nil && e.failure == nil {
				e.failure = err
			}
			e.files[i] = nil
		}
	}
}

// erase gives the room of a result back.
func (s *store) erase(e *entry) {
	s.close(e)
	for i, stream := range []ipc.Stream{ipc.Stdout, ipc.Stderr} {
		if e.made[i] {
			_ = os.Remove(e.path(s.place.Spool, stream)) // else sweepFiles does it
		}
		s.bytes -= e.kept[i]
		e.kept[i], e.made[i] = 0, false
	}
}

// measure finds what a call has printed that ran when its server was killed.
func (s *store) measure(e *entry) {
	for i, stream := range []ipc.Stream{ipc.Stdout, ipc.Stderr} {
		if info, err := os.Stat(e.path(s.place.Spool, stream)); err == nil {
			e.made[i], e.kept[i] = true, info.Size()
			s.bytes += info.Size()
		}
	}
}

// printed is the file with a stream of a call that has ended, or one that is empty.
func (e *entry) printed(spool string, s ipc.Stream) string {
	if e.kept[s-1] == 0 {
		return os.DevNull
	}
	return e.path(spool, s)
}
