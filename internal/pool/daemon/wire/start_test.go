package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// looks describes a server process.
type looks struct {
	Pid, Session int
	Dir          string
	Env          []string
	Open         []string // what its descriptors are
	Inherited    []int    // descriptors that its children would get
}

const look Method[Nothing, looks] = "looks"

// The parts have the folder of a place as their argument, or a socket.
var parts = map[string]func(){
	// server serves until it is terminated; its end is bounded, whatever happens to the test.
	"server": func() {
		time.AfterFunc(time.Minute, func() { os.Exit(9) })
		seat, err := Claim(partPlace())
		Ready(err)
		if err != nil {
			os.Exit(1)
		}
		mux := echoMux()
		Handle(mux, look, func(context.Context, *Peer, Nothing) (looks, error) { return describe(), nil })
		Handle(mux, Terminate, func(context.Context, *Peer, Nothing) (Nothing, error) { return Nothing{}, seat.Close() })
		acceptAll(seat, mux)
	},
	// client prints the pid of the server that it gets.
	"client": func() {
		_ = os.Setenv(part, "server")
		c, err := Open(context.Background(), partPlace(), testVersion, []string{os.Args[0], os.Args[1]})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		a, err := Ask(context.Background(), c, echo, "x")
		fmt.Println(c.Pid(), a, err)
		_ = c.Close()
	},
	"refuses": func() { Ready(errors.New("no luck\x00 today")); os.Exit(1) },
	"taken":   func() { Ready(fmt.Errorf("well: %w", ErrTaken)); os.Exit(1) },
	"dies":    func() { os.Exit(7) },
	"killed":  func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL); select {} },
	"babbles": func() { _, _ = os.NewFile(readyFD, "").WriteString("what?\x00") },
	// leaves ends without a word, and leaves a process that holds the pipe open.
	"leaves": func() {
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = []*os.File{os.NewFile(readyFD, "")}
		_ = cmd.Start()
		_ = os.WriteFile(os.Args[1]+"/child", []byte(fmt.Sprint(cmd.Process.Pid)), 0o600)
		os.Exit(3)
	},
	// listens accepts one client on a socket and prints what that says.
	"listens": func() {
		l, err := net.Listen("unix", os.Args[1])
		fmt.Println("listens", err)
		conn, _ := l.Accept()
		b, _ := io.ReadAll(conn)
		fmt.Printf("said %s\n", b)
	},
	// visits prints how many bytes of a hello it gets, and the error.
	"visits": func() {
		conn, err := net.Dial("unix", os.Args[1])
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 4))
			fmt.Print(map[bool]int{true: 4}[err == nil], " ")
		}
		fmt.Println(err)
	},
}

func partPlace() Place {
	p, err := Locate("test", environment(map[string]string{"XDG_RUNTIME_DIR": os.Args[1], "GPOOL_SPOOL": os.Args[1]}))
	if err != nil {
		panic(err)
	}
	return p
}

func describe() looks {
	l := looks{Pid: os.Getpid(), Env: os.Environ()}
	l.Session, _ = unix.Getsid(0)
	l.Dir, _ = os.Getwd()
	list := openDescriptors()
	slices.Sort(list)
	for _, fd := range list {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			l.Open = append(l.Open, path)
			if flags&unix.FD_CLOEXEC == 0 {
				l.Inherited = append(l.Inherited, fd)
			}
		}
	}
	return l
}

// command is the test binary in a part, as another user if uid is not 0.
func command(t *testing.T, name string, uid uint32, arg string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if uid == 0 {
		cmd := exec.Command(self, arg)
		cmd.Env = append(os.Environ(), part+"="+name)
		return cmd
	}
	// Another user may not be able to reach the binary.
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := fmt.Sprintf("/tmp/wire-part-%d", os.Getpid())
	if err := os.WriteFile(copied, b, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(copied) })
	cmd := exec.Command(copied, arg)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), part+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

