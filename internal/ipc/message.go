package ipc

import (
	"errors"
	"fmt"
)

// Version is the version of the protocol, in the hello. A change that an older
// peer would misread raises it; new optional kinds and elements added at the end
// of an array do not.
const Version = 1

// Kind says what a frame is: the first element of its array.
type Kind uint64

// Kinds that every peer must know. An unknown kind below FirstOptional ends the
// connection.
const (
	KindHello  Kind = 1  // worker: I am here, this is what I am
	KindInit   Kind = 2  // parent: your slot, and what to do before the first call
	KindRun    Kind = 3  // parent: a chunk of calls
	KindResult Kind = 4  // worker: results of consecutive calls
	KindOutput Kind = 5  // worker: bytes that the running call printed
	KindCancel Kind = 6  // either side: give up a call, or a question
	KindCall   Kind = 7  // either side: a question
	KindReply  Kind = 8  // the other side: its answer
	KindBye    Kind = 9  // parent: finish what you have and leave
	KindPart   Kind = 10 // either side: a piece of a message too large for a frame
)

// FirstOptional is the first of the kinds that a peer may skip when it does not
// know them. Whoever sends one must come to no harm if it is not answered.
const FirstOptional Kind = 32

const (
	KindCredit   Kind = 32 // parent: so many bytes of output have been taken away
	KindRecall   Kind = 33 // parent: give back what has not begun
	KindReturned Kind = 34 // worker: these calls will not be begun here
	KindSuspend  Kind = 35 // parent: stop what you run (1), or let it go on (0)
)

// MaxCalls is how many calls a run frame, and how many outcomes a result frame, may
// hold: in memory they take many times the byte that they may take in a frame.
const MaxCalls = 1 << 20

// Stream tells the two output streams of a call apart.
type Stream uint8

// The streams, by their descriptors.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Code says why a call has no value. It travels in results.
type Code uint8

// The codes. Zero is success, and does not travel.
const (
	OK        Code = 0
	Failed    Code = 1 // the task returned an error, the command exited with another code than 0
	Panicked  Code = 2 // the task panicked
	Cancelled Code = 3 // the call was given up while it ran
	NotRun    Code = 4 // the worker could not begin the call: unknown task, program not found
	TimedOut  Code = 5 // the call was cancelled because its time limit had passed
)

// The reasons of a cancel, its second number. A reason that is not known counts as
// ReasonGivenUp.
const (
	ReasonGivenUp   = 0 // nobody wants the result any more
	ReasonTimeLimit = 1 // the call has run for longer than it may
)

// Outcome is how one call ended: a value, or a code with a message. Data belongs
// to the task: the exec task puts an exit status there, others an encoded error.
type Outcome struct {
	Code    Code
	Message string
	Data    []byte // the value if Code is OK
}

// Hello is the first frame of a worker.
type Hello struct {
	Version uint64
	Build   string   // see BuildID; empty when the worker has none
	Pid     int      // on the worker's own machine
	Tasks   []string // names of the tasks that it can run

	// Signatures say how the arguments and the result of each task look, in words of
	// the worker's language. Empty, or one for each of Tasks.
	Signatures []string
}

// Init is the first frame to a worker. If Task is not empty it is run before any
// call, as call 0, and answered with a result. If FinalTask is not empty it is run
// once, with FinalCommon, when the worker leaves in order; nobody is told how it ended.
type Init struct {
	Slot        int // from 1
	Task        string
	Common      []byte
	FinalTask   string
	FinalCommon []byte
}

// Run is a chunk: consecutive calls of one job. The call at index i has the id
// ID+i, and the sequence number Seq+i in its job.
type Run struct {
	ID       uint64
	Task     string
	Payloads [][]byte
	Common   []byte // what all calls of the job share, opaque like the payloads
	Seq      uint64
	Attempt  int // from 1
}

// Result carries the outcomes of consecutive calls, the first of which has the
// given id. Start (Unix time) and Elapsed, both in nanoseconds, span them all.
type Result struct {
	ID       uint64
	Outcomes []Outcome
	Start    int64
	Elapsed  int64
}

// Output carries bytes that call ID printed.
type Output struct {
	ID     uint64
	Stream Stream
	Data   []byte
}

