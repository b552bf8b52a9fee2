package launch

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// Variables that tell a program that it has been started as a worker, and what it has.
// A program that makes workers of itself takes the first three away from what it starts
// in turn; docs/protocol.md tells the others.
const (
	ModeVar  = "GPOOL_WORKER" // how it should serve: ServeMode
	BoxVar   = "GPOOL_BOX"    // the descriptor of its black box
	ProcsVar = "GPOOL_PROCS"  // how many of its threads may run Go code at once
	DepthVar = "GPOOL_DEPTH"  // how many pools are around it
)

// ServeMode serves calls on stdin and stdout.
const ServeMode = "serve"

// Program says how to start workers that are programs of a user's.
type Program struct {
	Path  string
	Args  []string // without the name
	Env   []string // added to its environment
	Dir   string
	Procs int // 0 says nothing

	Environ []string // what its environment begins with; nil is this process's own
}

// Launcher starts workers of the program.
func (p Program) Launcher() *Local {
	env := append(p.Env[:len(p.Env):len(p.Env)], ModeVar+"="+ServeMode, BoxVar+"="+strconv.Itoa(BoxFD), DepthVar+"="+strconv.Itoa(Depth()+1))
	if p.Procs > 0 {
		env = append(env, ProcsVar+"="+strconv.Itoa(p.Procs))
	}
	environ := p.Environ
	if environ == nil {
		environ = os.Environ()
	}
	return &Local{Path: p.Path, Args: p.Args, Dir: p.Dir, Box: true, Env: With(environ, env)}
}

// With adds variables to an environment, in place of those of the same name: a program
// that finds one twice may take the first. Of two additions the later one counts.
func With(environ, added []string) []string {
	byName := map[string]bool{}
	var last []string
	for _, kv := range slices.Backward(added) {
		if name, _, _ := strings.Cut(kv, "="); !byName[name] {
			byName[name] = true
			last = append(last, kv)
		}
	}
	slices.Reverse(last)
	kept := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return byName[name]
	})
	return append(kept, last...)
}

// Depth is how many pools are around this process: 0 in a program that a person
// started.
func Depth() int {
	n, err := strconv.Atoi(os.Getenv(DepthVar))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
