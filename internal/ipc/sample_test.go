package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"slices"
	"testing"
)

// sample is one message with what stands for it in testdata/frames. The samples from
// hello to bye are the session of `gpool map echo ::: a`, which docs/protocol.md tells.
type sample struct {
	name     string
	elements []string // names of what follows kind and id
	needs    int      // how many of them a reader insists on
	encode   func(*Encoder)
	want     Message
}

// values is msgpack written by hand, for what travels as opaque bytes.
func values(write func(*Encoder)) []byte {
	e := NewEncoder()
	write(e)
	return e.Copy()
}

var (
	// echo is the common value of the exec task, command.Spec{Words: {"echo"}}.
	echo = values(func(e *Encoder) {
		e.Array(8)
		e.Uint(0)
		e.Array(1)
		e.BytesOf("echo")
		e.BytesOf("")
		e.BytesOf("")
		e.Array(0)
		e.Uint(0)
		e.Array(0)
		e.BytesOf("")
	})
	// rowA is its payload, command.Row{Columns: {"a"}}.
	rowA = values(func(e *Encoder) {
		e.Array(1)
		e.BytesOf("a")
	})
	// success and exit3 are its values.
	success = status(0)
	exit3   = status(3)
)

func status(exit uint64) []byte {
	return values(func(e *Encoder) {
		e.Array(6)
		for _, n := range []uint64{exit, 0, 0, 1932, 500, 250} {
			e.Uint(n)
		}
	})
}

func samples() []sample {
	hello := Hello{Version: 1, Build: "dev", Pid: 4711, Tasks: []string{"exec"}}
	signed := Hello{Version: 1, Build: "dev", Pid: 4711, Tasks: []string{"half", "name"},
		Signatures: []string{"(int, string) float64", "(int) string"}}
	begin := Init{Slot: 1, Common: []byte{}}
	both := Init{Slot: 2, Task: "open", Common: []byte("db"), FinalTask: "close", FinalCommon: []byte("db")}
	limit := Numbers{ID: 3, N: 15, M: ReasonTimeLimit}
	inited := Result{Outcomes: []Outcome{{Data: []byte{}}}, Start: 1764000000000000000, Elapsed: 2000}
	run := Run{ID: 1, Task: "exec", Payloads: [][]byte{rowA}, Common: echo, Seq: 1, Attempt: 1}
	output := Output{ID: 1, Stream: Stdout, Data: []byte("a\n")}
	result := Result{ID: 1, Outcomes: []Outcome{{Data: success}}, Start: 1764000000001000000, Elapsed: 1250000}
	results := Result{ID: 7, Outcomes: []Outcome{
		{Data: []byte("x")},
		{Code: Failed, Message: "exit status 3", Data: exit3},
		{Code: Cancelled, Message: "the call was cancelled", Data: []byte{}},
	}, Start: 1764000000002000000, Elapsed: 3000000}
	overrun := Result{ID: 3, Outcomes: []Outcome{{Code: TimedOut, Message: "killed by signal 15 (SIGTERM)", Data: []byte{}}},
		Start: 1764000000002000000, Elapsed: 3000000}
	call := Question{ID: 5, Method: "queue.get", Payload: []byte("\x01")}
	reply := Answer{ID: 5, Payload: []byte("\x02"), Message: ""}
	refusal := Answer{ID: 6, Payload: []byte{}, Message: "the queue is empty"}

	outcomes := []string{"outcomes", "start", "elapsed"}
	question, answer := []string{"method", "payload"}, []string{"payload", "message"}
	numbers := func(k Kind, name, element string, id, n uint64) sample {
		m := Numbers{ID: id, N: n}
		return sample{name, []string{element}, 0, func(e *Encoder) { e.Numbers(k, m) }, Message{Kind: k, Numbers: m}}
	}
	return []sample{
		{"hello", []string{"version", "build", "pid", "tasks"}, 4,
			func(e *Encoder) { e.Hello(hello) }, Message{Kind: KindHello, Hello: hello}},
		{"init", []string{"slot", "task", "common"}, 3,
			func(e *Encoder) { e.Init(begin) }, Message{Kind: KindInit, Init: begin}},
		{"result-init", outcomes, 1,
			func(e *Encoder) { e.Result(&inited) }, Message{Kind: KindResult, Result: inited}},
		{"run", []string{"task", "payloads", "common", "seq", "attempt"}, 5,
			func(e *Encoder) { e.Run(&run) }, Message{Kind: KindRun, Run: run}},
		{"output", []string{"stream", "data"}, 2,
			func(e *Encoder) { e.Output(output) }, Message{Kind: KindOutput, Output: output}},
		{"result", outcomes, 1,
			func(e *Encoder) { e.Result(&result) }, Message{Kind: KindResult, Result: result}},
		numbers(KindBye, "bye", "nothing", 0, 0),
		{"result-failed", outcomes, 1,
			func(e *Encoder) { e.Result(&results) }, Message{Kind: KindResult, Result: results}},
		numbers(KindCancel, "cancel", "signal", 3, 15),
		{"call", question, 2,
			func(e *Encoder) { e.Question(call) }, Message{Kind: KindCall, Question: call}},
		{"reply", answer, 2,
			func(e *Encoder) { e.Answer(reply) }, Message{Kind: KindReply, Answer: reply}},
		{"reply-failed", answer, 2,
			func(e *Encoder) { e.Answer(refusal) }, Message{Kind: KindReply, Answer: refusal}},
		numbers(KindCredit, "credit", "bytes", 1, 262144),
		numbers(KindRecall, "recall", "nothing", 8, 0),
		numbers(KindReturned, "returned", "count", 8, 4),
		numbers(KindSuspend, "suspend", "on", 0, 1),
		{"hello-signatures", []string{"version", "build", "pid", "tasks", "signatures"}, 4,
			func(e *Encoder) { e.Hello(signed) }, Message{Kind: KindHello, Hello: signed}},
		{"init-final", []string{"slot", "task", "common", "final task", "final common"}, 3,
			func(e *Encoder) { e.Init(both) }, Message{Kind: KindInit, Init: both}},
		{"cancel-time-limit", []string{"signal", "reason"}, 0,
			func(e *Encoder) { e.Numbers(KindCancel, limit) }, Message{Kind: KindCancel, Numbers: limit}},
		{"result-timed-out", outcomes, 1,
			func(e *Encoder) { e.Result(&overrun) }, Message{Kind: KindResult, Result: overrun}},
	}
}

