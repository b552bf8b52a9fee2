package value

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"gpool/internal/ipc"
)

// Decode sets *v to what src holds, which must be exactly one value; an empty src
// is the zero value. src comes from a peer and is not trusted. Nothing in *v
// aliases src or what *v held before. On an error *v is zero.
//
// An any, also one within T, becomes nil, bool, int64 (uint64 if it does not fit),
// float64, string, []byte, time.Time, []any or map[string]any; keys that are not
// strings become their text.
func Decode[T any](src []byte, v *T) error {
	var zero T
	*v = zero
	if len(src) == 0 {
		return nil
	}
	if err := precheck(src); err != nil {
		return err
	}
	if done, err := decodePlain(src, any(v)); done {
		if err != nil {
			*v = zero
		}
		return err
	}
	// As in Append, only this copy escapes.
	own := new(T)
	if err := decodeAddressed(src, reflect.ValueOf(own).Elem()); err != nil {
		return err
	}
	*v = *own
	return nil
}

// largeBytes is from where on DecodeOwned does not copy: then the value is most of the memory that it keeps.
const largeBytes = 32 << 10

// DecodeOwned is Decode of memory that is nobody else's from now on: a large value that is bytes is a part of src.
func DecodeOwned[T any](src []byte, v *T) error {
	to, ok := any(v).(*[]byte)
	if !ok || len(src) < largeBytes {
		return Decode(src, v)
	}
	*to = nil
	if err := precheck(src); err != nil {
		return err
	}
	t, _ := next(src)
	if !t.isText() {
		return Decode(src, v) // which says what it is
	}
	*to = t.body[:len(t.body):len(t.body)]
	return nil
}

// decodePlain is the inverse of appendPlain.
func decodePlain(src []byte, v any) (done bool, err error) {
	t, rest := next(src)
	switch v := v.(type) {
	case *int:
		*v, err = readInt[int](t, 64, "int")
	case *string:
		*v, err = readText[string](t, "string")
	case *[]byte:
		*v, err = readBytes(t, "[]byte")
	case *float64:
		*v, err = readFloat(t, 64, "float64")
	case *bool:
		*v, err = readBool(t, "bool")
	case *struct{}:
		if t.kind != kindNil && (t.kind != kindMap || t.n != 0) {
			err = mismatch(t, "nil")
		}
	case *int8:
		*v, err = readInt[int8](t, 8, "int8")
	case *int16:
		*v, err = readInt[int16](t, 16, "int16")
	case *int32:
		*v, err = readInt[int32](t, 32, "int32")
	case *int64:
		*v, err = readInt[int64](t, 64, "int64")
	case *uint:
		*v, err = readUint[uint](t, 64, "uint")
	case *uint8:
		*v, err = readUint[uint8](t, 8, "uint8")
	case *uint16:
		*v, err = readUint[uint16](t, 16, "uint16")
	case *uint32:
		*v, err = readUint[uint32](t, 32, "uint32")
	case *uint64:
		*v, err = readUint[uint64](t, 64, "uint64")
	case *float32:
		var f float64
		f, err = readFloat(t, 32, "float32")
		*v = float32(f)
	case *time.Duration:
		*v, err = readInt[time.Duration](t, 64, "time.Duration")
	case *time.Time:
		*v, err = readTime(t)
	case *[]int:
		*v, err = readSlice(t, rest, "[]int", func(t token) (int, error) { return readInt[int](t, 64, "int") })
	case *[]int64:
		*v, err = readSlice(t, rest, "[]int64", func(t token) (int64, error) { return readInt[int64](t, 64, "int64") })
	case *[]float64:
		*v, err = readSlice(t, rest, "[]float64", func(t token) (float64, error) { return readFloat(t, 64, "float64") })
	case *[]string:
		*v, err = readSlice(t, rest, "[]string", func(t token) (string, error) { return readText[string](t, "string") })
	case *any:
		*v, _, err = readAny(src)
	case *[]any:
		if t.kind != kindArray && t.kind != kindNil {
			err = mismatch(t, "[]any")
		} else if t.kind == kindArray {
			*v, _, err = readAnySlice(t.n, rest)
		}
	case *map[string]any:
		if t.kind != kindMap && t.kind != kindNil {
			err = mismatch(t, "map[string]any")
		} else if t.kind == kindMap {
			*v, _, err = readAnyMap(t.n, rest)
		}
	default:
		return false, nil
	}
	return true, err
}

func readBool(t token, name string) (bool, error) {
	b, ok := t.toBool()
	if !ok {
		return false, mismatch(t, name)
	}
	return b, nil
}

func readInt[I ~int | ~int8 | ~int16 | ~int32 | ~int64](t token, width int, name string) (I, error) {
	i, ok := t.toInt(width)
	if !ok {
		return 0, misfit(t, name, false)
	}
	return I(i), nil
}

