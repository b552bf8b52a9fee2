package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gpool/internal/ipc"
)

func TestTheFirstFrameIsAHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, Config{Tasks: tasks})
		first := p.take()
		if len(first) != 1 || first[0].Kind != ipc.KindHello {
			t.Fatalf("the worker begins with %v", first)
		}
		h := first[0].Hello
		if h.Version != ipc.Version || h.Pid != os.Getpid() || h.Build != ipc.BuildID() || !slices.Equal(h.Tasks, []string{"echo", "fail", "hang", "panic"}) {
			t.Errorf("it says %+v", h)
		}
		p.leave()
	})
}

func TestTheHelloHasASignatureForEachTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, Config{Tasks: tasks, Signature: func(task string) string { return "(" + task + ")" }})
		if got := p.take()[0].Hello.Signatures; !slices.Equal(got, []string{"(echo)", "(fail)", "(hang)", "(panic)"}) {
			t.Errorf("it says %q", got)
		}
		p.leave()
	})
}

func TestAnInitIsAnsweredAsCallZero(t *testing.T) {
	for task, want := range map[string]string{
		"":        "result 0: ",
		"echo":    "result 0: ",
		"slot":    "result 0: 3 common",
		"panic":   "result 0: [2  ",
		"missing": `result 0: [4 this worker has no task "missing" ]`,
	} {
		all := Registry{"slot": func(_ context.Context, c *Call) ([]byte, error) {
			return fmt.Appendf(nil, "%d %s", c.Slot, c.Common), nil
		}, "echo": tasks["echo"], "panic": tasks["panic"]}
		bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
			p.send(func(w *ipc.Writer) { w.Init(ipc.Init{Slot: 3, Task: task, Common: []byte("common")}) })
			got := p.take()
			if len(got) != 1 || !strings.HasPrefix(show(got[0]), want) {
				t.Errorf("init of %q: %v, want %s", task, got, want)
			}
		})
	}
}

func TestACallKnowsItsNumbers(t *testing.T) {
	all := Registry{"tell": func(_ context.Context, c *Call) ([]byte, error) {
		return fmt.Appendf(nil, "%d/%d/%d/%s/%s", c.ID, c.Seq, c.Attempt, c.Common, c.Payload), nil
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		p.run(7, "tell", "a", "b")
		p.wants("result 7: 7/107/1/common/a 8/108/1/common/b")
	})
}

func TestTinyCallsLeaveTogether(t *testing.T) {
	bubble(t, Config{Tasks: tasks}, func(t *testing.T, p *parent) {
		before := p.writes.Load()
		p.run(1, "echo", "a", "b", "c")
		p.wants("result 1: a b c")
		if n := p.writes.Load() - before; n != 1 {
			t.Errorf("%d writes for one chunk", n)
		}
		before = p.writes.Load()
		p.run(4, "echo", slices.Repeat([]string{strings.Repeat("x", 100)}, 1000)...)
		n := 0
		for _, m := range p.take() {
			if m.Result.ID != uint64(4+n) {
				t.Errorf("a result begins with call %d, want %d", m.Result.ID, 4+n)
			}
			n += len(m.Result.Outcomes)
		}
		if writes := p.writes.Load() - before; n != 1000 || writes > 5 {
			t.Errorf("%d outcomes of 100 bytes in %d writes", n, writes)
		}
	})
}

// Long texts of failures count like long values do.
func TestALotOfTextDoesNotGather(t *testing.T) {
	var openC chan struct{}
	bubble(t, Config{Tasks: Registry{"fail": tasks["fail"], "gate": gate(&openC)}}, func(t *testing.T, p *parent) {
		openC = make(chan struct{})
		p.run(1, "fail", strings.Repeat("x", flushBytes))
		p.run(2, "gate", "")
		if got := p.take(); len(got) != 1 {
			t.Errorf("%d messages before the timer", len(got))
		}
		openC <- struct{}{}
	})
}

