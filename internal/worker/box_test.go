package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/blackbox"
	"gpool/internal/ipc"
)

func newBox(t testing.TB) (*blackbox.Box, *blackbox.Recorder) {
	t.Helper()
	box, file, err := blackbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := blackbox.Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return box, r
}

// boxed runs a test with a worker that has a box.
func boxed(t *testing.T, all Registry, test func(*testing.T, *parent, *blackbox.Box)) {
	t.Helper()
	box, r := newBox(t)
	bubble(t, Config{Tasks: all, Box: r}, func(t *testing.T, p *parent) { test(t, p, box) })
}

// holds compares what is in the box: the call that runs, and the outcomes.
func holds(t *testing.T, box *blackbox.Box, want string) {
	t.Helper()
	synctest.Wait()
	running, finished := box.Read()
	got := fmt.Sprint(running, ":")
	for _, f := range finished {
		got += fmt.Sprintf(" %d", f.ID)
		if f.Code != 0 {
			got += fmt.Sprintf("[%d %s]", f.Code, f.Message)
		}
		if len(f.Data) > 0 && f.Code != uint8(ipc.Panicked) {
			got += "=" + brief(string(f.Data))
		}
	}
	if got != want {
		t.Errorf("the box holds %q, want %q", got, want)
	}
}

// openGate lets a gate go once the worker has read all that it was sent: else its runner may
// find nothing more to do, and send what waits.
func openGate(openC chan struct{}) {
	synctest.Wait()
	openC <- struct{}{}
}

func TestTheBoxHoldsWhatHasNotLeft(t *testing.T) {
	var openC chan struct{}
	all := Registry{"echo": tasks["echo"], "fail": tasks["fail"], "panic": tasks["panic"], "gate": gate(&openC)}
	boxed(t, all, func(t *testing.T, p *parent, box *blackbox.Box) {
		openC = make(chan struct{})
		holds(t, box, "0:")
		p.run(1, "echo", "a", "b")
		p.wants("result 1: a b")
		holds(t, box, "0:") // they have left: the runner had nothing to do
		p.run(3, "gate", "c")
		p.run(4, "fail", "no")
		p.run(5, "panic", "oh")
		p.run(6, "missing", "")
		p.run(7, "gate", "d", "e")
		openGate(openC)
		p.wants()
		holds(t, box, `7: 3=c 4[1 no] 5[2 oh] 6[4 this worker has no task "missing"]`)
		p.numbers(ipc.KindCancel, 8, sigTerm)
		<-time.After(flushDelay)
		if got := p.take(); len(got) != 1 || len(got[0].Result.Outcomes) != 4 {
			t.Errorf("the worker said %v", got)
		}
		holds(t, box, "7:")
		openGate(openC)
		p.take()
		holds(t, box, "0:")
	})
}

func TestTheTimesInTheBox(t *testing.T) {
	all := Registry{"last": func(_ context.Context, c *Call) ([]byte, error) {
		<-time.After(100 * time.Microsecond)
		return nil, nil
	}, "hang": tasks["hang"]}
	box, r := newBox(t)
	bubble(t, Config{Tasks: all, Box: r}, func(t *testing.T, p *parent) {
		begin := time.Now()
		p.run(1, "last", "", "")
		p.run(3, "hang", "")
		<-time.After(time.Millisecond)
		_, finished := box.Read()
		for i, f := range finished {
			if f.Start != begin.UnixNano()+int64(i)*100_000 || f.Elapsed != 100_000 {
				t.Errorf("the calls began at %d; the box says %+v", begin.UnixNano(), f)
			}
		}
		if len(finished) != 2 {
			t.Errorf("it holds %v", finished)
		}
		p.numbers(ipc.KindCancel, 3, sigTerm)
	})
}

// What has no place in the box leaves at once, and takes along what is in it.
func TestWhatTheBoxCannotHoldLeavesAtOnce(t *testing.T) {
	var openC chan struct{}
	all := Registry{"echo": tasks["echo"], "gate": gate(&openC), "print": func(ctx context.Context, c *Call) ([]byte, error) {
		return []byte("printed"), c.Output(ctx, ipc.Stdout, c.Payload)
	}}
	boxed(t, all, func(t *testing.T, p *parent, box *blackbox.Box) {
		openC = make(chan struct{})
		p.run(1, "gate", "")
		p.init("echo", "")
		p.run(2, "gate", "")
		openGate(openC)
		p.wants("result 1: ", "result 0: ") // the initializer's answer
		holds(t, box, "2:")
		p.run(3, "echo", "x")
		p.run(4, "print", "out")
		p.run(5, "gate", "")
		openGate(openC)
		p.wants("result 2:  x", "output 4/1: out", "result 4: printed")
		holds(t, box, "5:")
		p.run(6, "print", "") // prints nothing
		p.run(7, "gate", "")
		openGate(openC)
		p.wants()
		holds(t, box, "7: 5 6=printed")
		// Many that are empty fill the box sooner than the 32 KiB of the outbox.
		p.run(8, "echo", slices.Repeat([]string{""}, 2047)...)
		p.run(8+2047, "gate", "")
		openGate(openC)
		n := 0
		for _, m := range p.take() {
			n += len(m.Result.Outcomes)
		}
		running, finished := box.Read()
		if running != 8+2047 || n == 0 || n+len(finished) != 3+2047 {
			t.Errorf("%d have left, %d are in the box, and %d runs", n, len(finished), running)
		}
		openGate(openC)
	})
}

