package gpool

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gpool/internal/value"
)

// Task is a function that workers can run: a name, the same in every process of a
// program, and the types of its argument and its result. It is made by [Register] and
// the like, once, and may be used by many goroutines at once.
type Task[In, Out any] struct {
	name   string // empty for a task of Fn
	origin string // file:line of the function
	fn     func(context.Context, In) (Out, error)
	encode func(dst []byte, in *In) ([]byte, error)
	decode func(src []byte, in *In) error
}

// Name is the name that the task was registered with; that of a task of [Fn] is empty.
func (t *Task[In, Out]) Name() string { return t.name }

// Register makes a task of fn. The context that fn is given ends when the call is
// cancelled, reaches its soft time limit, or nobody is left to take the result;
// [context.Cause] tells which. In and Out travel as msgpack, as the package's comment
// says. Call Register for package-level variables, or in init
// functions: a worker is this program started again, and offers what is registered when
// it calls [Init]. Register panics if the name is empty, holds white space, or is taken:
// a program with such a slip must not start.
func Register[In, Out any](name string, fn func(ctx context.Context, in In) (Out, error)) *Task[In, Out] {
	t := newTask(name, fn, originOf(fn), value.Append[In], value.DecodeOwned[In])
	register(t, fmt.Sprintf("(%s) %s", value.TypeName[In](), value.TypeName[Out]()))
	return t
}

// Args2 are the arguments of a task of two. They travel as an array of two values.
type Args2[A, B any] struct {
	A A
	B B
}

// Args3 are the arguments of a task of three.
type Args3[A, B, C any] struct {
	A A
	B B
	C C
}

// Args4 are the arguments of a task of four.
type Args4[A, B, C, D any] struct {
	A A
	B B
	C C
	D D
}

// A2 spares the types of an [Args2] literal.
func A2[A, B any](a A, b B) Args2[A, B] { return Args2[A, B]{a, b} }

// A3 spares the types of an [Args3] literal.
func A3[A, B, C any](a A, b B, c C) Args3[A, B, C] { return Args3[A, B, C]{a, b, c} }

// A4 spares the types of an [Args4] literal.
func A4[A, B, C, D any](a A, b B, c C, d D) Args4[A, B, C, D] { return Args4[A, B, C, D]{a, b, c, d} }

// Register2 is [Register] for a function of two arguments, which calls give as [Args2].
func Register2[A, B, Out any](name string, fn func(ctx context.Context, a A, b B) (Out, error)) *Task[Args2[A, B], Out] {
	t := newTask(name,
		func(ctx context.Context, in Args2[A, B]) (Out, error) { return fn(ctx, in.A, in.B) }, originOf(fn),
		func(dst []byte, in *Args2[A, B]) ([]byte, error) {
			return appendTuple(dst, argument(&in.A), argument(&in.B))
		},
		func(src []byte, in *Args2[A, B]) error {
			return decodeTuple(src, result(&in.A), result(&in.B))
		})
	register(t, fmt.Sprintf("(%s, %s) %s", value.TypeName[A](), value.TypeName[B](), value.TypeName[Out]()))
	return t
}

// Register3 is [Register] for a function of three arguments, which calls give as [Args3].
func Register3[A, B, C, Out any](name string, fn func(ctx context.Context, a A, b B, c C) (Out, error)) *Task[Args3[A, B, C], Out] {
	t := newTask(name,
		func(ctx context.Context, in Args3[A, B, C]) (Out, error) { return fn(ctx, in.A, in.B, in.C) }, originOf(fn),
		func(dst []byte, in *Args3[A, B, C]) ([]byte, error) {
			return appendTuple(dst, argument(&in.A), argument(&in.B), argument(&in.C))
		},
		func(src []byte, in *Args3[A, B, C]) error {
			return decodeTuple(src, result(&in.A), result(&in.B), result(&in.C))
		})
	register(t, fmt.Sprintf("(%s, %s, %s) %s", value.TypeName[A](), value.TypeName[B](), value.TypeName[C](), value.TypeName[Out]()))
	return t
}

// Register4 is [Register] for a function of four arguments, which calls give as [Args4].
func Register4[A, B, C, D, Out any](name string, fn func(ctx context.Context, a A, b B, c C, d D) (Out, error)) *Task[Args4[A, B, C, D], Out] {
	t := newTask(name,
		func(ctx context.Context, in Args4[A, B, C, D]) (Out, error) { return fn(ctx, in.A, in.B, in.C, in.D) }, originOf(fn),
		func(dst []byte, in *Args4[A, B, C, D]) ([]byte, error) {
			return appendTuple(dst, argument(&in.A), argument(&in.B), argument(&in.C), argument(&in.D))
		},
		func(src []byte, in *Args4[A, B, C, D]) error {
			return decodeTuple(src, result(&in.A), result(&in.B), result(&in.C), result(&in.D))
		})
	register(t, fmt.Sprintf("(%s, %s, %s, %s) %s", value.TypeName[A](), value.TypeName[B](), value.TypeName[C](), value.TypeName[D](), value.TypeName[Out]()))
	return t
}

