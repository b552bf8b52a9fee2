package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gpool/internal/pool/daemon/wire"
)

// fault asks a question that must be refused, and returns why.
func fault[Q, A any](t *testing.T, c *wire.Client, m wire.Method[Q, A], q Q) *wire.Fault {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := wire.Ask(ctx, c, m, q)
	f, ok := errors.AsType[*wire.Fault](err)
	if !ok {
		t.Fatalf("%s: %v is no fault", m, err)
	}
	return f
}

func TestTheSpoolHasALimit(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.SpoolLimit = 1 << 20; o.Slots = 1 })
	c := h.dial()
	kept := script("head -c 600000 /dev/zero")
	kept.Keep = true
	ids := submit(t, c, kept)
	result(t, c, ids[0])
	ask(t, c, wire.Taken, wire.Lookup{ID: ids[0]})
	// What was fetched and is only kept makes room.
	next := submit(t, c, script("head -c 600000 /dev/zero"))
	if i, _ := result(t, c, next[0]); i.Result.Code() != 0 || i.StdoutBytes != 600000 {
		t.Errorf("%+v", i)
	}
	if f := fault(t, c, wire.Look, wire.Lookup{ID: ids[0]}); f.Code != wire.FaultUnknown {
		t.Errorf("the kept result is still there: %v", f)
	}
	// What waits to be fetched does not, and an endless command is ended.
	endless := submit(t, c, script("yes"))
	if i, _ := result(t, c, endless[0]); i.Result.Outcome != wire.NoSpace || i.Result.Code() != 125 || !strings.Contains(i.Result.Error, "gpool get") {
		t.Errorf("%+v", i.Result)
	}
	if i, out := result(t, c, submit(t, c, script("exit 0"))[0]); i.Result.Code() != 0 || out != "" {
		t.Errorf("a call that prints nothing: %+v", i)
	}
}

func TestOldResultsAreDropped(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.MaxAge = 50 * time.Millisecond })
	c := h.dial()
	id := submit(t, c, script("echo old"))[0]
	result(t, c, id)
	deadline := time.Now().Add(10 * time.Second)
	for {
		s := ask(t, c, wire.Tell, wire.Telling{Calls: true})
		if len(s.Calls) == 0 && s.Bytes == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is still there: %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f := fault(t, c, wire.Look, wire.Lookup{ID: id}); !strings.Contains(f.Text, "too old") {
		t.Errorf("%v", f)
	}
}

func TestAnIdlePoolEnds(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.Idle = 100 * time.Millisecond })
	c := h.dial()
	id := submit(t, c, script("echo fetch me"))[0]
	result(t, c, id)
	c.Close()
	select {
	case <-h.doneC:
		t.Fatal("it ended though a result was not fetched")
	case <-time.After(300 * time.Millisecond):
	}
	c = h.dial()
	ask(t, c, wire.Taken, wire.Lookup{ID: id})
	c.Close()
	h.wait()
	if _, err := os.Stat(h.place.Spool); err == nil {
		t.Error("the spool is left")
	}
}

func TestSlotsCanBeLeased(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c, other := h.dial(), h.dial()
	ask(t, c, wire.Lease, wire.Leasing{Who: "me"})
	ask(t, c, wire.Lease, wire.Leasing{Who: "me"})
	id := submit(t, other, script("echo ran"))[0]
	if s := ask(t, other, wire.Tell, wire.Telling{}); len(s.Leased) != 2 || s.Leased[0] != "me" || s.Waiting != 1 || s.Running != 0 {
		t.Errorf("%+v", s)
	}
	ask(t, c, wire.Release, wire.Size{N: 1})
	if _, out := result(t, other, id); out != "ran\n" {
		t.Errorf("printed %q", out)
	}
	if f := fault(t, c, wire.Release, wire.Size{N: 2}); f.Code != wire.FaultBroken {
		t.Errorf("%v", f)
	}
	ask(t, other, wire.Lease, wire.Leasing{})
	// A wish that is given up takes no slot, and a client that is gone has none.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := wire.Ask(ctx, other, wire.Lease, wire.Leasing{}); err == nil {
		t.Error("three slots of two were leased")
	}
	ask(t, other, wire.Tell, wire.Telling{}) // so the server has heard that it is given up
	c.Close()
	ask(t, other, wire.Lease, wire.Leasing{})
}

