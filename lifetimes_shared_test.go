package gpool_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"gpool"
)

// What second readers have found in the lives of shared objects, each with its test.

func TestANameThatIsGivenAgainIsOtherMemory(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(1))
	old := value[gpool.Array[int64]](b)(gpool.NewArray[int64](p, 10, gpool.Named("x")))
	b.ok(old.Set(0, 7), old.Drop())
	large := value[gpool.Array[int64]](b)(gpool.NewArray[int64](p, 1<<20, gpool.Named("x")))
	b.ok(large.View(func(s []int64) {
		for i := range s {
			s[i]++
		}
	}))
	b.equal(value[int64](b)(old.At(0)), int64(7))
	b.equal(value[int64](b)(large.At(1<<20-1)), int64(1))
	one := value[gpool.Value[int]](b)(gpool.NewValue(p, 1, gpool.Named("v")))
	b.ok(one.Drop())
	five := value[gpool.Value[int]](b)(gpool.NewValue(p, 5, gpool.Named("v")))
	b.equal(value[int](b)(five.Load()), 5)
	runtime.KeepAlive(old)
}

func TestNoRoomIsAnError(t *testing.T) {
	b := &backend{T: t}
	p := newPool(t, gpool.Workers(1))
	_, err := gpool.NewArray[int64](p, 1<<40)
	b.is(err, gpool.ErrNoMemory)
}

func init() {
	roles["holds a value"] = func() int {
		ctx := context.Background()
		m, err := gpool.DialManager(ctx, os.Getenv("GPOOL_TEST_ADDRESS"), nil)
		if err != nil {
			return 1
		}
		v, err := gpool.NewValue(m, 1, gpool.Named("#theirs"))
		if err != nil {
			return 1
		}
		gone := gpool.NewEvent(m, gpool.Named("gone"))
		if m.Close() != nil || gone.Set() != nil { // over a new connection
			return 1
		}
		if _, err = v.Add(1000); !errors.Is(err, gpool.ErrHubGone) {
			return 2
		}
		_ = gpool.NewEvent(m, gpool.Named("end")).Wait(ctx)
		return 0
	}
}

func TestMemoryIsNotGivenAwayWhileAProcessMayHaveItMapped(t *testing.T) {
	b := &backend{T: t}
	m, err := gpool.ListenManager("unix:"+filepath.Join(t.TempDir(), "m"), nil)
	b.ok(err)
	defer m.Close()
	cmd := playing("holds a value", "GPOOL_TEST_ADDRESS="+m.Address())
	b.ok(cmd.Start())
	limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b.ok(gpool.NewEvent(m, gpool.Named("gone")).Wait(limit))
	var list []gpool.Value[int]
	for range 100 { // one of them would lie where theirs does
		list = append(list, value[gpool.Value[int]](b)(gpool.NewValue(m, 0)))
	}
	b.ok(gpool.NewEvent(m, gpool.Named("end")).Set())
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
	for _, v := range list {
		b.equal(value[int](b)(v.Load()), 0)
	}
}

func init() {
	roles["forgets its manager"] = func() int {
		if _, err := gpool.ListenManager(os.Getenv("GPOOL_TEST_ADDRESS"), nil); err != nil {
			return 1
		}
		for range 3 {
			runtime.GC()
		}
		fmt.Println("ready")
		_, _ = io.ReadAll(os.Stdin)
		return 0
	}
}

func TestAManagerLivesUntilClose(t *testing.T) {
	b := &backend{T: t}
	address := "unix:" + filepath.Join(t.TempDir(), "m")
	cmd := playing("forgets its manager", "GPOOL_TEST_ADDRESS="+address)
	in, err := cmd.StdinPipe()
	b.ok(err)
	out, err := cmd.StdoutPipe()
	b.ok(err)
	b.ok(cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	b.ok(err)
	m, err := gpool.DialManager(t.Context(), address, nil)
	b.ok(err)
	b.ok(gpool.NewEvent(m).Set(), m.Close(), in.Close(), cmd.Wait())
}

func TestWhatAManagerMayNotBe(t *testing.T) {
	for _, key := range [][]byte{nil, {}, []byte("short")} {
		if m, err := gpool.ListenManager("tcp:127.0.0.1:0", key); err == nil {
			m.Close()
			t.Errorf("the key %q was taken", key)
		}
	}
}

func TestABarrierHearsOfAContextThatHasEnded(t *testing.T) {
	b := &backend{T: t}
	p := newThreads(t)
	bar := gpool.NewBarrier(p, 2)
	errC := make(chan error, 1)
	go func() {
		_, err := bar.Wait(t.Context())
		errC <- err
	}()
	b.ok(eventually(func() error {
		if n, _, err := bar.Waiting(); n != 1 || err != nil {
			return errors.New("it does not wait yet")
		}
		return nil
	}))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bar.Wait(ended)
	b.is(err, context.Canceled)
	b.is(<-errC, gpool.ErrBarrierBroken)
}

func TestSmallPrint(t *testing.T) {
	b := &backend{T: t}
	p := newThreads(t)
	q := gpool.NewJoinableQueue[int](p, 0)
	b.ok(q.Put(t.Context(), 1), q.Done(0))
	b.equal(value[int](b)(q.Unfinished()), 1)

	d := gpool.NewDict[string, float32](p)
	sum, err := d.Incr("a", 0.5)
	b.ok(err)
	b.equal(value[bool](b)(d.CompareAndSwap("a", sum, 7)), true)
	_, err = gpool.DictAppend(gpool.NewDict[string, []byte](p), "k", 'x')
	b.equal(err != nil, true)

	text, err := json.Marshal(map[string]any{"q": q})
	b.ok(err)
	var back struct{ Q gpool.Queue[int] }
	b.ok(json.Unmarshal(text, &back))
	b.equal(back.Q.Name(), q.Name())

	var none gpool.Hub
	b.equal(gpool.NewEvent(none).Set() != nil, true)
}
