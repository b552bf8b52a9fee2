package gpool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"gpool/internal/memory"
	"gpool/internal/pool/hub/wire"
)

// Number is what a [Value] can be.
type Number = memory.Number

// Scalar is what an [Array] can be of.
type Scalar = memory.Scalar

// Value is one number in memory that processes share. Its methods are atomic, for all processes at once, and take some
// nanoseconds, once a process has touched it first, which costs a round trip to the hub. Numbers wrap at the width of T, as in C.
//
// In the hub of a manager that is reached by tcp or tls the memory cannot be shared: there each method is a round trip.
//
// The memory is freed when no process has a handle any more: those that travel and that nobody has used yet count, once, until another
// process uses one. What has a name stays until its hub ends.
type Value[T Number] struct{ ref }

// NewValue makes a value. With a name that is there already it is that one, as it is.
func NewValue[T Number](h Hub, initial T, o ...ObjectOption) (Value[T], error) {
	var word uint64
	memory.Store(&word, initial)
	v := Value[T]{newBlock[T](h, "value", wordSize, o)}
	_, err := v.at.memory.make(v.at, word)
	return v, err
}

const wordSize = 8

// WithLock gives a [Value] or an [Array] a lock of one's own.
func WithLock(l RLock) ObjectOption {
	return func(o *object) { o.more += ":" + escape(l.key()) }
}

// newBlock is the handle of a block of shared memory. What more there is to know of it: what it is, of which type, and its lock.
func newBlock[T Scalar](h Hub, what string, size int64, options []ObjectOption) ref {
	typed := func(o *object) { o.more = what + ":" + memory.TypeOf[T]().String(); o.memory = &mapped{} }
	return newHandle(h, "mem", size, append([]ObjectOption{typed}, options...))
}

// readBlock checks that a handle is one of such a block.
func (h *ref) readBlock(what string, t memory.Type) error {
	if h.at == nil {
		return nil
	}
	want := what + ":" + t.String()
	if have := h.at.more; have != want && !strings.HasPrefix(have, want+":") {
		*h = ref{}
		return fmt.Errorf("it is a handle of an %q, and one of %q is wanted", have, want)
	}
	if h.at.init < 1 {
		*h = ref{}
		return errors.New("it is a handle of no memory")
	}
	h.at.memory = &mapped{travelled: true}
	return nil
}

// letter is the type of a block.
func (o *object) letter() int64 {
	parts := strings.SplitN(o.more, ":", 3)
	if len(parts) < 2 || len(parts[1]) != 1 {
		return 0
	}
	return int64(parts[1][0])
}

// lock is the lock of a block: its own, if none was given.
func (h ref) lock() RLock {
	if h.at == nil {
		return RLock{}
	}
	o := &object{post: h.at.post, kind: "rlock", name: "of mem/" + h.at.name}
	if parts := strings.SplitN(h.at.more, ":", 3); len(parts) == 3 {
		o.kind, o.name = splitKey(parts[2])
	}
	return RLock{ref{o}}
}

// mapped is where a block is in this process, as one handle knows it: nowhere before it is first used.
type mapped struct {
	travelled bool // the handle was sent to this process
	use       atomic.Pointer[blockUse]
	far       atomic.Bool // it cannot be mapped here
	mu        sync.Mutex  // held while it is made
}

// errLostMemory is of handles that have outlived the connection over which their memory was had.
var errLostMemory = fmt.Errorf("%w, or the connection to it: what this process had of its memory may be somebody else's now", ErrHubGone)

// word is what is mapped, if it still may be used.
func (m *mapped) word() (w *uint64, mapped bool, err error) {
	u := m.use.Load()
	switch {
	case u == nil:
		return nil, m.far.Load(), nil
	case u.lost.Load():
		return nil, true, errLostMemory
	}
	return u.word, true, nil
}

// blocks are those that are mapped in this process.
type blocks struct {
	mu   sync.Mutex
	view *memory.Memory
	open map[int64]*blockUse // by where they lie: a name may be given to another one
}

