package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"gpool/internal/ipc"
	"gpool/internal/pool/launch"
)

// commands compares whole runs over the same items, with 2 workers, output captured
// and in order where the peer can.
func (b *bench) commands() error {
	n := strconv.Itoa(*items)
	echo := b.run(b.gpool, "map", "-j2", "--", "/bin/echo", "{}")
	what := "commands: /bin/echo"
	if b.floor != "" {
		b.faster(what, echo, "a posix_spawn loop with capture, the floor", says(b.floor, "spawn", "2", n), 0.92)
	}
	b.faster(what, echo, "xargs -P2 -n1", b.run("xargs", "-P2", "-n1", "/bin/echo"), 1.2)
	gnu := b.have("parallel", "parallel")
	if gnu {
		b.faster(what, echo, "GNU parallel -k -j2", b.run("parallel", "--will-cite", "-k", "-j2", "/bin/echo", "{}"), 5)
	}
	// The parallel of moreutils takes items as arguments, and has another name where both are.
	if b.have("parallel.moreutils", "moreutils") {
		b.faster(what, echo, "parallel of moreutils", b.run("sh", "-c", "xargs parallel.moreutils -j2 /bin/echo --"), 0)
	}
	b.faster("commands: -c 'echo {}'", b.run(b.gpool, "map", "-j2", "-c", "echo {}"),
		"xargs -P2 -I{} sh -c 'echo {}'", b.run("xargs", "-P2", "-I{}", "sh", "-c", "echo {}"), 1.1)
	return nil
}

// often runs a command again and again: the time of one.
func often(argv ...string) measured {
	const times = 20
	return each(times, func() (time.Duration, error) {
		from := time.Now()
		for range times {
			if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
				return 0, fmt.Errorf("%s: %w", argv[0], err)
			}
		}
		return time.Since(from), nil
	})
}

// start measures how long gpool takes from start to exit, and a worker to its hello.
func (b *bench) start() error {
	one := often(b.gpool, "map", "--", "true", ":::", "1")
	what := "start to exit: gpool map -- true ::: 1"
	b.quantity(what, "ms", 12, func() (float64, error) {
		d, err := one()
		return d.Seconds() * 1000, err
	})
	if b.have("parallel", "parallel") {
		b.faster(what, one, "parallel true ::: 1", often("parallel", "--will-cite", "true", ":::", "1"), 6)
	}
	b.within(what, one, "/bin/true", often("/bin/true"), 0)
	b.within("start of a worker to its hello", b.hello, "/bin/true", often("/bin/true"), 0)
	return nil
}

func (b *bench) hello() (time.Duration, error) {
	const times = 20
	var total time.Duration
	for range times {
		launcher := &launch.Local{Path: b.gpool, Args: []string{"worker"}}
		from := time.Now()
		p, err := launcher.Launch(1)
		if err != nil {
			return 0, err
		}
		var m ipc.Message
		if err := ipc.NewReader(p.Frames(), ipc.Limits{}).Next(&m); err != nil {
			return 0, err
		}
		total += time.Since(from)
		p.Kill()
		p.Wait()
	}
	return total / times, nil
}

// warm compares a worker that has its modules with processes that load them.
func (b *bench) warm() error {
	if b.python == "" {
		b.miss("python3 with msgpack", "python3-msgpack")
		return nil
	}
	const ours, theirs = 20000, 200
	all := b.seq
	defer func() { b.seq = all }()
	var err error
	many, err := b.numbers(ours)
	if err != nil {
		return err
	}
	few, err := b.numbers(theirs)
	if err != nil {
		return err
	}
	over := func(file string, run measured) measured {
		return func() (time.Duration, error) {
			b.seq = file
			return run()
		}
	}
	b.faster("warm Python worker: a task with json, re, msgpack, per item",
		each(ours, over(many, b.run(b.gpool, "map", "-j2", "--worker", b.python, "--task", "task", "--", source("worker.py")))),
		"xargs -P2 -n1 python3 of the same", each(theirs, over(few, b.run("xargs", "-P2", "-n1", b.python, source("line.py")))), 50)
	return nil
}

// output compares the way of large outputs with that of a pipe.
func (b *bench) output() error {
	const size = "2147483648"
	one := "head -c " + size + " /dev/zero"
	to := filepath.Join(b.dir, "large")
	defer os.Remove(to)
	run := func(script string, args ...string) measured {
		return func() (time.Duration, error) {
			_ = os.Remove(to)
			from := time.Now()
			cmd := exec.Command("sh", append([]string{"-c", script, "sh", to}, args...)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%w: %s", err, out)
			}
			took := time.Since(from)
			info, err := os.Stat(to)
			if err == nil && info.Size() != 2*2147483648 {
				err = fmt.Errorf("%d bytes arrived", info.Size())
			}
			return took, err
		}
	}
	b.faster("output: 2 calls of 2 GiB, in order, to a file", run(`"$2" map -j2 -c '`+one+`; : {}' ::: 1 2 >"$1"`, b.gpool),
		"cat, through one pipe", run(`{ `+one+`; `+one+`; } | cat >"$1"`), 0.6)
	return nil
}