// Numbers is the shape of the small messages: cancel (id, signal, reason), credit
// (id, bytes), recall (first id), returned (first id, count), suspend (0, on or off)
// and bye. M is not written if it is 0.
type Numbers struct {
	ID uint64
	N  uint64
	M  uint64
}

// Question is a call frame: one side asks the other to run a method.
type Question struct {
	ID      uint64
	Method  string
	Payload []byte
}

// Answer is the reply to a question; Message is not empty if it failed.
type Answer struct {
	ID      uint64
	Payload []byte
	Message string
}

func (e *Encoder) envelope(k Kind, id uint64, n int) {
	e.Array(2 + n)
	e.Uint(uint64(k))
	e.Uint(id)
}

// Hello writes a hello.
func (e *Encoder) Hello(m Hello) {
	if len(m.Signatures) > 0 {
		e.envelope(KindHello, 0, 5)
	} else {
		e.envelope(KindHello, 0, 4)
	}
	e.Uint(m.Version)
	e.Str(m.Build)
	e.Uint(uint64(m.Pid))
	e.strings(m.Tasks)
	if len(m.Signatures) > 0 {
		e.strings(m.Signatures)
	}
}

func (e *Encoder) strings(list []string) {
	e.Array(len(list))
	for _, s := range list {
		e.Str(s)
	}
}

// Hello reads what follows the envelope of n elements.
func (d *Decoder) Hello(n int) (m Hello) {
	d.expect(n, 4)
	m.Version = d.Uint()
	m.Build = d.Str()
	m.Pid = d.small("a pid")
	m.Tasks = d.strings()
	if n > 4 {
		m.Signatures = d.strings()
		if d.err == nil && len(m.Signatures) != len(m.Tasks) {
			d.fail(fmt.Errorf("%d signatures for %d tasks", len(m.Signatures), len(m.Tasks)))
		}
		d.Skip(n - 5)
	}
	return m
}

func (d *Decoder) strings() (list []string) {
	for i := d.list(); i > 0 && d.err == nil; i-- {
		list = append(list, d.Str())
	}
	return list
}

// Init writes an init.
func (e *Encoder) Init(m Init) {
	if m.FinalTask != "" {
		e.envelope(KindInit, 0, 5)
	} else {
		e.envelope(KindInit, 0, 3)
	}
	e.Uint(uint64(m.Slot))
	e.Str(m.Task)
	e.Bytes(m.Common)
	if m.FinalTask != "" {
		e.Str(m.FinalTask)
		e.Bytes(m.FinalCommon)
	}
}

// Init reads what follows the envelope of n elements; bytes alias the frame.
func (d *Decoder) Init(n int) (m Init) {
	d.expect(n, 3)
	m.Slot = d.small("a slot")
	m.Task = d.Str()
	m.Common = d.Bytes()
	if n > 3 {
		m.FinalTask = d.Str()
	}
	if n > 4 {
		m.FinalCommon = d.Bytes()
	}
	d.Skip(n - 5)
	return m
}

// Run writes a chunk.
func (e *Encoder) Run(m *Run) {
	e.envelope(KindRun, m.ID, 5)
	e.Str(m.Task)
	e.Array(len(m.Payloads))
	for _, p := range m.Payloads {
		e.Bytes(p)
	}
	e.Bytes(m.Common)
	e.Uint(m.Seq)
	e.Uint(uint64(m.Attempt))
}

// Run reads what follows the envelope of n elements into m, whose slice of
// payloads is reused. All bytes alias the frame.
func (d *Decoder) Run(id uint64, n int, m *Run) {
	d.expect(n, 5)
	m.ID = id
	if task := d.Bytes(); string(task) != m.Task { // mostly it is the one of before
		m.Task = string(task)
	}
	m.Payloads = m.Payloads[:0]
	for i := d.list(); i > 0 && d.err == nil; i-- {
		m.Payloads = append(m.Payloads, d.Bytes())
	}
	m.Common = d.Bytes()
	m.Seq = d.Uint()
	m.Attempt = d.small("an attempt")
	d.Skip(n - 5)
	d.last(id, len(m.Payloads))
}

