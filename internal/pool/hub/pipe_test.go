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

// Conformance G1, G19: messages stay whole and in order, an empty one is one, both ways.
func TestPipeMessages(t *testing.T) {
	_, a, b := two(t)
	for _, message := range []string{"one", "", "three"} {
		a.done(wire.PipeSend, side(0), values(message))
	}
	b.done(wire.PipeSend, side(1), values("back"))
	for _, message := range []string{"one", "", "three"} {
		r := b.done(wire.PipeRecv, side(1))
		if len(r.Values) != 1 || string(r.Values[0]) != message {
			t.Fatalf("received %q, want %q", r.Values, message)
		}
	}
	b.refused(wire.FaultBusy, wire.PipeRecv, side(1))
	wantTexts(t, a.done(wire.PipeRecv, side(0)), "back")
	waits := a.waiting(wire.PipeRecv, side(0))
	b.done(wire.PipeSend, side(1), values("now"))
	wantTexts(t, a.got(waits), "now")
}

func TestPipeRefuses(t *testing.T) {
	_, a, _ := two(t)
	a.refused(wire.FaultRefused, wire.PipeSend, side(2), values("x"))
	a.refused(wire.FaultRefused, wire.PipeSend, side(0))
	a.refused(wire.FaultRefused, wire.PipeSend, side(0), values("x", "y"))
	a.refused(wire.FaultRefused, wire.PipeRecv, side(0), count(-1))
	a.refused(wire.FaultRefused, "pipe.nonsense", side(0))
}

// Conformance G1: a message that is too long stays for who asks for more.
func TestPipeTooLong(t *testing.T) {
	_, a, b := two(t)
	short, long := b.waiting(wire.PipeRecv, side(1), count(3)), b.waiting(wire.PipeRecv, side(1), count(5))
	a.done(wire.PipeSend, side(0), values("12345"))
	b.failed(wire.FaultTooLong, short)
	wantN(t, b.got(short), 5)
	wantTexts(t, b.got(long), "12345")
	a.done(wire.PipeSend, side(0), values("1234"))
	wantN(t, b.refused(wire.FaultTooLong, wire.PipeRecv, side(1), count(3)), 4)
	wantTexts(t, b.done(wire.PipeRecv, side(1), count(4)), "1234")
}

// What waits in a pipe is bounded, and a message that is longer goes alone.
func TestPipeLimit(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.PipeSend, initial(4), side(0), values("12"))
	a.done(wire.PipeSend, side(0), values("34"))
	a.refused(wire.FaultBusy, wire.PipeSend, side(0), values("5"))
	long := a.waiting(wire.PipeSend, side(0), values("678901"))
	short := a.waiting(wire.PipeSend, side(0), values("2"))
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "12")
	a.waits(long, short) // a shorter one does not overtake
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "34")
	a.granted(long)
	a.waits(short)
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "678901")
	a.granted(short)
	for range 3 {
		a.done(wire.PipeSend, side(0), values(""))
	}
	a.refused(wire.FaultBusy, wire.PipeSend, side(0), values("")) // empty ones are counted
}

func TestPipeCancelledSendLetsOthersPass(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.PipeSend, initial(4), side(0), values("123"))
	long, short := a.waiting(wire.PipeSend, side(0), values("45")), a.waiting(wire.PipeSend, side(0), values("6"))
	a.cancel(long)
	a.failed(wire.FaultCancelled, long)
	a.granted(short)
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "123")
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "6")
}

// Conformance G18: to poll takes nothing, and is answered when a receive would not wait.
func TestPipePoll(t *testing.T) {
	_, a, b := two(t)
	b.refused(wire.FaultBusy, wire.PipePoll, side(1))
	polls := []uint64{b.waiting(wire.PipePoll, side(1)), b.waiting(wire.PipePoll, side(1))}
	receives := b.waiting(wire.PipeRecv, side(1))
	a.done(wire.PipeSend, side(0), values("1"))
	wantTexts(t, b.got(receives), "1")
	b.waits(polls...) // what came is gone
	a.done(wire.PipeSend, side(0), values(""))
	b.granted(polls[0])
	b.granted(polls[1])
	b.done(wire.PipePoll, side(1))
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "")
	last := b.waiting(wire.PipePoll, side(1))
	a.done(wire.PipeClose, side(0))
	b.granted(last)
	b.done(wire.PipePoll, side(1))
	b.refused(wire.FaultEnd, wire.PipeRecv, side(1))
	b.done(wire.PipeClose, side(1))
	b.refused(wire.FaultClosed, wire.PipePoll, side(1))
}

// Conformance G1, G8: the other side of one that is closed drains it, and then it is the end.
func TestPipeClose(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.PipeSend, initial(2), side(0), values("12"))
	b.done(wire.PipeSend, side(1), values("34"))
	mine := a.waiting(wire.PipeSend, side(0), values("5"))
	theirs := b.waiting(wire.PipeSend, side(1), values("6"))
	a.done(wire.PipeClose, side(0))
	a.done(wire.PipeClose, side(0))
	a.failed(wire.FaultClosed, mine)
	b.failed(wire.FaultBroken, theirs)
	a.refused(wire.FaultClosed, wire.PipeRecv, side(0))
	a.refused(wire.FaultClosed, wire.PipeSend, side(0), values("7"))
	b.refused(wire.FaultBroken, wire.PipeSend, side(1), values("7"))
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "12")
	b.refused(wire.FaultEnd, wire.PipeRecv, side(1))
	b.refused(wire.FaultEnd, wire.PipeRecv, side(1), wait)
}

