package gpool_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamplesAsAnotherModule builds, vets and runs the examples as a user has them: as
// programs of a module of their own, which requires this one. Each must print what its
// output.txt says, and link neither flags nor bars.
func TestExamplesAsAnotherModule(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("examples")); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	module := fmt.Sprintf("module user\n\ngo 1.26.0\n\nrequire gpool v0.0.0\n\nreplace gpool => %s\n", here)
	for name, text := range map[string][]byte{"go.mod": []byte(module), "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeReadmeProgram(t, filepath.Join(dir, "examples", "readme"))
	bin := filepath.Join(dir, "bin") + string(filepath.Separator)
	goCommand(t, dir, "vet", "./...")
	goCommand(t, dir, "build", "-o", bin, "./...")

	outputs, err := filepath.Glob(filepath.Join(dir, "examples/*/output.txt"))
	if err != nil || len(outputs) < 3 {
		t.Fatalf("%d examples say what they print, %v", len(outputs), err)
	}
	for _, output := range outputs {
		name := filepath.Base(filepath.Dir(output))
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(bin + name)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			got, err := cmd.Output()
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("it prints\n%s\nand on stderr\n%s\nand %s says\n%s", got, &errs, output, want)
			}
			linked := goCommand(t, dir, "version", "-m", bin+name)
			if !strings.Contains(linked, "github.com/vmihailenco/msgpack") {
				t.Errorf("the list of what it links looks wrong:\n%s", linked)
			}
			for _, heavy := range []string{"github.com/spf13/cobra", "github.com/schollz/progressbar"} {
				if strings.Contains(linked, heavy) {
					t.Errorf("it links %s:\n%s", heavy, linked)
				}
			}
		})
	}
}

// writeReadmeProgram makes an example of the program in README.md and of what it prints,
// the block that follows it.
func writeReadmeProgram(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```go\n")
	program, rest, ended := strings.Cut(rest, "```\n")
	_, rest, follows := strings.Cut(rest, "```\n")
	output, _, closed := strings.Cut(rest, "```\n")
	if !found || !ended || !follows || !closed {
		t.Fatal("README.md has no program with its output")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.go": program, "output.txt": output} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
