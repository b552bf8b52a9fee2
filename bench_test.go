package gpool_test

import (
	"testing"

	"gpool"
)

// benchmarkOver runs a benchmark over a pool of two processes, and one of two
// goroutines.
func benchmarkOver(b *testing.B, f func(*testing.B, gpool.Runner)) {
	b.Run("Pool", func(b *testing.B) { f(b, newPool(b, gpool.Workers(2))) })
	b.Run("ThreadPool", func(b *testing.B) { f(b, newThreads(b, gpool.Workers(2))) })
}

// BenchmarkApply is the round trip of one call of a warm pool.
func BenchmarkApply(b *testing.B) {
	benchmarkOver(b, func(b *testing.B, r gpool.Runner) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := gpool.Apply(background, r, square, 3); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkApplyAsync is a thousand calls under way at once.
func BenchmarkApplyAsync(b *testing.B) {
	benchmarkOver(b, func(b *testing.B, r gpool.Runner) {
		const n = 1000
		futures := make([]*gpool.Future[int], n)
		b.ReportAllocs()
		for b.Loop() {
			for i := range futures {
				futures[i] = gpool.ApplyAsync(background, r, square, i)
			}
			for _, f := range futures {
				if err := f.Err(background); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/call")
	})
}

// BenchmarkMap is a map of calls that do nothing to speak of.
func BenchmarkMap(b *testing.B) {
	for _, tt := range []struct {
		name    string
		n       int
		options []gpool.CallOption
	}{{"default", 1000000, nil}, {"chunk=1", 20000, []gpool.CallOption{gpool.Chunk(1)}}} {
		b.Run(tt.name, func(b *testing.B) {
			benchmarkOver(b, func(b *testing.B, r gpool.Runner) {
				items := upTo(tt.n)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := gpool.Map(background, r, square, items, tt.options...); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(tt.n), "ns/call")
			})
		})
	}
}

// BenchmarkIMap is an iterator with the window that it has by default.
func BenchmarkIMap(b *testing.B) {
	benchmarkOver(b, func(b *testing.B, r gpool.Runner) {
		const n = 10000
		items := upTo(n)
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range gpool.IMap(background, r, square, items) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/call")
	})
}

// BenchmarkValues sends values there and back.
func BenchmarkValues(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(map[int]string{64 << 10: "64KiB", 1 << 20: "1MiB"}[size], func(b *testing.B) {
			p := newPool(b, gpool.Workers(2))
			items := make([][]byte, 32)
			for i := range items {
				items[i] = make([]byte, size)
			}
			b.SetBytes(int64(2 * size * len(items)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := gpool.Map(background, p, echo, items); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNew starts a worker and ends it.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		p, err := gpool.New(background, gpool.Workers(1))
		if err != nil {
			b.Fatal(err)
		}
		p.Close()
		if err := p.Join(background); err != nil {
			b.Fatal(err)
		}
	}
}
