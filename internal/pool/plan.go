package pool

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"gpool/internal/ipc"
)

// How the plan paces work. Calls are handed out ahead of need, so that a worker
// never idles for a round trip, but only so many as it will have begun in a moment.
const (
	chunkTime    = 20 * time.Millisecond // a chunk of the pool's own choice takes about this long
	lookahead    = 5 * time.Millisecond  // a worker has more before it only if it is through in this time
	stuckTime    = 10 * time.Millisecond // a worker that is busier than this may lose what waits before it
	maxAhead     = 128                   // chunks that wait before one worker
	maxStarts    = 3                     // failed starts in a row on one slot that fail the pool
	shortLife    = time.Second / 10      // a worker that dies sooner, without a call, is a failed start
	resultDelay  = 20 * time.Millisecond // how late results may be of a worker that has more to do
	maxStarting  = 8                     // workers that start at once: more would only wait for each other
	heldBytes    = 2 << 20               // payloads that may be in memory beyond one for each worker
	chunkBytes   = 256 << 10             // payloads of a chunk of the pool's own choice
	aheadBytes   = 512 << 10             // payloads before a worker, beyond which it gets no more
	largeChunk   = 16 << 20              // payloads of a chunk of a given size: it must fit a frame
	defaultAhead = 1024                  // default of Job.Window
	firstPull    = 4096                  // calls that are pulled at once before it is known how large they are
)

// plan is the pool's memory: what waits, what runs, what is done. It has no
// goroutine, clock or I/O; the time is an argument. The loop owns it.
type plan struct {
	slots   []slotPlan
	target  int  // how many of them should have a worker when there is work
	room    int  // how many workers the machine has room for
	eager   bool // a worker is started for each slot, not only for calls that wait
	paced   bool // a gate decides when calls begin
	quota   Quota
	limit   RestartLimit
	losses  []time.Time // of the last workers that died, at most limit.Deaths
	jobs    []*jobPlan
	turn    int // which job is asked first for its next chunk
	counted Counts
}

// slotState is where a slot is in its worker's life.
type slotState int

const (
	slotEmpty    slotState = iota // no worker
	slotStarting                  // launched, not ready
	slotReady                     // takes calls
	slotLeaving                   // takes none; finishes what it has
)

type slotPlan struct {
	state     slotState
	greeted   bool // its worker said hello
	pid       int  // of its worker, from the hello on
	born      time.Time
	flights   []flight // in the order in which the worker runs them
	calls     int      // in flights and not finished
	bytes     int      // of their payloads
	finished  uint64   // calls that this worker has finished
	quota     int      // calls (or chunks) that this worker may still be sent; -1 for no limit
	nextID    uint64
	fails     int       // starts that failed in a row
	spoke     time.Time // when its running call last printed something; zero if it has not
	printed   Printed   // by its running call
	begun     time.Time // when it was last sent a call while idle, or finished one: its running call has begun then
	moved     time.Time // the same, later by the time in which that call stood still: from then on it ages
	stalled   time.Time // since when its call waits for somebody to take its output; zero if it does not
	recalled  bool      // asked to give back what waits, and has not answered
	warned    uint64    // the call that was told that its soft limit has passed
	condemned uint64    // the call on whose account the worker is being ended
}

// flight is a chunk that was sent to a worker.
type flight struct {
	job     *jobPlan
	id      uint64 // of calls[0] on the worker's connection
	calls   []Call // those that are not finished
	attempt int
	since   time.Time // when they began to wait
}

// chunk is what the plan wants sent to a worker now.
type chunk struct {
	flight
	slot int // index, from 0
	last bool
}

// segment is a run of consecutive waiting calls.
type segment struct {
	calls    []Call
	attempt  int
	recalled bool      // came back from a worker that had too much before it
	since    time.Time // when its calls began to wait
}

