package gpool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strconv"
	"sync"
	"syscall"

	"gpool/internal/ipc"
	"gpool/internal/value"
)

// RemoteError stands for an error of a worker whose type was not registered with
// [RegisterError]. [errors.Is] finds errors of the same type with the same text, so
// errors that are package variables (io.EOF, your ErrNotFound) are found as ever.
type RemoteError struct {
	Type string // as %T prints it
	Text string
	errs []error // that it wrapped
}

func (e *RemoteError) Error() string   { return e.Text }
func (e *RemoteError) Unwrap() []error { return e.errs }

// Is compares by type and text.
func (e *RemoteError) Is(target error) bool {
	return fmt.Sprintf("%T", target) == e.Type && textOf(target) == e.Text
}

// RegisterError lets errors of type E keep their type when they travel, for
// [errors.As]. The exported fields of E travel, as msgpack; fields of type error keep
// their own types in turn. Call it as [Register] is called, in a package variable or an
// init function, with a name of its own. It panics if the name or the type is taken, or
// if an E cannot be encoded. It costs a lookup for each error that travels.
//
// The errors of this package, *fs.PathError, *os.LinkError, *os.SyscallError,
// *strconv.NumError and syscall.Errno are registered.
func RegisterError[E error](name string) {
	var zero E
	typ := reflect.TypeFor[E]()
	if typ.Kind() == reflect.Interface {
		panic(fmt.Sprintf("gpool: register errors as %q: %v is an interface, and a concrete type is needed", name, typ))
	}
	if typ.Kind() == reflect.Pointer {
		zero = reflect.New(typ.Elem()).Interface().(E)
	}
	if _, err := value.Append(nil, &zero); err != nil {
		panic(fmt.Sprintf("gpool: register errors as %q: %v", name, err))
	}
	registerError(&errorType{
		name: name, typ: typ,
		encode: func(err error) ([]byte, []error, error) {
			e, inner := withoutErrors(err.(E))
			b, encodeErr := value.Append(nil, &e)
			return b, inner, encodeErr
		},
		decode: func(b []byte, inner []error) (error, error) {
			var e E
			if err := value.Decode(b, &e); err != nil {
				return nil, err
			}
			if v := reflect.ValueOf(e); v.Kind() == reflect.Pointer && v.IsNil() {
				return nil, errors.New("it is nil") // its methods may panic wherever it is looked at
			}
			return withErrors(e, inner), nil
		},
	})
}

// errorType is how errors of one type travel.
type errorType struct {
	name   string
	typ    reflect.Type
	encode func(error) (payload []byte, inner []error, err error)
	decode func(payload []byte, inner []error) (error, error)
}

// errorTypes are the registered types, by both of their names.
var errorTypes struct {
	mu     sync.RWMutex
	byType map[reflect.Type]*errorType
	byName map[string]*errorType
}

func registerError(t *errorType) {
	errorTypes.mu.Lock()
	defer errorTypes.mu.Unlock()
	if errorTypes.byName == nil {
		errorTypes.byType, errorTypes.byName = map[reflect.Type]*errorType{}, map[string]*errorType{}
	}
	if other := errorTypes.byName[t.name]; other != nil {
		panic(fmt.Sprintf("gpool: two types of errors are registered as %q: %v and %v", t.name, other.typ, t.typ))
	}
	if other := errorTypes.byType[t.typ]; other != nil {
		panic(fmt.Sprintf("gpool: %v is registered as %q and as %q", t.typ, other.name, t.name))
	}
	errorTypes.byName[t.name], errorTypes.byType[t.typ] = t, t
}

func errorTypeOf(err error) *errorType {
	errorTypes.mu.RLock()
	defer errorTypes.mu.RUnlock()
	return errorTypes.byType[reflect.TypeOf(err)]
}

func errorTypeNamed(name string) *errorType {
	errorTypes.mu.RLock()
	defer errorTypes.mu.RUnlock()
	return errorTypes.byName[name]
}

func init() {
	registerError(&errorType{
		name: "syscall.Errno", typ: reflect.TypeFor[syscall.Errno](),
		encode: func(err error) ([]byte, []error, error) {
			n := uint64(err.(syscall.Errno))
			b, encodeErr := value.Append(nil, &n)
			return b, nil, encodeErr
		},
		decode: func(b []byte, _ []error) (error, error) {
			var n uint64
			err := value.Decode(b, &n)
			return syscall.Errno(n), err
		},
	})
	RegisterError[*fs.PathError]("fs.PathError")
	RegisterError[*os.LinkError]("os.LinkError")
	RegisterError[*os.SyscallError]("os.SyscallError")
	RegisterError[*strconv.NumError]("strconv.NumError")
	RegisterError[ExitStatus]("gpool.ExitStatus")
	RegisterError[*StartError]("gpool.StartError")
	RegisterError[*InitError]("gpool.InitError")
	RegisterError[*BrokenError]("gpool.BrokenError")
	RegisterError[*TaskError]("gpool.TaskError")
	RegisterError[*PanicError]("gpool.PanicError")
	RegisterError[*WorkerDiedError]("gpool.WorkerDiedError")
	RegisterError[*TimeoutError]("gpool.TimeoutError")
	RegisterError[*EncodeError]("gpool.EncodeError")
	RegisterError[*DecodeError]("gpool.DecodeError")
}

var errorInterface = reflect.TypeFor[error]()

// errorFields calls f for each exported field of type error in a struct, or in one that
// a pointer points to; v must be settable then.
func errorFields(v reflect.Value, f func(field reflect.Value)) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() && v.Field(i).Type() == errorInterface {
			f(v.Field(i))
		}
	}
}

