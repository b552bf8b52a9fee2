package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fullDisk is a file on a disk with little room. If it is fixed, nothing can be cut off either.
type fullDisk struct {
	file
	room  int
	fixed bool
}

func (d *fullDisk) WriteAt(b []byte, at int64) (int, error) {
	if len(b) <= d.room {
		return d.file.WriteAt(b, at)
	}
	n, err := d.file.WriteAt(b[:d.room], at)
	return n, errors.Join(err, syscall.ENOSPC)
}

func (d *fullDisk) Truncate(size int64) error {
	if d.fixed {
		return syscall.EIO
	}
	return d.file.Truncate(size)
}

func onFullDisk(t *testing.T, room int) (*Journal, *fullDisk) {
	t.Helper()
	j, _ := open(t, filepath.Join(t.TempDir(), "journal"))
	add(t, j, []byte("first"))
	disk := &fullDisk{file: j.file, room: room}
	j.file = disk
	return j, disk
}

// TestFullDisk: wherever in a batch the disk is full, nothing of the batch is left, and the journal goes on
// when there is room again.
func TestFullDisk(t *testing.T) {
	for room := range len(fileOf(three...)) - len(firstLine) {
		j, disk := onFullDisk(t, room)
		size := j.Size()
		if err := j.Append(three...); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), j.path) {
			t.Fatal(err)
		}
		if got := contents(t, j.path); !bytes.Equal(got, fileOf([]byte("first"))) || j.Size() != size {
			t.Fatalf("after %d bytes the journal is %q", room, got)
		}
		disk.room = 1000
		add(t, j, []byte("next"))
		shut(t, j)
		if got := contents(t, j.path); !bytes.Equal(got, fileOf([]byte("first"), []byte("next"))) {
			t.Fatalf("the journal is %q", got)
		}
	}
}

// TestTornRecordThatStays: nothing is written behind it, until a Rewrite has made a file without it.
func TestTornRecordThatStays(t *testing.T) {
	j, disk := onFullDisk(t, 10)
	disk.fixed = true
	first := j.Append(three...)
	disk.room, disk.fixed = 1000, false
	second := j.Append(three...)
	if !errors.Is(first, syscall.ENOSPC) || !errors.Is(first, syscall.EIO) || second != first || j.Append() != first {
		t.Fatalf("%v, and then %v", first, second)
	}
	if got := contents(t, j.path); !bytes.Equal(got, fileOf([]byte("first"), three[0])[:len(fileOf([]byte("first")))+10]) {
		t.Fatalf("the journal is %q", got)
	}
	if err := j.Rewrite(slices.Values([][]byte{[]byte("first")})); err != nil {
		t.Fatal(err)
	}
	add(t, j, three...)
	shut(t, j)
	if got := records(t, j.path); !same(got, append([][]byte{[]byte("first")}, three...)) {
		t.Errorf("%q", got)
	}
}

// player starts this test binary in a role, with the journal at path.
func player(role, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

const (
	diskRoom  = 100_000
	chunkSize = 7_000
)

// TestRealFullDisk is a process that may write no more than diskRoom bytes into a file.
func TestRealFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := player("limited", path).Run(); err != nil {
		t.Fatal(err)
	}
	got := records(t, path)
	if len(got) != 3 || string(got[2]) != "after the rewrite" {
		t.Errorf("%d records", len(got))
	}
	if names := neighbours(t, path); names != nil {
		t.Errorf("%q are left", names)
	}
}

