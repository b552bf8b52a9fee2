package gpool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"gpool/internal/memory"
	"gpool/internal/pool/hub"
	"gpool/internal/pool/hub/wire"
	"gpool/internal/worker"
)

// host is a hub in this process, with the door by which other processes come in. The door is
// opened when the first handle leaves.
type host struct {
	post *post
	hub  *hub.Hub

	mu      sync.Mutex
	server  *wire.Server // nil while the door is closed
	served  chan struct{}
	address wire.Address
	closed  bool
}

// newHost makes a hub that lives as long as somebody refers to it.
func newHost() *host {
	h := &host{hub: hub.New()}
	member := &localMember{hub: h.hub, member: h.hub.Join(wire.Peer{Pid: os.Getpid(), UID: os.Geteuid(), From: program()})}
	h.post = newPost(func(context.Context) (caller, error) { return member, nil }, h.open)
	end := func(b *blocks) {
		member.hub.End()
		b.close()
	}
	runtime.AddCleanup(h.post, end, h.post.blocks) // of a pool that was closed and joined nobody ends it before
	return h
}

// open opens the door, and says where it is.
func (h *host) open() (wire.Address, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.address != "" {
		return h.address, nil
	}
	if h.closed {
		return "", ErrHubGone
	}
	address, err := wire.Fresh()
	if err != nil {
		return "", err
	}
	return address, h.listen(address, nil)
}

// listen is called under the lock.
func (h *host) listen(address wire.Address, key wire.Key) error {
	if err := key.Usable(address.Local()); err != nil {
		return err
	}
	l, err := wire.Listen(address)
	if err != nil {
		return err
	}
	h.address = address.Bound(l)
	h.server = &wire.Server{Hub: h.hub, Key: key, Memory: h.hub.SharedFile}
	h.served = make(chan struct{})
	addPost(h.address, h.post)
	server, served := h.server, h.served
	go func() { // ends with shut
		defer close(served)
		_ = server.Serve(l)
		runtime.KeepAlive(h) // the hub lives as long as its door is open, whoever refers to it
	}()
	return nil
}

// shut closes the door: the members of other processes end. Here the hub can still be used.
func (h *host) shut() {
	h.mu.Lock()
	server, served := h.server, h.served
	h.server, h.closed = nil, true
	h.mu.Unlock()
	removePost(h.address, h.post)
	if server != nil {
		server.Close()
		<-served
	}
}

// end refuses whatever waits and comes, here too.
func (h *host) end() {
	h.hub.End()
	h.post.blocks.close()
	h.shut()
}

// program says what this process calls itself.
func program() string {
	name := os.Args[0]
	return name[strings.LastIndexByte(name, '/')+1:]
}

// localMember uses a hub of this process.
type localMember struct {
	hub    *hub.Hub
	member wire.Member
	last   atomic.Uint64
}

func (m *localMember) Call(ctx context.Context, r *wire.Request) (wire.Reply, error) {
	if r.Wait && ctx.Err() != nil {
		return wire.Reply{}, context.Cause(ctx)
	}
	id := m.last.Add(1)
	replyC := make(chan wire.Reply, 1)
	m.member.Do(id, r, func(reply wire.Reply) { replyC <- reply })
	var reply wire.Reply
	select {
	case reply = <-replyC:
	case <-ctx.Done():
		m.member.Cancel(id)
		reply = <-replyC
	}
	if reply.Fault == wire.FaultCancelled && ctx.Err() != nil {
		return reply, context.Cause(ctx)
	}
	return reply, reply.Err()
}

func (m *localMember) Send(r *wire.Request) error {
	m.member.Do(m.last.Add(1), r, func(wire.Reply) {})
	return nil
}

func (m *localMember) Memory(context.Context) (*memory.Memory, error) {
	file, err := m.hub.SharedFile()
	if err != nil {
		return nil, err
	}
	return memory.Open(file)
}

// farMember uses a hub of another process.
type farMember struct{ *wire.Link }

func (m farMember) Memory(ctx context.Context) (*memory.Memory, error) {
	file, err := m.File(ctx)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return memory.Open(file)
}

// posts are the hubs that this process knows, by their addresses. Those of its own are kept by who uses them.
var posts = struct {
	sync.Mutex
	own  map[wire.Address]weak.Pointer[post]
	far  map[wire.Address]*farPost
	keys map[wire.Address]wire.Key
}{own: make(map[wire.Address]weak.Pointer[post]), far: make(map[wire.Address]*farPost), keys: make(map[wire.Address]wire.Key)}