// Fn makes a task of any function, also a closure, for a [ThreadPool] and its
// executor: nothing of it travels. A [Pool] refuses it with [ErrNotRegistered].
func Fn[In, Out any](fn func(ctx context.Context, in In) (Out, error)) *Task[In, Out] {
	return newTask("", fn, originOf(fn), value.Append[In], value.DecodeOwned[In])
}

func newTask[In, Out any](name string, fn func(context.Context, In) (Out, error), origin string,
	encode func([]byte, *In) ([]byte, error), decode func([]byte, *In) error) *Task[In, Out] {
	return &Task[In, Out]{name: name, origin: origin, fn: fn, encode: encode, decode: decode}
}

func originOf(fn any) string {
	f := runtime.FuncForPC(reflect.ValueOf(fn).Pointer())
	if f == nil {
		return ""
	}
	file, line := f.FileLine(f.Entry())
	return fmt.Sprintf("%s:%d", file, line)
}

// argument and result bind the codec to one part of a tuple.
func argument[T any](v *T) func(dst []byte) ([]byte, error) {
	return func(dst []byte) ([]byte, error) { return value.Append(dst, v) }
}

func result[T any](v *T) func(src []byte) error {
	return func(src []byte) error { return value.Decode(src, v) }
}

func appendTuple(dst []byte, parts ...func([]byte) ([]byte, error)) ([]byte, error) {
	b := value.AppendArray(dst, len(parts))
	for i, part := range parts {
		var err error
		if b, err = part(b); err != nil {
			return dst, fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return b, nil
}

func decodeTuple(src []byte, parts ...func([]byte) error) error {
	if len(src) == 0 { // an initializer without an argument
		return nil
	}
	elements, err := value.Elements(src)
	if err != nil {
		return err
	}
	if len(elements) != len(parts) {
		return fmt.Errorf("%d arguments were given where %d are taken", len(elements), len(parts))
	}
	for i, part := range parts {
		if err := part(elements[i]); err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return nil
}

// registered is a task as a worker serves it.
type registered struct {
	origin    string
	signature string
	run       func(ctx context.Context, payload []byte) ([]byte, error)
	start     func(ctx context.Context, payload []byte) error // the same without the result
}

// tasks is every registered task of this program, by name.
var tasks struct {
	mu   sync.Mutex
	list map[string]*registered
}

func register[In, Out any](t *Task[In, Out], signature string) {
	if t.name == "" || strings.ContainsFunc(t.name, func(r rune) bool { return r <= ' ' }) {
		panic(fmt.Sprintf("gpool: a task needs a name without white space, and %q (%s) is none", t.name, t.origin))
	}
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	if other := tasks.list[t.name]; other != nil {
		panic(fmt.Sprintf("gpool: two tasks are registered as %q: the functions at %s and at %s", t.name, other.origin, t.origin))
	}
	if tasks.list == nil {
		tasks.list = make(map[string]*registered)
	}
	tasks.list[t.name] = &registered{t.origin, signature, t.serve, t.start}
}

func registeredTask(name string) *registered {
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	return tasks.list[name]
}

func taskNames() []string {
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	return slices.Sorted(maps.Keys(tasks.list))
}

// serve runs one call in a worker process.
func (t *Task[In, Out]) serve(ctx context.Context, payload []byte) ([]byte, error) {
	out, err := t.apply(ctx, payload)
	if err != nil {
		return nil, err
	}
	b, err := value.Append(nil, &out)
	if err == nil && len(b) > maxPayload {
		err = errTooLarge
	}
	if err != nil {
		return nil, &EncodeError{What: "the result of task " + t.name, Type: value.TypeName[Out](), Err: err}
	}
	return b, nil
}

// start runs the task of a [Process], whose result nobody takes.
func (t *Task[In, Out]) start(ctx context.Context, payload []byte) error {
	_, err := t.apply(ctx, payload)
	return err
}

func (t *Task[In, Out]) apply(ctx context.Context, payload []byte) (out Out, err error) {
	var in In
	if err := t.decode(payload, &in); err != nil {
		return out, &DecodeError{What: "the argument of task " + t.name, Type: value.TypeName[In](), Err: err}
	}
	return t.fn(ctx, in)
}
