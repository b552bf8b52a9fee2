package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	shortestKey = 16
	longestKey  = 4096
)

// Key is a secret that a hub and its members share. nil is none: then a hub is reached by a Unix
// socket only, and both sides ask the kernel whether the other one is of the same user.
type Key []byte

// ReadKey reads a key from a file, whose last newline does not count. It has 16 to 4096 bytes, and
// nobody but the owner of the file may be able to read it.
func ReadKey(path string) (Key, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, fmt.Errorf("read the key of a hub: %w", err)
	}
	return key, nil
}

func readKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others than its owner may use %s (%v): chmod 600 %s, and choose a new key if they may have read it", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, longestKey+2))
	if err != nil {
		return nil, err
	}
	key := Key(bytes.TrimSuffix(b, []byte("\n")))
	return key, key.check(path)
}

func (k Key) check(where string) error {
	switch {
	case len(k) < shortestKey:
		return fmt.Errorf("the key in %s has %d bytes, it must have %d at least: head -c 32 /dev/urandom | base64 makes one", where, len(k), shortestKey)
	case len(k) > longestKey:
		return fmt.Errorf("the key in %s has more than %d bytes", where, longestKey)
	}
	return nil
}

var errKeyless = errors.New("only a unix: address may do without a key: over a network anybody could come")

// Usable reports why a hub at a cannot have this key.
func (k Key) Usable(local bool) error {
	switch {
	case k == nil && local:
		return nil
	case k == nil:
		return errKeyless
	}
	return k.check("memory")
}

// The two labels keep what one side has proven from being played back as the proof of the other.
const (
	memberLabel = "gpool hub client"
	hubLabel    = "gpool hub server"
)

// proof shows knowledge of the key, for this one connection: both nonces are in it, each new,
// and what is particular to the channel.
func (k Key) proof(label string, member, hub *greeting, channel []byte) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(label))
	mac.Write([]byte{Version})
	mac.Write(member.nonce[:])
	mac.Write(hub.nonce[:])
	mac.Write(channel)
	return mac.Sum(nil)
}