func readUint[U ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](t token, width int, name string) (U, error) {
	u, ok := t.toUint(width)
	if !ok {
		return 0, misfit(t, name, false)
	}
	return U(u), nil
}

func readFloat(t token, width int, name string) (float64, error) {
	f, ok := t.toFloat(width)
	if !ok {
		return 0, misfit(t, name, true)
	}
	return f, nil
}

func readTime(t token) (time.Time, error) {
	at, ok := t.toTime()
	if !ok {
		return at, mismatch(t, "time.Time")
	}
	return at, nil
}

func readText[S ~string](t token, name string) (S, error) {
	if !t.isText() {
		return "", mismatch(t, name)
	}
	return S(t.body), nil
}

// readBytes copies, and keeps nil and the empty slice apart.
func readBytes(t token, name string) ([]byte, error) {
	if !t.isText() {
		return nil, mismatch(t, name)
	}
	return ipc.Clone(t.body), nil
}

func readSlice[E any](t token, rest []byte, name string, read func(token) (E, error)) ([]E, error) {
	if t.kind == kindNil {
		return nil, nil
	}
	if t.kind != kindArray {
		return nil, mismatch(t, name)
	}
	s := make([]E, t.n)
	for i := range s {
		// A container fails to be read, so that next has passed over a whole value.
		t, rest = next(rest)
		var err error
		if s[i], err = read(t); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return s, nil
}

// readAny reads the first value of b. Its recursion is as deep as precheck allowed.
func readAny(b []byte) (v any, rest []byte, err error) {
	t, rest := next(b)
	switch t.kind {
	case kindBool:
		return t.u == 1, rest, nil
	case kindWhole:
		if !t.negative && int64(t.u) < 0 {
			return t.u, rest, nil
		}
		return int64(t.u), rest, nil
	case kindFloat32, kindFloat64:
		f, _ := t.toFloat(64)
		return f, rest, nil
	case kindStr:
		return string(t.body), rest, nil
	case kindBin:
		return ipc.Clone(t.body), rest, nil
	case kindArray:
		return boxed(readAnySlice(t.n, rest))
	case kindMap:
		return boxed(readAnyMap(t.n, rest))
	case kindExt:
		at, ok := t.toTime()
		if !ok {
			return nil, nil, mismatch(t, "any")
		}
		return at, rest, nil
	}
	return nil, rest, nil
}

func boxed[V any](v V, rest []byte, err error) (any, []byte, error) {
	if err != nil {
		return nil, nil, err
	}
	return v, rest, nil
}

func readAnySlice(n int, rest []byte) ([]any, []byte, error) {
	s := make([]any, n)
	for i := range s {
		var err error
		if s[i], rest, err = readAny(rest); err != nil {
			return nil, nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return s, rest, nil
}

func readAnyMap(n int, rest []byte) (map[string]any, []byte, error) {
	m := make(map[string]any, n)
	for range n {
		key, after := readKey(rest)
		var err error
		if m[key], rest, err = readAny(after); err != nil {
			return nil, nil, fmt.Errorf("key %q: %w", key, err)
		}
	}
	if len(m) != n {
		return nil, nil, errors.New("two keys of a map have the same text")
	}
	return m, rest, nil
}

// readKey reads a map's key as text.
func readKey(b []byte) (string, []byte) {
	t, rest := next(b)
	if t.kind == kindStr || t.kind == kindBin {
		return string(t.body), rest
	}
	text, rest := appendUnquoted(nil, b)
	return string(text), rest
}

// decodeAddressed sets v, which is addressable and zero, by its layout.
func decodeAddressed(src []byte, v reflect.Value) (err error) {
	info := infoOf(v.Type())
	if info.err != nil {
		return info.err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode %s: a panic: %v", v.Type(), p)
		}
	}()
	if _, err := read(v, info.shape, src); err != nil {
		return fmt.Errorf("decode %s: %w", v.Type(), err)
	}
	return nil
}

// read sets v, which is settable and zero, to the first value of b and returns
// what follows it.
func read(v reflect.Value, s *shape, b []byte) (rest []byte, err error) {
	t, rest := next(b)
	if t.kind == kindNil {
		return rest, nil
	}
	switch s.form {
	case formPointer:
		v.Set(reflect.New(s.typ.Elem()))
		return read(v.Elem(), s.elem, b)
	case formSlice, formArray:
		return readList(v, s, t, rest)
	case formMap:
		return readMap(v, s, t, rest)
	case formStruct:
		return readStruct(v, s, t, rest)
	case formInterface:
		return readInterface(v, s, b)
	case formOwn:
		rest = skip(b)
		size := len(b) - len(rest)
		return rest, readOwn(v, s, b[:size:size])
	}
	return rest, readScalar(v, s, t)
}

func readScalar(v reflect.Value, s *shape, t token) error {
	name := s.name
	switch s.form {
	case formBool:
		b, err := readBool(t, name)
		v.SetBool(b)
		return err
	case formInt:
		i, ok := t.toInt(s.width)
		if !ok {
			return misfit(t, name, false)
		}
		v.SetInt(i)
	case formUint:
		u, ok := t.toUint(s.width)
		if !ok {
			return misfit(t, name, false)
		}
		v.SetUint(u)
	case formFloat:
		f, err := readFloat(t, s.width, name)
		v.SetFloat(f)
		return err
	case formString:
		text, err := readText[string](t, name)
		v.SetString(text)
		return err
	case formBytes:
		b, err := readBytes(t, name)
		v.SetBytes(b)
		return err
	case formByteArray:
		if !t.isText() || len(t.body) != v.Len() {
			return mismatch(t, name)
		}
		copy(v.Bytes(), t.body)
	case formTime:
		at, err := readTime(t)
		*v.Addr().Interface().(*time.Time) = at
		return err
	}
	return nil
}

func readList(v reflect.Value, s *shape, t token, rest []byte) (_ []byte, err error) {
	if t.kind != kindArray || s.form == formArray && t.n != v.Len() {
		return nil, mismatch(t, s.name)
	}
	if s.form == formSlice {
		v.Set(reflect.MakeSlice(s.typ, t.n, t.n))
	}
	for i := range t.n {
		if rest, err = read(v.Index(i), s.elem, rest); err != nil {
			return nil, within(err, "element %d", i)
		}
	}
	return rest, nil
}

func readMap(v reflect.Value, s *shape, t token, rest []byte) (_ []byte, err error) {
	if t.kind != kindMap {
		return nil, mismatch(t, s.name)
	}
	v.Set(reflect.MakeMapWithSize(s.typ, t.n))
	// SetMapIndex copies, so one key and one element serve all the pairs.
	key, elem := reflect.New(s.typ.Key()).Elem(), reflect.New(s.typ.Elem()).Elem()
	for range t.n {
		key.SetZero()
		elem.SetZero()
		if rest, err = read(key, s.key, rest); err != nil {
			return nil, within(err, "a key of %s", s.typ)
		}
		if !key.Comparable() {
			return nil, fmt.Errorf("a key of %s is an array or a map", s.typ)
		}
		if rest, err = read(elem, s.elem, rest); err != nil {
			return nil, within(err, "key %s", readable(key))
		}
		v.SetMapIndex(key, elem)
	}
	return rest, nil
}

// readStruct reads a struct from a map, or from an array of all its fields.
func readStruct(v reflect.Value, s *shape, t token, rest []byte) (_ []byte, err error) {
	switch {
	case t.kind == kindMap:
		for range t.n {
			if rest, err = readNamed(v, s, rest); err != nil {
				return nil, err
			}
		}
		return rest, nil
	case t.kind == kindArray && (t.n == len(s.list) || t.n == 0):
		for _, f := range s.list[:t.n] {
			if rest, err = readField(v, f, rest); err != nil {
				return nil, err
			}
		}
		return rest, nil
	}
	return nil, mismatch(t, fmt.Sprintf("%s, which has %d fields,", s.typ, len(s.list)))
}

func readNamed(v reflect.Value, s *shape, b []byte) ([]byte, error) {
	t, rest := next(b)
	if t.kind != kindStr && t.kind != kindBin {
		return nil, mismatch(t, "the name of a field of "+s.name)
	}
	f := s.fields[string(t.body)]
	if f == nil {
		return skip(rest), nil
	}
	return readField(v, f, rest)
}

func readField(v reflect.Value, f *field, b []byte) ([]byte, error) {
	// So that nil leaves a nil embedded struct as it is.
	if t, rest := next(b); t.kind == kindNil {
		return rest, nil
	}
	at := f.reach(v)
	// A name that occurs twice must not be merged into its first value.
	at.SetZero()
	rest, err := read(at, f.shape, b)
	if err != nil {
		return nil, within(err, "field %s", f.name)
	}
	return rest, nil
}

// reach returns the field in v, and allocates the embedded structs on the way. The
// library does that from a goroutine per type that never ends.
func (f *field) reach(v reflect.Value) reflect.Value {
	for i, at := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(at)
	}
	return v
}

// readInterface sets an interface to what readAny makes of the value, or an error
// to its text.
func readInterface(v reflect.Value, s *shape, b []byte) ([]byte, error) {
	x, rest, err := readAny(b)
	if err != nil {
		return nil, err
	}
	if text, ok := x.(string); ok && s.typ == errorType {
		x = errors.New(text)
	}
	found := reflect.ValueOf(x)
	if !found.Type().Implements(s.typ) {
		t, _ := next(b)
		return nil, mismatch(t, s.name)
	}
	v.Set(found)
	return rest, nil
}

// TypeName is how Go spells the type T, with its package's name.
func TypeName[T any]() string { return reflect.TypeFor[T]().String() }
