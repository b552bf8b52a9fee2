package main

import (
	"fmt"
	"os"

	"gpool/internal/pool/hub"
	"gpool/internal/pool/hub/wire"
)

// hubVariable tells commands where the hub is that they share with others.
const hubVariable = "GPOOL_HUB"

// openHub makes the hub of a run, which everything that the run starts finds by its environment. A run that finds one there itself
// passes it on: what runs within a run shares with it, and what was started under a manager with that. The function that is returned ends
// the hub; it is never nil.
func openHub() (end func(), err error) {
	end = func() {}
	if given := os.Getenv(hubVariable); given != "" {
		return end, os.Setenv(hubVariable, absolute(given)) // commands may run in other directories
	}
	address, err := wire.Fresh()
	if err != nil {
		return end, err
	}
	l, err := wire.Listen(address)
	if err != nil {
		return end, fmt.Errorf("listen for what runs: %w", err)
	}
	h := hub.New()
	door := &wire.Server{Hub: h, Memory: h.SharedFile}
	doneC := make(chan struct{})
	go func() { // ends with the function that is returned
		defer close(doneC)
		_ = door.Serve(l)
	}()
	if err := os.Setenv(hubVariable, string(address)); err != nil {
		return end, err
	}
	return func() {
		h.End()
		door.Close()
		<-doneC
		_ = os.Unsetenv(hubVariable)
	}, nil
}
