package pool

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// readyPlan is a plan with n workers that take calls, and one job.
func readyPlan(n int, job Job) (*plan, *jobPlan) {
	p := newPlan(n, Quota{})
	for i := range n {
		p.started(i, noon)
		p.ready(i, noon)
	}
	return p, p.add(&Running{job: job})
}

func calls(n int) []Call { return make([]Call, n) }

// cutAll takes every chunk that the plan wants sent, as "slot:first+count".
func cutAll(p *plan) (cut []string) {
	for c, ok := p.next(noon, nil); ok; c, ok = p.next(noon, nil) {
		cut = append(cut, fmt.Sprintf("%d:%d+%d", c.slot, c.calls[0].Seq, len(c.calls)))
	}
	return cut
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestEveryWorkerGetsACallBeforeAnyGetsASecond(t *testing.T) {
	p, j := readyPlan(3, Job{ChunkSize: 1})
	j.mean = time.Millisecond
	j.push(calls(5), noon)
	equal(t, "chunks", cutAll(p), []string{"0:1+1", "1:2+1", "2:3+1", "0:4+1", "1:5+1"})
}

func TestNothingWaitsBeforeAWorkerUntilCallsAreKnownToBeShort(t *testing.T) {
	for _, mean := range []time.Duration{0, lookahead, time.Hour} {
		p, j := readyPlan(2, Job{ChunkSize: 1})
		j.mean = mean
		j.push(calls(9), noon)
		equal(t, fmt.Sprint("chunks at a mean of ", mean), cutAll(p), []string{"0:1+1", "1:2+1"})
	}
}

func TestGivenChunkSizeIsKept(t *testing.T) {
	p, j := readyPlan(2, Job{ChunkSize: 4, Total: 10})
	j.push(calls(10), noon)
	j.inputDone = true
	equal(t, "chunks", cutAll(p), []string{"0:1+4", "1:5+4"})
}

// The table is semantics.md 1.2: what CPython gives for 4 workers.
func TestOwnChunksAreNeverLargerThanPythons(t *testing.T) {
	for total, want := range map[int]int{1: 1, 15: 1, 16: 1, 17: 2, 100: 7, 1000: 63} {
		_, j := readyPlan(4, Job{Total: total})
		j.push(calls(total), noon)
		j.mean = time.Nanosecond
		if got := j.size(4); got != want {
			t.Errorf("a chunk of %d calls has %d, want %d", total, got, want)
		}
	}
}

func TestOwnChunksShrinkWithTheTimeOfACallAndTowardsTheEnd(t *testing.T) {
	_, j := readyPlan(4, Job{Total: 16000})
	j.push(calls(16000), noon)
	sizes := func(mean time.Duration) int { j.mean = mean; return j.size(4) }
	if a, b, c := sizes(time.Microsecond), sizes(time.Millisecond), sizes(time.Second); a != 1000 || b != 21 || c != 1 {
		t.Errorf("chunks of 1 µs, 1 ms and 1 s calls have %d, %d, %d; want 1000, 21, 1", a, b, c)
	}
	j.inputDone = true
	j.mean = time.Microsecond
	j.cut(15984, nil)
	if got := j.size(4); got != 2 {
		t.Errorf("with 16 calls left for 4 workers a chunk has %d, want 2", got)
	}
}

func TestResultsOutOfTurnAreAFaultOfTheWorker(t *testing.T) {
	p, j := readyPlan(1, Job{ChunkSize: 3})
	j.push(calls(3), noon)
	cutAll(p)
	book := func(*jobPlan, *Call, int, int) {}
	for _, id := range []uint64{0, 2, 4, 1 << 40} {
		if err := p.finish(0, id, 1, noon, book); err == nil {
			t.Errorf("a result of call %d was taken while call 1 ran", id)
		}
	}
	if err := p.finish(0, 1, 4, noon, book); err == nil {
		t.Error("4 results were taken of 3 calls")
	}
}

func TestGivingBackWhatIsNotThereIsAFaultOfTheWorker(t *testing.T) {
	for _, back := range []struct {
		id uint64
		n  int
	}{{1, 5}, {0, 1}, {3, 2}, {9, 1}} {
		p, j := readyPlan(1, Job{ChunkSize: 3})
		j.push(calls(3), noon)
		cutAll(p)
		if err := p.returned(0, back.id, back.n); err == nil {
			t.Errorf("%d calls from %d on were taken back of calls 1 to 3", back.n, back.id)
		}
	}
}

func TestADeathCostsOneCall(t *testing.T) {
	p, j := readyPlan(1, Job{ChunkSize: 3})
	j.mean = time.Millisecond
	j.push(calls(7), noon)
	cutAll(p)
	if err := p.finish(0, 1, 1, noon, func(*jobPlan, *Call, int, int) {}); err != nil {
		t.Fatal(err)
	}
	victim := p.lose(0, ranHead)
	if victim == nil || victim.calls[0].Seq != 2 {
		t.Fatalf("the victim is %+v, want call 2", victim)
	}
	p.started(0, noon)
	p.ready(0, noon)
	equal(t, "chunks after it", cutAll(p), []string{"0:3+1", "0:4+3", "0:7+1"})
}

func TestWorkersStartAsCallsNeedThem(t *testing.T) {
	p := newPlan(4, Quota{})
	j := p.add(&Running{job: Job{ChunkSize: 1}})
	if _, ok := p.toStart(); ok {
		t.Error("a worker is started for nothing")
	}
	j.push(calls(2), noon)
	for want := range 2 {
		slot, ok := p.toStart()
		if !ok || slot != want {
			t.Fatalf("slot %d, %v is started; want %d", slot, ok, want)
		}
		p.started(slot, noon)
	}
	if slot, ok := p.toStart(); ok {
		t.Errorf("slot %d is started for two calls that have workers", slot)
	}
}

func TestAWorkerGetsNoMoreCallsThanItMayRun(t *testing.T) {
	p := newPlan(1, Quota{N: 5})
	j := p.add(&Running{job: Job{ChunkSize: 3}})
	j.mean = time.Microsecond
	j.push(calls(9), noon)
	p.started(0, noon)
	p.ready(0, noon)
	equal(t, "chunks", cutAll(p), []string{"0:1+3", "0:4+2"})
	if p.slots[0].state != slotLeaving {
		t.Error("the worker is not told to leave")
	}
}

func TestInputIsPulledOnlyAsFarAsThereIsRoom(t *testing.T) {
	p, j := readyPlan(2, Job{ChunkSize: 1, Window: 10})
	if n := p.wants(j); n != 4 {
		t.Errorf("at first %d calls are pulled, want 4: one running and one waiting for each worker", n)
	}
	j.mean = time.Microsecond
	if n := p.wants(j); n != 10 {
		t.Errorf("%d calls are pulled, want the window of 10", n)
	}
	j.push(calls(10), noon)
	cutAll(p)
	if n := p.wants(j); n != 0 {
		t.Errorf("%d calls are pulled beyond the window", n)
	}
	j.consumed = 3
	if n := p.wants(j); n != 3 {
		t.Errorf("%d calls are pulled after 3 results, want 3", n)
	}
	j.push([]Call{{Payload: make([]byte, heldBytes)}}, noon)
	if n := p.wants(j); n != 0 {
		t.Errorf("%d calls are pulled beside one of %d bytes", n, heldBytes)
	}
}

func TestACallBehindASlowOneIsRecalledWhenAWorkerIsFree(t *testing.T) {
	p, j := readyPlan(2, Job{ChunkSize: 3})
	j.mean = time.Microsecond
	j.push(calls(4), noon)
	cutAll(p) // 0: 1 2 3, 1: 4
	if err := p.finish(1, 1, 1, noon, func(*jobPlan, *Call, int, int) {}); err != nil {
		t.Fatal(err)
	}
	_, _, again, ok := p.toRecall(noon)
	if ok || again != noon.Add(stuckTime) {
		t.Fatalf("recalled %v, ask again at %v; want it asked again after %v", ok, again, stuckTime)
	}
	slot, id, _, ok := p.toRecall(again)
	if !ok || slot != 0 || id != 2 {
		t.Fatalf("recalled %v: slot %d from call %d; want slot 0 from call 2", ok, slot, id)
	}
	if _, _, _, ok := p.toRecall(again); ok {
		t.Error("it is recalled twice")
	}
	if err := p.returned(0, 2, 2); err != nil {
		t.Fatal(err)
	}
	j.inputDone = true
	for want := range uint64(2) { // one after the other, and not behind the slow one again
		c, ok := p.next(again, nil)
		if !ok || c.slot != 1 || c.calls[0].Seq != 2+want || len(c.calls) != 1 {
			t.Errorf("the next chunk is %+v, %v; want call %d on slot 1", c, ok, 2+want)
		}
	}
}

// TestRecalledCallsAreShared: a chunk of a given size that was too much for one worker
// must not be too much for the next, over and over.
func TestRecalledCallsAreShared(t *testing.T) {
	p, j := readyPlan(2, Job{ChunkSize: 1000})
	j.push(calls(1000), noon)
	cutAll(p)
	if err := p.returned(0, 2, 999); err != nil {
		t.Fatal(err)
	}
	if c, ok := p.next(noon, nil); !ok || c.slot != 1 || len(c.calls) != 250 {
		t.Errorf("of 999 recalled calls %d go to slot %d, want 250 to slot 1", len(c.calls), c.slot)
	}
}

// model checks what must hold of a plan whatever happens: every call is in one place,
// ends once, and begins in input order as far as nothing was lost.
type model struct {
	p      *plan
	j      *jobPlan
	pushed int
	ended  map[uint64]string
	now    time.Time
	limit  int
	sent   []int // calls that the worker of each slot was sent
	back   map[int]*recalled
}

// recalled is what a worker gives back and has not said yet.
type recalled struct {
	id uint64
	n  int
}

func (m *model) end(t *rapid.T, seq uint64, how string) {
	if before := m.ended[seq]; before != "" {
		t.Fatalf("call %d ended as %s and then as %s", seq, before, how)
	}
	m.ended[seq] = how
}

func (m *model) check(t *rapid.T) {
	seen := map[uint64]bool{}
	see := func(where string, list []Call) int {
		for i := range list {
			seq := list[i].Seq
			if seen[seq] || m.ended[seq] != "" {
				t.Fatalf("call %d is %s, and elsewhere too (%q)", seq, where, m.ended[seq])
			}
			seen[seq] = true
		}
		return len(list)
	}
	for _, d := range m.j.delayed {
		see("delayed", []Call{d.call})
	}
	waits, flying := 0, 0
	for _, s := range m.j.waiting {
		waits += see("waiting", s.calls)
	}
	for i := range m.p.slots {
		s := &m.p.slots[i]
		n := 0
		for _, f := range s.flights {
			n += see(fmt.Sprint("in slot ", i), f.calls)
		}
		if n != s.calls {
			t.Fatalf("slot %d counts %d calls and has %d", i, s.calls, n)
		}
		flying += n
		if m.limit > 0 && m.sent[i] > m.limit {
			t.Fatalf("slot %d: its worker was sent %d calls, %d are allowed", i, m.sent[i], m.limit)
		}
	}
	if waits != m.j.waits || flying != m.j.flying {
		t.Fatalf("%d calls wait and %d fly; the plan counts %d and %d", waits, flying, m.j.waits, m.j.flying)
	}
	if len(seen)+len(m.ended) != m.pushed {
		t.Fatalf("%d calls came, %d are under way and %d have ended", m.pushed, len(seen), len(m.ended))
	}
}

func TestPlanKeepsEveryCall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 4).Draw(t, "workers")
		limit := rapid.SampledFrom([]int{0, 0, 1, 3, 7}).Draw(t, "calls per worker")
		m := &model{p: newPlan(workers, Quota{N: limit}), ended: map[uint64]string{}, now: noon, limit: limit, sent: make([]int, 8), back: map[int]*recalled{}}
		m.p.eager = rapid.Bool().Draw(t, "eager")
		m.j = m.p.add(&Running{job: Job{
			ChunkSize: rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(t, "chunksize"),
			Total:     rapid.SampledFrom([]int{0, 20, 1000}).Draw(t, "total"),
			Claim:     func(c *Call) bool { return c.Item == nil },
			Retry:     &Retry{Max: 3, MinWait: time.Millisecond, MaxWait: 20 * time.Millisecond},
		}})
		slot := func() int { return rapid.IntRange(0, len(m.p.slots)-1).Draw(t, "slot") }
		t.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"push": func(t *rapid.T) {
				if m.j.inputDone {
					return
				}
				list := calls(rapid.IntRange(1, 8).Draw(t, "calls"))
				for i := range list {
					switch rapid.IntRange(0, 9).Draw(t, "bad") {
					case 0:
						list[i].Err = ErrCancelled
					case 1:
						list[i].Item = "nobody wants it"
					}
					if rapid.Bool().Draw(t, "limited") {
						list[i].Limits = &Limits{Soft: time.Millisecond, Hard: 2 * time.Millisecond}
					}
				}
				m.pushed += len(list)
				for _, c := range m.j.push(list, m.now) {
					m.end(t, c.Seq, "bad input")
				}
			},
			"start": func(t *rapid.T) {
				if s, ok := m.p.toStart(); ok {
					m.p.started(s, m.now)
					m.p.ready(s, m.now)
					m.sent[s] = 0
				}
			},
			"send": func(t *rapid.T) {
				drop := func(_ *jobPlan, c *Call) { m.end(t, c.Seq, "a cancel") }
				if c, ok := m.p.next(m.now, drop); ok {
					if c.slot >= m.p.target {
						t.Fatalf("slot %d of %d is sent calls", c.slot, m.p.target)
					}
					m.sent[c.slot] += len(c.calls)
					for i := range c.calls {
						if c.calls[i].Seq != c.calls[0].Seq+uint64(i) {
							t.Fatalf("the calls of a chunk do not follow each other")
						}
					}
				}
			},
			"finish": func(t *rapid.T) {
				s := slot()
				f := m.p.slots[s].head()
				if f == nil {
					return
				}
				most := m.p.slots[s].calls
				if b := m.back[s]; b != nil && b.n > 0 {
					most = int(b.id - f.id) // it says what it gave back before it goes on
				}
				if most == 0 {
					return
				}
				n := rapid.IntRange(1, most).Draw(t, "n")
				if err := m.p.finish(s, f.id, n, m.now, func(j *jobPlan, c *Call, attempt, _ int) {
					r := Result{Call: c, Kind: Failed, Attempt: attempt}
					if attempt > 4 || len(j.failures[c.Seq]) != attempt-1 {
						t.Fatalf("call %d has had %d attempts, and comes to its attempt %d", c.Seq, len(j.failures[c.Seq]), attempt)
					}
					if !j.halted && rapid.Bool().Draw(t, "fails") && j.retryOf(c).again(r) {
						j.retry(&r, m.now, rapid.Float64Range(0, 0.999).Draw(t, "luck"))
						return
					}
					j.settle(&r)
					m.end(t, c.Seq, "a result")
				}); err != nil {
					t.Fatal(err)
				}
				m.j.took(n, time.Duration(rapid.IntRange(1, int(time.Second)).Draw(t, "ns")))
			},
			"come back": func(t *rapid.T) {
				if due := m.j.comeBack(m.now); !due.IsZero() && !due.After(m.now) {
					t.Fatalf("a call that was due at %v still waits at %v", due, m.now)
				}
			},
			// The worker decides what it gives back, and the plan hears of it later.
			"recall": func(t *rapid.T) {
				s, id, _, ok := m.p.toRecall(m.now)
				if !ok {
					return
				}
				most := m.p.slots[s].calls - 1
				n := rapid.IntRange(0, most).Draw(t, "back")
				m.back[s] = &recalled{id + uint64(most-n), n}
			},
			"give back": func(t *rapid.T) {
				s := slot()
				if b := m.back[s]; b != nil {
					m.back[s] = nil
					m.sent[s] -= b.n
					if err := m.p.returned(s, b.id, b.n); err != nil {
						t.Fatal(err)
					}
				}
			},
			"lose": func(t *rapid.T) {
				s := slot()
				if m.p.slots[s].state == slotEmpty {
					return
				}
				end := rapid.SampledFrom([]ending{ranHead, ranNone}).Draw(t, "it ran")
				if v := m.p.lose(s, end); v != nil {
					m.end(t, v.calls[0].Seq, "a death")
				}
				m.back[s] = nil
				m.sent[s] = 0
			},
			"resize": func(t *rapid.T) {
				m.p.resize(rapid.IntRange(1, 5).Draw(t, "workers"))
				for s, ok := m.p.surplus(); ok; s, ok = m.p.surplus() {
					m.p.slots[s].state = slotLeaving
				}
			},
			"enforce": func(t *rapid.T) {
				c, _, ok := m.p.overdue(m.now)
				if !ok {
					return
				}
				f := m.p.slots[c.slot].head()
				if f == nil || f.id != c.id || m.now.Sub(m.p.slots[c.slot].moved) < c.limit {
					t.Fatalf("call %d of slot %d is called overdue; the slot runs %+v", c.id, c.slot, f)
				}
			},
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "ms")) * time.Millisecond)
			},
			"halt": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					return
				}
				for _, s := range m.j.halt() {
					for _, c := range s.calls {
						m.end(t, c.Seq, "a stop")
					}
				}
			},
		})
	})
}

func BenchmarkPlan(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("chunksize=%d", size), func(b *testing.B) {
			p, j := readyPlan(2, Job{ChunkSize: size})
			j.mean = time.Microsecond
			book := func(*jobPlan, *Call, int, int) {}
			b.ReportAllocs()
			for b.Loop() {
				j.push(calls(200), noon)
				for c, ok := p.next(noon, nil); ok; c, ok = p.next(noon, nil) {
					if err := p.finish(c.slot, c.id, len(c.calls), noon, book); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200, "ns/call")
		})
	}
}
