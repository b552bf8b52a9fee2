package admit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// client is the loop's end of the jobserver: the books, and a keeper that holds the tokens. It
// implements Lender. The lock of Admission guards it.
type client struct {
	books
	orders  *os.File // to the keeper, which ends when this does
	reports *os.File
	process *os.Process
	done    chan struct{} // closed when the keeper has ended
}

func (a *Admission) openTokens(o Options) error {
	if o.Jobserver == nil {
		return nil
	}
	if err := o.Jobserver.Check(); err != nil {
		return err
	}
	c, err := startKeeper(o.Keeper, o.Jobserver)
	if err != nil {
		return fmt.Errorf("start the keeper of make's tokens: %w", err)
	}
	a.lender = c
	go a.listen(c)
	return nil
}

// startKeeper starts the process that runs Keeper, and does not wait until it is ready: the
// first call needs no token.
func startKeeper(command []string, auth *Auth) (c *client, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	ordersR, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ordersR.Close()
	reports, reportsW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close())
	}
	defer reportsW.Close()
	process, err := spawn(path, command, auth, ordersR.Fd(), reportsW.Fd(), null.Fd())
	if err != nil {
		return nil, errors.Join(err, orders.Close(), reports.Close())
	}
	return &client{orders: orders, reports: reports, process: process, done: make(chan struct{})}, nil
}

// spawn gives the keeper the jobserver's descriptors as 3 and 4. It does without os.File for
// these: that would make the pipe a blocking one, also for make, whose pipe it is.
func spawn(path string, command []string, auth *Auth, std ...uintptr) (*os.Process, error) {
	address := auth.String()
	if auth.Path == "" {
		address = (&Auth{Read: len(std), Write: len(std) + 1}).String()
		std = append(std, uintptr(auth.Read), uintptr(auth.Write))
	}
	args := append(append([]string{}, command...), address)
	pid, _, err := syscall.StartProcess(path, args, &syscall.ProcAttr{
		Env: os.Environ(), Files: std, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, os.NewSyscallError("start "+path, err)
	}
	return os.FindProcess(pid)
}

// Attach has nothing to do: listen wakes whom Admission knows.
func (c *client) Attach(func()) {}

// Take reports whether one more call may begin, and orders a token if there is none for it.
func (c *client) Take(running int) bool {
	if c.enough(running) {
		return true
	}
	if c.wants(running) {
		c.order(orderMore, 1)
	}
	return false
}

// Settle gives back what so many running calls do not need.
func (c *client) Settle(running int) { c.order(orderFewer, c.surplus(running)) }

// order writes to the keeper. It does not wait: few bytes are ever under way. A keeper that is
// gone is noticed by listen.
func (c *client) order(order byte, n int) {
	if n > 0 {
		_, _ = c.orders.WriteString(strings.Repeat(string(rune(order)), n))
	}
}

// Release tells the keeper to give everything back, which is what the end of its orders means.
func (c *client) Release() { _ = c.orders.Close() }

// Wait waits for the end of the keeper, unless somebody has stopped it.
func (c *client) Wait() {
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	select {
	case <-c.done:
	case <-patience.C:
	}
}

// listen books the keeper's reports and waits for its end.
func (a *Admission) listen(c *client) {
	defer close(c.done)
	why := a.book(c)
	_ = c.reports.Close()
	a.mu.Lock()
	c.gone = true
	closed := a.closed
	if !closed {
		_ = c.orders.Close() // if it lives: it lost its senses, and has to give everything back
	}
	a.mu.Unlock()
	state, err := c.process.Wait()
	if closed {
		return
	}
	if why == nil && err == nil {
		why = errors.New(state.String())
	}
	a.tell(fmt.Sprintf("the keeper of make's tokens has ended (%v); calls run one at a time now", why))
	a.wake()
}

// book reads reports until their end and returns what the keeper says of it, nil if nothing.
func (a *Admission) book(c *client) error {
	buf := make([]byte, 512)
	for {
		n, err := c.reports.Read(buf)
		for i, report := range buf[:n] {
			if report == reportLost {
				rest, _ := io.ReadAll(io.LimitReader(c.reports, 1<<10))
				return fmt.Errorf("%s%s", buf[i+1:n], rest)
			}
			a.mu.Lock()
			wake, err := c.reported(report)
			wake = wake && !a.closed
			a.mu.Unlock()
			if err != nil {
				return err
			}
			if wake {
				a.wake()
			}
		}
		if err != nil {
			return nil
		}
	}
}
