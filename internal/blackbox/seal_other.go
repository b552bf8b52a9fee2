//go:build !linux

package blackbox

import "os"

// seal can do nothing here.
func seal(*os.File) {}
