package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// allocated returns how many bytes f takes from the heap, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestTextOnTheStreamIsQuoted(t *testing.T) {
	_, err := readAll(NewReader(strings.NewReader("Hello, world\n"), Limits{}))
	wantFormatError(t, err, `"Hello, world\n"`, "text")
}

// What was announced is not taken; what arrived is.
func TestMemoryIsTakenAsBytesArrive(t *testing.T) {
	announced := []byte{4, 0, 0, 0} // 64 MiB, which is allowed
	took := allocated(func() {
		if _, err := readAll(NewReader(bytes.NewReader(announced), Limits{})); err != io.ErrUnexpectedEOF {
			t.Errorf("got error %v", err)
		}
	})
	if took > 2<<20 {
		t.Errorf("%d bytes were taken for a frame of which nothing arrived", took)
	}
	announced[3]++
	_, err := readAll(NewReader(bytes.NewReader(announced), Limits{}))
	wantFormatError(t, err, "67108865 bytes was announced", "one byte more than is allowed")
}

// pieces reads at most n bytes at once, as a pipe does.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// A large frame that comes in small pieces costs a few copies, not one a piece.
func TestALargeFrameInSmallPieces(t *testing.T) {
	const size = 4 << 20
	frame := frameOf(values(func(e *Encoder) { e.Output(Output{ID: 1, Stream: Stdout, Data: make([]byte, size)}) }))
	r := NewReader(pieces{bytes.NewReader(frame), 64 << 10}, Limits{})
	var m Message
	took := allocated(func() {
		if err := r.Next(&m); err != nil || len(m.Output.Data) != size {
			t.Errorf("%d bytes and error %v", len(m.Output.Data), err)
		}
	})
	if took > 4*size {
		t.Errorf("%d bytes were taken for %d", took, size)
	}
}

func TestBuffersShrinkAfterALargeMessage(t *testing.T) {
	large := Run{ID: 1, Payloads: [][]byte{make([]byte, 5<<20)}, Common: []byte{}, Seq: 1, Attempt: 1}
	var b bytes.Buffer
	w := NewWriter(&b, Limits{})
	for i := range 2 {
		w.Begin()
		w.Run(&large)
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first after a large one fills the new buffer
			w.Begin()
			w.Numbers(KindBye, Numbers{})
			if err := w.End(); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 && w.buf.Cap() > 4*growStep {
			t.Errorf("the writer keeps %d bytes", w.buf.Cap())
		}
	}
	pipe := io.MultiReader(&b, iotest.ErrReader(io.ErrClosedPipe))
	r := NewReader(pipe, Limits{})
	var m Message
	for i, want := range []Kind{KindRun, KindBye, KindBye, KindRun, KindBye, KindBye} {
		if err := r.Next(&m); err != nil || m.Kind != want {
			t.Fatalf("message %d: kind %d, %v; want kind %d", i, m.Kind, err, want)
		}
	}
	if err := r.Next(&m); err != io.ErrClosedPipe {
		t.Fatal(err)
	}
	if len(r.buf) != smallBuffer {
		t.Errorf("the reader keeps %d bytes", len(r.buf))
	}
	if p := m.Run.Payloads[:cap(m.Run.Payloads)]; p[0] != nil || m.Run.Common != nil || r.dec.data != nil {
		t.Error("a reader that waits keeps the last large frame alive")
	}
}

func TestBufferedTellsWhetherAFrameIsThere(t *testing.T) {
	b, want := stream()
	r := NewReader(bytes.NewReader(b), Limits{})
	var m Message
	for i := range want {
		if err := r.Next(&m); err != nil {
			t.Fatal(err)
		}
		if got := r.Buffered(); got != (i+1 < len(want)) {
			t.Errorf("after message %d: %v", i, got)
		}
	}
	r = NewReader(bytes.NewReader(b[:len(b)-1]), Limits{})
	for range len(want) - 1 {
		if err := r.Next(&m); err != nil {
			t.Fatal(err)
		}
	}
	if r.Buffered() {
		t.Error("a frame without its last byte is not there")
	}
}

func TestAnErrorOfTheStreamComesBackAsItIs(t *testing.T) {
	b, want := stream()
	got, err := readAll(NewReader(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(io.ErrNoProgress)), Limits{}))
	if err != io.ErrNoProgress || len(got) != len(want) {
		t.Errorf("%d messages and %v", len(got), err)
	}
}

