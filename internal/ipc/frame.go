package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of one connection. The zero value means the defaults.
type Limits struct {
	Frame   int // longest frame in bytes, by default 64 MiB
	Message int // longest message that travels in parts, by default 1 GiB
}

// PieceSize is how much of what a call prints travels in one frame of gpool's own workers.
const PieceSize = 32 << 10

const (
	defaultFrame   = 64 << 20
	defaultMessage = 1 << 30
	partSize       = 1 << 20        // what a part carries at most
	smallBuffer    = 4 * PieceSize  // holds a few pieces of output
	longFrame      = 48 << 10       // from here on a frame has memory of its own
	growStep       = 1<<20 + 64<<10 // of 1 MiB and what is around it in one step: memory is taken as bytes arrive, not as they are announced
	maxAssemblies  = 16             // messages that may be in parts at once
)

func (l Limits) withDefaults() Limits {
	if l.Frame <= 0 {
		l.Frame = defaultFrame
	}
	if l.Message <= 0 {
		l.Message = defaultMessage
	}
	l.Message = max(l.Message, l.Frame)
	return l
}

// FormatError says that what arrived is no frame of ours. Seen are the first
// bytes of it, for the message.
type FormatError struct {
	Err  error
	Seen []byte
}

func (e *FormatError) Error() string {
	if len(e.Seen) == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v; it begins with %q", e.Err, e.Seen)
}

func (e *FormatError) Unwrap() error { return e.Err }

// Reader takes messages off a stream. It reads ahead into a buffer of its own; what is
// long gets memory as it arrives. One goroutine.
type Reader struct {
	r          io.Reader
	limits     Limits
	buf        []byte
	start, end int // the unread part of buf
	dec        *Decoder
	parts      map[uint64]*assembly
	held       int // bytes in parts
}

// assembly is a message that has arrived in part.
type assembly struct {
	pieces [][]byte // so that nothing is copied again for every piece that comes
	length int
	left   uint64
}

// whole puts the pieces together.
func (a *assembly) whole() []byte {
	body := make([]byte, 0, a.length)
	for i, piece := range a.pieces {
		body, a.pieces[i] = Append(body, piece), nil
	}
	return body
}

// NewReader returns a reader of r.
func NewReader(r io.Reader, limits Limits) *Reader {
	return &Reader{r: r, limits: limits.withDefaults(), buf: make([]byte, smallBuffer), dec: NewDecoder()}
}

// Next reads one message into m. It returns io.EOF at a clean end, between two
// frames; io.ErrUnexpectedEOF when the stream ends within one; a *FormatError when
// the peer does not speak the protocol, after which the stream cannot be used. The
// message aliases the reader's memory and is valid until the next call.
func (r *Reader) Next(m *Message) error {
	m.forget()
	m.Owned = false
	r.dec.Reset(nil)
	for {
		body, own, err := r.frame()
		if err == io.EOF && len(r.parts) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := r.decode(body, m); err != nil {
			return r.broken(err, body)
		}
		if m.Kind != KindPart {
			m.Owned = own
			return nil
		}
		body, err = r.part(&m.part, own)
		if err != nil {
			return r.broken(err, nil)
		}
		if body == nil {
			continue
		}
		if err := r.decode(body, m); err != nil {
			return r.broken(fmt.Errorf("a message in parts: %w", err), body)
		}
		m.Owned = true
		if m.Kind == KindPart {
			return r.broken(errors.New("a part of a message in parts is in parts itself"), nil)
		}
		return nil
	}
}

func (r *Reader) decode(body []byte, m *Message) error {
	if err := Precheck(body); err != nil {
		return fmt.Errorf("a frame is not one msgpack value: %w", err)
	}
	return r.dec.Message(body, m)
}

// Buffered reports whether Next will return without reading from the stream,
// unless that frame turns out to be a part.
func (r *Reader) Buffered() bool {
	have := r.end - r.start
	return have >= 4 && have-4 >= int(binary.BigEndian.Uint32(r.buf[r.start:]))
}

func (r *Reader) broken(err error, body []byte) error {
	return &FormatError{Err: err, Seen: append([]byte(nil), body[:min(len(body), 48)]...)}
}

// frame returns the body of the next frame, which aliases the buffer unless it is long: then it has memory of
// its own, and need not be copied to be kept.
func (r *Reader) frame() (body []byte, own bool, err error) {
	if err := r.fill(4); err != nil {
		return nil, false, err
	}
	n := binary.BigEndian.Uint32(r.buf[r.start:])
	if uint64(n) > uint64(r.limits.Frame) {
		err := fmt.Errorf("a frame of %d bytes was announced, %d are allowed", n, r.limits.Frame)
		return nil, false, r.broken(err, r.buf[r.start:r.end])
	}
	if n >= longFrame {
		body, err = r.long(int(n))
		return body, true, err
	}
	if err := r.fill(4 + int(n)); err != nil {
		return nil, false, err
	}
	body = r.buf[r.start+4 : r.start+4+int(n)]
	r.start += 4 + int(n)
	return body, false, nil
}

