package daemon

import "container/list"

// line is who waits for one of the pool's slots, first come, first served. Pure.
type line struct {
	slots   int
	busy    int // slots that are taken
	waiting list.List
}

// ticket is a place in the line: of a call, or of a client that wants a slot of its own.
type ticket struct {
	entry *entry // or nil
	lease *lease // or nil
	place *list.Element
}

// enter puts a ticket at the end of the line.
func (l *line) enter(t *ticket) { t.place = l.waiting.PushBack(t) }

// leave takes a ticket out of the line, and reports whether it was still in it.
func (l *line) leave(t *ticket) bool {
	if t.place == nil {
		return false
	}
	l.waiting.Remove(t.place)
	t.place = nil
	return true
}

// next gives the first in line a slot, if there is one.
func (l *line) next() (*ticket, bool) {
	first := l.waiting.Front()
	if first == nil || l.busy >= l.slots {
		return nil, false
	}
	t := first.Value.(*ticket)
	l.leave(t)
	l.busy++
	return t, true
}

// free gives slots back.
func (l *line) free(n int) { l.busy -= n }

// length is how many wait.
func (l *line) length() int { return l.waiting.Len() }