func TestALongCallIsFlushedAtOnce(t *testing.T) {
	all := Registry{"last": func(_ context.Context, c *Call) ([]byte, error) {
		d, err := time.ParseDuration(string(c.Payload))
		if d > 0 {
			<-time.After(d)
		}
		return c.Payload, err
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		p.run(1, "last", "0s", "0s", "200us", "0s", "1h", "0s")
		p.wants() // no time has passed
		<-time.After(199 * time.Microsecond)
		p.wants()
		<-time.After(time.Microsecond)
		p.wants("result 1: 0s 0s", "result 3: 200us")
		<-time.After(flushDelay - time.Nanosecond)
		p.wants() // call 4 waits for company
		<-time.After(time.Nanosecond)
		p.wants("result 4: 0s")
		<-time.After(2 * time.Hour)
		p.wants("result 5: 1h", "result 6: 0s")
	})
}

func TestResultsTellWhenAndHowLong(t *testing.T) {
	all := Registry{"last": func(context.Context, *Call) ([]byte, error) { <-time.After(100 * time.Microsecond); return nil, nil }}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		begin := time.Now()
		p.run(1, "last", "", "")
		<-time.After(time.Millisecond)
		got := p.take()
		if len(got) != 1 || got[0].Result.Start != begin.UnixNano() || got[0].Result.Elapsed != 200_000 {
			t.Errorf("the calls began at %d; got %+v", begin.UnixNano(), got)
		}
	})
}

// printer prints its payload, and then goes on when the test says so.
func printer(goC *chan struct{}) Task {
	return func(ctx context.Context, c *Call) ([]byte, error) {
		if err := c.Output(ctx, ipc.Stdout, c.Payload); err != nil {
			return nil, err
		}
		if err := c.Output(ctx, ipc.Stderr, []byte("e")); err != nil {
			return nil, err
		}
		<-*goC
		return []byte("done"), nil
	}
}

func TestOutputPrecedesItsResultAndFollowsTheOneBefore(t *testing.T) {
	var goC chan struct{}
	bubble(t, Config{Tasks: Registry{"print": printer(&goC), "echo": tasks["echo"]}}, func(t *testing.T, p *parent) {
		goC = make(chan struct{})
		p.run(1, "echo", "x")
		p.run(2, "print", "a", "", "c")
		<-time.After(flushDelay)
		p.wants("result 1: x", "output 2/1: a", "output 2/2: e")
		goC <- struct{}{}
		goC <- struct{}{}
		goC <- struct{}{}
		p.wants("result 2: done", "output 3/2: e", "result 3: done", "output 4/1: c", "output 4/2: e", "result 4: done")
	})
}

func outputBytes(list []ipc.Message) (n int) {
	for _, m := range list {
		n += len(m.Output.Data)
	}
	return n
}

func TestOutputWaitsForCredit(t *testing.T) {
	all := Registry{
		"print": printer(nil), "echo": tasks["echo"],
		"lines": func(ctx context.Context, c *Call) ([]byte, error) {
			for range 3 << 10 {
				if err := c.Output(ctx, ipc.Stdout, make([]byte, 1<<10)); err != nil {
					return nil, err
				}
			}
			return []byte("done"), nil
		},
	}
	for _, c := range []struct {
		task, payload string
		result        string
	}{
		{"print", strings.Repeat("x", 3<<20), ""},
		{"lines", "", ""},
	} {
		bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
			p.run(1, c.task, c.payload)
			p.run(2, "echo", "x")
			if n := outputBytes(p.take()); n != outputWindow {
				t.Errorf("%d bytes without credit, want %d", n, outputWindow)
			}
			<-time.After(time.Hour)
			p.wants()
			p.numbers(ipc.KindCredit, 1, 256<<10)
			if n := outputBytes(p.take()); n != 256<<10 {
				t.Errorf("%d bytes for a credit of 256 KiB", n)
			}
			p.numbers(ipc.KindCredit, 2, 256<<10) // of another call
			p.wants()
			p.numbers(ipc.KindCancel, 1, sigTerm)
			p.wants("result 1: [3 the call was cancelled ]", "result 2: x")
		})
	}
}

