package hub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gpool/internal/pool/hub/wire"
)

// texts is the values of a reply in one line.
func texts(r wire.Reply) string {
	list := make([]string, len(r.Values))
	for i, v := range r.Values {
		list[i] = string(v)
	}
	return strings.Join(list, " ")
}

func wantTexts(t testing.TB, r wire.Reply, want string) {
	t.Helper()
	if got := texts(r); got != want || r.Fault != "" {
		t.Fatalf("%q with the fault %q, want %q", got, r.Fault, want)
	}
}

func wantN(t testing.TB, r wire.Reply, want int64) {
	t.Helper()
	if r.N != want {
		t.Fatalf("N is %d, want %d: %+v", r.N, want, r)
	}
}

// wantState asserts how many items a queue has, and how many are unfinished.
func wantState(t testing.TB, f *fake, n, unfinished int64, closed bool) {
	t.Helper()
	if r := f.done(wire.QueueState); r.N != n || r.M != unfinished || r.Flag != closed {
		t.Fatalf("the queue is %+v, want N %d, M %d, Flag %v", r, n, unfinished, closed)
	}
}

// Conformance B2, B4: in order, empty and full are said at once, the length is exact.
func TestQueueFirstInFirstOut(t *testing.T) {
	_, a, b := two(t)
	a.refused(wire.FaultBusy, wire.QueueGet, initial(3))
	wantN(t, a.done(wire.QueuePut, values("1", "2")), 2)
	wantN(t, b.done(wire.QueuePut, values("3")), 1)
	wantN(t, b.refused(wire.FaultBusy, wire.QueuePut, values("4")), 0)
	wantState(t, a, 3, 3, false)
	wantTexts(t, b.done(wire.QueueGet), "1")
	wantTexts(t, a.done(wire.QueueGet, count(9)), "2 3")
	wantState(t, a, 0, 3, false)
	a.refused(wire.FaultRefused, wire.QueuePut)
	a.refused(wire.FaultRefused, wire.QueueGet, count(-1))
	a.refused(wire.FaultRefused, "queue.nonsense")
}

func TestQueueGetsWaitInTurn(t *testing.T) {
	_, a, b := two(t)
	first := a.waiting(wire.QueueGet, count(2))
	second := b.waiting(wire.QueueGet)
	third := a.waiting(wire.QueueGet)
	b.cancel(second)
	b.failed(wire.FaultCancelled, second)
	b.done(wire.QueuePut, values("1", "2", "3"))
	wantTexts(t, a.got(first), "1 2")
	wantTexts(t, a.got(third), "3")
}

// A put of many goes in as there is room, and none that came later overtakes it.
func TestQueuePutOfMany(t *testing.T) {
	_, a, b := two(t)
	many := a.waiting(wire.QueuePut, initial(2), values("1", "2", "3", "4"))
	wantN(t, b.refused(wire.FaultBusy, wire.QueuePut, values("5")), 0)
	later := b.waiting(wire.QueuePut, values("6"))
	wantTexts(t, b.done(wire.QueueGet), "1")
	a.waits(many)
	wantTexts(t, b.done(wire.QueueGet, count(2)), "2 3")
	wantN(t, a.got(many), 4)
	wantN(t, b.got(later), 1)
	wantTexts(t, b.done(wire.QueueGet, count(5)), "4 6")
	wantN(t, a.refused(wire.FaultBusy, wire.QueuePut, values("7", "8", "9")), 2) // what there was room for
}

