package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gpool/internal/pool/daemon/wire"
)

func TestACallRunsAndIsFetched(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c := h.dial()
	ids := submit(t, c, script("echo one"), script("echo two >&2; exit 3"), script("kill -9 $$"))
	i, out := result(t, c, ids[0])
	if out != "one\n" || i.Result.Code() != 0 || i.Result.Outcome != wire.Succeeded {
		t.Errorf("%q, %+v", out, i)
	}
	if i, _ = result(t, c, ids[1]); i.Result.Code() != 3 || i.Result.Outcome != wire.Failed || i.StderrBytes != 4 {
		t.Errorf("%+v", i)
	}
	if i, _ = result(t, c, ids[2]); i.Result.Code() != 137 || i.Result.Signal != 9 {
		t.Errorf("%+v", i)
	}
	for _, id := range ids {
		ask(t, c, wire.Taken, wire.Lookup{ID: id})
	}
	ask(t, c, wire.Close, wire.Nothing{})
	ask(t, c, wire.Join, wire.Joining{})
	c.Close()
	h.wait()
	for _, path := range []string{h.place.Socket, h.place.Lock, h.place.Spool} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", filepath.Base(path))
		}
	}
}

func TestCallbacksGetTheOutput(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c := h.dial()
	file := filepath.Join(t.TempDir(), "got")
	good, bad := script("echo out"), script("echo oops; exit 4")
	good.Callback = "cat > " + file + `; echo "$GPOOL_ID $GPOOL_EXIT" >> ` + file
	bad.Callback, bad.ErrorCallback = "false", "cat; echo no luck >&2; exit $((GPOOL_EXIT + 1))"
	ids := submit(t, c, good, bad)
	a := ask(t, c, wire.Await, wire.Awaiting{IDs: ids})
	if a.Done != 2 || a.Failed != 1 {
		t.Errorf("%+v", a)
	}
	if b, _ := os.ReadFile(file); string(b) != "out\n"+ids[0]+" 0\n" {
		t.Errorf("the callback got %q", b)
	}
	if got := a.Failures[0].Result.Callback; got != "exit status 5: no luck" {
		t.Errorf("the callback's end is told as %q", got)
	}
}

func TestAPoolComesBackAfterACrash(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, func(o *Options) { o.Slots = 1 })
	c := h.dial()
	again := script("sleep 0.2; echo done $GPOOL_ATTEMPT")
	again.Retries, again.Dir = 1, t.TempDir()
	ids := submit(t, c, script("echo kept"), again)
	result(t, c, ids[0])
	for ask(t, c, wire.Look, wire.Lookup{ID: ids[1]}).Result.Start.IsZero() {
		time.Sleep(time.Millisecond)
	}
	more := submit(t, c, script("echo waits"))
	c.Close()
	h.stop() // as a shutdown of the machine would
	h.wait()
	h = begin(t, place, nil)
	c = h.dial()
	if _, out := result(t, c, ids[0]); out != "kept\n" {
		t.Errorf("the first result is %q", out)
	}
	if i, out := result(t, c, ids[1]); out != "done 2\n" || i.Result.Attempt != 2 || i.Result.Code() != 0 {
		t.Errorf("the second result is %q, %+v", out, i)
	}
	if _, out := result(t, c, more[0]); out != "waits\n" {
		t.Errorf("the third result is %q", out)
	}
}

func TestTerminateFailsWhatIsWaitedFor(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.Slots = 1 })
	c := h.dial()
	ids := submit(t, c, script("sleep 100"), script("echo never"))
	got := make(chan wire.Awaited, 1)
	go func() { got <- ask(t, c, wire.Await, wire.Awaiting{IDs: ids}) }()
	time.Sleep(50 * time.Millisecond)
	ask(t, h.dial(), wire.Terminate, wire.Nothing{})
	if a := <-got; a.Failed != 2 || a.Failures[0].Result.Outcome != wire.Terminated {
		t.Errorf("%+v", a)
	}
	c.Close()
	h.wait()
}