func TestCallsAreCancelled(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.Slots = 1 })
	c := h.dial()
	ids := submit(t, c, script(`trap "" TERM; echo stubborn; sleep 100`), script("echo never"), script("echo next"))
	for i := (wire.Info{}); i.StdoutBytes == 0; {
		i = ask(t, c, wire.Follow, wire.Following{ID: ids[0]})
	}
	if i := ask(t, c, wire.Cancel, wire.Lookup{ID: ids[1]}); i.State != wire.Waiting {
		t.Errorf("it was found %s", i.State)
	}
	if i := ask(t, c, wire.Cancel, wire.Lookup{ID: ids[0]}); i.State != wire.Running {
		t.Errorf("it was found %s", i.State)
	}
	for _, id := range ids[:2] {
		if i, _ := result(t, c, id); i.Result.Outcome != wire.Cancelled || i.Result.Code() != 143 {
			t.Errorf("%+v", i.Result)
		}
	}
	if _, out := result(t, c, ids[2]); out != "next\n" {
		t.Errorf("printed %q", out)
	}
	if i := ask(t, c, wire.Cancel, wire.Lookup{ID: ids[2]}); i.State != wire.Done || i.Result.Outcome != wire.Succeeded {
		t.Errorf("%+v", i)
	}
}

func TestCallsAreTriedAgain(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c := h.dial()
	file := filepath.Join(t.TempDir(), "tries")
	flaky := script("echo try >> " + file + "; echo try $GPOOL_ATTEMPT; test $(wc -l < " + file + ") = 3")
	flaky.Retries = 5
	if i, out := result(t, c, submit(t, c, flaky)[0]); out != "try 3\n" || i.Result.Attempt != 3 || i.Result.Code() != 0 {
		t.Errorf("%q, %+v", out, i.Result)
	}
	picky := script("exit 7")
	picky.Retries, picky.RetryOn = 5, wire.RetryOn{Codes: []int{8}}
	if i, _ := result(t, c, submit(t, c, picky)[0]); i.Result.Attempt != 1 || i.Result.Code() != 7 {
		t.Errorf("%+v", i.Result)
	}
	slow := script("sleep 100")
	slow.Timeout = 50 * time.Millisecond
	if i, _ := result(t, c, submit(t, c, slow)[0]); i.Result.Outcome != wire.TimedOut || i.Result.Code() != 124 {
		t.Errorf("%+v", i.Result)
	}
}

func TestAPoolIsResized(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.Slots = 1 })
	c := h.dial()
	dir := t.TempDir()
	// Each waits for the others, so they end only if three run at once.
	var calls []wire.Call
	for i := range 3 {
		calls = append(calls, script(fmt.Sprintf("cd %s; : > %d; while [ $(ls | wc -l) -lt 3 ]; do sleep 0.01; done", dir, i)))
	}
	ids := submit(t, c, calls...)
	ask(t, c, wire.Resize, wire.Size{N: 3})
	if a := ask(t, c, wire.Await, wire.Awaiting{IDs: ids}); a.Done != 3 || a.Failed != 0 {
		t.Errorf("%+v", a)
	}
	if f := fault(t, c, wire.Resize, wire.Size{}); f.Code != wire.FaultBroken {
		t.Errorf("%v", f)
	}
}

// A worker program that does not work fails its calls, and those alone.
func TestABrokenProgramFailsItsCalls(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c := h.dial()
	bad := wire.Call{Argv: []string{"false"}, Path: "/bin/false", Task: "nothing", Text: "nothing"}
	ids := submit(t, c, bad, script("echo fine"))
	if i, _ := result(t, c, ids[0]); i.Result.Outcome != wire.NotStarted || i.Result.Code() != 125 || i.Result.Error == "" {
		t.Errorf("%+v", i.Result)
	}
	if _, out := result(t, c, ids[1]); out != "fine\n" {
		t.Errorf("printed %q", out)
	}
	if i, _ := result(t, c, submit(t, c, bad)[0]); i.Result.Outcome != wire.NotStarted {
		t.Errorf("the second time: %+v", i.Result)
	}
}

func TestAClosedPoolTakesNothing(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c, other := h.dial(), h.dial()
	if f := fault(t, c, wire.Join, wire.Joining{}); f.Code != wire.FaultOpen {
		t.Errorf("%v", f)
	}
	id := submit(t, c, script("sleep 0.1; echo last"))[0]
	ask(t, c, wire.Close, wire.Nothing{})
	if f := fault(t, other, wire.Submit, wire.Submission{Context: here(), Calls: []wire.Call{script("true")}}); f.Code != wire.FaultClosed {
		t.Errorf("%v", f)
	}
	ask(t, c, wire.Join, wire.Joining{})
	if _, out := result(t, other, id); out != "last\n" {
		t.Errorf("printed %q", out)
	}
	other.Close()
	c.Close()
	h.wait()
	if _, err := os.Stat(h.place.Spool); err != nil {
		t.Errorf("a result that nobody has fetched is gone: %v", err)
	}
}

func TestAttachedCallsEndWithTheirClient(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c, other := h.dial(), h.dial()
	id := ask(t, c, wire.Submit, wire.Submission{Context: here(), Calls: []wire.Call{script("sleep 100")}, Attached: true}).IDs[0]
	c.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s := ask(t, other, wire.Tell, wire.Telling{Calls: true})
		if len(s.Calls) == 0 && s.Running == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s still runs: %+v", id, s)
		}
	}
}