// long reads a body of n bytes into memory of its own, which grows by at most a step beyond what has arrived, or by as much as
// that: a peer that announces much and sends little costs little.
func (r *Reader) long(n int) ([]byte, error) {
	r.start += 4
	have := r.buf[r.start:min(r.end, r.start+n)]
	r.start += len(have)
	body := append(make([]byte, 0, min(n, max(growStep, 2*len(have)))), have...)
	for len(body) < n {
		if len(body) == cap(body) {
			body = Append(make([]byte, 0, min(n, 2*cap(body))), body)
		}
		got, err := r.r.Read(body[len(body):cap(body)])
		body = body[:len(body)+got]
		if err != nil && len(body) < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

// fill reads until n bytes are buffered.
func (r *Reader) fill(n int) error {
	for r.end-r.start < n {
		r.makeRoom(n)
		got, err := r.r.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end-r.start < n {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// makeRoom moves the unread bytes to the front if n bytes from there on would not fit behind them.
func (r *Reader) makeRoom(n int) {
	if r.start == r.end || r.start+n > len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
}

// part adds one piece and returns the whole message with the last one.
func (r *Reader) part(p *part, own bool) ([]byte, error) {
	id, left, data := p.id, p.left, p.data
	a := r.parts[id]
	if a == nil {
		if len(r.parts) >= maxAssemblies {
			return nil, fmt.Errorf("more than %d messages in parts at once", maxAssemblies)
		}
		if left > uint64(r.limits.Message) || len(data) > r.limits.Message-int(left) {
			return nil, fmt.Errorf("a message of more than %d bytes", r.limits.Message)
		}
		if r.parts == nil {
			r.parts = make(map[uint64]*assembly)
		}
		a = &assembly{left: left + uint64(len(data))}
		r.parts[id] = a
	}
	if len(data) == 0 || a.left-uint64(len(data)) != left || uint64(len(data)) > a.left {
		return nil, errors.New("the parts of a message do not follow each other")
	}
	if r.held += len(data); r.held > r.limits.Message {
		return nil, fmt.Errorf("messages of more than %d bytes at once", r.limits.Message)
	}
	if !own {
		data = Clone(data)
	}
	a.pieces, a.length, a.left = append(a.pieces, data), a.length+len(data), left
	if left > 0 {
		return nil, nil
	}
	delete(r.parts, id)
	r.held -= a.length
	return a.whole(), nil
}

// Writer puts messages on a stream. Messages gather in memory until Flush, which
// writes them with one call. It embeds the Encoder whose methods write messages;
// each must be enclosed in Begin and End. One goroutine at a time.
type Writer struct {
	*Encoder
	w      io.Writer
	limits Limits
	at     int    // where the frame under way begins
	nextID uint64 // of messages in parts
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer, limits Limits) *Writer {
	return &Writer{Encoder: NewEncoder(), w: w, limits: limits.withDefaults()}
}

// Begin opens a frame; exactly one message must be encoded before End.
func (w *Writer) Begin() {
	w.at = w.Len()
	w.buf.Write([]byte{0, 0, 0, 0})
}

// End closes the frame. A message longer than the limit of a frame is cut into
// parts of 1 MiB, or of the limit if that is less. It returns an error, and takes
// the message back, if the message is longer than any message may be.
func (w *Writer) End() error {
	n := w.Len() - w.at - 4
	if n <= w.limits.Frame {
		binary.BigEndian.PutUint32(w.buf.Bytes()[w.at:], uint32(n))
		return nil
	}
	if n > w.limits.Message {
		w.buf.Truncate(w.at)
		return fmt.Errorf("a value of %d bytes is larger than the %d that may travel", n, w.limits.Message)
	}
	body := Clone(w.buf.Bytes()[w.at+4:])
	w.buf.Truncate(w.at)
	w.nextID++
	// A part's envelope takes at most 30 bytes.
	size := max(1, min(partSize, w.limits.Frame-30))
	for len(body) > 0 {
		piece := body[:min(size, len(body))]
		body = body[len(piece):]
		at := w.Len()
		w.buf.Write([]byte{0, 0, 0, 0})
		w.envelope(KindPart, w.nextID, 2)
		w.Uint(uint64(len(body)))
		w.Bytes(piece)
		binary.BigEndian.PutUint32(w.buf.Bytes()[at:], uint32(w.Len()-at-4))
	}
	return nil
}

// Flush writes what has gathered. After an error the stream cannot be used: a
// frame may have left in part.
func (w *Writer) Flush() error {
	if w.Len() == 0 {
		return nil
	}
	_, err := w.w.Write(w.Encoded())
	w.Reset()
	if w.buf.Cap() > 4*growStep {
		w.Encoder = NewEncoder()
	}
	return err
}
