package admit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// readLoad is the average over the last minute. The kernel gives three fixed-point numbers of
// 32 bits, and behind them, after padding, what they are to be divided by.
func readLoad() (float64, error) {
	raw, err := unix.SysctlRaw("vm.loadavg")
	if err != nil {
		return 0, fmt.Errorf("find out the load by the sysctl vm.loadavg: %w", err)
	}
	return parseLoadavg(raw)
}

func parseLoadavg(raw []byte) (float64, error) {
	if len(raw) < 24 || binary.NativeEndian.Uint64(raw[16:]) == 0 {
		return 0, fmt.Errorf("find out the load: the sysctl vm.loadavg has %d bytes of an unknown form", len(raw))
	}
	return float64(binary.NativeEndian.Uint32(raw)) / float64(binary.NativeEndian.Uint64(raw[16:])), nil
}

func freeMemory() (int64, error) {
	return 0, errors.New("wait for free memory: on this system it is not known how much is free; leave --memfree out")
}

func totalMemory() (bytes int64) { return 0 }
