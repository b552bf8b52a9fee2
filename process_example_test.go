package gpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gpool"
)

var greet = gpool.Register2("example-greet", func(_ context.Context, greeting, name string) (int, error) {
	fmt.Printf("%s, %s! I am %s.\n", greeting, name, gpool.Current().Name)
	return 0, nil
})

// A process runs one task, and prints where this one does. Programs call [gpool.Init]
// first in main; here TestMain has done that.
func ExampleProcess() {
	p := gpool.NewProcess(greet, gpool.A2("Hello", "world"), gpool.ProcessName("the greeter"))
	if err := p.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if err := p.Join(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	code, _ := p.ExitCode()
	fmt.Println("exit code", code)
	// Output:
	// Hello, world! I am the greeter.
	// exit code 0
}

var lookUp = gpool.Register("example-look-up", func(_ context.Context, path string) (int, error) {
	if _, err := os.Stat(path); err != nil {
		return 0, gpool.ExitStatus(4)
	}
	return 0, nil
})

// A task chooses its exit code, as sys.exit does in Python.
func ExampleExitStatus() {
	p := gpool.NewProcess(lookUp, "no/such/file")
	if err := p.Start(); err != nil {
		fmt.Println(err)
		return
	}
	<-p.Done()
	fmt.Println(p.ExitCode())
	// Output: 4 true
}

var forever = gpool.Register("example-forever", func(ctx context.Context, _ int) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
})

// Join gives up waiting when its context ends; the process goes on until it is ended.
func ExampleProcess_Terminate() {
	p := gpool.NewProcess(forever, 0)
	if err := p.Start(); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err := p.Join(ctx)
	fmt.Println(errors.Is(err, context.DeadlineExceeded), p.Alive(), len(gpool.ActiveChildren()))

	if err := p.Terminate(); err != nil {
		fmt.Println(err)
		return
	}
	<-p.Done()
	code, _ := p.ExitCode()
	fmt.Println(code, p.Alive(), len(gpool.ActiveChildren()))
	// Output:
	// true true 1
	// -15 false 0
}
