package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"gpool/internal/command"
	"gpool/internal/ipc"
	"gpool/internal/pool"
	"gpool/internal/pool/daemon/wire"
	"gpool/internal/pool/launch"
)

// runner is a pool of workers of one program, with one job that lasts as long. It gets a call
// when that has a slot, so what all runners run at once is bounded by the line and not by them.
// It implements pool.Source and pool.Consumer. The server's lock guards its fields.
type runner struct {
	server  *Server
	key     string
	program string // for status; empty if it runs commands
	pool    *pool.Pool
	job     *pool.Running
	waiting []*entry
	open    map[*entry]bool // calls that it has
	wakeC   chan struct{}
	closed  bool
	used    time.Time
}

// The runners that are there for commands, and for callbacks, which take no slot: a callback
// may hand in calls and wait for them.
const (
	commandKey  = ""
	callbackKey = "callback"
)

// callbacksMost is how many callbacks run at once, beside those that wait for calls.
const callbacksMost = 4

// runnersMost is how many runners of programs that do nothing are kept warm.
const runnersMost = 8

// runnerFor finds the workers for a call, or starts them.
func (s *Server) runnerFor(e *entry) (*runner, error) {
	if e.call.Task == "" {
		return s.runner(commandKey, "", s.commandConfig)
	}
	environ := launch.With(e.context.Env, append(s.hub.variables(), e.call.Env...))
	slices.Sort(environ)
	identity := strings.Join(slices.Concat([]string{e.call.Path, e.dir()}, e.call.Argv, []string{""}, settled(environ)), "\x00")
	sum := sha256.Sum256([]byte(identity))
	return s.runner(hex.EncodeToString(sum[:]), command.QuoteArgv(e.call.Argv), func() (pool.Config, error) {
		return s.programConfig(e, environ), nil
	})
}

// settled leaves out of an environment what shells change by themselves, from command to command.
func settled(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "_" || name == "SHLVL" || name == "OLDPWD"
	})
}

func (e *entry) dir() string {
	if e.call.Dir != "" {
		return e.call.Dir
	}
	return e.context.Dir
}

// runner returns the runner of a key, and makes it if it is not there.
func (s *Server) runner(key, program string, config func() (pool.Config, error)) (*runner, error) {
	if r := s.runners[key]; r != nil && !r.closed {
		return r, nil
	}
	c, err := config()
	if err != nil {
		return nil, err
	}
	c.Grace = s.options.Grace
	r := &runner{server: s, key: key, program: program, open: map[*entry]bool{}, wakeC: make(chan struct{}, 1)}
	if r.pool, err = pool.New(c); err != nil {
		return nil, err
	}
	r.job, err = r.pool.Submit(pool.Job{
		Source: r, Consumer: r, Order: pool.Unordered, Lines: true, Single: true, ChunkSize: 1,
		Claim: r.claim, Done: r.over,
	})
	if err != nil {
		s.closing.Go(r.pool.Close)
		return nil, err
	}
	s.retireIdle()
	s.runners[key], s.open[r] = r, true
	return r, nil
}

func (s *Server) commandConfig() (pool.Config, error) {
	o := &s.options
	c := pool.Config{Workers: o.Slots, Quota: pool.Quota{N: o.MaxCalls}}
	c.Memory.Call = o.MaxRSS
	if o.Initializer != "" {
		c.InitTask = command.ExecTask
		c.InitCommon = command.Spec{
			Mode: command.Literal, Words: []string{o.Shell, "-c", o.Initializer}, Path: o.Shell, Env: o.Origin.Env, Dir: o.Origin.Dir,
		}.Encoded()
	}
	return c, s.launchCommands(&c)
}

// launchCommands lets workers run commands, with nothing in their own environment: a call
// brings its own.
func (s *Server) launchCommands(c *pool.Config) error {
	self, err := launch.Self(s.config.Worker...)
	if err != nil {
		return err
	}
	self.Env, self.Nice, self.Commands = []string{}, s.options.Nice, true
	c.Launcher = self
	return nil
}

func (s *Server) programConfig(e *entry, environ []string) pool.Config {
	o := &s.options
	c := pool.Config{Workers: o.Slots, Quota: pool.Quota{N: o.MaxCalls}}
	c.Memory.Call = o.MaxRSS
	l := launch.Program{Path: e.call.Path, Args: e.call.Argv[1:], Environ: environ, Dir: e.dir(), Procs: 1}.Launcher()
	l.Nice = o.Nice
	c.Launcher = l
	return c
}

// put gives the runner a call.
func (r *runner) put(e *entry) {
	r.open[e] = true
	r.waiting = append(r.waiting, e)
	r.used = time.Now()
	r.wake()
}

