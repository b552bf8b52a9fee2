// Package pool runs calls in worker processes. It is the parent's half of gpool.
//
// Three layers, each of which knows only the one below. The plan (plan.go) decides:
// what waits, what runs where, what goes back after a death. It is memory and
// arithmetic, without goroutines, clocks or I/O. The loop (loop.go) is the one
// goroutine that owns the plan; everybody else sends it messages. A slot's link
// (link.go) is one worker's life: start, hello, frames, end.
//
// Around them: a feeder goroutine a job pulls its input, only as far as there is
// room for it; a deliverer goroutine a job hands results to the consumer, in order,
// and keeps what must wait, on disk if it is much; one goroutine tells the story to
// the listener. What a worker is and where it runs is the Launcher's business.
//
// No goroutine of the pool waits for another one while it holds a lock, and none
// that reads frames waits for anything but bytes.
package pool