// However a put ends, it says how much of it is in.
func TestQueuePutSaysHowMany(t *testing.T) {
	for _, test := range []struct {
		name string
		code wire.FaultCode
		end  func(a, b *fake, id uint64)
	}{
		{"cancel", wire.FaultCancelled, func(a, _ *fake, id uint64) { a.cancel(id) }},
		{"close", wire.FaultClosed, func(_, b *fake, _ uint64) { b.done(wire.QueueClose) }},
		{"drop", wire.FaultGone, func(_, b *fake, _ uint64) { b.done(wire.Drop, objectKey("queue/x")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, a, b := two(t)
			partly := a.waiting(wire.QueuePut, initial(2), values("1", "2", "3"))
			none := a.waiting(wire.QueuePut, values("4"))
			test.end(a, b, partly)
			a.failed(test.code, partly)
			wantN(t, a.got(partly), 2)
			if test.code == wire.FaultCancelled {
				a.waits(none)
				a.cancel(none)
			}
			a.failed(test.code, none)
			wantN(t, a.got(none), 0)
		})
	}
}

func TestQueueDrop(t *testing.T) {
	_, a, b := two(t)
	gets := a.waiting(wire.QueueGet)
	b.done(wire.Drop, objectKey("queue/x"))
	a.failed(wire.FaultGone, gets)
	a.done(wire.QueuePut, values("1"))
	joins := a.waiting(wire.QueueJoin)
	b.done(wire.Drop, objectKey("queue/x"))
	a.failed(wire.FaultGone, joins)
	wantState(t, a, 0, 0, false)
}

func objectKey(name string) func(*wire.Request) { return func(r *wire.Request) { r.Object = name } }

// Conformance B9, B10, B13: what is in a closed queue can be got, nothing can be put, closing twice is fine.
func TestQueueClose(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.QueuePut, values("1"))
	a.done(wire.QueueClose)
	b.done(wire.QueueClose)
	wantN(t, a.refused(wire.FaultClosed, wire.QueuePut, values("2")), 0)
	wantState(t, b, 1, 1, true)
	wantTexts(t, b.done(wire.QueueGet), "1")
	b.refused(wire.FaultClosed, wire.QueueGet)
	b.refused(wire.FaultClosed, wire.QueueGet, wait)
	wantState(t, b, 0, 1, true)
	b.done(wire.QueueUnget, values("1"))
	wantTexts(t, a.done(wire.QueueGet), "1")
}

func TestQueueCloseEndsGets(t *testing.T) {
	_, a, b := two(t)
	one, two := a.waiting(wire.QueueGet), b.waiting(wire.QueueGet)
	a.done(wire.QueueClose)
	a.failed(wire.FaultClosed, one)
	b.failed(wire.FaultClosed, two)
}

// Items of a closed queue that others hold may come back, so a get waits for them.
func TestQueueClosedButHeld(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.QueuePut, values("1", "2", "3"))
	a.done(wire.QueueClose)
	wantTexts(t, a.done(wire.QueueGet, count(2), hold), "1 2")
	wantTexts(t, b.done(wire.QueueGet, hold), "3")
	b.refused(wire.FaultBusy, wire.QueueGet)
	both := []uint64{b.waiting(wire.QueueGet), b.waiting(wire.QueueGet)}
	a.done(wire.QueueDone)
	b.waits(both...)
	a.leave()
	wantTexts(t, b.got(both[0]), "2")
	b.failed(wire.FaultClosed, both[1]) // only b itself holds something now
	c := join(t, h, "c")
	last := c.waiting(wire.QueueGet)
	b.done(wire.QueueDone)
	c.failed(wire.FaultClosed, last)
}

// While two hold items, something may come for both.
func TestQueueClosedAndHeldByTwo(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.QueuePut, values("1", "2"))
	a.done(wire.QueueGet, hold)
	b.done(wire.QueueGet, hold)
	a.done(wire.QueueClose)
	first := a.waiting(wire.QueueGet)
	b.done(wire.QueueDone)
	a.failed(wire.FaultClosed, first)
}

// What a member held goes back to the front in its order, and is unfinished.
func TestQueueHoldReturns(t *testing.T) {
	h, a, b := two(t)
	b.done(wire.QueuePut, initial(4), values("1", "2", "3", "4"))
	wantTexts(t, a.done(wire.QueueGet, count(2), hold), "1 2")
	wantTexts(t, a.done(wire.QueueGet, hold), "3")
	a.done(wire.QueueDone)
	b.done(wire.QueuePut, values("5", "6", "7"))
	full := b.waiting(wire.QueuePut, values("8"))
	a.leave()
	wantState(t, b, 6, 6, false) // above the limit: what was in once is not lost
	b.waits(full)
	c := join(t, h, "c")
	wantTexts(t, c.done(wire.QueueGet, count(9)), "2 3 4 5 6 7")
	b.granted(full)
	wantState(t, b, 1, 7, false)
}

// Conformance B5: join answers when every item was done, by whomever.
func TestQueueJoin(t *testing.T) {
	_, m := fakes(t, "a", "b", "c", "d", "e")
	m[0].done(wire.QueueJoin)
	m[0].done(wire.QueuePut, initial(4), values("1", "2", "3", "4"))
	m[0].refused(wire.FaultBusy, wire.QueueJoin)
	joins := m[0].waiting(wire.QueueJoin)
	for _, consumer := range m[1:] {
		m[0].waits(joins)
		consumer.done(wire.QueueGet, hold)
		consumer.done(wire.QueueDone)
	}
	m[0].granted(joins)
	m[0].refused(wire.FaultOverflow, wire.QueueDone)
	m[0].refused(wire.FaultRefused, wire.QueueDone, count(-1))
	wantN(t, m[0].refused(wire.FaultBusy, wire.QueuePut, values("1", "2", "3", "4", "5")), 4) // the limit is that of the put, not of the join
}