// blockUse is one of them.
type blockUse struct {
	block   *memory.Block
	word    *uint64
	offset  int64
	handles int         // that use it
	lost    atomic.Bool // the connection has ended, and the hub may give the memory to others
}

// find maps the block of a handle if it is not, and returns its first word; nil if it is far.
func (m *mapped) find(o *object) (*uint64, error) {
	if m == nil {
		return nil, ErrNoHandle
	}
	if w, known, err := m.word(); known {
		return w, err
	}
	return m.open(o, &wire.Request{Op: wire.MemOpen, Object: o.name, Init: o.init, M: o.letter(), Hold: m.travelled})
}

// make makes the block of a handle, with its first word.
func (m *mapped) make(o *object, word uint64) (*uint64, error) {
	r := &wire.Request{Op: wire.MemOpen, Object: o.name, Init: o.init, M: o.letter(), Flag: true}
	if word != 0 {
		r.Values = [][]byte{binary.NativeEndian.AppendUint64(nil, word)}
	}
	return m.open(o, r)
}

func (m *mapped) open(o *object, r *wire.Request) (*uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, known, err := m.word(); known {
		return w, err
	}
	c, err := o.post.reach(context.Background())
	if err != nil {
		return nil, err
	}
	u, err := o.post.blocks.use(c, r)
	if errors.Is(err, errFar) {
		m.far.Store(true)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gpool: map %q: %w", o.name, publicFault(r, err))
	}
	mine := o.post.blocks
	runtime.AddCleanup(o, func(name string) { mine.drop(c, name, u) }, o.name)
	m.use.Store(u)
	return u.word, nil
}

// use opens a block and maps it, or uses it once more. The lock is held all the time, so that drop does not give
// back what was just opened.
func (b *blocks) use(c caller, r *wire.Request) (*blockUse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx := context.Background()
	reply, err := c.Call(ctx, r)
	if err != nil {
		return nil, err
	}
	if b.view == nil {
		view, err := c.Memory(ctx)
		if fault, ok := errors.AsType[*wire.Fault](err); ok && fault.Code == wire.FaultNoMemory {
			return nil, errFar
		}
		if err != nil {
			return nil, err
		}
		b.view, b.open = view, make(map[int64]*blockUse)
	}
	u := b.open[reply.N]
	if u == nil || len(u.block.Bytes()) != int(reply.M) {
		block, err := b.view.Map(reply.N, reply.M)
		if err != nil {
			return nil, err
		}
		u = &blockUse{block: block, word: block.Word(0), offset: reply.N}
		b.open[reply.N] = u
	}
	u.handles++
	return u, nil
}

// errFar says that memory cannot be mapped in this process.
var errFar = errors.New("the memory of the hub is not on this machine")

// lose marks all as lost.
func (b *blocks) lose() {
	b.mu.Lock()
	for _, u := range b.open {
		u.lost.Store(true)
	}
	b.mu.Unlock()
	b.close()
}

// close gives up what no handle uses; what one uses stays.
func (b *blocks) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.view != nil {
		_ = b.view.Close() // a descriptor and mappings that we have made
	}
	b.view, b.open = nil, nil
}

// drop takes one handle off, and gives the block back with the last.
func (b *blocks) drop(c caller, name string, u *blockUse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u.handles--; u.handles > 0 {
		return
	}
	u.block.Unmap()
	if b.open[u.offset] != u { // the connection has ended
		return
	}
	delete(b.open, u.offset)
	_ = c.Send(&wire.Request{Op: wire.MemDrop, Object: name, N: u.offset}) // a hub that is gone has freed it
}

// sent tells the hub that a handle of a block travels.
func (h ref) sent() error {
	c, err := h.at.post.reach(context.Background())
	if err != nil {
		return err
	}
	_, err = c.Call(context.Background(), &wire.Request{Op: wire.MemSent, Object: h.at.name})
	return publicFault(&wire.Request{Op: wire.MemSent, Object: h.at.name}, err)
}

// word is the word of a value; nil if it is far.
func (v Value[T]) word() (*uint64, error) {
	if v.at == nil {
		return nil, ErrNoHandle
	}
	return v.at.memory.find(v.at)
}

