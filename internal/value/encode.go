package value

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gpool/internal/ipc"
)

// Append appends the encoding of *v to dst. For the plain types that tasks are
// made of it allocates only to grow dst, and v does not escape. On an error it
// returns dst as it was.
func Append[T any](dst []byte, v *T) ([]byte, error) {
	if out, done := appendPlain(dst, any(v)); done {
		return out, nil
	}
	// The copy is what escapes, so that the callers of plain types need no heap.
	own := new(T)
	*own = *v
	return appendAddressed(dst, reflect.ValueOf(own).Elem())
}

// appendPlain encodes what v points to if it is of a type that needs no layout.
func appendPlain(dst []byte, v any) (out []byte, done bool) {
	switch v := v.(type) {
	case *int:
		return appendInt(dst, int64(*v)), true
	case *string:
		return appendStr(dst, *v), true
	case *[]byte:
		return appendBin(dst, *v), true
	case *float64:
		return appendFloat64(dst, *v), true
	case *bool:
		return appendBool(dst, *v), true
	case *struct{}:
		return appendNil(dst), true
	case *int8:
		return appendInt(dst, int64(*v)), true
	case *int16:
		return appendInt(dst, int64(*v)), true
	case *int32:
		return appendInt(dst, int64(*v)), true
	case *int64:
		return appendInt(dst, *v), true
	case *uint:
		return appendUint(dst, uint64(*v)), true
	case *uint8:
		return appendUint(dst, uint64(*v)), true
	case *uint16:
		return appendUint(dst, uint64(*v)), true
	case *uint32:
		return appendUint(dst, uint64(*v)), true
	case *uint64:
		return appendUint(dst, *v), true
	case *float32:
		return appendFloat32(dst, *v), true
	case *time.Duration:
		return appendInt(dst, int64(*v)), true
	case *time.Time:
		return appendTime(dst, *v), true
	case *[]int:
		return appendSlice(dst, *v, func(dst []byte, i int) []byte { return appendInt(dst, int64(i)) }), true
	case *[]int64:
		return appendSlice(dst, *v, appendInt), true
	case *[]float64:
		return appendSlice(dst, *v, appendFloat64), true
	case *[]string:
		return appendSlice(dst, *v, appendStr), true
	}
	return dst, false
}

// appendSlice writes a nil s as nil, and so keeps it apart from an empty one.
func appendSlice[E any](dst []byte, s []E, element func([]byte, E) []byte) []byte {
	if s == nil {
		return appendNil(dst)
	}
	dst = AppendArray(dst, len(s))
	for _, e := range s {
		dst = element(dst, e)
	}
	return dst
}

// appendAddressed encodes v, which is addressable, by its layout. How deep that
// nests which types with methods of their own wrote is not known, so the whole is
// then checked as the peer will check it.
func appendAddressed(dst []byte, v reflect.Value) (out []byte, err error) {
	info := infoOf(v.Type())
	if info.err != nil {
		return dst, info.err
	}
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("encode %s: a panic: %v", v.Type(), p)
		}
	}()
	e := encoder{out: dst, limit: len(dst) + maxEncoded}
	if err := e.put(v, info.shape); err != nil {
		return dst, fmt.Errorf("encode %s: %w", v.Type(), err)
	}
	if e.foreign {
		if err := ipc.Precheck(e.out[len(dst):]); err != nil {
			return dst, fmt.Errorf("encode %s: %w", v.Type(), err)
		}
	}
	return e.out, nil
}

// encoder writes one value. It exists for the time of one call.
type encoder struct {
	out   []byte
	limit int // of len(out)
	depth int // of arrays and maps
	hops  int // through pointers and interfaces, which may form a cycle without either

	foreign bool // a type's own methods wrote a part of out
}

// maxHops allows some pointers and interfaces at every depth.
const maxHops = 8 * maxDepth

// maxEncoded ends the encoding of a small value that refers to its parts so often
// that written out it would fill the memory. By default no message is as long.
const maxEncoded = 1 << 30

var errTooLarge = errors.New("the encoding would exceed 1 GiB")

// within adds to err where it happened. Sixty levels of that would hide what the
// two errors that concern the whole value say.
func within(err error, format string, where any) error {
	if err == errTooDeep || err == errTooLarge {
		return err
	}
	return fmt.Errorf(format+": %w", where, err)
}

func (e *encoder) put(v reflect.Value, s *shape) error {
	switch s.form {
	case formBool:
		e.out = appendBool(e.out, v.Bool())
	case formInt:
		e.out = appendInt(e.out, v.Int())
	case formUint:
		e.out = appendUint(e.out, v.Uint())
	case formFloat:
		e.putFloat(v, s)
	case formString:
		e.out = appendStr(e.out, v.String())
	case formBytes:
		e.out = appendBin(e.out, v.Bytes())
	case formByteArray:
		e.out = append(appendBinHeader(e.out, v.Len()), v.Bytes()...)
	case formTime:
		e.out = appendTime(e.out, *v.Addr().Interface().(*time.Time))
	case formOwn:
		return e.putOwn(v, s)
	case formPointer, formInterface:
		return e.putIndirect(v, s)
	case formSlice, formArray, formMap, formStruct:
		return e.putContainer(v, s)
	}
	return nil
}

