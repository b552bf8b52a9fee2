package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// stream is all samples, one after the other.
func stream() (b []byte, want []Message) {
	for _, s := range samples() {
		b = append(b, s.frame()...)
		want = append(want, s.want)
	}
	return b, want
}

func TestMessagesSurviveTheTrip(t *testing.T) {
	b, want := stream()
	for name, r := range map[string]io.Reader{
		"at once":                      bytes.NewReader(b),
		"byte by byte":                 iotest.OneByteReader(bytes.NewReader(b)),
		"half by half":                 iotest.HalfReader(bytes.NewReader(b)),
		"with the end in the last one": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(NewReader(r, Limits{}))
			wantMessages(t, got, err, want...)
		})
	}
}

// A reused Message holds nothing of the one before.
func TestAMessageIsReusedForAnotherKind(t *testing.T) {
	b, want := stream()
	r := NewReader(bytes.NewReader(slices.Concat(b, b)), Limits{})
	var m Message
	for i := range 2 * len(want) {
		if err := r.Next(&m); err != nil {
			t.Fatal(err)
		}
		one := samples()[i%len(want)]
		if e := values(func(e *Encoder) { reencode(e, &m) }); !bytes.Equal(e, values(one.encode)) {
			t.Errorf("%s is written again as %x", one.name, e)
		}
	}
}

// reencode writes a message of a known kind again.
func reencode(e *Encoder, m *Message) {
	switch m.Kind {
	case KindHello:
		e.Hello(m.Hello)
	case KindInit:
		e.Init(m.Init)
	case KindRun:
		e.Run(&m.Run)
	case KindResult:
		e.Result(&m.Result)
	case KindOutput:
		e.Output(m.Output)
	case KindCall:
		e.Question(m.Question)
	case KindReply:
		e.Answer(m.Answer)
	default:
		e.Numbers(m.Kind, m.Numbers)
	}
}

func TestAStreamMayEndBetweenFramesOnly(t *testing.T) {
	b, _ := stream()
	whole := map[int]int{0: 0} // length to number of frames
	for i, s := range samples() {
		at := 0
		for length, n := range whole {
			if n == i {
				at = length
			}
		}
		whole[at+len(s.frame())] = i + 1
	}
	count := 0
	for cut := range b {
		want := io.ErrUnexpectedEOF
		if n, ok := whole[cut]; ok {
			want, count = io.EOF, n
		}
		got, err := readAll(NewReader(bytes.NewReader(b[:cut]), Limits{}))
		if err != want || len(got) != count {
			t.Fatalf("cut at byte %d: %d messages and %v, want %d and %v", cut, len(got), err, count, want)
		}
	}
}

// grease is one value of every msgpack type.
var grease = [][]byte{
	{0xc0}, {0xc2}, {0xc3}, {0x05}, {0xff},
	{0xcc, 1}, {0xcd, 1, 2}, {0xce, 1, 2, 3, 4}, {0xcf, 1, 2, 3, 4, 5, 6, 7, 8},
	{0xd0, 1}, {0xd1, 1, 2}, {0xd2, 1, 2, 3, 4}, {0xd3, 1, 2, 3, 4, 5, 6, 7, 8},
	{0xca, 1, 2, 3, 4}, {0xcb, 1, 2, 3, 4, 5, 6, 7, 8},
	{0xa1, 'x'}, {0xd9, 1, 'x'}, {0xda, 0, 1, 'x'}, {0xdb, 0, 0, 0, 1, 'x'},
	{0xc4, 1, 'x'}, {0xc5, 0, 1, 'x'}, {0xc6, 0, 0, 0, 1, 'x'},
	{0x90}, {0x91, 0x91, 0xc0}, {0xdc, 0, 1, 0xc0}, {0xdd, 0, 0, 0, 1, 0xc0},
	{0x80}, {0x81, 0xa1, 'k', 0x91, 0xc0}, {0xde, 0, 1, 1, 2}, {0xdf, 0, 0, 0, 1, 1, 2},
	{0xd4, 1, 0}, {0xd5, 1, 0, 0}, {0xd6, 1, 0, 0, 0, 0}, {0xd7, 1, 0, 0, 0, 0, 0, 0, 0, 0},
	slices.Concat([]byte{0xd8, 1}, make([]byte, 16)),
	{0xc7, 1, 1, 0}, {0xc8, 0, 1, 1, 0}, {0xc9, 0, 0, 0, 1, 1, 0},
}

