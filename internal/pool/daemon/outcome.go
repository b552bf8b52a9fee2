package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gpool/internal/command"
	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
)

// How calls ended: from the pool's words to those of clients.

// outcomes are the kinds of results.
var outcomes = map[pool.Kind]wire.Outcome{
	pool.Succeeded: wire.Succeeded, pool.Failed: wire.Failed, pool.NotStarted: wire.NotStarted, pool.WorkerDied: wire.WorkerDied,
	pool.Cancelled: wire.Cancelled, pool.TimedOut: wire.TimedOut, pool.OutOfMemory: wire.OutOfMemory,
}

// resultOf reads a result of the pool; of a task, the exit code is that of no command.
func resultOf(p *pool.Result, task bool) wire.Result {
	r := wire.Result{
		Outcome: outcomes[p.Kind], Exit: -1, Slot: p.Slot, Pid: p.Pid, Attempt: p.Attempt, Start: p.Start,
	}
	if p.Start.IsZero() {
		r.End = time.Now()
	} else {
		r.End = p.Start.Add(p.Elapsed)
	}
	if p.Err != nil {
		r.Error = reasonOf(p)
	}
	if start, failed := errors.AsType[*pool.StartError](p.Err); failed && p.Kind == pool.Cancelled {
		r.Outcome, r.Error, r.Exit = wire.NotStarted, start.Error(), 125
	}
	if !task {
		readStatus(&r, p)
	}
	r.Error = shortError(r.Error)
	return r
}

// reasonOf says why a call has no result.
func reasonOf(p *pool.Result) string {
	if limit, ok := errors.AsType[*pool.LimitError](p.Err); ok {
		return limit.Reason()
	}
	return p.Err.Error()
}

// readStatus finds how a command ended: its status travels as the value of a success, or in
// the data of a failure.
func readStatus(r *wire.Result, p *pool.Result) {
	data := p.Value
	if failure, ok := errors.AsType[*pool.TaskError](p.Err); ok {
		data = failure.Data
	}
	if len(data) == 0 { // none has ended
		return
	}
	var reader command.StatusReader
	status, err := reader.Read(data)
	if err != nil { // our own worker wrote it
		r.Error = errors.Join(p.Err, err).Error()
		return
	}
	r.Exit, r.Signal, r.Leaked, r.MaxRSS = status.Exit, status.Signal, status.Leaked, int64(status.MaxRSS)<<10
	r.User, r.System = time.Duration(status.User)*time.Microsecond, time.Duration(status.System)*time.Microsecond
}

// retryIf says which failures of a call are worth another attempt. It is asked by the loop of
// its pool.
func (s *Server) retryIf(e *entry) func(*pool.Result) bool {
	return func(p *pool.Result) bool {
		s.mu.Lock()
		over := e.given || e.failure != nil
		s.mu.Unlock()
		return !over && worthRetry(e.call.RetryOn, p)
	}
}

func worthRetry(on wire.RetryOn, p *pool.Result) bool {
	switch p.Kind {
	case pool.Failed:
		r := resultOf(p, false)
		return on.Any || on.Failed || slices.Contains(on.Codes, r.Exit)
	case pool.TimedOut:
		return on.Any || on.Timeout
	case pool.WorkerDied:
		return on.Any || on.Died
	case pool.OutOfMemory:
		return on.Any || on.Memory
	}
	return false
}

// errorMost is how much of an error is kept: that of a task may be of any size.
const errorMost = 4 << 10

func shortError(text string) string {
	text = strings.ReplaceAll(text, "\x00", "\uFFFD") // no variable can hold it
	if len(text) <= errorMost {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(text[:errorMost], ""), len(text))
}
