package gpool

import "time"

// When calls may begin, beside a worker that is free. With any of these options a chunk
// has one call.

// Rate lets at most so many calls begin a second, in the long run; 0.1 is one each ten
// seconds.
func Rate(perSecond float64) Option {
	return poolOption(func(c *config) {
		c.admit.Rate = perSecond
		if !(perSecond > 0) {
			wrong(&c.err, "Rate(%v): more than 0 is needed", perSecond)
		}
	})
}

// Delay is the least time between the beginnings of two calls.
func Delay(d time.Duration) Option {
	return poolOption(func(c *config) {
		c.admit.Delay = d
		moreThanZero(&c.err, "Delay", d)
	})
}

// MaxLoad lets no call begin while the load average of the machine, over a minute, is
// above this. It is looked at once a second.
func MaxLoad(load float64) Option {
	return poolOption(func(c *config) {
		c.admit.MaxLoad = load
		if !(load > 0) {
			wrong(&c.err, "MaxLoad(%v): more than 0 is needed", load)
		}
	})
}

// MinFreeMemory lets no call begin while less memory is available, in bytes: of the
// machine, or of the cgroup. It is looked at once a second. Linux only.
func MinFreeMemory(bytes int64) Option {
	return poolOption(func(c *config) {
		c.admit.MinFree = bytes
		if bytes < 1 {
			wrong(&c.err, "MinFreeMemory(%d): at least 1 byte is needed", bytes)
		}
	})
}

// Nice adds n to the niceness of workers, and of all that they start.
func Nice(n int) Option {
	return ofPools("Nice", func(c *config) { c.nice = n })
}