func (r *runner) wake() {
	select {
	case r.wakeC <- struct{}{}:
	default:
	}
}

// Next implements pool.Source.
func (r *runner) Next(ctx context.Context, max int) ([]pool.Call, error) {
	for {
		if list, err := r.take(max); len(list) > 0 || err != nil {
			return list, err
		}
		select {
		case <-r.wakeC:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *runner) take(max int) (list []pool.Call, err error) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	n := min(max, len(r.waiting))
	for _, e := range r.waiting[:n] {
		list = append(list, r.call(e))
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
	if n == 0 && r.closed {
		err = io.EOF
	}
	return list, err
}

// call says what the pool is to run.
func (r *runner) call(e *entry) pool.Call {
	c := pool.Call{Item: e}
	switch {
	case r.key == callbackKey:
		c.Task, c.Common = command.ExecTask, r.server.callbackSpec(e).Encoded()
		return c
	case e.call.Task != "":
		c.Task, c.Payload = e.call.Task, e.call.Args
	default:
		c.Task, c.Common = command.ExecTask, r.server.spec(e).Encoded()
	}
	if t := e.call.Timeout; t > 0 {
		c.Limits = &pool.Limits{Soft: t, Hard: t + r.server.options.Grace}
	}
	c.Tried = e.begun
	if n := e.call.Retries; n > 0 {
		c.Retry = &pool.Retry{Max: n, MinWait: e.call.MinWait, MaxWait: e.call.MaxWait, If: r.server.retryIf(e)}
	}
	return c
}

// spec is the command of a call.
func (s *Server) spec(e *entry) command.Spec {
	added := append(s.hub.variables(), e.call.Env...)
	added = append(added, "GPOOL_ID="+s.id(e), "GPOOL_POOL="+s.place.Name)
	return command.Spec{
		Mode: command.Literal, Words: e.call.Argv, Path: e.call.Path, Dir: e.dir(), Env: launch.With(e.context.Env, added),
	}
}

// claim is asked by the pool's loop before a worker hears of a call, and writes that down: after
// a crash, what may have begun does not begin again by itself.
func (r *runner) claim(c *pool.Call) bool {
	s, e := r.server, c.Item.(*entry)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.given || s.why >= handedOn {
		return false
	}
	if r.key != callbackKey {
		e.begun++
		e.result.Start = time.Now()
		s.write(encode(kindBegun, begunRecord{e.n, e.begun, e.result.Start}))
	}
	return true
}

// Output implements pool.Consumer.
func (r *runner) Output(o *pool.Output) error {
	e := o.Call.Item.(*entry)
	if r.key == callbackKey {
		e.problem = append(e.problem, o.Data...)
		e.problem = e.problem[max(0, len(e.problem)-problemMost):]
		return nil
	}
	if o.Attempt != e.attempt {
		r.server.restart(e, o.Attempt)
	}
	if err := r.server.keepOutput(e, o.Stream, o.Data); err != nil {
		r.job.Cancel(e)
	}
	return nil
}

// Result implements pool.Consumer.
func (r *runner) Result(p *pool.Result) error {
	s, e := r.server, p.Call.Item.(*entry)
	if r.key != callbackKey && p.Attempt > 0 && p.Attempt != e.attempt {
		s.restart(e, p.Attempt) // it has printed nothing, and the one before is not to be seen
	}
	result := resultOf(p, r.program != "")
	if r.program != "" && result.Outcome == wire.Succeeded {
		if err := s.keepValue(e, p); err != nil {
			result.Outcome, result.Error = wire.Failed, err.Error()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.CutShort && s.why == handedOn && !e.given {
		result.Outcome = wire.Cancelled // the next server tries it again
	}
	r.ended(e, &result)
	return nil
}

// ended books how a call of the runner ended.
func (r *runner) ended(e *entry, result *wire.Result) {
	s := r.server
	if !r.open[e] {
		return
	}
	delete(r.open, e)
	r.used = time.Now()
	e.runner = nil
	if r.key == callbackKey {
		// What a server that hands on has ended is called again by the next one.
		if e.state == wire.Calling && (s.why != handedOn || result.Outcome == wire.Succeeded) {
			s.calledBack(e, problemOf(e, result))
		}
		return
	}
	s.line.free(1)
	s.close(e)
	switch {
	case e.state == wire.Done || s.why == handedOn && !e.given && (result.Outcome == wire.Cancelled || result.Outcome == wire.NotStarted):
		// terminated, or left to the next server
	case e.failure != nil:
		result.Outcome, result.Error = wire.NoSpace, e.failure.Error()
		s.finish(e, *result)
	case e.given && result.Outcome != wire.Succeeded:
		result.Outcome, result.Error = wire.Cancelled, "it was cancelled"
		s.finish(e, *result)
	default:
		s.finish(e, *result)
	}
	s.dispatch()
	s.consider()
}

// Flush implements pool.Consumer.
func (r *runner) Flush() error { return nil }

// over is told when the job has ended, because the runner was closed or its pool has failed. What
// is left has had no result.
func (r *runner) over(err error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	r.closed, r.waiting = true, nil
	delete(s.open, r)
	if s.runners[r.key] == r {
		delete(s.runners, r.key)
	}
	why := "its workers were ended"
	if err != nil {
		why = err.Error()
	}
	for e := range r.open {
		r.ended(e, &wire.Result{Outcome: wire.NotStarted, Exit: 125, Error: why, Attempt: e.begun, Start: e.result.Start})
	}
	s.closing.Go(r.pool.Close)
}

// close lets the runner end when its calls have.
func (r *runner) close() {
	r.closed = true
	r.wake()
}

// retireIdle closes runners of programs that were not used for longest, if there are many.
func (s *Server) retireIdle() {
	var idle []*runner
	for _, r := range s.runners {
		if r.program != "" && len(r.open) == 0 && !r.closed {
			idle = append(idle, r)
		}
	}
	slices.SortFunc(idle, func(a, b *runner) int { return a.used.Compare(b.used) })
	for len(idle) >= runnersMost {
		idle[0].close()
		delete(s.runners, idle[0].key)
		idle = idle[1:]
	}
}

// stopRunners ends what runs.
func (s *Server) stopRunners(level pool.Level) {
	for r := range s.open {
		r.pool.Stop(level)
		r.close()
	}
}

// endRunners ends all workers, and waits for them.
func (s *Server) endRunners() {
	s.mu.Lock()
	runners := slices.Collect(maps.Keys(s.open))
	for _, r := range runners {
		r.close()
	}
	s.mu.Unlock()
	for _, r := range runners {
		r.pool.Close()
		_ = r.job.Wait() // the pool is done before all results are handed over; see over for the error
	}
	s.closing.Wait()
}

// callbackSpec is the command line of a callback: it gets what the call has printed on its
// stdin, and the rest in variables.
func (s *Server) callbackSpec(e *entry) command.Spec {
	spec := s.spec(e)
	out, err := e.printed(s.place.Spool, ipc.Stdout), e.printed(s.place.Spool, ipc.Stderr)
	// The worker sets variables of a call, which a callback is not: they are put right, or go.
	spec.Words = []string{"sh", "-c", `unset GPOOL_SEQ PARALLEL_SEQ PARALLEL_JOBSLOT; export GPOOL_ATTEMPT="$2" GPOOL_SLOT="$3"; exec "$0" -c "$1" < "$GPOOL_STDOUT"`,
		e.call.Shell, e.callback(), fmt.Sprint(e.result.Attempt), fmt.Sprint(e.result.Slot)}
	spec.Path = "/bin/sh"
	spec.Env = launch.With(spec.Env, []string{
		"GPOOL_STDOUT=" + out, "GPOOL_STDERR=" + err, "GPOOL_EXIT=" + fmt.Sprint(e.result.Code()), "GPOOL_STATUS=" + string(e.result.Outcome),
		"GPOOL_ERROR=" + e.result.Error, "GPOOL_NAME=" + e.call.Name,
		"GPOOL_START=" + seconds(e.result.Start), "GPOOL_END=" + seconds(e.result.End),
	})
	return spec
}

func seconds(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%.6f", float64(t.UnixMicro())/1e6)
}

// resizeCallbacks lets as many callbacks run as may, and one more for each that waits for a call.
func (s *Server) resizeCallbacks() {
	if r := s.runners[callbackKey]; r != nil && s.why == lives {
		_ = r.pool.Resize(callbacksMost + s.blocked) // one that is closed needs none
	}
}

// startCallback runs the callback of a call that has ended.
func (s *Server) startCallback(e *entry, command string) error {
	r, err := s.runner(callbackKey, "", func() (c pool.Config, err error) {
		c.Workers = callbacksMost + s.blocked
		return c, s.launchCommands(&c)
	})
	if err != nil {
		return err
	}
	e.runner, e.given = r, false
	r.put(e)
	return nil
}

// problemOf says what went wrong with a callback, with the last line that it printed.
func problemOf(e *entry, r *wire.Result) string {
	if r.Outcome == wire.Succeeded {
		return ""
	}
	text := r.Error
	lines := strings.Split(strings.TrimSpace(string(e.problem)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		text += ": " + last
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