func TestALongerArrayIsFine(t *testing.T) {
	for _, s := range samples() {
		elements := split(t, values(s.encode))
		if elements = full(s.want.Kind, elements); elements == nil {
			continue // another sample has all elements of its kind
		}
		body := join(slices.Concat(elements, grease)...)
		got, err := readAll(NewReader(bytes.NewReader(frameOf(body)), Limits{}))
		wantMessages(t, got, err, s.want)
	}
}

// full adds the elements that were not written because they are 0. It returns nil if
// such were left out that have no zero on the wire.
func full(k Kind, elements [][]byte) [][]byte {
	switch k {
	case KindHello, KindInit:
		if len(elements) < 2+5 {
			return nil
		}
	case KindCancel, KindBye, KindCredit, KindRecall, KindReturned, KindSuspend:
		for len(elements) < 2+2 {
			elements = append(elements, []byte{0})
		}
	}
	return elements
}

func TestALongerOutcomeIsFine(t *testing.T) {
	failed := join(slices.Concat([][]byte{{1}, {0xa1, 'm'}, {0xc4, 1, 'd'}}, grease)...)
	body := join([]byte{byte(KindResult)}, []byte{9}, join(failed))
	got, err := readAll(NewReader(bytes.NewReader(frameOf(body)), Limits{}))
	want := Result{ID: 9, Outcomes: []Outcome{{Code: Failed, Message: "m", Data: []byte("d")}}}
	wantMessages(t, got, err, Message{Kind: KindResult, Result: want})
}

func TestAShorterArrayIsAnError(t *testing.T) {
	for _, s := range samples() {
		elements := split(t, values(s.encode))
		for n := range elements {
			_, err := readAll(NewReader(bytes.NewReader(frameOf(join(elements[:n]...))), Limits{}))
			if n >= 2+s.needs {
				if err != io.EOF {
					t.Errorf("%s with %d elements: %v", s.name, n, err)
				}
			} else {
				wantFormatError(t, err, "elements where", fmt.Sprintf("%s with %d elements", s.name, n))
			}
		}
	}
}

// helloOf is a hello of such tasks and signatures.
func helloOf(tasks, signatures []byte) []byte {
	return join([]byte{byte(KindHello)}, []byte{0}, []byte{Version}, []byte{0xa0}, []byte{1}, tasks, signatures)
}

// What a peer leaves out is as good as empty.
func TestOptionalElements(t *testing.T) {
	text, none := []byte{0xa1, 'x'}, []byte{0xc4, 0}
	for _, c := range []struct {
		what string
		body []byte
		want Message
	}{
		{"no tasks and no signatures", helloOf(join(), join()), Message{Kind: KindHello, Hello: Hello{Version: 1, Pid: 1}}},
		{"a final task without a common", join([]byte{2}, []byte{0}, []byte{1}, text, none, text),
			Message{Kind: KindInit, Init: Init{Slot: 1, Task: "x", Common: []byte{}, FinalTask: "x"}}},
		{"a reason that is not known", join([]byte{6}, []byte{1}, []byte{15}, []byte{9}),
			Message{Kind: KindCancel, Numbers: Numbers{ID: 1, N: 15, M: 9}}},
		{"a cancel without numbers", join([]byte{6}, []byte{1}), Message{Kind: KindCancel, Numbers: Numbers{ID: 1}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := readAll(NewReader(bytes.NewReader(frameOf(c.body)), Limits{}))
			wantMessages(t, got, err, c.want)
		})
	}
}

// What is empty is not written: an older peer sees the message that it knows.
func TestWhatIsEmptyIsNotWritten(t *testing.T) {
	for what, c := range map[string]struct {
		encode func(*Encoder)
		n      int
	}{
		"a hello without signatures":     {func(e *Encoder) { e.Hello(Hello{Version: 1, Tasks: []string{"x"}}) }, 4},
		"an init without a final task":   {func(e *Encoder) { e.Init(Init{Slot: 1, FinalCommon: []byte("x")}) }, 3},
		"a cancel of what is given up":   {func(e *Encoder) { e.Numbers(KindCancel, Numbers{ID: 1, N: 15}) }, 1},
		"a cancel for its time limit":    {func(e *Encoder) { e.Numbers(KindCancel, Numbers{ID: 1, N: 15, M: ReasonTimeLimit}) }, 2},
		"an init with a final task":      {func(e *Encoder) { e.Init(Init{Slot: 1, FinalTask: "x"}) }, 5},
		"a hello with empty signatures ": {func(e *Encoder) { e.Hello(Hello{Version: 1, Tasks: []string{"x"}, Signatures: []string{""}}) }, 5},
	} {
		if got := len(split(t, values(c.encode))) - 2; got != c.n {
			t.Errorf("%s has %d elements after the envelope, want %d", what, got, c.n)
		}
	}
}

