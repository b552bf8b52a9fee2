package main

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/report"
)

// story tells of a run while it goes on: it listens to the pool, for --events, and looks
// once a second at what runs.
type story struct {
	run     *run
	printer *printer
	events  *report.Events // nil without
	quitC   chan struct{}
	ended   sync.WaitGroup

	mu   sync.Mutex
	pool *pool.Pool // once there is one
	err  error      // of the events
}

// lookEvery is how often calls that run are looked at.
const lookEvery = time.Second

func newStory(r *run, p *printer, e *report.Events) *story {
	return &story{run: r, printer: p, events: e, quitC: make(chan struct{})}
}

// begin starts the goroutine that looks. stop ends it.
func (s *story) begin(p *pool.Pool) {
	s.mu.Lock()
	s.pool = p
	s.mu.Unlock()
	s.ended.Go(func() { s.watch(p) })
	if s.events != nil {
		s.told(s.events.RunStarted(s.run.start()))
	}
}

func (s *story) stop() {
	close(s.quitC)
	s.ended.Wait()
}

// end is the last event. It returns the first error of all.
func (s *story) end(t *report.Totals) error {
	if s.events == nil {
		return nil
	}
	s.told(s.events.RunFinished(t))
	s.told(s.events.Close())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// told takes the error of an event. If the reader of the events has left, the run goes on
// without; if they cannot be written it ends.
func (s *story) told(err error) {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		if s.pool != nil {
			s.pool.Stop(pool.Terminate)
		}
	}
}

// hear is the listener of the pool; it has a goroutine to itself.
func (s *story) hear(e pool.Event) {
	if e.Kind == pool.WorkersFewer && s.printer.fewer.Swap(int64(e.Workers)) == 0 {
		s.printer.say("there is no room for all workers, the run goes on with fewer: %v", e.Err)
	}
	if s.events == nil {
		return
	}
	switch e.Kind {
	case pool.WorkerStarted:
		s.told(s.events.WorkerStarted(e.Slot, e.Pid))
	case pool.WorkerReady:
		s.told(s.events.WorkerReady(e.Slot, e.Pid))
	case pool.WorkerLeft:
		s.told(s.events.WorkerLeft(e.Slot, e.Pid))
	case pool.WorkerLost:
		s.told(s.events.WorkerDied(e.Slot, e.Pid, e.Err))
	case pool.WorkersFewer:
		s.told(s.events.WorkersFewer(e.Workers, e.Err))
	default:
		s.hearCall(e)
	}
}

func (s *story) hearCall(e pool.Event) {
	switch e.Kind {
	case pool.CallStarted:
		s.told(s.events.CallStarted(e.Call.Seq, columns(e.Call), e.Attempt, e.Slot, e.Pid, e.Time))
	case pool.CallRetried:
		end := s.run.work.outcome(e.Result)
		failed := end.attempt(e.Result)
		s.told(s.events.CallRetried(e.Result.Call.Seq, columns(e.Result.Call), &failed, e.Result.Again))
	case pool.CallFinished:
		end := s.run.work.outcome(e.Result)
		if rec := s.run.record(e.Result, &end); rec.Status != report.Skipped {
			s.told(s.events.CallFinished(rec))
		}
	}
}

func columns(c *pool.Call) []string { return c.Item.(*input.Row).Columns }

// watch looks at what runs, until stop.
func (s *story) watch(p *pool.Pool) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	silence := report.Silence{After: s.run.opts.stillAfter}
	sizes := map[uint64]int64{} // of the output of calls that run, as it was told
	for {
		select {
		case <-s.quitC:
			return
		case now := <-ticker.C:
			calls := runningCalls(p, now)
			if s.run.opts.stillAfter > 0 {
				for _, line := range silence.Lines(calls, now) {
					s.printer.say("%s", line)
				}
			}
			if s.events != nil {
				sizes = s.tellOutput(calls, sizes)
				s.told(s.events.Flush())
			}
		}
	}
}

// tellOutput tells how much the calls that run have printed, if it has become more.
func (s *story) tellOutput(calls []report.Running, before map[uint64]int64) map[uint64]int64 {
	sizes := make(map[uint64]int64, len(calls))
	for i := range calls {
		c := &calls[i]
		sizes[c.Seq] = c.Stdout + c.Stderr
		if sizes[c.Seq] != before[c.Seq] {
			s.told(s.events.CallOutput(c.Seq, c.Attempt, c.Stdout, c.Stderr))
		}
	}
	return sizes
}

// runningCalls are what the workers run now.
func runningCalls(p *pool.Pool, now time.Time) []report.Running {
	var list []report.Running
	for _, w := range p.Look().Workers {
		if w.Call == nil {
			continue
		}
		list = append(list, report.Running{
			Seq: w.Call.Seq, Item: columns(w.Call), Attempt: w.Attempt, Slot: w.Slot, Pid: w.Pid,
			Since: now.Add(-w.Busy), LastOutput: w.Spoke, Stdout: w.Printed.Stdout, Stderr: w.Printed.Stderr,
		})
	}
	return list
}