// Result writes outcomes: the value of a success, or [code, message, data].
func (e *Encoder) Result(m *Result) {
	e.envelope(KindResult, m.ID, 3)
	e.Array(len(m.Outcomes))
	for i := range m.Outcomes {
		o := &m.Outcomes[i]
		if o.Code == OK {
			e.Bytes(o.Data)
			continue
		}
		e.Array(3)
		e.Uint(uint64(o.Code))
		e.Str(o.Message)
		e.Bytes(o.Data)
	}
	e.Int(m.Start)
	e.Int(m.Elapsed)
}

// Result reads what follows the envelope of n elements into m, whose slice of
// outcomes is reused. Values alias the frame; messages do not. The times may be
// missing: a worker of ten lines does not measure.
func (d *Decoder) Result(id uint64, n int, m *Result) {
	d.expect(n, 1)
	*m = Result{ID: id, Outcomes: m.Outcomes[:0]}
	for i := d.list(); i > 0 && d.err == nil; i-- {
		m.Outcomes = append(m.Outcomes, d.outcome())
	}
	d.last(id, len(m.Outcomes))
	if n < 3 {
		d.Skip(n - 1)
		return
	}
	m.Start = d.Int()
	m.Elapsed = d.Int()
	d.Skip(n - 3)
}

func (d *Decoder) outcome() (o Outcome) {
	if !d.IsArray() {
		o.Data = d.Bytes()
		return o
	}
	n := d.Array()
	d.expect(n, 2)
	code := d.Uint()
	if code == 0 || code > 255 {
		d.fail(fmt.Errorf("%d is no code of a failed call", code))
	}
	o.Code = Code(code)
	o.Message = d.Str()
	if n > 2 {
		o.Data = d.Bytes()
		d.Skip(n - 3)
	}
	return o
}

// Output writes bytes that a call printed.
func (e *Encoder) Output(m Output) {
	e.envelope(KindOutput, m.ID, 2)
	e.Uint(uint64(m.Stream))
	e.Bytes(m.Data)
}

// Output reads what follows the envelope of n elements; Data aliases the frame.
func (d *Decoder) Output(id uint64, n int) (m Output) {
	d.expect(n, 2)
	m.ID = id
	stream := d.Uint()
	if stream != uint64(Stdout) && stream != uint64(Stderr) {
		d.fail(fmt.Errorf("%d is no output stream", stream))
	}
	m.Stream = Stream(stream)
	m.Data = d.Bytes()
	d.Skip(n - 2)
	return m
}

// Numbers writes a small message of kind k.
func (e *Encoder) Numbers(k Kind, m Numbers) {
	if m.M == 0 {
		e.envelope(k, m.ID, 1)
		e.Uint(m.N)
		return
	}
	e.envelope(k, m.ID, 2)
	e.Uint(m.N)
	e.Uint(m.M)
}

// Numbers reads what follows the envelope of n elements; the numbers may be missing.
func (d *Decoder) Numbers(id uint64, n int) (m Numbers) {
	m.ID = id
	if n > 0 {
		m.N = d.Uint()
	}
	if n > 1 {
		m.M = d.Uint()
	}
	d.Skip(n - 2)
	return m
}

// Question writes a call frame.
func (e *Encoder) Question(m Question) {
	e.envelope(KindCall, m.ID, 2)
	e.Str(m.Method)
	e.Bytes(m.Payload)
}

// Question reads what follows the envelope of n elements; Payload aliases the frame.
func (d *Decoder) Question(id uint64, n int) (m Question) {
	d.expect(n, 2)
	m.ID = id
	m.Method = d.Str()
	m.Payload = d.Bytes()
	d.Skip(n - 2)
	return m
}

// Answer writes a reply.
func (e *Encoder) Answer(m Answer) {
	e.envelope(KindReply, m.ID, 2)
	e.Bytes(m.Payload)
	e.Str(m.Message)
}

// Answer reads what follows the envelope of n elements; Payload aliases the frame.
func (d *Decoder) Answer(id uint64, n int) (m Answer) {
	d.expect(n, 2)
	m.ID = id
	m.Payload = d.Bytes()
	m.Message = d.Str()
	d.Skip(n - 2)
	return m
}

