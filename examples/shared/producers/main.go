// Producers has weather stations and those who evaluate what they report: two workers put
// readings into a queue, two others take them out, and neither knows how many the others are.
//
//	go run ./examples/shared/producers
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gpool"
)

// reading is one item of the queue. It travels, so its fields are exported.
type reading struct {
	Station string
	Degrees int
}

// summary is what one consumer has seen.
type summary struct{ Readings, Coldest, Warmest int }

// report is a producer. Put waits while the queue is full, so a fast station cannot fill the memory
// of the hub. What Put has accepted is not lost if this process dies in the next moment.
var report = gpool.Register2("report", func(ctx context.Context, readings gpool.Queue[reading], station string) (int, error) {
	for hour := range hours {
		degrees := len(station)*3 + hour%24 - 12
		if err := readings.Put(ctx, reading{station, degrees}); err != nil {
			return hour, err
		}
	}
	return hours, nil
})

// evaluate is a consumer. All ends when the queue is closed and empty; before that it waits.
var evaluate = gpool.Register("evaluate", func(ctx context.Context, readings gpool.Queue[reading]) (summary, error) {
	var s summary
	for r, err := range readings.All(ctx) {
		if err != nil {
			return s, err
		}
		s = s.with(summary{1, r.Degrees, r.Degrees})
	}
	return s, nil
})

func (s summary) with(other summary) summary {
	if s.Readings == 0 || other.Readings == 0 {
		return summary{s.Readings + other.Readings, s.Coldest + other.Coldest, s.Warmest + other.Warmest}
	}
	return summary{s.Readings + other.Readings, min(s.Coldest, other.Coldest), max(s.Warmest, other.Warmest)}
}

const hours = 200

var stations = []string{"Uppsala", "Valencia", "Cork"}

func main() { gpool.Main(run) }

func run() int {
	if err := weather(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "producers:", err)
		return 1
	}
	return 0
}

// weather runs both sides at once. There must be a worker for each call that waits for another
// one: here consumers that took all workers would wait for producers that have none.
func weather(ctx context.Context) error {
	const consumers = 2
	pool, err := gpool.New(ctx, gpool.Workers(consumers+2))
	if err != nil {
		return err
	}
	defer pool.Terminate()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	readings := gpool.NewQueue[reading](pool, 20) // a handle: it goes to the tasks as an argument
	var sides []*gpool.Future[summary]
	for range consumers {
		side := gpool.ApplyAsync(ctx, pool, evaluate, readings)
		side.OnError(cancel) // else the producers would wait for ever for room
		sides = append(sides, side)
	}
	var calls []gpool.Args2[gpool.Queue[reading], string]
	for _, station := range stations {
		calls = append(calls, gpool.A2(readings, station))
	}
	_, err = gpool.Map(ctx, pool, report, calls, gpool.Chunk(1))
	// Only who knows that all producers have ended may close the queue. It does so after an
	// error, too: the consumers would wait for ever.
	if err := errors.Join(err, readings.Close()); err != nil {
		return err
	}
	var total summary
	for _, side := range sides {
		s, err := side.Get(ctx)
		if err != nil {
			return err
		}
		total = total.with(s)
	}
	fmt.Printf("%d readings of %d stations, from %d to %d degrees\n", total.Readings, len(stations), total.Coldest, total.Warmest)
	return nil
}
