// Package rawpipe reads and writes pipes that do not block, without telling the runtime before each system call that it
// may take long. Else each call that follows an idle moment wakes the runtime's monitor, a thread that then
// looks around every 20 µs, at the cost of the very commands that run meanwhile.
//
// While the monitor sleeps nothing interrupts a goroutine that computes: timers and other goroutines may wait for it
// without an end. So these pipes are for processes whose goroutines all wait soon: gpool and its workers of
// commands, and neither the program of a user nor the tasks of one.
package rawpipe
