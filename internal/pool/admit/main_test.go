package admit

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// The test binary plays every process that is needed besides: its first word says which.
var roles = map[string]func(words []string) int{
	"keeper": func(words []string) int { return Keeper(words[0], os.Stdin, os.Stdout) },
	"client": playClient,
	"check":  playCheck,
	"nested": playNested,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play := roles[os.Args[1]]; play != nil {
			os.Exit(play(os.Args[2:]))
		}
	}
	// Race builds wait for a second before they exit, and many processes are started here.
	_ = os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

func keeperCommand() []string { return []string{os.Args[0], "keeper"} }

// needs skips a test without a tool, unless TESTS_NEED names it: a test that is skipped where
// it should have run proves nothing.
func needs(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Fields(os.Getenv("TESTS_NEED")), tool) {
		t.Fatalf("TESTS_NEED names %s: %v", tool, err)
	}
	t.Skip(err)
	return ""
}

// must returns a value, or ends the test.
func must[T any](value T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// openFor is Open and Attach.
func openFor(o Options, wake func()) (*Admission, error) {
	a, err := Open(o)
	if err == nil {
		a.Attach(wake)
	}
	return a, err
}
