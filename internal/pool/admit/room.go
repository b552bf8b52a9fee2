package admit

// perWorker is how many processes and threads one worker and its command take. Measured on Linux
// with 4 and 64 workers on 2 CPUs: a worker is 5 to 6 threads of the Go runtime, and its command
// a shell and one process in it. With more CPUs the runtime takes a few more.
const perWorker = 10

// ownThreads is what the parent may still start for itself.
const ownThreads = 16

// Workers returns how many of want workers there is room for, at least 1; room is that of Room.
// A Go program that may not start a thread dies on the spot, so it is better to ask before.
func Workers(want, room int) int {
	if room < 0 {
		return want
	}
	return max(1, min(want, (room-ownThreads)/perWorker))
}

// tightest keeps the least of several numbers of processes, with its reason.
type tightest struct {
	left int
	why  string
}

func noLimit() tightest { return tightest{left: -1} }

// limit takes one limit into account.
func (t *tightest) limit(limit, used int64, why string) {
	left := int(max(0, limit-used))
	if t.left < 0 || left < t.left {
		t.left, t.why = left, why
	}
}
