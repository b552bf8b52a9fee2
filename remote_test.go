package gpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var errSentinel = errors.New("a sentinel")

// hidden has nothing that can travel but its text.
type hidden struct{ secret int }

func (h hidden) Error() string { return fmt.Sprint("hidden ", h.secret) }

// halfHidden is registered, and its text depends on what does not travel.
type halfHidden struct {
	Code   int
	secret string
}

func (h *halfHidden) Error() string { return fmt.Sprint(h.Code, h.secret) }

// broken has methods that panic.
type broken struct{}

func (broken) Error() string { panic("no text") }
func (broken) Unwrap() error { panic("no cause") }

// code is an error that is a number.
type code int

func (c code) Error() string { return "code " + strconv.Itoa(int(c)) }

func init() {
	RegisterError[*halfHidden]("test.halfHidden")
	RegisterError[code]("test.code")
}

func travel(err error) error { return decodeError(encodeError(err), "the message") }

func TestErrorsTravel(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}
	num := func() error { _, err := strconv.Atoi("x"); return err }()
	for name, tt := range map[string]struct {
		err  error
		is   []error
		as   func(error) bool
		text string // if it is another one
	}{
		"a sentinel":         {err: errSentinel, is: []error{errSentinel}},
		"one of the library": {err: io.ErrUnexpectedEOF, is: []error{io.ErrUnexpectedEOF}},
		"a deadline":         {err: context.DeadlineExceeded, is: []error{context.DeadlineExceeded}},
		"a wrapped one":      {err: fmt.Errorf("read: %w", errSentinel), is: []error{errSentinel}},
		"two wrapped ones":   {err: fmt.Errorf("%w and %w", errSentinel, io.EOF), is: []error{errSentinel, io.EOF}},
		"joined ones":        {err: errors.Join(errSentinel, path), is: []error{errSentinel, fs.ErrNotExist, syscall.ENOENT}},
		"an error of a file": {err: fmt.Errorf("load: %w", path), is: []error{os.ErrNotExist}, as: func(err error) bool {
			e, ok := errors.AsType[*fs.PathError](err)
			return ok && e.Path == "/x" && e.Err == syscall.ENOENT
		}},
		"an error of a number": {err: num, is: []error{strconv.ErrSyntax}, as: func(err error) bool { e, ok := errors.AsType[*strconv.NumError](err); return ok && e.Num == "x" }},
		"a registered number":  {err: code(7), is: []error{code(7)}, as: func(err error) bool { c, ok := err.(code); return ok && c == 7 }},
		"what does not travel": {err: hidden{7}, is: []error{hidden{7}}, as: func(err error) bool { _, ok := errors.AsType[hidden](err); return !ok }},
		"what travels in part": {err: &halfHidden{3, "!"}, as: func(err error) bool {
			e, ok := errors.AsType[*halfHidden](err)
			return ok && e.Code == 3 && e.secret == ""
		}},
		"broken methods": {err: broken{}, text: "(a gpool.broken whose method Error panics: no text)"},
		"a nil pointer":  {err: fmt.Errorf("%w", (*fs.PathError)(nil)), text: fmt.Errorf("%w", (*fs.PathError)(nil)).Error()},
		"one of this package": {err: &TaskError{Site: Site{Task: "t", Index: 3}, Err: errSentinel}, is: []error{errSentinel}, as: func(err error) bool {
			e, ok := errors.AsType[*TaskError](err)
			return ok && e.Index == 3 && e.Task == "t"
		}},
		"a death":                {err: &WorkerDiedError{Site: Site{Task: "t"}, Signal: 9, Err: ErrMemoryLimit}, is: []error{ErrMemoryLimit}, as: func(err error) bool { e, ok := errors.AsType[*WorkerDiedError](err); return ok && e.Signal == 9 }},
		"one without a text":     {err: errors.New("")},
		"a text that is no text": {err: errors.New("\xff\x00")},
		"a large one":            {err: errors.New(strings.Repeat("x", 1<<20))},
	} {
		t.Run(name, func(t *testing.T) {
			got := travel(tt.err)
			want := tt.text
			if want == "" {
				want = tt.err.Error()
			}
			if got.Error() != want {
				t.Errorf("it arrives as %.100q instead of %.100q", got, want)
			}
			for _, target := range tt.is {
				if !errors.Is(got, target) {
					t.Errorf("it is not %v any more", target)
				}
			}
			if errors.Is(got, errors.New("another one")) || errors.Is(got, fs.ErrExist) {
				t.Error("it is what it was not")
			}
			if tt.as != nil && !tt.as(got) {
				t.Errorf("its types are not right: %#v", got)
			}
		})
	}
}

// endless wraps itself; wide wraps a thousand others, each of which does.
type endless struct{}

func (e *endless) Error() string { return "again" }
func (e *endless) Unwrap() error { return e }

type wide struct{ depth int }

func (w wide) Error() string { return "wide" }
func (w wide) Unwrap() []error {
	list := make([]error, 1000)
	for i := range list {
		list[i] = wide{w.depth + 1}
	}
	return list
}

func TestErrorsWithoutEndAreCut(t *testing.T) {
	for _, err := range []error{&endless{}, wide{}} {
		b := encodeError(err)
		if len(b) > 64<<10 {
			t.Errorf("%v takes %d bytes", err, len(b))
		}
		if got := decodeError(b, ""); got.Error() != err.Error() {
			t.Errorf("%v arrives as %v", err, got)
		}
	}
}

func TestErrorTypesAreCheckedWhenTheyAreRegistered(t *testing.T) {
	for name, register := range map[string]func(){
		"a name that is taken": func() { RegisterError[*endless]("test.code") },
		"a type that is taken": func() { RegisterError[code]("test.code2") },
		"what cannot travel":   func() { RegisterError[hidden]("test.hidden") },
		"an interface":         func() { RegisterError[error]("test.error") },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "gpool: ") {
					t.Errorf("%s: %v", name, p)
				}
			}()
			register()
		}()
	}
}

// FuzzDecodeError: an error from a worker may be anything, and is an error all the same.
func FuzzDecodeError(f *testing.F) {
	for _, err := range []error{errSentinel, errors.Join(io.EOF, code(3)), &fs.PathError{Op: "open", Path: "x", Err: syscall.EPERM}, &halfHidden{1, "x"}} {
		f.Add(encodeError(err), err.Error())
	}
	f.Add([]byte{0x90}, "")
	f.Add([]byte{0x95, 0xa0, 0xa0, 0xa9, 't', 'e', 's', 't', '.', 'c', 'o', 'd', 'e', 0xc4, 0x00, 0x90}, "m")
	f.Fuzz(func(t *testing.T, b []byte, message string) {
		err := decodeError(b, message)
		if err == nil {
			t.Fatal("it is no error")
		}
		_ = textOf(err)
		_ = errors.Is(err, io.EOF)
		_, _ = errors.AsType[*fs.PathError](err)
	})
}

// TestPlacesOfTheVaultCountOnce: what was taken may not be taken again, also when its
// place has another value.
func TestPlacesOfTheVaultCountOnce(t *testing.T) {
	v := newVault()
	a := v.put(nil, "a")
	if v.look(a) != "a" || v.take(a) != "a" || v.take(a) != nil || v.look(a) != nil {
		t.Error("a value is not there once")
	}
	b := v.put(nil, "b")
	if string(a) == string(b) || v.take(a) != nil || v.take(b) != "b" {
		t.Error("a number counts for the value that came after")
	}
	if v.take([]byte("x")) != nil || v.take([]byte("12345678")) != nil || len(v.places) != 1 {
		t.Error("numbers that are none")
	}
}
