package wire

import "fmt"

// Op is what a request wants done. It begins with the kind of object that it is about, and a
// name counts within its kind: a lock and a queue may have the same one.
type Op string

// Kind is the kind of object that an operation is about.
func (o Op) Kind() string {
	for i := range len(o) {
		if o[i] == '.' {
			return string(o[:i])
		}
	}
	return string(o)
}

// The operations. Objects are made when they are first touched, with what the request says in
// Init, and live as long as the hub, or until Drop. After each operation: the fields of the
// request that it reads besides Object, and those of the reply that it sets. "Waits" means: for
// as long as Wait is set; without Wait it answers with FaultBusy in place of waiting.
const (
	// Lock. A lock belongs to the member (the process) that has it, and, if it is reentrant, to
	// an Owner within it. The lock of a member that ends is released; whoever gets it next is told.

	LockAcquire Op = "lock.acquire" // waits. -> Flag: its last holder died holding it
	LockRelease Op = "lock.release" // by any member. FaultNotHeld if nobody has it; with Hold, if this member has it not
	LockState   Op = "lock.state"   // -> Flag: somebody has it; Text: who; N: how many wait

	RLockAcquire Op = "rlock.acquire" // Owner; waits. -> N: how often its owner has it now; Flag: as above
	RLockRelease Op = "rlock.release" // Owner (Hold changes nothing). -> N: how often it still has it. FaultNotHeld, FaultNotOwner
	RLockState   Op = "rlock.state"   // Owner -> Flag, Text, N as of a lock; M: how often Owner has it

	// Sem is a semaphore that begins with Init units. N is units, of which there are 1 or more; they
	// are granted in the order of the requests. With Hold the units are the member's: it must
	// release them with Hold, and they come back by themselves when it ends.
	// A BSem (bounded) refuses to have more units than Init: FaultOverflow.

	SemAcquire  Op = "sem.acquire" // Init, N, Hold; waits. -> Flag: units came back from a member that died holding them, since the last acquire
	SemRelease  Op = "sem.release" // Init, N, Hold. FaultNotHeld if Hold is set and the member holds fewer
	SemState    Op = "sem.state"   // Init -> N: units that are free; M: how many wait; Text: who holds some
	BSemAcquire Op = "bsem.acquire"
	BSemRelease Op = "bsem.release"
	BSemState   Op = "bsem.state"

	// Cond is a condition; With names its lock, "lock/NAME" or "rlock/NAME", which the member
	// (and Owner, of an rlock) must have: FaultNotHeld. Wait gives the lock up, all levels of it, and answers
	// when it has it again, on the same level. A wait that is cancelled answers also only then,
	// with Flag unset and no fault.

	CondWait   Op = "cond.wait"   // With, Owner; waits always. -> Flag: it was notified; M: 1 if the lock was abandoned
	CondNotify Op = "cond.notify" // With, Owner, N: how many, 0 for all. -> N: how many were woken

	EventSet   Op = "event.set"
	EventClear Op = "event.clear"
	EventState Op = "event.state" // -> Flag: it is set; N: how many wait
	EventWait  Op = "event.wait"  // waits

	// Barrier lets Init members (or parts of one) pass together. With Action, the last to arrive is
	// answered first, with Flag set: it runs its action and then says Pass (or Abort), on which
	// the others are answered. A party that is cancelled, or whose member ends, while it waits or runs the
	// action breaks the barrier: all that wait are answered with FaultBroken, and so is who comes, until Reset.

	BarrierWait  Op = "barrier.wait" // Init, Action; waits. -> N: 0 to Init-1, each once a round; Flag: run the action
	BarrierPass  Op = "barrier.pass"
	BarrierAbort Op = "barrier.abort" // breaks it
	BarrierReset Op = "barrier.reset" // those that wait are answered with FaultBroken; then it is whole
	BarrierState Op = "barrier.state" // Init -> N: how many wait; Flag: it is broken; M: parties

	// Queue is first in, first out, with room for Init items, 0 for any number. An item is taken once.
	// With Hold, a get keeps what it took for the member: Done drops the oldest of these, and what a member has that ends
	// goes back to the front, in order.

	QueuePut   Op = "queue.put"   // Init, Values: one or more; waits. -> N: how many were put, also with a fault. FaultClosed
	QueueGet   Op = "queue.get"   // Init, N: how many at most, 0 is 1; Hold; waits for one. -> Values. FaultClosed when it is closed and empty
	QueueUnget Op = "queue.unget" // Values: to the front, whatever the room: what a member got and cannot use. Not counted for Join
	QueueState Op = "queue.state" // Init -> N: items; M: unfinished, those put and not done; Flag: it is closed
	QueueClose Op = "queue.close" // nothing can be put any more; who waits to put is answered with FaultClosed. Twice is fine
	QueueDone  Op = "queue.done"  // N items are done, 0 is 1. FaultOverflow if fewer are unfinished
	QueueJoin  Op = "queue.join"  // waits until none is unfinished

	// Pipe has two sides, 0 and 1; Side is that of who asks. Messages of one side wait for the other, up
	// to Init bytes (0 is 1 MiB; one that is longer goes alone). A side is closed by Close, and when the last member that
	// has used it ends.

	PipeSend  Op = "pipe.send"  // Init, Side, Values: one; waits. FaultBroken if the other side is closed, FaultClosed if this one is
	PipeRecv  Op = "pipe.recv"  // Init, Side, N: the longest message in bytes, 0 for any; waits. -> Values: one. FaultClosed: this side is; FaultEnd: the other is, and nothing is left; FaultTooLong, with N how long, which leaves it there
	PipePoll  Op = "pipe.poll"  // Init, Side; waits. -> nothing: a recv would not wait (a message, or an end)
	PipeClose Op = "pipe.close" // Side

	// Dict maps keys to values, both opaque, except where arithmetic is done: there a value is a
	// msgpack number. It keeps the order in which keys were first set. Namespace is a Dict of the kind "space".

	DictGet        Op = "dict.get"         // Key -> Values: one. FaultMissing
	DictSet        Op = "dict.set"         // Key, Values: one
	DictSetDefault Op = "dict.set-default" // Key, Values: one -> Values: what it has now; Flag: that was set by this
	DictDelete     Op = "dict.delete"      // Key. FaultMissing
	DictPop        Op = "dict.pop"         // Key -> Values: the value. FaultMissing
	DictPopItem    Op = "dict.pop-item"    // -> Values: the last key and its value. FaultMissing
	DictIncr       Op = "dict.incr"        // Key, Values: by how much, a number -> Values: the new number; a key that is missing counts as 0. FaultType, FaultOverflow
	DictAppend     Op = "dict.append"      // Key, Values: elements to add to the value, which is a msgpack array (missing is empty) -> N: its length. FaultType
	DictSwap       Op = "dict.swap"        // Key, Values: old, new; an empty one stands for no value -> Flag: it had old, and has new; Values: what it has now, if anything
	DictUpdate     Op = "dict.update"      // Values: key, value, key, value...
	DictClear      Op = "dict.clear"
	DictLen        Op = "dict.len"   // -> N
	DictItems      Op = "dict.items" // -> Values: key, value, key, value..., all of one moment
	SpaceGet       Op = "space.get"
	SpaceSet       Op = "space.set"
	SpaceDelete    Op = "space.delete"
	SpaceItems     Op = "space.items"

	// List. An index below 0 counts from the end; one that is out of range is FaultMissing.

	ListAppend Op = "list.append" // Values -> N: its length now
	ListGet    Op = "list.get"    // N: index -> Values: one
	ListSet    Op = "list.set"    // N, Values: one
	ListInsert Op = "list.insert" // N: before which index (as Python's insert, which never fails), Values: one
	ListPop    Op = "list.pop"    // N: index -> Values: one
	ListSlice  Op = "list.slice"  // N, M: from and to, as a slice of Python's with both given; -> Values
	ListLen    Op = "list.len"    // -> N
	ListClear  Op = "list.clear"
	ListSwap   Op = "list.swap" // N, Values: old, new -> Flag: done; Values: what it has now
	ListIncr   Op = "list.incr" // N, Values: by how much -> Values: the new number

	// Mem is a block of the hub's shared memory, of Init bytes; M is the Type of its elements, and what a
	// block has been made with it must be opened with: FaultMismatch. It is freed when no member has it open, unless it was Sent and
	// nobody has opened it since.

	MemOpen Op = "mem.open" // Init, M; Hold: the handle has travelled; Flag: make it if it is not there (else FaultMissing); Values: its first bytes when it is made, or none -> N: offset in the file, M: its length; Flag: it was made
	MemDrop Op = "mem.drop" // N: its offset, or 0: this member has no handle to it any more
	MemSent Op = "mem.sent" // a handle to it has been put into a message
	MemFile Op = "mem.file" // -> the file of the memory, beside the reply. FaultNoMemory where it cannot travel
	// Value is the same block for those who cannot map it: one word, as Type says.
	ValueLoad  Op = "value.load"  // M: type; Init: 8 -> Values: the 8 bytes. FaultMissing unless Flag (make it)
	ValueStore Op = "value.store" // M, Flag, Values: 8 bytes
	ValueAdd   Op = "value.add"   // M, Flag, Values: 8 bytes -> Values: the new ones
	ValueSwap  Op = "value.swap"  // M, Flag, Values: old, new -> Flag: done; Values: what it has now

	// Drop forgets an object, whatever it holds; who waits for it is answered with FaultGone. Object is "KIND/NAME".
	Drop Op = "hub.drop"
	// Describe lists the objects: Values, each an encoded Object of this package.
	Describe Op = "hub.describe"
)

