//go:build race

package pool_test

// raceEnabled: see bubble.
const raceEnabled = true