// jobPlan is what the plan knows of a job.
type jobPlan struct {
	running     *Running
	chunkSize   int // 0 for the pool's choice
	bound       int // of the pool's choice
	window      int // 0 for none
	waiting     []segment
	waits       int    // calls in waiting
	flying      int    // calls in flights
	pulled      uint64 // calls that came from the source
	consumed    uint64 // calls whose results were consumed
	bytes       int    // payloads of pulled and not consumed calls
	pulledBytes uint64 // payloads of all pulled calls
	inputDone   bool
	halted      bool // nothing of it is begun any more
	single      bool // a worker gets a chunk only when it has none: calls do not begin unasked
	untaken     int  // results that are on their way to the consumer
	behind      bool // much output is
	paused      bool // the consumer is behind, so nothing is begun
	mean        time.Duration
	times       durations            // of calls that ended by themselves; kept if a limit needs them
	delayed     delays               // calls that wait for their next attempt, by when it is due
	failures    map[uint64][]*Result // failed attempts of calls that have no result yet
	failed      int                  // calls that ended as Halt counts them
	succeeded   int
	skipped     int
	haltDue     bool // the job is to be ended by its Halt
}

func newPlan(workers int, quota Quota) *plan {
	return &plan{slots: make([]slotPlan, workers), target: workers, room: workers, quota: quota}
}

// resize changes how many slots should have a worker. Slots beyond that are left to
// retire; those that are empty are forgotten.
func (p *plan) resize(workers int) {
	p.target, p.room = workers, workers
	for len(p.slots) < workers {
		p.slots = append(p.slots, slotPlan{})
	}
	p.trim()
}

// trim forgets empty slots beyond the target.
func (p *plan) trim() {
	n := len(p.slots)
	for n > p.target && p.slots[n-1].state == slotEmpty {
		n--
	}
	p.slots = p.slots[:n]
}

// surplus returns the next slot beyond the target whose worker has not been told to
// leave.
func (p *plan) surplus() (int, bool) {
	for i := p.target; i < len(p.slots); i++ {
		if s := &p.slots[i]; s.state == slotStarting || s.state == slotReady {
			return i, true
		}
	}
	return 0, false
}

// add takes a job in.
func (p *plan) add(r *Running) *jobPlan {
	workers := p.target
	j := &jobPlan{running: r, chunkSize: min(r.job.ChunkSize, ipc.MaxCalls), window: r.job.Window, bound: 1}
	j.single = r.job.Single || r.job.Halt.On != 0 || p.paced
	if p.paced || j.single && j.chunkSize == 0 {
		j.chunkSize = 1
	}
	if r.job.Total > 0 {
		j.bound = (r.job.Total + 4*workers - 1) / (4 * workers) // Python's Pool._map_async
	}
	if j.window == 0 {
		j.window = max(defaultAhead, 4*workers*max(j.chunkSize, 1))
	}
	if r.job.Order == Collected {
		j.window = 0
	}
	p.jobs = append(p.jobs, j)
	return j
}

// remove forgets a job that is over.
func (p *plan) remove(j *jobPlan) {
	for i, other := range p.jobs {
		if other == j {
			p.jobs = append(p.jobs[:i], p.jobs[i+1:]...)
			return
		}
	}
}

// push takes calls from the source and numbers them. Those that are failed already
// are returned and not planned.
func (j *jobPlan) push(calls []Call, now time.Time) (failed []Call) {
	good := calls[:0:0]
	for i := range calls {
		c := &calls[i]
		j.pulled++
		c.Seq = j.pulled
		j.bytes += len(c.Payload)
		j.pulledBytes += uint64(len(c.Payload))
		if c.Err != nil {
			failed = append(failed, *c)
		}
	}
	if failed == nil {
		good = calls
	} else {
		// Chunks hold consecutive calls, so a gap begins a new segment.
		for _, c := range calls {
			if c.Err != nil {
				j.wait(good, now)
				good = nil
				continue
			}
			good = append(good, c)
		}
	}
	j.wait(good, now)
	return failed
}

// wait puts calls at the end of the queue.
func (j *jobPlan) wait(calls []Call, now time.Time) {
	for len(calls) > 0 {
		tried := calls[0].Tried
		n := 1
		for n < len(calls) && calls[n].Tried == tried {
			n++
		}
		j.waiting = append(j.waiting, segment{calls: calls[:n:n], attempt: 1 + tried, since: now})
		j.waits += n
		calls = calls[n:]
	}
}

// waitFirst puts calls that come back before all others.
func (j *jobPlan) waitFirst(calls []Call, f *flight, recalled bool) {
	if len(calls) > 0 {
		j.waiting = append([]segment{{calls, f.attempt, recalled, f.since}}, j.waiting...)
		j.waits += len(calls)
	}
}

