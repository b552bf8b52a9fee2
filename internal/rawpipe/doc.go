// Package rawpipe reads and writes pipes that do not block, without telling the runtime before each system call that it
// may take long. Else each call that follows an idle moment wakes the runtime's monitor, a thread that then
// looks around every 20 µs, at the cost of the very commands that run meanwhile.
package rawpipe
