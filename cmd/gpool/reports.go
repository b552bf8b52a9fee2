package main

import (
	"os"
	"strings"
	"time"

	"gpool"
	"gpool/internal/pool/report"
)

// reports says whether the user has asked for a log or a report of the run.
func (r *run) reports() bool {
	o := r.opts
	return o.joblog != "" || o.results != "" || o.junit != "" || o.events != "" || r.ci != report.NoCI
}

// eventsOnStdout reports whether events take the place of results on stdout.
func (r *run) eventsOnStdout() bool { return r.opts.events == "-" || r.opts.events == "fd:1" }

// openReports opens what the run is to be told to. Events come first, so that no file
// of ours gets the descriptor that fd:N means.
func (r *run) openReports(l *ledger) (events *report.Events, err error) {
	o := r.opts
	if o.events != "" {
		if events, err = report.OpenEvents(o.events, r.stdio.out); err != nil {
			return nil, err
		}
	}
	if o.results != "" {
		results, err := report.NewResults(o.results)
		if err != nil {
			return events, err
		}
		l.sinks = append(l.sinks, results)
	}
	if o.junit != "" {
		junit, err := report.NewJUnit(o.junit, r.suite(), time.Now())
		if err != nil {
			return events, err
		}
		l.sinks = append(l.sinks, junit)
	}
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" && r.ci == report.GitHub {
		l.sinks = append(l.sinks, report.NewStepSummary(path))
	}
	return events, nil
}

// suite names the run in a JUnit report: by what it runs.
func (r *run) suite() string {
	switch {
	case r.opts.tasks:
		return r.opts.task
	case r.opts.shellLine != "":
		return r.opts.shellLine
	}
	if words := commandWords(r.words); len(words) > 0 {
		return strings.Join(words, " ")
	}
	return "gpool " + r.verb.name
}

// commandWords are the words before the items.
func commandWords(words []string) []string {
	for i, w := range words {
		if strings.HasPrefix(w, ":::") {
			return words[:i]
		}
	}
	return words
}

// start is what is known of the run at its start.
func (r *run) start() report.RunStart {
	s := report.RunStart{Command: os.Args, Version: gpool.Version, Workers: r.workers, Total: int64(r.total - r.elsewhere)}
	if r.opts.shuffle.on {
		s.Seed = &r.opts.shuffle.seed
	}
	s.Partition = r.opts.part.String()
	return s
}
