package gpool_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "gpool"

// room says what one package may import, besides the standard library. Whatever is
// not named is refused, so that a new import is a decision and not an accident.
type room struct {
	ours   []string // packages of this module, without its name
	theirs []string // modules of others
	why    string   // told when somebody wants more
}

// rooms holds every package of the module, by its folder. Tests may import what they
// like: a test may hold both halves of gpool.
var rooms = map[string]room{
	".": {
		ours: []string{"internal/worker", "internal/blackbox", "internal/session", "internal/value", "internal/ipc", "internal/pool/admit",
			"internal/pool", "internal/pool/launch", "internal/memory", "internal/pool/hub", "internal/pool/hub/wire"},
		why: "the library's front door holds both halves, and nothing of the command line",
	},
	"cmd/gpool": {
		ours: []string{".", "internal/command", "internal/input", "internal/ipc", "internal/pool",
			"internal/pool/admit", "internal/pool/daemon", "internal/pool/daemon/wire", "internal/pool/hub", "internal/pool/hub/wire", "internal/pool/joblog", "internal/pool/launch", "internal/pool/report",
			"internal/shelf", "internal/value"},
		theirs: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"},
		why:    "the command is a customer: it decides nothing that a pool could decide, and reaches the worker through package gpool only",
	},
	"examples/tasks": {
		ours: []string{"."},
		why:  "an example has what a program of a user's has",
	},
	"bench": {
		ours: []string{".", "internal/input", "internal/ipc", "internal/pool", "internal/pool/launch", "internal/worker"},
		why:  "it measures the parts and plays both processes, so it uses them and nothing else",
	},
	"internal/ipc": {
		theirs: []string{"github.com/vmihailenco/msgpack/v5"},
		why:    "both processes speak through it, so it imports nothing of ours",
	},
	"internal/value": {
		ours:   []string{"internal/ipc"},
		theirs: []string{"github.com/vmihailenco/msgpack/v5"},
		why:    "it encodes the values of users, in both processes; it knows nothing of calls",
	},
	"internal/blackbox": {
		ours:   []string{"internal/unnamed"},
		theirs: []string{"golang.org/x/sys"},
		why:    "both processes hold an end of it, and it depends on the system alone",
	},
	"internal/unnamed": {
		theirs: []string{"golang.org/x/sys"},
		why:    "it makes files that have no name, and knows nothing of what is in them",
	},
	"internal/rawpipe": {
		theirs: []string{"golang.org/x/sys"},
		why:    "both processes hold an end of the pipes, whatever passes through them",
	},
	"internal/memory": {
		ours:   []string{"internal/unnamed"},
		theirs: []string{"golang.org/x/sys"},
		why:    "every process maps it, so it knows nothing of hubs",
	},
	"internal/peer": {
		theirs: []string{"golang.org/x/sys"},
		why:    "it asks the system who is at the other end, for whoever has one",
	},
	"internal/command": {
		ours: []string{"internal/ipc"},
		why:  "it is pure, because both processes render templates: no I/O, no environment, no clock",
	},
	"internal/session": {
		theirs: []string{"golang.org/x/sys"},
		why:    "both processes use it on bad days, so it depends on the system alone",
	},
	"internal/input": {
		ours: []string{"internal/command"},
		why:  "it makes rows of bytes and knows nothing of pools",
	},
	"internal/shelf": {
		theirs: []string{"golang.org/x/sys"},
		why:    "it keeps bytes and knows nothing of calls",
	},
	"internal/pool": {
		ours:   []string{"internal/ipc", "internal/shelf"},
		theirs: []string{"golang.org/x/sys"}, // the names of signals
		why:    "it sees a Launcher, a Source, a Consumer and a func(Event), never its annexes: add an interface here, and implement it in the annex",
	},
	"internal/pool/launch": {
		ours:   []string{"internal/pool", "internal/ipc", "internal/session", "internal/blackbox", "internal/rawpipe"},
		theirs: []string{"golang.org/x/sys"},
		why:    "an annex of the pool imports the pool, the frames and what ends processes",
	},
	"internal/pool/report": {
		ours:   []string{"internal/ipc"},
		theirs: []string{"github.com/schollz/progressbar/v3", "golang.org/x/sys", "golang.org/x/term"},
		why:    "it tells of calls in words of its own, and knows neither the pool nor what calls do; only this one draws",
	},
	"internal/pool/joblog": {
		theirs: []string{"golang.org/x/sys"},
		why:    "it knows rows and what is done, and nothing of pools",
	},
	"internal/pool/daemon": {
		ours: []string{"internal/command", "internal/ipc", "internal/pool", "internal/pool/daemon/journal", "internal/pool/daemon/wire",
			"internal/pool/hub", "internal/pool/hub/wire", "internal/pool/launch", "internal/value"},
		why: "it is a customer of pools, as cmd/gpool is: it hands them calls, and keeps what they print",
	},
	"internal/pool/daemon/journal": {
		why: "it keeps records, and knows nothing of what is in them",
	},
	"internal/pool/daemon/wire": {
		ours:   []string{"internal/ipc", "internal/peer", "internal/value"},
		theirs: []string{"golang.org/x/sys"},
		why:    "server and clients share it, so it knows neither pools nor commands",
	},
	"internal/pool/hub": {
		ours: []string{"internal/ipc", "internal/memory", "internal/pool/hub/wire", "internal/value"},
		why:  "it is memory and decisions: who speaks with it, and over what, is the business of others",
	},
	"internal/pool/hub/wire": {
		ours:   []string{"internal/ipc", "internal/peer", "internal/value"},
		theirs: []string{"golang.org/x/sys"},
		why:    "members of both processes share it, so it sees a Hub, and no pool",
	},
	"internal/pool/admit": {
		theirs: []string{"golang.org/x/sys"},
		why:    "it knows the machine and make, and is a pool.Gate without importing the pool",
	},
	"internal/worker": {
		ours:   []string{"internal/ipc", "internal/command", "internal/session", "internal/blackbox", "internal/rawpipe"},
		theirs: []string{"golang.org/x/sys", "golang.org/x/term"},
		why:    "it runs in the other process: what both need goes to a room of both",
	},
}

