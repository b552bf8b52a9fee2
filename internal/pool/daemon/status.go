package daemon

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"

	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
)

// tell describes the pool. The pools of the runners are asked without the lock, which their
// loops may be waiting for.
func (s *Server) tell(_ context.Context, _ *wire.Peer, q wire.Telling) (wire.Status, error) {
	s.mu.Lock()
	status := s.status(q.Calls)
	runners := slices.Collect(maps.Values(s.runners))
	s.mu.Unlock()
	for _, r := range runners {
		for _, w := range r.pool.Stats().Workers {
			status.Workers = append(status.Workers, s.worker(r, &w))
		}
	}
	slices.SortFunc(status.Workers, func(a, b wire.Worker) int {
		if a.Callbacks != b.Callbacks {
			return map[bool]int{false: -1, true: 1}[a.Callbacks]
		}
		return cmp.Or(cmp.Compare(a.Program, b.Program), cmp.Compare(a.Slot, b.Slot))
	})
	return status, nil
}

func (s *Server) status(calls bool) wire.Status {
	status := wire.Status{
		Pool: s.place.Name, Pid: os.Getpid(), Version: s.config.Version, Started: s.started, Slots: s.options.Slots, Closed: s.closed,
		Waiting: s.line.length(), Calling: s.calling(), Done: s.done, Failed: s.failed,
		Bytes: s.bytes, Limit: s.options.SpoolLimit, Spool: s.place.Spool, Broken: s.broken, Unsaved: len(s.unsaved) > 0, Options: s.options,
	}
	status.Options.Origin = wire.Context{}
	for _, who := range s.leases {
		for range who.held {
			status.Leased = append(status.Leased, who.who)
		}
		for range who.waiting {
			status.Leasing = append(status.Leasing, who.who)
		}
	}
	status.Running = s.line.busy - len(status.Leased)
	for _, n := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[n]
		if e.ended() && e.wanted() {
			status.Kept++
		}
		if calls {
			status.Calls = append(status.Calls, s.info(e))
		}
	}
	return status
}

func (s *Server) worker(r *runner, w *pool.WorkerStats) wire.Worker {
	worker := wire.Worker{
		Program: r.program, Slot: w.Slot, Pid: w.Pid, State: string(w.State), Age: w.Age, Busy: w.Busy, Done: w.Finished, Memory: w.Memory,
		Callbacks: r.key == callbackKey,
	}
	if w.Call != nil {
		worker.ID = s.id(w.Call.Item.(*entry))
	}
	return worker
}
