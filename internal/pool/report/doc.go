// Package report is how a run is shown to people: the progress bar; reports will
// join it. It runs in the parent and only ever looks on: nothing here decides
// what a run does, and no failure to draw ends one.
//
// [Progress] is one line at the bottom of a terminal. It is split by what can be
// tested without a terminal: meter.go knows how fast a run is, line.go turns
// numbers into a line of text, and both are pure; progress.go owns the terminal,
// the lock and the goroutine.
package report