// Credit beyond what is owed does not widen the window.
func TestTooMuchCreditIsWorthNoMore(t *testing.T) {
	bubble(t, Config{Tasks: Registry{"print": printer(nil)}}, func(t *testing.T, p *parent) {
		p.run(1, "print", strings.Repeat("x", 3<<20))
		p.take()
		p.numbers(ipc.KindCredit, 1, 1<<63)
		if n := outputBytes(p.take()); n != outputWindow {
			t.Errorf("%d bytes, want %d", n, outputWindow)
		}
		p.numbers(ipc.KindCancel, 1, sigTerm)
		p.wants("result 1: [3 the call was cancelled ]")
	})
}

// Two goroutines of a call wait for credit; one credit is enough for both.
func TestCreditWakesAllThatWait(t *testing.T) {
	all := Registry{"both": func(ctx context.Context, c *Call) ([]byte, error) {
		err := c.Output(ctx, ipc.Stdout, make([]byte, outputWindow))
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if e := c.Output(ctx, ipc.Stderr, []byte("x")); e != nil {
					err = e
				}
			})
		}
		both.Wait()
		return nil, err
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		p.run(1, "both", "")
		p.take()
		p.numbers(ipc.KindCredit, 1, 2)
		got := p.take()
		if len(got) != 3 || show(got[2]) != "result 1: " {
			t.Errorf("the worker said %v", got)
		}
	})
}

func TestCancel(t *testing.T) {
	var openC chan struct{}
	begun := 0
	all := Registry{"hang": tasks["hang"], "echo": tasks["echo"], "gate": gate(&openC), "count": func(context.Context, *Call) ([]byte, error) {
		begun++
		return nil, nil
	}, "stubborn": func(ctx context.Context, _ *Call) ([]byte, error) {
		<-ctx.Done()
		return []byte("made it"), nil
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		openC = make(chan struct{})
		p.run(1, "hang", "")
		p.run(2, "count", "", "")
		p.numbers(ipc.KindCancel, 3, sigTerm) // waits
		p.numbers(ipc.KindCancel, 9, sigTerm) // is not known
		p.wants()
		p.numbers(ipc.KindCancel, 1, sigTerm) // runs
		p.wants("result 1: [3 the call was cancelled ]  [3 the call was cancelled ]")
		if begun != 1 {
			t.Errorf("%d calls were begun, one was cancelled before", begun)
		}
		p.numbers(ipc.KindCancel, 1, sigTerm) // has ended
		p.numbers(ipc.KindCancel, 3, sigTerm)
		p.run(4, "gate", "x")
		p.numbers(ipc.KindCancel, 4, 0) // a question, not the call
		p.wants()
		openC <- struct{}{}
		p.wants("result 4: x")
		p.run(5, "stubborn", "")
		p.wants()
		p.numbers(ipc.KindCancel, 5, sigTerm)
		p.wants("result 5: made it")
	})
}

func TestACallThatOverrunsItsTimeLimit(t *testing.T) {
	var gotC chan syscall.Signal
	all := Registry{"hang": tasks["hang"], "echo": tasks["echo"], "stubborn": func(ctx context.Context, c *Call) ([]byte, error) {
		<-ctx.Done()
		return []byte("made it"), nil
	}, "insist": func(ctx context.Context, c *Call) ([]byte, error) {
		c.OnSignal(func(s syscall.Signal) { gotC <- s })
		for s := range gotC {
			if s == syscall.SIGKILL {
				break
			}
		}
		return nil, fmt.Errorf("%w, and it was killed", context.Cause(ctx))
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		gotC = make(chan syscall.Signal, 2)
		p.run(1, "hang", "")
		p.run(2, "echo", "2", "3", "4")
		p.overrun(2)
		p.numbers(ipc.KindCancel, 2, sigTerm) // the first reason stands
		p.numbers(ipc.KindCancel, 3, sigTerm)
		p.overrun(3)
		p.wants()
		p.overrun(1)
		p.wants("result 1: [5 the call's time limit has passed ] [5 the call's time limit has passed ] [3 the call was cancelled ] 4")
		p.run(5, "stubborn", "")
		synctest.Wait()
		p.overrun(5)
		p.wants("result 5: made it")
		p.run(6, "insist", "")
		synctest.Wait()
		p.overrun(6)
		p.wants() // it has had the signal, and goes on
		p.numbers(ipc.KindCancel, 6, uint64(syscall.SIGKILL))
		p.wants("result 6: [5 the call's time limit has passed, and it was killed ]")
		p.run(7, "hang", "")
		synctest.Wait()
		p.send(func(w *ipc.Writer) { w.Numbers(ipc.KindCancel, ipc.Numbers{ID: 7, N: sigTerm, M: 99}) })
		p.wants("result 7: [3 the call was cancelled ]") // a reason that is not known
	})
}

