package rawpipe

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair is a pipe with both ends raw.
func pair(t testing.TB) (in *Pipe, out *Pipe, inFile, outFile *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	in, err = New(r)
	out, err2 := New(w)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return in, out, r, w
}

func TestAllOfItPasses(t *testing.T) {
	in, out, _, w := pair(t)
	sent := bytes.Repeat([]byte("0123456789"), 1<<18) // many times what a pipe holds
	go func() {
		if n, err := out.Write(sent); n != len(sent) || err != nil {
			t.Errorf("%d of %d bytes: %v", n, len(sent), err)
		}
		w.Close()
	}()
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d: %v", len(got), len(sent), err)
	}
}

func TestEnds(t *testing.T) {
	in, out, r, w := pair(t)
	if n, err := in.Read(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
	_ = r.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a deadline: %v", err)
	}
	_ = r.SetReadDeadline(time.Time{})
	w.Close()
	if n, err := in.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if _, err := out.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("to a closed file: %v", err)
	}
	_, out, r, _ = pair(t)
	r.Close()
	if _, err := out.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestCloseEndsRead: a reader that waits ends with its file.
func TestCloseEndsRead(t *testing.T) {
	in, _, r, _ := pair(t)
	endC := make(chan error)
	go func() {
		_, err := in.Read(make([]byte, 1))
		endC <- err
	}()
	time.Sleep(10 * time.Millisecond)
	r.Close()
	if err := <-endC; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// BenchmarkPing sends a few bytes there and back.
func BenchmarkPing(b *testing.B) {
	there, in, _, end := pair(b)
	back, out, _, _ := pair(b)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		_, _ = io.Copy(out, there)
	}()
	buf := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(back, buf); err != nil {
			b.Fatal(err)
		}
	}
	end.Close()
	<-doneC
}
