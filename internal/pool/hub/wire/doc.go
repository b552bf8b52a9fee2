// Package wire is how a process and a hub speak: what is asked and answered, where a hub
// lives, how both sides make sure of each other, and the connection, both ends of it.
package wire
