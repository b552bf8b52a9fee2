package ipc

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestPrecheck(t *testing.T) {
	nested := func(n int, open []byte) []byte { return append(bytes.Repeat(open, n), 0xc0) }
	for _, c := range []struct {
		what string
		b    []byte
		part string // of the error; empty for none
	}{
		{"nothing", nil, "longer than the frame"},
		{"one value", []byte{0xc0}, ""},
		{"two values", []byte{0xc0, 0xc0}, "1 bytes follow"},
		{"the unused byte", []byte{0xc1}, "0xc1 begins no"},
		{"the unused byte inside", []byte{0x91, 0xc1}, "0xc1 begins no"},
		{"60 levels", nested(60, []byte{0x91}), ""},
		{"61 levels", nested(61, []byte{0x91}), "deeper than 60"},
		{"60 levels, the last one empty", append(bytes.Repeat([]byte{0x91}, 59), 0x90), ""},
		{"61 levels, the last one empty", append(bytes.Repeat([]byte{0x91}, 60), 0x90), "deeper than 60"},
		{"61 levels, the last one an empty map", append(bytes.Repeat([]byte{0x91}, 60), 0xde, 0, 0), "deeper than 60"},
		{"60 levels of maps", nested(60, []byte{0x81, 0x01}), ""},
		{"3 MB of levels", nested(3<<20, []byte{0x91}), "deeper than 60"},
		{"3 MB of levels of maps", nested(3<<20, []byte{0x81, 0x01}), "deeper than 60"},
		{"a wide map of the largest size", []byte{0xdf, 255, 255, 255, 255}, "longer than the frame"},
		{"a wide array of the largest size", []byte{0xdd, 255, 255, 255, 255}, "longer than the frame"},
		{"wide arrays one in the other", bytes.Repeat([]byte{0xdd, 255, 255, 255, 255}, 10), "longer than the frame"},
		{"bytes of the largest size", []byte{0xc6, 255, 255, 255, 255, 1}, "longer than the frame"},
		{"text of the largest size", []byte{0xdb, 255, 255, 255, 255, 1}, "longer than the frame"},
		{"an extension of the largest size", []byte{0xc9, 255, 255, 255, 255, 1}, "longer than the frame"},
		{"a map of one and a half pairs", []byte{0x82, 1, 2, 3}, "longer than the frame"},
		{"empty containers", []byte{0x94, 0x90, 0x80, 0xdc, 0, 0, 0xdf, 0, 0, 0, 0}, ""},
		{"every type", join(grease...), ""},
	} {
		err := Precheck(c.b)
		if c.part == "" && err != nil || c.part != "" && (err == nil || !strings.Contains(err.Error(), c.part)) {
			t.Errorf("%s: got error %v, want %q", c.what, err, c.part)
		}
	}
}

func TestPrecheckRefusesEveryTruncation(t *testing.T) {
	for _, s := range samples() {
		whole := values(s.encode)
		for cut := range whole {
			if Precheck(whole[:cut]) == nil {
				t.Errorf("%s, cut at byte %d, passes", s.name, cut)
			}
		}
	}
	for _, g := range grease {
		for cut := range g {
			if Precheck(g[:cut]) == nil {
				t.Errorf("% x, cut at byte %d, passes", g, cut)
			}
		}
	}
}