// Word of calls that were given back is not in the box, and must not be lost where an
// outcome behind them is found.
func TestWordOfReturnedCallsLeavesAheadOfResults(t *testing.T) {
	box, r := newBox(t)
	synctest.Test(t, func(t *testing.T) { // in which no time passes
		var sent bytes.Buffer
		o := newOutbox(ipc.NewWriter(&sent, ipc.Limits{}), r)
		defer o.stop()
		result := func(id uint64) { o.result(id, ipc.Outcome{}, time.Now(), 0) }
		result(1)
		o.returned(ipc.Numbers{ID: 3, N: 2})
		result(2) // follows 1, and may leave with it, ahead of the word
		if _, finished := box.Read(); sent.Len() > 0 || len(finished) != 2 {
			t.Fatalf("%d bytes have left, and the box holds %v", sent.Len(), finished)
		}
		result(5)
		if _, finished := box.Read(); sent.Len() == 0 || len(finished) > 0 {
			t.Errorf("%d bytes have left, and the box holds %v", sent.Len(), finished)
		}
		var said []string
		reader := ipc.NewReader(&sent, ipc.Limits{})
		for m := (ipc.Message{}); reader.Next(&m) == nil; {
			said = append(said, show(m))
		}
		if want := []string{"returned 3+2", "result 1:  ", "result 5: "}; !slices.Equal(said, want) {
			t.Errorf("what has left is %q, want %q", said, want)
		}
	})
}

func TestALongCallLeavesTheBoxAtOnce(t *testing.T) {
	all := Registry{"last": func(context.Context, *Call) ([]byte, error) { <-time.After(time.Second); return nil, nil }, "hang": tasks["hang"]}
	boxed(t, all, func(t *testing.T, p *parent, box *blackbox.Box) {
		p.run(1, "last", "")
		holds(t, box, "1:")
		p.run(2, "hang", "")
		<-time.After(time.Second)
		p.wants("result 1: ")
		holds(t, box, "2:")
		p.numbers(ipc.KindCancel, 2, sigTerm)
	})
}

// What a parent does not take stays in the box.
func TestTheBoxHoldsWhatIsStuck(t *testing.T) {
	box, r := newBox(t)
	synctest.Test(t, func(t *testing.T) {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		doneC := make(chan error)
		go func() { doneC <- Serve(inR, outW, Config{Tasks: tasks, Box: r}) }()
		reader := ipc.NewReader(outR, ipc.Limits{})
		var m ipc.Message
		if err := reader.Next(&m); err != nil {
			t.Fatal(err)
		}
		w := ipc.NewWriter(inW, ipc.Limits{})
		w.Begin()
		w.Run(&ipc.Run{ID: 1, Task: "echo", Payloads: [][]byte{[]byte("a"), []byte("b")}, Attempt: 1})
		_ = w.End()
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // in the write
		if _, finished := box.Read(); len(finished) != 2 {
			t.Errorf("it holds %v", finished)
		}
		outR.Close() // the write fails
		synctest.Wait()
		if running, finished := box.Read(); len(finished) != 2 || running != 0 {
			t.Errorf("it holds %v, and %d is running", finished, running)
		}
		inW.Close()
		<-doneC
	})
}

