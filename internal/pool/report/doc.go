// Package report is how a run is told, to people and to machines. It runs in the
// parent, and decides nothing of what a run does.
//
// A finished call is a [Record], in words that know neither the pool nor what calls do. A
// report that takes records is a [Sink]: [JUnit], [Results], [StepSummary]. Others have
// shapes of their own: [Events] are lines as things happen; [CI] prints the output of
// calls for the log of a CI system, through a [Filter] that takes orders out of it;
// [Totals] make the last line; [Silence] finds calls that run on and print nothing.
//
// [Progress] is one line at the bottom of a terminal. It is split by what can be
// tested without a terminal: meter.go knows how fast a run is, line.go turns
// numbers into a line of text, and both are pure; progress.go owns the terminal,
// the lock and the goroutine. No failure to draw ends a run; a report that cannot be
// written does, by its error.
package report
