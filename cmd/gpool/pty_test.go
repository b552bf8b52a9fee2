package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a day whose gpool has a terminal of its own.
type terminal struct {
	*day
	pty  *os.File
	mu   sync.Mutex
	seen bytes.Buffer
	done chan struct{}
}

func onTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	d := newDay(t, args...)
	d.Stdout, d.Stderr = nil, nil // the terminal
	d.Env = append(d.Env, "TERM=xterm", "LC_ALL=C")
	f, err := pty.StartWithSize(d.Cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{day: d, pty: f, done: make(chan struct{})}
	go func() { // ends when the last process has closed the terminal
		defer close(term.done)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { f.Close() })
	return term
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.String()
}

// screen is what a person sees at the end: the lines, with what was erased left out.
func (t *terminal) screen() []string {
	<-t.done
	rows := []string{""}
	text := regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllStringFunc(t.text(), func(esc string) string {
		if esc == "\x1b[J" || esc == "\x1b[0J" {
			return "\x00" // erase from the cursor on
		}
		return ""
	})
	column := 0
	for _, c := range text {
		row := &rows[len(rows)-1]
		switch c {
		case '\r':
			column = 0
		case '\n':
			rows = append(rows, "")
			column = 0
		case 0:
			*row = (*row)[:min(column, len(*row))]
		default:
			for len(*row) < column {
				*row += " "
			}
			*row = (*row)[:column] + string(c) + (*row)[min(column+1, len(*row)):]
			column++
		}
	}
	return rows
}

func TestCtrlCOnceDrains(t *testing.T) {
	term := onTerminal(t, "map", "-j2", "-c", `touch up.{}; while [ ! -e go ]; do sleep 0.02; done; echo done {}`, ":::", "1", "2", "3", "4")
	term.until("2 commands", func() bool { return term.files("up.*") == 2 })
	term.until("the bar", func() bool { return strings.Contains(term.text(), "(0/4)") })
	term.press('\x03')
	term.until("the answer", func() bool { return strings.Contains(term.text(), "no more calls are begun") })
	if err := os.WriteFile(filepath.Join(term.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	term.exitOnTerminal(130)
	rows := term.screen()
	want := []string{"done 1", "done 2", "gpool: 4 calls: 2 not run; ...", ""}
	if got := rows[len(rows)-4:]; !matches(want, got, nil) {
		t.Errorf("the terminal shows %q", rows)
	}
	term.nothingLeft(200 * time.Millisecond)
}

func TestCtrlCTwiceKills(t *testing.T) {
	term := onTerminal(t, "imap", "-j2", "-c", busy, ":::", "1", "2", "3", "4")
	term.until("2 commands", func() bool { return term.files("up.*") == 2 })
	term.press('\x03')
	term.until("the answer", func() bool { return strings.Contains(term.text(), "no more calls are begun") })
	term.press('\x03')
	from := time.Now()
	term.exitOnTerminal(130)
	if took := time.Since(from); took > 3*time.Second {
		t.Errorf("it took %v to end", took)
	}
	rows := term.screen()
	if last := rows[len(rows)-1]; last != "" {
		t.Errorf("the terminal is left with %q in its last line", last)
	}
	for _, row := range rows {
		if strings.Contains(row, "%") || strings.Contains(row, "(0/") {
			t.Errorf("a piece of the bar is left: %q", row)
		}
	}
	term.nothingLeft(200 * time.Millisecond)
}

func TestCtrlZStopsWhatRunsAndContGoesOn(t *testing.T) {
	term := onTerminal(t, "map", "-j2", "-c", `touch up.{}; while [ ! -e go ]; do sleep 0.02; done; echo done {}`, ":::", "1", "2")
	term.until("2 commands", func() bool { return term.files("up.*") == 2 })
	term.press('\x1a')
	// The commands' own children come and go with each turn of their loops: what is
	// there must be stopped, but for the workers, which watch their parent. A shell that
	// has just called vfork waits in state D for a child that is stopped.
	term.until("everything to stop", func() bool {
		states := term.states()
		return len(states) >= 3 && strings.Trim(states, "TD") == ""
	})
	if err := os.WriteFile(filepath.Join(term.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(term.text(), "done") {
		t.Error("a command went on while everything was stopped")
	}
	_ = term.Process.Signal(syscall.SIGCONT)
	term.exitOnTerminal(0)
	if rows := term.screen(); strings.Count(strings.Join(rows, "\n"), "done") != 2 {
		t.Errorf("the terminal shows %q", rows)
	}
	term.nothingLeft(200 * time.Millisecond)
}

// states is the state letter of each process with the mark that is no worker.
func (d *day) states() string {
	var states strings.Builder
	workers := d.workers()
	for _, pid := range d.left() {
		if slices.Contains(workers, pid) {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if i := bytes.LastIndexByte(stat, ')'); err == nil && i > 0 && len(stat) > i+2 {
			states.WriteByte(stat[i+2])
		}
	}
	return states.String()
}

func (t *terminal) press(key byte) {
	t.t.Helper()
	if _, err := t.pty.Write([]byte{key}); err != nil {
		t.t.Fatal(err)
	}
}

func (t *terminal) exitOnTerminal(want int) {
	t.t.Helper()
	_ = t.Wait()
	if got := t.ProcessState.ExitCode(); got != want {
		t.t.Errorf("gpool exited with %d, want %d; the terminal: %q", got, want, t.text())
	}
}

func TestBarSharesTheTerminalWithResults(t *testing.T) {
	term := onTerminal(t, "imap", "-j3", "-c", `sleep 0.0{#}; printf 'out %s\n' {}; printf 'err %s\n' {} >&2; exit $(({} % 2))`,
		":::", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	term.exitOnTerminal(1)
	rows := term.screen()
	for i := 1; i <= 9; i++ {
		for _, line := range []string{fmt.Sprintf("out %d", i), fmt.Sprintf("err %d", i)} {
			found := 0
			for _, row := range rows {
				if row == line {
					found++
				}
			}
			if found != 1 {
				t.Errorf("the line %q stands %d times on the terminal: %q", line, found, rows)
			}
		}
	}
}

// TestAPoolSurvivesItsTerminal: the server has a session of its own, so the end of the terminal in
// which it was started does not reach it, nor what it runs.
func TestAPoolSurvivesItsTerminal(t *testing.T) {
	b := newBackground(t)
	cmd := b.command("apply-async", "-c", "until test -e gone; do sleep 0.01; done; echo here still")
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	printed, _ := io.ReadAll(tty) // until the client has ended: EIO
	_ = cmd.Wait()
	tty.Close()
	if err := os.WriteFile(filepath.Join(b.dir, "gone"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := b.run("", "get", strings.TrimSpace(string(printed))); out != "here still\n" || code != 0 {
		t.Errorf("%q: %q, %d, %s", printed, out, code, errs)
	}
}