// remote does an operation on a word that is far.
func (v Value[T]) remote(op wire.Op, values ...T) (now T, done bool, err error) {
	r := &wire.Request{Op: op, Object: v.at.name, Init: wordSize, M: v.at.letter()}
	for _, x := range values {
		var word uint64
		memory.Store(&word, x)
		r.Values = append(r.Values, binary.NativeEndian.AppendUint64(nil, word))
	}
	reply, err := v.call(context.Background(), r)
	if err == nil && len(reply.Values) == 1 && len(reply.Values[0]) == wordSize {
		word := binary.NativeEndian.Uint64(reply.Values[0])
		now = memory.Load[T](&word)
	}
	return now, reply.Flag, err
}

// Load returns the number.
func (v Value[T]) Load() (T, error) {
	w, err := v.word()
	if w == nil {
		if err != nil {
			return 0, err
		}
		now, _, err := v.remote(wire.ValueLoad)
		return now, err
	}
	now := memory.Load[T](w)
	runtime.KeepAlive(v.at)
	return now, nil
}

// Store sets the number.
func (v Value[T]) Store(x T) error {
	w, err := v.word()
	if w == nil {
		if err == nil {
			_, _, err = v.remote(wire.ValueStore, x)
		}
		return err
	}
	memory.Store(w, x)
	runtime.KeepAlive(v.at)
	return nil
}

// Add adds to the number and returns the sum.
func (v Value[T]) Add(delta T) (T, error) {
	w, err := v.word()
	if w == nil {
		if err != nil {
			return 0, err
		}
		now, _, err := v.remote(wire.ValueAdd, delta)
		return now, err
	}
	now := memory.Add(w, delta)
	runtime.KeepAlive(v.at)
	return now, nil
}

// CompareAndSwap sets the number to new if it is old, and reports whether it was. Floats are compared by their bits.
func (v Value[T]) CompareAndSwap(old, new T) (bool, error) {
	w, err := v.word()
	if w == nil {
		if err != nil {
			return false, err
		}
		_, done, err := v.remote(wire.ValueSwap, old, new)
		return done, err
	}
	done := memory.CompareAndSwap(w, old, new)
	runtime.KeepAlive(v.at)
	return done, nil
}

// Update sets the number to what fn makes of it, and returns that. If another process changes it meanwhile, fn is called again.
func (v Value[T]) Update(fn func(T) T) (T, error) {
	for {
		old, err := v.Load()
		if err != nil {
			return old, err
		}
		next := fn(old)
		if done, err := v.CompareAndSwap(old, next); done || err != nil {
			return next, err
		}
	}
}

// Lock is the lock of the value: Python's get_lock. No method of the value takes it; it is for those who agree on it.
func (v Value[T]) Lock() RLock { return v.lock() }

// Clone makes another value with the same number.
func (v Value[T]) Clone() (Value[T], error) {
	now, err := v.Load()
	if err != nil {
		return Value[T]{}, err
	}
	return NewValue(v.at.post, now)
}

// MarshalBinary makes the handle a value that can travel.
func (v Value[T]) MarshalBinary() ([]byte, error) { return v.marshalBlock() }

