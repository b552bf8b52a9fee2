package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// handIns is how many calls are handed in at once to the background pool, and to sem,
// which takes far longer.
const (
	handIns    = 2000
	semHandIns = 30
)

// background compares what it costs to hand a call to the background pool with what a shell
// script would do instead, and then hands in ten thousand of them both ways, of which none may
// be lost.
func (b *bench) background() error {
	runtime := filepath.Join(b.dir, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		return err
	}
	for name, value := range map[string]string{"XDG_RUNTIME_DIR": runtime, "GPOOL_SPOOL": filepath.Join(b.dir, "spool"), "GPOOL": b.gpool} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	loop := func(n int, line string) measured {
		return b.perCall(n, fmt.Sprintf("for i in $(seq %d); do %s\ndone", n, line))
	}
	async := b.drained(loop(handIns, `"$GPOOL" apply-async true >/dev/null`))
	lines := b.drained(b.perCall(handIns, fmt.Sprintf(`yes '{"argv":["true"]}' | head -n %d | "$GPOOL" apply-async --jsonl >/dev/null`, handIns)))
	b.within("hand in: apply-async, a call", async, "/bin/true & of bash", loop(handIns, "/bin/true &"), 0)
	b.within("hand in: apply-async --jsonl, a call", lines, "/bin/true & of bash", loop(handIns, "/bin/true &"), 0)
	if b.have("sem", "parallel") {
		b.faster("hand in: apply-async, a call", async, "sem -j2", loop(semHandIns, "sem --will-cite -j2 --id gpool-bench true"), 0)
	}
	for _, script := range []string{
		`for i in $(seq 10000); do "$GPOOL" apply-async true; done`,
		`yes '{"argv":["true"]}' | head -n 10000 | "$GPOOL" apply-async --jsonl`,
	} {
		if err := b.tenThousand(script); err != nil {
			return err
		}
	}
	return exec.Command(b.gpool, "pool", "terminate").Run()
}

// perCall returns a function that runs a script of bash, and what it took for each of n calls.
func (b *bench) perCall(n int, script string) measured {
	return func() (time.Duration, error) {
		from := time.Now()
		if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return time.Since(from) / time.Duration(n), nil
	}
}

// drained begins with a pool that is there and has nothing to do.
func (b *bench) drained(run measured) measured {
	return func() (time.Duration, error) {
		_ = exec.Command(b.gpool, "pool", "terminate").Run()
		if err := exec.Command(b.gpool, "pool", "start", "-j2").Run(); err != nil {
			return 0, err
		}
		return run()
	}
}

// tenThousand hands in calls of true and counts those that have ended.
func (b *bench) tenThousand(script string) error {
	_ = exec.Command(b.gpool, "pool", "terminate").Run()
	from := time.Now()
	out, err := exec.Command("bash", "-c", script).Output()
	if err != nil {
		return err
	}
	handedIn := time.Since(from)
	ids := map[string]bool{}
	for _, id := range strings.Fields(string(out)) {
		ids[id] = true
	}
	if err := exec.Command(b.gpool, "wait").Run(); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	status, err := exec.Command(b.gpool, "pool", "status", "--calls").Output()
	if err != nil {
		return err
	}
	done := 0
	for line := range bytes.Lines(status) {
		if words := strings.Fields(string(line)); len(words) > 1 && ids[words[0]] && words[1] == "succeeded" {
			done++
		}
	}
	fmt.Printf("%s: %d ids, %d calls of them succeeded; handed in after %v, done after %v\n",
		strconv.Quote(script), len(ids), done, handedIn.Round(time.Millisecond), time.Since(from).Round(time.Millisecond))
	if done != 10000 {
		return fmt.Errorf("%d calls of 10000 are lost", 10000-done)
	}
	return nil
}