func runPart(t *testing.T, name string, uid uint32, arg string) string {
	t.Helper()
	out, err := command(t, name, uid, arg).Output()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// playForeign has another user listen on the socket. end waits for its process; said is what it
// has heard.
func playForeign(t *testing.T, p Place) (end func(), said <-chan string) {
	t.Helper()
	dir := p.Socket[:strings.LastIndexByte(p.Socket, '/')]
	for _, path := range []string{dir, dir[:strings.LastIndexByte(dir, '/')]} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := command(t, "listens", 12345, p.Socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, _ := lines.ReadString('\n'); line != "listens <nil>\n" {
		t.Errorf("it says %q", line)
	}
	heard := make(chan string, 1)
	go func() {
		line, _ := lines.ReadString('\n')
		heard <- strings.TrimSpace(strings.TrimPrefix(line, "said "))
	}()
	return func() { _ = cmd.Wait() }, heard
}

// newServer prepares a place whose server is this binary in a part.
func newServer(t *testing.T, name string) (p Place, dir string, argv []string) {
	t.Helper()
	p = newPlace(t)
	dir = p.Socket[:strings.Index(p.Socket, "/gpool/")]
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(part, name)
	return p, dir, []string{self, dir}
}

func openTest(t *testing.T, p Place, argv []string) *Client {
	t.Helper()
	c, err := Open(t.Context(), p, testVersion, argv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// terminate ends the server, and waits until its process has been reaped.
func terminate(t *testing.T, c *Client) {
	t.Helper()
	if _, err := Ask(t.Context(), c, Terminate, Nothing{}); err != nil {
		t.Error(err)
	}
	<-c.Done()
	_ = c.Close()
	reaped(t, c.Pid())
}

func reaped(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the server's process is gone", func() bool { return unix.Kill(pid, 0) != nil })
}

func TestServerProcess(t *testing.T) {
	p, dir, argv := newServer(t, "server")
	for _, name := range notForServer {
		t.Setenv(name, "7")
	}
	t.Setenv("GPOOL_SPOOL", "kept")
	held, err := unix.Open(dir+"/held", unix.O_CREAT|unix.O_RDWR, 0o600) // as a shell leaves it to its children
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	c := openTest(t, p, argv)
	l, err := Ask(t.Context(), c, look, Nothing{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Pid != c.Pid() || l.Pid == os.Getpid() || l.Session != l.Pid || l.Dir != "/" {
		t.Errorf("it is %d in the session %d and in %s", l.Pid, l.Session, l.Dir)
	}
	if slices.ContainsFunc(l.Open, func(path string) bool { return strings.HasSuffix(path, "/held") }) {
		t.Errorf("it holds our descriptor open: %q", l.Open)
	}
	if fmt.Sprint(l.Inherited) != "[0 1 2]" {
		t.Errorf("its children get %v of %q", l.Inherited, l.Open)
	}
	if runtime.GOOS == "linux" && fmt.Sprint(l.Open[:3]) != "[/dev/null /dev/null /dev/null]" {
		t.Errorf("its streams are %q", l.Open)
	}
	for _, kv := range l.Env {
		if name, value, _ := strings.Cut(kv, "="); value == "7" || name == readyVar {
			t.Errorf("its environment has %s", kv)
		}
	}
	if !slices.Contains(l.Env, "GPOOL_SPOOL=kept") {
		t.Errorf("its environment is %q", l.Env)
	}
	if flags, err := unix.FcntlInt(uintptr(held), unix.F_GETFD, 0); err != nil || flags != 0 {
		t.Errorf("our own descriptor was changed: %d, %v", flags, err)
	}
	terminate(t, c)
}

func TestOpenFindsTheServerThatIsThere(t *testing.T) {
	p, _, argv := newServer(t, "server")
	a := openTest(t, p, argv)
	b := openTest(t, p, []string{"/nonexistent"})
	if a.Pid() != b.Pid() {
		t.Errorf("two servers: %d, %d", a.Pid(), b.Pid())
	}
	_ = b.Close()
	if err := Start(p, argv); err != nil {
		t.Errorf("start another one: %v", err)
	}
	terminate(t, a)
	c := openTest(t, p, argv)
	if c.Pid() == a.Pid() {
		t.Error("it has the pid of a server that has ended")
	}
	terminate(t, c)
}

func TestOpenAfterKill(t *testing.T) {
	p, _, argv := newServer(t, "server")
	c := openTest(t, p, argv)
	if err := unix.Kill(c.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	_ = c.Close()
	d := openTest(t, p, argv)
	if d.Pid() == c.Pid() {
		t.Error("a killed server answers")
	}
	reaped(t, c.Pid())
	terminate(t, d)
}

// TestManyClientsGetOneServer: all of them find none, and start one.
func TestManyClientsGetOneServer(t *testing.T) {
	p, dir, argv := newServer(t, "server")
	var all sync.WaitGroup
	said := make([]string, 24)
	for i := range said {
		all.Go(func() { said[i] = runPart(t, "client", 0, dir) })
	}
	all.Wait()
	c := openTest(t, p, argv)
	for _, s := range said {
		if want := fmt.Sprintf("%d x <nil>", c.Pid()); s != want {
			t.Errorf("a client says %q, another %q", s, want)
		}
	}
	if _, err := Ask(t.Context(), c, Terminate, Nothing{}); err != nil {
		t.Error(err)
	}
	_ = c.Close()
}

func TestServersThatDoNotBegin(t *testing.T) {
	for name, want := range map[string]string{
		"refuses": "no luck? today", "dies": "exit status 7", "killed": "signal: killed", "babbles": `says "what?"`, "taken": "",
	} {
		p, _, argv := newServer(t, name)
		err := Start(p, argv)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPlace(t)
	if _, err := Open(t.Context(), p, testVersion, []string{"/nonexistent/gpool"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestPipeThatAnotherHolds(t *testing.T) {
	p, dir, argv := newServer(t, "leaves")
	if err := Start(p, argv); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the error is %v", err)
	}
	b, err := os.ReadFile(dir + "/child")
	if err != nil {
		t.Fatal(err)
	}
	var child int
	_, _ = fmt.Sscan(string(b), &child)
	_ = unix.Kill(child, unix.SIGKILL)
}

func TestOpenIsGivenUp(t *testing.T) {
	p, _, argv := newServer(t, "taken") // for ever
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Open(ctx, p, testVersion, argv); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	p := newPlace(t)
	seat, err := Claim(p)
	if err != nil {
		t.Fatal(err)
	}
	defer seat.Close()
	if err := unreachable(p); !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("the error is %v", err)
	}
}

func TestReadyWithoutStart(t *testing.T) {
	t.Setenv(readyVar, "") // nobody waits, and descriptor 3 may be anything
	before := descriptors()
	Ready(nil)
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}