// wants returns how many calls should be pulled from the source now. It asks for
// twice what the workers can be given, when half of that has gone: often enough
// that none starves, seldom enough that a batch is worth its trip.
func (p *plan) wants(j *jobPlan) int {
	if j.inputDone || j.paused && !j.halted {
		return 0
	}
	if j.halted { // of a finite source: what is left is accounted for
		return firstPull
	}
	target := 2 * p.target * max(j.size(p.target), j.depth())
	if 2*j.waits > target {
		return 0
	}
	n := target - j.waits
	under := j.pulled - j.consumed
	if j.window > 0 {
		if under >= uint64(j.window) {
			return 0
		}
		n = min(n, j.window-int(under))
	}
	if under > 0 { // as many as there is room for, if they are like those so far
		each := int(j.pulledBytes/j.pulled) + 1
		free := max(0, p.target-int(under)) // workers that have nothing of it, however large it is
		n = min(n, max(free, min(max(0, heldBytes-j.bytes)/each, BatchBytes/each+1)))
	} else {
		n = min(n, firstPull)
	}
	return n
}

// depth is how many calls a worker may have before it.
func (j *jobPlan) depth() int {
	if j.mean == 0 {
		return 1
	}
	return int(max(1, min(lookahead/j.mean+1, maxAhead)))
}

// size is how many calls the next chunk should have.
func (j *jobPlan) size(workers int) int {
	if j.chunkSize > 0 {
		return min(j.chunkSize, ipc.MaxCalls)
	}
	n := 1
	if j.mean > 0 {
		n = int(min(chunkTime/j.mean+1, time.Duration(j.bound), ipc.MaxCalls))
	}
	if j.inputDone { // towards the end ever smaller, so that all workers end together
		n = min(n, (j.waits+2*workers-1)/(2*workers))
	}
	return max(n, 1)
}

// room reports whether a slot can be sent one more chunk of j.
func (s *slotPlan) room(j *jobPlan, now time.Time) bool {
	if s.state != slotReady {
		return false
	}
	if s.calls == 0 || j.single {
		return s.calls == 0
	}
	stuck := now.Sub(s.moved) >= stuckTime
	return !stuck && j.mean > 0 && time.Duration(s.calls)*j.mean < lookahead && len(s.flights) < maxAhead && s.bytes < aheadBytes
}

// size is how many bytes of payload calls have.
func size(calls []Call) (n int) {
	for i := range calls {
		n += len(calls[i].Payload)
	}
	return n
}

// next cuts the next chunk that should be sent, or returns false. The slot with the
// least before it comes first, so no call waits while a worker is free. drop is
// called for calls that nobody wants any more; they have no result yet.
func (p *plan) next(now time.Time, drop func(j *jobPlan, c *Call)) (chunk, bool) {
	for {
		j := p.nextJob()
		if j == nil {
			return chunk{}, false
		}
		slot, ok := p.freest(j, now)
		if !ok {
			return chunk{}, false
		}
		if f := j.cut(p.chunkFor(j, slot), drop); len(f.calls) > 0 {
			p.counted.Wait.add(now.Sub(f.since), len(f.calls))
			return p.send(f, slot, now), true
		}
	}
}

// freest returns the slot with the least before it, of those that have room.
func (p *plan) freest(j *jobPlan, now time.Time) (int, bool) {
	best := -1
	for i := range p.slots {
		s := &p.slots[i]
		if s.room(j, now) && (best < 0 || s.calls < p.slots[best].calls) {
			best = i
		}
	}
	return best, best >= 0
}

// chunkFor is how many calls the next chunk for a slot may have.
func (p *plan) chunkFor(j *jobPlan, slot int) int {
	n := j.size(p.target)
	if j.waiting[0].recalled {
		// Not all to one worker again, also with a given size: it would come back again.
		n = min(n, (j.waits+2*p.target-1)/(2*p.target))
	}
	if quota := p.slots[slot].quota; quota >= 0 && !p.quota.Chunks {
		n = min(n, quota)
	}
	return n
}

// send books that a chunk goes to a slot's worker.
func (p *plan) send(f flight, slot int, now time.Time) chunk {
	s := &p.slots[slot]
	f.id = s.nextID
	s.nextID += uint64(len(f.calls))
	if s.calls == 0 {
		s.begin(now)
	}
	s.flights = append(s.flights, f)
	s.calls += len(f.calls)
	s.bytes += size(f.calls)
	f.job.flying += len(f.calls)
	switch {
	case s.quota > 0 && p.quota.Chunks:
		s.quota--
	case s.quota > 0:
		s.quota -= len(f.calls)
	}
	if s.quota == 0 {
		s.state = slotLeaving
	}
	return chunk{flight: f, slot: slot, last: s.quota == 0}
}

