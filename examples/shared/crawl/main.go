// Crawl visits all pages of a site with some workers, none twice. Nobody knows beforehand how many pages
// there are, and each worker finds work for the others; so the frontier is a joinable queue, and the
// crawl has ended when every page that was put into it is done. One page kills the worker
// that visits it first: the page goes back to the queue, and nothing is lost.
//
//	go run ./examples/shared/crawl
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"gpool"
)

// site is a small web without a network. Pages lead to others.
var site = map[string][]string{
	"/":           {"/news", "/people", "/trap"},
	"/news":       {"/", "/news/2024", "/news/2025"},
	"/news/2024":  {"/news", "/people/ada"},
	"/news/2025":  {"/news", "/people/grace"},
	"/people":     {"/people/ada", "/people/grace", "/"},
	"/people/ada": {"/people", "/trap"},
	"/trap":       {"/trap/deep"},
}

// crawl is what the workers share.
type crawl struct {
	Frontier gpool.Queue[string]
	FoundOn  gpool.Dict[string, string] // page -> the page that has put it into the frontier
	Visits   gpool.Dict[string, int]
	Links    gpool.Dict[string, int] // page -> how many links it has
}

// visit takes pages until the frontier is closed. A page is not done before all that follows from it is
// in the hub; if the worker dies in between, the page is delivered again, and each step may be done twice.
var visit = gpool.Register("visit", func(ctx context.Context, c crawl) (visited int, err error) {
	for page, err := range c.Frontier.All(ctx) {
		if err != nil {
			return visited, err
		}
		if err := errors.Join(c.follow(ctx, page), c.Frontier.Done()); err != nil {
			return visited, err
		}
		visited++
	}
	return visited, nil
})

func (c crawl) follow(ctx context.Context, page string) error {
	visits, err := c.Visits.Incr(page, 1)
	if err != nil {
		return err
	}
	if page == "/trap" && visits == 1 {
		os.Exit(139) // as the shell shows a segmentation fault
	}
	for _, link := range site[page] {
		// Of all pages that lead there, one has found it first. The same page, visited
		// again after a crash, is still that one.
		by, _, err := c.FoundOn.SetDefault(link, page)
		if err == nil && by == page {
			err = c.Frontier.Put(ctx, link)
		}
		if err != nil {
			return err
		}
	}
	return c.Links.Set(page, len(site[page]))
}

func main() { gpool.Main(run) }

func run() int {
	if err := crawlSite(context.Background(), "/"); err != nil {
		fmt.Fprintln(os.Stderr, "crawl:", err)
		return 1
	}
	return 0
}

func crawlSite(ctx context.Context, start string) error {
	const workers = 3
	pool, err := gpool.New(ctx, gpool.Workers(workers))
	if err != nil {
		return err
	}
	defer pool.Terminate()

	c := crawl{
		Frontier: gpool.NewJoinableQueue[string](pool, 0), // no bound: who puts must not wait for who takes, here they are the same
		FoundOn:  gpool.NewDict[string, string](pool),
		Visits:   gpool.NewDict[string, int](pool),
		Links:    gpool.NewDict[string, int](pool),
	}
	if err := errors.Join(c.FoundOn.Set(start, ""), c.Frontier.Put(ctx, start)); err != nil {
		return err
	}
	// The call of the worker that dies is run again, so that there are as many crawlers as before. One
	// that fails for good ends them all: its page will never be done, so Join would wait for ever.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	crawlers := gpool.MapAsync(ctx, pool, visit, slices.Repeat([]crawl{c}, workers),
		gpool.Chunk(1), gpool.Retries(1), gpool.FailFast())
	crawlers.OnError(cancel)
	if err := errors.Join(c.Frontier.Join(ctx), c.Frontier.Close()); err != nil {
		return err
	}
	if _, err := crawlers.Get(ctx); err != nil {
		return err
	}
	return c.print()
}

func (c crawl) print() error {
	links, err := c.Links.Items()
	if err != nil {
		return err
	}
	visits, err := c.Visits.Map()
	if err != nil {
		return err
	}
	slices.SortFunc(links, func(a, b gpool.Item[string, int]) int { return cmp.Compare(a.Key, b.Key) })
	for _, page := range links {
		fmt.Printf("%-13s %d links, visits: %d\n", page.Key, page.Value, visits[page.Key])
	}
	return nil
}
