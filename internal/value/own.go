package value

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	"gpool/internal/ipc"
)

// ownEncoder lends the library the slice that is being written, so that nothing is
// copied and the pool keeps no memory of the values.
type ownEncoder struct {
	out []byte
	enc *msgpack.Encoder
}

func (o *ownEncoder) Write(b []byte) (int, error) {
	o.out = append(o.out, b...)
	return len(b), nil
}

// WriteByte spares the library a slice for every header.
func (o *ownEncoder) WriteByte(b byte) error {
	o.out = append(o.out, b)
	return nil
}

var ownEncoders = sync.Pool{New: func() any { return &ownEncoder{enc: msgpack.NewEncoder(nil)} }}

// putOwn has v written by its own methods, and checks that they wrote one value:
// an empty msgpack.RawMessage, for one, writes none. An encoder that failed does
// not return to the pool, as user code may have left it in any state.
func (e *encoder) putOwn(v reflect.Value, s *shape) error {
	if !s.encodes {
		return fmt.Errorf("%s has methods to decode it but none to encode it", s.typ)
	}
	e.foreign = true
	start := len(e.out)
	o := ownEncoders.Get().(*ownEncoder)
	o.out = e.out
	// Reset clears the flags, and user code may have set others.
	o.enc.Reset(o)
	o.enc.UseCompactInts(true)
	o.enc.SetSortMapKeys(true)
	if err := o.enc.EncodeValue(v); err != nil {
		return err
	}
	e.out, o.out = o.out, nil
	ownEncoders.Put(o)
	if err := ipc.Precheck(e.out[start:]); err != nil {
		return fmt.Errorf("what the methods of %s wrote is not msgpack: %w", s.typ, err)
	}
	return nil
}

type ownDecoder struct {
	r   bytes.Reader
	dec *msgpack.Decoder
}

// maxPooled bounds what a pooled decoder may keep: as much as the longest string
// that it saw.
const maxPooled = 1 << 20

var ownDecoders = sync.Pool{New: func() any { return &ownDecoder{dec: msgpack.NewDecoder(nil)} }}

// readOwn has v read by its own methods from src, which is one value. That they
// must take all of it keeps their mistakes from passing unseen.
func readOwn(v reflect.Value, s *shape, src []byte) error {
	if !s.decodes {
		return fmt.Errorf("%s has methods to encode it but none to decode it", s.typ)
	}
	o := ownDecoders.Get().(*ownDecoder)
	o.r.Reset(src)
	o.dec.Reset(&o.r)
	o.dec.UseLooseInterfaceDecoding(true)
	if err := o.dec.DecodeValue(v); err != nil {
		return err
	}
	if o.r.Len() > 0 {
		return errors.New("its methods left a part of the value unread")
	}
	o.r.Reset(nil)
	if len(src) <= maxPooled {
		ownDecoders.Put(o)
	}
	return nil
}