func (d *Decoder) part(id uint64, n int) (m part) {
	d.expect(n, 2)
	m.id = id
	m.left = d.Uint()
	m.data = d.Bytes()
	d.Skip(n - 2)
	return m
}

// list reads the header of an array that will be kept in memory.
func (d *Decoder) list() int {
	n := d.Array()
	if n > MaxCalls {
		d.fail(fmt.Errorf("a list of %d values, %d are allowed", n, MaxCalls))
		return 0
	}
	return n
}

// expect fails if a message has fewer elements than it needs.
func (d *Decoder) expect(n, least int) {
	if n < least {
		d.fail(fmt.Errorf("a message of %d elements where %d are needed", n+2, least+2))
	}
}

// Envelope reads the beginning that all messages share and returns how many
// elements follow it.
func (d *Decoder) Envelope() (k Kind, id uint64, n int) {
	n = d.Array() - 2
	d.expect(n, 0)
	k = Kind(d.Uint())
	id = d.Uint()
	d.last(id, 1)
	return k, id, n
}

// last fails if one of the n ids from id on is beyond what a float64 holds exactly,
// which is what other languages keep numbers in.
func (d *Decoder) last(id uint64, n int) {
	if id > 1<<53-uint64(n) {
		d.fail(errors.New("an id of 2^53 or more"))
	}
}

// small reads a number that is kept in an int, also where that has 32 bits.
func (d *Decoder) small(what string) int {
	u := d.Uint()
	if u > 1<<31-1 {
		d.fail(fmt.Errorf("%d is too large for %s", u, what))
		return 0
	}
	return int(u)
}

// Message is one decoded frame: Kind says which of the fields is set. It is meant
// to be reused: its slices are, and all bytes alias the frame, so that they are
// valid only until the next one is read.
type Message struct {
	Kind     Kind
	Owned    bool // it is long, and its bytes are in nobody else's memory: they stay valid
	Hello    Hello
	Init     Init
	Run      Run
	Result   Result
	Output   Output
	Numbers  Numbers
	Question Question
	Answer   Answer
	part     part
}

// part is a piece of a message: [part, id, bytes left after it, bin].
type part struct {
	id   uint64
	left uint64
	data []byte
}

// forget drops what aliases the last frame, so that a Message that waits for the
// next one does not keep the memory of a large one alive.
func (m *Message) forget() {
	switch m.Kind {
	case KindInit:
		m.Init.Common, m.Init.FinalCommon = nil, nil
	case KindRun:
		m.Run.Common = nil
		clear(m.Run.Payloads)
		m.Run.Payloads = m.Run.Payloads[:0]
	case KindResult:
		clear(m.Result.Outcomes)
		m.Result.Outcomes = m.Result.Outcomes[:0]
	case KindOutput:
		m.Output.Data = nil
	case KindCall:
		m.Question.Payload = nil
	case KindReply:
		m.Answer.Payload = nil
	}
	m.part.data = nil
}

// Message decodes one body that has passed Precheck. An optional kind that is not
// known leaves only Kind set; any other unknown kind is an error.
func (d *Decoder) Message(body []byte, m *Message) error {
	d.Reset(body)
	kind, id, n := d.Envelope()
	m.Kind = kind
	if d.err != nil {
		return fmt.Errorf("a frame is no message: %w", d.err)
	}
	switch kind {
	case KindHello:
		m.Hello = d.Hello(n)
	case KindInit:
		m.Init = d.Init(n)
	case KindRun:
		d.Run(id, n, &m.Run)
	case KindResult:
		d.Result(id, n, &m.Result)
	case KindOutput:
		m.Output = d.Output(id, n)
	case KindCall:
		m.Question = d.Question(id, n)
	case KindReply:
		m.Answer = d.Answer(id, n)
	case KindPart:
		m.part = d.part(id, n)
	case KindCancel, KindBye, KindCredit, KindRecall, KindReturned, KindSuspend:
		m.Numbers = d.Numbers(id, n)
	default:
		if kind < FirstOptional {
			return fmt.Errorf("a frame of the unknown kind %d: the peer speaks a newer protocol than version %d", kind, Version)
		}
	}
	if d.err != nil {
		return fmt.Errorf("a frame of kind %d is broken: %w", kind, d.err)
	}
	return nil
}
