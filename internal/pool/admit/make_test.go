package admit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runMake runs a Makefile with -j4 and returns everything it says. GPOOL is this binary.
func runMake(t *testing.T, makefile string, args ...string) (string, error) {
	t.Helper()
	tool := needs(t, "make")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, append([]string{"-j4", "CLIENT=" + os.Args[0]}, args...)...)
	cmd.Dir = dir
	// A make above this test has a jobserver of its own.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestMakeMissesNoToken: make counts its tokens at its end, and complains of each one too few or too
// many. Clients compete here, with others that make runs itself, and end in every way.
func TestMakeMissesNoToken(t *testing.T) {
	for _, how := range []string{"exit", "kill", "term"} {
		t.Run(how, func(t *testing.T) {
			out, _ := runMake(t, `
all: one two three
one two:
	-+$(CLIENT) client `+how+` 2
three: ; sleep 0.2
`, "-k")
			if strings.Contains(out, "INTERNAL") || strings.Contains(out, "jobserver unavailable") {
				t.Errorf("make says:\n%s", out)
			}
			if strings.Count(out, "running\n") != 2 {
				t.Errorf("two clients should have run two calls each:\n%s", out)
			}
		})
	}
}

// TestWithoutThePlus: make closes its jobserver for a command that does not look like a make.
func TestWithoutThePlus(t *testing.T) {
	out, _ := runMake(t, "all: ; -$(CLIENT) check\n")
	if strings.Contains(out, "fifo") {
		t.Skip("this make has a named pipe, which is open to all")
	}
	if !strings.Contains(out, "put + before the recipe line") {
		t.Errorf("the client says:\n%s", out)
	}
}

// TestAMakeInACommandIsAClientToo: what a worker inherits is enough for it, also where something
// else lies at the descriptors that make had chosen.
func TestAMakeInACommandIsAClientToo(t *testing.T) {
	out, err := runMake(t, `
all: ; +$(CLIENT) nested $(MAKE)
inner: a b
a b: ; +@$(CLIENT) check && echo $@ "$(MAKEFLAGS)"
`)
	if err != nil || strings.Contains(out, "jobserver unavailable") || strings.Count(out, "--jobserver-auth=10") != 2 {
		t.Errorf("%v:\n%s", err, out)
	}
}

// playCheck says whether the jobserver can be used.
func playCheck([]string) int {
	auth, err := ParseMakeFlags(os.Getenv("MAKEFLAGS"))
	if err == nil && auth != nil {
		err = auth.Check()
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// playNested runs a make as a command of a worker would be: with a file of its own at 3.
func playNested(words []string) int {
	auth, err := ParseMakeFlags(os.Getenv("MAKEFLAGS"))
	if err != nil || auth == nil {
		return fail(err)
	}
	flags, err := auth.Lift(os.Getenv("MAKEFLAGS"))
	if err != nil {
		return fail(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fail(err)
	}
	cmd := exec.Command(words[0], "inner")
	cmd.Env = append(os.Environ(), "MAKEFLAGS="+flags, "CLIENT="+os.Args[0])
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{null}
	if err := cmd.Run(); err != nil {
		return fail(err)
	}
	return 0
}
