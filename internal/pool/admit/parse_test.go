package admit

import (
	"math"
	"strings"
	"testing"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"5/s": 5, "300/m": 5, "36/h": 0.01, "5": 5, " 0.5/s ": 0.5, "86400/d": 1} {
		if got, err := ParseRate(text); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/s", "0/s", "-1/s", "5/", "5/x", "5/s/s", "1e3/s", "NaN", "Inf/s", "0x5", "1..2", strings.Repeat("9", 400), "9999999999/s"} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), "5/s") {
			t.Errorf("%q is %v, %v; want an error that shows a rate", text, got, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "4096": 4096, "1K": 1024, "1k": 1000, "512M": 512 << 20, "5m": 5e6, "1.5G": 3 << 29, "1g": 1e9, "2T": 2 << 40, "3t": 3e12, "1P": 1 << 50,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1M", "0", "0.5", "1MB", "1 M", "1X", "99999999P", "NaN", "1e9"} {
		if got, err := ParseSize(text); err == nil || !strings.Contains(err.Error(), "512M") {
			t.Errorf("%q is %v, %v; want an error that shows a size", text, got, err)
		}
	}
}

func TestParseLoad(t *testing.T) {
	for text, want := range map[string]float64{"4": 4, "0.5": 0.5, "80%": 6.4, "100%": 8} {
		if got, err := ParseLoad(text, 8); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "0", "-4", "80%%", "four"} {
		if got, err := ParseLoad(text, 8); err == nil || !strings.Contains(err.Error(), "80%") {
			t.Errorf("%q is %v, %v; want an error that shows a load", text, got, err)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1 << 20: "1M", 3 << 29: "1.5G"} {
		if got := size(bytes); got != want {
			t.Errorf("%d is %q, want %q", bytes, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5/s")
	f.Add("1.5G")
	f.Add("80%")
	f.Fuzz(func(t *testing.T, text string) {
		if rate, err := ParseRate(text); err == nil && !(rate > 0 && rate <= 1e9) {
			t.Errorf("%q is a rate of %v", text, rate)
		}
		if bytes, err := ParseSize(text); err == nil && bytes < 1 {
			t.Errorf("%q is a size of %v", text, bytes)
		}
		if load, err := ParseLoad(text, 4); err == nil && !(load > 0) {
			t.Errorf("%q is a load of %v", text, load)
		}
	})
}
