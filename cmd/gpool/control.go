package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gpool/internal/pool"
)

// What the flags for failures, time limits and logs mean for the pool.

// graceAfterTerm and graceAfterSignal stand for --grace if it was not given: what is
// ended has little time, what a person interrupts once may finish.
const (
	graceAfterTerm   = 500 * time.Millisecond
	graceAfterSignal = 10 * time.Second
)

// checkControl finds flags that mean nothing without others, or exclude each other.
func (o *options) checkControl(given func(string) bool) error {
	for _, name := range []string{"backoff", "retry-on", "show-attempts"} {
		if given(name) && o.retries == 0 {
			return fmt.Errorf("--%s: say with --retries how many times a call may be run again", name)
		}
	}
	if o.resume && o.resumeFailed {
		return errors.New("--resume and --resume-failed exclude each other: the second one runs failed calls again")
	}
	if flag := o.resumes(); flag != "" && o.joblog == "" {
		return fmt.Errorf("%s: say with --joblog which log tells what is done", flag)
	}
	if err := o.checkFiles(given); err != nil {
		return err
	}
	if o.failFast {
		if given("halt") {
			return errors.New("--fail-fast and --halt exclude each other")
		}
		o.halt = pool.Halt{On: pool.HaltOnFail, N: 1, Now: true}
	}
	if o.lineBuffer && o.ci != "never" {
		return errors.New("--ci folds the output of each call, and --line-buffer mixes that of all: leave one of them out")
	}
	switch {
	case o.ci == "never":
	case o.format != "raw":
		return errors.New("--ci prints for people, and --format jsonl for programs: leave one of them out")
	case o.tag:
		return errors.New("--ci heads the output of each call with its item: leave --tag out")
	}
	if o.events == "-" || o.events == "fd:1" {
		if o.format != "raw" || o.ci != "never" || o.lineBuffer || o.tag {
			return errors.New("--events - prints events in the place of results: name a file for them, or leave --format, --ci, --tag and --line-buffer out")
		}
	}
	return nil
}

// resumes is the flag that asks to go on where an earlier run ended, or "".
func (o *options) resumes() string {
	switch {
	case o.resume:
		return "--resume"
	case o.resumeFailed:
		return "--resume-failed"
	}
	return ""
}

// checkFiles finds names that are empty, and files that would be written for two purposes,
// or while they are read.
func (o *options) checkFiles(given func(string) bool) error {
	type file struct{ flag, path string }
	var files []file
	for _, f := range []file{{"joblog", strings.TrimPrefix(o.joblog, "+")}, {"junit", o.junit}, {"events", o.events}, {"results", o.results}} {
		switch {
		case !given(f.flag):
			continue
		case f.path == "":
			return fmt.Errorf("--%s: the name is empty", f.flag)
		}
		files = append(files, file{"--" + f.flag, f.path})
	}
	for _, path := range o.files {
		files = append(files, file{"-a", path})
	}
	for i, a := range files {
		for _, b := range files[:i] {
			if a.flag != b.flag && sameFile(a.path, b.path) {
				return fmt.Errorf("%s and %s name the same file, %s: each needs one of its own", b.flag, a.flag, a.path)
			}
		}
	}
	return nil
}

// sameFile reports whether two paths are of one file, also of one that is not there yet.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return a != "-"
	}
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other) && one.Mode().IsRegular()
}

// killAfter is how long what is asked to end has until it is killed.
func (o *options) killAfter() time.Duration { return cmp.Or(o.grace, graceAfterTerm) }

// finishAfter is how long calls may go on after the first signal.
func (o *options) finishAfter() time.Duration { return cmp.Or(o.grace, graceAfterSignal) }

// untilTerm is how long after the first signal calls are asked to end: with --grace
// early enough for all to be over when its time is.
func (o *options) untilTerm() time.Duration {
	if o.grace > 0 {
		return max(0, o.grace-graceAfterTerm)
	}
	return graceAfterSignal
}

// limits are those of each attempt, nil if there are none.
func (o *options) limits() *pool.Limits {
	switch t := o.timeout; {
	case t.after > 0:
		return &pool.Limits{Soft: t.after, Hard: t.after + o.killAfter()}
	case t.medians > 0:
		return &pool.Limits{Medians: t.medians, Grace: o.killAfter()}
	}
	return nil
}

// retry is what --retries and its like say, nil without it.
func (r *run) retry() *pool.Retry {
	o := r.opts
	if o.retries == 0 {
		return nil
	}
	retry := &pool.Retry{Max: o.retries, MinWait: o.backoff.from, MaxWait: o.backoff.to}
	if on := o.retryOn; !on.any {
		retry.If = func(result *pool.Result) bool {
			end := r.work.outcome(result)
			return on.matches(end.kind, end.exit())
		}
	}
	return retry
}

// matches reports whether a failure of this kind, with this exit code, is one of those.
func (r *retryOn) matches(kind pool.Kind, exit int) bool {
	switch kind {
	case pool.Failed:
		return r.failed || r.codes[exit]
	case pool.TimedOut:
		return r.timeout
	case pool.WorkerDied:
		return r.died
	case pool.OutOfMemory:
		return r.memory
	}
	return false
}

// holds reports whether the output of a call is kept until its end is known: that of an
// attempt that is followed by another is shown only if the call fails in the end.
func (o *options) holds() bool {
	return !o.lineBuffer && (o.retries > 0 || o.ci != "never")
}
