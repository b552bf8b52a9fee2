package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"gpool/internal/pool/hub"
	"gpool/internal/pool/hub/wire"
)

// manager is one execution of gpool manager.
type manager struct {
	io      stdio
	listen  string
	keyFile string
	public  bool
	print   bool
}

const managerHelp = `manager serves a hub to any process that reaches its address, until SIGTERM or
SIGINT: what is in it ends with it. The others find it by --hub or $GPOOL_HUB.

  gpool manager --listen unix:/tmp/hub.sock &
  gpool manager --listen tls:0.0.0.0:7777 --public --authkey-file key

A key is a file of 16 to 4096 bytes that only its owner may read; both sides prove
that they know it, and it is never sent. tcp and tls want one. Without one a Unix
socket takes in the processes of its own user only. tcp is not encrypted.

EXIT STATUS
  0 ended by SIGTERM or SIGINT; 2 bad usage, address or key; 3 gpool itself failed`

func newManager(io stdio) *cobra.Command {
	m := &manager{io: io}
	cmd := &cobra.Command{
		Use: "manager --listen ADDRESS", Short: "Serve a hub to processes of this machine or others", Long: managerHelp,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE:                  func(*cobra.Command, []string) error { return m.run() },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&m.listen, "listen", "", "where: unix:PATH, tcp:HOST:PORT or tls:HOST:PORT; the port 0 is any that is free")
	f.StringVar(&m.keyFile, "authkey-file", "", "the file of the key that all must know (default: $"+keyVariable+")")
	f.BoolVar(&m.public, "public", false, "listen also where other machines reach it")
	f.BoolVar(&m.print, "print-address", false, "print the address on stdout when it listens")
	return cmd
}

func (m *manager) run() error {
	if m.listen == "" {
		return errors.New("say with --listen where: unix:PATH, tcp:HOST:PORT or tls:HOST:PORT")
	}
	address, err := wire.ParseAddress(m.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	key, err := readKey(m.keyFile)
	if err != nil {
		return err
	}
	if err := allowed(address, key, m.public); err != nil {
		return err
	}
	if err := m.serve(address, key); err != nil {
		return &exitError{exitPool, err}
	}
	return nil
}

// allowed refuses what would let in anybody.
func allowed(address wire.Address, key wire.Key, public bool) error {
	if address.Local() {
		return nil
	}
	_, hostPort, _ := strings.Cut(string(address), ":")
	host, _, err := net.SplitHostPort(hostPort)
	switch {
	case err != nil:
		return fmt.Errorf("--listen %s: %w", address, err)
	case key == nil:
		return fmt.Errorf("--listen %s: any user of this machine could use the hub: give a key with --authkey-file", address)
	case !public && !isLoopback(host):
		return fmt.Errorf("--listen %s: other machines reach that address: say --public if they shall, or listen at 127.0.0.1", address)
	}
	return nil
}

// isLoopback reports whether a host is this machine for itself only. A name other than localhost
// is not looked up: what it means may change.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// serve serves until a signal ends it.
func (m *manager) serve(address wire.Address, key wire.Key) error {
	endC := make(chan os.Signal, 1)
	signal.Notify(endC, syscall.SIGINT, syscall.SIGTERM) // before anybody can see that we are there
	listener, err := wire.Listen(address)
	if err != nil {
		return err
	}
	h := hub.New()
	server := &wire.Server{Hub: h, Key: key, Memory: h.SharedFile, Log: m.log()}
	end := func() {
		h.End()
		server.Close()
	}
	go func() { // ends with the process
		<-endC
		end()
	}()
	fmt.Fprintf(m.io.err, "gpool: listening on %s\n", address.Bound(listener))
	if m.print {
		if _, err := fmt.Fprintln(m.io.out, absolute(string(address.Bound(listener)))); err != nil {
			_ = listener.Close()
			end()
			return outputError(err)
		}
	}
	return server.Serve(listener)
}

// logLines is how many lines may wait for a reader of stderr; the others are counted.
const logLines = 100

// log says on stderr whom the hub has turned away, in whole lines. Nobody waits for it: a reader of stderr that does not read, or has left,
// must not hold up the hub.
func (m *manager) log() func(string) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // heard and not heeded: else it would end us
	lines := make(chan string, logLines)
	var dropped atomic.Int64
	go func() { // ends with the process
		for text := range lines {
			if n := dropped.Swap(0); n > 0 {
				text += fmt.Sprintf(" (and %s more)", count(n, "line"))
			}
			fmt.Fprintf(m.io.err, "gpool manager: %s\n", printable(text))
		}
	}()
	return func(text string) {
		select {
		case lines <- text:
		default:
			dropped.Add(1)
		}
	}
}