// withoutErrors returns a copy of e whose fields of type error are empty, and what was
// in them.
func withoutErrors[E error](e E) (E, []error) {
	v := reflect.ValueOf(e)
	copied := reflect.New(reflect.TypeOf(e)).Elem()
	copied.Set(v)
	target := copied
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		target = reflect.New(v.Type().Elem()).Elem()
		target.Set(v.Elem())
		copied.Set(target.Addr())
	}
	var inner []error
	errorFields(target, func(field reflect.Value) {
		err, _ := field.Interface().(error)
		inner = append(inner, err)
		field.SetZero()
	})
	return copied.Interface().(E), inner
}

// withErrors pairs with withoutErrors.
func withErrors[E error](e E, inner []error) error {
	copied := reflect.New(reflect.TypeFor[E]()).Elem()
	copied.Set(reflect.ValueOf(e))
	target := copied
	if target.Kind() == reflect.Pointer {
		target = target.Elem()
	}
	errorFields(target, func(field reflect.Value) {
		if len(inner) > 0 {
			if inner[0] != nil {
				field.Set(reflect.ValueOf(inner[0]))
			}
			inner = inner[1:]
		}
	})
	return copied.Interface().(error)
}

// textOf is what an error says; its method may be broken.
func textOf(err error) string {
	text, _ := tryText(err)
	return text
}

// tryText reports whether the method could be called.
func tryText(err error) (text string, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			text, ok = fmt.Sprintf("(a %T whose method Error panics: %v)", err, p), false
		}
	}()
	return err.Error(), true
}

// unwrapped returns what an error wraps; its method may be broken.
func unwrapped(err error) (list []error) {
	defer func() {
		if recover() != nil {
			list = nil
		}
	}()
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// An error travels as a tree of nodes, each the array
// [type, text, name, payload, [node...]]: name and payload are those of a registered
// type, whose nodes are its fields; else they are empty, and the nodes are what the
// error wraps. nil is an empty array. What is deeper or has more nodes than this is
// left out.
const (
	maxErrorDepth = 16
	maxErrorNodes = 256
	maxErrorTexts = 4 << 20 // bytes of all texts but the first
)

// encodeError never fails: what cannot be encoded travels as text.
func encodeError(err error) []byte {
	e := ipc.NewEncoder()
	left := room{maxErrorNodes, maxErrorTexts}
	if err != nil {
		left.texts += len(textOf(err))
	}
	appendError(e, err, maxErrorDepth, &left)
	return e.Copy()
}

// room is how much more of an error may travel.
type room struct{ nodes, texts int }

func appendError(e *ipc.Encoder, err error, depth int, left *room) {
	if err == nil || left.nodes <= 0 {
		e.Array(0)
		return
	}
	left.nodes--
	text := textOf(err)
	text = text[:min(len(text), max(left.texts, 0))]
	left.texts -= len(text)
	var name string
	var payload []byte
	var inner []error
	if t := errorTypeOf(err); t != nil {
		b, fields, encodeErr := encodeRegistered(t, err)
		if encodeErr == nil {
			name, payload, inner = t.name, b, fields
		}
	}
	if name == "" {
		inner = unwrapped(err)
	}
	if depth == 0 {
		inner = nil
	}
	inner = inner[:min(len(inner), max(left.nodes, 0))]
	e.Array(5)
	e.Str(typeOf(err))
	e.Str(text)
	e.Str(name)
	e.Bytes(payload)
	e.Array(len(inner))
	for _, err := range inner {
		appendError(e, err, depth-1, left)
	}
}

// typeOf is what %T says of an error, or said of the one that a RemoteError stands for:
// it may have come from another process itself.
func typeOf(err error) string {
	if remote, ok := err.(*RemoteError); ok {
		return remote.Type
	}
	return fmt.Sprintf("%T", err)
}

func encodeRegistered(t *errorType, err error) (b []byte, inner []error, failed error) {
	defer func() {
		if p := recover(); p != nil { // a nil pointer, for one
			failed = fmt.Errorf("it panicked: %v", p)
		}
	}()
	return t.encode(err)
}

// decodeError reads what encodeError wrote; message stands for what is missing or
// broken.
func decodeError(b []byte, message string) error {
	if len(b) > 0 && ipc.Precheck(b) == nil {
		d := ipc.NewDecoder()
		d.Reset(b)
		if err := readError(d); err != nil && d.Err() == nil {
			return err
		}
	}
	return &RemoteError{Text: message}
}

func readError(d *ipc.Decoder) error {
	n := d.Array()
	if n == 0 || d.Err() != nil {
		return nil
	}
	remote := &RemoteError{Type: d.Str(), Text: d.Str()}
	name, payload := d.Str(), d.Bytes()
	for i := d.Array(); i > 0 && d.Err() == nil; i-- {
		remote.errs = append(remote.errs, readError(d))
	}
	d.Skip(n - 5)
	if t := errorTypeNamed(name); t != nil && d.Err() == nil {
		err, decodeErr := decodeRegistered(t, payload, remote.errs)
		switch {
		case decodeErr != nil:
			remote.errs = append(remote.errs, &DecodeError{What: "an error", Type: t.typ.String(), Err: decodeErr})
		default:
			text, ok := tryText(err)
			switch {
			case ok && text == remote.Text:
				return err
			case ok: // what it does not export was left behind; its text is kept
				remote.errs = []error{err}
			} // else nobody may call its methods here either
		}
	}
	remote.errs = withoutNil(remote.errs)
	return remote
}

func decodeRegistered(t *errorType, payload []byte, inner []error) (err, failed error) {
	defer func() {
		if p := recover(); p != nil {
			failed = fmt.Errorf("it panicked: %v", p)
		}
	}()
	return t.decode(payload, inner)
}

func withoutNil(list []error) (kept []error) {
	for _, err := range list {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return kept
}
