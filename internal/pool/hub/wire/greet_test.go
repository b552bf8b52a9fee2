package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
)

// talk has both sides greet over a pair of sockets.
func talk(t *testing.T, hubKey, memberKey Key, hubChannel, memberChannel []byte) (hub, member error) {
	t.Helper()
	a, b := socketPair(t)
	done := make(chan error)
	go func() {
		_, err := greetMember(a, hubKey, hubChannel, func() {})
		a.Close()
		done <- err
	}()
	_, member = greetHub(b, memberKey, memberChannel)
	b.Close()
	return <-done, member
}

func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return ends[0], ends[1]
}

func TestGreetings(t *testing.T) {
	other := Key("another key of some length")
	for _, c := range []struct {
		name                  string
		hub, member           Key
		hubChannel, memberOne []byte
		want                  error
	}{
		{name: "no key"},
		{name: "the right key", hub: testKey, member: testKey},
		{name: "the right key and channel", hub: testKey, member: testKey, hubChannel: []byte("c"), memberOne: []byte("c")},
		{name: "the wrong key", hub: testKey, member: other, want: ErrKey},
		{name: "somebody between", hub: testKey, member: testKey, hubChannel: []byte("c"), memberOne: []byte("d"), want: ErrKey},
		{name: "no key where one is needed", hub: testKey, want: ErrKeyNeeded},
		{name: "a key where none is known", member: testKey, want: ErrKeyUnknown},
	} {
		hub, member := talk(t, c.hub, c.member, c.hubChannel, c.memberOne)
		if !errors.Is(member, c.want) || (hub == nil) != (c.want == nil) {
			t.Errorf("%s: the hub says %v, the member %v", c.name, hub, member)
		}
	}
}

// script is a peer that says the same whatever it hears.
type script struct {
	io.Reader
	said bytes.Buffer
	read int
}

func (s *script) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.read += n
	return n, err
}
func (s *script) Write(b []byte) (int, error) { return s.said.Write(b) }

func says8(version, mode byte) []byte {
	return append(append([]byte(magic), version, mode), make([]byte, 32)...)
}

// record keeps what a member says in a greeting that goes well.
type record struct {
	net.Conn
	sent []byte
}

func (r *record) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return r.Conn.Write(b)
}

func TestStrangersAreRefused(t *testing.T) {
	a, _ := start(t, &Server{Key: testKey}, socket(t))
	old := &record{Conn: dialRaw(t, a)}
	if _, err := greetHub(old, testKey, nil); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "garbage": bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100), "half a greeting": says8(Version, 1)[:20],
		"another version": says8(Version+1, 1), "another mode": says8(Version, 2), "no proof": says8(Version, 1),
		"what an earlier member said": old.sent, "a wrong proof": append(says8(Version, 1), make([]byte, 400)...),
	} {
		s := &script{Reader: bytes.NewReader(b)}
		_, err := greetMember(s, testKey, nil, func() {})
		if err == nil || s.read > 256 || s.said.Len() > greetingSize+1 {
			t.Errorf("%s: %v after %d bytes, and it said %d", name, err, s.read, s.said.Len())
		}
	}
}

// mirror is a hub that says what the member has said.
type mirror struct{ bytes.Buffer }

