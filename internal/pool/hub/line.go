package hub

// line is who waits for something, first come, first served. Anybody may leave it at any time, at
// no more cost than a few pointers.
type line struct {
	first, last *place
	n           int
}

// place is one place in a line.
type place struct {
	*ask
	line       *line
	prev, next *place
}

// add puts a at the end.
func (l *line) add(a *ask) {
	p := &place{ask: a, line: l, prev: l.last}
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
	l.n++
	a.place = p
}

// head is who is next, or nil.
func (l *line) head() *ask {
	if l.first == nil {
		return nil
	}
	return l.first.ask
}

// leaveLine takes a out of the line that it is in, if any.
func (a *ask) leaveLine() {
	p := a.place
	if p == nil {
		return
	}
	a.place = nil
	if p.prev == nil {
		p.line.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		p.line.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.line.n--
}

// next takes who is next out of the line; nil if nobody is.
func (l *line) next() *ask {
	a := l.head()
	if a != nil {
		a.leaveLine()
	}
	return a
}

// all takes everybody out of the line, first come first.
func (l *line) all() (list []*ask) {
	for a := l.next(); a != nil; a = l.next() {
		list = append(list, a)
	}
	return list
}

// names says who waits.
func (l *line) names() (list []string) {
	for p := l.first; p != nil; p = p.next {
		list = append(list, p.member.who.String())
	}
	return list
}
