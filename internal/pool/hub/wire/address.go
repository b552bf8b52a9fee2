package wire

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Address says where a hub lives: "unix:/path", "unix:@name" (a name of the kernel's, on Linux
// only), "tcp:host:port" or "tls:host:port". ParseAddress makes one.
type Address string

// ParseAddress checks that text is an address that can be used on this system. Whether somebody
// listens there it does not ask.
func ParseAddress(text string) (Address, error) {
	scheme, rest, found := strings.Cut(text, ":")
	var err error
	switch {
	case !found:
		err = fmt.Errorf("it has no scheme: write unix:/PATH, tcp:HOST:PORT or tls:HOST:PORT")
	case scheme == "unix":
		err = checkSocket(rest)
	case scheme == "tcp" || scheme == "tls":
		err = checkPort(rest)
	default:
		err = fmt.Errorf("the scheme %q is none of unix, tcp and tls", scheme)
	}
	if err != nil {
		return "", fmt.Errorf("read %q as the address of a hub: %w", text, err)
	}
	return Address(text), nil
}

func checkSocket(path string) error {
	switch {
	case path == "" || path == "@":
		return fmt.Errorf("it has no path: write unix:/PATH")
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("its path has a NUL byte")
	case path[0] == '@' && !abstractNames:
		return fmt.Errorf("names that begin with @ are there on Linux only: write the path of a file")
	case len(path) > longestSocket:
		return fmt.Errorf("its path has %d bytes, and a socket may have %d: choose a shorter folder", len(path), longestSocket)
	}
	return nil
}

func checkPort(hostPort string) error {
	_, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT (an IPv6 address goes in brackets)", hostPort)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port: it is a number up to 65535", port)
	}
	return nil
}

// Local reports whether only processes of this machine can get there.
func (a Address) Local() bool { return a.scheme() == "unix" }

// Bound is a with the port that l has got, where a leaves the choice to the system with port 0.
func (a Address) Bound(l net.Listener) Address {
	if a.Local() {
		return a
	}
	host, _, err := net.SplitHostPort(a.place())
	_, port, err2 := net.SplitHostPort(l.Addr().String())
	if err != nil || err2 != nil {
		return a
	}
	return Address(a.scheme() + ":" + net.JoinHostPort(host, port))
}

// scheme is what comes before the first colon, place is what comes after.
func (a Address) scheme() string {
	scheme, _, _ := strings.Cut(string(a), ":")
	return scheme
}

func (a Address) place() string {
	_, place, _ := strings.Cut(string(a), ":")
	return place
}

// network is what package net calls the scheme.
func (a Address) network() string {
	if a.Local() {
		return "unix"
	}
	return "tcp"
}
