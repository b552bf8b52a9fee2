package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gpool/internal/command"
	"gpool/internal/pool/launch"
)

// surroundings are where a call runs: the zero value is where gpool runs.
type surroundings struct {
	env []string // KEY=VALUE, added to the environment of gpool
	dir string   // an absolute path, or empty
}

// own reports whether they are those of gpool.
func (s surroundings) own() bool { return len(s.env) == 0 && s.dir == "" }

// program finds what will be executed, so that a slip is found before a call runs: as the
// call sees it, from its directory and by its PATH.
func (s surroundings) program(what, name string) (string, error) {
	path, err := s.lookPath(name)
	if err == nil {
		return path, nil
	}
	if lookup, ok := errors.AsType[*exec.Error](err); ok {
		err = lookup.Err
	}
	if errors.Is(err, exec.ErrNotFound) && name == "" {
		err = errors.New("the name is empty")
	}
	return "", &programError{what, name, err}
}

func (s surroundings) lookPath(name string) (string, error) {
	list, given := s.value("PATH")
	switch {
	case strings.Contains(name, "/"):
		_, err := exec.LookPath(s.from(name))
		return name, err // it is executed from there, and finds the name by which it was called
	case !given || name == "":
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(list) {
		path := s.from(filepath.Join(dir, name))
		if !filepath.IsAbs(path) { // as exec.LookPath, which takes no program from just anywhere
			continue
		}
		if path, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// from is a path as it is seen from the directory.
func (s surroundings) from(path string) string {
	if s.dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.dir, path)
}

// value is that of a variable that was added.
func (s surroundings) value(name string) (value string, given bool) {
	for _, kv := range s.env {
		if value, given = strings.CutPrefix(kv, name+"="); given {
			break
		}
	}
	return value, given
}

// before puts before a command what a shell needs to run it there.
func (s surroundings) before(text string) string {
	if len(s.env) > 0 {
		text = "env " + command.QuoteArgv(s.env) + " " + text
	}
	if s.dir != "" {
		text = "cd " + command.Quote(s.dir) + " && " + text
	}
	return text
}

// chdir is the value of --chdir.
func chdir(text string) (string, error) {
	info, err := os.Stat(text)
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return "", path.Err
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", errors.New("it is no directory")
	}
	return filepath.Abs(text)
}

// addEnv adds a value of --env, in place of an earlier one for the same name.
func (s *surroundings) addEnv(text string) error {
	name, _, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("a name, = and a value are needed: LANG=C")
	}
	s.env = launch.With(s.env, []string{text})
	return nil
}

// programError says that what would be executed is not there, or cannot be.
type programError struct {
	what, name string
	err        error
}

func (e *programError) Error() string {
	return fmt.Sprintf("%s %q cannot be run: %v", e.what, e.name, e.err)
}

func (e *programError) Unwrap() error { return e.err }

// exitCode is what shells make of it.
func (e *programError) exitCode() int {
	if errors.Is(e.err, exec.ErrNotFound) || errors.Is(e.err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotExecutable
}