// Any member may say done for any: its own items first.
func TestQueueDoneForOthers(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.QueuePut, values("1", "2", "3"))
	a.done(wire.QueueGet, hold)
	b.done(wire.QueueGet, hold, count(2))
	a.done(wire.QueueDone, count(2))
	a.refused(wire.FaultOverflow, wire.QueueDone, count(2))
	b.leave()
	wantTexts(t, a.done(wire.QueueGet, count(9)), "3")
}

// Holding ends with unget, or a member that ends would leave two of an item.
func TestQueueUngetOfHeld(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.QueuePut, values("1", "2", "3"))
	a.done(wire.QueueGet, count(3), hold)
	a.done(wire.QueueUnget, values("2", "3"))
	wantState(t, a, 2, 3, false)
	a.leave()
	wantTexts(t, b.done(wire.QueueGet, count(9)), "1 2 3")
	c := join(t, h, "c")
	waits := c.waiting(wire.QueueGet)
	b.done(wire.QueueUnget, values("3"))
	wantTexts(t, c.got(waits), "3")
	wantState(t, b, 0, 3, false)
}

// An answer must fit a frame.
func TestQueueGetIsBounded(t *testing.T) {
	_, a, _ := two(t)
	big := strings.Repeat("x", getBytes/2)
	a.done(wire.QueuePut, values(big, big, "y", "z"))
	if n := len(a.done(wire.QueueGet, count(9)).Values); n != 2 {
		t.Fatalf("%d items were taken, want 2", n)
	}
	wantTexts(t, a.done(wire.QueueGet, count(9)), "y z")
	huge := strings.Repeat("x", getBytes+1)
	a.done(wire.QueuePut, values(huge, "y"))
	wantTexts(t, a.done(wire.QueueGet, count(9)), huge)
}

func TestQueueDescribed(t *testing.T) {
	h, a, b := two(t)
	a.done(wire.QueueState)
	a.leave()
	b.leave()
	if !h.Idle() {
		t.Fatal("a queue that was only looked at keeps the hub busy")
	}
	a, b = join(t, h, "a"), join(t, h, "b")
	a.done(wire.QueuePut, values("1", "234"))
	b.done(wire.QueueGet, hold)
	a.waiting(wire.QueueJoin)
	o := a.described("queue", "x")
	want := wire.Object{Kind: "queue", Name: "x", State: "1 items, 2 unfinished", Holders: []string{"b"}, Waiting: []string{"a"}, Bytes: 4 + 2*entryCost}
	if fmt.Sprint(o) != fmt.Sprint(want) {
		t.Fatalf("described as %v, want %v", o, want)
	}
	a.done(wire.QueueClose)
	a.leave()
	b.leave()
	if h.Idle() {
		t.Fatal("a queue with an item is said to be idle")
	}
}

// life is random members at one queue, and what must hold of it.
type life struct {
	*rapid.T
	hub       *Hub
	members   []*player
	limit     int64
	holding   bool // every get holds
	leaves    bool // members may leave and give items back, which are out of order then
	made      int  // items, whose texts are 1, 2, 3...
	acked     map[string]bool
	delivered map[string]int
	over      map[string]bool // done
	dones     int64
	order     map[int]int // the last item delivered of each producer
	producer  map[string]int
	closed    bool
	joined    int
}

type player struct {
	wire.Member
	number int
	last   uint64
	open   map[uint64]bool
	has    []string // got and not done
}

func (l *life) join() *player {
	l.joined++
	p := &player{Member: l.hub.Join(wire.Peer{From: "p"}), number: l.joined, open: map[uint64]bool{}}
	l.members = append(l.members, p)
	return p
}

func (l *life) someone() *player { return rapid.SampledFrom(l.members).Draw(l.T, "member") }

