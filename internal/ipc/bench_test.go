package ipc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testBinary(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// chunkOf is n calls with payloads of 16 bytes, and their results.
func chunkOf(n int) (*Run, *Result) {
	run := &Run{ID: 1 << 20, Task: "exec", Common: echo, Seq: 1 << 20, Attempt: 1}
	result := &Result{ID: 1 << 20, Start: 1764000000000000000, Elapsed: 123456}
	for range n {
		run.Payloads = append(run.Payloads, make([]byte, 16))
		result.Outcomes = append(result.Outcomes, Outcome{Data: success})
	}
	return run, result
}

// endless is a stream that says the same thing for ever.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.b[e.at:])
	e.at = (e.at + n) % len(e.b)
	return n, nil
}

// paths are the ways that must take no memory once they are warm.
func paths() (names []string, ways []func() error) {
	add := func(name string, way func() error) {
		names, ways = append(names, name), append(ways, way)
	}
	for _, n := range []int{1, 16, 256} {
		run, result := chunkOf(n)
		for name, encode := range map[string]func(*Encoder){
			"Run":    func(e *Encoder) { e.Run(run) },
			"Result": func(e *Encoder) { e.Result(result) },
		} {
			w := NewWriter(io.Discard, Limits{})
			add(fmt.Sprintf("%sEncode/%d", name, n), func() error {
				w.Begin()
				encode(w.Encoder)
				if err := w.End(); err != nil {
					return err
				}
				return w.Flush()
			})
			r := NewReader(&endless{b: frameOf(values(encode))}, Limits{})
			m := new(Message)
			add(fmt.Sprintf("%sDecode/%d", name, n), func() error { return r.Next(m) })
		}
	}
	return names, ways
}

func TestSteadyTrafficTakesNoMemory(t *testing.T) {
	names, ways := paths()
	for i, way := range ways {
		if n := testing.AllocsPerRun(1000, func() {
			if err := way(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", names[i], n)
		}
	}
}

func BenchmarkTraffic(b *testing.B) {
	names, ways := paths()
	for i, way := range ways {
		b.Run(names[i], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := way(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPrecheck(b *testing.B) {
	run, _ := chunkOf(256)
	for name, v := range map[string][]byte{
		"31 bytes":       values(func(e *Encoder) { e.Output(Output{ID: 1 << 20, Stream: Stdout, Data: make([]byte, 22)}) }),
		"256 calls":      values(func(e *Encoder) { e.Run(run) }),
		"1 MiB of bytes": values(func(e *Encoder) { e.Bytes(make([]byte, 1<<20)) }),
		"1 MiB of nils":  append([]byte{0xdd, 0, 16, 0, 0}, bytes.Repeat([]byte{0xc0}, 1<<20)...),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(v)))
			for b.Loop() {
				if err := Precheck(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
