package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gpool/internal/pool/daemon/wire"
)

// background is a place for pools of a test, and the gpool that uses it.
type background struct {
	t     *testing.T
	gpool string
	dir   string // where commands run
	env   []string
}

func newBackground(t *testing.T) *background {
	t.Helper()
	if raceEnabled {
		t.Skip("under the detector a gpool takes far longer to start, and these start hundreds; the server is under it in its own package")
	}
	gpool, err := exec.LookPath("gpool") // TestMain has put it on the PATH
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := os.MkdirTemp("", "gp") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	b := &background{t: t, gpool: gpool, dir: t.TempDir()}
	b.env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime, "GPOOL_SPOOL="+filepath.Join(runtime, "spool"))
	t.Cleanup(func() {
		for _, pool := range []string{"default", "two"} {
			b.run("", "pool", "terminate", "--pool", pool)
		}
		os.RemoveAll(runtime)
	})
	return b
}

// getenv looks into the environment of the commands.
func (b *background) getenv(name string) string {
	for _, kv := range slices.Backward(b.env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

func (b *background) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.gpool, args...)
	cmd.Dir, cmd.Env = b.dir, b.env
	return cmd
}

// run runs gpool, and returns what it printed and its exit code.
func (b *background) run(stdin string, args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	cmd := b.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = time.Minute
	err := cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		b.t.Fatalf("gpool %q: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok runs gpool, which must succeed, and returns its lines.
func (b *background) ok(stdin string, args ...string) []string {
	b.t.Helper()
	out, errs, code := b.run(stdin, args...)
	if code != 0 {
		b.t.Fatalf("gpool %q ended with %d: %s%s", args, code, out, errs)
	}
	return strings.Fields(out)
}

// server is the pid of the server of the default pool.
func (b *background) server() int {
	b.t.Helper()
	var status struct{ Pid int }
	out, _, _ := b.run("", "pool", "status", "--json")
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Pid == 0 {
		b.t.Fatalf("the status is %q: %v", out, err)
	}
	return status.Pid
}

// place is where the default pool lives.
func (b *background) place() wire.Place {
	b.t.Helper()
	p, err := wire.Locate(wire.DefaultPool, b.getenv)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// TestNothingAcceptedIsLost kills the server at random moments, while calls are handed in and run.
// Afterwards each id that was printed has an end: the call ran once, or it is lost, or it ran again
// because its client allowed that. None ran twice without.
func TestNothingAcceptedIsLost(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	lost := 0
	for range rounds(t, 3) {
		lost += killedServer(t, random)
	}
	t.Logf("%d calls were lost with their server", lost)
}

func killedServer(t *testing.T, random *rand.Rand) (lost int) {
	const calls, kills = 150, 4
	b := newBackground(t)
	b.ok("", "pool", "start", "-j3")
	killer := make(chan int)
	go func() { // ends after its kills
		n := 0
		for range kills {
			time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
			out, _, _ := b.run("", "pool", "status", "--json")
			var status struct{ Pid int }
			if json.Unmarshal([]byte(out), &status) == nil && status.Pid > 0 && unix.Kill(status.Pid, unix.SIGKILL) == nil {
				n++
			}
		}
		killer <- n
	}()
	var ids []string
	for i := 0; len(ids) < calls; i++ {
		line := func(n int) string {
			return fmt.Sprintf(`{"command": "echo %d >> log; sleep 0.00%d", "retries": %d}`+"\n", n, n%10, n%2)
		}
		var input strings.Builder
		for n := range 10 {
			input.WriteString(line(len(ids) + n))
		}
		// A client whose server dies in the middle does not know what was accepted, and says so.
		out, errs, code := b.run(input.String(), "apply-async", "--jsonl")
		got := strings.Fields(out)
		if code != 0 && errs == "" {
			t.Errorf("it failed with %d and said nothing", code)
		}
		if code != 0 || len(got) != 10 {
			// Of the numbers that were used some may run without an id that we know.
			for len(got) < 10 {
				got = append(got, "")
			}
		}
		ids = append(ids, got...)
	}
	t.Logf("%d kills", <-killer)
	if _, errs, code := b.run("", "wait"); code != 0 && code != 1 {
		t.Fatalf("wait ended with %d: %s", code, errs)
	}
	ran := map[int]int{}
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ran[n]++
	}
	status := b.statuses()
	for n, id := range ids {
		switch s := status[id]; {
		case id == "":
		case s == "succeeded" && ran[n] == 1:
		case s == "succeeded" && ran[n] > 1 && n%2 == 1: // its client has said so
		case s == "lost" && ran[n] <= 1+n%2:
			lost++
		default:
			t.Errorf("call %d (%s) ran %d times, and is %q", n, id, ran[n], s)
		}
	}
	return lost
}

// statuses are how the calls of the default pool have ended, by their ids.
func (b *background) statuses() map[string]string {
	b.t.Helper()
	var told struct{ Calls []struct{ ID, Status string } }
	out, _, _ := b.run("", "pool", "status", "--calls", "--json")
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		b.t.Fatalf("the status is %q: %v", out, err)
	}
	list := map[string]string{}
	for _, c := range told.Calls {
		list[c.ID] = c.Status
	}
	return list
}

// TestManyClientsAtOnce lets two hundred clients start, and use, the default pool at the same
// instant.
func TestManyClientsAtOnce(t *testing.T) {
	const clients = 200
	b := newBackground(t)
	var group sync.WaitGroup
	ids := make([]string, clients)
	for i := range clients {
		group.Go(func() {
			out, errs, code := b.run("", "apply-async", "--", "echo", strconv.Itoa(i))
			if code != 0 {
				t.Errorf("client %d: %d, %s", i, code, errs)
			}
			ids[i] = strings.TrimSpace(out)
		})
	}
	group.Wait()
	if servers := b.servers(); servers != 1 {
		t.Errorf("there are %d servers", servers)
	}
	for i, id := range ids {
		if out, errs, code := b.run("", "get", id); out != strconv.Itoa(i)+"\n" || code != 0 {
			t.Errorf("%s: %q, %d, %s", id, out, code, errs)
		}
	}
}

// servers counts the processes that serve a pool of this test.
func (b *background) servers() (n int) {
	for _, pid := range running(b.gpool) {
		environ, _ := os.ReadFile("/proc/" + pid + "/environ")
		words, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if bytes.Contains(environ, []byte(b.getenv("XDG_RUNTIME_DIR"))) && bytes.Contains(words, []byte(serveVerb)) {
			n++
		}
	}
	return n
}

// TestGarbageOnTheSocket sends a server what no client would: it serves the others meanwhile.
func TestGarbageOnTheSocket(t *testing.T) {
	b := newBackground(t)
	b.ok("", "pool", "start", "-j1")
	random := rand.New(rand.NewPCG(1, 9))
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	hello := wireHello(t)
	for name, what := range map[string][]byte{
		"nothing": nil, "text": []byte("GET / HTTP/1.1\r\n\r\n"), "noise": noise, "a huge length": {0xff, 0xff, 0xff, 0xff},
		"half a hello": hello[:len(hello)/2], "a hello and noise": append(slices.Clone(hello), noise...),
		"a hello and half a frame": append(slices.Clone(hello), 0, 0, 1, 0, 0x94),
	} {
		conn, err := net.Dial("unix", b.place().Socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(what)
		id := b.ok("", "apply-async", "echo", name)[0]
		if out, _, _ := b.run("", "get", id); out != name+"\n" {
			t.Errorf("beside %s: %q", name, out)
		}
		conn.Close()
	}
}

// wireHello is what a client says first.
func wireHello(t *testing.T) []byte {
	t.Helper()
	dir, err := os.MkdirTemp("", "gp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	place := wire.Place{Name: "x", Socket: filepath.Join(dir, "s")}
	listener, err := net.Listen("unix", place.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		_, _ = wire.Dial(ctx, place, "x")
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := io.ReadAtLeast(conn, buf, 10)
	conn.Close()
	<-dialed
	return buf[:n]
}

// TestClientsThatAreKilled kills clients in the middle of handing in, and of fetching: what was
// accepted runs, and what was not fetched in whole is still there.
func TestClientsThatAreKilled(t *testing.T) {
	b := newBackground(t)
	id := b.ok("", "apply-async", "sh", "-c", "head -c 3000000 /dev/zero")[0]
	get := b.command("get", id)
	out, err := get.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := get.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = get.Process.Kill()
	_ = get.Wait()
	if out, errs, code := b.run("", "get", id); len(out) != 3000000 || code != 0 {
		t.Errorf("%d bytes, %d, %s", len(out), code, errs)
	}
	in := b.command("apply-async", "--jsonl")
	lines, err := in.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := in.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(lines, `{"argv": ["echo", "first"]}`)
	buf := make([]byte, 100)
	n, err := ids.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(lines, `{"argv": ["echo", "half`)
	_ = in.Process.Kill()
	_ = in.Wait()
	if out, _, code := b.run("", "get", strings.TrimSpace(string(buf[:n]))); out != "first\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
}

// TestAFullDiskOfTheSpool lets the server write no file larger than some KiB, as a full disk
// would: calls that print more fail with that reason, others go on.
func TestAFullDiskOfTheSpool(t *testing.T) {
	b := newBackground(t)
	start := exec.Command("sh", "-c", `ulimit -f 32; exec "$0" pool start -j2`, b.gpool)
	start.Dir, start.Env = b.dir, b.env
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	large := b.ok("", "apply-async", "head", "-c", "1000000", "/dev/zero")[0]
	small := b.ok("", "apply-async", "echo", "small")[0]
	if _, errs, code := b.run("", "get", large); code != 125 || !strings.Contains(errs, "GPOOL_SPOOL") {
		t.Errorf("%d: %s", code, errs)
	}
	if out, errs, code := b.run("", "get", small); out != "small\n" || code != 0 {
		t.Errorf("%q, %d, %s", out, code, errs)
	}
	// The journal is full after some more: what is handed in then is refused, and the rest is there.
	var ids []string
	for full := false; !full; {
		line := fmt.Sprintf(`{"argv": ["echo", "%d"]}`+"\n", len(ids))
		out, errs, code := b.run(line, "apply-async", "--jsonl")
		ids = append(ids, strings.Fields(out)...)
		full = code != 0
		if full && (code != exitPool || !strings.Contains(errs, "journal")) || len(ids) > 2000 {
			t.Fatalf("%d calls, %d: %s", len(ids), code, errs)
		}
	}
	if _, errs, code := b.run("", append([]string{"wait"}, ids...)...); code != 0 {
		t.Errorf("wait ended with %d: %s", code, errs)
	}
	if out, errs, code := b.run("", append([]string{"get"}, ids...)...); out != numbers(0, len(ids)-1) || code != 0 {
		t.Errorf("%d ids: %q, %d, %s", len(ids), out, code, errs)
	}
}

// TestForeignAndStaleSockets: a socket that a killed server has left is no obstacle, one that
// somebody else listens on is an error, and so is a folder of another user.
func TestForeignAndStaleSockets(t *testing.T) {
	b := newBackground(t)
	b.ok("", "pool", "start")
	if err := unix.Kill(b.server(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	id := b.ok("", "apply-async", "echo", "again")[0]
	if out, _, _ := b.run("", "get", id); out != "again\n" {
		t.Errorf("printed %q", out)
	}
	b.ok("", "pool", "terminate")
	listener, err := net.Listen("unix", b.place().Socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "hello, I am something else")
			conn.Close()
		}
	}()
	if _, errs, code := b.run("", "apply-async", "true"); code != exitPool || errs == "" {
		t.Errorf("a stranger on the socket: %d, %s", code, errs)
	}
	listener.Close()
	if os.Getuid() != 0 {
		t.Skip("the rest takes root")
	}
	if err := os.Chown(filepath.Dir(b.place().Socket), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	defer os.Chown(filepath.Join(b.getenv("XDG_RUNTIME_DIR"), "gpool"), 0, 0)
	if _, errs, code := b.run("", "apply-async", "true"); code != exitPool || !strings.Contains(errs, "12345") {
		t.Errorf("the folder of another user: %d, %s", code, errs)
	}
}

// TestAServerThatHasLostItsSocket takes its place again when the next client comes, as after a
// logout that has swept its folder away; there are never two servers on one spool.
func TestAServerThatHasLostItsSocket(t *testing.T) {
	b := newBackground(t)
	id := b.ok("", "apply-async", "-c", "until test -e go; do sleep 0.01; done; echo went")[0]
	before := b.server()
	if err := os.RemoveAll(filepath.Dir(b.place().Socket)); err != nil {
		t.Fatal(err)
	}
	if after := b.server(); after != before || b.servers() != 1 {
		t.Errorf("the server was %d and is %d, one of %d", before, after, b.servers())
	}
	if err := os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := b.run("", "get", id); out != "went\n" || code != 0 {
		t.Errorf("%q, %d, %s", out, code, errs)
	}
}

// TestTimeoutsHoldWhateverTheServerDoes: it is stopped, or killed again and again, while a client
// waits for some time.
func TestTimeoutsHoldWhateverTheServerDoes(t *testing.T) {
	b := newBackground(t)
	id := b.ok("", "apply-async", "--retries", "9", "--", "sleep", "60")[0]
	timed := func(do func(), args ...string) {
		t.Helper()
		cmd := b.command(args...)
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		do()
		_ = cmd.Wait()
		if took := time.Since(begun); cmd.ProcessState.ExitCode() != exitLate || took > 10*time.Second {
			t.Errorf("%q ended with %d after %v", args, cmd.ProcessState.ExitCode(), took)
		}
	}
	kill := func() {
		for range 2 {
			time.Sleep(300 * time.Millisecond)
			_ = unix.Kill(b.server(), unix.SIGKILL)
		}
	}
	timed(kill, "wait", "--timeout", "1.5s", id)
	timed(kill, "get", "--timeout", "1.5s", id)
	pid := b.server()
	stop := func() { time.Sleep(300 * time.Millisecond); _ = unix.Kill(pid, unix.SIGSTOP) }
	timed(stop, "wait", "--timeout", "1s", id)
	timed(func() {}, "get", "--timeout", "1s", id)
	_ = unix.Kill(pid, unix.SIGCONT)
	b.ok("", "cancel", id)
}