// The initializer runs as call 0 and is cancelled as such.
func TestTheInitializerCanBeCancelled(t *testing.T) {
	bubble(t, Config{Tasks: tasks}, func(t *testing.T, p *parent) {
		p.send(func(w *ipc.Writer) { w.Init(ipc.Init{Slot: 1, Task: "hang"}) })
		p.numbers(ipc.KindCancel, 0, sigTerm)
		p.wants("result 0: [3 the call was cancelled ]")
	})
}

// Whether the signal comes before or after the task can take it, it comes.
func TestTheSignalOfACancelArrives(t *testing.T) {
	for _, early := range []bool{true, false} {
		var readyC chan struct{}
		var gotC chan syscall.Signal
		all := Registry{"work": func(ctx context.Context, c *Call) ([]byte, error) {
			if early {
				<-ctx.Done()
			}
			c.OnSignal(func(s syscall.Signal) { gotC <- s })
			close(readyC)
			return nil, fmt.Errorf("signal %d", <-gotC)
		}}
		bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
			readyC, gotC = make(chan struct{}), make(chan syscall.Signal, 2)
			p.run(1, "work", "")
			p.wants()
			p.numbers(ipc.KindCancel, 1, sigTerm)
			p.wants("result 1: [3 signal 15 ]")
			if len(gotC) != 0 {
				t.Error("it came twice")
			}
		})
	}
}

func TestRecall(t *testing.T) {
	for _, c := range []struct {
		id   uint64
		want string
		runs string // what is left besides the running call 1
	}{
		{0, "returned 2+6", ""},
		{1, "returned 2+6", ""},
		{2, "returned 2+6", ""},
		{3, "returned 3+5", "2"},
		{4, "returned 4+4", "2 3"},
		{5, "returned 5+3", "2 3 4"},
		{7, "returned 7+1", "2 3 4 5 6"},
		{8, "returned 8+0", "2 3 4 5 6 7"},
		{1 << 52, "returned 4503599627370496+0", "2 3 4 5 6 7"},
	} {
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			var openC chan struct{}
			bubble(t, Config{Tasks: Registry{"gate": gate(&openC)}}, func(t *testing.T, p *parent) {
				openC = make(chan struct{})
				p.run(1, "gate", "1", "2", "3")
				p.run(4, "gate", "4")
				p.run(5, "gate", "5", "6", "7")
				synctest.Wait() // call 1 has begun
				p.numbers(ipc.KindRecall, c.id, 0)
				p.wants(c.want)
				p.numbers(ipc.KindCancel, 7, sigTerm) // given back or not
				p.numbers(ipc.KindRecall, 8, 0)
				p.wants("returned 8+0")
				p.run(8, "gate", "8")
				close(openC)
				var got []string
				for _, m := range p.take() {
					for i, o := range m.Result.Outcomes {
						if string(o.Data) != fmt.Sprint(m.Result.ID+uint64(i)) && o.Code != ipc.Cancelled {
							t.Errorf("call %d gave %q", m.Result.ID+uint64(i), o.Data)
						}
						got = append(got, fmt.Sprint(m.Result.ID+uint64(i)))
					}
				}
				if want := strings.Fields("1 " + c.runs + " 8"); !slices.Equal(got, want) {
					t.Errorf("calls %v were answered, want %v", got, want)
				}
			})
		})
	}
}

func TestRecallOfAnIdleWorkerAndOfItsInitializer(t *testing.T) {
	bubble(t, Config{Tasks: tasks}, func(t *testing.T, p *parent) {
		p.numbers(ipc.KindRecall, 1, 0)
		p.wants("returned 1+0")
		p.run(1, "hang", "")
		synctest.Wait()                                                         // call 1 has begun
		p.send(func(w *ipc.Writer) { w.Init(ipc.Init{Slot: 1, Task: "echo"}) }) // late, but it waits
		p.numbers(ipc.KindRecall, 0, 0)
		p.wants("returned 1+0")
		p.numbers(ipc.KindCancel, 1, sigTerm)
		p.wants("result 1: [3 the call was cancelled ]", "result 0: ")
	})
}

