package admit

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Keeper holds the tokens of the jobserver at address for the process at the other ends of
// orders and reports, until orders ends. Then it writes all of them back. It is the whole of a
// process in a session of its own, whose exit code it returns: no signal that is meant for
// a run reaches it, and it ignores those that are. What it cannot do is said in reports.
func Keeper(address string, orders, reports *os.File) int {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTOU, unix.SIGTTIN)
	tokens, err := openTokens(address)
	if err == nil {
		k := &keeper{tokens: tokens, orders: int(orders.Fd()), reports: int(reports.Fd())}
		err = errors.Join(k.run(), k.finish())
	}
	if err != nil {
		_, _ = fmt.Fprintf(reports, "%c%v", reportLost, err)
		return 1
	}
	return 0
}

// holder is the keeper's books. It wants target tokens and holds some; what comes when none is
// wanted any more goes back at once.
type holder struct {
	target int
	held   []byte
}

func (h *holder) short() bool { return len(h.held) < h.target }

// ordered carries an order out. back says that token is to be written back, report what to report
// after that, 0 for nothing.
func (h *holder) ordered(order byte) (report, token byte, back bool, err error) {
	switch {
	case order == orderMore && h.target < tooMany:
		h.target++
		return 0, 0, false, nil
	case order != orderFewer || h.target == 0:
		return 0, 0, false, fmt.Errorf("a keeper of tokens was told %q out of turn", order)
	}
	h.target--
	if last := len(h.held) - 1; last >= h.target {
		token, h.held = h.held[last], h.held[:last]
		return reportReturned, token, true, nil
	}
	return reportDropped, 0, false, nil
}

// keeper moves the tokens. One goroutine.
type keeper struct {
	holder
	tokens          *tokens
	orders, reports int
}

// run works until the orders end.
func (k *keeper) run() error {
	for {
		ordered, offered, err := k.poll()
		if err == nil && ordered {
			if more, err := k.obey(); err != nil || !more {
				return err
			}
		} else if err == nil && offered {
			err = k.take()
		}
		if err != nil {
			return err
		}
	}
}

// poll waits for orders, and for a token if one is wanted. Orders go first: they may be that no
// token is wanted any more.
func (k *keeper) poll() (ordered, offered bool, err error) {
	fds := []unix.PollFd{{Fd: int32(k.orders), Events: unix.POLLIN}, {Fd: int32(k.tokens.poll(k.short())), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return false, false, os.NewSyscallError("poll", err)
		}
	}
	return fds[0].Revents != 0, fds[1].Revents != 0, nil
}

// obey reads orders and carries them out; false at their end.
func (k *keeper) obey() (more bool, err error) {
	var buf [64]byte
	n, err := retried(func() (int, error) { return unix.Read(k.orders, buf[:]) })
	if err != nil || n == 0 {
		return false, err
	}
	for _, order := range buf[:n] {
		report, token, back, err := k.ordered(order)
		if err != nil {
			return false, err
		}
		if back {
			if err := k.tokens.giveBack(token); err != nil {
				return false, err
			}
		}
		if report != 0 && k.report(report) != nil {
			return false, nil // nobody is there any more
		}
	}
	return true, nil
}

// take reads a token, if nobody was faster.
func (k *keeper) take() error {
	token, ok, err := k.tokens.take()
	if err != nil || !ok {
		return err
	}
	if !k.short() {
		return k.tokens.giveBack(token)
	}
	k.held = append(k.held, token)
	_ = k.report(reportGot) // if nobody is there, orders end as well
	return nil
}

func (k *keeper) report(report byte) error {
	_, err := retried(func() (int, error) { return unix.Write(k.reports, []byte{report}) })
	return err
}

// finish writes everything back.
func (k *keeper) finish() (err error) {
	k.held = append(k.held, k.tokens.close()...)
	for _, token := range k.held {
		err = errors.Join(err, k.tokens.giveBack(token))
	}
	k.held = nil
	return err
}

// retried does what a signal interrupts again.
func retried(do func() (int, error)) (int, error) {
	for {
		n, err := do()
		if err != unix.EINTR {
			return n, err
		}
	}
}