// nextJob goes round the jobs that have something to send.
func (p *plan) nextJob() *jobPlan {
	for range p.jobs {
		p.turn++
		if j := p.jobs[p.turn%len(p.jobs)]; j.waits > 0 && !j.idle() {
			return j
		}
	}
	return nil
}

// cut takes up to n consecutive calls that may travel together off the queue, and fewer if they are large. Calls whose job does not want
// them any more are dropped on the way and not counted; since the calls of a chunk
// follow each other, it ends at the first of them, and may be empty.
func (j *jobPlan) cut(n int, drop func(j *jobPlan, c *Call)) flight {
	s := &j.waiting[0]
	n = min(n, len(s.calls))
	f := flight{job: j, calls: s.calls[:0:0], attempt: s.attempt, since: s.since}
	taken, bytes, limit := 0, 0, chunkBytes
	if j.chunkSize > 0 {
		limit = largeChunk
	}
	for ; taken < n; taken++ {
		if bytes += len(s.calls[taken].Payload); taken > 0 && (bytes > limit || !s.calls[taken].runsAs(&s.calls[0])) {
			break
		}
		if claim := j.running.job.Claim; claim != nil && !claim(&s.calls[taken]) {
			drop(j, &s.calls[taken])
			f.calls = s.calls[:taken:taken]
			taken++
			break
		}
		f.calls = s.calls[: taken+1 : taken+1]
	}
	s.calls = s.calls[taken:]
	if len(s.calls) == 0 {
		j.waiting[0] = segment{}
		j.waiting = j.waiting[1:]
	}
	j.waits -= taken
	return f
}

// busy counts the slots whose worker runs a call.
func (p *plan) busy() (n int) {
	for i := range p.slots {
		if p.slots[i].calls > 0 {
			n++
		}
	}
	return n
}

// canSend reports whether next would find a call and a slot for it.
func (p *plan) canSend(now time.Time) bool {
	for _, j := range p.jobs {
		if j.waits > 0 && !j.idle() {
			if _, ok := p.freest(j, now); ok {
				return true
			}
		}
	}
	return false
}

// task is what the calls run.
func (f *flight) task() string { return f.job.task(&f.calls[0]) }

func (j *jobPlan) task(c *Call) string { return cmp.Or(c.Task, j.running.job.Task) }

// common is what the calls share.
func (f *flight) common() []byte {
	if c := f.calls[0].Common; c != nil {
		return c
	}
	return f.job.running.job.Common
}

// runsAs reports whether two calls of a job may travel in one frame.
func (c *Call) runsAs(other *Call) bool {
	return c.Task == other.Task && bytes.Equal(c.Common, other.Common)
}

// head returns the call that a slot's worker runs, or nil if it has none.
func (s *slotPlan) head() *flight {
	if len(s.flights) == 0 {
		return nil
	}
	return &s.flights[0]
}

// finish books n finished calls of a slot, of which the first has the given id, and
// calls book for each. A worker answers in the order in which it was asked; anything
// else is a broken worker.
func (p *plan) finish(slot int, id uint64, n int, now time.Time, book func(j *jobPlan, c *Call, attempt, index int)) error {
	s := &p.slots[slot]
	for i := range n {
		f := s.head()
		if f == nil || f.id != id+uint64(i) {
			return fmt.Errorf("it answered call %d, which it was not running", id+uint64(i))
		}
		c := &f.calls[0]
		f.calls = f.calls[1:]
		f.id++
		s.calls--
		s.bytes -= len(c.Payload)
		s.finished++
		f.job.flying--
		j, attempt := f.job, f.attempt
		if len(f.calls) == 0 {
			s.flights[0] = flight{}
			s.flights = s.flights[1:]
		}
		book(j, c, attempt, i)
	}
	s.begin(now)
	return nil
}

// begin books that a slot's worker can have begun its next call.
func (s *slotPlan) begin(now time.Time) {
	s.begun, s.moved = now, now
	s.spoke, s.printed, s.stalled = time.Time{}, Printed{}, time.Time{}
}