func addPost(address wire.Address, p *post) {
	posts.Lock()
	defer posts.Unlock()
	posts.own[address] = weak.Make(p)
	runtime.AddCleanup(p, func(address wire.Address) {
		posts.Lock()
		defer posts.Unlock()
		if posts.own[address].Value() == nil {
			delete(posts.own, address)
		}
	}, address)
}

// removePost forgets a hub of this process, of which handles know by themselves: somebody else may serve there now.
func removePost(address wire.Address, p *post) {
	posts.Lock()
	defer posts.Unlock()
	if posts.own[address].Value() == p {
		delete(posts.own, address)
	}
}

// postAt is this process's access to the hub at an address.
func postAt(address wire.Address) *post {
	posts.Lock()
	defer posts.Unlock()
	if p := posts.own[address].Value(); p != nil {
		return p
	}
	far := posts.far[address]
	if far == nil {
		far = &farPost{address: address}
		far.post = newPost(far.reach, func() (wire.Address, error) { return address, nil })
		posts.far[address] = far
	}
	return far.post
}

// farPost reaches a hub of another process, by one connection.
type farPost struct {
	post    *post
	address wire.Address

	mu   sync.Mutex
	link *wire.Link // nil before the first use
	dial *dialing   // under way; or nil
}

// dialing is the making of a connection, for which all wait who want one.
type dialing struct {
	doneC chan struct{}
	err   error // read after doneC
}

// dialTime bounds the making of a connection.
const dialTime = 10 * time.Second

// reach returns the connection, and makes a new one if it has ended: what this process had is lost then.
func (f *farPost) reach(ctx context.Context) (caller, error) {
	for {
		link, d := f.current()
		if link != nil {
			return farMember{link}, nil
		}
		if err := await(ctx, d.doneC); err != nil {
			return nil, err
		}
		if d.err != nil {
			return nil, d.err
		}
	}
}

// current is the connection, if there is one; else it is being made.
func (f *farPost) current() (*wire.Link, *dialing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.link != nil {
		select {
		case <-f.link.Done():
			f.forget()
		default:
			return f.link, nil
		}
	}
	if f.dial == nil {
		f.dial = &dialing{doneC: make(chan struct{})}
		go f.make(f.dial) // ends within dialTime
	}
	return nil, f.dial
}

// make makes the connection.
func (f *farPost) make(d *dialing) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	key, err := keyOf(ctx, f.address)
	var link *wire.Link
	if err == nil {
		link, err = f.connect(ctx, key)
	}
	if errors.Is(err, wire.ErrKey) || errors.Is(err, wire.ErrKeyNeeded) {
		unlearnKey(f.address) // our parent may know a newer one
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dial = nil
	if err == nil {
		f.take(link)
	}
	d.err = err
	close(d.doneC)
}

// take is called under the lock. When the connection ends, what was had by it is lost.
func (f *farPost) take(link *wire.Link) {
	f.link = link
	go func() { // ends with the connection
		<-link.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.link == link {
			f.forget()
		}
	}()
}

func (f *farPost) connect(ctx context.Context, key wire.Key) (*wire.Link, error) {
	link, err := wire.Dial(ctx, f.address, key)
	if err != nil {
		return nil, fmt.Errorf("gpool: reach the hub at %s: %w", f.address, goneIfUnreachable(err))
	}
	return link, nil
}

// dialWith makes sure that the hub accepts a key, and remembers it.
func (f *farPost) dialWith(ctx context.Context, key wire.Key) error {
	link, err := f.connect(ctx, key)
	if err != nil {
		return err
	}
	learnKey(f.address, key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.link != nil { // it has one, of the same key
		return link.Close()
	}
	f.take(link)
	return nil
}

// forget is called under the lock, when the connection has ended.
func (f *farPost) forget() {
	f.link = nil
	f.post.blocks.lose()
	f.post.mu.Lock()
	defer f.post.mu.Unlock()
	clear(f.post.holds)
}

// close ends the connection.
func (f *farPost) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.link != nil {
		_ = f.link.Close()
		f.forget()
	}
}

