package gpool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gpool/internal/memory"
	"gpool/internal/pool/hub/wire"
	"gpool/internal/worker"
)

// Hub is where shared objects live: a [Pool], a [ThreadPool], an [Executor], a [Manager], or what
// [HubOf] returns in a task. Functions that make an object take one.
//
// An object that was made is a handle: a plain value, which may be copied, be used by any
// goroutines at once, and travel in arguments, results, structs, initializers, and in other shared objects. Wherever it
// arrives it means the same object. Making one costs nothing and tells nobody: the object comes to be when
// it is first touched, and lives as long as its hub. The zero value of a handle is none: its methods return [ErrNoHandle].
//
// The hub of a pool is a part of the process that made the pool. It ends when that ends, or with Terminate; after Close
// and Join the objects can still be used there. Other processes reach it over a Unix socket, each by a connection of
// its own: a question and its answer cost some 30 µs, and in the hub's own process about 1 µs. When a process ends, however it ends, what it held is
// given back: docs/shared-state.md says for each kind what that means.
type Hub interface{ hubOf() (*post, error) }

// Errors of shared objects. Compare with [errors.Is].
var (
	ErrNoHandle      = errors.New("gpool: the handle is a zero value: make one with the New function of its type")
	ErrHubGone       = errors.New("gpool: the hub has ended")
	ErrFull          = errors.New("gpool: the queue is full")
	ErrEmpty         = errors.New("gpool: nothing is there")
	ErrClosed        = errors.New("gpool: it is closed")
	ErrAbandoned     = errors.New("gpool: the process that had the lock died with it: what it protects may be half done")
	ErrBarrierBroken = errors.New("gpool: the barrier is broken")
	ErrNotHeld       = errors.New("gpool: it is not held")
	ErrNotOwner      = errors.New("gpool: somebody else has the lock")
	ErrOverflow      = errors.New("gpool: that is more than there can be")
	ErrStaleHandle   = errors.New("gpool: the object of the handle is not there any more")
	ErrMismatch      = errors.New("gpool: the object of this name was made otherwise")
	ErrTooLong       = errors.New("gpool: the message is longer than the limit")
	ErrWrongType     = errors.New("gpool: the value is not of the type that the operation needs")
	ErrNoMemory      = errors.New("gpool: shared memory cannot be had")
)

// SharedError says what was being done to which object. It wraps one of the errors above.
type SharedError struct {
	Op     string // such as "queue.put"
	Object string // its name
	Text   string
	Err    error
}

func (e *SharedError) Error() string {
	return fmt.Sprintf("gpool: %s of %q: %s", e.Op, e.Object, e.Text)
}
func (e *SharedError) Unwrap() error { return e.Err }

var faultErrors = map[wire.FaultCode]error{
	wire.FaultBusy: ErrEmpty, wire.FaultCancelled: context.Canceled, wire.FaultClosed: ErrClosed, wire.FaultBroken: ErrBarrierBroken,
	wire.FaultMissing: ErrStaleHandle, wire.FaultGone: ErrHubGone, wire.FaultNotHeld: ErrNotHeld, wire.FaultNotOwner: ErrNotOwner,
	wire.FaultOverflow: ErrOverflow, wire.FaultMismatch: ErrMismatch, wire.FaultTooLong: ErrTooLong, wire.FaultType: ErrWrongType,
	wire.FaultNoMemory: ErrNoMemory, wire.FaultNoRoom: ErrNoMemory,
}

// caller is a member of a hub: in this process, or at the other end of a connection.
type caller interface {
	Call(ctx context.Context, r *wire.Request) (wire.Reply, error)
	Send(r *wire.Request) error
	// Memory makes a view of the hub's shared memory.
	Memory(ctx context.Context) (*memory.Memory, error)
}

// post is this process's access to one hub; it has one for each.
type post struct {
	// reach gives the member, and makes the connection if there is none.
	reach func(ctx context.Context) (caller, error)
	// announce makes sure that other processes find the hub at the address that it returns.
	announce func() (wire.Address, error)

	mu     sync.Mutex
	holds  map[string]hold // locks that this process has, by kind, name and owner
	blocks *blocks         // shared memory that is mapped here
}

// hold is one lock that this process has.
type hold struct {
	times     int
	abandoned bool
}

// hubOf makes a post a Hub, so that what comes from an object can be made beside it.
func (p *post) hubOf() (*post, error) { return p, nil }

func newPost(reach func(context.Context) (caller, error), announce func() (wire.Address, error)) *post {
	return &post{reach: reach, announce: announce, holds: make(map[string]hold), blocks: &blocks{}}
}

// ref is what all handles are made of.
type ref struct{ at *object }

// object is one shared object as this process knows it. It does not change.
type object struct {
	post *post
	kind string
	name string
	init int64  // what it is made with when it is first touched
	more string // what else its kind needs to know; no white space

	memory *mapped // of a Value or Array; else nil
}

// ObjectOption says more about an object that is made.
type ObjectOption func(*object)

// Named gives an object a name, under which other programs and shell commands find the same one in the hub
// of a [Manager]. Without it an object has a name of its own that nobody guesses.
// A name counts within its kind. What begins with # is refused by the commands.
func Named(name string) ObjectOption { return func(o *object) { o.name = name } }

