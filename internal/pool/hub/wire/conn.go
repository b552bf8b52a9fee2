package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
	"gpool/internal/peer"
)

// conn is one end of a connection.
type conn struct {
	net.Conn                 // what is read and written: over TLS the plain text
	under    net.Conn        // what is closed: closing TLS may have to wait for the other side
	raw      syscall.RawConn // nil if it cannot be written to without waiting
	unix     *net.UnixConn   // nil over a network
}

func newConn(c net.Conn) *conn {
	w := &conn{Conn: c, under: c}
	if t, ok := c.(*tls.Conn); ok {
		w.under = t.NetConn()
		return w
	}
	w.unix, _ = c.(*net.UnixConn)
	if sc, ok := c.(syscall.Conn); ok {
		w.raw, _ = sc.SyscallConn()
	}
	return w
}

func (c *conn) Close() error { return c.under.Close() }

// try writes what the system takes of b at once, and f with the first byte of it.
func (c *conn) try(b []byte, f *os.File) (n int, err error) {
	var rights []byte
	if f != nil {
		if rights, err = rightsOf(f); err != nil {
			return 0, err
		}
	}
	// Control and not Write, which would mind the deadline that the last stall has left. Without
	// MSG_DONTWAIT a process that shares the connection could make us wait.
	if e := c.raw.Control(func(fd uintptr) {
		n, err = unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_DONTWAIT)
		if err == unix.ETOOMANYREFS { // somebody does not take files: the answer goes without
			n, err = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_DONTWAIT)
		}
	}); e != nil {
		return 0, e
	}
	if err == unix.EAGAIN || err == unix.EINTR || err == unix.ENOBUFS {
		return 0, nil
	}
	return max(n, 0), err
}

func rightsOf(f *os.File) (rights []byte, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) })
	}
	if err != nil {
		err = fmt.Errorf("hand over the file of the memory: %w", err)
	}
	return rights, err
}

// drain writes a chunk, however long that takes, as long as something is taken within each stall.
func (c *conn) drain(next chunk, stall time.Duration) error {
	for b := next.data; len(b) > 0; {
		if stall > 0 {
			if err := c.SetWriteDeadline(time.Now().Add(stall)); err != nil {
				return err
			}
		}
		n, err := c.writePiece(b[:min(len(b), pieceSize)], next.file)
		if err != nil {
			return err
		}
		b, next.file = b[n:], nil
	}
	return nil
}

func (c *conn) writePiece(b []byte, f *os.File) (int, error) {
	if f == nil {
		return c.Write(b)
	}
	rights, err := rightsOf(f)
	if err != nil {
		return 0, err
	}
	n, _, err := c.unix.WriteMsgUnix(b, rights, nil)
	if errors.Is(err, unix.ETOOMANYREFS) {
		return c.Write(b)
	}
	return n, err
}

// secure does what comes before the first byte: it makes sure of the user at the other end, or of
// the cipher. channel binds a proof to the connection: whoever sat between the two sides of a TLS
// connection would have two connections, with different values. That is why any certificate will
// do: the key proves that nobody is there (the idea of RFC 9266, with a label of our own).
func (c *conn) secure(ctx context.Context) (channel []byte, err error) {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("agree on a cipher: %w", err)
	}
	state := t.ConnectionState()
	return state.ExportKeyingMaterial("EXPORTER-gpool-hub", nil, 32)
}

// owner asks the kernel who is at the other end; uid is -1 over a network.
func (c *conn) owner() (pid, uid int, err error) {
	if c.unix == nil {
		return 0, -1, nil
	}
	return peer.Of(c.unix)
}

// describe is who is at the other end, from what the kernel says, or else the other end itself.
func (c *conn) describe(pid, uid int, hello ipc.Hello) Peer {
	switch {
	case c.unix == nil:
		return Peer{UID: -1, From: fmt.Sprintf("%s, pid %d at %v", cmp.Or(hello.Build, "a process"), hello.Pid, c.RemoteAddr())}
	case pid == 0: // it is in another namespace
		pid = hello.Pid
	}
	return Peer{Pid: pid, UID: uid, From: cmp.Or(hello.Build, "a process")}
}

// ended reports whether err says that a connection was closed, by either side.
func ended(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, errClosed,
		syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// keepAlive finds out in about a minute that a machine at the other end is no more.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}

// limitSilence does the same while data is under way that nobody acknowledges, which keepalive
// does not look at. It is a saving of time and no duty.
func limitSilence(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { setSilence(int(fd), time.Minute) })
		}
	}
}
