package wire

import (
	"crypto/rand"
	"fmt"
	"os"
)

// Fresh is an address for a hub of this process that nobody else has or guesses. On Linux it is a name without a file,
// so nothing is left of it however the process ends; who connects is checked, as everywhere.
func Fresh() (Address, error) {
	return Address(fmt.Sprintf("unix:@gpool-%d-%s", os.Getpid(), rand.Text())), nil
}
