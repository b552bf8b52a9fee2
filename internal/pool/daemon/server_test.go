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
	ask(t, c, wire.Join, wire.Nothing{})
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
