package joblog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func row(seq uint64, command string) *Row {
	return &Row{Seq: seq, Start: time.UnixMilli(1795319359608 + int64(seq)*37), Command: command}
}

// write writes rows and closes the log.
func write(t *testing.T, log *Log, rows ...*Row) {
	t.Helper()
	for _, r := range rows {
		if err := log.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// Create is Open and Begin.
func Create(path string) (*Log, error) {
	log, err := Open(path)
	if err == nil {
		return finish(log, log.Begin())
	}
	return nil, err
}

// Resume is Reopen and Begin.
func Resume(path string, mode Mode) (*Log, *History, error) {
	log, h, err := Reopen(path, mode)
	if err == nil {
		log, err = finish(log, log.Begin())
	}
	return log, h, err
}

// TestNothingChangesBeforeBegin: a run that does not begin leaves the log as it was.
func TestNothingChangesBeforeBegin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := header + oursRow(1, "one", 0) + "2\t:\ttorn"
	put(t, path, text)
	for _, open := range []func() (*Log, error){
		func() (*Log, error) { return Open(path) },
		func() (*Log, error) { return Open("+" + path) },
		func() (*Log, error) { log, _, err := Reopen(path, SkipLogged); return log, err },
	} {
		log, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if got := contents(t, path); got != text {
			t.Errorf("the file has become %q", got)
		}
	}
}

func create(t *testing.T, path string) *Log {
	t.Helper()
	log, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	one, two := oursRow(1, "echo a", 0), oursRow(2, "echo b", 0)
	for _, c := range []struct{ name, before, path, want string }{
		{"new", "-", path, header + one},
		{"truncated", header + two, path, header + one},
		{"truncated, though it is no log", "hello", path, header + one},
		{"appended", header + two, "+" + path, header + two + one},
		{"appended, new", "-", "+" + path, header + one},
		{"appended, empty", "", "+" + path, header + one},
		{"appended, torn", header + two + "3\t:\t17", "+" + path, header + two + one},
		{"appended, header torn", header[:9], "+" + path, header + one},
	} {
		_ = os.Remove(path)
		if c.before != "-" {
			put(t, path, c.before)
		}
		write(t, create(t, c.path), row(1, "echo a"))
		if got := contents(t, path); got != c.want {
			t.Errorf("%s: the log is\n%q, want\n%q", c.name, got, c.want)
		}
	}
}

func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, p := range []string{path, "+" + path, path} {
		log, h, err := Resume(p, SkipLogged)
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(3) {
			command := fmt.Sprintf("echo %d", i+1)
			done, _ := h.Done(i+1, command)
			if done != (p == path && h.Rows == 3) && done != (p != path) {
				t.Errorf("%s is done: %v", command, done)
			}
			if !done {
				if err := log.Write(row(i+1, command)); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(t, log)
	}
	want := header + oursRow(1, "echo 1", 0) + oursRow(2, "echo 2", 0) + oursRow(3, "echo 3", 0)
	if got := contents(t, path); got != want {
		t.Errorf("the log is\n%s", got)
	}
}

// TestResumeAfterACrash: the torn row is cut off in the file, and quoting still finds its place.
func TestResumeAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	put(t, path, header+otherRow(1, "echo a", 0)+otherRow(2, "echo b", 0)[:30]+"\x00\x00\x00")
	log, h, err := Resume(path, SkipLogged)
	if err != nil {
		t.Fatal(err)
	}
	if done, differs := h.Done(1, "echo z"); !done || differs != "echo a" {
		t.Errorf("done %v, differs %q", done, differs)
	}
	if h.Torn != 33 {
		t.Errorf("%d bytes are torn", h.Torn)
	}
	write(t, log, row(2, "echo b"))
	if got, want := contents(t, path), header+otherRow(1, "echo a", 0)+oursRow(2, "echo b", 0); got != want {
		t.Errorf("the log is\n%q, want\n%q", got, want)
	}
	if _, differs := h.Done(1, "echo z"); differs != "another command" {
		t.Errorf("after Close %q is quoted", differs)
	}
}

// TestPathsThatAreRefused: the message says why and names the path, and nothing is changed.
func TestPathsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "picture")
	put(t, other, "GIF89a\n\x00")
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	resume := func(path string) error { _, _, err := Resume(path, SkipLogged); return err }
	start := func(path string) error { _, err := Create(path); return err }
	for _, c := range []struct {
		open       func(string) error
		path, want string
	}{
		{start, "", "name a file"}, {start, "+", "name a file"},
		{start, "-", "stdout is for results"}, {start, "+-", "stdout is for results"}, {resume, "-", "stdout is for results"},
		{start, dir, "it is a directory"}, {resume, dir, "it is a directory"},
		{start, dir + "/no/log", "no such file or directory"}, {resume, other + "/log", "not a directory"},
		{resume, other, `no joblog: its first line is "GIF89a"`}, {start, "+" + other, `no joblog: its first line is "GIF89a"`},
		{resume, fifo, "only a regular file"}, {resume, "/dev/null", "only a regular file"},
	} {
		err := c.open(c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), strings.TrimPrefix(c.path, "+")) {
			t.Errorf("%q: %v", c.path, err)
		}
	}
	if got := contents(t, other); got != "GIF89a\n\x00" {
		t.Errorf("what is no log was changed to %q", got)
	}
}