// small makes messages of a few hundred bytes travel in parts.
var small = Limits{Frame: 100, Message: 2000}

// framesOf returns what a writer with these limits makes of a message, frame by frame.
func framesOf(t *testing.T, limits Limits, id uint64, encode func(*Encoder)) (frames [][]byte) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, limits)
	w.nextID = id
	w.Begin()
	encode(w.Encoder)
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for b.Len() > 0 {
		n := int(binary.BigEndian.Uint32(b.Bytes()))
		if n > limits.Frame {
			t.Errorf("a frame of %d bytes where %d are allowed", n, limits.Frame)
		}
		frames = append(frames, bytes.Clone(b.Next(4+n)))
	}
	return frames
}

func outputOf(id uint64, n int) (func(*Encoder), Message) {
	m := Output{ID: id, Stream: Stdout, Data: bytes.Repeat([]byte{byte(id)}, n)}
	return func(e *Encoder) { e.Output(m) }, Message{Kind: KindOutput, Output: m}
}

func TestALongMessageTravelsInParts(t *testing.T) {
	for _, n := range []int{93, 94, 95, 100, 140, 141, 1000} {
		encode, want := outputOf(7, n)
		frames := framesOf(t, small, 0, encode)
		got, err := readAll(NewReader(iotest.OneByteReader(bytes.NewReader(bytes.Join(frames, nil))), small))
		wantMessages(t, got, err, want)
	}
}

// TestLongFramesAreOwned: their bytes stay as they are, whatever comes after, and are not copied once more.
func TestLongFramesAreOwned(t *testing.T) {
	for _, n := range []int{100, longFrame, growStep, 3*growStep + 5} {
		encode, want := outputOf(7, n)
		frame := bytes.Join(framesOf(t, Limits{}.withDefaults(), 0, encode), nil)
		for _, source := range []io.Reader{bytes.NewReader(slices.Repeat(frame, 2)), iotest.HalfReader(bytes.NewReader(slices.Repeat(frame, 2)))} {
			r := NewReader(source, Limits{})
			var m Message
			if err := r.Next(&m); err != nil || m.Owned != (n >= longFrame) {
				t.Fatalf("%d bytes: owned is %v, %v", n, m.Owned, err)
			}
			first := m.Output.Data
			if err := r.Next(&m); err != nil {
				t.Fatal(err)
			}
			clear(m.Output.Data)
			if n >= longFrame && !bytes.Equal(first, want.Output.Data) {
				t.Errorf("%d bytes were overwritten", n)
			}
			if err := r.Next(&m); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		}
	}
}

func TestWhatCameInPartsIsOwned(t *testing.T) {
	short, _ := outputOf(7, 50)
	long, want := outputOf(8, 500)
	frames := slices.Concat(framesOf(t, small, 0, long), framesOf(t, small, 10, short), framesOf(t, small, 20, long))
	r := NewReader(bytes.NewReader(bytes.Join(frames, nil)), small)
	var kept [][]byte
	var m Message
	for _, owned := range []bool{true, false, true} {
		if err := r.Next(&m); err != nil || m.Owned != owned {
			t.Fatalf("owned is %v, %v", m.Owned, err)
		}
		if m.Owned {
			kept = append(kept, m.Output.Data)
		}
	}
	for _, b := range kept {
		if !bytes.Equal(b, want.Output.Data) {
			t.Errorf("what was owned has changed to %x", b)
		}
	}
}

func TestPartsOfTwoMessagesMayInterleave(t *testing.T) {
	encodeA, wantA := outputOf(1, 500)
	encodeB, wantB := outputOf(2, 500)
	a, b := framesOf(t, small, 0, encodeA), framesOf(t, small, 10, encodeB)
	bye := samples()[6]
	var mixed []byte
	for i := range a {
		mixed = slices.Concat(mixed, b[i], bye.frame(), a[i])
	}
	got, err := readAll(NewReader(bytes.NewReader(mixed), small))
	var want []Message
	for range len(a) - 1 {
		want = append(want, bye.want)
	}
	wantMessages(t, got, err, append(want, wantB, bye.want, wantA)...)
}

func partOf(id, left uint64, data []byte, extra ...[]byte) []byte {
	head := [][]byte{
		values(func(e *Encoder) { e.Uint(uint64(KindPart)) }), values(func(e *Encoder) { e.Uint(id) }),
		values(func(e *Encoder) { e.Uint(left) }), values(func(e *Encoder) { e.Bytes(data) }),
	}
	return frameOf(join(slices.Concat(head, extra)...))
}