// A call that waits for its next attempt, or for a worker that is being started, is given up at
// once, and so is one whose output has no room.
func TestCallsThatWaitInTheirPoolAreCancelled(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) {
		o.Slots, o.SpoolLimit = 1, 1<<20
	})
	c := h.dial()
	later := script("echo tried; exit 1")
	later.Retries, later.MinWait, later.MaxWait = 9, time.Hour, time.Hour
	id := submit(t, c, later)[0]
	for i := (wire.Info{}); i.StdoutBytes == 0; {
		i = ask(t, c, wire.Follow, wire.Following{ID: id})
	}
	time.Sleep(50 * time.Millisecond) // its attempt ends
	ask(t, c, wire.Cancel, wire.Lookup{ID: id})
	if i, _ := result(t, c, id); i.Result.Outcome != wire.Cancelled {
		t.Errorf("%+v", i.Result)
	}
	later = script("head -c 2000000 /dev/zero; exit 1")
	later.Retries, later.MinWait, later.MaxWait = 9, time.Hour, time.Hour
	if i, _ := result(t, c, submit(t, c, later)[0]); i.Result.Outcome != wire.NoSpace || i.Result.Attempt != 1 {
		t.Errorf("%+v", i.Result)
	}
}

func TestOutputIsThatOfTheLastAttempt(t *testing.T) {
	h := begin(t, newPlace(t), nil)
	c := h.dial()
	flaky := script("if [ $GPOOL_ATTEMPT = 1 ]; then echo junk; exit 1; fi")
	flaky.Retries = 1
	if i, out := result(t, c, submit(t, c, flaky)[0]); out != "" || i.StdoutBytes != 0 || i.Result.Code() != 0 {
		t.Errorf("%q, %+v", out, i)
	}
	if s := ask(t, c, wire.Tell, wire.Telling{}); s.Bytes != 0 {
		t.Errorf("%d bytes are counted for nothing", s.Bytes)
	}
}

func TestResultsThatACallbackHasMakeRoom(t *testing.T) {
	h := begin(t, newPlace(t), func(o *Options) { o.SpoolLimit = 1 << 20 })
	c := h.dial()
	for range 4 {
		call := script("head -c 400000 /dev/zero")
		call.Callback = "cat > /dev/null"
		if a := ask(t, c, wire.Await, wire.Awaiting{IDs: submit(t, c, call)}); a.Failed != 0 {
			t.Fatalf("%+v", a.Failures)
		}
	}
}

func TestLongErrorsAreCut(t *testing.T) {
	if got := shortError(strings.Repeat("ä", 100000)); len(got) > errorMost+50 || !strings.HasSuffix(got, "ä... (200000 bytes)") {
		t.Errorf("%d bytes", len(got))
	}
}

// What a call had printed when its server was killed is counted and can be fetched.
func TestOutputOfLostCallsIsKept(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, nil)
	c := h.dial()
	again := script("test -e second || { : > second; echo first; sleep 100; }")
	again.Retries, again.Dir = 1, t.TempDir()
	ids := submit(t, c, script("echo before; sleep 100"), again)
	for _, id := range ids {
		for i := (wire.Info{}); i.StdoutBytes == 0; {
			i = ask(t, c, wire.Follow, wire.Following{ID: id})
		}
	}
	c.Close()
	h.stop()
	h.wait()
	c = begin(t, place, nil).dial()
	if i, out := result(t, c, ids[0]); i.Result.Outcome != wire.Lost || out != "before\n" {
		t.Errorf("%q, %+v", out, i)
	}
	if i, out := result(t, c, ids[1]); i.Result.Code() != 0 || out != "" {
		t.Errorf("%q, %+v", out, i)
	}
	if s := ask(t, c, wire.Tell, wire.Telling{}); s.Bytes != 7 {
		t.Errorf("%d bytes are kept", s.Bytes)
	}
	for _, id := range ids {
		ask(t, c, wire.Taken, wire.Lookup{ID: id})
	}
	if list, _ := filepath.Glob(filepath.Join(place.Spool, "*.out")); list != nil {
		t.Errorf("%v are left", list)
	}
}

// After damage ids are not given out twice, and the output of calls of the damaged part stays.
func TestADamagedJournal(t *testing.T) {
	place := newPlace(t)
	h := begin(t, place, nil)
	c := h.dial()
	ids := submit(t, c, script("echo one"), script("echo two"))
	for _, id := range ids {
		result(t, c, id)
	}
	c.Close()
	h.stop()
	h.wait()
	path := filepath.Join(place.Spool, "journal")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)*2/3] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c = begin(t, place, nil).dial()
	for _, id := range submit(t, c, script("echo new")) {
		if id == ids[0] || id == ids[1] {
			t.Errorf("%s was given out again", id)
		}
	}
	if s := ask(t, c, wire.Tell, wire.Telling{}); s.Broken == "" {
		t.Error("the status does not tell")
	}
	if list, _ := filepath.Glob(filepath.Join(place.Spool, "[12].out")); len(list) != 2 {
		t.Errorf("of the output %v is left", list)
	}
}
