package blackbox

import (
	"bytes"
	"encoding/binary"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gpool/internal/unnamed"
)

// open returns both ends of a new box.
func open(t testing.TB) (*Box, *Recorder) {
	t.Helper()
	box, file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	defer file.Close()
	return box, openFile(t, file)
}

// openFile is what a worker does with the descriptor that it has inherited.
func openFile(t testing.TB, file *os.File) *Recorder {
	t.Helper()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is still open: %v", err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func wantRead(t *testing.T, b *Box, running uint64, finished ...Record) {
	t.Helper()
	gotRunning, got := b.Read()
	if gotRunning != running || len(got) != len(finished) || len(got) > 0 && !reflect.DeepEqual(got, finished) {
		t.Errorf("it reads %d and %+v, want %d and %+v", gotRunning, got, running, finished)
	}
}

func TestWhatIsRecordedCanBeRead(t *testing.T) {
	box, r := open(t)
	first := Record{ID: 7, Data: []byte("value"), Start: 1764000000002000000, Elapsed: 1}
	second := Record{ID: 8, Code: 255, Message: "it failed: ä", Data: []byte{}, Start: -1, Elapsed: -2}
	third := Record{ID: 1<<53 - 1, Code: 1, Message: "m", Data: []byte("12345678")}
	wantRead(t, box, 0)
	r.Begin(7)
	wantRead(t, box, 7)
	if !r.Finish(first) {
		t.Error("there is no room for the first one")
	}
	wantRead(t, box, 0, first) // it has an outcome, so it is not the one that runs
	r.Done()
	wantRead(t, box, 0, first)
	r.Begin(8)
	wantRead(t, box, 8, first)
	r.Finish(second)
	r.Done()
	r.Finish(third)
	wantRead(t, box, 0, first, second, third)
	r.Begin(9)
	r.Sent()
	wantRead(t, box, 9)
	r.Finish(second)
	wantRead(t, box, 9, second)
	r.Done()
	wantRead(t, box, 0, second)
}

// A worker in another language leaves its box alone, which is not the same as having
// run nothing.
func TestABoxKnowsWhetherItWasOpened(t *testing.T) {
	box, file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if box.Opened() {
		t.Error("a new box says that it was opened")
	}
	defer file.Close()
	openFile(t, file)
	if !box.Opened() {
		t.Error("an opened box says that it was not")
	}
}

func TestTheCopiesAreTheCallers(t *testing.T) {
	box, r := open(t)
	r.Finish(Record{ID: 1, Data: []byte("one")})
	_, first := box.Read()
	r.Sent()
	r.Finish(Record{ID: 2, Data: []byte("two")})
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	if string(first[0].Data) != "one" {
		t.Errorf("it has become %q", first[0].Data)
	}
}

