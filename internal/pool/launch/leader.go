package launch

import (
	"os/exec"
	"sync"
	"syscall"

	"gpool/internal/pool"
	"gpool/internal/session"
)

// Leader is a process without frames that leads a session of its own, as workers do
// (see Local). Its methods may be called from any goroutine, Wait once.
type Leader struct {
	cmd  *exec.Cmd
	exit exitWatch

	mu   sync.Mutex // guards gone; held while the session is searched and the process reaped
	gone bool
}

// Lead starts cmd. Its streams must be files, or Wait waits for those who hold them.
func Lead(cmd *exec.Cmd) (*Leader, error) {
	l := &Leader{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.exit.attach(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return l, nil
}

// Pid is the id of the process, and of its session.
func (l *Leader) Pid() int { return l.cmd.Process.Pid }

// Signal returns os.ErrProcessDone if the process has ended.
func (l *Leader) Signal(s syscall.Signal) error { return l.cmd.Process.Signal(s) }

// Kill ends the process first, so that it cannot start anything more, and then its
// session.
func (l *Leader) Kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		_ = l.cmd.Process.Kill()
		session.Kill(l.Pid(), 0)
	}
}

// Wait returns when the process has ended. Unless that was with 0, what is left of its
// session has ended too, where the system can look first; elsewhere only Kill does that.
func (l *Leader) Wait() pool.Exit {
	clean := l.exit.ended(l.Pid())
	if !canLook {
		_ = l.cmd.Wait() // it takes long, and Kill must not wait for the lock
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !clean {
		// Its pid is still taken, so its session's id means its session.
		session.Kill(l.Pid(), 0)
	}
	if canLook {
		_ = l.cmd.Wait() // the state says it
	}
	l.gone = true
	return newExit(l.cmd.ProcessState)
}