// ask does a request, and books its answer whenever it comes.
func (l *life) ask(p *player, r wire.Request, answered func(wire.Reply)) {
	r.Object, r.Init = "x", l.limit
	p.last++
	id := p.last
	p.open[id] = true
	p.Do(id, &r, func(reply wire.Reply) {
		if !p.open[id] {
			l.Fatalf("%s was answered twice, or after its member left: %+v", r.Op, reply)
		}
		delete(p.open, id)
		answered(reply)
	})
}

func (l *life) put() {
	p := l.someone()
	r := wire.Request{Op: wire.QueuePut, Wait: rapid.Bool().Draw(l.T, "wait")}
	for range rapid.IntRange(1, 4).Draw(l.T, "items") {
		l.made++
		item := strconv.Itoa(l.made)
		l.producer[item] = p.number
		r.Values = append(r.Values, []byte(item))
	}
	l.ask(p, r, func(reply wire.Reply) {
		if full := reply.N == int64(len(r.Values)); full != (reply.Fault == "") {
			l.Fatalf("a put of %d was answered with %+v", len(r.Values), reply)
		}
		for _, item := range r.Values[:reply.N] {
			l.acked[string(item)] = true
		}
	})
}

func (l *life) get() {
	p := l.someone()
	n := rapid.Int64Range(0, 3).Draw(l.T, "n")
	l.getFor(p, n, rapid.Bool().Draw(l.T, "wait"))
}

func (l *life) getFor(p *player, n int64, wait bool) (got int) {
	r := wire.Request{Op: wire.QueueGet, N: n, Hold: l.holding, Wait: wait}
	l.ask(p, r, func(reply wire.Reply) {
		if (len(reply.Values) > 0) != (reply.Fault == "") || int64(len(reply.Values)) > max(1, n) {
			l.Fatalf("a get of %d was answered with %+v", n, reply)
		}
		if reply.Fault == wire.FaultClosed && !l.closed {
			l.Fatal("a get was refused as closed")
		}
		for _, v := range reply.Values {
			l.deliver(p, string(v))
			got++
		}
	})
	return got
}

func (l *life) deliver(p *player, item string) {
	n, _ := strconv.Atoi(item)
	who := l.producer[item]
	if !l.leaves && n <= l.order[who] {
		l.Fatalf("item %s of producer %d came after its %d", item, who, l.order[who])
	}
	l.order[who] = n
	l.delivered[item]++
	if !l.holding && l.delivered[item] > 1 || l.over[item] {
		l.Fatalf("item %s was delivered again", item)
	}
	for _, m := range l.members {
		if l.holding && slices.Contains(m.has, item) {
			l.Fatalf("item %s was delivered while it is held", item)
		}
	}
	p.has = append(p.has, item)
}

// unget gives back the last of what a member got, which then counts as never delivered.
func (l *life) unget() {
	p := l.someone()
	if !l.leaves || len(p.has) == 0 {
		return
	}
	first := rapid.IntRange(0, len(p.has)-1).Draw(l.T, "first")
	r := wire.Request{Op: wire.QueueUnget}
	for _, item := range p.has[first:] {
		l.delivered[item]--
		r.Values = append(r.Values, []byte(item))
	}
	p.has = p.has[:first]
	l.must(p, r)
}

func (l *life) done() {
	p := l.someone()
	if len(p.has) == 0 {
		return
	}
	n := rapid.IntRange(1, len(p.has)).Draw(l.T, "n")
	for _, item := range p.has[:n] {
		l.over[item] = true
	}
	p.has = p.has[n:]
	l.dones += int64(n)
	l.must(p, wire.Request{Op: wire.QueueDone, N: int64(n)})
}

// must does what is answered at once and not refused.
func (l *life) must(p *player, r wire.Request) (reply wire.Reply) {
	answers := 0
	l.ask(p, r, func(got wire.Reply) { reply, answers = got, answers+1 })
	if answers != 1 || reply.Fault != "" {
		l.Fatalf("%s has %d answers, the last one %+v", r.Op, answers, reply)
	}
	return reply
}

func (l *life) cancel() {
	p := l.someone()
	if id := rapid.Uint64Range(0, p.last).Draw(l.T, "id"); p.open[id] {
		p.Cancel(id)
		if p.open[id] {
			l.Fatal("a request that was given up was not answered")
		}
	}
}

func (l *life) leave() {
	if l.leaves && len(l.members) > 1 {
		l.end(l.someone())
	}
}

func (l *life) end(p *player) {
	l.members = slices.DeleteFunc(l.members, func(m *player) bool { return m == p })
	clear(p.open)
	p.has = nil
	p.Leave()
}