func TestAPartMayHaveMoreElements(t *testing.T) {
	encode, want := outputOf(7, 10)
	body := values(encode)
	b := slices.Concat(partOf(1, uint64(len(body)-4), body[:4], grease...), partOf(1, 0, body[4:], grease...))
	got, err := readAll(NewReader(bytes.NewReader(b), Limits{}))
	wantMessages(t, got, err, want)
}

func TestAStreamMayNotEndWithinAMessageInParts(t *testing.T) {
	encode, _ := outputOf(7, 500)
	frames := framesOf(t, small, 0, encode)
	_, err := readAll(NewReader(bytes.NewReader(frames[0]), small))
	if err != io.ErrUnexpectedEOF {
		t.Errorf("got error %v", err)
	}
}

func TestBrokenParts(t *testing.T) {
	many := func(n int) (b []byte) {
		for id := range n {
			b = append(b, partOf(uint64(id), 5, []byte("x"))...)
		}
		return b
	}
	heap := func(n int) (b []byte) { // n messages of 60 bytes that have arrived but for one byte
		for id := range n {
			b = append(b, partOf(uint64(id), 1, make([]byte, 60))...)
		}
		return b
	}
	limits := Limits{Frame: 100, Message: 200}
	nested := partOf(1, 0, partOf(2, 0, []byte{0xc0})[4:])
	for _, c := range []struct {
		what, part string
		b          []byte
	}{
		{"too little is left", "follow", slices.Concat(partOf(1, 5, []byte("x")), partOf(1, 3, []byte("x")))},
		{"too much is left", "follow", slices.Concat(partOf(1, 5, []byte("x")), partOf(1, 5, []byte("x")))},
		{"longer than was left", "follow", slices.Concat(partOf(1, 5, []byte("x")), partOf(1, 0, []byte("123456")))},
		{"what is left wraps around", "follow", slices.Concat(partOf(1, 2, []byte("x")), partOf(1, 1<<64-2, []byte("1234")))},
		{"an empty part", "follow", partOf(1, 5, nil)},
		{"17 at once", "more than 16", many(17)},
		{"too long", "more than 200", partOf(1, 200, []byte("x"))},
		{"too long by far", "more than 200", partOf(1, 1<<64-1, []byte("x"))},
		{"too long together", "more than 200", heap(4)},
		{"no value", "not one msgpack value", partOf(1, 0, []byte{0x91})},
		{"no message", "no message", partOf(1, 0, []byte{0x91, 0x01})},
		{"parts in parts", "in parts itself", nested},
		{"no bytes", "elements where", frameOf(join([]byte{10}, []byte{1}, []byte{0}))},
		{"nil for bytes", "a string was expected", frameOf(join([]byte{10}, []byte{1}, []byte{0}, []byte{0xc0}))},
	} {
		_, err := readAll(NewReader(bytes.NewReader(c.b), limits))
		wantFormatError(t, err, c.part, c.what)
	}
	for what, b := range map[string][]byte{"16 at once": many(16), "not too long together": heap(3)} {
		if _, err := readAll(NewReader(bytes.NewReader(b), limits)); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAMessageThatIsTooLongIsTakenBack(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, small)
	first, want1 := outputOf(1, 300)
	second, want2 := outputOf(2, 10)
	huge, _ := outputOf(3, 2000)
	for i, encode := range []func(*Encoder){first, huge, second} {
		w.Begin()
		encode(w.Encoder)
		err := w.End()
		if tooLong := err != nil && strings.Contains(err.Error(), "larger than the 2000"); tooLong != (i == 1) {
			t.Errorf("message %d: got error %v", i, err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(NewReader(&b, small))
	wantMessages(t, got, err, want1, want2)
}

// counting is a stream that counts the writes.
type counting struct {
	bytes.Buffer
	writes int
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(b)
}

func TestWhatHasGatheredLeavesInOneWrite(t *testing.T) {
	var c counting
	w := NewWriter(&c, Limits{})
	var want []Message
	for _, s := range samples() {
		w.Begin()
		s.encode(w.Encoder)
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		want = append(want, s.want)
	}
	for range 2 { // nothing waits for the second
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if c.writes != 1 {
		t.Errorf("%d writes", c.writes)
	}
	got, err := readAll(NewReader(&c, Limits{}))
	wantMessages(t, got, err, want...)
}
