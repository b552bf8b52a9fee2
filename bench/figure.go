package main

import (
	"fmt"
	"slices"
	"time"
)

// figure is one thing that was measured: how many times as fast as a rival gpool is, how many
// times as long it takes, or a quantity by itself.
type figure struct {
	what   string
	unit   string // of a quantity; "" is a ratio
	rival  string // "" for a quantity
	reach  float64
	atMost bool      // reach is the most, and not the least
	list   []float64 // of the ratios, or of the quantity; sorted
	ours   time.Duration
	theirs time.Duration
	failed error
}

func (f *figure) value() float64 { return f.list[len(f.list)/2] }

// reached reports whether what was to be reached was.
func (f *figure) reached() bool {
	return f.failed == nil && (f.reach == 0 || f.atMost && f.value() <= f.reach || !f.atMost && f.value() >= f.reach)
}

// say is the figure in words.
func (f *figure) say() string {
	if f.failed != nil {
		return f.failed.Error()
	}
	return fmt.Sprintf("%s (%s to %s)%s", f.amount(f.value()), f.amount(f.list[0]), f.amount(f.list[len(f.list)-1]), f.verdict())
}

// amount is a value as it is printed.
func (f *figure) amount(v float64) string {
	switch {
	case f.unit != "":
		return fmt.Sprintf("%.4g %s", v, f.unit)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (f *figure) goal() string {
	switch {
	case f.reach == 0:
		return ""
	case f.atMost:
		return "≤ " + f.amount(f.reach)
	}
	return "≥ " + f.amount(f.reach)
}

func (f *figure) verdict() string {
	switch {
	case f.reach == 0:
		return ""
	case f.reached():
		return ", " + f.goal() + " is reached"
	}
	return ", " + f.goal() + " is not reached"
}

// add prints a figure and keeps it.
func (b *bench) add(f figure) {
	slices.Sort(f.list)
	switch {
	case f.rival == "" || f.failed != nil:
		fmt.Printf("%s: %s\n", f.what, f.say())
	case f.atMost:
		fmt.Printf("%s: %v, beside %s (%v): as long times %s\n", f.what, rounded(f.ours), f.rival, rounded(f.theirs), f.say())
	default:
		fmt.Printf("%s: %v, beside %s (%v): as fast times %s\n", f.what, rounded(f.ours), f.rival, rounded(f.theirs), f.say())
	}
	b.figures = append(b.figures, f)
}

// rounded has three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// faster measures pairs in turn: how many times as fast as a rival gpool is, and whether that is at least reach (0: nothing was said).
func (b *bench) faster(what string, ours measured, rival string, theirs measured, reach float64) {
	b.compare(figure{what: what, rival: rival, reach: reach}, ours, theirs)
}

// within measures pairs in turn: how many times as long gpool takes, and whether that is at most so much (0: nothing was said).
func (b *bench) within(what string, ours measured, rival string, theirs measured, most float64) {
	b.compare(figure{what: what, rival: rival, reach: most, atMost: true}, ours, theirs)
}

func (b *bench) compare(f figure, ours, theirs measured) {
	var our, their []time.Duration
	for range *pairs {
		a, err := ours()
		var t time.Duration
		if err == nil {
			t, err = theirs()
		}
		if err != nil {
			f.failed = err
			break
		}
		ratio := float64(t) / float64(a)
		if f.atMost {
			ratio = 1 / ratio
		}
		our, their, f.list = append(our, a), append(their, t), append(f.list, ratio)
	}
	if f.failed == nil {
		f.ours, f.theirs = median(our), median(their)
	}
	b.add(f)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// quantity measures something by itself, as often as there would be pairs.
func (b *bench) quantity(what, unit string, most float64, of func() (float64, error)) {
	f := figure{what: what, unit: unit, reach: most, atMost: true}
	for range *pairs {
		v, err := of()
		if err != nil {
			f.failed = err
			break
		}
		f.list = append(f.list, v)
	}
	b.add(f)
}
