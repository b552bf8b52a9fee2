package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"gpool/internal/memory"
	"gpool/internal/pool/hub/wire"
)

func init() {
	makers["mem"] = func(h *Hub, r *wire.Request) object {
		return &block{hub: h, name: r.Object, users: make(map[*member]bool), senders: make(map[*member]bool), ghosts: make(map[int]bool)}
	}
}

// sharedMemory is where all blocks of a hub lie. It is made for the first of them, or for whoever
// asks for its file.
type sharedMemory struct {
	arena *memory.Arena
	limit int64
	// nameless are the blocks whose names were dropped while members had them, by those names, the
	// oldest first.
	nameless map[string][]*block
	// haunted are the blocks that a process may have mapped whose connection has ended.
	haunted map[*block]struct{}
}

// alive reports whether a process lives. It is the one thing that the hub asks the system.
var alive = func(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}

// LimitMemory says how many bytes of shared memory there can be; without it, or with 0, it is half
// of the machine's memory. It counts only before the first use.
func (h *Hub) LimitMemory(bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shared.limit = bytes
}

// SharedFile is the file of the shared memory, for memory.Open in this process, and for others to
// be sent. It is the hub's: End closes it.
func (h *Hub) SharedFile() (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, fmt.Errorf("open the shared memory: %w", os.ErrClosed)
	}
	arena, err := h.shared.open()
	if err != nil {
		return nil, err
	}
	return arena.File(), nil
}

func (s *sharedMemory) open() (*memory.Arena, error) {
	if s.arena != nil {
		return s.arena, nil
	}
	arena, err := memory.NewArena(s.limit)
	if err != nil {
		return nil, err
	}
	s.arena, s.nameless, s.haunted = arena, make(map[string][]*block), make(map[*block]struct{})
	return arena, nil
}

// close ends the memory and with it all blocks. What members have mapped stays until they unmap it.
func (s *sharedMemory) close() {
	if s.arena != nil {
		_ = s.arena.Close() // it has no name: nothing can be lost
		*s = sharedMemory{}
	}
}

// block is a piece of shared memory. It is freed, and forgotten, when nobody wants it any more: see
// wanted. Each request leaves it so, the one that makes it included.
type block struct {
	hub     *Hub
	name    string
	offset  int64 // 0 while there is no memory: its first request is yet to be done, or was refused
	length  int64
	letter  memory.Type
	users   map[*member]bool // that have it open; exactly these have touched it
	senders map[*member]bool // that have sent a handle to it, and nobody else has opened it since
	ghosts  map[int]bool     // processes that had it open when their connection ended, and may go on writing
	dropped bool             // it has lost its name
}

const wordBytes = 8

// wanted reports whether somebody may use the block. One that a person has named waits for whoever
// knows the name.
func (b *block) wanted() bool {
	named := b.offset != 0 && !b.dropped && !strings.HasPrefix(b.name, "#")
	return named || len(b.users) > 0 || len(b.senders) > 0 || len(b.ghosts) > 0
}

// reap frees the blocks whose last processes have ended meanwhile.
func (h *Hub) reap() {
	for b := range h.shared.haunted {
		maps.DeleteFunc(b.ghosts, func(pid int, _ bool) bool { return !alive(pid) })
		if len(b.ghosts) == 0 {
			delete(h.shared.haunted, b)
			b.settle()
		}
	}
}

func (b *block) do(a *ask) {
	switch a.Op {
	case wire.MemOpen:
		b.open(a)
	case wire.MemDrop:
		b.close(a)
	case wire.MemSent:
		b.sent(a)
	case wire.ValueLoad, wire.ValueStore, wire.ValueAdd, wire.ValueSwap:
		b.value(a)
	default:
		a.unknown()
	}
	if !b.users[a.member] {
		delete(a.member.touched, b)
	}
	b.settle()
}

