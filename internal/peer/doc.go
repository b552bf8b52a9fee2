// Package peer asks the kernel who is at the other end of a Unix socket: whoever connects or
// listens cannot lie about it.
package peer
