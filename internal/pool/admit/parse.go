package admit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseRate reads how often calls may begin: "5/s", "300/m", "10/h", "1000/d", or "5", which is
// a second. It returns calls a second.
func ParseRate(text string) (float64, error) {
	number, unit, divided := strings.Cut(strings.TrimSpace(text), "/")
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
	if !divided {
		seconds, known = 1, true
	}
	n, err := positive(number)
	if err != nil || !known || n/seconds > 1e9 || n/seconds == 0 {
		return 0, fmt.Errorf("%q is no rate; give calls for each second, minute, hour or day, like 5/s, 300/m, 10/h", text)
	}
	return n / seconds, nil
}

// ParseSize reads a number of bytes: "512M", "1.5G", "4096". K, M, G, T and P are powers of 1024;
// k, m, g, t and p are powers of 1000, as GNU parallel has them.
func ParseSize(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), 1.0
	if n := len(number); n > 0 {
		if power := strings.IndexByte("KMGTP", number[n-1]); power >= 0 {
			number, unit = number[:n-1], math.Pow(1024, float64(power+1))
		} else if power := strings.IndexByte("kmgtp", number[n-1]); power >= 0 {
			number, unit = number[:n-1], math.Pow(1000, float64(power+1))
		}
	}
	n, err := positive(number)
	if err != nil || n*unit < 1 || n*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is no size; give bytes, or a number with K, M, G or T, like 512M or 1.5G", text)
	}
	return int64(n * unit), nil
}

// ParseLoad reads a load average: "4", or "80%" of cpus, the number of CPUs of the machine. Not
// of those that we may use: the load is the machine's.
func ParseLoad(text string, cpus int) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	n, err := positive(number)
	if err != nil {
		return 0, fmt.Errorf("%q is no load; give a number of running processes, like 4, or a share of the CPUs, like 80%%", text)
	}
	if percent {
		n *= float64(max(cpus, 1)) / 100
	}
	return n, nil
}

// positive reads a decimal number above zero; it has no sign, exponent or other base.
func positive(text string) (float64, error) {
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseFloat(text, 64)
	if err == nil && !(n > 0 && n <= math.MaxFloat64) {
		return 0, strconv.ErrRange
	}
	return n, err
}

// size is a number of bytes for people.
func size(bytes int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 40, "T"}, {1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if bytes >= u.unit {
			return strings.TrimSuffix(strconv.FormatFloat(float64(bytes)/float64(u.unit), 'f', 1, 64), ".0") + u.name
		}
	}
	return strconv.FormatInt(bytes, 10) + " bytes"
}
