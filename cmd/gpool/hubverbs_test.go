package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

// TestScalarsComeBack holds what a shell stores against what it reads: every byte, whatever kind it is
// kept as.
func TestScalarsComeBack(t *testing.T) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[-+]?[0-9]{1,22}(\.[0-9]{1,5})?(e[-+]?[0-9]{1,3})?`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		given := text.Draw(t, "text")
		if got := asLine(asScalar(given)); got != given {
			t.Fatalf("%q came back as %q", given, got)
		}
		if got := asLine(asText(given)); got != given {
			t.Fatalf("%q came back from text as %q", given, got)
		}
	})
}

func TestScalarKinds(t *testing.T) {
	for text, json := range map[string]string{
		"5": "5", "-3": "-3", "18446744073709551615": "18446744073709551615", "2.5": "2.5", "1.0": "1.0",
		"007": `"007"`, "+1": `"+1"`, "1e3": `"1e3"`, "": `""`, "NaN": `"NaN"`, "Inf": `"Inf"`, "-0": `"-0"`, "0x1": `"0x1"`, "true": `"true"`,
	} {
		if got := string(asJSON(asScalar(text))); got != json {
			t.Errorf("%q is kept as %s instead of %s", text, got, json)
		}
	}
	var n int
	if err := value.Decode(asScalar("12"), &n); err != nil || n != 12 {
		t.Errorf("a program in Go reads 12 as %d: %v", n, err)
	}
}

// FuzzForeignValues has values printed that another program has put.
func FuzzForeignValues(f *testing.F) {
	f.Add([]byte{0xc1})
	f.Add([]byte{0x93, 1, 2})
	f.Add(asScalar("text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = asLine(b)
		if text := dictJSON([][]byte{b, b, b, b}); !validJSON(text) {
			t.Errorf("%x is printed as %q, which is no JSON", b, text)
		}
	})
}

func validJSON(text []byte) bool {
	_, err := value.FromJSON(text)
	return err == nil
}

func TestHubExitCodes(t *testing.T) {
	fault := func(code wire.FaultCode) error { return &wire.Fault{Code: code} }
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitOK}, {errLate, exitLate}, {tooLate("x"), exitLate}, {fault(wire.FaultBusy), exitLate},
		{fault(wire.FaultMissing), exitFailed}, {fault(wire.FaultClosed), exitFailed}, {fault(wire.FaultBroken), exitFailed},
		{fault(wire.FaultGone), exitPool}, {fault(wire.FaultType), exitPool}, {fault(wire.FaultMismatch), exitPool},
		{wire.ErrGone, exitPool}, {errors.New("x"), exitPool}, {&exitError{exitUsage, nil}, exitUsage},
		{signalled{syscall.SIGINT}, 130}, {signalled{syscall.SIGTERM}, 143},
	} {
		if got := exitCode(hubError(c.err)); got != c.code {
			t.Errorf("%v has the exit code %d instead of %d", c.err, got, c.code)
		}
	}
}

func TestWhereManagersListen(t *testing.T) {
	key := wire.Key("0123456789abcdef")
	for _, c := range []struct {
		address wire.Address
		key     wire.Key
		public  bool
		why     string // of the refusal
	}{
		{"unix:/tmp/x", nil, false, ""}, {"unix:/tmp/x", key, false, ""},
		{"tcp:127.0.0.1:1", key, false, ""}, {"tcp:[::1]:1", key, false, ""}, {"tls:localhost:1", key, false, ""}, {"tcp:127.9.9.9:0", key, false, ""},
		{"tcp:127.0.0.1:1", nil, false, "a key"}, {"tls:0.0.0.0:1", nil, true, "a key"},
		{"tcp:0.0.0.0:1", key, false, "--public"}, {"tcp::1", key, false, "--public"}, {"tls:example.org:1", key, false, "--public"}, {"tcp:[::]:1", key, false, "--public"},
		{"tcp:0.0.0.0:1", key, true, ""},
	} {
		err := allowed(c.address, c.key, c.public)
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s, %d bytes of key, public %v: %v instead of %q", c.address, len(c.key), c.public, err, c.why)
		}
	}
}

// TestItemsPrintedInPart takes the reader away in the middle of some items.
func TestItemsPrintedInPart(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	q := &queueVerb{hubClient: &hubClient{io: stdio{out: w}}}
	printed, err := q.printSome([][]byte{asText("a"), asText("b")})
	if exit, ok := errors.AsType[*exitError](err); printed != 0 || !ok || exit.code != 141 {
		t.Errorf("%d items were printed, and %v", printed, err)
	}
}

// startManager serves a hub in a folder of its own, and returns its address.
func startManager(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gp") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	address := "unix:" + filepath.Join(dir, "hub")
	cmd := exec.Command("gpool", "manager", "--listen", address, "--print-address")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the manager ended with %v", err)
		}
		os.RemoveAll(dir)
	})
	if _, err := out.Read(make([]byte, 256)); err != nil { // it listens
		t.Fatal(err)
	}
	return address
}

// untilThere waits for a file that a command makes.
func untilThere(t *testing.T, path string) {
	t.Helper()
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not come", path)
}

// TestCtrlCWithALock presses Ctrl-C while a command has the lock: it is the command's to heed, and
// gpool ends as it does.
func TestCtrlCWithALock(t *testing.T) {
	hub := startManager(t)
	term := onTerminal(t, "lock", "l", "--hub", hub, "-c", `trap 'echo heeded; exit 9' INT; echo >held; while :; do sleep 0.01; done`)
	untilThere(t, filepath.Join(term.dir, "held"))
	if _, err := term.pty.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	err := term.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 9 {
		t.Errorf("gpool ended with %v", err)
	}
	<-term.done
	if !strings.Contains(term.text(), "heeded") {
		t.Errorf("the command has not heard of it: %q", term.text())
	}
	if out, err := exec.Command("gpool", "lock", "l", "--hub", hub, "--try", "true").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the lock was not released in order: %v %s", err, out)
	}
}

// TestAWholeGroupIsKilled kills gpool with its command: the one that waits gets the lock, and is told.
func TestAWholeGroupIsKilled(t *testing.T) {
	hub := startManager(t)
	d := newDay(t, "lock", "l", "--hub", hub, "-c", "echo >held; while :; do sleep 0.01; done")
	d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	untilThere(t, filepath.Join(d.dir, "held"))
	next := newDay(t, "lock", "l", "--hub", hub, "-c", "echo abandoned: $GPOOL_ABANDONED")
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-d.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait() // it was killed
	if err := next.Wait(); err != nil || next.out.String() != "abandoned: 1\n" {
		t.Errorf("the next one ended with %v and printed %q", err, &next.out)
	}
}
