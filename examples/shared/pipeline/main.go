// Pipeline has two stages that hand pieces on in boxes: the first puts finished pieces on a table,
// the second takes them away as soon as there are four, or when no more will come. What
// each waits for is not "something is there", as with a queue, but a question about several
// objects: that is what a condition is for.
//
//	go run ./examples/shared/pipeline
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gpool"
)

// bench is what the stages share. All of it is looked at and changed with the lock of Changed held.
type bench struct {
	Changed gpool.Cond
	Table   gpool.List[string]
	Over    gpool.Event // no more pieces come
}

const (
	boxful = 4
	room   = 6 // pieces that fit on the table
)

var first = gpool.Register2("first", func(ctx context.Context, b bench, pieces []string) (int, error) {
	for i, piece := range pieces {
		piece = strings.ToUpper(piece) // the work is done without the lock
		err := b.locked(ctx, func() error {
			if err := b.wait(ctx, func() (bool, error) { n, err := b.Table.Len(); return n < room, err }); err != nil {
				return err
			}
			_, err := b.Table.Append(piece)
			return err
		})
		if err != nil {
			return i, err
		}
	}
	return len(pieces), b.locked(ctx, b.Over.Set)
})

var second = gpool.Register("second", func(ctx context.Context, b bench) (boxes []string, err error) {
	for over := false; !over && err == nil; {
		var box []string
		err = b.locked(ctx, func() error {
			err := b.wait(ctx, func() (bool, error) {
				n, err := b.Table.Len()
				if err == nil {
					over, err = b.Over.IsSet()
				}
				return n >= boxful || over, err
			})
			if err == nil {
				box, err = b.take()
			}
			over = over && len(box) < boxful
			return err
		})
		if len(box) > 0 {
			boxes = append(boxes, strings.Join(box, " "))
		}
	}
	return boxes, err
})

// take takes a box full, or what is there. Nobody comes between the two steps: it has the lock.
func (b bench) take() (box []string, err error) {
	if box, err = b.Table.Slice(0, boxful); err != nil {
		return nil, err
	}
	for range box {
		if _, err := b.Table.Pop(0); err != nil {
			return nil, err
		}
	}
	return box, nil
}

// locked does something with the lock held, and tells the other stage that it may look again.
func (b bench) locked(ctx context.Context, do func() error) error {
	if err := b.Changed.Lock(ctx); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, b.Changed.NotifyAll(ctx), b.Changed.Unlock(ctx))
}

// wait waits until a question is answered with yes, and gives the lock up meanwhile. An answer that
// cannot be had ends it too.
func (b bench) wait(ctx context.Context, ask func() (bool, error)) error {
	var failed error
	err := b.Changed.WaitFor(ctx, func() (yes bool) {
		yes, failed = ask()
		return yes || failed != nil
	})
	return errors.Join(err, failed)
}

func main() { gpool.Main(run) }

func run() int {
	if err := produce(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pipeline:", err)
		return 1
	}
	return 0
}

func produce(ctx context.Context) error {
	pool, err := gpool.New(ctx, gpool.Workers(2)) // one for each stage: they wait for each other
	if err != nil {
		return err
	}
	defer pool.Terminate()

	b := bench{
		Changed: gpool.NewCond(pool, gpool.NewLock(pool)),
		Table:   gpool.NewList[string](pool),
		Over:    gpool.NewEvent(pool),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pieces := strings.Fields("axle bolt cam dowel elbow flange gear hinge ingot jack key lever mount nut")
	packing := gpool.ApplyAsync(ctx, pool, second, b)
	packing.OnError(cancel) // if one stage fails, the other must not wait for it
	made, err := gpool.Apply(ctx, pool, first, gpool.A2(b, pieces))
	if err != nil {
		return err
	}
	boxes, err := packing.Get(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d pieces in %d boxes\n", made, len(boxes))
	for i, box := range boxes {
		fmt.Printf("box %d: %s\n", i+1, box)
	}
	return nil
}