// Type is the type of the elements of a Mem: the letter that Python's array module has for it.
// A Value is one word of 8 bytes in the byte order of the machine: whole numbers extended to 64 bits with their sign, floats as bits of a
// float64 ('f': of the float32, in the lower half).
type Type = int64

// Request is what a member asks of a hub. Which fields count says the Op.
type Request struct {
	Op     Op
	Object string // its name; what begins with # was named by a program
	Wait   bool
	Hold   bool
	Flag   bool
	Action bool
	Side   uint8
	Owner  uint64 // who within the member
	Init   int64
	N, M   int64
	With   string
	Key    []byte
	Values [][]byte
}

// Reply is the answer. Fault is empty if the request was done.
type Reply struct {
	Fault  FaultCode
	Text   string // with a fault: a sentence that says what is wrong
	Flag   bool
	N, M   int64
	Values [][]byte
}

// FaultCode tells why a request was not done.
type FaultCode string

// The faults.
const (
	FaultBusy      FaultCode = "busy"      // it would have had to wait
	FaultCancelled FaultCode = "cancelled" // it was given up while it waited
	FaultClosed    FaultCode = "closed"
	FaultEnd       FaultCode = "end"    // of a pipe
	FaultBroken    FaultCode = "broken" // barrier, pipe
	FaultMissing   FaultCode = "missing"
	FaultGone      FaultCode = "gone" // the object was dropped, or the hub has ended
	FaultNotHeld   FaultCode = "not held"
	FaultNotOwner  FaultCode = "not owner"
	FaultOverflow  FaultCode = "overflow"
	FaultType      FaultCode = "type"     // a value is not what the operation works on
	FaultMismatch  FaultCode = "mismatch" // the object was made otherwise
	FaultTooLong   FaultCode = "too long"
	FaultNoMemory  FaultCode = "no memory" // shared memory cannot be had here
	FaultNoRoom    FaultCode = "no room"   // there is no more of it
	FaultRefused   FaultCode = "refused"   // the request is none
)