// writeToFullDisk checks in the process that has the limit.
func writeToFullDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: diskRoom, Max: diskRoom}); err != nil {
		return err
	}
	j, err := Open(path, func([]byte) error { return nil })
	if err != nil {
		return err
	}
	chunk := make([]byte, chunkSize)
	for err == nil {
		err = j.Append(chunk)
	}
	full := j.Size()
	info, statErr := os.Stat(path)
	if !errors.Is(err, syscall.EFBIG) || statErr != nil || info.Size() != full || full < diskRoom-2*chunkSize {
		return fmt.Errorf("the size is %d and should be %v: %w", full, info, err)
	}
	if err := j.Append([]byte("small")); err != nil || j.Size() <= full {
		return fmt.Errorf("append to what room is left: %w", err)
	}
	if err := j.Rewrite(slices.Values(slices.Repeat([][]byte{chunk}, 20))); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("a rewrite without room: %w", err)
	}
	if err := j.Rewrite(slices.Values(slices.Repeat([][]byte{chunk}, 2))); err != nil {
		return err
	}
	return errors.Join(j.Append([]byte("after the rewrite")), j.Close())
}

// keptRecords is how many of the last records a Rewrite of the endless writer keeps.
const keptRecords = 20

// numbered makes the record number n. Its number tells what is in it.
func numbered(n uint64) []byte {
	random := rand.New(rand.NewPCG(n, 0))
	size := random.IntN(300)
	if random.IntN(4) == 0 {
		size = random.IntN(2 << 20) // such a write takes long enough to be hit
	}
	record := bytes.Repeat([]byte{byte(n)}, 8+size)
	binary.BigEndian.PutUint64(record, n)
	return record
}

// writeUntilKilled writes records in batches and acknowledges each batch on stdout by its last number. Every
// 30 batches or so it rewrites the journal.
func writeUntilKilled(path string) error {
	var last uint64
	j, err := Open(path, func(record []byte) error {
		last = binary.BigEndian.Uint64(record)
		return nil
	})
	for err == nil {
		var batch [][]byte
		for range 1 + rand.IntN(3) {
			last++
			batch = append(batch, numbered(last))
		}
		if err = j.Append(batch...); err == nil {
			_, err = fmt.Println(last)
		}
		if err == nil && rand.IntN(30) == 0 {
			err = j.Rewrite(lastRecords(last))
		}
	}
	return err
}

func lastRecords(last uint64) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for n := last - min(keptRecords, last) + 1; n <= last && yield(numbered(n)); n++ {
		}
	}
}

// TestKilledWriter: whenever a writer is killed, what it has acknowledged is there, and nothing else but
// what it may have written after that.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	var cuts int
	for range rounds {
		acknowledged := killedAfter(t, path, 1+rand.IntN(60))
		j, got := open(t, path)
		if j.Cut() > 0 {
			cuts++
		}
		checkNumbered(t, got, acknowledged)
		if names := neighbours(t, path); names != nil || j.Broken() != "" {
			t.Fatalf("%q are left", names)
		}
		shut(t, j)
	}
	t.Logf("%d of %d kills tore a record", cuts, rounds)
}

// killedAfter kills a writer when it has acknowledged n batches, and returns the last record that it
// has acknowledged before it died.
func killedAfter(t *testing.T, path string, n int) (last uint64) {
	t.Helper()
	cmd := player("endless", path)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stdout)
	for read := 0; ; read++ {
		if read == n {
			_ = cmd.Process.Kill()
		}
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break
		}
		if _, err := fmt.Sscan(line, &last); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatal(err)
	}
	return last
}

// checkNumbered checks that records follow each other, and end behind what was acknowledged.
func checkNumbered(t *testing.T, records [][]byte, acknowledged uint64) {
	t.Helper()
	if len(records) == 0 {
		t.Fatal("there is no record")
	}
	first := binary.BigEndian.Uint64(records[0])
	last := first + uint64(len(records)) - 1
	for i, record := range records {
		if !bytes.Equal(record, numbered(first+uint64(i))) {
			t.Fatalf("record %d is not what was written", first+uint64(i))
		}
	}
	if last < acknowledged || last > acknowledged+3 {
		t.Fatalf("the last record is %d, and %d was acknowledged", last, acknowledged)
	}
	if first != 1 && len(records) < keptRecords {
		t.Fatalf("the first of %d records is %d", len(records), first)
	}
}