// MarshalText is [Value.MarshalBinary], for JSON and the like.
func (v Value[T]) MarshalText() ([]byte, error) { return v.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (v *Value[T]) UnmarshalBinary(b []byte) error {
	return errors.Join(v.unmarshal(b, "mem"), v.readBlock("value", memory.TypeOf[T]()))
}

// UnmarshalText reads what MarshalText has written.
func (v *Value[T]) UnmarshalText(text []byte) error { return v.UnmarshalBinary(text) }

// marshalBlock is marshal, and tells the hub that the handle travels.
func (h ref) marshalBlock() ([]byte, error) {
	if h.at != nil {
		if err := h.sent(); err != nil {
			return nil, err
		}
	}
	return h.marshal()
}

// Array is an array of numbers or bools in memory that processes share. Its elements are zero to begin with.
// Nothing keeps processes apart that change the same element: use its Lock, or let each have a part of its own.
//
// The memory lives as that of a [Value]. An array cannot be in the hub of a manager that is reached by tcp or tls.
type Array[T Scalar] struct{ ref }

// NewArray makes an array of n elements. With a name that is there already it is that one, which must have as many.
func NewArray[T Scalar](h Hub, n int, o ...ObjectOption) (Array[T], error) {
	size := int64(unsafe.Sizeof(*new(T)))
	if n < 1 || int64(n) > 1<<48/size {
		return Array[T]{}, fmt.Errorf("gpool: make an array of %d elements: it needs at least 1, and %d at most", n, 1<<48/size)
	}
	a := Array[T]{newBlock[T](h, "array", int64(n)*size, o)}
	_, err := a.at.memory.make(a.at, 0)
	return a, err
}

// Len is the number of elements.
func (a Array[T]) Len() int {
	if a.at == nil {
		return 0
	}
	return int(a.at.init / int64(unsafe.Sizeof(*new(T))))
}

// slice is the memory, valid while the handle is kept alive.
func (a Array[T]) slice() ([]T, error) {
	if a.at == nil {
		return nil, ErrNoHandle
	}
	w, err := a.at.memory.find(a.at)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return nil, fmt.Errorf("gpool: map the array %q: %w: its hub is not on this machine", a.at.name, ErrNoMemory)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(w)), a.Len()), nil
}

// View runs fn with the memory itself. The slice must not be used when fn has returned.
func (a Array[T]) View(fn func([]T)) error {
	s, err := a.slice()
	if err != nil {
		return err
	}
	fn(s)
	runtime.KeepAlive(a.at)
	return nil
}

// Slice returns the memory itself. Since nobody can tell how long the slice is used, the memory stays in this process's address space until it ends, or
// until Release. View has no such price.
func (a Array[T]) Slice() ([]T, error) {
	s, err := a.slice()
	if err == nil {
		pinned.Store(a.at.memory, a.at)
	}
	return s, err
}

// Release says that no slice that Slice has returned to this process is used any more.
func (a Array[T]) Release() {
	if a.at != nil {
		pinned.Delete(a.at.memory)
	}
}

// pinned keeps the handles alive whose slices may be in use.
var pinned sync.Map

// At returns an element.
func (a Array[T]) At(i int) (v T, err error) {
	s, err := a.slice()
	if err == nil {
		if i < 0 || i >= len(s) {
			return v, a.outOfRange(i)
		}
		v = s[i]
		runtime.KeepAlive(a.at)
	}
	return v, err
}

// Set sets an element.
func (a Array[T]) Set(i int, v T) error {
	s, err := a.slice()
	if err == nil {
		if i < 0 || i >= len(s) {
			return a.outOfRange(i)
		}
		s[i] = v
		runtime.KeepAlive(a.at)
	}
	return err
}

func (a Array[T]) outOfRange(i int) error {
	return fmt.Errorf("gpool: element %d of the array %q: it has %d", i, a.at.name, a.Len())
}

// Lock is the lock of the array: Python's get_lock. No method takes it.
func (a Array[T]) Lock() RLock { return a.lock() }

// Clone makes another array with the same elements.
func (a Array[T]) Clone() (Array[T], error) {
	if a.at == nil {
		return Array[T]{}, ErrNoHandle
	}
	other, err := NewArray[T](a.at.post, a.Len())
	if err != nil {
		return Array[T]{}, err
	}
	err = a.View(func(from []T) {
		err = other.View(func(to []T) { copy(to, from) })
	})
	return other, err
}

// MarshalBinary makes the handle a value that can travel.
func (a Array[T]) MarshalBinary() ([]byte, error) { return a.marshalBlock() }

// MarshalText is [Array.MarshalBinary], for JSON and the like.
func (a Array[T]) MarshalText() ([]byte, error) { return a.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (a *Array[T]) UnmarshalBinary(b []byte) error {
	return errors.Join(a.unmarshal(b, "mem"), a.readBlock("array", memory.TypeOf[T]()))
}

// UnmarshalText reads what MarshalText has written.
func (a *Array[T]) UnmarshalText(text []byte) error { return a.UnmarshalBinary(text) }
