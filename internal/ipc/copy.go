package ipc

import "runtime"

// Clone copies bytes, also many: in steps, because the garbage collector cannot stop a copy in its middle, and while it waits to do so
// nothing else runs in the process: no answer of a hub leaves, and no clock is heard. nil stays nil.
func Clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return Append(make([]byte, 0, len(b)), b)
}

// copyStep takes some tens of microseconds.
const copyStep = 256 << 10

// Append appends src to dst, which has room for it, as Clone copies.
func Append(dst, src []byte) []byte {
	for len(src) > copyStep {
		dst, src = append(dst, src[:copyStep]...), src[copyStep:]
		runtime.Gosched() // a loop of copies is hardly ever found where it could be stopped
	}
	return append(dst, src...)
}
