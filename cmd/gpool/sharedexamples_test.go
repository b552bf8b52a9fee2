package main

import (
	"path/filepath"
	"testing"
)

// TestSharedExampleScripts runs the scripts of examples/shared, from a directory of their own: they must find
// everything by the hub of their run, and leave nothing.
func TestSharedExampleScripts(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "examples", "shared"))
	if err != nil {
		t.Fatal(err)
	}
	pages := "/\n/news\n/news/2024\n/news/2025\n/people\n/people/ada\n/people/grace\n"
	expected := map[string]string{
		"producers.sh": "the sum is 500500\n",
		"ratelimit.sh": "12 requests, at most 2 at once\n",
		"crawl.sh":     pages,
	}
	scripts, err := filepath.Glob(filepath.Join(dir, "*.sh"))
	if err != nil || len(scripts) != len(expected) {
		t.Fatalf("there are %d scripts, and %d are known here: %v", len(scripts), len(expected), err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			want, known := expected[filepath.Base(script)]
			if !known {
				t.Fatal("nobody has said here what it prints")
			}
			got := runWith(t, nil, []string{"GPOOL_HUB="}, "", "sh", script)
			if got.code != 0 || got.stdout != want || got.stderr != "" {
				t.Errorf("exit status %d, it prints\n%s\nand on stderr\n%s\ninstead of\n%s", got.code, got.stdout, got.stderr, want)
			}
		})
	}
}

// TestSharedExampleScriptsRefuseWords holds what the scripts say of an argument that is none of theirs: they call
// themselves with arguments, and a mistake there must not look like a run.
func TestSharedExampleScriptsRefuseWords(t *testing.T) {
	for _, name := range []string{"producers.sh", "crawl.sh"} {
		got := runWith(t, nil, nil, "", "sh", filepath.Join("..", "..", "examples", "shared", name), "nonsense")
		if got.code != 2 || got.stdout != "" || got.stderr == "" {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", name, got.code, got.stdout, got.stderr)
		}
	}
}