// What was given back is said before a later call is answered, also when two recalls
// follow each other.
func TestReturnedPrecedesLaterResults(t *testing.T) {
	var openC chan struct{}
	bubble(t, Config{Tasks: Registry{"gate": gate(&openC)}}, func(t *testing.T, p *parent) {
		openC = make(chan struct{})
		p.run(1, "gate", "1", "2", "3", "4")
		synctest.Wait() // call 1 has begun
		p.numbers(ipc.KindRecall, 4, 0)
		p.numbers(ipc.KindRecall, 2, 0)
		p.run(5, "gate", "5")
		close(openC)
		var got []string
		for _, m := range p.take() {
			if m.Kind == ipc.KindReturned || m.Result.ID == 5 {
				got = append(got, show(m))
			}
		}
		if want := []string{"returned 4+1", "returned 2+2", "result 5: 5"}; !slices.Equal(got, want) {
			t.Errorf("the worker said %q, want %q", got, want)
		}
	})
}

func TestSuspendIsHandedOn(t *testing.T) {
	var got []bool
	bubble(t, Config{Tasks: tasks, Suspend: func(on bool) { got = append(got, on) }}, func(t *testing.T, p *parent) {
		p.numbers(ipc.KindSuspend, 0, 1)
		p.run(1, "echo", "x")
		p.numbers(ipc.KindSuspend, 0, 0)
		p.wants("result 1: x")
		if !slices.Equal(got, []bool{true, false}) {
			t.Errorf("it was called with %v", got)
		}
	})
	bubble(t, Config{Tasks: tasks}, func(t *testing.T, p *parent) {
		p.numbers(ipc.KindSuspend, 0, 1) // nobody to hand it to
		p.wants()
	})
}

func TestAfterAByeTheQueueIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		openC := make(chan struct{})
		p := serve(t, Config{Tasks: Registry{"gate": gate(&openC)}, Orphaned: func() { t.Error("the worker feels orphaned") }})
		p.run(1, "gate", "a", "b")
		p.run(3, "gate", "c")
		p.numbers(ipc.KindBye, 0, 0)
		p.in.Close()
		p.wants("hello [gate]")
		close(openC)
		p.wants("result 1: a b c") // results of two chunks may share a frame
		if err := <-p.doneC; err != nil {
			t.Errorf("Serve returns %v", err)
		}
	})
}

// A call that asks cannot be answered once the parent's stream has ended.
func TestAQuestionEndsWithTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, Config{Tasks: Registry{"ask": func(ctx context.Context, c *Call) ([]byte, error) {
			_, err := c.Ask(ctx, "m", nil)
			if !errors.Is(err, ErrOrphaned) {
				t.Errorf("Ask returns %v", err)
			}
			_, err = c.Ask(ctx, "m", nil)
			return nil, err
		}}})
		p.run(1, "ask", "")
		p.wants("hello [ask]", "call 1 m: ")
		p.numbers(ipc.KindBye, 0, 0)
		p.in.Close()
		p.wants("result 1: [1 the parent process is gone ]")
		if err := <-p.doneC; err != nil {
			t.Errorf("Serve returns %v", err)
		}
	})
}

func TestTheParentGoesWithoutAWord(t *testing.T) {
	for what, c := range map[string]struct {
		last []byte
		part string
	}{
		"at once":          {nil, ErrOrphaned.Error()},
		"in a frame":       {[]byte{0, 0, 0, 9, 0x93}, "unexpected EOF"},
		"after text":       {[]byte("Hello, world\n"), `"Hello, world\n"`},
		"after a bad kind": {[]byte{0, 0, 0, 3, 0x92, 31, 0}, "unknown kind 31"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				orphaned := 0
				p := serve(t, Config{Tasks: tasks, Orphaned: func() { orphaned++ }})
				p.run(1, "hang", "")
				p.run(2, "echo", "x", "y")
				synctest.Wait()
				_, _ = p.in.Write(c.last)
				p.in.Close()
				p.wants("hello [echo fail hang panic]", "result 1: [1 the parent process is gone ]")
				if err := <-p.doneC; err == nil || !strings.Contains(err.Error(), c.part) {
					t.Errorf("Serve returns %v, want %q", err, c.part)
				}
				if orphaned != 1 {
					t.Errorf("Orphaned was called %d times", orphaned)
				}
			})
		})
	}
}

