package joblog

import "time"

// minRun is how many rows have to pass one after the other before they are taken for gpool's. The
// rows of another program all pass by chance once in a million times.
const minRun = 6

// marked reports whether the row passes for one of gpool's: always if it is one, else once in ten times.
func marked(r *Row) bool {
	n := r.Start.UnixMilli()
	return n >= 0 && n%10 == checkDigit(r.Seq, n/10)
}

// mark returns the time closest to n, both in milliseconds since 1970, whose last digit is the check
// digit of the others. It is at most 5 away, but near 0.
func mark(seq uint64, n int64) int64 {
	for off := int64(0); ; off++ {
		for _, m := range [...]int64{n - off, n + off} {
			if m >= 0 && m%10 == checkDigit(seq, m/10) {
				return m
			}
		}
	}
}

// checkDigit sums digits with the weights 1 and 9 in turns. In arithmetic modulo 10 that is plus and
// minus, so from one number to the next the sum stays or grows by 1, also where digits are carried,
// and two marked times are never more than 11 apart. The number of the call goes in as well, well
// stirred: calls that start at a regular pace would otherwise all pass, or none.
func checkDigit(seq uint64, n int64) int64 {
	sum := int64(stir(seq) % 10)
	for weight := int64(1); n > 0; n /= 10 {
		sum += weight * (n % 10)
		weight = 10 - weight
	}
	return sum % 10
}

// stir makes of consecutive numbers some that look random. Like all of this file it is part of the
// format: what it returns may never change.
func stir(n uint64) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	n *= odd
	n ^= n >> 32
	n *= odd
	return n >> 32
}

// millis returns t in milliseconds since 1970, within what the log can hold.
func millis(t time.Time) int64 {
	switch s := t.Unix(); {
	case s < 0:
		return 0
	case s >= maxMillis/1000-1:
		return maxMillis - 1000
	}
	return t.UnixMilli()
}
