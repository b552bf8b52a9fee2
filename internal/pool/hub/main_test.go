package hub

import (
	"testing"

	"go.uber.org/goleak"
)

// A hub starts no goroutine: whatever is left after the tests is a fault of theirs.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
