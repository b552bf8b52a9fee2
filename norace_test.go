//go:build !race

package gpool_test

const raceEnabled = false