// frame is the sample as it travels.
func (s *sample) frame() []byte { return frameOf(values(s.encode)) }

func frameOf(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// split returns the elements of an encoded array.
func split(t testing.TB, body []byte) (elements [][]byte) {
	t.Helper()
	d := NewDecoder()
	d.Reset(body)
	for n := d.Array(); n > 0; n-- {
		at := len(body) - d.r.Len()
		d.Skip(1)
		elements = append(elements, body[at:len(body)-d.r.Len()])
	}
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	return elements
}

func join(elements ...[]byte) []byte {
	return slices.Concat(values(func(e *Encoder) { e.Array(len(elements)) }), bytes.Join(elements, nil))
}

// readAll reads messages until the stream ends, and copies what a test looks at.
func readAll(r *Reader) (list []Message, err error) {
	for {
		var m Message
		if err = r.Next(&m); err != nil {
			return list, err
		}
		list = append(list, clone(m))
	}
}

// clone takes a message out of the reader's memory. Owned is a matter of that, see
// TestWhatCameInPartsIsOwned.
func clone(m Message) Message {
	m.Owned = false
	m.Init.Common = bytes.Clone(m.Init.Common)
	m.Init.FinalCommon = bytes.Clone(m.Init.FinalCommon)
	m.Run.Common = bytes.Clone(m.Run.Common)
	m.Run.Payloads = slices.Clone(m.Run.Payloads)
	for i, p := range m.Run.Payloads {
		m.Run.Payloads[i] = bytes.Clone(p)
	}
	m.Result.Outcomes = slices.Clone(m.Result.Outcomes)
	for i := range m.Result.Outcomes {
		m.Result.Outcomes[i].Data = bytes.Clone(m.Result.Outcomes[i].Data)
	}
	m.Output.Data = bytes.Clone(m.Output.Data)
	m.Question.Payload = bytes.Clone(m.Question.Payload)
	m.Answer.Payload = bytes.Clone(m.Answer.Payload)
	m.part = part{}
	return m
}

func wantMessages(t *testing.T, got []Message, err error, want ...Message) {
	t.Helper()
	if err != io.EOF {
		t.Errorf("the stream ends with %v, want io.EOF", err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d messages arrived, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("message %d arrived as\n%+v\nwant\n%+v", i, got[i], want[i])
		}
	}
}