func wantFormatError(t *testing.T, err error, part, what string) {
	t.Helper()
	var f *FormatError
	if !errors.As(err, &f) || !strings.Contains(err.Error(), part) {
		t.Errorf("%s: got error %v, want a FormatError with %q", what, err, part)
	}
}

func TestWrongTypesAndRangesAreErrors(t *testing.T) {
	uint64Max := []byte{0xcf, 255, 255, 255, 255, 255, 255, 255, 255}
	for _, c := range []struct {
		what, part string
		body       []byte
	}{
		{"an id of 2^53", "2^53", join([]byte{6}, []byte{0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0}, []byte{15})},
		{"an id of 2^64-1", "2^53", join([]byte{6}, uint64Max, []byte{15})},
		{"a negative id", "negative", join([]byte{6}, []byte{0xff}, []byte{15})},
		{"a negative kind", "negative", join([]byte{0xff}, []byte{1})},
		{"nil for an id", "whole number", join([]byte{6}, []byte{0xc0})},
		{"no array", "an array was expected", []byte{0x81, 6, 1}},
		{"a number", "an array was expected", []byte{6}},
		{"text for a number", "whole number", join([]byte{6}, []byte{0xa1, '1'})},
		{"a float for a number", "whole number", join([]byte{6}, []byte{0xca, 0, 0, 0, 0})},
		{"nil for bytes", "a string was expected", join([]byte{5}, []byte{1}, []byte{1}, []byte{0xc0})},
		{"stream 3", "no output stream", join([]byte{5}, []byte{1}, []byte{3}, []byte{0xc4, 0})},
		{"stream 257", "no output stream", join([]byte{5}, []byte{1}, []byte{0xcd, 1, 1}, []byte{0xc4, 0})},
		{"code 0", "no code", join([]byte{4}, []byte{1}, join(join([]byte{0}, []byte{0xa0})))},
		{"code 256", "no code", join([]byte{4}, []byte{1}, join(join([]byte{0xcd, 1, 0}, []byte{0xa0})))},
		{"an outcome of one element", "elements where", join([]byte{4}, []byte{1}, join(join([]byte{1})))},
		{"a start beyond 63 bits", "signed", join([]byte{4}, []byte{1}, join(), uint64Max, []byte{1})},
		{"a slot beyond 31 bits", "slot", join([]byte{2}, []byte{0}, uint64Max, []byte{0xa0}, []byte{0xc4, 0})},
		{"an attempt beyond 31 bits", "attempt", join([]byte{3}, []byte{1}, []byte{0xa0}, join(), []byte{0xc4, 0}, []byte{1}, uint64Max)},
		{"one signature for two tasks", "1 signatures for 2 tasks", helloOf(join([]byte{0xa0}, []byte{0xa0}), join([]byte{0xa0}))},
		{"two signatures for no task", "2 signatures for 0 tasks", helloOf(join(), join([]byte{0xa0}, []byte{0xa0}))},
		{"no signature for a task", "0 signatures for 1 tasks", helloOf(join([]byte{0xa0}), join())},
		{"a signature that is no list", "an array was expected", helloOf(join([]byte{0xa0}), []byte{0xa0})},
		{"a signature that is a number", "a string was expected", helloOf(join([]byte{0xa0}), join([]byte{1}))},
		{"a final task that is a number", "a string was expected", join([]byte{2}, []byte{0}, []byte{1}, []byte{0xa0}, []byte{0xc4, 0}, []byte{1}, []byte{0xc4, 0})},
		{"nil for a final common", "a string was expected", join([]byte{2}, []byte{0}, []byte{1}, []byte{0xa0}, []byte{0xc4, 0}, []byte{0xa0}, []byte{0xc0})},
		{"text for a reason", "whole number", join([]byte{6}, []byte{1}, []byte{15}, []byte{0xa0})},
		{"a negative reason", "negative", join([]byte{6}, []byte{1}, []byte{15}, []byte{0xff})},
		{"a pid beyond 31 bits", "pid", join([]byte{1}, []byte{0}, []byte{1}, []byte{0xa0}, uint64Max, join())},
		{"calls beyond 2^53", "2^53", join([]byte{3}, []byte{0xcf, 0, 0x1f, 255, 255, 255, 255, 255, 255}, []byte{0xa0}, join([]byte{0xc4, 0}, []byte{0xc4, 0}), []byte{0xc4, 0}, []byte{1}, []byte{1})},
		{"results beyond 2^53", "2^53", join([]byte{4}, []byte{0xcf, 0, 0x1f, 255, 255, 255, 255, 255, 255}, join([]byte{0xc4, 0}, []byte{0xc4, 0}))},
	} {
		_, err := readAll(NewReader(bytes.NewReader(frameOf(c.body)), Limits{}))
		wantFormatError(t, err, c.part, c.what)
	}
	// The last id that there is.
	body := join([]byte{6}, []byte{0xcf, 0, 0x1f, 255, 255, 255, 255, 255, 255}, []byte{15})
	got, err := readAll(NewReader(bytes.NewReader(frameOf(body)), Limits{}))
	wantMessages(t, got, err, Message{Kind: KindCancel, Numbers: Numbers{ID: 1<<53 - 1, N: 15}})
}