// Fault is a refusal as an error.
type Fault struct {
	Code FaultCode
	Text string
	N    int64 // as in the reply
}

func (f *Fault) Error() string { return f.Text }

// Err is the fault of a reply, or nil.
func (r *Reply) Err() error {
	if r.Fault == "" {
		return nil
	}
	return &Fault{Code: r.Fault, Text: r.Text, N: r.N}
}

// Refuse makes a reply with a fault.
func Refuse(code FaultCode, format string, args ...any) Reply {
	return Reply{Fault: code, Text: fmt.Sprintf(format, args...)}
}

// Object describes one object of a hub, for people who look for what blocks their program.
type Object struct {
	Kind, Name string
	State      string   // in words: "held by pid 12 (make)", "3 items, closed"
	Holders    []string // who has it, or a part of it
	Waiting    []string // who waits for it, first come first
	Bytes      int64    // of what it keeps, about
}

// Peer says who a member is.
type Peer struct {
	Pid  int    // 0 if that is not known
	UID  int    // -1 if that is not known
	From string // for people: a network address, or what the process called itself
}

func (p Peer) String() string {
	switch {
	case p.Pid > 0 && p.From != "":
		return fmt.Sprintf("pid %d (%s)", p.Pid, p.From)
	case p.Pid > 0:
		return fmt.Sprintf("pid %d", p.Pid)
	}
	return p.From
}

// Hub is a hub as a connection sees it. Join may be called from any goroutine.
type Hub interface{ Join(who Peer) Member }

// Member is one process that uses a hub. Its methods may be called from any goroutine and never
// wait. Leave ends it: everything that it held is given back, what it waited for is
// given up, and no done is called after Leave has returned... of requests that still waited.
type Member interface {
	// Do does a request. done is called exactly once, by Do itself or later by whoever makes it
	// possible; it must not wait. The id, which is not that of a request that is open, is for Cancel. What r refers to is kept.
	Do(id uint64, r *Request, done func(Reply))
	// Cancel gives up a request that waits; it is then answered with FaultCancelled, except where its Op says otherwise. One that was
	// answered is not touched.
	Cancel(id uint64)
	Leave()
}