func TestClose(t *testing.T) {
	box, r := open(t)
	r.Finish(Record{ID: 1})
	for range 2 {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
		wantRead(t, box, 0)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoRecorder(t *testing.T) {
	var r *Recorder
	r.Begin(1)
	if !r.Finish(Record{ID: 1, Data: make([]byte, 10*size)}) {
		t.Error("it is full")
	}
	r.Sent()
	r.Done()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	box, r := open(t)
	const room = size - recordsAt - recordHead
	for _, rec := range []Record{
		{ID: 1, Data: make([]byte, room+1)},
		{ID: 1, Message: strings.Repeat("x", room+1)},
		{ID: 1, Message: strings.Repeat("x", room/2), Data: make([]byte, room/2+1)},
		{ID: 1, Data: make([]byte, size)}, // its length would be written as 0
		{ID: 1, Message: strings.Repeat("x", size), Data: make([]byte, size)},
		{ID: 1, Data: make([]byte, 100*size)},
	} {
		if r.Finish(rec) {
			t.Errorf("there was room for %d and %d bytes", len(rec.Message), len(rec.Data))
		}
	}
	wantRead(t, box, 0)
	largest := Record{ID: 2, Message: "x", Data: bytes.Repeat([]byte("y"), room-1)}
	if !r.Finish(largest) {
		t.Error("there is no room for the largest that may be")
	}
	wantRead(t, box, 0, largest)
	if r.Finish(Record{ID: 3}) {
		t.Error("there was room behind it")
	}
	r.Sent()
	if !r.Finish(Record{ID: 3, Data: []byte{}}) {
		t.Error("there is no room after it was sent")
	}
	wantRead(t, box, 0, Record{ID: 3, Data: []byte{}})
}

func TestAFullBox(t *testing.T) {
	box, r := open(t)
	var want []Record
	for id := uint64(1); ; id++ {
		rec := Record{ID: id, Data: bytes.Repeat([]byte{byte(id)}, int(id%50)), Elapsed: int64(id)}
		if !r.Finish(rec) {
			break
		}
		want = append(want, rec)
	}
	if len(want) < 1000 {
		t.Errorf("it is full after %d records", len(want))
	}
	wantRead(t, box, 0, want...)
}

// Of a box that somebody has scribbled over, what stands before that is read.
func TestAScribbledBox(t *testing.T) {
	good := Record{ID: 5, Message: "ok", Data: []byte("value")}
	next := recordsAt + good.size()
	for what, scribble := range map[string]func(mem []byte){
		"another mark":           func(mem []byte) { put16(mem[next+24:], 1) },
		"a code of two bytes":    func(mem []byte) { put16(mem[next+26:], 256) },
		"a message beyond all":   func(mem []byte) { put16(mem[next+28:], 1<<16-1) },
		"data beyond all":        func(mem []byte) { put16(mem[next+30:], 1<<16-1) },
		"data beyond the others": func(mem []byte) { put16(mem[next+30:], 17) },
		"the same id":            func(mem []byte) { binary.NativeEndian.PutUint64(mem[next:], 5) },
		"a lower id":             func(mem []byte) { binary.NativeEndian.PutUint64(mem[next:], 4) },
		"no id":                  func(mem []byte) { binary.NativeEndian.PutUint64(mem[next:], 0) },
		"an id that cannot be":   func(mem []byte) { binary.NativeEndian.PutUint64(mem[next:], 1<<53) },
		"a record cut short":     func(mem []byte) { binary.NativeEndian.PutUint64(mem[16:], uint64(next-recordsAt+recordHead)) },
		"a head cut short":       func(mem []byte) { binary.NativeEndian.PutUint64(mem[16:], uint64(next-recordsAt+recordHead-1)) },
	} {
		t.Run(what, func(t *testing.T) {
			box, r := open(t)
			r.Begin(6)
			r.Finish(good)
			r.Finish(Record{ID: 6, Data: []byte("0123456789abcdef")})
			scribble(box.mem)
			wantRead(t, box, 6, good)
		})
	}
	for what, scribble := range map[string]func(mem []byte){
		"another magic":         func(mem []byte) { mem[0] = 0 },
		"more used than is":     func(mem []byte) { binary.NativeEndian.PutUint64(mem[16:], size-recordsAt+1) },
		"all used that can be":  func(mem []byte) { binary.NativeEndian.PutUint64(mem[16:], 1<<64-1) },
		"zeros":                 func(mem []byte) { clear(mem) },
		"a call that cannot be": func(mem []byte) { binary.NativeEndian.PutUint64(mem[8:], 1<<53); mem[16] = 0 },
	} {
		t.Run(what, func(t *testing.T) {
			box, r := open(t)
			r.Finish(good)
			scribble(box.mem)
			wantRead(t, box, 0)
		})
	}
}

// A worker that cuts its box does not take the parent along.
func TestACutBox(t *testing.T) {
	for _, left := range []int64{0, int64(os.Getpagesize())} {
		file, err := unnamed.File("a box", size)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		mem, err := mapShared(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		headerOf(mem).magic = magic
		box := &Box{mem: mem}
		defer box.Close()
		r := openFile(t, file)
		r.Finish(Record{ID: 1, Data: make([]byte, 32<<10)})
		if err := file.Truncate(left); err != nil {
			t.Fatal(err)
		}
		wantRead(t, box, 0)
	}
}

func TestABoxCannotBeCutWhereItCanBeSealed(t *testing.T) {
	_, file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if sealed(file) && file.Truncate(0) == nil {
		t.Error("it was cut")
	}
}

func TestOpenRefusesWhatIsNoBox(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	short, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	zeros, err := unnamed.File("a box", size)
	if err != nil {
		t.Fatal(err)
	}
	defer zeros.Close()
	for part, fd := range map[string]int{
		"not a file of 65536 bytes": pipe[0],
		"is no black box":           int(short.Fd()),
		"it begins with 0x0":        int(zeros.Fd()),
	} {
		r, err := Open(fd)
		if r != nil || err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v and error %v, want %q", r, err, part)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("the descriptor has been closed: %v", err)
		}
	}
	unix.Close(pipe[0])
	if _, err := Open(pipe[0]); err == nil {
		t.Error("a closed descriptor passes for a box")
	}
}

func TestNothingAllocates(t *testing.T) {
	_, r := open(t)
	rec := Record{ID: 1, Message: "m", Data: make([]byte, 100)}
	if n := testing.AllocsPerRun(1000, func() {
		r.Begin(rec.ID)
		r.Finish(rec)
		r.Done()
		r.Sent()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRead reads what a broken worker may leave.
func FuzzRead(f *testing.F) {
	box, r := open(f)
	f.Add(uint64(0), uint64(0), []byte{})
	f.Add(uint64(1<<64-1), uint64(1<<64-1), bytes.Repeat([]byte{255}, 100))
	for id := uint64(1); id < 4; id++ {
		r.Finish(Record{ID: id, Code: uint8(id), Message: strings.Repeat("m", int(id)), Data: bytes.Repeat([]byte("d"), int(10*id)), Start: 1, Elapsed: 2})
		f.Add(id+1, uint64(r.used), bytes.Clone(box.mem[recordsAt:recordsAt+r.used]))
	}
	f.Fuzz(func(t *testing.T, running, used uint64, records []byte) {
		clear(box.mem)
		head := headerOf(box.mem)
		head.magic = magic
		head.running.Store(running)
		head.used.Store(used)
		copy(box.mem[recordsAt:], records)
		last, bytes := uint64(0), 0
		gotRunning, finished := box.Read()
		for i := range finished {
			rec := &finished[i]
			if rec.ID <= last || rec.ID > lastID || rec.ID == gotRunning {
				t.Errorf("call %d follows %d, and %d is running", rec.ID, last, gotRunning)
			}
			last = rec.ID
			bytes += recordHead + len(rec.Message) + len(rec.Data)
		}
		if bytes > size-recordsAt || uint64(bytes) > used {
			t.Errorf("%d bytes of records were read of %d", bytes, used)
		}
		if gotRunning != 0 && gotRunning != running {
			t.Errorf("call %d is running, and %d was written", gotRunning, running)
		}
	})
}

// BenchmarkCall is what the box costs a call, beside what the call costs.
func BenchmarkCall(b *testing.B) {
	for name, n := range map[string]int{"0 bytes": 0, "16 bytes": 16, "256 bytes": 256, "4 KiB": 4 << 10} {
		b.Run(name, func(b *testing.B) {
			_, r := open(b)
			rec := Record{Data: make([]byte, n), Start: 1, Elapsed: 2}
			b.ReportAllocs()
			for b.Loop() {
				rec.ID++
				r.Begin(rec.ID)
				if !r.Finish(rec) {
					r.Sent()
					r.Finish(rec)
				}
				r.Done()
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		box, file, err := New()
		if err != nil {
			b.Fatal(err)
		}
		file.Close()
		box.Close()
	}
}
