package value

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// form is how a type is encoded.
type form uint8

const (
	formBool form = iota
	formInt
	formUint
	formFloat
	formString
	formBytes
	formScalar // the forms before need no address and hold nothing else
	formByteArray
	formTime
	formOwn // the type has encoding methods of its own
	formPointer
	formInterface
	formSlice
	formArray
	formMap
	formStruct
	forms
)

// comparisons orders the keys of maps, by form; the other forms are ordered by
// their encoding.
var comparisons = [forms]func(a, b reflect.Value) int{
	formInt:    func(a, b reflect.Value) int { return cmp.Compare(a.Int(), b.Int()) },
	formUint:   func(a, b reflect.Value) int { return cmp.Compare(a.Uint(), b.Uint()) },
	formFloat:  func(a, b reflect.Value) int { return cmp.Compare(a.Float(), b.Float()) },
	formString: func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) },
}

// shape is the layout of one type. It is worked out once and never changes.
type shape struct {
	typ   reflect.Type
	name  string // of typ, which reflect takes a while to find
	form  form
	width int // of a number, in bits

	elem *shape // of what a pointer, slice, array or map leads to
	key  *shape

	list    []*field          // in the order they are written
	fields  map[string]*field // by name and alias
	asArray bool
	omits   bool // a field has omitempty; an array has all its fields all the same

	encodes, decodes bool // which methods of its own the type has
}

// field is one field of a struct, or of a struct that it embeds.
type field struct {
	name      string
	index     []int // through embedded structs
	omitEmpty bool
	shape     *shape
}

// of returns the field in v, unless it is in an embedded struct that is nil.
func (f *field) of(v reflect.Value) (reflect.Value, bool) {
	for i, at := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(at)
	}
	return v, true
}

// omitted follows the library's notion of what is empty.
func (f *field) omitted(v reflect.Value) bool {
	if !f.omitEmpty {
		return false
	}
	at, ok := f.of(v)
	return !ok || empty(at, f.shape)
}

func empty(v reflect.Value, s *shape) bool {
	for hops := 0; v.Kind() == reflect.Interface; hops++ {
		if v.IsNil() || hops == maxHops {
			return true
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Pointer {
		return v.IsNil()
	}
	if v.CanInterface() {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
			return z.IsZero()
		}
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return s.form == formStruct && emptyStruct(v, s)
	}
	return v.IsZero()
}

func emptyStruct(v reflect.Value, s *shape) bool {
	for _, f := range s.list {
		if !f.omitted(v) {
			return false
		}
	}
	return true
}

// info is what is known about a type as the root of a value.
type info struct {
	shape *shape
	err   error // why no value of the type can be encoded or decoded
}

// infos caches by reflect.Type; a program has few types and they never end.
var infos sync.Map

func infoOf(t reflect.Type) *info {
	if found, ok := infos.Load(t); ok {
		return found.(*info)
	}
	b := builder{seen: map[reflect.Type]*shape{}}
	s, err := b.build(t, t.String())
	found, _ := infos.LoadOrStore(t, &info{shape: s, err: err})
	return found.(*info)
}

// builder works out the shapes that one type leads to.
type builder struct {
	seen     map[reflect.Type]*shape // also those not finished, for recursive types
	embedded []reflect.Type          // the structs being inlined
}

var (
	errorType = reflect.TypeFor[error]()
	timeType  = reflect.TypeFor[time.Time]()

	encoders = []reflect.Type{
		reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.Marshaler](),
		reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler](),
	}
	decoders = []reflect.Type{
		reflect.TypeFor[msgpack.CustomDecoder](), reflect.TypeFor[msgpack.Unmarshaler](),
		reflect.TypeFor[encoding.BinaryUnmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	}
)

