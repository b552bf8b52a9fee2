package session

import (
	"bufio"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
)

// TestKillFindsAWholeSession: the leader, its children, and those of other process
// groups; not the one that it is told to spare, and nobody else.
func TestKillFindsAWholeSession(t *testing.T) {
	// It waits for a word, and not for its children: it must live on when they are killed.
	leader := exec.Command("sh", "-c", `set -m; sleep 1000 & sleep 1000 & echo $! $$; read -r word`)
	in, err := leader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := leader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	var child, sid int
	if _, err := fmt.Fscan(bufio.NewReader(out), &child, &sid); err != nil || sid != leader.Process.Pid {
		t.Fatalf("the session %d of the leader %d: %v", sid, leader.Process.Pid, err)
	}
	if n := Kill(sid, leader.Process.Pid); n != 2 {
		t.Errorf("%d processes were killed beside the leader, want 2", n)
	}
	if err := syscall.Kill(leader.Process.Pid, 0); err != nil {
		t.Errorf("the leader was to be spared: %v", err)
	}
	if n := Kill(sid, 0); n < 1 {
		t.Errorf("%d processes were killed with the leader", n)
	}
	_ = leader.Wait()
	if ws := leader.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("the leader ended with %v", ws)
	}
	if _, ok := Own(); ok {
		t.Error("a test leads no session")
	}
}
