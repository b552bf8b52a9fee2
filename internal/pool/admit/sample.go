package admit

import "time"

// keepSampling looks at the machine once a second, and wakes the loop if it waits for that.
func (a *Admission) keepSampling() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-a.halt:
			return
		case <-ticker.C:
		}
		// What cannot be read now could be read at the beginning: the last sample stands.
		_ = a.sample()
		a.mu.Lock()
		waiting := a.sampling && !a.closed
		a.sampling = false
		a.mu.Unlock()
		if waiting {
			a.wake()
		}
	}
}

// sample reads the load and the memory that are limited. With a cgroup or two above us
// that takes some 0.4 ms a second.
func (a *Admission) sample() error {
	if a.load != nil {
		load, err := readLoad()
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.load.sampled = load
		a.mu.Unlock()
	}
	if a.memory != nil {
		free, err := freeMemory()
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.memory.sample(free)
		a.mu.Unlock()
	}
	return nil
}