func TestLogThatMayNotBeRead(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	path := filepath.Join(t.TempDir(), "log")
	put(t, path, header)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Resume(path, SkipLogged); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

// TestOwnOutputIsNoLog: a log that is where results go would be cut and mixed with them.
func TestOwnOutputIsNoLog(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	if _, err := out.WriteString("result\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(out.Name()); err == nil || !strings.Contains(err.Error(), "own output") {
		t.Error(err)
	}
	if got := contents(t, out.Name()); got != "result\n" {
		t.Errorf("the output is %q", got)
	}
}

func TestTwoRunsOnOneLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first := create(t, path)
	if err := first.Write(row(1, "echo a")); err != nil {
		t.Fatal(err)
	}
	want := contents(t, path)
	_, err1 := Create(path)
	_, err2 := Create("+" + path)
	_, _, err3 := Resume(path, SkipLogged)
	for _, err := range []error{err1, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another run") {
			t.Error(err)
		}
	}
	if got := contents(t, path); got != want {
		t.Errorf("a run that was refused changed the log to %q", got)
	}
	write(t, first)
	write(t, create(t, path))
	write(t, create(t, "/dev/null"))
	a, b := create(t, "/dev/null"), create(t, "/dev/null") // nothing to lock there
	write(t, a)
	write(t, b)
}

func TestLogIntoAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		b, err := os.ReadFile(path)
		got <- fmt.Sprint(string(b), err)
	}()
	write(t, create(t, path), row(1, "echo a"))
	if g, want := <-got, header+oursRow(1, "echo a", 0)+"<nil>"; g != want {
		t.Errorf("the reader got %q", g)
	}
}

func TestFIFOWhoseReaderLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	log := create(t, path)
	reader.Close()
	if err := log.Write(row(1, "echo a")); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
	write(t, log)
}

func TestFullDevice(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	if _, err := Create("/dev/full"); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/dev/full") {
		t.Error(err)
	}
}

// fullDisk is a file on a disk that has room for some bytes more.
type fullDisk struct {
	*os.File
	room  int
	fixed bool // it cannot be truncated
}

func (d *fullDisk) Write(b []byte) (int, error) {
	n, err := d.File.Write(b[:min(len(b), d.room)])
	d.room -= n
	if err == nil && n < len(b) {
		err = &fs.PathError{Op: "write", Path: d.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

func (d *fullDisk) Truncate(size int64) error {
	if d.fixed {
		return syscall.EIO
	}
	return d.File.Truncate(size)
}

func onFullDisk(t *testing.T, room int) (*Log, *fullDisk) {
	t.Helper()
	log := create(t, filepath.Join(t.TempDir(), "log"))
	if err := log.Write(row(1, "echo a")); err != nil {
		t.Fatal(err)
	}
	disk := &fullDisk{File: log.file.(*os.File), room: room}
	log.file = disk
	return log, disk
}

// TestFullDisk: wherever in a row the disk is full, the log stays well formed, and goes on when there is
// room again.
func TestFullDisk(t *testing.T) {
	for room := range len(oursRow(2, "echo b", 0)) {
		log, disk := onFullDisk(t, room)
		err := log.Write(row(2, "echo b"))
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), log.path) {
			t.Fatal(err)
		}
		if got := contents(t, log.path); got != header+oursRow(1, "echo a", 0) {
			t.Fatalf("the log after %d bytes is %q", room, got)
		}
		disk.room = 1000
		write(t, log, row(3, "echo c"))
		if got := contents(t, log.path); got != header+oursRow(1, "echo a", 0)+oursRow(3, "echo c", 0) {
			t.Fatalf("the log is %q", got)
		}
	}
}

// TestTornRowThatStays: nothing is glued to it.
func TestTornRowThatStays(t *testing.T) {
	log, disk := onFullDisk(t, 10)
	disk.fixed = true
	for range 2 {
		if err := log.Write(row(2, "echo b")); err == nil || !strings.Contains(err.Error(), log.path) {
			t.Fatal(err)
		}
		disk.room = 1000
	}
	path := log.path
	write(t, log)
	if got := contents(t, path); got != header+oursRow(1, "echo a", 0)+oursRow(2, "echo b", 0)[:10] {
		t.Errorf("the log is %q", got)
	}
}

// TestRowsOfAProgramThatDoesNotLock are not cut off with ours.
func TestRowsOfAProgramThatDoesNotLock(t *testing.T) {
	log, _ := onFullDisk(t, 10)
	theirs, err := os.OpenFile(log.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if _, err := io.WriteString(theirs, otherRow(9, "echo z", 0)); err != nil {
		t.Fatal(err)
	}
	if err := log.Write(row(2, "echo b")); err == nil {
		t.Fatal("a full disk took a row")
	}
	if got := contents(t, log.path); !strings.Contains(got, "echo z\n") {
		t.Errorf("the log is %q", got)
	}
}

// countingFile counts writes.
type countingFile struct {
	file
	writes [][]byte
}

func (f *countingFile) Write(b []byte) (int, error) {
	f.writes = append(f.writes, bytes.Clone(b))
	return f.file.Write(b)
}

func TestARowIsOneWrite(t *testing.T) {
	log := create(t, filepath.Join(t.TempDir(), "log"))
	f := &countingFile{file: log.file}
	log.file = f
	write(t, log, row(1, strings.Repeat("x", 200_000)), row(2, "echo"))
	if len(f.writes) != 2 || !bytes.HasSuffix(f.writes[0], []byte("x\n")) {
		t.Errorf("%d writes", len(f.writes))
	}
}

func BenchmarkWrite(b *testing.B) {
	log, err := Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	r := row(1, "convert -resize 50% 'in/picture 17.jpg' out/17.jpg")
	b.ReportAllocs()
	for b.Loop() {
		r.Seq++
		if err := log.Write(r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
