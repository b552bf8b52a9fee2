package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gpool"
)

// taskWorker is a worker program of a user's, played by the test binary.
func taskWorker() {
	prefix := "not initialized"
	gpool.Register("echo", func(_ context.Context, v any) (any, error) { return v, nil })
	gpool.Register("upper", func(_ context.Context, s string) (string, error) { return strings.ToUpper(s), nil })
	gpool.Register("bytes", func(_ context.Context, s string) ([]byte, error) { return []byte(s), nil })
	gpool.Register("nothing", func(context.Context, string) (any, error) { return nil, nil })
	gpool.Register2("repeat", func(_ context.Context, s string, n int) (string, error) { return strings.Repeat(s, n), nil })
	gpool.Register("say", func(_ context.Context, s string) (string, error) { fmt.Println("saying", s); return s, nil })
	gpool.Register("fail", func(_ context.Context, s string) (string, error) { return "", errors.New(s) })
	gpool.Register("panic", func(_ context.Context, s string) (string, error) { panic(s) })
	gpool.Register("die", func(_ context.Context, s string) (string, error) {
		if s == "die" {
			os.Exit(9)
		}
		return s, nil
	})
	gpool.Register("sleep", func(_ context.Context, s string) (string, error) {
		d, err := time.ParseDuration(s)
		time.Sleep(d)
		return s, err
	})
	gpool.Register("open", func(context.Context, string) (any, error) { prefix = "initialized"; return nil, nil })
	gpool.Register("state", func(_ context.Context, s string) (string, error) { return prefix + " " + s, nil })
	gpool.Init()
	fmt.Println("taskworker is not started by a pool")
}

// workers is what scripts and documents need to run the workers of examples/.
var workers = exampleWorkers{examples: filepath.Join("..", "..", "examples")}

// exampleWorkers is a copy of examples/workers in a directory of the tests, and what
// was installed for it. Each language is prepared when the first test wants it.
type exampleWorkers struct {
	examples string
	dir      string // has bin, which goes to the PATH, and workers
	prepared sync.Map
}

func (w *exampleWorkers) make() (err error) {
	if w.dir, err = os.MkdirTemp("", "gpool-workers-"); err != nil {
		return err
	}
	if err := os.Mkdir(w.bin(), 0o777); err != nil {
		return err
	}
	return w.copyTo(filepath.Join(w.dir, "workers"))
}

func (w *exampleWorkers) remove() { _ = os.RemoveAll(w.dir) }

func (w *exampleWorkers) bin() string { return filepath.Join(w.dir, "bin") }

// path is the PATH with what was prepared.
func (w *exampleWorkers) path(rest string) string {
	return w.bin() + string(os.PathListSeparator) + rest
}

// copyTo copies the folder without what somebody has installed in it.
func (w *exampleWorkers) copyTo(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(w.examples, "workers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(w.examples, "workers", e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// setup gives a script the PATH, and the folder of the workers as $WORKERS.
func (w *exampleWorkers) setup(env *testscript.Env) error {
	env.Setenv("PATH", w.path(env.Getenv("PATH")))
	env.Setenv("WORKERS", filepath.Join(w.dir, "workers"))
	return nil
}

// condition is [worker:LANGUAGE]. Scripts say with skip what is missing.
func (w *exampleWorkers) condition(name string) (bool, error) {
	language, ok := strings.CutPrefix(name, "worker:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	why, err := w.missing(language)
	return why == "", err
}

// missing prepares a language and says what it lacks; empty if nothing. It is an error
// if TESTS_NEED, a list of languages that .ci/run sets, has it: a test that is
// skipped where it should have run proves nothing.
func (w *exampleWorkers) missing(language string) (string, error) {
	prepare, ok := map[string]func() error{"go": w.goTasks, "python": w.python, "javascript": w.javaScript}[language]
	if !ok {
		return "", fmt.Errorf("no test knows workers in %q", language)
	}
	once, _ := w.prepared.LoadOrStore(language, sync.OnceValue(prepare))
	err := once.(func() error)()
	if err == nil {
		return "", nil
	}
	if slices.Contains(strings.Fields(os.Getenv("TESTS_NEED")), language) {
		return "", fmt.Errorf("TESTS_NEED names %s: %w", language, err)
	}
	return err.Error(), nil
}

// goTasks builds examples/tasks.
func (w *exampleWorkers) goTasks() error {
	return runTool("go", "build", "-o", filepath.Join(w.bin(), "tasks"), filepath.Join(w.examples, "tasks"))
}

// python finds a python3 with msgpack: Debian's package is for Debian's own.
func (w *exampleWorkers) python() error {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import msgpack").Run() == nil {
			return os.Symlink(path, filepath.Join(w.bin(), "python3"))
		}
	}
	return errors.New("there is no python3 with the module msgpack: apt-get install python3-msgpack, or pip install msgpack")
}

// javaScript installs what package.json names.
func (w *exampleWorkers) javaScript() error {
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("there is no %s: apt-get install nodejs npm", name)
		}
	}
	return runTool("npm", "install", "--prefix", filepath.Join(w.dir, "workers"), "--no-package-lock", "--no-audit", "--no-fund")
}

// runTool runs a program; its error has what the program has said.
func runTool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
