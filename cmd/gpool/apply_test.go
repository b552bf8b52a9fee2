package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deaf is a shell command line with a child in the background, and another one that
// ignores SIGTERM.
const deaf = `sleep 1000 & sh -c 'trap "" TERM; touch up; while :; do sleep 0.1; done'`

// polite ends by itself when it is asked to.
const polite = `trap 'echo asked; exit 0' TERM; touch up; while :; do sleep 0.02; done`

func TestApplyPassesASignalOnAtOnce(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			d := newDay(t, "apply", "--grace", "1m", "--retries", "3", "-c", polite)
			d.start()
			d.until("the command", func() bool { return d.files("up") == 1 })
			_ = d.Process.Signal(sig)
			d.exit(128 + int(sig))
			if got := d.out.String(); got != "asked\n" {
				t.Errorf("the command printed %q", got)
			}
			if said := d.said(); strings.Contains(said, "gpool") { // the shell may say that it has been told to end
				t.Errorf("stderr is %q", said)
			}
			d.nothingLeft(200 * time.Millisecond)
		})
	}
}

func TestApplyKillsWhatDoesNotEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grace string
		again bool // the signal comes twice
	}{{"after the grace", "0.2s", false}, {"at a second signal", "1h", true}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDay(t, "apply", "--grace", tt.grace, "-c", deaf)
			d.start()
			d.until("the command", func() bool { return d.files("up") == 1 })
			_ = d.Process.Signal(syscall.SIGTERM)
			if tt.again {
				time.Sleep(50 * time.Millisecond) // two signals at once may be one
				_ = d.Process.Signal(syscall.SIGTERM)
			}
			d.exit(128 + 15)
			d.nothingLeft(200 * time.Millisecond)
		})
	}
}

func TestKilledApplyLeavesNothing(t *testing.T) {
	d := newDay(t, "apply", "-c", deaf)
	d.start()
	d.until("the command", func() bool { return d.files("up") == 1 })
	_ = d.Process.Kill()
	d.exit(128 + 9)
	d.nothingLeft(200 * time.Millisecond)
}

func TestApplyEndsQuietlyWithoutAReader(t *testing.T) {
	d := newDay(t, "apply", "yes")
	stdout, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stdout = writer
	d.start()
	writer.Close()
	if _, err := stdout.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	d.exit(128 + 13)
	if said := d.said(); said != "" {
		t.Errorf("stderr is %q", said)
	}
	d.nothingLeft(200 * time.Millisecond)
}

func TestCtrlCEndsApply(t *testing.T) {
	term := onTerminal(t, "apply", "-c", polite)
	term.until("the command", func() bool { return term.files("up") == 1 })
	term.press('\x03')
	term.exitOnTerminal(130)
	if rows := term.screen(); !strings.Contains(strings.Join(rows, "\n"), "asked") {
		t.Errorf("the terminal shows %q", rows)
	}
	term.nothingLeft(200 * time.Millisecond)
}

func TestCtrlZStopsApplyAndContGoesOn(t *testing.T) {
	term := onTerminal(t, "apply", "-c", `touch up; while [ ! -e go ]; do sleep 0.02; done; echo done; exit 3`)
	term.until("the command", func() bool { return term.files("up") == 1 })
	term.press('\x1a')
	term.until("everything to stop", func() bool {
		states := term.states()
		return len(states) >= 2 && strings.Trim(states, "TD") == ""
	})
	if err := os.WriteFile(filepath.Join(term.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(term.text(), "done") {
		t.Error("the command went on while everything was stopped")
	}
	_ = term.Process.Signal(syscall.SIGCONT)
	term.exitOnTerminal(3)
	if rows := term.screen(); strings.Count(strings.Join(rows, "\n"), "done") != 1 {
		t.Errorf("the terminal shows %q", rows)
	}
	term.nothingLeft(200 * time.Millisecond)
}
