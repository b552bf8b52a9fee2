// Thumbnails makes small pictures of large ones, in the 216 colours that are safe
// everywhere. To find the nearest of them for each of 16 million colours it needs a
// table that takes a while to make: the initializer makes it once in each worker, and
// not once for each picture.
//
//	go run ./examples/thumbnails
package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/png"
	"os"

	"gpool"
)

// nearest is the table, by the upper 5 bits of red, green and blue. Each worker has its
// own; it is written by the initializer alone, before the first picture.
var nearest []uint8

var makeTable = gpool.Register("make-table", func(context.Context, struct{}) (struct{}, error) {
	nearest = make([]uint8, 1<<15)
	web := color.Palette(palette.WebSafe)
	for i := range nearest {
		c := color.RGBA{uint8(i>>10) << 3, uint8(i>>5&31) << 3, uint8(i&31) << 3, 255}
		nearest[i] = uint8(web.Index(c))
	}
	return struct{}{}, nil
})

// shrink gets a picture as PNG and the width of the small one, whose PNG it returns.
var shrink = gpool.Register2("shrink", func(_ context.Context, picture []byte, width int) ([]byte, error) {
	large, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil, fmt.Errorf("read a picture of %d bytes: %w", len(picture), err)
	}
	from := large.Bounds()
	small := image.NewPaletted(image.Rect(0, 0, width, from.Dy()*width/from.Dx()), palette.WebSafe)
	for y := range small.Rect.Dy() {
		for x := range width {
			r, g, b, _ := large.At(from.Min.X+x*from.Dx()/width, from.Min.Y+y*from.Dy()/small.Rect.Dy()).RGBA()
			small.SetColorIndex(x, y, nearest[r>>11<<10|g>>11<<5|b>>11])
		}
	}
	var out bytes.Buffer
	err = png.Encode(&out, small)
	return out.Bytes(), err
})

func main() { gpool.Main(run) }

func run() int {
	ctx := context.Background()
	pool, err := gpool.New(ctx, gpool.Initializer(makeTable, struct{}{}))
	if err != nil {
		fmt.Fprintln(os.Stderr, "thumbnails:", err)
		return 1
	}
	defer pool.Terminate()

	// Pictures are made as workers take them: a few are in memory, and not all.
	pictures := func(yield func(gpool.Args2[[]byte, int], error) bool) {
		for i := range 12 {
			picture, err := paint(i)
			if !yield(gpool.A2(picture, 64), err) || err != nil {
				return
			}
		}
	}
	i, code := 0, 0
	for small, err := range gpool.IMap(ctx, pool, shrink, pictures) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "thumbnails: picture %d: %v\n", i, err)
			code = 1
		} else {
			fmt.Printf("picture %2d: %s\n", i, size(small))
		}
		i++
	}
	return code
}

func size(picture []byte) string {
	config, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d x %d", config.Width, config.Height)
}

// paint makes a picture, in place of the files that a real program would read. The
// eighth is broken.
func paint(n int) ([]byte, error) {
	if n == 7 {
		return []byte("no picture"), nil
	}
	m := image.NewRGBA(image.Rect(0, 0, 320, 200+20*(n%3)))
	for y := range m.Rect.Dy() {
		for x := range m.Rect.Dx() {
			h := crc32.ChecksumIEEE([]byte{byte(x / 16), byte(y / 16), byte(n)})
			m.SetRGBA(x, y, color.RGBA{byte(h), byte(h >> 8), byte(h >> 16), 255})
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, m)
	return out.Bytes(), err
}