func (l *life) close() {
	l.closed = true
	l.must(l.someone(), wire.Request{Op: wire.QueueClose})
}

func (l *life) check() {
	r := l.must(l.members[0], wire.Request{Op: wire.QueueState})
	if l.limit > 0 && !l.leaves && r.N > l.limit {
		l.Fatalf("%d items are in a queue for %d", r.N, l.limit)
	}
	if !l.leaves && r.M != int64(len(l.acked))+l.partly()-l.dones {
		l.Fatalf("%d are unfinished, of %d put and %d done", r.M, int64(len(l.acked))+l.partly(), l.dones)
	}
}

// partly is how many values of puts that wait are in.
func (l *life) partly() int64 { return int64(l.hub.objects["queue/x"].(*queue).begun) }

// finish drains the queue, and checks that nothing was lost and that all adds up.
func (l *life) finish() {
	last := l.join()
	l.leaves = l.leaves || l.holding // what comes back is out of order
	for len(l.members) > 1 {
		l.end(l.members[0])
	}
	for l.getFor(last, 5, false) > 0 {
	}
	for item := range l.acked {
		if l.delivered[item] == 0 {
			l.Fatalf("item %s was acknowledged and is lost", item)
		}
	}
	r := l.must(last, wire.Request{Op: wire.QueueState})
	if want := int64(len(l.delivered)) - l.dones; r.N != 0 || r.M != want {
		l.Fatalf("in the end there are %d items, %d unfinished; want none, %d", r.N, r.M, want)
	}
	if n := int64(len(last.has)); l.holding && n != r.M {
		l.Fatalf("the last member holds %d items, and %d are unfinished", n, r.M)
	}
	if r.M > 0 {
		l.must(last, wire.Request{Op: wire.QueueDone, N: r.M})
	}
	l.must(last, wire.Request{Op: wire.QueueJoin})
}

func TestQueueLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{T: t, hub: New(), acked: map[string]bool{}, delivered: map[string]int{}, over: map[string]bool{},
			order: map[int]int{}, producer: map[string]int{}}
		l.limit = rapid.Int64Range(0, 4).Draw(t, "limit")
		l.holding = rapid.Bool().Draw(t, "holding")
		l.leaves = rapid.Bool().Draw(t, "leaves")
		for range 3 {
			l.join()
		}
		closes := rapid.Bool().Draw(t, "closes")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom(strings.Fields("put put put get get get done done unget cancel leave join close")).Draw(t, "step") {
			case "put":
				l.put()
			case "get":
				l.get()
			case "done":
				l.done()
			case "unget":
				l.unget()
			case "cancel":
				l.cancel()
			case "leave":
				l.leave()
			case "join":
				l.join()
			case "close":
				if closes {
					l.close()
				}
			}
			l.check()
		}
		l.finish()
	})
}

// A ring is a slice that forgets what was taken.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var model [][]byte
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			item := []byte(strconv.Itoa(i / 2)) // twice, for remove
			switch step := rapid.IntRange(0, 6).Draw(t, "step"); {
			case step <= 2:
				r.pushBack(item)
				model = append(model, item)
			case step == 3:
				r.pushFront(item)
				model = slices.Insert(model, 0, item)
			case len(model) == 0:
			case step == 4:
				r.popFront()
				model = model[1:]
			case step == 5:
				r.popBack()
				model = model[:len(model)-1]
			case step == 6:
				i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
				item := model[i]
				for j, other := range model {
					if string(other) == string(item) {
						i = j
					}
				}
				r.remove(item)
				model = slices.Delete(model, i, i+1)
			}
			checkRing(t, &r, model)
		}
	})
}

func checkRing(t *rapid.T, r *ring, model [][]byte) {
	var got, kept [][]byte
	for i := range r.n {
		got = append(got, *r.slot(i))
	}
	for _, v := range r.slots {
		if v != nil {
			kept = append(kept, v)
		}
	}
	size := 0
	for _, v := range model {
		size += len(v)
	}
	if fmt.Sprintf("%s", got) != fmt.Sprintf("%s", model) || len(kept) != len(model) || r.bytes != int64(size) {
		t.Fatalf("the ring has %s (%d kept, %d bytes), want %s (%d bytes)", got, len(kept), r.bytes, model, size)
	}
	if len(r.slots) > max(16, 8*(r.n+1)) {
		t.Fatalf("%d items keep %d slots", r.n, len(r.slots))
	}
}
