// Package wire is what the server of a background pool and its clients share: where a pool
// lives on this machine, the connection between the two, and the messages on it. The server
// itself is package daemon. Both processes.
package wire
