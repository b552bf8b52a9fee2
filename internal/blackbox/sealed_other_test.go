//go:build !linux

package blackbox

import "os"

func sealed(*os.File) bool { return false }
