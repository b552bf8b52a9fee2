// Scraper fetches pages and reads them with a parser that is not to be trusted: on some
// pages it crashes the process, on some it never ends, and some pages come only at the
// second attempt. None of that ends the program, and it says at the end what became of
// each page. Which failures are worth another attempt is for the program to decide:
// gpool runs a call again only where it is told to.
//
//	go run ./examples/scraper
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"gpool"
)

// page is what is known of a page. It travels, so its fields are exported.
type page struct {
	URL     string
	Title   string
	Links   int
	Attempt int
}

// errBusy is for pages that may be there at another time. It is found in the parent by
// errors.Is, as if there were no process between.
var errBusy = errors.New("the server is busy")

var fetch = gpool.Register("fetch", func(ctx context.Context, url string) (page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return page{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return page{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return page{}, fmt.Errorf("status %d: %w", response.StatusCode, errBusy)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return page{}, err
	}
	p := parse(url, string(text))
	if call, ok := gpool.Info(ctx); ok {
		p.Attempt = call.Attempt
	}
	return p, nil
})

// parse stands for a library with bugs.
func parse(url, text string) page {
	switch {
	case strings.Contains(text, "<crash>"):
		os.Exit(139) // as the shell shows a segmentation fault
	case strings.Contains(text, "<endless>"):
		for {
		}
	case strings.Contains(text, "<panic>"):
		panic("unexpected tag <panic>")
	}
	_, title, _ := strings.Cut(text, "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	return page{URL: url, Title: title, Links: strings.Count(text, "<a ")}
}

// retries is how many times a page is asked for again.
const retries = 2

func main() { gpool.Main(run) }

func run() int {
	ctx := context.Background()
	site, stop, err := serve()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scraper:", err)
		return 1
	}
	defer stop()
	pool, err := gpool.New(ctx, gpool.Workers(4), gpool.HardLimit(500*time.Millisecond))
	if err != nil {
		fmt.Fprintln(os.Stderr, "scraper:", err)
		return 1
	}
	defer pool.Terminate()

	var urls []string
	for i := range 20 {
		urls = append(urls, fmt.Sprintf("%s/page/%d", site, i))
	}
	i := 0
	busy := gpool.RetryIf(func(err error) bool { return errors.Is(err, errBusy) })
	for p, err := range gpool.IMap(ctx, pool, fetch, urls, gpool.Retries(retries), gpool.Backoff(time.Millisecond, time.Second), busy) {
		fmt.Printf("page %2d: %s\n", i, becameOf(p, err))
		i++
	}
	s := pool.Stats()
	fmt.Printf("%d workers died, %d calls ran out of time\n", s.Deaths, s.TimedOut)
	return 0
}

// becameOf says what became of a page.
func becameOf(p page, err error) string {
	var died *gpool.WorkerDiedError
	var late *gpool.TimeoutError
	var panicked *gpool.PanicError
	switch {
	case err == nil:
		return fmt.Sprintf("%q, %d links, attempt %d", p.Title, p.Links, p.Attempt)
	case errors.As(err, &died):
		return fmt.Sprintf("the parser crashed (exit status %d)", died.ExitCode)
	case errors.As(err, &late):
		return fmt.Sprintf("the parser did not end within %v", late.Limit)
	case errors.As(err, &panicked):
		return "the parser panicked: " + panicked.Value
	}
	return fmt.Sprintf("given up after %d attempts", retries+1)
}

// serve is the site, in place of the world.
func serve() (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var mu sync.Mutex
	visits := map[string]int{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		visits[r.URL.Path]++
		visit := visits[r.URL.Path]
		mu.Unlock()
		n := 0
		_, _ = fmt.Sscanf(r.URL.Path, "/page/%d", &n)
		switch {
		case n == 3:
			fmt.Fprint(w, "<crash>")
		case n == 8:
			fmt.Fprint(w, "<endless>")
		case n == 11:
			fmt.Fprint(w, "<panic>")
		case n == 17, n%6 == 5 && visit < 2: // the one never, others at the second visit
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprintf(w, "<title>Page %d</title>%s", n, strings.Repeat("<a href=/>", n))
		}
	})}
	go server.Serve(listener) // ends with the program, or when it is closed
	return "http://" + listener.Addr().String(), func() { server.Close() }, nil
}