// What waits on a side when it, or the other one, is closed.
func TestPipeCloseEndsWaits(t *testing.T) {
	_, a, b := two(t)
	mine := []uint64{a.waiting(wire.PipeRecv, side(0)), a.waiting(wire.PipePoll, side(0))}
	receives, polls := b.waiting(wire.PipeRecv, side(1)), b.waiting(wire.PipePoll, side(1))
	a.done(wire.PipeClose, side(0))
	a.failed(wire.FaultClosed, mine...)
	b.failed(wire.FaultEnd, receives)
	b.granted(polls)
}

// A side ends with the last member that has used it, and what it has sent does not.
func TestPipeEndsWithItsMembers(t *testing.T) {
	h, a, b := two(t)
	c := join(t, h, "c")
	a.done(wire.PipeSend, side(0), values("1"))
	c.refused(wire.FaultBusy, wire.PipePoll, side(0))
	b.refused(wire.FaultBusy, wire.PipePoll, side(0))
	b.leave()
	a.leave()
	d := join(t, h, "d")
	wantTexts(t, d.done(wire.PipeRecv, side(1)), "1")
	receives := d.waiting(wire.PipeRecv, side(1))
	c.done(wire.PipeSend, side(0), values("2"))
	wantTexts(t, d.got(receives), "2")
	receives = d.waiting(wire.PipeRecv, side(1))
	c.leave()
	d.failed(wire.FaultEnd, receives)
	d.refused(wire.FaultBroken, wire.PipeSend, side(1), values("3"))
	d.leave()
	if !h.Idle() {
		t.Fatal("a pipe that both sides have left keeps the hub busy")
	}
}

// Of a member that ends, no message overtakes one that was given up.
func TestPipeLeavesNoGap(t *testing.T) {
	h, a, b := two(t)
	c := join(t, h, "c")
	a.done(wire.PipeSend, initial(4), side(0), values("123"))
	a.waiting(wire.PipeSend, side(0), values("45"))
	a.waiting(wire.PipeSend, side(0), values("6"))
	other := c.waiting(wire.PipeSend, side(0), values("7"))
	a.leave()
	c.granted(other)
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "123")
	wantTexts(t, b.done(wire.PipeRecv, side(1)), "7")
}

func TestPipeDrop(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.PipeSend, initial(1), side(0), values("1"))
	sends := a.waiting(wire.PipeSend, side(0), values("2"))
	receives, polls := a.waiting(wire.PipeRecv, side(0)), a.waiting(wire.PipePoll, side(0))
	b.done(wire.Drop, objectKey("pipe/x"))
	a.failed(wire.FaultGone, sends, receives, polls)
	a.refused(wire.FaultMissing, wire.Drop, objectKey("pipe/x"))
}

func TestPipeDescribed(t *testing.T) {
	_, a, b := two(t)
	a.done(wire.PipeSend, side(0), values("123"))
	b.waiting(wire.PipeSend, side(0), values(strings.Repeat("x", pipeBytes)))
	a.done(wire.PipeClose, side(1))
	o := a.described("pipe", "x")
	want := wire.Object{Kind: "pipe", Name: "x", State: "0 messages for side 0, side 1 closed", Holders: []string{"side 0: a", "side 0: b"}}
	if fmt.Sprint(o) != fmt.Sprint(want) {
		t.Fatalf("described as %v, want %v", o, want)
	}
}

// Whatever two members do, each message that was sent arrives once, in order, and the limit holds.
func TestPipeLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 12).Draw(t, "limit")
		h := New()
		members := [2]wire.Member{h.Join(wire.Peer{}), h.Join(wire.Peer{})}
		var sent, received [2][]string // by the side that sends
		var last uint64
		ask := func(s int, r wire.Request, wait bool, answered func(wire.Reply)) {
			last++
			r.Object, r.Init, r.Side, r.Wait = "x", limit, uint8(s), wait
			members[s].Do(last, &r, answered)
		}
		receive := func(s int, wait bool) (got bool) {
			ask(s, wire.Request{Op: wire.PipeRecv}, wait, func(r wire.Reply) {
				if r.Fault == "" {
					received[1-s] = append(received[1-s], string(r.Values[0]))
					got = true
				}
			})
			return got
		}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			s, wait := rapid.IntRange(0, 1).Draw(t, "side"), rapid.Bool().Draw(t, "wait")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				message := strconv.Itoa(i) + strings.Repeat("x", rapid.IntRange(0, 8).Draw(t, "length"))
				ask(s, wire.Request{Op: wire.PipeSend, Values: [][]byte{[]byte(message)}}, wait, func(r wire.Reply) {
					if r.Fault == "" {
						sent[s] = append(sent[s], message)
					}
				})
			case 2, 3:
				receive(s, wait)
			case 4:
				members[s].Cancel(rapid.Uint64Range(0, last).Draw(t, "id"))
			}
			p, made := h.objects["pipe/x"].(*pipe)
			for i := range 2 {
				if !made {
					break
				}
				end := &p.sides[i]
				if end.inbox.n > 1 && end.inbox.bytes > limit {
					t.Fatalf("%d bytes wait in a pipe for %d", end.inbox.bytes, limit)
				}
			}
		}
		for s := range 2 {
			for receive(1-s, false) {
			}
			if !slices.Equal(sent[s], received[s]) {
				t.Fatalf("side %d sent %q, and %q arrived", s, sent[s], received[s])
			}
		}
	})
}
