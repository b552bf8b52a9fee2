package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable makes the test binary play a writer in a process of its own.
const roleVariable = "JOURNAL_TEST_ROLE"

var roles = map[string]func(path string) error{
	"endless": writeUntilKilled,
	"limited": writeToFullDisk,
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := role(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// open opens a journal and returns its records.
func open(t fataler, path string) (*Journal, [][]byte) {
	t.Helper()
	var records [][]byte
	j, err := Open(path, func(record []byte) error {
		records = append(records, bytes.Clone(record))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j, records
}

// records opens a journal to read it.
func records(t fataler, path string) [][]byte {
	t.Helper()
	j, got := open(t, path)
	shut(t, j)
	return got
}

func shut(t fataler, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func add(t fataler, j *Journal, records ...[]byte) {
	t.Helper()
	if err := j.Append(records...); err != nil {
		t.Fatal(err)
	}
}

func contents(t fataler, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t fataler, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// fileOf is what a journal of these records holds.
func fileOf(records ...[]byte) []byte {
	b := []byte(firstLine)
	for _, record := range records {
		b = appendRecord(b, record)
	}
	return b
}

// neighbours are the files beside a journal.
func neighbours(t fataler, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + ".*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var three = [][]byte{[]byte("one"), {}, []byte("three\x00")}

var errNo = errors.New("no")