// took tells the plan how long n calls took, for the size of the next chunks. One
// slow call among fast ones weighs an eighth.
func (j *jobPlan) took(n int, elapsed time.Duration) {
	each := max(elapsed/time.Duration(n), 1)
	if j.mean == 0 {
		j.mean = each
		return
	}
	weight := time.Duration(min(n, 8))
	j.mean += (each - j.mean) * weight / 8
	j.mean = max(j.mean, 1)
}

// returned books that a worker gave back the n calls from id on, which it had not
// begun. Chunks that were sent after it was asked may follow them.
func (p *plan) returned(slot int, id uint64, n int) error {
	s := &p.slots[slot]
	s.recalled = false
	if n == 0 {
		return nil
	}
	if f := s.head(); f == nil || id < f.id {
		return fmt.Errorf("it gave back call %d, which it had answered", id)
	}
	end := id + uint64(n)
	var back []flight
	kept := s.flights[:0]
	for _, f := range s.flights {
		if from := max(f.id, id); from < f.id+uint64(len(f.calls)) && from < end {
			cut := f
			cut.calls = f.calls[from-f.id:]
			f.calls = f.calls[:from-f.id]
			back = append(back, cut)
			n -= len(cut.calls)
		}
		if len(f.calls) > 0 {
			kept = append(kept, f)
		}
	}
	clear(s.flights[len(kept):])
	s.flights = kept
	for _, f := range slices.Backward(back) {
		f.job.waitFirst(f.calls, &f, true)
		f.job.flying -= len(f.calls)
		s.calls -= len(f.calls)
		s.bytes -= size(f.calls)
	}
	if n != 0 {
		return fmt.Errorf("it gave back calls up to %d, which is not what it was sent", end-1)
	}
	return nil
}

// locate finds where a call with an item is, of those that are before a worker.
func (p *plan) locate(j *jobPlan, item any) (slot int, id uint64, ok bool) {
	for slot := range p.slots {
		for _, f := range p.slots[slot].flights {
			if f.job != j {
				continue
			}
			if i := slices.IndexFunc(f.calls, func(c Call) bool { return c.Item == item }); i >= 0 {
				return slot, f.id + uint64(i), true
			}
		}
	}
	return 0, 0, false
}

// take takes a call with an item off the queue, or from those that wait for their next attempt.
func (j *jobPlan) take(item any) (c Call, ok bool) {
	is := func(c Call) bool { return c.Item == item }
	for i, s := range j.waiting {
		at := slices.IndexFunc(s.calls, is)
		if at < 0 {
			continue
		}
		before, after := s, s // chunks hold consecutive calls
		before.calls, after.calls = s.calls[:at:at], s.calls[at+1:]
		rest := slices.DeleteFunc([]segment{before, after}, func(s segment) bool { return len(s.calls) == 0 })
		j.waiting = slices.Replace(j.waiting, i, i+1, rest...)
		j.waits--
		return s.calls[at], true
	}
	if at := slices.IndexFunc(j.delayed, func(d delayed) bool { return is(d.call) }); at >= 0 {
		return heap.Remove(&j.delayed, at).(delayed).call, true
	}
	return c, false
}

// withdraw takes a chunk back that has not been sent.
func (p *plan) withdraw(slot int, id uint64, now time.Time) (flight, bool) {
	s := &p.slots[slot]
	at := slices.IndexFunc(s.flights, func(f flight) bool { return f.id == id })
	if at < 0 {
		return flight{}, false
	}
	f := s.flights[at]
	s.flights = slices.Delete(s.flights, at, at+1)
	s.calls -= len(f.calls)
	s.bytes -= size(f.calls)
	f.job.flying -= len(f.calls)
	if at == 0 {
		s.begin(now)
	}
	return f, true
}

// skip books that a worker came to the call id without having run those before it: it
// gave them back, and could not say so any more.
func (p *plan) skip(slot int, id uint64) error {
	s := &p.slots[slot]
	if last := len(s.flights) - 1; last < 0 || id >= s.flights[last].id+uint64(len(s.flights[last].calls)) {
		return fmt.Errorf("it came to call %d, which it was not sent", id)
	}
	var back []flight
	for s.flights[0].id < id {
		f := &s.flights[0]
		n := int(min(id-f.id, uint64(len(f.calls))))
		cut := *f
		cut.calls = f.calls[:n:n]
		back = append(back, cut)
		f.calls, f.id = f.calls[n:], f.id+uint64(n)
		if len(f.calls) == 0 {
			s.flights[0] = flight{}
			s.flights = s.flights[1:]
		}
	}
	for _, f := range slices.Backward(back) {
		f.job.waitFirst(f.calls, &f, true)
		f.job.flying -= len(f.calls)
		s.calls -= len(f.calls)
		s.bytes -= size(f.calls)
	}
	return nil
}

