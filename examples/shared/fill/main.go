// Fill has workers paint one picture: it lies in memory that they share, each paints lines of its own into it, and
// nothing is sent but the numbers of these lines. The parent has the picture before
// it asks for it.
//
//	go run ./examples/shared/fill
package main

import (
	"context"
	"fmt"
	"os"

	"gpool"
)

const (
	width  = 64
	height = 24
	shades = " .:-=+*#%@"
)

// paint paints a line. No lock is needed, since no other worker touches this part of the array.
// View lends the memory for as long as the function runs.
var paint = gpool.Register2("paint", func(_ context.Context, picture gpool.Array[uint8], y int) (struct{}, error) {
	return struct{}{}, picture.View(func(points []uint8) {
		line := points[y*width : (y+1)*width]
		for x := range line {
			line[x] = shade(x, y)
		}
	})
})

// shade says how soon the point leaves the Mandelbrot set: 9 is never.
func shade(x, y int) uint8 {
	c := complex(float64(x)*3/width-2.2, float64(y)*2.4/height-1.2)
	z := complex(0, 0)
	for n := range 60 {
		if z = z*z + c; real(z)*real(z)+imag(z)*imag(z) > 4 {
			return uint8(min(n, len(shades)-2))
		}
	}
	return uint8(len(shades) - 1)
}

func main() { gpool.Main(run) }

func run() int {
	if err := show(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		return 1
	}
	return 0
}

func show(ctx context.Context) error {
	pool, err := gpool.New(ctx)
	if err != nil {
		return err
	}
	defer pool.Terminate()

	picture, err := gpool.NewArray[uint8](pool, width*height) // zeroed
	if err != nil {
		return err
	}
	var lines []gpool.Args2[gpool.Array[uint8], int]
	for y := range height {
		lines = append(lines, gpool.A2(picture, y))
	}
	// A call that has returned has written: Map is all that is needed to wait for the picture.
	if _, err := gpool.Map(ctx, pool, paint, lines); err != nil {
		return err
	}
	return picture.View(func(points []uint8) {
		for y := range height {
			line := make([]byte, width)
			for x, point := range points[y*width : (y+1)*width] {
				line[x] = shades[point]
			}
			fmt.Printf("|%s|\n", line)
		}
	})
}
