package gpool_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSharedExamples runs the examples of shared state. Each must print what its output.txt says, however
// its processes come to take turns.
func TestSharedExamples(t *testing.T) {
	outputs, err := filepath.Glob("examples/shared/*/output.txt")
	if err != nil || len(outputs) < 5 {
		t.Fatalf("%d examples say what they print, %v", len(outputs), err)
	}
	bin := t.TempDir() + string(filepath.Separator)
	if out, err := exec.Command("go", "build", "-o", bin, "./examples/shared/...").CombinedOutput(); err != nil {
		t.Fatalf("build the examples: %v\n%s", err, out)
	}
	for _, output := range outputs {
		name := filepath.Base(filepath.Dir(output))
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				cmd := exec.Command(bin + name)
				var errs bytes.Buffer
				cmd.Stderr = &errs
				got, err := cmd.Output()
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%v: it prints\n%s\nand on stderr\n%s\nand %s says\n%s", err, got, &errs, output, want)
				}
			}
		})
	}
}