func hasMethodsOf(t reflect.Type, interfaces []reflect.Type) bool {
	for _, i := range interfaces {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// build returns the shape of t, which was found at where: a type's name and the
// path from it, for errors.
func (b *builder) build(t reflect.Type, where string) (*shape, error) {
	if s, ok := b.seen[t]; ok {
		return s, nil
	}
	s := &shape{typ: t, name: t.String()}
	b.seen[t] = s
	if t == timeType {
		s.form = formTime
		return s, nil
	}
	if k := t.Kind(); k != reflect.Pointer && k != reflect.Interface {
		s.encodes, s.decodes = hasMethodsOf(t, encoders), hasMethodsOf(t, decoders)
		if s.encodes || s.decodes {
			s.form = formOwn
			return s, nil
		}
	}
	return s, b.fill(s, where)
}

func (b *builder) fill(s *shape, where string) (err error) {
	t := s.typ
	switch t.Kind() {
	case reflect.Bool:
		s.form = formBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.form, s.width = formInt, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.form, s.width = formUint, t.Bits()
	case reflect.Float32, reflect.Float64:
		s.form, s.width = formFloat, t.Bits()
	case reflect.String:
		s.form = formString
	case reflect.Interface:
		s.form = formInterface
	case reflect.Pointer:
		s.form = formPointer
		if onlyPointers(t) {
			return fmt.Errorf("%s points only to itself, which has no encoding", where)
		}
		s.elem, err = b.build(t.Elem(), where)
	case reflect.Slice, reflect.Array:
		return b.fillList(s, where)
	case reflect.Map:
		s.form = formMap
		if s.key, err = b.build(t.Key(), where+" key"); err == nil {
			s.elem, err = b.build(t.Elem(), where+"[]")
		}
	case reflect.Struct:
		s.form = formStruct
		return b.fillStruct(s, where)
	default:
		return unsupported(t, where)
	}
	return err
}

func unsupported(t reflect.Type, where string) error {
	if where == t.String() {
		return fmt.Errorf("%s has no encoding", t)
	}
	return fmt.Errorf("%s is of type %s, which has no encoding", where, t)
}

// onlyPointers reports whether t is a cycle such as type P *P.
func onlyPointers(t reflect.Type) bool {
	seen := map[reflect.Type]bool{}
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		if seen[t] {
			return true
		}
		seen[t] = true
	}
	return false
}

func (b *builder) fillList(s *shape, where string) (err error) {
	bytes := s.typ.Elem().Kind() == reflect.Uint8
	switch {
	case s.typ.Kind() == reflect.Slice && bytes:
		s.form = formBytes
	case bytes:
		s.form = formByteArray
	case s.typ.Kind() == reflect.Slice:
		s.form = formSlice
		s.elem, err = b.build(s.typ.Elem(), where+"[]")
	default:
		s.form = formArray
		s.elem, err = b.build(s.typ.Elem(), where+"[]")
	}
	return err
}

func (b *builder) fillStruct(s *shape, where string) error {
	s.fields = map[string]*field{}
	hidden, err := b.addFields(s, s.typ, nil, where)
	if err != nil {
		return err
	}
	if len(s.list) == 0 && hidden {
		return fmt.Errorf("%s has only unexported fields, so that nothing of it would be encoded", where)
	}
	for _, f := range s.list {
		s.omits = s.omits || f.omitEmpty && !s.asArray
	}
	return nil
}

// addFields adds the fields of t, which is the struct itself or embedded in it at
// prefix, and reports whether it passed over unexported ones.
func (b *builder) addFields(s *shape, t reflect.Type, prefix []int, where string) (hidden bool, err error) {
	b.embedded = append(b.embedded, t)
	defer func() { b.embedded = b.embedded[:len(b.embedded)-1] }()
	omitAll := false
	for i := range t.NumField() {
		f := t.Field(i)
		tag := parseTag(f.Tag.Get("msgpack"))
		if tag.name == "-" {
			continue
		}
		if f.Name == "_msgpack" {
			s.asArray = s.asArray || len(prefix) == 0 && (tag.has("as_array") || tag.has("asArray"))
			omitAll = tag.has("omitempty")
			continue
		}
		if !f.IsExported() && !f.Anonymous {
			hidden = hidden || f.Name != "_"
			continue
		}
		tag.omitEmpty = omitAll || tag.has("omitempty")
		below, err := b.addField(s, f, tag, prefix, where)
		if err != nil {
			return false, err
		}
		hidden = hidden || below
	}
	return hidden, nil
}

func (b *builder) addField(s *shape, f reflect.StructField, tag tag, prefix []int, where string) (hidden bool, err error) {
	where += "." + f.Name
	index := append(prefix[:len(prefix):len(prefix)], f.Index...)
	if inner := inlined(f, tag); inner != nil {
		if f.Type.Kind() == reflect.Pointer && !f.IsExported() {
			return false, fmt.Errorf("%s is an embedded pointer that is unexported, so that it could not be set", where)
		}
		if f.Type.Kind() == reflect.Pointer && f.Type.Elem() != inner {
			return false, unsupported(f.Type, where)
		}
		for _, open := range b.embedded {
			if open == inner {
				return false, fmt.Errorf("%s embeds itself", where)
			}
		}
		return b.addFields(s, inner, index, where)
	}
	if !f.IsExported() {
		return false, fmt.Errorf("%s is embedded but unexported, so that it could not be set", where)
	}
	if tag.has("intern") {
		return false, fmt.Errorf("%s has the tag intern, whose encoding no other program reads", where)
	}
	added := &field{name: tag.name, index: index, omitEmpty: tag.omitEmpty}
	if added.name == "" {
		added.name = f.Name
	}
	if added.shape, err = b.build(f.Type, where); err != nil {
		return false, err
	}
	return false, s.add(added, tag.alias, where)
}

func (s *shape) add(f *field, alias, where string) error {
	if s.fields[f.name] != nil {
		return fmt.Errorf("%s is encoded as %q, as another field is", where, f.name)
	}
	s.list = append(s.list, f)
	s.fields[f.name] = f
	if alias != "" && s.fields[alias] == nil {
		s.fields[alias] = f
	}
	return nil
}

// inlined returns the struct whose fields f contributes, or nil if f is a field
// of its own: it is not embedded, has methods of its own, or asks to be.
func inlined(f reflect.StructField, tag tag) reflect.Type {
	if !f.Anonymous || tag.has("noinline") {
		return nil
	}
	t := f.Type
	for t.Kind() == reflect.Pointer && !onlyPointers(t) {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == timeType || hasMethodsOf(t, encoders) || hasMethodsOf(t, decoders) {
		return nil
	}
	return t
}

// tag is a parsed struct tag.
type tag struct {
	name      string
	alias     string
	options   []string
	omitEmpty bool
}

func parseTag(text string) tag {
	parts := strings.Split(text, ",")
	t := tag{name: parts[0], options: parts[1:]}
	for _, o := range t.options {
		if alias, ok := strings.CutPrefix(o, "alias:"); ok {
			t.alias = alias
		}
	}
	return t
}

func (t tag) has(option string) bool {
	for _, o := range t.options {
		if o == option {
			return true
		}
	}
	return false
}