// ending is what is known of the call that a dead worker ran.
type ending int

const (
	ranHead ending = iota // it ran the oldest call that has no result
	ranNone               // it is known to have run none
)

// lose empties a slot whose worker has ended. The call that it ran is returned as
// the victim; those that had not begun go back free of charge.
func (p *plan) lose(slot int, end ending) (victim *flight) {
	s := &p.slots[slot]
	for i := len(s.flights) - 1; i >= 0; i-- {
		f := s.flights[i]
		f.job.flying -= len(f.calls)
		if i == 0 && end == ranHead {
			first := f
			first.calls = f.calls[:1]
			victim = &first
			f.calls = f.calls[1:]
		}
		f.job.waitFirst(f.calls, &f, false)
	}
	*s = slotPlan{fails: s.fails}
	p.trim()
	return victim
}

// died books the death of a worker that nobody asked for, and reports whether there
// were more of them lately than the pool may have.
func (p *plan) died(now time.Time) bool {
	if p.limit.Deaths <= 0 {
		return false
	}
	if len(p.losses) == p.limit.Deaths {
		oldest := p.losses[0]
		p.losses = append(p.losses[1:], now)
		return now.Sub(oldest) <= p.limit.Per
	}
	p.losses = append(p.losses, now)
	return false
}

// started books that a slot's worker is being started.
func (p *plan) started(slot int, now time.Time) {
	s := &p.slots[slot]
	s.state, s.nextID, s.quota, s.born = slotStarting, 1, -1, now
	if p.quota.N > 0 {
		s.quota = p.quota.N
	}
}

// ready books that a worker takes calls, or that it has to leave because the machine
// has become too small for it.
func (p *plan) ready(slot int, now time.Time) {
	s := &p.slots[slot]
	s.state, s.born = slotReady, now
	if p.live() > p.room {
		s.state = slotLeaving
	}
}

// useless reports whether a worker that has just died counts as a failed start: it
// did nothing, and not for long. Others like it would do the same for ever.
func (s *slotPlan) useless(now time.Time) bool {
	return s.state == slotStarting || s.finished == 0 && now.Sub(s.born) < shortLife
}

// notStarted books a failed start, and reports whether the slot has failed too often.
func (p *plan) notStarted(slot int) bool {
	if slot >= len(p.slots) { // beyond the target, and forgotten
		return false
	}
	p.slots[slot].fails++
	return p.slots[slot].fails >= maxStarts
}

// live counts the slots that have a worker.
func (p *plan) live() (n int) {
	for i := range p.slots {
		if p.slots[i].state != slotEmpty {
			n++
		}
	}
	return n
}

// crowded books that there was no room for one more worker. The pool goes on with
// half of those that live, because what they run needs room too. It returns how many
// that are, or 0 if none lives: then the next start is an attempt like any other.
func (p *plan) crowded() int {
	live := p.live()
	p.room = max(1, min(p.room, live/2))
	if live == 0 {
		return 0
	}
	return p.room
}

// toStart returns the next slot whose worker should be started: one worker for each
// call that waits and has no free worker, or for each slot.
func (p *plan) toStart() (int, bool) {
	waits, free, starting, empty := 0, 0, 0, -1
	for _, j := range p.jobs {
		if !j.idle() {
			waits += j.waits
		}
	}
	for i := range p.slots {
		switch s := &p.slots[i]; {
		case s.state == slotEmpty && empty < 0 && i < p.target:
			empty = i
		case s.state == slotStarting:
			starting++
			free++
		case s.state == slotReady && s.calls == 0:
			free++
		}
	}
	return empty, empty >= 0 && (waits > free || p.eager) && starting < maxStarting && p.live() < p.room
}

// overdue is a running call that has reached a limit.
type overdueCall struct {
	slot  int
	id    uint64
	seq   uint64
	limit time.Duration
	hard  bool // its worker must be ended
}