func TestUnknownOptionalKindsAreSkipped(t *testing.T) {
	bubble(t, Config{Tasks: tasks}, func(t *testing.T, p *parent) {
		p.numbers(77, 5, 5)
		p.run(1, "echo", "x")
		p.wants("result 1: x")
	})
}

// vain is an error whose text cannot be had.
type vain struct{}

func (vain) Error() string { panic("no text") }

func TestFailures(t *testing.T) {
	var none *Failure
	all := Registry{"missing error": func(context.Context, *Call) ([]byte, error) { return nil, none }}
	for name, err := range map[string]error{
		"plain":   errors.New("text"),
		"coded":   &Failure{Code: ipc.NotRun, Message: "text", Data: []byte("data")},
		"own":     &Failure{Code: 77, Message: "text"},
		"no code": &Failure{Message: "text", Data: []byte("data")},
		"wrapped": fmt.Errorf("outside: %w", &Failure{Code: ipc.NotRun, Message: "text", Data: []byte("data")}),
		"vain":    vain{},
	} {
		all[name] = func(context.Context, *Call) ([]byte, error) { return []byte("value"), err }
	}
	all["panic"] = tasks["panic"]
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		for i, c := range []struct{ task, want string }{
			{"plain", "[1 text ]"},
			{"coded", "[4 text data]"},
			{"own", "[77 text ]"},
			{"no code", "[1 text data]"},
			{"wrapped", "[4 outside: text data]"},
			{"vain", "[2 no text "},
			{"missing error", "[2 "},
			{"panic", "[2 help "},
			{"nowhere", `[4 this worker has no task "nowhere" ]`},
		} {
			p.run(uint64(i+1), c.task, "help")
			got := p.take()
			if len(got) != 1 || !strings.HasPrefix(show(got[0]), fmt.Sprintf("result %d: %s", i+1, c.want)) {
				t.Errorf("%s: %v, want %s", c.task, got, c.want)
			}
			if o := got[0].Result.Outcomes[0]; o.Code == ipc.Panicked && !strings.Contains(string(o.Data), "_test.go") && c.task != "missing error" {
				t.Errorf("%s: the stack is %s", c.task, o.Data)
			}
		}
	})
}

func TestAResultThatIsTooLargeFailsItsCallAlone(t *testing.T) {
	all := Registry{"long": func(_ context.Context, c *Call) ([]byte, error) {
		return []byte(strings.Repeat("x", len(c.Payload)*1000)), nil
	}}
	bubble(t, Config{Tasks: all, Limits: ipc.Limits{Frame: 200, Message: 1500}}, func(t *testing.T, p *parent) {
		p.run(1, "long", "", "x", "xx", "x", "")
		p.wants("result 1: ", "result 2: 1000 bytes",
			"result 3: [1 the result cannot be sent: a value of 2017 bytes is larger than the 1500 that may travel ]",
			"result 4: 1000 bytes", "result 5: ")
		p.run(6, "long", "x")
		p.wants("result 6: 1000 bytes")
	})
}