// recorded is a worker with a box at descriptor 3. Its one task says in the box at
// descriptor 4 that it begins (2*id) and ends (2*id+1).
func recorded() int {
	box, err := blackbox.Open(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	tasks, err := blackbox.Open(4)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	in, out, err := Guard()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	work := func(ctx context.Context, c *Call) ([]byte, error) {
		tasks.Begin(2 * c.ID)
		defer tasks.Begin(2*c.ID + 1)
		value, printed, err := madeOf(c.ID)
		if c.ID%1000 == 999 {
			time.Sleep(flushElapsed)
		}
		if printed != "" {
			_ = c.Output(ctx, ipc.Stdout, []byte(printed))
		}
		return value, err
	}
	if err := Serve(in, out, Config{Tasks: Registry{"work": work}, Box: box}); err != nil {
		return 3
	}
	return 0
}

// madeOf is what a call of the recorded worker gives.
func madeOf(id uint64) (value []byte, printed string, err error) {
	switch {
	case id%100 == 7:
		return nil, "", fmt.Errorf("call %d failed", id)
	case id%500 == 3:
		return nil, fmt.Sprintln("call", id), nil
	case id%3000 == 5:
		return make([]byte, 40<<10), "", nil
	}
	return binary.BigEndian.AppendUint64(nil, id), "", nil
}

// account is what a parent knows after the death of a worker.
type account struct {
	t        *testing.T
	answered uint64 // calls 1 to answered have an outcome
	printed  map[uint64]string
}

func (a *account) outcome(id uint64, code ipc.Code, message string, data []byte) {
	a.t.Helper()
	if id <= a.answered {
		return
	}
	value, printed, err := madeOf(id)
	if id != a.answered+1 || string(data) != string(value) || err != nil && message != err.Error() || (err != nil) != (code != ipc.OK) || a.printed[id] != printed {
		a.t.Errorf("after call %d comes %d: [%d %s] %d bytes, printed %q", a.answered, id, code, message, len(data), a.printed[id])
	}
	a.answered = id
}

// A worker that is killed at any moment while tiny calls run costs one call at most.
func TestADeathCostsTheRunningCallAlone(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	victims, found := 0, 0
	for range rounds {
		a := &account{t: t, printed: map[uint64]string{}}
		begun, ended, running, records := a.die(time.Duration(rand.IntN(5000)) * time.Microsecond)
		found += records
		lost := running > a.answered
		if lost {
			victims++
		}
		switch {
		case !lost && running != 0 && running != a.answered, lost && running != a.answered+1,
			!lost && (begun != a.answered || ended != a.answered),
			lost && (begun < a.answered || begun > running || ended < a.answered || ended > running):
			t.Errorf("%d calls have an outcome, %d is running; tasks began up to %d and ended up to %d", a.answered, running, begun, ended)
		}
	}
	t.Logf("%d deaths: %d had a victim, %d outcomes were found in the box", rounds, victims, found)
	if victims == 0 || found == 0 {
		t.Error("the test has seen nothing of what it is for")
	}
}

// die starts a worker, keeps it busy and kills it after a time, and reads what is left.
func (a *account) die(after time.Duration) (begun, ended, running uint64, records int) {
	t := a.t
	t.Helper()
	box, boxFile, err := blackbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	defer boxFile.Close()
	tasks, tasksFile, err := blackbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer tasks.Close()
	defer tasksFile.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), play+"=recorded")
	cmd.ExtraFiles = []*os.File{boxFile, tasksFile}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writerDone := make(chan struct{})
	go func() {
		defer close(writerDone)
		w := ipc.NewWriter(in, ipc.Limits{})
		for id := uint64(1); ; id += 64 {
			w.Begin()
			w.Run(&ipc.Run{ID: id, Task: "work", Payloads: make([][]byte, 64), Seq: id, Attempt: 1})
			_ = w.End()
			if w.Flush() != nil {
				return
			}
		}
	}()
	r := ipc.NewReader(out, ipc.Limits{})
	var m ipc.Message
	var timer *time.Timer
	for r.Next(&m) == nil {
		switch m.Kind {
		case ipc.KindHello:
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		case ipc.KindOutput:
			a.printed[m.Output.ID] += string(m.Output.Data)
		case ipc.KindResult:
			for i, o := range m.Result.Outcomes {
				a.outcome(m.Result.ID+uint64(i), o.Code, o.Message, o.Data)
			}
		}
	}
	if timer == nil {
		t.Fatal("the worker never said hello")
	}
	_ = cmd.Wait()
	<-writerDone
	timer.Stop()
	running, finished := box.Read()
	for _, f := range finished {
		if f.ID > a.answered {
			records++
		}
		a.outcome(f.ID, ipc.Code(f.Code), f.Message, f.Data)
	}
	task, _ := tasks.Read()
	if task == 0 {
		return 0, 0, running, records
	}
	return task / 2, (task - 1) / 2, running, records
}

// BenchmarkBox compares whole calls, which do nothing, with and without a box.
func BenchmarkBox(b *testing.B) {
	for _, name := range []string{"without", "with"} {
		b.Run(name, func(b *testing.B) {
			config := Config{Tasks: Registry{"work": func(_ context.Context, c *Call) ([]byte, error) { return c.Payload, nil }}}
			if name == "with" {
				_, config.Box = newBox(b)
			}
			inR, inW := io.Pipe()
			go func() {
				w := ipc.NewWriter(inW, ipc.Limits{})
				run := ipc.Run{ID: 1, Task: "work", Attempt: 1, Payloads: slices.Repeat([][]byte{make([]byte, 16)}, 256)}
				for ; run.ID < uint64(b.N); run.ID += 256 {
					w.Begin()
					w.Run(&run)
					_ = w.End()
					_ = w.Flush()
				}
				w.Begin()
				w.Numbers(ipc.KindBye, ipc.Numbers{})
				_ = w.End()
				_ = w.Flush()
				inW.Close()
			}()
			b.ReportAllocs()
			if err := Serve(inR, io.Discard, config); err != nil {
				b.Fatal(err)
			}
		})
	}
}