func TestImpostors(t *testing.T) {
	hello := new(bytes.Buffer)
	_ = sendHello(hello)
	bogus := append(append(says8(Version, 1), accepted), make([]byte, 32)...)
	for name, c := range map[string]struct {
		says []byte
		want error
	}{
		"garbage":           {[]byte("SSH-2.0-OpenSSH_9.2p1"), errNoHub},
		"a bogus proof":     {append(bogus, hello.Bytes()...), ErrUnproven},
		"a refusal":         {append(says8(Version, 1), refused), ErrKey},
		"half a proof":      {bogus[:60], io.ErrUnexpectedEOF},
		"no key any more":   {says8(Version, 0), ErrKeyUnknown},
		"an unknown answer": {append(says8(Version, 1), 77), ErrKey},
	} {
		if _, err := greetHub(&script{Reader: bytes.NewReader(c.says)}, testKey, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var version *VersionError
	if _, err := greetHub(&script{Reader: bytes.NewReader(says8(9, 1))}, testKey, nil); !errors.As(err, &version) || version.Theirs != 9 {
		t.Errorf("another version: %v", err)
	}
	if _, err := greetHub(new(mirror), testKey, nil); err == nil {
		t.Error("a mirror is taken for a hub")
	}
}

func TestHellosAreShort(t *testing.T) {
	long := binary.BigEndian.AppendUint32(nil, 5000)
	if _, err := readHello(bytes.NewReader(long)); err == nil {
		t.Error("a hello of 5000 bytes")
	}
	if got := printable("a\x1b[31m\xff" + strings.Repeat("é", 100)); len(got) > longestProgram || strings.ContainsAny(got, "\x1b\xff") {
		t.Errorf("%q", got)
	}
}

func TestErrorsOfDial(t *testing.T) {
	a, _ := start(t, &Server{Key: testKey}, socket(t))
	b, _ := start(t, &Server{}, socket(t))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct {
		at   Address
		key  Key
		want string
	}{
		{a, Key("another key of some length"), "the hub at " + string(a) + " does not accept this key"},
		{a, nil, "the hub at " + string(a) + " wants a key"},
		{b, testKey, "the hub at " + string(b) + " has no key"},
		{a, Key("short"), "5 bytes"},
		{"tcp:127.0.0.1:1", nil, "without a key"},
		{"tls:127.0.0.1:1", nil, "without a key"},
		{"tcp:127.0.0.1:1", testKey, "nobody listens"},
		{socket(t), nil, "nobody listens"},
		{"nonsense", nil, "no scheme"},
	} {
		if l, err := Dial(t.Context(), c.at, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.at, l, err)
		}
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
	if _, err := Dial(ctx, Address("tcp:"+silent.Addr().String()), testKey); err != why {
		t.Errorf("given up: %v", err)
	}
	l, err := Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Server{Hub: &fakeHub{}}).Serve(l); err == nil || !strings.Contains(err.Error(), "without a key") {
		t.Errorf("a server without a key: %v", err)
	}
}

// TestSilence: whoever has begun to greet and stops is closed after a while, others at once.
func TestSilence(t *testing.T) {
	logged := make(chan string, 10)
	s := &Server{Key: testKey, Log: func(s string) { logged <- s }, limits: serverLimits{greet: 50 * time.Millisecond}}
	a, _ := start(t, s, "tcp:127.0.0.1:0")
	c := dialRaw(t, a)
	_, _ = c.Write(says8(Version, 1)[:20])
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("it says %q, %v", b, err)
	}
	if line := <-logged; !strings.Contains(line, "refused") {
		t.Error(line)
	}
	c = dialRaw(t, a)
	go func() { _, _ = io.Copy(c, endless{}) }()
	_, _ = io.ReadAll(c)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestOversizeFrames(t *testing.T) {
	a, hub := start(t, &Server{}, socket(t))
	for name, b := range map[string][]byte{
		"oversize": {0xff, 0xff, 0xff, 0xff}, "garbage": {0, 0, 0, 2, 0xc1, 0xc1}, "a run": {0, 0, 0, 3, 0x92, 3, 0},
	} {
		before := hub.leavers()
		c := dialRaw(t, a)
		if _, err := greetHub(c, nil, nil); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(b)
		_, _ = io.ReadAll(c)
		eventually(t, name+" has ended the connection", func() bool { return hub.leavers() == before+1 })
	}
}

func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"0123456789abcdef\n", 0o600, ""},
		{"0123456789abcde\n", 0o600, "15 bytes"},
		{strings.Repeat("x", longestKey) + "\n", 0o400, ""},
		{strings.Repeat("x", longestKey+1), 0o600, "more than 4096"},
		{"0123456789abcdef\n", 0o640, "chmod 600"},
		{"0123456789abcdef\n", 0o604, "chmod 600"},
	} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(path, c.mode)
		key, err := ReadKey(path)
		if c.want == "" && (err != nil || string(key) != strings.TrimSuffix(c.text, "\n")) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.20q: %v", c.text, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	long := "unix:/" + strings.Repeat("x", 110)
	for text, want := range map[string]string{
		"unix:/tmp/x": "", "unix:x": "", "tcp:localhost:1": "", "tls:[::1]:65535": "", "tcp::80": "",
		"": "no scheme", "x": "no scheme", "http://x:1": "none of unix", "unix:": "no path", "unix:@": "no path",
		long: "bytes", "tcp:host": "HOST:PORT", "tcp:host:": "no port", "tcp:host:99999": "no port", "tcp:::1:5": "HOST:PORT", "unix:a\x00b": "NUL",
	} {
		a, err := ParseAddress(text)
		if want == "" && (err != nil || string(a) != text) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %q, %v", text, a, err)
		}
	}
	if _, err := ParseAddress("unix:@x"); (err == nil) != abstractNames {
		t.Errorf("an abstract name: %v", err)
	}
}

