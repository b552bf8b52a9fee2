package admit

import (
	"testing"

	"pgregory.net/rapid"
)

// economy is a loop, a keeper and a make, with pipes between them in which bytes lie for any time.
type economy struct {
	l       books
	h       holder
	orders  []byte
	reports []byte
	make    int // tokens that make has
	others  int // tokens that others have
	running int
}

func (b *economy) admit(*rapid.T) {
	switch {
	case b.l.enough(b.running):
		b.running++
	case b.l.wants(b.running):
		b.orders = append(b.orders, orderMore)
	}
}

func (b *economy) settle(*rapid.T) {
	for range b.l.surplus(b.running) {
		b.orders = append(b.orders, orderFewer)
	}
}

func (b *economy) end(t *rapid.T) {
	if b.running > 0 {
		b.running--
	}
	if rapid.Bool().Draw(t, "told at once") {
		b.settle(t)
	}
}

func (b *economy) keep(t *rapid.T) {
	if len(b.orders) == 0 {
		return
	}
	report, _, back, err := b.h.ordered(b.orders[0])
	if err != nil {
		t.Fatal(err)
	}
	b.orders = b.orders[1:]
	if back {
		b.make++
	}
	if report != 0 {
		b.reports = append(b.reports, report)
	}
}

func (b *economy) lend(*rapid.T) {
	if b.h.short() && b.make > 0 {
		b.make--
		b.h.held = append(b.h.held, '+')
		b.reports = append(b.reports, reportGot)
	}
}

func (b *economy) hear(t *rapid.T) {
	if len(b.reports) == 0 {
		return
	}
	if _, err := b.l.reported(b.reports[0]); err != nil {
		t.Fatal(err)
	}
	b.reports = b.reports[1:]
}

func (b *economy) compete(t *rapid.T) {
	if b.make > 0 && rapid.Bool().Draw(t, "takes") {
		b.make--
		b.others++
	} else if b.others > 0 {
		b.others--
		b.make++
	}
}

// TestNoCallRunsWithoutAToken: in whatever order bytes arrive, what runs beyond the place that is
// ours has a token in the keeper's hand; and nothing but the tokens wanted stays there.
func TestNoCallRunsWithoutAToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const all = 3
		b := &economy{make: all}
		t.Repeat(map[string]func(*rapid.T){
			"admit": b.admit, "settle": b.settle, "end": b.end, "keep": b.keep, "lend": b.lend, "hear": b.hear, "compete": b.compete,
			"": func(t *rapid.T) {
				if b.running > 1+len(b.h.held) {
					t.Fatalf("%d calls run with %d tokens", b.running, len(b.h.held))
				}
				if b.make+b.others+len(b.h.held) != all {
					t.Fatalf("there are %d tokens", b.make+b.others+len(b.h.held))
				}
				if len(b.orders)+len(b.reports) > 3*all+4 {
					t.Fatalf("%d bytes are under way", len(b.orders)+len(b.reports))
				}
			},
		})
		b.settle(t)
		for len(b.orders)+len(b.reports) > 0 {
			b.keep(t)
			b.hear(t)
		}
		if want := max(0, b.running-1); len(b.h.held) > want || b.h.short() && b.h.target > want {
			t.Fatalf("%d tokens are held and %d wanted for %d calls", len(b.h.held), b.h.target, b.running)
		}
	})
}

func TestTheFirstCallNeedsNoToken(t *testing.T) {
	l := books{gone: true}
	if !l.enough(0) || l.enough(1) || l.wants(1) || l.surplus(1) != 0 {
		t.Error("without a keeper there is one place, and nothing to order")
	}
}

func TestReportsOutOfTurn(t *testing.T) {
	for _, report := range []byte{reportGot, reportReturned, reportDropped, 0, 'x'} {
		var l books
		if _, err := l.reported(report); err == nil {
			t.Errorf("%q was believed", report)
		}
	}
}

// FuzzBooks: nothing that comes through a pipe breaks either side's books.
func FuzzBooks(f *testing.F) {
	f.Add([]byte("++--."))
	f.Add([]byte("+20+.")) // it drops a wish for a token that it has
	f.Fuzz(func(t *testing.T, stream []byte) {
		l, h := books{}, holder{}
		for _, b := range stream {
			l.wants(3)
			_, _ = l.reported(b)
			if l.held < 0 || l.open < 0 || l.held > l.target+l.open {
				t.Fatalf("%+v", l)
			}
			l.surplus(int(b % 4))
			_, _, _, _ = h.ordered(b)
			if h.target < 0 || len(h.held) > h.target {
				t.Fatalf("%+v", h)
			}
			if h.short() {
				h.held = append(h.held, b)
			}
		}
	})
}
