package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the listener of a hub at a. The file of a Unix socket can be used by its owner only, and
// is removed when the listener is closed; one that a hub of ours has left that was killed is
// replaced. If a hub lives there the error is EADDRINUSE. Two that replace a file at the very same
// moment may take it from each other: where that can happen, choose another address for each.
func Listen(a Address) (net.Listener, error) {
	l, err := listen(a)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", a, err)
	}
	return l, nil
}

func listen(a Address) (net.Listener, error) {
	if _, err := ParseAddress(string(a)); err != nil {
		return nil, err
	}
	if a.Local() && a.place()[0] != '@' {
		return listenFile(a.place())
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := config.Listen(context.Background(), a.network(), a.place())
	if err != nil || a.scheme() != "tls" {
		return l, err
	}
	certificate, err := newCertificate()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}), nil
}

// newCertificate makes a certificate that nobody has signed. It lives in memory only.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	from := time.Now().Add(-24 * time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.AddDate(10, 0, 0), DNSNames: []string{"gpool"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// freshFolder begins the names of the folders that Fresh makes for one socket each.
const freshFolder = "gpool-hub-"

// fileListener listens on a socket that has a file.
type fileListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

func listenFile(path string) (net.Listener, error) {
	if err := clearDead(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then it may be the file of another one
	err = os.Chmod(path, 0o600)
	info, err2 := os.Lstat(path)
	if err := errors.Join(err, err2); err != nil {
		return nil, errors.Join(err, os.Remove(path), l.Close())
	}
	return &fileListener{UnixListener: l, path: path, file: info}, nil
}

// Close ends the listener and removes its file.
func (l *fileListener) Close() error {
	l.once.Do(func() { // what is there later may be that of another one
		if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.file) {
			_ = os.Remove(l.path) // before it ends, so that nobody finds one that nobody serves
			if dir := filepath.Dir(l.path); strings.HasPrefix(filepath.Base(dir), freshFolder) {
				_ = os.Remove(dir) // if there is nothing else in it
			}
		}
	})
	return l.UnixListener.Close()
}

// clearDead removes the socket of ours at path, if nobody listens there.
func clearDead(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("it is in the way, and no socket (%v): remove it, or choose another path", info.Mode())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("the socket belongs to the user with the id %d: choose another path", stat.Uid)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
	}
	if err == nil || errors.Is(err, unix.EAGAIN) { // EAGAIN: its queue is full
		return fmt.Errorf("%w: a hub lives there already", unix.EADDRINUSE)
	}
	return os.Remove(path)
}