// example is the room of every program in examples: a user has the front door only.
var example = room{ours: []string{"."}, why: "an example shows what a user can do, who cannot import internal packages"}

// linked is what a program that imports package gpool may link of others. Whoever
// uses the library should not pay for flags and bars.
var linked = []string{
	"github.com/vmihailenco/msgpack/v5", "github.com/vmihailenco/tagparser/v2", "golang.org/x/sys", "golang.org/x/term",
}

// TestLayers holds every import of every file, for all systems, against the rooms.
func TestLayers(t *testing.T) {
	found := imports(t)
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		r, ok := rooms[dir]
		if strings.HasPrefix(dir, "examples/") {
			r, ok = example, true
		}
		if !ok {
			t.Errorf("the package in %s has no rule: give it one in rooms (layers_test.go) and a line in docs/architecture.md, or move it to a room that is there", dir)
			continue
		}
		for _, use := range found[dir] {
			if !r.allows(use.path) {
				t.Errorf("%s imports %s, which the room %s may not: %s.\nMove the code to a room that may, or, if the picture itself has changed, change rooms (layers_test.go) and docs/architecture.md together",
					use.at, use.path, dir, r.why)
			}
		}
	}
	for dir := range rooms {
		if _, ok := found[dir]; !ok {
			t.Errorf("rooms (layers_test.go) has a rule for %s, where there is no package: take it out, there and in docs/architecture.md", dir)
		}
	}
}

func (r room) allows(name string) bool {
	if dir, ok := own(name); ok {
		return slices.Contains(r.ours, dir)
	}
	return slices.ContainsFunc(r.theirs, func(m string) bool { return name == m || strings.HasPrefix(name, m+"/") })
}

// TestRooms holds the rules themselves against the picture, so that they cannot be
// loosened by mistake.
func TestRooms(t *testing.T) {
	isPool := func(dir string) bool { return dir == "internal/pool" || strings.HasPrefix(dir, "internal/pool/") }
	for dir, r := range rooms {
		reached := reach(dir)
		switch {
		case dir == "internal/worker" && slices.ContainsFunc(reached, isPool):
			t.Errorf("the rules let internal/worker reach the pool (%v): they are halves of two processes", reached)
		case isPool(dir) && slices.Contains(reached, "internal/worker"):
			t.Errorf("the rules let %s reach internal/worker (%v): they are halves of two processes", dir, reached)
		case dir == "internal/pool" && slices.ContainsFunc(reached, func(d string) bool { return strings.HasPrefix(d, "internal/pool/") }):
			t.Errorf("the rules let internal/pool reach its annexes (%v): it sees them as interfaces", reached)
		case dir == "internal/ipc" && len(r.ours) > 0:
			t.Errorf("the rules let internal/ipc import %v: it imports nothing of ours", r.ours)
		}
		for lib, homes := range map[string][]string{
			"github.com/vmihailenco/msgpack/v5": {"internal/ipc", "internal/value"},
			"github.com/spf13/cobra":            {"cmd/gpool"},
			"github.com/schollz/progressbar/v3": {"internal/pool/report"},
		} {
			if !slices.Contains(homes, dir) && slices.Contains(r.theirs, lib) {
				t.Errorf("the rules let %s import %s: only %v may", dir, lib, homes)
			}
		}
	}
}

// reach returns all rooms that the rules let dir import, also through others.
func reach(dir string) []string {
	seen := []string{dir}
	for i := 0; i < len(seen); i++ {
		for _, next := range rooms[seen[i]].ours {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
			}
		}
	}
	return seen[1:]
}

// TestLinked asks the go command what a user of package gpool links.
func TestLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", ".")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask the go command what package %s links: %v\n%s", module, err, errs.Bytes())
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	for _, m := range slices.Compact(modules) {
		if !slices.Contains(linked, m) {
			t.Errorf("a program that imports package %s would link %s: find the import with go mod why -m %s, and move it to cmd/gpool or internal/pool/report, or add it to linked (layers_test.go) with a reason in docs/architecture.md", module, m, m)
		}
	}
}

// use is one import of a package that is not of the standard library.
type use struct {
	path string
	at   token.Position
}

// imports reads the imports of all files but tests, by the folder of their package.
// It reads them itself, because the go command shows those of one system only.
func imports(t *testing.T) map[string][]use {
	t.Helper()
	found := map[string][]use{}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		list, err := fileImports(files, name)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(name))
		found[dir] = append(found[dir], list...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func fileImports(files *token.FileSet, name string) ([]use, error) {
	file, err := parser.ParseFile(files, name, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var list []use
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files.Position(spec.Pos()), err)
		}
		if _, ours := own(imported); ours || !isStandard(imported) {
			list = append(list, use{imported, files.Position(spec.Pos())})
		}
	}
	return list, nil
}

// own cuts the module's name off a package of ours.
func own(name string) (dir string, ok bool) {
	if name == module {
		return ".", true
	}
	return strings.CutPrefix(name, module+"/")
}

// isStandard tells the standard library by its first element, which has no dot.
func isStandard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}
