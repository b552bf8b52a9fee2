package wire

import (
	"bytes"
	"errors"
	"fmt"

	"gpool/internal/ipc"
)

const (
	mostValues  = 1 << 20 // of one message: in memory each takes many times the byte that it may take in a frame
	mostInReply = 1 << 24 // of one reply: what a hub sends, which is trusted with what it keeps
	longName    = 4 << 10 // bytes of the name of an object
)

// field is one element of the array that a message travels as.
type field[T any] struct {
	zero func(m *T) bool
	put  func(e *ipc.Encoder, m *T)
	take func(d *ipc.Decoder, m *T) error
}

// requestFields are the elements of a request, in order. New ones are added at the end: a peer
// skips those that it does not know.
var requestFields = []field[Request]{
	textField(func(r *Request) *string { return &r.Object }, longName),
	flagField(func(r *Request) *bool { return &r.Wait }),
	flagField(func(r *Request) *bool { return &r.Hold }),
	flagField(func(r *Request) *bool { return &r.Flag }),
	flagField(func(r *Request) *bool { return &r.Action }),
	sideField(func(r *Request) *uint8 { return &r.Side }),
	ownerField(func(r *Request) *uint64 { return &r.Owner }),
	numberField(func(r *Request) *int64 { return &r.Init }),
	numberField(func(r *Request) *int64 { return &r.N }),
	numberField(func(r *Request) *int64 { return &r.M }),
	textField(func(r *Request) *string { return &r.With }, longName),
	bytesField(func(r *Request) *[]byte { return &r.Key }),
	valuesField(mostValues, func(r *Request) *[][]byte { return &r.Values }),
}

// replyFields are the elements of a reply but for its text, which is the message of the frame.
var replyFields = []field[Reply]{
	textField(func(r *Reply) *string { return (*string)(&r.Fault) }, longName),
	flagField(func(r *Reply) *bool { return &r.Flag }),
	numberField(func(r *Reply) *int64 { return &r.N }),
	numberField(func(r *Reply) *int64 { return &r.M }),
	valuesField(mostInReply, func(r *Reply) *[][]byte { return &r.Values }),
}

// encode appends the fields of m to e; zeros at the end do not travel.
func encode[T any](e *ipc.Encoder, m *T, fields []field[T]) {
	for len(fields) > 0 && fields[len(fields)-1].zero(m) {
		fields = fields[:len(fields)-1]
	}
	e.Array(len(fields))
	for _, f := range fields {
		f.put(e, m)
	}
}

// decode reads what encode has made into m, whose fields are zero. What it keeps is copied, each
// value by itself: one that is kept for long must not keep those alive that came with it.
func decode[T any](d *ipc.Decoder, payload []byte, m *T, fields []field[T]) error {
	if err := ipc.Precheck(payload); err != nil {
		return err
	}
	d.Reset(payload)
	defer d.Reset(nil) // not to keep the payload alive
	n := d.Array()
	for _, f := range fields[:min(n, len(fields))] {
		if err := f.take(d, m); err != nil {
			return err
		}
		if d.Err() != nil {
			return d.Err()
		}
	}
	d.Skip(n - len(fields))
	return d.Err()
}

func decodeRequest(d *ipc.Decoder, q ipc.Question) (*Request, error) {
	r := &Request{Op: Op(q.Method)}
	if err := decode(d, q.Payload, r, requestFields); err != nil {
		return nil, fmt.Errorf("read the request %.100q: %w", q.Method, err)
	}
	return r, nil
}

func decodeReply(d *ipc.Decoder, a ipc.Answer, r *Reply) error {
	*r = Reply{Text: a.Message}
	if err := decode(d, a.Payload, r, replyFields); err != nil {
		return fmt.Errorf("read the answer to the request %d: %w", a.ID, err)
	}
	return nil
}

func textField[T any](of func(*T) *string, longest int) field[T] {
	return field[T]{
		zero: func(m *T) bool { return *of(m) == "" },
		put:  func(e *ipc.Encoder, m *T) { e.Str(*of(m)) },
		take: func(d *ipc.Decoder, m *T) error {
			b := d.Bytes()
			if len(b) > longest {
				return fmt.Errorf("a name of %d bytes, %d are allowed", len(b), longest)
			}
			*of(m) = string(b)
			return nil
		},
	}
}

func flagField[T any](of func(*T) *bool) field[T] {
	return field[T]{
		zero: func(m *T) bool { return !*of(m) },
		put: func(e *ipc.Encoder, m *T) {
			if *of(m) {
				e.Uint(1)
			} else {
				e.Uint(0)
			}
		},
		take: func(d *ipc.Decoder, m *T) error {
			u := d.Uint()
			if u > 1 {
				return fmt.Errorf("%d where yes (1) or no (0) was expected", u)
			}
			*of(m) = u == 1
			return nil
		},
	}
}

func sideField[T any](of func(*T) *uint8) field[T] {
	return field[T]{
		zero: func(m *T) bool { return *of(m) == 0 },
		put:  func(e *ipc.Encoder, m *T) { e.Uint(uint64(*of(m))) },
		take: func(d *ipc.Decoder, m *T) error {
			u := d.Uint()
			if u > 255 {
				return fmt.Errorf("%d is no side of a pipe", u)
			}
			*of(m) = uint8(u)
			return nil
		},
	}
}

func ownerField[T any](of func(*T) *uint64) field[T] {
	return field[T]{
		zero: func(m *T) bool { return *of(m) == 0 },
		put:  func(e *ipc.Encoder, m *T) { e.Uint(*of(m)) },
		take: func(d *ipc.Decoder, m *T) error { *of(m) = d.Uint(); return nil },
	}
}

func numberField[T any](of func(*T) *int64) field[T] {
	return field[T]{
		zero: func(m *T) bool { return *of(m) == 0 },
		put:  func(e *ipc.Encoder, m *T) { e.Int(*of(m)) },
		take: func(d *ipc.Decoder, m *T) error { *of(m) = d.Int(); return nil },
	}
}

func bytesField[T any](of func(*T) *[]byte) field[T] {
	return field[T]{
		zero: func(m *T) bool { return len(*of(m)) == 0 },
		put:  func(e *ipc.Encoder, m *T) { e.Bytes(*of(m)) },
		take: func(d *ipc.Decoder, m *T) error { *of(m) = bytes.Clone(d.Bytes()); return nil },
	}
}

var errManyValues = errors.New("it has more than 1048576 values: send them in several requests")

func valuesField[T any](most int, of func(*T) *[][]byte) field[T] {
	return field[T]{
		zero: func(m *T) bool { return len(*of(m)) == 0 },
		put: func(e *ipc.Encoder, m *T) {
			e.Array(len(*of(m)))
			for _, v := range *of(m) {
				e.Bytes(v)
			}
		},
		take: func(d *ipc.Decoder, m *T) error {
			n := d.Array()
			if n > most {
				return errManyValues
			}
			list := make([][]byte, 0, n) // no more than there are bytes, says the precheck
			for len(list) < n && d.Err() == nil {
				list = append(list, bytes.Clone(d.Bytes()))
			}
			*of(m) = list
			return nil
		},
	}
}