// settle frees and forgets a block that nobody wants.
func (b *block) settle() {
	if b.wanted() {
		return
	}
	h, key := b.hub, "mem/"+b.name
	if h.objects[key] == object(b) {
		delete(h.objects, key)
	}
	if b.dropped {
		b.unlist()
	}
	if b.offset != 0 {
		h.shared.arena.Free(b.offset)
		b.offset = 0
	}
}

// unlist takes a block out of those without a name.
func (b *block) unlist() {
	list := b.hub.shared.nameless
	rest := slices.DeleteFunc(list[b.name], func(other *block) bool { return other == b })
	if len(rest) == 0 {
		delete(list, b.name)
		return
	}
	list[b.name] = rest
}

func (b *block) open(a *ask) {
	if len(a.Values) > 1 {
		a.refuse(wire.FaultRefused, "a block of shared memory begins with one value, and not with %d", len(a.Values))
		return
	}
	var first []byte
	if len(a.Values) == 1 {
		first = a.Values[0]
	}
	made, refusal := b.use(a, a.Init, first)
	if refusal != nil {
		a.answer(*refusal)
		return
	}
	a.answer(wire.Reply{N: b.offset, M: b.length, Flag: made})
}

// use has the member use the block, which is made if it must and may be. made says that it was.
func (b *block) use(a *ask, length int64, first []byte) (made bool, refusal *wire.Reply) {
	refusal = b.check(a, length, first)
	if refusal == nil && b.offset == 0 {
		made = true
		refusal = b.make(a, length, first)
	}
	if refusal != nil {
		return false, refusal
	}
	b.users[a.member] = true
	b.arrived(a)
	return made, nil
}

// arrived notes that a handle has arrived. What another member sent has; what this one sent has only if its handle has
// travelled (Hold) and nobody else has sent one: then it has come back to it.
func (b *block) arrived(a *ask) {
	others := 0
	for m := range b.senders {
		if m != a.member {
			delete(b.senders, m)
			others++
		}
	}
	if a.Hold && others == 0 {
		delete(b.senders, a.member)
	}
}

func (b *block) check(a *ask, length int64, first []byte) *wire.Reply {
	letter := memory.Type(a.M)
	switch {
	case length < 1 || int64(len(first)) > length:
		return refusal(wire.FaultRefused, "a block of shared memory cannot have %d bytes and begin with %d: it takes 1 at least", length, len(first))
	case int64(letter) != a.M || !letter.Valid():
		return refusal(wire.FaultRefused, "shared memory cannot have elements of type %d: it takes the number of one of the letters bBhHiIlLqQfd?", a.M)
	case b.offset == 0 && !a.Flag:
		return refusal(wire.FaultMissing, "there is no shared memory %q: it was never made, or nobody had it open any more", b.name)
	case b.offset != 0 && (b.length != length || b.letter != letter):
		return refusal(wire.FaultMismatch, "the shared memory %q is %d bytes of type %v, and not %d of type %v", b.name, b.length, b.letter, length, letter)
	}
	return nil
}

func refusal(code wire.FaultCode, format string, args ...any) *wire.Reply {
	r := wire.Refuse(code, format, args...)
	return &r
}

// make takes memory. What fails leaves the block without.
func (b *block) make(a *ask, length int64, first []byte) *wire.Reply {
	b.hub.reap()
	arena, err := b.hub.shared.open()
	if err != nil {
		return refusal(wire.FaultNoRoom, "%v", err)
	}
	offset, err := arena.Alloc(length, first)
	switch {
	case errors.Is(err, memory.ErrNoRoom):
		return refusal(wire.FaultNoRoom, "%v: make %q smaller, drop others, or allow more", err, b.name)
	case err != nil:
		return refusal(wire.FaultNoRoom, "%v", err)
	}
	b.offset, b.length, b.letter = offset, length, memory.Type(a.M)
	return nil
}

// close ends a member's use: of the block with the offset N, or, if that is 0, of the oldest of
// this name that it has. To have none is no mistake: the block may be gone for another reason.
func (b *block) close(a *ask) {
	for _, c := range append(slices.Clone(b.hub.shared.nameless[b.name]), b) {
		if c.users[a.member] && (a.N == 0 || a.N == c.offset) {
			delete(a.member.touched, c)
			c.leave(a.member)
			break
		}
	}
	a.answer(wire.Reply{})
}

