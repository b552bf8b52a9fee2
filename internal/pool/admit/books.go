package admit

import "fmt"

// What we order of the keeper, and what it reports: a byte each. More and fewer change how many
// tokens it should hold. Each fewer is answered by returned or dropped; each more by got, some
// day, unless a fewer drops it. After lost a text follows, and the end.
const (
	orderMore  = '+'
	orderFewer = '-'

	reportGot      = '+'
	reportReturned = '-' // a token has gone back
	reportDropped  = '.' // none was there yet: it is not wanted any more
	reportLost     = '!'
)

// books is our side of the keeper's books. Orders and reports pass each other in the pipes, so
// it counts on no token of which a fewer that has not been answered may be the end: what
// it counts on, held-open, is never more than what the keeper holds.
type books struct {
	target  int // how many tokens our orders add up to
	held    int // by the reports so far
	open    int // fewers that have not been answered
	waiting bool
	gone    bool // no keeper any more
}

// enough reports whether one more call may run. One place is ours without a token.
func (l *books) enough(running int) bool {
	return running < 1 || !l.gone && running < 1+l.held-l.open
}

// wants notes that one more call should run, and reports whether to order a token for it. At
// most one is under way, and none before all fewers are answered: this bounds what lies in
// the pipes, however often the loop changes its mind.
func (l *books) wants(running int) bool {
	l.waiting = true
	if l.gone || l.open > 0 || l.target > l.held || l.target >= min(running, tooMany) {
		return false
	}
	l.target++
	return true
}

// surplus says how many tokens to order fewer, when so many calls run and no more are wanted.
func (l *books) surplus(running int) int {
	l.waiting = false
	n := l.target - max(0, running-1)
	if n <= 0 || l.gone {
		return 0
	}
	l.target -= n
	l.open += n
	return n
}

// reported books a report, and says whether the loop waits for it.
func (l *books) reported(report byte) (wake bool, err error) {
	switch {
	case report == reportGot && l.held < l.target+l.open:
		l.held++
	case report == reportReturned && l.open > 0 && l.held > 0:
		l.open--
		l.held--
	case report == reportDropped && l.open > 0 && l.held < l.target+l.open:
		l.open--
	default:
		return false, fmt.Errorf("it reported %q out of turn", report)
	}
	wake = l.waiting
	l.waiting = false
	return wake, nil
}
