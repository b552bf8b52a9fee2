package pool

import "sync"

// mailbox is an unbounded queue with many senders and one receiver, which takes
// everything at once: under load a message costs a slice append and no switch of
// goroutines. Nothing is unbounded in effect, because what may be under way is
// bounded where it begins: by windows, credits and the backlog of each job.
type mailbox[T any] struct {
	mu     sync.Mutex
	queue  []T
	closed bool
	wakeC  chan struct{}
	taken  sync.Cond // of mu; for those who wait until the box is less full
}

func newMailbox[T any]() *mailbox[T] {
	m := &mailbox[T]{wakeC: make(chan struct{}, 1)}
	m.taken.L = &m.mu
	return m
}

// put adds messages. After close they are dropped, and put reports false.
func (m *mailbox[T]) put(list ...T) bool {
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.queue = append(m.queue, list...)
	}
	m.mu.Unlock()
	if !closed {
		m.wake()
	}
	return !closed
}

// take returns what has gathered, which may be nothing, and false once the box is
// closed and empty. spare is memory of an earlier take that is not needed any more.
func (m *mailbox[T]) take(spare []T) ([]T, bool) {
	clear(spare)
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.queue
	m.queue = spare[:0]
	m.taken.Broadcast()
	return list, len(list) > 0 || !m.closed
}

// wait returns what has gathered once there is something, and false at the end.
func (m *mailbox[T]) wait(spare []T) ([]T, bool) {
	for {
		list, open := m.take(spare)
		if len(list) > 0 || !open {
			return list, open
		}
		spare = list
		<-m.wakeC
	}
}

// close lets the receiver see the end once it has taken everything.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.wake()
}

// waitBelow waits until fewer than n messages lie in the box, or it is closed: for
// senders who may wait, when the receiver is slow.
func (m *mailbox[T]) waitBelow(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) >= n && !m.closed {
		m.taken.Wait()
	}
}

func (m *mailbox[T]) wake() {
	select {
	case m.wakeC <- struct{}{}:
	default:
	}
}
