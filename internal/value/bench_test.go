package value

import (
	"testing"
	"time"
)

type order struct {
	ID    int
	Name  string
	Price float64
	Tags  []string
	At    time.Time
}

var someOrder = order{ID: 1 << 20, Name: "a name", Price: 9.75, Tags: []string{"x", "y"}, At: time.Unix(1764000000, 5)}

func BenchmarkAppend(b *testing.B) {
	b.Run("int", benchAppend(1<<20))
	b.Run("string", benchAppend("a short string"))
	b.Run("bytes 1 KiB", benchAppend(make([]byte, 1024)))
	b.Run("struct", benchAppend(someOrder))
	b.Run("any", benchAppend(any(map[string]any{"a": 1, "b": []any{"x", 2.5}})))
}

func BenchmarkDecode(b *testing.B) {
	b.Run("int", benchDecode(1<<20))
	b.Run("string", benchDecode("a short string"))
	b.Run("bytes 1 KiB", benchDecode(make([]byte, 1024)))
	b.Run("struct", benchDecode(someOrder))
	b.Run("any", benchDecode(any(map[string]any{"a": 1, "b": []any{"x", 2.5}})))
}

func benchAppend[T any](v T) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 2048)
		for b.Loop() {
			if _, err := Append(buf, &v); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchDecode[T any](v T) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		wire, err := Append(nil, &v)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			var out T
			if err := Decode(wire, &out); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	text := []byte(`{"id":1048576,"name":"a name","price":9.75,"tags":["x","y"],"ok":true}`)
	wire, _ := FromJSON(text)
	b.Run("FromJSON", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, _ = FromJSON(text)
		}
	})
	b.Run("AppendJSON", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			_, _ = AppendJSON(buf, wire)
		}
	})
}
