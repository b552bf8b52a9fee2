package memory

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary plays other processes: with the variable set it is one of parts.
const part = "GPOOL_TEST_MEMORY"

func TestMain(m *testing.M) {
	if play := parts[os.Getenv(part)]; play != nil {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // parts under -race end at once
	goleak.VerifyTestMain(m)
}
