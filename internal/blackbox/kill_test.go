package blackbox

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// play is the variable that makes the test binary a worker to be killed.
const play = "GPOOL_TEST_BLACKBOX"

func TestMain(m *testing.M) {
	if os.Getenv(play) != "" {
		if err := works(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// works is a worker without end: it runs calls that do nothing but say in a second box
// that they begin (2*id) and end (2*id+1). Outcomes leave on stdout, as ids, now and
// then: by the runner, and by another goroutine, as a worker's timer does it.
func works() error {
	box, err := Open(3)
	if err != nil {
		return err
	}
	tasks, err := Open(4)
	if err != nil {
		return err
	}
	var mu sync.Mutex // as that of an outbox
	var finished uint64
	send := func() {
		if _, err := os.Stdout.Write(binary.BigEndian.AppendUint64(nil, finished)); err == nil {
			box.Sent()
		}
	}
	go func() {
		for {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			mu.Lock()
			send()
			mu.Unlock()
		}
	}()
	for id := uint64(1); ; id++ {
		box.Begin(id)
		tasks.Begin(2 * id)
		tasks.Begin(2*id + 1)
		mu.Lock()
		finished = id
		if kept := box.Finish(recordOf(id)); !kept || id%1000 == 0 {
			send()
		}
		mu.Unlock()
		box.Done()
	}
}

// recordOf is what a call leaves.
func recordOf(id uint64) Record {
	rec := Record{ID: id, Code: uint8(id), Start: int64(id), Elapsed: -int64(id), Data: make([]byte, id%100)}
	for i := range rec.Data {
		rec.Data[i] = byte(id + uint64(i))
	}
	if id%3 == 0 {
		rec.Message = fmt.Sprint("call ", id)
	}
	return rec
}

// death is what the parent finds.
type death struct {
	sent     uint64 // the last call whose outcome left
	running  uint64
	finished []Record
	begun    uint64 // the last call whose task began
	ended    uint64 // the last call whose task ended
}

func killed(t *testing.T, after time.Duration) (d death) {
	var boxes []*Box
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), play+"=1")
	cmd.Stderr = os.Stderr
	for range 2 {
		box, file, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		defer file.Close()
		boxes = append(boxes, box)
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(out, 64<<10)
	if _, err := r.Peek(1); err != nil {
		t.Error("it never began:", err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var id [8]byte
	for {
		if _, err := io.ReadFull(r, id[:]); err != nil {
			break
		}
		d.sent = binary.BigEndian.Uint64(id[:])
	}
	_ = cmd.Wait()
	d.running, d.finished = boxes[0].Read()
	task, _ := boxes[1].Read()
	d.begun, d.ended = task/2, (max(task, 1)-1)/2 // 0: it was killed before it had begun one
	return d
}

// check holds a death against what the worker can have done: each call but one is
// either known to be finished or has not begun.
func (d *death) check() error {
	known := d.sent // the last call with an outcome
	for i, rec := range d.finished {
		if rec.ID > known+1 || i > 0 && rec.ID != d.finished[i-1].ID+1 {
			return fmt.Errorf("call %d is recorded after %d", rec.ID, known)
		}
		want := recordOf(rec.ID)
		if rec.Code != want.Code || rec.Message != want.Message || string(rec.Data) != string(want.Data) || rec.Start != want.Start || rec.Elapsed != want.Elapsed {
			return fmt.Errorf("the record is %+v, want %+v", rec, want)
		}
		known = max(known, rec.ID)
	}
	switch d.running {
	case 0, known: // between two calls; Done may be due yet
		if d.begun != known || d.ended != known {
			return fmt.Errorf("no call was running, %d is the last with an outcome", known)
		}
	case known + 1: // its task may not have begun, run, or have ended
		if d.begun < known || d.begun > known+1 || d.ended < known || d.ended > known+1 {
			return fmt.Errorf("call %d was running", d.running)
		}
	default:
		return fmt.Errorf("call %d was running, %d is the last with an outcome", d.running, known)
	}
	return nil
}

// A worker that is killed at any moment costs one call at most.
func TestAKilledWorkerLosesOneCall(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 10
	}
	records, victims := 0, 0
	for range rounds {
		d := killed(t, time.Duration(rand.IntN(3000))*time.Microsecond)
		if err := d.check(); err != nil {
			t.Errorf("%v; begun %d, ended %d, sent %d, running %d, %d records", err, d.begun, d.ended, d.sent, d.running, len(d.finished))
		}
		records += len(d.finished)
		if d.running > d.sent {
			victims++
		}
	}
	t.Logf("%d deaths: %d had a victim, %d outcomes were found in the box", rounds, victims, records)
	if records == 0 || victims == 0 {
		t.Error("the test has seen nothing of what it is for")
	}
}