// A server that is told to leave the pool to the next one books what has ended, before it ends.
func TestResultsOfAnOrderlyEndAreBooked(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, func(o *Options) { o.Slots, o.Grace = 8, 5*time.Second })
	c := h.dial()
	var calls []wire.Call
	for range 8 {
		calls = append(calls, script(`trap 'head -c 300000 /dev/zero; exit 0' TERM; echo begun; while :; do sleep 0.01; done`))
	}
	ids := submit(t, c, calls...)
	for _, id := range ids {
		for i := (wire.Info{}); i.StdoutBytes == 0; {
			i = ask(t, c, wire.Follow, wire.Following{ID: id})
		}
	}
	c.Close()
	h.stop()
	h.wait()
	c = begin(t, place, nil).dial()
	for _, id := range ids {
		if i, out := result(t, c, id); i.Result.Code() != 0 || len(out) != 300006 {
			t.Errorf("%d bytes, %+v", len(out), i.Result)
		}
	}
}

// What was given up, or terminated, stays so when the server is killed before it has ended.
func TestGivingUpSurvivesTheServer(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, func(o *Options) { o.Grace = 300 * time.Millisecond })
	c := h.dial()
	call := script(`trap "" TERM; echo run; sleep 60`)
	call.Retries = 5
	id := submit(t, c, call)[0]
	for i := (wire.Info{}); i.StdoutBytes == 0; {
		i = ask(t, c, wire.Follow, wire.Following{ID: id})
	}
	ask(t, c, wire.Cancel, wire.Lookup{ID: id})
	c.Close()
	crashed := crash(t, place)
	h.stop()
	h.wait()
	c = begin(t, crashed, nil).dial()
	if i, _ := result(t, c, id); i.Result.Outcome != wire.Cancelled {
		t.Errorf("%+v", i.Result)
	}
	ids := submit(t, c, script(`trap "" TERM; echo run; sleep 1`))
	for i := (wire.Info{}); i.StdoutBytes == 0; {
		i = ask(t, c, wire.Follow, wire.Following{ID: ids[0]})
	}
	ask(t, c, wire.Terminate, wire.Nothing{})
	crashed = crash(t, crashed)
	c.Close()
	c = begin(t, crashed, nil).dial()
	if f := fault(t, c, wire.Look, wire.Lookup{ID: ids[0]}); f.Code != wire.FaultUnknown {
		t.Errorf("%v", f)
	}
}

// crash copies what a server would leave if it was killed now.
func crash(t *testing.T, place wire.Place) wire.Place {
	t.Helper()
	copied := newPlace(t)
	if err := os.CopyFS(copied.Spool, os.DirFS(place.Spool)); err != nil {
		t.Fatal(err)
	}
	return copied
}

// A closed pool waits for a run that has leased slots, and has none at the moment.
func TestAClosedPoolWaitsForItsRuns(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	run, c := h.dial(), h.dial()
	ask(t, run, wire.Lease, wire.Leasing{})
	ask(t, c, wire.Close, wire.Nothing{})
	c.Close()
	ask(t, run, wire.Release, wire.Size{N: 1})
	time.Sleep(50 * time.Millisecond)
	ask(t, run, wire.Lease, wire.Leasing{})
	run.Close()
	h.wait()
}

// A server that ends leaves a call that waits for its next attempt to the next one.
func TestAttemptsGoOnAfterAnOrderlyEnd(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, nil)
	c := h.dial()
	call := script("echo attempt $GPOOL_ATTEMPT; test $GPOOL_ATTEMPT = 2")
	call.Retries, call.MinWait, call.MaxWait = 1, time.Hour, time.Hour
	id := submit(t, c, call)[0]
	for ask(t, c, wire.Look, wire.Lookup{ID: id}).StdoutBytes == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // the attempt ends
	c.Close()
	h.stop()
	h.wait()
	c = begin(t, place, nil).dial()
	if i, out := result(t, c, id); out != "attempt 2\n" || i.Result.Code() != 0 {
		t.Errorf("%q, %+v", out, i.Result)
	}
}

// A server whose folders were removed takes nothing of its successor along.
func TestAServerLeavesItsSuccessorAlone(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, nil)
	for _, path := range []string{place.Socket, place.Lock, place.Spool} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	next := begin(t, place, nil)
	c := next.dial()
	id := submit(t, c, script("echo precious"))[0]
	result(t, c, id)
	h.stop()
	h.wait()
	c = next.dial()
	if _, out := result(t, c, id); out != "precious\n" {
		t.Errorf("printed %q", out)
	}
}