// newHandle makes a handle; what is wrong with the hub shows when it is used.
func newHandle(h Hub, kind string, init int64, options []ObjectOption) ref {
	o := &object{kind: kind, init: init}
	for _, apply := range options {
		apply(o)
	}
	if o.name == "" {
		o.name = "#" + rand.Text()
	}
	err := errors.New("gpool: there is no hub: a Pool, a ThreadPool, an Executor, a Manager or HubOf is needed")
	var p *post
	if h != nil {
		p, err = h.hubOf()
	}
	if err != nil {
		p = newPost(
			func(context.Context) (caller, error) { return nil, err },
			func() (wire.Address, error) { return "", err })
	}
	o.post = p
	return ref{o}
}

// Name is the name of the object.
func (h ref) Name() string {
	if h.at == nil {
		return ""
	}
	return h.at.name
}

// Drop forgets the object and what it holds, wherever it is used: who waits for it is told [ErrHubGone]. If it is
// touched again a new one is made.
func (h ref) Drop() error {
	_, err := h.call(context.Background(), &wire.Request{Op: wire.Drop, Object: h.key()})
	if errors.Is(err, ErrStaleHandle) {
		return nil
	}
	return err
}

// key names the object as requests about others do.
func (h ref) key() string {
	if h.at == nil {
		return ""
	}
	return h.at.kind + "/" + h.at.name
}

// same makes a request about the object.
func (h ref) request(op wire.Op) *wire.Request {
	r := &wire.Request{Op: op}
	if h.at != nil {
		r.Object, r.Init = h.at.name, h.at.init
	}
	return r
}

// call asks the hub. Its refusal becomes one of the errors of this package.
func (h ref) call(ctx context.Context, r *wire.Request) (wire.Reply, error) {
	if h.at == nil {
		return wire.Reply{}, ErrNoHandle
	}
	c, err := h.at.post.reach(ctx)
	if err != nil {
		return wire.Reply{}, err
	}
	reply, err := c.Call(ctx, r)
	return reply, publicFault(r, err)
}

// publicFault turns a refusal into an error of this package.
func publicFault(r *wire.Request, err error) error {
	if err == nil {
		return nil
	}
	if fault, ok := errors.AsType[*wire.Fault](err); ok {
		if known := faultErrors[fault.Code]; known != nil {
			return &SharedError{Op: string(r.Op), Object: r.Object, Text: fault.Text, Err: known}
		}
		return fmt.Errorf("gpool: %s of %q: %w", r.Op, r.Object, err)
	}
	if errors.Is(err, wire.ErrGone) {
		return fmt.Errorf("%w: %w", ErrHubGone, err)
	}
	return err
}

// refused reports whether err is the hub's refusal of this kind.
func refused(err error, code wire.FaultCode) bool {
	shared, ok := errors.AsType[*SharedError](err)
	return ok && shared.Err == faultErrors[code]
}

// marshal writes a handle as a line of text: its kind, address, name, number and whatever its kind adds.
func (h ref) marshal() ([]byte, error) {
	if h.at == nil {
		return nil, nil
	}
	address, err := h.at.post.announce()
	if err != nil {
		return nil, fmt.Errorf("gpool: send a handle of the %s %q: %w", h.at.kind, h.at.name, err)
	}
	line := fmt.Sprintf("%s %s %s %d", h.at.kind, address, url.PathEscape(h.at.name), h.at.init)
	if h.at.more != "" {
		line += " " + h.at.more
	}
	return []byte(line), nil
}

// unmarshal reads a handle of one of some kinds.
func (h *ref) unmarshal(b []byte, kinds ...string) error {
	*h = ref{}
	if len(b) == 0 {
		return nil
	}
	words := strings.Split(string(b), " ")
	if len(words) < 4 || len(words) > 5 {
		return fmt.Errorf("%.40q is no handle", b)
	}
	o := &object{kind: words[0]}
	known := false
	for _, kind := range kinds {
		known = known || o.kind == kind
	}
	if !known {
		return fmt.Errorf("it is a handle of a %s, and one of a %s is wanted", o.kind, strings.Join(kinds, " or "))
	}
	address, err := wire.ParseAddress(words[1])
	if err != nil {
		return err
	}
	if o.name, err = url.PathUnescape(words[2]); err != nil {
		return fmt.Errorf("read the name of a %s: %w", o.kind, err)
	}
	if o.init, err = strconv.ParseInt(words[3], 10, 64); err != nil {
		return fmt.Errorf("read the number of a %s: %w", o.kind, err)
	}
	if len(words) == 5 {
		o.more = words[4]
	}
	o.post = postAt(address)
	h.at = o
	return nil
}

// owners are the tokens of WithOwner.
var owners atomic.Uint64

type ownerKey struct{}

// WithOwner makes a context whose reentrant locks are its own: those that are taken with it, or
// with a context made from it, count as taken by one owner. A task has such a context already, and so goroutines
// that it starts with it share its locks; give a goroutine one of its own if it must not. What has none shares one owner with all of its process.
func WithOwner(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownerKey{}, 1<<63|owners.Add(1))
}

// ownerOf is the owner of reentrant locks within this process.
func ownerOf(ctx context.Context) uint64 {
	if token, ok := ctx.Value(ownerKey{}).(uint64); ok {
		return token
	}
	if c, ok := worker.CallOf(ctx); ok {
		return c.Token()
	}
	return 0
}