// overdue returns a running call that has reached one of its limits and has not been
// told so. If there is none, when to ask again. A call's clock starts when its worker
// can have begun it: what waits before a worker does not age.
func (p *plan) overdue(now time.Time) (c overdueCall, again time.Time, ok bool) {
	for i := range p.slots {
		s := &p.slots[i]
		f := s.head()
		if f == nil || s.condemned == f.id || !s.stalled.IsZero() {
			continue
		}
		seq := f.calls[0].Seq
		soft, hard := f.job.limitsOf(&f.calls[0])
		if due := s.moved.Add(hard); hard > 0 {
			if s.calls > 1 { // its result may be waiting for those of the next calls
				due = due.Add(resultDelay)
			}
			if !due.After(now) {
				s.condemned = f.id
				return overdueCall{i, f.id, seq, hard, true}, again, true
			}
			again = sooner(again, due)
		}
		if due := s.moved.Add(soft); soft > 0 && s.warned != f.id {
			if !due.After(now) {
				s.warned = f.id
				return overdueCall{i, f.id, seq, soft, false}, again, true
			}
			again = sooner(again, due)
		}
	}
	return c, again, false
}

// stallTime is for how long nobody must have taken any output of a call that waits for
// that, before it stops to age. Who reads slowly, and reads, does not stop its clock.
const stallTime = 500 * time.Millisecond

// stall books how many bytes of output have come from a slot's worker and were not taken, and
// when some were last taken. A call that waits for that is without fault, so it does not age.
func (s *slotPlan) stall(owed int64, taken, now time.Time) {
	if taken.Before(s.begun) {
		taken = s.begun
	}
	waits := owed >= owedMost && s.printed.Stdout+s.printed.Stderr >= owedMost && now.Sub(taken) >= stallTime
	switch {
	case waits && s.stalled.IsZero():
		s.stalled = taken
	case !waits && !s.stalled.IsZero():
		s.moved = s.moved.Add(now.Sub(s.stalled))
		s.stalled = time.Time{}
	}
}

// paused books that what the workers run stood still for a while: it does not age.
func (p *plan) paused(d time.Duration) {
	for i := range p.slots {
		s := &p.slots[i]
		s.moved = s.moved.Add(d)
		for _, at := range []*time.Time{&s.spoke, &s.stalled} {
			if !at.IsZero() {
				*at = at.Add(d)
			}
		}
	}
}

// toRecall returns a slot that should give back what waits before its worker, from
// the id on, because another worker is free and nothing else waits: so a slow call
// never traps others behind it. If it is too early for that, when to ask again.
func (p *plan) toRecall(now time.Time) (slot int, id uint64, again time.Time, ok bool) {
	free := false
	for i := range p.slots {
		s := &p.slots[i]
		free = free || s.state == slotReady && s.calls == 0 || s.state == slotEmpty && i < p.target && p.live() < p.room
	}
	if !free {
		return 0, 0, again, false
	}
	for _, j := range p.jobs {
		if j.waits > 0 && !j.idle() {
			return 0, 0, again, false
		}
	}
	for i := range p.slots {
		s := &p.slots[i]
		f := s.head()
		if f == nil || s.calls < 2 || s.recalled || f.job.idle() || (s.state != slotReady && s.state != slotLeaving) {
			continue
		}
		due := s.moved.Add(stuckTime)
		if time.Duration(s.calls)*f.job.mean >= 2*lookahead {
			due = s.moved // there is much to do, and somebody free to do it
		}
		if !due.After(now) {
			s.recalled = true
			return i, f.id + 1, again, true
		}
		again = sooner(again, due)
	}
	return 0, 0, again, false
}

// idle reports whether the job's calls are not begun at present.
func (j *jobPlan) idle() bool { return j.paused || j.halted }

// halt ends the input of a job for good, but for a finite one, and returns what waits, also for its next
// attempt: it will not be run. Calls that come back from workers afterwards are taken
// by calling it again.
func (j *jobPlan) halt() []segment {
	waiting := j.waiting
	j.inputDone = j.inputDone || !j.running.job.Finite
	for _, d := range j.delayed {
		waiting = append(waiting, segment{calls: []Call{d.call}, attempt: d.attempt})
	}
	j.delayed = nil
	j.waiting, j.waits, j.halted = nil, 0, true
	return waiting
}

// over reports whether every call of the job has its result.
func (j *jobPlan) over() bool {
	return j.inputDone && j.waits == 0 && j.flying == 0 && len(j.delayed) == 0
}
