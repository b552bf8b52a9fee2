//go:build race

package gpool_test

// raceEnabled says that the tests run under the race detector, where a process takes
// many times as long to start.
const raceEnabled = true