func TestPrecheckTakesNoMemory(t *testing.T) {
	b, _ := stream()
	b = b[4 : 4+b[3]]
	if n := testing.AllocsPerRun(100, func() { _ = Precheck(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPrecheck(f *testing.F) {
	for _, s := range samples() {
		f.Add(values(s.encode))
	}
	f.Add(join(grease...))
	f.Add([]byte{0xdf, 255, 255, 255, 255})
	d := NewDecoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		if Precheck(b) != nil {
			return
		}
		if d.Reset(b); d.Err() == nil {
			d.Skip(1)
		}
		if d.Err() != nil || d.r.Len() != 0 {
			t.Errorf("our Skip: %v, and %d bytes are left", d.Err(), d.r.Len())
		}
		r := bytes.NewReader(b)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || r.Len() != 0 {
			t.Errorf("the library's Skip: %v, and %d bytes are left", err, r.Len())
		}
	})
}

// FuzzReader reads what a hostile peer may send.
func FuzzReader(f *testing.F) {
	b, _ := stream()
	f.Add(b)
	encode, _ := outputOf(1, 500)
	var parts bytes.Buffer
	w := NewWriter(&parts, small)
	w.Begin()
	encode(w.Encoder)
	_ = w.End()
	_ = w.Flush()
	f.Add(parts.Bytes())
	f.Add([]byte("Hello, world\n"))
	f.Add([]byte{4, 0, 0, 0})
	f.Add(slices.Concat(partOf(1, 5, []byte("x")), partOf(2, 1, []byte("x"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		took := allocated(func() {
			r := NewReader(bytes.NewReader(b), Limits{})
			var m Message
			for r.Next(&m) == nil {
				if m.Kind == 0 || m.Kind == KindPart {
					t.Errorf("a message of kind %d", m.Kind)
				}
			}
		})
		// An element of one byte may become an outcome of 48, in a slice that doubles.
		if limit := uint64(4<<20 + 200*len(b)); took > limit {
			t.Errorf("%d bytes were taken for %d", took, len(b))
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("exec", []byte("a"), []byte("common"), uint64(1), uint64(1), byte(1), "exit status 3", uint8(3), int64(-1))
	f.Add("", []byte{}, bytes.Repeat([]byte("x"), 500), uint64(1<<53-4), uint64(1<<64-1), byte(255), "", uint8(0), int64(1<<62))
	f.Fuzz(func(t *testing.T, text string, a, c []byte, id, n uint64, code byte, message string, count uint8, when int64) {
		id %= 1<<53 - 3
		code = max(code, 1)
		hello := Hello{Version: n, Build: text, Pid: int(n >> 33), Tasks: slices.Repeat([]string{message}, int(count)+1)}
		if count%2 == 1 {
			hello.Signatures = slices.Repeat([]string{text}, len(hello.Tasks))
		}
		begin := Init{Slot: int(count), Task: text, Common: a}
		if message != "" {
			begin.FinalTask, begin.FinalCommon = message, c
		}
		run := Run{ID: id, Task: text, Payloads: [][]byte{a, c, a}, Common: c, Seq: n, Attempt: int(n >> 33)}
		result := Result{ID: id, Outcomes: []Outcome{{Data: a}, {Code: Code(code), Message: message, Data: c}}, Start: when, Elapsed: -when}
		messages := []Message{
			{Kind: KindRun, Run: run}, {Kind: KindResult, Result: result},
			{Kind: KindHello, Hello: hello}, {Kind: KindInit, Init: begin},
			{Kind: KindOutput, Output: Output{ID: id, Stream: Stream(1 + count%2), Data: c}},
			{Kind: KindCall, Question: Question{ID: id, Method: text, Payload: a}},
			{Kind: KindReply, Answer: Answer{ID: id, Payload: c, Message: message}},
			{Kind: KindReturned, Numbers: Numbers{ID: id, N: n}},
			{Kind: KindCancel, Numbers: Numbers{ID: id, N: n, M: uint64(count)}},
		}
		// Whatever is longer than this travels in parts.
		limits := Limits{Frame: 40 + int(count), Message: 1 << 20}
		var b bytes.Buffer
		w := NewWriter(&b, limits)
		for i := range messages {
			w.Begin()
			reencode(w.Encoder, &messages[i])
			if err := w.End(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(NewReader(&b, limits))
		for i := range messages {
			messages[i] = normal(messages[i])
		}
		for i := range got {
			got[i] = normal(got[i])
		}
		wantMessages(t, got, err, messages...)
	})
}

// normal makes empty bytes nil: the wire does not tell them apart.
func normal(m Message) Message {
	m = clone(m)
	for _, b := range []*[]byte{&m.Init.Common, &m.Init.FinalCommon, &m.Run.Common, &m.Output.Data, &m.Question.Payload, &m.Answer.Payload} {
		*b = plain(*b)
	}
	for i := range m.Run.Payloads {
		m.Run.Payloads[i] = plain(m.Run.Payloads[i])
	}
	for i := range m.Result.Outcomes {
		m.Result.Outcomes[i].Data = plain(m.Result.Outcomes[i].Data)
	}
	return m
}

func plain(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func TestBuildIDIsWhatTheLinkerLeft(t *testing.T) {
	if BuildID() == "" {
		t.Fatal("it is empty")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command to compare with")
	}
	out, err := exec.Command(tool, "tool", "buildid", testBinary(t)).Output()
	if err != nil {
		t.Skip("go tool buildid:", err)
	}
	if want := strings.TrimSpace(string(out)); BuildID() != want {
		t.Errorf("it is %q, and go tool buildid says %q", BuildID(), want)
	}
}

// The two forms in which linkers leave the id.
func TestBuildIDForms(t *testing.T) {
	little := []byte("ELF\x04\x00\x00\x00\x05\x00\x00\x00\x04\x00\x00\x00Go\x00\x00a/b/cpad")
	big := []byte("ELF\x00\x00\x00\x04\x00\x00\x00\x05\x00\x00\x00\x04Go\x00\x00a/b/cpad")
	for _, head := range [][]byte{little, big, append([]byte("Go\x00\x00 Go\x00\x00 Go\x00\x00"), little...)} {
		if got := elfNote(head); got != "a/b/c" {
			t.Errorf("%q in %q", got, head)
		}
	}
	for cut := range len(little) - 3 {
		if got := elfNote(little[:cut]); got != "" {
			t.Errorf("%q in the first %d bytes", got, cut)
		}
	}
	if got := quotedID([]byte("text\xff Go build ID: \"a/\\x62/c\"\n \xffmore")); got != "a/b/c" {
		t.Errorf("%q", got)
	}
	for _, head := range []string{"", "\xff Go build ID: \"a", "\xff Go build ID: a\n \xff"} {
		if got := quotedID([]byte(head)); got != "" {
			t.Errorf("%q in %q", got, head)
		}
	}
}
