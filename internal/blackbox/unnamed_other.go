//go:build !linux

package blackbox

import "os"

// unnamed returns a file of the box's size.
func unnamed() (*os.File, error) { return temporary() }
