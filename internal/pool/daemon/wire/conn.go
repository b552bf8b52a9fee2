package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"gpool/internal/ipc"
)

// service is what a hello must name among its tasks, so that a worker is never taken for a server.
const service = "gpool-pool"

const (
	helloTime  = 5 * time.Second // for the hellos of both sides
	helloFrame = 4 << 10         // bytes of a hello
)

var limits = ipc.Limits{Frame: 16 << 20, Message: 256 << 20}

// mostOpen is how many questions of one connection may be without an answer. The client keeps more
// of them to itself, because a cancel must never have to wait behind a question that the server
// cannot take yet.
const mostOpen = 64

// greet exchanges hellos on a new connection, and checks that the other side is the same gpool.
// Both sides speak at once, and so both get to know why it fails. It leaves no deadline behind.
func greet(conn *net.UnixConn, pool, version string) (ipc.Hello, error) {
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return ipc.Hello{}, err
	}
	ours := ipc.NewWriter(conn, limits)
	ours.Begin()
	ours.Hello(ipc.Hello{Version: Version, Build: version, Pid: os.Getpid(), Tasks: []string{service}})
	if err := errors.Join(ours.End(), ours.Flush()); err != nil {
		return ipc.Hello{}, err
	}
	theirs, err := readHello(conn)
	if err != nil {
		return ipc.Hello{}, err
	}
	if err := checkHello(theirs, pool, version); err != nil {
		return ipc.Hello{}, err
	}
	return theirs, conn.SetDeadline(time.Time{})
}

// readHello takes the first frame from r, and no byte of the next: the reader of what follows has
// other limits.
func readHello(r io.Reader) (ipc.Hello, error) {
	head := make([]byte, 4, helloFrame)
	if _, err := io.ReadFull(r, head); err != nil {
		return ipc.Hello{}, err
	}
	n := binary.BigEndian.Uint32(head)
	if n > helloFrame {
		return ipc.Hello{}, fmt.Errorf("what it says is no hello of gpool: it begins with %q", head)
	}
	frame := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, frame[4:]); err != nil {
		return ipc.Hello{}, err
	}
	var m ipc.Message
	if err := ipc.NewReader(bytes.NewReader(frame), ipc.Limits{Frame: helloFrame, Message: helloFrame}).Next(&m); err != nil {
		return ipc.Hello{}, err
	}
	if m.Kind != ipc.KindHello {
		return ipc.Hello{}, fmt.Errorf("what it says is no hello of gpool, but a frame of kind %d", m.Kind)
	}
	return m.Hello, nil
}

func checkHello(h ipc.Hello, pool, version string) error {
	if !slices.Contains(h.Tasks, service) {
		return errors.New("what is there is no server or client of a pool of gpool")
	}
	theirs := h.Build
	if h.Version != Version {
		theirs = fmt.Sprintf("%s (with version %d of this conversation, not %d)", h.Build, h.Version, Version)
	}
	if theirs != version {
		return &VersionError{Pool: pool, Pid: h.Pid, Theirs: theirs, Ours: version}
	}
	return nil
}

// sender writes messages to one connection, from any goroutines.
type sender struct {
	conn *net.UnixConn
	time time.Duration // that a message may take; 0 is for ever

	mu sync.Mutex // held while a message is written; guards w
	w  *ipc.Writer
}

func newSender(conn *net.UnixConn, limit time.Duration) *sender {
	return &sender{conn: conn, time: limit, w: ipc.NewWriter(conn, limits)}
}

// errTooLong is the error of send for a message that did not leave, and could not.
var errTooLong = fmt.Errorf("it is longer than %d MiB", limits.Message>>20)

// send writes one message. before is called when it is about to leave. After an error other than
// errTooLong the connection cannot be used.
func (s *sender) send(encode func(*ipc.Encoder), before func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.Begin()
	encode(s.w.Encoder)
	if s.w.End() != nil {
		return errTooLong
	}
	before()
	if s.time > 0 {
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.time)); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

// ended reports whether err says that the other side of a connection, or this one, has closed it.
func ended(err error) bool {
	// ENOTCONN is what macOS says of a connection that has ended.
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}

// interrupt makes everything that waits on conn return as soon as ctx ends. stop must be called,
// and reports whether it came in time.
func interrupt(ctx context.Context, conn *net.UnixConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.Close() })
}
