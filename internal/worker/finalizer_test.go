package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gpool/internal/ipc"
)

// leaver is a worker with tasks that note when they have run.
type leaver struct {
	ran, logged []string
}

func (l *leaver) config() Config {
	note := func(ctx context.Context, c *Call) ([]byte, error) {
		<-time.After(time.Hour)
		l.ran = append(l.ran, fmt.Sprintf("%d %s %s", c.ID, c.Common, c.Payload))
		return nil, context.Cause(ctx)
	}
	return Config{
		Log: func(line string) { l.logged = append(l.logged, line) },
		Tasks: Registry{
			"note":  note,
			"fail":  func(context.Context, *Call) ([]byte, error) { return nil, errors.New("no\n  such thing") },
			"panic": func(context.Context, *Call) ([]byte, error) { panic("at the\nend") },
			"hang":  tasks["hang"],
		},
	}
}

func (p *parent) init(task, final string) {
	p.t.Helper()
	p.send(func(w *ipc.Writer) {
		w.Init(ipc.Init{Slot: 1, Task: task, Common: []byte("first"), FinalTask: final, FinalCommon: []byte("last")})
	})
}

func TestTheFinalizerRunsAfterTheLastCall(t *testing.T) {
	for _, c := range []struct {
		initializer string
		calls       int
		want        []string
	}{
		{"", 0, []string{"0 last "}},
		{"note", 0, []string{"0 first ", "0 last "}},
		{"", 2, []string{"1 common a", "2 common a", "0 last "}},
		{"note", 1, []string{"0 first ", "1 common a", "0 last "}},
	} {
		var l leaver
		synctest.Test(t, func(t *testing.T) {
			p := serve(t, l.config())
			p.init(c.initializer, "note")
			for i := range c.calls {
				p.run(uint64(1+i), "note", "a")
			}
			synctest.Wait()
			p.leave() // with calls before it that have not begun
			if !slices.Equal(l.ran, c.want) {
				t.Errorf("what ran is %q, want %q", l.ran, c.want)
			}
			if len(l.logged) > 0 {
				t.Errorf("it logged %q", l.logged)
			}
		})
	}
}

func TestAFinalizerDoesNotRun(t *testing.T) {
	for what, c := range map[string]struct {
		initializer string
		play        func(*parent)
	}{
		"after an initializer that failed":       {"fail", (*parent).leave},
		"after an initializer that panicked":     {"panic", (*parent).leave},
		"after an initializer that is not there": {"missing", (*parent).leave},
		"after an initializer that was cancelled": {"hang", func(p *parent) {
			p.numbers(ipc.KindCancel, 0, sigTerm)
			p.leave()
		}},
		"in an orphan": {"", (*parent).vanish},
		"in an orphan that was busy": {"", func(p *parent) {
			p.run(1, "hang", "")
			synctest.Wait()
			p.vanish()
		}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l leaver
				p := serve(t, l.config())
				p.init(c.initializer, "note")
				synctest.Wait()
				c.play(p)
				if len(l.ran) > 0 || len(l.logged) > 0 {
					t.Errorf("what ran is %q, and it logged %q", l.ran, l.logged)
				}
			})
		})
	}
}

// vanish ends the stream without a goodbye.
func (p *parent) vanish() {
	p.in.Close()
	if err := <-p.doneC; err != ErrOrphaned {
		p.t.Errorf("Serve returns %v", err)
	}
	<-p.endC
}

func TestAFinalizerThatFailsIsLogged(t *testing.T) {
	for task, want := range map[string]string{
		"fail":    `the finalizer "fail" failed: no such thing`,
		"panic":   `the finalizer "panic" panicked: at the end`,
		"missing": `the finalizer "missing" failed: this worker has no task "missing"`,
	} {
		var l leaver
		synctest.Test(t, func(t *testing.T) {
			p := serve(t, l.config())
			p.init("", task)
			p.leave()
			if !slices.Equal(l.logged, []string{want}) {
				t.Errorf("it logged %q, want %q", l.logged, want)
			}
		})
	}
}

// A parent that keeps the stream open after its goodbye can give the finalizer up.
func TestAFinalizerCanBeCancelled(t *testing.T) {
	var l leaver
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, l.config())
		p.init("", "hang")
		p.numbers(ipc.KindBye, 0, 0)
		synctest.Wait()
		p.numbers(ipc.KindCancel, 0, sigTerm)
		p.in.Close()
		if err := <-p.doneC; err != nil {
			t.Errorf("Serve returns %v", err)
		}
		<-p.endC
		if want := []string{`the finalizer "hang" failed: the call was cancelled`}; !slices.Equal(l.logged, want) {
			t.Errorf("it logged %q, want %q", l.logged, want)
		}
	})
}

// What is printed by a finalizer precedes nothing, and still arrives.
func TestAFinalizerMayPrint(t *testing.T) {
	all := Registry{"print": func(ctx context.Context, c *Call) ([]byte, error) {
		return nil, c.Output(ctx, ipc.Stdout, []byte("bye"))
	}}
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, Config{Tasks: all})
		p.init("", "print")
		p.take()
		p.leave()
		p.wants("output 0/1: bye")
	})
}