func TestListen(t *testing.T) {
	a := socket(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.place(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(a.place()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Listen(a); err == nil || !strings.Contains(err.Error(), "lives there") {
		t.Errorf("a second one: %v", err)
	}
	l.Close()
	fresh := Address("unix:" + filepath.Join(t.TempDir(), freshFolder+"1", "hub"))
	if err := os.Mkdir(filepath.Dir(fresh.place()), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := Listen(fresh)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Lstat(filepath.Dir(fresh.place())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a fresh address: %v", err)
	}
	if err := os.WriteFile(a.place(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(a); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("a file: %v", err)
	}
}

// FuzzGreeting: no bytes are taken for a proof, and few are read before one.
func FuzzGreeting(f *testing.F) {
	f.Add(append(says8(Version, 1), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &script{Reader: bytes.NewReader(b)}
		if _, err := greetMember(s, testKey, nil, func() {}); err == nil || s.read > 256 {
			t.Errorf("%v after %d bytes", err, s.read)
		}
	})
}

// nobody is a connection to nobody: what is read is given.
type nobody struct {
	net.Conn
	in *bytes.Reader
}

func (n nobody) Read(b []byte) (int, error)       { return n.in.Read(b) }
func (n nobody) Write(b []byte) (int, error)      { return len(b), nil }
func (n nobody) Close() error                     { return nil }
func (n nobody) SetWriteDeadline(time.Time) error { return nil }

func framesOf(encode func(w *ipc.Writer)) []byte {
	var b bytes.Buffer
	w := ipc.NewWriter(&b, frames)
	w.Begin()
	encode(w)
	_ = w.End()
	_ = w.Flush()
	return b.Bytes()
}

func FuzzServerFrames(f *testing.F) {
	f.Add(framesOf(func(w *ipc.Writer) {
		w.Question(ipc.Question{ID: 1, Method: string(LockAcquire), Payload: encoded(&Request{Object: "x", Wait: true}, requestFields)})
	}))
	f.Add(framesOf(func(w *ipc.Writer) { w.Numbers(ipc.KindBye, ipc.Numbers{}) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		hub := &fakeHub{}
		s := &Server{Hub: hub}
		c := nobody{in: bytes.NewReader(b)}
		if err := s.attend(&conn{Conn: c, under: c}, Peer{}, s.limits.withDefaults()); err == nil || hub.left != 1 {
			t.Errorf("%v, %d have left", err, hub.left)
		}
	})
}

func FuzzLinkFrames(f *testing.F) {
	f.Add(framesOf(func(w *ipc.Writer) { w.Answer(ipc.Answer{ID: 1, Payload: encoded(&Reply{N: 3}, replyFields)}) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := nobody{in: bytes.NewReader(b)}
		l := newLink("unix:/x", &conn{Conn: c, under: c}, Peer{})
		_, _ = l.Call(context.Background(), &Request{Op: EventWait})
		l.Close()
	})
}
