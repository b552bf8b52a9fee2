package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// An example is one command of a ```console block and what it prints.
type example struct {
	command string
	output  []string
}

// block is the examples that run one after the other in the same directory.
type block struct {
	line     int // where it begins in its file
	examples []example
}

// TestDocumentsRun runs every console block of the documents, as a reader would paste it:
// with a copy of examples/workers, that of its own README within.
// Documents without one are fine, but for the README.
func TestDocumentsRun(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	workersReadme := "../../examples/workers/README.md"
	for _, file := range append([]string{"../../README.md", "../../CHANGELOG.md", workersReadme}, files...) {
		t.Run(strings.TrimPrefix(file, "../../"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := consoleBlocks(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if len(blocks) == 0 && filepath.Base(file) == "README.md" {
				t.Fatal("there is no ```console block: the README promises nothing that a test holds it to")
			}
			for _, b := range blocks {
				t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
					t.Parallel()
					b.skipWithout(t)
					dir := t.TempDir()
					workersDir := filepath.Join(dir, "examples", "workers")
					if err := workers.copyTo(workersDir); err != nil {
						t.Fatal(err)
					}
					if file == workersReadme {
						dir = workersDir
					}
					if err := b.run(dir); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// consoleBlocks finds the blocks of a Markdown text. "$ " begins a command, which goes on
// on the next line, behind "> ", if a line ends with a backslash or a quote is open.
func consoleBlocks(text string) (blocks []block, err error) {
	var b *block
	for i, line := range strings.Split(text, "\n") {
		switch {
		case b == nil && strings.TrimSpace(line) == "```console":
			b = &block{line: i + 1}
		case b == nil:
		case strings.TrimSpace(line) == "```":
			if len(b.examples) == 0 {
				return nil, fmt.Errorf("line %d: the console block has no command: begin one with $", b.line)
			}
			blocks = append(blocks, *b)
			b = nil
		case strings.HasPrefix(line, "$ "):
			b.examples = append(b.examples, example{command: line[2:]})
		case len(b.examples) == 0:
			return nil, fmt.Errorf("line %d: output without a command: begin one with $", i+1)
		default:
			e := &b.examples[len(b.examples)-1]
			if more, ok := strings.CutPrefix(line, "> "); ok && e.output == nil {
				e.command += "\n" + more
				continue
			}
			e.output = append(e.output, line)
		}
	}
	if b != nil {
		return nil, fmt.Errorf("line %d: the console block has no end", b.line)
	}
	return blocks, nil
}

// skipWithout skips a block whose commands use a language that is not here.
func (b block) skipWithout(t *testing.T) {
	for program, language := range map[string]string{"python3": "python", "node": "javascript"} {
		uses := func(e example) bool { return slices.Contains(strings.Fields(e.command), program) }
		if !slices.ContainsFunc(b.examples, uses) {
			continue
		}
		if why, err := workers.missing(language); err != nil {
			t.Fatal(err)
		} else if why != "" {
			t.Skip(why)
		}
	}
}

// run runs the commands of a block in dir and compares what they print.
func (b block) run(dir string) error {
	runtime, err := os.MkdirTemp("", "gp") // t.TempDir is too long for a socket
	if err != nil {
		return err
	}
	env := append(os.Environ(), "PATH="+workers.path(os.Getenv("PATH")),
		"XDG_RUNTIME_DIR="+runtime, "GPOOL_SPOOL="+filepath.Join(runtime, "spool"), "GPOOL_POOL=")
	defer endPools(runtime, env)
	for _, e := range b.examples {
		var out, errs bytes.Buffer
		cmd := exec.Command("sh", "-c", e.command)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &out, &errs, 10*time.Second
		cmd.Env = env
		// Examples may show how something fails.
		if err := cmd.Run(); err != nil {
			if _, ok := errors.AsType[*exec.ExitError](err); !ok {
				return fmt.Errorf("$ %s: %w", e.command, err)
			}
		}
		if !matches(e.output, linesOf(out.String()), linesOf(errs.String())) {
			return fmt.Errorf("$ %s\nprints\n%sand on stderr\n%sinstead of\n%s",
				e.command, &out, &errs, strings.Join(e.output, "\n"))
		}
	}
	return nil
}

// endPools ends the background pools that a block has left running, and removes their folder.
func endPools(runtime string, env []string) {
	sockets, _ := filepath.Glob(filepath.Join(runtime, "gpool", "*.sock"))
	for _, socket := range sockets {
		cmd := exec.Command("gpool", "pool", "terminate", "--pool", strings.TrimSuffix(filepath.Base(socket), ".sock"))
		cmd.Env = env
		_ = cmd.Run() // it may have ended meanwhile
	}
	_ = os.RemoveAll(runtime)
}

func linesOf(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// matches reports whether the lines of both streams, each in its order, can make up what
// a document shows: which stream is first on a terminal is a matter of luck. "..." stands
// for any number of lines, and at the end of a line for its rest.
func matches(want, out, errs []string) bool {
	if len(want) == 0 {
		return len(out) == 0 && len(errs) == 0
	}
	free, rest := want[0] == "...", want[1:]
	if free {
		if matches(rest, out, errs) {
			return true
		}
		rest = want
	}
	return len(out) > 0 && (free || matchesLine(want[0], out[0])) && matches(rest, out[1:], errs) ||
		len(errs) > 0 && (free || matchesLine(want[0], errs[0])) && matches(rest, out, errs[1:])
}

func matchesLine(want, got string) bool {
	begin, open := strings.CutSuffix(want, "...")
	return got == want || open && strings.HasPrefix(got, begin)
}

const sample = "# T\n" +
	"```sh\n$ not this one\n```\n" +
	"```console\n$ seq 2 | gpool map -- echo {}\n1\n2\n$ touch f\n$ ls; seq 9 | \\\n>   gpool map echo\nf\n1\n...\n9\n```\n" +
	"```console\n$ ls\n$ gpool map false ::: x; echo $?\n1\ngpool: call 1 (x): exit status 1\n...\n```\n"

func TestConsoleBlocks(t *testing.T) {
	blocks, err := consoleBlocks(sample)
	if err != nil || len(blocks) != 2 || blocks[0].line != 5 || len(blocks[0].examples) != 3 {
		t.Fatalf("got %+v, error %v", blocks, err)
	}
	for _, b := range blocks {
		if err := b.run(t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	// A runner that cannot fail would prove nothing.
	for _, bad := range []string{"$ echo a\nb", "$ echo a", "$ true\na", "$ seq 3\n1\n...\n2", "$ seq 3\n2\n...", "$ gpool map echo ::: a\nb", "$ seq 2\n2\n1", "$ echo abc\nb..."} {
		blocks, err := consoleBlocks("```console\n" + bad + "\n```")
		if err != nil {
			t.Fatal(err)
		}
		if err := blocks[0].run(t.TempDir()); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	for _, bad := range []string{"```console\n```", "```console\nout\n```", "```console\n$ true\n"} {
		if _, err := consoleBlocks(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	if _, err := os.Stat("f"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("examples run in the directory of the test")
	}
}