// goneIfUnreachable says so of a hub that nobody answers for.
func goneIfUnreachable(err error) error {
	if errors.Is(err, wire.ErrNoHub) {
		return fmt.Errorf("%w: %w", ErrHubGone, err)
	}
	return err
}

// keyOf finds the key of a hub: this process was told, or its parent was.
func keyOf(ctx context.Context, address wire.Address) (wire.Key, error) {
	posts.Lock()
	key, known := posts.keys[address]
	posts.Unlock()
	if c := someCall.Load(); !known && c != nil {
		answer, err := c.Ask(ctx, askKey, []byte(address))
		if err != nil {
			return nil, fmt.Errorf("gpool: ask the parent process for the key of the hub at %s: %w", address, err)
		}
		if len(answer) == 0 { // it may know one later
			return nil, nil
		}
		key = answer
		learnKey(address, key)
	}
	return key, nil
}

func learnKey(address wire.Address, key wire.Key) {
	posts.Lock()
	defer posts.Unlock()
	posts.keys[address] = key
}

// unlearnKey forgets a key that a worker has from its parent.
func unlearnKey(address wire.Address) {
	if someCall.Load() == nil {
		return
	}
	posts.Lock()
	defer posts.Unlock()
	delete(posts.keys, address)
}

// knownKeys are the keys that this process has.
func knownKeys() map[wire.Address]wire.Key {
	posts.Lock()
	defer posts.Unlock()
	known := maps.Clone(posts.keys)
	maps.DeleteFunc(known, func(_ wire.Address, key wire.Key) bool { return key == nil })
	return known
}

// someCall is any call of this worker: by it the parent can be asked.
var someCall atomic.Pointer[worker.Call]

// The questions of a worker to its pool.
const (
	askHub = "hub" // -> the address of the pool's hub
	askKey = "key" // address -> the key of the hub there, empty if there is none
)

// answerWorker answers the questions of workers.
func (e *engine) answerWorker(ctx context.Context, _ int, question string, payload []byte) ([]byte, error) {
	switch question {
	case askHub:
		p, err := e.hubOf()
		if err != nil {
			return nil, err
		}
		address, err := p.announce()
		return []byte(address), err
	case askKey:
		return keyOf(ctx, wire.Address(payload))
	}
	return nil, fmt.Errorf("nobody answers questions of kind %q here", question)
}

// hubOf is the hub of a pool, which is made when it is first asked for.
func (e *engine) hubOf() (*post, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.host == nil {
		if e.state == terminated {
			return nil, fmt.Errorf("%w: %w", ErrHubGone, ErrTerminated)
		}
		e.host = newHost()
	}
	return e.host.post, nil
}

// shutHub closes the door of the hub, if there is one.
func (e *engine) shutHub() {
	e.mu.Lock()
	h := e.host
	e.mu.Unlock()
	if h != nil {
		h.shut()
	}
}

// endHub ends it, in this process too.
func (e *engine) endHub() {
	e.mu.Lock()
	h := e.host
	e.mu.Unlock()
	if h != nil {
		h.end()
	}
}

func (p *Pool) hubOf() (*post, error)       { return p.engine.hubOf() }
func (p *ThreadPool) hubOf() (*post, error) { return p.engine.hubOf() }
func (x *Executor) hubOf() (*post, error)   { return x.engine.hubOf() }

// HubOf is, in a task, the hub of the pool that runs it: what is made there lives as long as that pool.
func HubOf(ctx context.Context) Hub { return taskHub{ctx} }

type taskHub struct{ ctx context.Context }

var errNoTask = errors.New("gpool: HubOf: the context is not that of a task which a pool runs")

func (t taskHub) hubOf() (*post, error) {
	c, ok := worker.CallOf(t.ctx)
	if !ok {
		return nil, errNoTask
	}
	answer, err := c.Ask(t.ctx, askHub, nil)
	if err != nil {
		return nil, fmt.Errorf("gpool: ask the pool for its hub: %w", err)
	}
	address, err := wire.ParseAddress(string(answer))
	if err != nil {
		return nil, err
	}
	return postAt(address), nil
}

// escape and splitKey carry the key of another object in a handle.
func escape(key string) string { return url.PathEscape(key) }

func splitKey(escaped string) (kind, name string) {
	key, _ := url.PathUnescape(escaped)
	kind, name, _ = strings.Cut(key, "/")
	return kind, name
}
