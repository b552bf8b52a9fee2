// Package daemon is the server behind apply-async: a pool in the background that takes calls
// from any number of clients over a socket, runs them, and keeps what they have printed until it
// is fetched.
//
// One lock guards all that the server knows (Server.mu). Whoever changes something writes it down
// in the journal under that lock, before anybody hears of it; so what a client was told survives
// the server. Output does not go through the lock but into files, which clients read themselves.
//
// The server process only.
package daemon
