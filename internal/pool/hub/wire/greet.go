package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"gpool/internal/ipc"
)

// Version is the version of this conversation. Both sides must have the same one.
const Version = 1

const (
	greetTime      = 5 * time.Second // for all that comes before the first request
	magic          = "gpoolhub"
	greetingSize   = len(magic) + 1 + 1 + 32
	proofSize      = 32
	longestHello   = 256 // bytes
	longestProgram = 64  // bytes of the name of a program
)

// The verdicts of a hub on a proof.
const (
	refused  = 0
	accepted = 1
)

var (
	// ErrKey says that a hub knows another key than we do.
	ErrKey = errors.New("does not accept this key")
	// ErrKeyNeeded says that a hub wants a key and we gave none.
	ErrKeyNeeded = errors.New("wants a key, and none was given")
	// ErrKeyUnknown says that a hub has no key and we gave one.
	ErrKeyUnknown = errors.New("has no key, and one was given")
	// ErrUnproven says that what listens has taken our key without knowing it.
	ErrUnproven = errors.New("cannot prove that it knows the key: it may be another program in the hub's place")
	errNoHub    = errors.New("is no hub of gpool")
	errNoMember = errors.New("what it says is no greeting of a member")
)

// VersionError says that the other side is of another version of gpool.
type VersionError struct{ Theirs, Ours int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("speaks version %d of this conversation, and this gpool speaks %d: use the same gpool on both sides", e.Theirs, e.Ours)
}

// greeting is the first thing that each side says.
type greeting struct {
	version byte
	keyed   bool
	nonce   [32]byte
}

func newGreeting(key Key) *greeting {
	g := &greeting{version: Version, keyed: key != nil}
	_, _ = rand.Read(g.nonce[:]) // it never fails
	return g
}

func (g *greeting) send(w io.Writer) error {
	b := append(make([]byte, 0, greetingSize), magic...)
	b = append(b, g.version, flagByte(g.keyed))
	_, err := w.Write(append(b, g.nonce[:]...))
	return err
}