// Another language's library may write numbers and lengths wider than needed, and
// str where we write bin.
func TestWideFormsAreUnderstood(t *testing.T) {
	body := slices.Concat(
		[]byte{0xdd, 0, 0, 0, 4}, []byte{0xcd, 0, 5}, []byte{0xd3, 0, 0, 0, 0, 0, 0, 0, 1}, []byte{0xd0, 2}, []byte{0xdb, 0, 0, 0, 2, 'h', 'i'})
	got, err := readAll(NewReader(bytes.NewReader(frameOf(body)), Limits{}))
	wantMessages(t, got, err, Message{Kind: KindOutput, Output: Output{ID: 1, Stream: Stderr, Data: []byte("hi")}})
}

func TestUnknownKinds(t *testing.T) {
	for _, k := range []Kind{0, 11, 31} {
		_, err := readAll(NewReader(bytes.NewReader(frameOf(values(func(e *Encoder) { e.Numbers(k, Numbers{ID: 1}) }))), Limits{}))
		wantFormatError(t, err, "unknown kind", fmt.Sprint("kind ", k))
	}
	optional := func(k Kind) []byte {
		return frameOf(join(slices.Concat([][]byte{values(func(e *Encoder) { e.Uint(uint64(k)) }), {1}}, grease)...))
	}
	next := samples()[0]
	b := slices.Concat(optional(36), optional(1<<40), next.frame())
	got, err := readAll(NewReader(bytes.NewReader(b), Limits{}))
	wantMessages(t, got, err, Message{Kind: 36}, Message{Kind: 1 << 40}, next.want)
}

func TestNumbersOfAllWidths(t *testing.T) {
	d := NewDecoder()
	for shift := range 64 {
		for _, u := range []uint64{1<<shift - 1, 1 << shift, 1<<shift + 1} {
			d.Reset(values(func(e *Encoder) { e.Uint(u) }))
			if got := d.Uint(); got != u || d.Err() != nil {
				t.Errorf("%d arrives as %d, %v", u, got, d.Err())
			}
			for _, i := range []int64{int64(u), -int64(u)} {
				d.Reset(values(func(e *Encoder) { e.Int(i) }))
				if got := d.Int(); got != i || d.Err() != nil {
					t.Errorf("%d arrives as %d, %v", i, got, d.Err())
				}
			}
		}
	}
}

// TestListsAreBounded: a byte of a frame may become 48 bytes of memory.
func TestListsAreBounded(t *testing.T) {
	for name, encode := range map[string]func(e *Encoder){
		"run":                func(e *Encoder) { e.Run(&Run{ID: 1, Task: "t", Payloads: make([][]byte, MaxCalls+1), Attempt: 1}) },
		"result":             func(e *Encoder) { e.Result(&Result{ID: 1, Outcomes: make([]Outcome, MaxCalls+1)}) },
		"hello":              func(e *Encoder) { e.Hello(Hello{Version: Version, Tasks: make([]string, MaxCalls+1)}) },
		"hello's signatures": func(e *Encoder) { e.Hello(Hello{Version: Version, Signatures: make([]string, MaxCalls+1)}) },
	} {
		e := NewEncoder()
		encode(e)
		var m Message
		if err := NewDecoder().Message(e.Encoded(), &m); err == nil || !strings.Contains(err.Error(), "are allowed") {
			t.Errorf("a %s of %d values gives %v", name, MaxCalls+1, err)
		}
	}
}
