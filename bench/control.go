package main

import (
	"path/filepath"
	"strings"
)

// everything is each option of batch control that does not change what runs; DIR stands
// for a directory of its own.
const everything = "--retries=2 --backoff=1s..2s --retry-on=any --show-attempts --timeout=1h --grace=1s --run-timeout=2h --halt=soon,fail=10% " +
	"--joblog=DIR/log --results=DIR/results --junit=DIR/junit.xml --events=DIR/events --ci=gitlab --summary=never --still-running=1m " +
	"--rate=1000000/s --load=100000 --memfree=1M --max-rss=64G --max-worker-rss=64G --nice=1 --partition=slice:1/1 --shuf=1 --exit-code=first"

// control compares runs of a thousand calls with options of batch control against runs
// without, for a call that costs next to nothing and for one of 20 ms, which is short for
// a test or a conversion. Then each option by itself says where the cost is.
func (b *bench) control() error {
	thousand, err := b.numbers(1000)
	if err != nil {
		return err
	}
	defer func(all string) { b.seq = all }(b.seq)
	b.seq = thousand
	options := strings.Fields(everything)
	b.compareOptions("a call of 20 ms, every option", options, "sleep 0.02; echo {}")
	b.compareOptions("/bin/echo, every option", options, "")
	for _, o := range options {
		if strings.HasPrefix(o, "--backoff") || strings.HasPrefix(o, "--retry-on") || o == "--show-attempts" {
			continue // they mean nothing without --retries
		}
		b.compareOptions("/bin/echo, "+strings.ReplaceAll(o, "DIR/", ""), []string{o}, "")
	}
	return nil
}

// compareOptions measures runs with options against runs without; line is run by a shell,
// or /bin/echo directly.
func (b *bench) compareOptions(what string, options []string, line string) {
	work := []string{"--", "/bin/echo", "{}"}
	if line != "" {
		work = []string{"-c", line}
	}
	dir := filepath.Join(b.dir, "control")
	argv := []string{b.gpool, "map", "-j2"}
	for _, o := range options {
		argv = append(argv, strings.ReplaceAll(o, "DIR", dir))
	}
	with := b.run(append(argv, work...)...)
	without := b.run(append([]string{b.gpool, "map", "-j2"}, work...)...)
	b.within(what, inFresh(dir, with), "without", without, 0)
}
