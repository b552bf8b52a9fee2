package main

import (
	"errors"
	"fmt"
	"os"

	"gpool/internal/pool/daemon/wire"
)

// apply --pool: the call is run by the workers of a background pool, which may be warm, in turn
// with those that others hand it. It ends with us.

// checkPool finds flags of a worker of our own, where there is none.
func (o *options) checkPool(given func(string) bool) error {
	if o.pool == "" {
		return nil
	}
	for _, name := range []string{"initializer", "nice", "grace", "max-rss"} {
		if given(name) {
			return errors.New("--" + name + " and --pool exclude each other: gpool pool start has it, for all calls of the pool")
		}
	}
	if o.showAttempts {
		return errors.New("--show-attempts and --pool exclude each other: a background pool keeps what the last attempt has printed")
	}
	return nil
}

// runsApart reports whether apply has to hand its call in: within a call of the same pool it
// has a slot already, and another might never be free.
func (o *options) runsApart(io stdio) (bool, error) {
	if o.pool == "" || o.dryRun || !namesCallOf(o.pool) {
		return o.pool != "" && !o.dryRun, nil
	}
	l, err := newClients(exitOwn, io).link(o.pool)
	if err != nil {
		return false, err
	}
	defer l.close()
	return !l.runsUs(), nil
}

// applyInPool hands the call in, passes on what it prints, and exits as it does.
func (o *options) applyInPool(words []string, io stdio) error {
	c := newClients(exitOwn, io)
	return c.run(func() error {
		l, err := c.link(o.pool, "--reopen")
		if err != nil {
			return err
		}
		l.always = true
		b, err := newBuilder(os.Environ(), o.around.dir)
		if err != nil {
			return err
		}
		call, err := b.build(o.call(words))
		if err != nil {
			return buildError(err)
		}
		ids, err := submit(l, wire.Submission{Context: b.context, Calls: []wire.Call{call}, Attached: true})
		if err != nil {
			return err
		}
		l.bound = true
		// Of an attempt that fails and is followed by another nothing is to be seen.
		g := &get{verb: "apply", clients: c, follow: o.retries == 0 && o.format == "raw", format: o.format}
		if err = g.all(ids); serverEnded(err) {
			err = fmt.Errorf("the server of the pool %q has ended, and the call with it", o.pool)
		}
		return err
	})
}

// call is what the flags of apply say of a call.
func (o *options) call(words []string) *callOptions {
	c := &callOptions{
		shellLine: o.shellLine, task: o.task, args: o.args, shell: o.shell, name: o.name, around: o.around,
		timeout: o.timeout.after, retries: o.retries, backoff: o.backoff, retryOn: o.retryOn,
	}
	if o.tasks {
		c.worker = append([]string{o.worker}, words...)
	} else {
		c.argv = words
	}
	return c
}
