package main

import (
	"errors"
	"io"
	"os"
	"syscall"

	"gpool/internal/pool/report"
)

// screen is where gpool writes: stdout and stderr, and the progress bar that shares
// the terminal with them.
type screen struct {
	out, err io.Writer
	bar      *report.Progress // nil without
}

func newScreen(mode string, std stdio, total int) (*screen, error) {
	show, err := report.Enabled(mode, std.err, os.Getenv)
	if err != nil {
		return nil, err
	}
	s := &screen{out: std.out, err: lenient{std.err}}
	if show {
		s.bar = report.New(std.err, int64(total), os.Getenv)
		s.err = s.bar.Writer(lenient{std.err})
		if isTerminal(std.out) {
			s.out = s.bar.Writer(std.out)
		}
	}
	return s, nil
}

// lenient drops what a reader of stderr who has left would have got. Only results
// end a run when nobody wants them.
type lenient struct{ w io.Writer }

func (l lenient) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		return len(b), nil
	}
	return n, err
}

func (s *screen) setTotal(n int64) {
	if s.bar != nil {
		s.bar.SetTotal(n)
	}
}

func (s *screen) done(failed bool) {
	if s.bar != nil {
		s.bar.Done(failed)
	}
}

func (s *screen) stop() {
	if s.bar != nil {
		s.bar.Stop()
	}
}
