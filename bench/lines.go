package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"gpool/internal/input"
	"gpool/internal/pool"
	"gpool/internal/pool/launch"
	"gpool/internal/worker"
)

// lines measures the peak of the parent, and the time of a call, over short and long inputs, on a cheap
// task in real workers: imap, in order, chunks of the default size.
func (b *bench) lines() error {
	const short, middle, long = 100_000, 1_000_000, 10_000_000
	var peaks []float64
	perCall := func(n int) measured {
		return each(n, func() (time.Duration, error) {
			kib, took, err := b.passLines(n)
			if n == long {
				peaks = append(peaks, float64(kib)/1024)
			}
			return took, err
		})
	}
	b.within("cost of a call: 10 million lines through imap", perCall(long), "100 thousand", perCall(short), 1.1)
	b.quantity("peak memory of the parent, 1 million lines through imap", "MiB", 48, func() (float64, error) {
		kib, _, err := b.passLines(middle)
		return float64(kib) / 1024, err
	})
	b.quantity("peak memory of the parent, 10 million lines through imap", "MiB", 48, oneByOne(peaks))
	return nil
}

// passLines lets n lines pass through a parent of its own: the peak of its memory in KiB, and how long it took.
func (b *bench) passLines(n int) (kib int, took time.Duration, err error) {
	seq := exec.Command("seq", strconv.Itoa(n))
	lines, err := seq.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.Command(b.self, "lines")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = lines, &out, os.Stderr
	if err := seq.Start(); err != nil {
		return 0, 0, err
	}
	if err := cmd.Run(); err != nil {
		return 0, 0, err
	}
	if err := seq.Wait(); err != nil {
		return 0, 0, err
	}
	var done int
	if _, err := fmt.Sscan(out.String(), &done, &kib, (*int64)(&took)); err != nil || done != n {
		return 0, 0, fmt.Errorf("%d lines in, %q out: %v", n, out.String(), err)
	}
	return kib, took, nil
}

// serve is a worker with a cheap task, which returns its payload.
func serve() {
	in, out, err := worker.Guard()
	exitOn(err)
	_ = worker.Serve(in, out, worker.Config{Tasks: worker.Registry{
		"echo": func(_ context.Context, c *worker.Call) ([]byte, error) { return c.Payload, nil },
	}})
}

// runLines is the parent of that worker, as gpool imap is one: it prints how many
// lines came back in order, the peak of its memory in KiB, and how many nanoseconds that took.
func runLines() error {
	launcher, err := launch.Self("worker")
	if err != nil {
		return err
	}
	p, err := pool.New(pool.Config{Workers: 2, Launcher: launcher, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	rows, _, err := input.Open(nil, os.Stdin, input.Format{})
	if err != nil {
		return err
	}
	c := &counter{}
	from := time.Now()
	r, err := p.Submit(pool.Job{Task: "echo", Order: pool.Ordered, Source: rowSource{rows}, Consumer: c})
	if err != nil {
		return err
	}
	if err := r.Wait(); err != nil {
		return err
	}
	took := time.Since(from)
	p.Close()
	fmt.Println(c.n, statusOf("self", "VmHWM:"), took.Nanoseconds())
	return nil
}

// rowSource hands lines to the pool.
type rowSource struct{ rows input.Source }

func (s rowSource) Next(_ context.Context, max int) ([]pool.Call, error) {
	rows, err := s.rows.Next(max)
	list := make([]pool.Call, len(rows))
	for i := range rows {
		list[i] = pool.Call{Payload: []byte(rows[i].Columns[0]), Item: &rows[i]}
	}
	if len(rows) > 0 {
		err = nil
	}
	return list, err
}

// counter checks that results come in order.
type counter struct{ n int }

func (c *counter) Output(*pool.Output) error { return nil }
func (c *counter) Flush() error              { return nil }

func (c *counter) Result(r *pool.Result) error {
	c.n++
	if want := strconv.Itoa(c.n); string(r.Value) != want {
		return fmt.Errorf("result %s is %q", want, r.Value)
	}
	return nil
}

// statusOf is a line of the status of a process, in KiB; 0 where there is none.
func statusOf(pid, name string) int {
	text, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kib, _ := strconv.Atoi(string(bytes.Fields(rest)[0]))
			return kib
		}
	}
	return 0
}
