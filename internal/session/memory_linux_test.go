package session

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// heavy starts a session whose grandchild holds some megabytes, and returns its leader.
func heavy(t testing.TB, megabytes int) int {
	t.Helper()
	// The shells in between wait for a word, so that nothing is optimised away.
	script := fmt.Sprintf(`(sh -c 'x=$(head -c %d /dev/zero | tr "\0" x); echo held; read -r word; : "$x"' <&3; read -r word) 3<&0 & read -r word`, megabytes<<20)
	leader := exec.Command("sh", "-c", script)
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := leader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := leader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Kill(leader.Process.Pid, 0)
		_ = in.Close()
		_ = leader.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the grandchild says %q, %v", line, err)
	}
	return leader.Process.Pid
}

func TestMemoryCountsGrandchildren(t *testing.T) {
	leader := heavy(t, 40)
	s := stats{pageSize: int64(os.Getpagesize())}
	if _, own, ok := s.read(leader); !ok || own > 20<<20 {
		t.Errorf("the leader alone has %d bytes", own)
	}
	got := map[string]int64{"Memory": Memory(leader), "session": s.ofSession(leader)}
	if childLists() {
		got["tree"] = s.ofTree(leader)
	}
	for way, bytes := range got {
		if bytes < 40<<20 || bytes > 400<<20 {
			t.Errorf("%s: the session holds %d bytes, want a little more than 40 MiB", way, bytes)
		}
	}
}

func TestMemoryOfNobody(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{0, -1, gone.Process.Pid} {
		if n := Memory(pid); n != 0 {
			t.Errorf("process %d holds %d bytes, and there is none", pid, n)
		}
	}
}

func TestParseStat(t *testing.T) {
	rest := " S 1 2 77 0 -1 4194304 101 0 1 0 0 0 0 0 20 0 1 0 1168323 3133440 380 18446744073709551615"
	for line, ok := range map[string]bool{
		"5 (sh)" + rest:             true,
		"5 (a) b) (c\n 9 9)" + rest: true,
		"5 (sh) S 1 2 77":           false,
		"":                          false,
		"5 sh":                      false,
	} {
		session, resident, got := parseStat([]byte(line), 4096)
		if got != ok || ok && (session != 77 || resident != 380*4096) {
			t.Errorf("%q is %d, %d, %v", line, session, resident, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("5 (sh) S 1 2 77 0 -1 4194304 101 0 1 0 0 0 0 0 20 0 1 0 1168323 3133440 380 1844"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, resident, ok := parseStat(line, 4096); ok && resident < 0 {
			t.Errorf("%q is %d bytes", line, resident)
		}
	})
}

func BenchmarkMemory(b *testing.B) {
	leader := heavy(b, 1)
	for b.Loop() {
		if Memory(leader) == 0 {
			b.Fatal("nothing")
		}
	}
	b.ReportMetric(float64(len(processes())), "processes")
}