func TestQuestionsOfATask(t *testing.T) {
	var goC chan struct{}
	all := Registry{"ask": func(ctx context.Context, c *Call) ([]byte, error) {
		first, end := context.WithCancel(ctx)
		answers := make([]string, 3)
		var asking sync.WaitGroup
		for i, ctx := range []context.Context{ctx, first, ctx} {
			<-goC
			asking.Go(func() {
				b, err := c.Ask(ctx, "m", []byte{byte('a' + i)})
				answers[i] = fmt.Sprintf("%s %v", b, err)
			})
		}
		<-goC
		end()
		asking.Wait()
		return []byte(strings.Join(answers, ", ")), nil
	}}
	bubble(t, Config{Tasks: all}, func(t *testing.T, p *parent) {
		answer := func(id uint64, payload, message string) {
			p.send(func(w *ipc.Writer) { w.Answer(ipc.Answer{ID: id, Payload: []byte(payload), Message: message}) })
		}
		goC = make(chan struct{})
		p.run(1, "ask", "")
		for _, want := range []string{"call 1 m: a", "call 2 m: b", "call 3 m: c", "cancel 2/0"} {
			goC <- struct{}{}
			p.wants(want)
		}
		answer(3, "C", "")
		answer(2, "late", "")
		answer(99, "for nobody", "")
		p.wants()
		answer(1, "", "no such thing")
		p.wants("result 1:  no such thing,  context canceled, C <nil>")
	})
}

func TestQuestionsOfTheParent(t *testing.T) {
	var goC chan struct{}
	handlers := map[string]func(context.Context, []byte) ([]byte, error){
		"now":  func(_ context.Context, b []byte) ([]byte, error) { return b, nil },
		"fail": func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no") },
		"wait": func(ctx context.Context, b []byte) ([]byte, error) {
			select {
			case <-goC:
				return b, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	bubble(t, Config{Tasks: tasks, Handlers: handlers}, func(t *testing.T, p *parent) {
		goC = make(chan struct{})
		ask := func(id uint64, method, payload string) {
			p.send(func(w *ipc.Writer) { w.Question(ipc.Question{ID: id, Method: method, Payload: []byte(payload)}) })
		}
		p.run(1, "hang", "") // a busy worker answers
		ask(1, "wait", "a")
		ask(2, "now", "b")
		ask(3, "missing", "")
		synctest.Wait()
		ask(4, "fail", "")
		got := p.take()
		slices.SortFunc(got, func(a, b ipc.Message) int { return int(a.Answer.ID) - int(b.Answer.ID) })
		for i, want := range []string{"reply 2: b", `reply 3: this worker answers no question "missing"`, "reply 4: no"} {
			if len(got) != 3 || show(got[i]) != want {
				t.Fatalf("the worker said %v", got)
			}
		}
		goC <- struct{}{}
		p.wants("reply 1: a")
		ask(5, "wait", "")
		p.wants()
		p.numbers(ipc.KindCancel, 5, 0)
		p.wants("reply 5: context canceled")
		p.numbers(ipc.KindCancel, 5, 0)
		p.numbers(ipc.KindCancel, 1, sigTerm)
		p.wants("result 1: [3 the call was cancelled ]")
		ask(6, "wait", "") // is still being answered when the worker leaves
	})
}

func TestWhatIsTooLargeToAskOrAnswerIsAnError(t *testing.T) {
	long := make([]byte, 2000)
	all := Registry{"ask": func(ctx context.Context, c *Call) ([]byte, error) { return c.Ask(ctx, "m", long) }}
	handlers := map[string]func(context.Context, []byte) ([]byte, error){
		"long": func(context.Context, []byte) ([]byte, error) { return long, nil },
	}
	bubble(t, Config{Tasks: all, Handlers: handlers, Limits: ipc.Limits{Frame: 200, Message: 1500}}, func(t *testing.T, p *parent) {
		p.run(1, "ask", "")
		p.wants("result 1: [1 ask the parent: a value of 2008 bytes is larger than the 1500 that may travel ]")
		p.send(func(w *ipc.Writer) { w.Question(ipc.Question{ID: 1, Method: "long"}) })
		p.wants("reply 1: a value of 2007 bytes is larger than the 1500 that may travel")
	})
}

// A call of a chunk keeps its bytes whatever arrives while it runs.
func TestPayloadsOutliveTheFrame(t *testing.T) {
	var openC chan struct{}
	bubble(t, Config{Tasks: Registry{"gate": gate(&openC)}}, func(t *testing.T, p *parent) {
		openC = make(chan struct{})
		p.run(1, "gate", "first", "second")
		p.run(3, "gate", strings.Repeat("x", 60), strings.Repeat("y", 60))
		close(openC)
		p.wants("result 1: first second " + strings.Repeat("x", 60) + " " + strings.Repeat("y", 60))
	})
}