func (b *block) sent(a *ask) {
	if b.offset == 0 {
		a.refuse(wire.FaultMissing, "there is no shared memory %q that could be sent", b.name)
		return
	}
	if !b.users[a.member] { // it passes on what was sent to it, and has not looked at it
		clear(b.senders)
	}
	b.senders[a.member] = true
	a.answer(wire.Reply{})
}

// value does what the kind value can do. Who does it has the block open, as if it had mapped it.
func (b *block) value(a *ask) {
	args, ok := words(a)
	if !ok {
		a.refuse(wire.FaultRefused, "the values of %s are not words of %d bytes, or not as many as it takes", a.Op, wordBytes)
		return
	}
	if _, refusal := b.use(a, wordBytes, nil); refusal != nil {
		a.answer(*refusal)
		return
	}
	view, err := b.hub.shared.arena.Map(b.offset, b.length)
	if err != nil {
		a.refuse(wire.FaultNoMemory, "%v", err)
		return
	}
	defer view.Unmap()
	w, letter := view.Word(0), b.letter
	switch a.Op {
	case wire.ValueLoad:
		a.answer(wire.Reply{Values: encodeWord(letter.Load(w))})
	case wire.ValueStore:
		letter.Store(w, args[0])
		a.answer(wire.Reply{})
	case wire.ValueAdd:
		a.answer(wire.Reply{Values: encodeWord(letter.Add(w, args[0]))})
	case wire.ValueSwap:
		done := letter.CompareAndSwap(w, args[0], args[1])
		a.answer(wire.Reply{Flag: done, Values: encodeWord(letter.Load(w))})
	}
}

// wordsOf says how many words an operation takes.
var wordsOf = map[wire.Op]int{wire.ValueStore: 1, wire.ValueAdd: 1, wire.ValueSwap: 2}

// words reads the words that a request brings; ok is unset if there are more or fewer than its Op takes.
func words(a *ask) (list []uint64, ok bool) {
	for _, v := range a.Values {
		if len(v) != wordBytes || len(list) == wordsOf[a.Op] {
			return nil, false
		}
		list = append(list, binary.NativeEndian.Uint64(v))
	}
	return list, len(list) == wordsOf[a.Op]
}

func encodeWord(w uint64) [][]byte { return [][]byte{binary.NativeEndian.AppendUint64(nil, w)} }

func (b *block) cancel(a *ask) { a.cancelled() } // nothing waits here

func (b *block) leave(m *member) {
	if m.left && b.users[m] && m.who.Pid > 0 && m.who.UID >= 0 && alive(m.who.Pid) {
		b.ghosts[m.who.Pid] = true
		b.hub.shared.haunted[b] = struct{}{}
	}
	delete(b.users, m)
	b.settle()
}

// drop takes the block's name away. Its memory stays for those who have it mapped.
func (b *block) drop() {
	if b.hub.ended { // and with it all of the memory
		return
	}
	b.dropped = true
	clear(b.senders) // no handle that is on its way can be opened
	if len(b.users) > 0 {
		list := b.hub.shared.nameless
		list[b.name] = append(list[b.name], b)
	}
	for m := range b.users {
		m.touched[b] = struct{}{}
	}
	b.settle()
}

func (b *block) describe(o *wire.Object) {
	o.State = fmt.Sprintf("%d bytes of type %v", b.length, b.letter)
	if len(b.senders) > 0 {
		o.State += ", sent"
	}
	for m := range b.users {
		o.Holders = append(o.Holders, m.who.String())
	}
	slices.Sort(o.Holders)
	o.Bytes = b.length
}

// idle: what a program named is lost with the program's handles, what a person named is kept.
func (b *block) idle() bool { return strings.HasPrefix(b.name, "#") }
