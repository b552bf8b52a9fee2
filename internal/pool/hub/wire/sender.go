package wire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"gpool/internal/ipc"
)

// frames are the limits of both sides. Memory is taken as bytes arrive, not as they are announced.
var frames = ipc.Limits{Frame: 16 << 20, Message: 1 << 30}

const (
	mostBehind = 64 << 20         // bytes of answers that may wait behind the one that is being written
	stallTime  = 60 * time.Second // in which something must be taken
	pieceSize  = 256 << 10        // what must be taken in that time
	corkedSize = 64 << 10         // more than this is not held back to go with what follows
)

var (
	errBehind = errors.New("too many answers wait for it: it does not read them")
	errClosed = errors.New("the connection was closed")
)

// sender writes the frames of one connection. Whoever has one writes it himself, as far as the
// system takes it at once; the rest is left to a goroutine of the sender's (run). So nobody waits
// for a side that does not read, and a frame that is taken costs no change of goroutine.
type sender struct {
	conn  *conn
	most  int           // bytes that may wait behind the first chunk; 0 is any number
	stall time.Duration // 0 is for ever

	mu      sync.Mutex
	changed sync.Cond // queue, err
	out     *ipc.Writer
	payload *ipc.Encoder
	corked  bool
	queue   []chunk // the first one may be under way
	behind  int     // bytes in queue after the first chunk
	put     int64   // bytes that have ever been queued
	gone    int64   // those of them that were written
	err     error   // why nothing is written any more
}

// chunk is some whole frames, or what is left of them. A file goes with its first byte.
type chunk struct {
	data []byte
	file *os.File
}

func newSender(c *conn, most int, stall time.Duration) *sender {
	s := &sender{conn: c, most: most, stall: stall, payload: ipc.NewEncoder()}
	s.changed.L = &s.mu
	s.out = ipc.NewWriter((*taker)(s), frames)
	return s
}

// request sends a request, all of it if whole is set: then it waits for the kernel to take it.
func (s *sender) request(id uint64, r *Request, whole bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	encode(s.payload, r, requestFields)
	s.out.Begin()
	s.out.Question(ipc.Question{ID: id, Method: string(r.Op), Payload: s.payload.Encoded()})
	if err := s.end(); err != nil {
		return err
	}
	for mark := s.put; whole && s.gone < mark && s.err == nil; {
		s.changed.Wait()
	}
	return s.err
}

// answer sends a reply, with a file beside it if f is not nil. f must stay open until the sender has ended.
func (s *sender) answer(id uint64, r *Reply, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		_ = s.out.Flush() // a file goes with the first byte of its frame
	}
	s.encodeAnswer(id, r)
	if f != nil {
		b := s.out.Copy()
		s.out.Reset()
		s.write(b, f)
	} else if !s.corked || s.out.Len() > corkedSize {
		_ = s.out.Flush() // its error is kept
	}
}

func (s *sender) encodeAnswer(id uint64, r *Reply) {
	if len(r.Values) > mostInReply {
		refusal := Refuse(FaultTooLong, "the answer has %d values, and %d may travel at once: ask for less", len(r.Values), mostInReply)
		r = &refusal
	}
	encode(s.payload, r, replyFields)
	s.out.Begin()
	s.out.Answer(ipc.Answer{ID: id, Payload: s.payload.Encoded(), Message: r.Text})
	s.forget()
	if err := s.out.End(); err != nil {
		r := Refuse(FaultRefused, "the answer is too long: %v", err)
		s.encodeAnswer(id, &r)
	}
}

// numbers sends a small message.
func (s *sender) numbers(k ipc.Kind, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Begin()
	s.out.Numbers(k, ipc.Numbers{ID: id})
	return s.end()
}

// end ends a frame and has it written. An error other than that of the connection takes it back.
func (s *sender) end() error {
	s.forget()
	if err := s.out.End(); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.err
}

// forget empties the buffer of payloads, and gives a large one back.
func (s *sender) forget() {
	if s.payload.Len() > 1<<20 {
		s.payload = ipc.NewEncoder()
	}
	s.payload.Reset()
}

// cork holds answers back, which go together once it is taken away.
func (s *sender) cork(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.corked = on; !on {
		_ = s.out.Flush()
	}
}

// taker is what the writer of frames writes to, under the lock.
type taker sender

func (t *taker) Write(b []byte) (int, error) {
	s := (*sender)(t)
	s.write(b, nil)
	return len(b), s.err
}

// write writes what can be written at once, and queues the rest. b is not kept.
func (s *sender) write(b []byte, f *os.File) {
	if s.err != nil {
		return
	}
	if len(s.queue) == 0 && s.conn.raw != nil {
		n, err := s.conn.try(b, f)
		if err != nil {
			s.fail(err)
			return
		}
		if b = b[n:]; n > 0 {
			f = nil
		}
	}
	if len(b) > 0 {
		s.push(chunk{bytes.Clone(b), f})
	}
}

func (s *sender) push(c chunk) {
	if s.most > 0 && s.behind > s.most {
		s.fail(errBehind)
		return
	}
	s.put += int64(len(c.data))
	last := len(s.queue) - 1
	if last >= 0 {
		s.behind += len(c.data)
	}
	// The first one is being written. The others need not cost a system call each.
	if last > 0 && c.file == nil && len(s.queue[last].data)+len(c.data) <= pieceSize {
		s.queue[last].data = append(s.queue[last].data, c.data...)
		return
	}
	s.queue = append(s.queue, c)
	s.changed.Broadcast()
}

// run writes what is queued, until the sender fails, which stop makes it do. Every sender needs one run.
func (s *sender) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 && s.err == nil {
			s.changed.Wait()
		}
		if s.err != nil {
			s.queue = nil
			return
		}
		c := s.queue[0]
		s.mu.Unlock()
		err := s.conn.drain(c, s.stall)
		s.mu.Lock()
		if err != nil {
			s.fail(err)
			continue
		}
		s.shift()
	}
}

// shift takes the first chunk away, which was written.
func (s *sender) shift() {
	s.gone += int64(len(s.queue[0].data))
	s.queue[0] = chunk{}
	s.queue = s.queue[1:]
	if len(s.queue) > 0 {
		s.behind -= len(s.queue[0].data)
	} else {
		s.queue = nil
	}
	s.changed.Broadcast()
}

// room waits until there is room for more answers: who asks for much and reads slowly is not
// heard meanwhile, and need not be thrown out.
func (s *sender) room() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.most > 0 && s.behind > s.most && s.err == nil {
		s.changed.Wait()
	}
}

// fail ends the sender and the connection. The first error is kept. It is called under the lock.
func (s *sender) fail(err error) {
	if s.err == nil {
		s.err = fmt.Errorf("write to it: %w", err)
		if errors.Is(err, errBehind) || errors.Is(err, errClosed) {
			s.err = err
		}
		s.changed.Broadcast()
		_ = s.conn.Close()
	}
}

// broken reports whether the sender has failed.
func (s *sender) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// stop ends the sender and the connection, and returns why it had ended before, if it had.
func (s *sender) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.err
	s.fail(errClosed)
	if errors.Is(before, os.ErrDeadlineExceeded) {
		before = fmt.Errorf("it has not taken anything for %v, and an answer is due", s.stall)
	}
	return before
}
