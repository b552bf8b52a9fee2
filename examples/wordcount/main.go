// Wordcount counts the words of files, each file in a worker process, and prints the
// most frequent ones. Without arguments it counts the words of a few texts of its own.
//
//	go run ./examples/wordcount [FILE...]
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gpool"
)

// count is the task: it gets the name of a file, and its result is a map. Only these
// two travel; the text stays in the worker.
var count = gpool.Register("count", func(ctx context.Context, name string) (map[string]int, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	words := map[string]int{}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	scanner.Split(bufio.ScanWords)
	for scanner.Scan() {
		if word := strings.ToLower(strings.Trim(scanner.Text(), ".,;:!?()\"'")); word != "" {
			words[word]++
		}
	}
	return words, scanner.Err()
})

func main() { gpool.Main(run) }

func run() int {
	files := os.Args[1:]
	if len(files) == 0 {
		dir, err := os.MkdirTemp("", "wordcount-*")
		if err != nil {
			fmt.Fprintln(os.Stderr, "wordcount:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		files = samples(dir)
	}
	pool, err := gpool.New(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		return 1
	}
	defer pool.Terminate()

	total := map[string]int{}
	failed := 0
	// Results are merged as they come; no more than a few of them are in memory.
	for words, err := range gpool.IMapUnordered(context.Background(), pool, count, files) {
		if err != nil { // of one file; the others go on
			failed++
			report(err, files)
			continue
		}
		for word, n := range words {
			total[word] += n
		}
	}
	printMost(total, 5)
	if failed > 0 {
		return 1
	}
	return 0
}

// report says what went wrong with which file. Errors of a worker are what they were
// there: os.ErrNotExist is still that.
func report(err error, files []string) {
	failed, ok := errors.AsType[*gpool.TaskError](err)
	switch {
	case ok && errors.Is(err, os.ErrNotExist):
		fmt.Fprintf(os.Stderr, "wordcount: there is no file %s\n", files[failed.Index])
	case ok:
		fmt.Fprintf(os.Stderr, "wordcount: %s: %v\n", files[failed.Index], failed.Err)
	default:
		fmt.Fprintln(os.Stderr, "wordcount:", err)
	}
}

func printMost(total map[string]int, most int) {
	words := slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Or(cmp.Compare(total[b], total[a]), cmp.Compare(a, b))
	})
	for _, word := range words[:min(most, len(words))] {
		fmt.Printf("%6d %s\n", total[word], word)
	}
}

// samples writes the texts that are counted if no files are named.
func samples(dir string) (files []string) {
	for i, text := range []string{
		strings.Repeat("The pool is deep. ", 30),
		strings.Repeat("A worker leaves the pool; the pool stays. ", 20),
		strings.Repeat("Deep work, deep sleep. ", 10),
	} {
		name := filepath.Join(dir, fmt.Sprintf("%d.txt", i))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			panic(err)
		}
		files = append(files, name)
	}
	return append(files, filepath.Join(dir, "missing.txt"))
}