func (e *encoder) putFloat(v reflect.Value, s *shape) {
	if s.width == 32 {
		e.out = appendFloat32(e.out, float32(v.Float()))
		return
	}
	e.out = appendFloat64(e.out, v.Float())
}

func (e *encoder) putIndirect(v reflect.Value, s *shape) error {
	if v.IsNil() {
		e.out = appendNil(e.out)
		return nil
	}
	if e.hops == maxHops {
		return errTooDeep
	}
	e.hops++
	err := e.putTarget(v, s)
	e.hops--
	return err
}

func (e *encoder) putTarget(v reflect.Value, s *shape) error {
	if s.form == formPointer {
		return e.put(v.Elem(), s.elem)
	}
	if s.typ == errorType {
		e.out = appendStr(e.out, v.Interface().(error).Error())
		return nil
	}
	return e.putDynamic(v.Elem())
}

// putDynamic encodes what an interface holds: the usual types of decoded JSON
// directly, any other by the layout of its type.
func (e *encoder) putDynamic(v reflect.Value) error {
	info := infoOf(v.Type())
	if info.err != nil {
		return info.err
	}
	if info.shape.form < formScalar {
		return e.put(v, info.shape)
	}
	// A copy, because methods on the pointer need an address.
	own := reflect.New(v.Type()).Elem()
	own.Set(v)
	return e.put(own, info.shape)
}

func (e *encoder) putContainer(v reflect.Value, s *shape) error {
	if (s.form == formSlice || s.form == formMap) && v.IsNil() {
		e.out = appendNil(e.out)
		return nil
	}
	switch {
	case e.depth == maxDepth:
		return errTooDeep
	case len(e.out) > e.limit:
		return errTooLarge
	}
	e.depth++
	err := e.putContents(v, s)
	e.depth--
	return err
}

func (e *encoder) putContents(v reflect.Value, s *shape) error {
	switch s.form {
	case formMap:
		return e.putMap(v, s)
	case formStruct:
		return e.putStruct(v, s)
	}
	n := v.Len()
	e.out = AppendArray(e.out, n)
	for i := range n {
		if err := e.put(v.Index(i), s.elem); err != nil {
			return within(err, "element %d", i)
		}
	}
	return nil
}

func (e *encoder) putStruct(v reflect.Value, s *shape) error {
	n := len(s.list)
	if s.omits {
		n = 0
		for _, f := range s.list {
			if !f.omitted(v) {
				n++
			}
		}
	}
	if s.asArray {
		e.out = AppendArray(e.out, n)
	} else {
		e.out = appendMapHeader(e.out, n)
	}
	for _, f := range s.list {
		if s.omits && f.omitted(v) {
			continue
		}
		if !s.asArray {
			e.out = appendStr(e.out, f.name)
		}
		if err := e.putField(v, f); err != nil {
			return within(err, "field %s", f.name)
		}
	}
	return nil
}

func (e *encoder) putField(v reflect.Value, f *field) error {
	at, ok := f.of(v)
	if !ok {
		e.out = appendNil(e.out)
		return nil
	}
	return e.put(at, f.shape)
}

// pair is one entry of a map. It is taken while ranging, because a NaN key finds
// no value.
type pair struct{ key, elem reflect.Value }

// putMap writes the pairs in the order of their keys.
func (e *encoder) putMap(v reflect.Value, s *shape) error {
	pairs := make([]pair, 0, v.Len())
	for i := v.MapRange(); i.Next(); {
		pairs = append(pairs, pair{i.Key(), i.Value()})
	}
	if err := e.sort(pairs, s.key); err != nil {
		return within(err, "a key of %s", s.typ)
	}
	e.out = appendMapHeader(e.out, len(pairs))
	// One addressable copy serves all the pairs.
	key, elem := reflect.New(s.typ.Key()).Elem(), reflect.New(s.typ.Elem()).Elem()
	for _, p := range pairs {
		key.Set(p.key)
		if err := e.put(key, s.key); err != nil {
			return within(err, "a key of %s", s.typ)
		}
		elem.Set(p.elem)
		if err := e.put(elem, s.elem); err != nil {
			return within(err, "key %s", readable(p.key))
		}
	}
	return nil
}

// readable names a map key in an error without calling its methods.
func readable(k reflect.Value) string {
	switch k.Kind() {
	case reflect.String:
		return fmt.Sprintf("%q", k.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprint(k.Int())
	}
	return "of type " + k.Type().String()
}

func (e *encoder) sort(pairs []pair, key *shape) error {
	if compare := comparisons[key.form]; compare != nil {
		slices.SortFunc(pairs, func(a, b pair) int { return compare(a.key, b.key) })
		return nil
	}
	return e.sortByEncoding(pairs, key)
}

// sortByEncoding encodes the keys behind the output, and takes that off again.
func (e *encoder) sortByEncoding(pairs []pair, key *shape) error {
	type encoded struct {
		bytes []byte
		pair
	}
	all := make([]encoded, len(pairs))
	start := len(e.out)
	own := reflect.New(key.typ).Elem()
	for i, p := range pairs {
		own.Set(p.key)
		if err := e.put(own, key); err != nil {
			return err
		}
		all[i] = encoded{bytes.Clone(e.out[start:]), p}
		e.out = e.out[:start]
	}
	slices.SortFunc(all, func(a, b encoded) int { return bytes.Compare(a.bytes, b.bytes) })
	for i := range all {
		pairs[i] = all[i].pair
	}
	return nil
}
