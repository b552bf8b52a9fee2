package admit

import "testing"

func TestWorkers(t *testing.T) {
	for _, c := range []struct{ want, room, workers int }{
		{64, -1, 64}, {64, 1 << 20, 64}, {64, 0, 1}, {1, 0, 1},
		{64, ownThreads + 10*perWorker, 10}, {64, ownThreads + 10*perWorker - 1, 9}, {4, ownThreads + 10*perWorker, 4},
	} {
		if got := Workers(c.want, c.room); got != c.workers {
			t.Errorf("%d workers with room for %d: %d, want %d", c.want, c.room, got, c.workers)
		}
	}
	if room, why := Room(); room >= 0 && why == "" {
		t.Errorf("room for %d here, and no reason", room)
	}
}