func flagByte(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// readGreeting reads a greeting, and no byte that follows. What is none is found by its first bytes.
func readGreeting(r io.Reader, none error) (*greeting, error) {
	b := make([]byte, greetingSize)
	if _, err := io.ReadFull(r, b[:len(magic)]); err != nil {
		return nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins with %q", none, b[:len(magic)])
	}
	if _, err := io.ReadFull(r, b[len(magic):]); err != nil {
		return nil, err
	}
	rest := b[len(magic):]
	g := &greeting{version: rest[0], keyed: rest[1] == 1}
	copy(g.nonce[:], rest[2:])
	switch {
	case g.version != Version:
		return g, &VersionError{Theirs: int(g.version), Ours: Version}
	case rest[1] > 1:
		return g, fmt.Errorf("%w: it is in the unknown mode %d", none, rest[1])
	}
	return g, nil
}

// greetMember is the hub's side. Before a key is proven it reads 74 bytes and no more. channel is
// what binds the proof to a connection over TLS; nil otherwise. proven is called once the member has shown that it may come.
func greetMember(c io.ReadWriter, key Key, channel []byte, proven func()) (ipc.Hello, error) {
	theirs, err := readGreeting(c, errNoMember)
	if theirs == nil {
		return ipc.Hello{}, err
	}
	ours := newGreeting(key)
	if e := ours.send(c); err == nil { // also to one of another version, which then knows why it ends
		err = e
	}
	switch {
	case err != nil:
		return ipc.Hello{}, err
	case theirs.keyed && key == nil:
		return ipc.Hello{}, errors.New("it gave a key, and this hub has none")
	case !theirs.keyed && key != nil:
		return ipc.Hello{}, errors.New("it gave no key")
	}
	if key != nil {
		if err := admitMember(c, key, theirs, ours, channel); err != nil {
			return ipc.Hello{}, err
		}
	}
	proven()
	if err := sendHello(c); err != nil {
		return ipc.Hello{}, err
	}
	return readHello(c)
}

// admitMember has a member prove its key first: whoever does not know it learns nothing from us.
func admitMember(c io.ReadWriter, key Key, theirs, ours *greeting, channel []byte) error {
	proof := make([]byte, proofSize)
	if _, err := io.ReadFull(c, proof); err != nil {
		return err
	}
	if !hmac.Equal(proof, key.proof(memberLabel, theirs, ours, channel)) {
		_, _ = c.Write([]byte{refused})
		return errors.New("it has another key")
	}
	_, err := c.Write(append([]byte{accepted}, key.proof(hubLabel, theirs, ours, channel)...))
	return err
}

// greetHub is the member's side. The error continues the sentence "the hub at X ...", except for
// those of the connection.
func greetHub(c io.ReadWriter, key Key, channel []byte) (ipc.Hello, error) {
	ours := newGreeting(key)
	if err := ours.send(c); err != nil {
		return ipc.Hello{}, err
	}
	theirs, err := readGreeting(c, errNoHub)
	switch {
	case err != nil:
		return ipc.Hello{}, err
	case theirs.keyed && key == nil:
		return ipc.Hello{}, ErrKeyNeeded
	case !theirs.keyed && key != nil:
		return ipc.Hello{}, ErrKeyUnknown
	}
	if key != nil {
		if err := proveToHub(c, key, ours, theirs, channel); err != nil {
			return ipc.Hello{}, err
		}
	}
	if err := sendHello(c); err != nil {
		return ipc.Hello{}, err
	}
	return readHello(c)
}

func proveToHub(c io.ReadWriter, key Key, ours, theirs *greeting, channel []byte) error {
	if _, err := c.Write(key.proof(memberLabel, ours, theirs, channel)); err != nil {
		return err
	}
	answer := make([]byte, 1+proofSize)
	if _, err := io.ReadFull(c, answer[:1]); err != nil {
		return err
	}
	if answer[0] != accepted {
		return ErrKey
	}
	if _, err := io.ReadFull(c, answer[1:]); err != nil {
		return err
	}
	if !hmac.Equal(answer[1:], key.proof(hubLabel, ours, theirs, channel)) {
		return ErrUnproven
	}
	return nil
}

// sendHello says who we are, for people who ask what their program waits for.
func sendHello(w io.Writer) error {
	out := ipc.NewWriter(w, ipc.Limits{})
	out.Begin()
	out.Hello(ipc.Hello{Version: Version, Build: printable(filepath.Base(os.Args[0])), Pid: os.Getpid()})
	return errors.Join(out.End(), out.Flush())
}

// readHello takes the first frame from r, and no byte of the next.
func readHello(r io.Reader) (ipc.Hello, error) {
	frame := make([]byte, 4, longestHello)
	if _, err := io.ReadFull(r, frame); err != nil {
		return ipc.Hello{}, err
	}
	n := binary.BigEndian.Uint32(frame)
	if n > longestHello-4 {
		return ipc.Hello{}, fmt.Errorf("says hello with %d bytes, %d are allowed", n, longestHello-4)
	}
	frame = frame[:4+n]
	if _, err := io.ReadFull(r, frame[4:]); err != nil {
		return ipc.Hello{}, err
	}
	var m ipc.Message
	err := ipc.Precheck(frame[4:])
	if err == nil {
		err = ipc.NewDecoder().Message(frame[4:], &m)
	}
	if err != nil {
		return ipc.Hello{}, fmt.Errorf("says no hello: %w", err)
	}
	if m.Kind != ipc.KindHello {
		return ipc.Hello{}, fmt.Errorf("says no hello, but sends a frame of kind %d", m.Kind)
	}
	m.Hello.Build = printable(m.Hello.Build)
	return m.Hello, nil
}

// printable makes a name short and harmless to a terminal.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name[:min(len(name), longestProgram)])
}
