// Command tasks is a worker program in Go: what it registers, gpool can run.
//
//	go build -o tasks ./examples/tasks
//	gpool tasks --worker ./tasks
//	seq 5 | gpool map --worker ./tasks --task square --jsonl
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gpool"
)

// The tasks are variables because that registers them before main runs. A program that
// makes a pool of its own also calls them by these.
var (
	_ = gpool.Register("square", func(_ context.Context, x float64) (float64, error) { return x * x, nil })
	_ = gpool.Register2("add", func(_ context.Context, a, b int) (int, error) { return a + b, nil })
	_ = gpool.Register("wordcount", wordCount)
	_ = gpool.Register("fail", fail)
)

// wordCount counts how often each word is in a text.
func wordCount(_ context.Context, text string) (map[string]int, error) {
	counts := make(map[string]int)
	for _, word := range strings.Fields(text) {
		counts[strings.ToLower(word)]++
	}
	return counts, nil
}

// fail shows how the errors of a task arrive.
func fail(_ context.Context, why string) (string, error) {
	fmt.Println("what a task prints goes to stderr")
	return "", errors.New(why)
}

func main() {
	gpool.Init() // in a worker it serves calls, and does not return
	fmt.Fprintln(os.Stderr, "This program is for gpool to run: gpool tasks --worker "+os.Args[0])
	os.Exit(2)
}
