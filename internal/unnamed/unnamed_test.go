package unnamed

import (
	"os"
	"testing"
)

func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	list, _ := os.ReadDir(dir) // there may be none
	found := make(map[string]bool)
	for _, entry := range list {
		found[entry.Name()] = true
	}
	return found
}

func TestAFileHasItsSizeAndNoName(t *testing.T) {
	for what, make := range map[string]func(int64) (*os.File, error){
		"of the system": func(size int64) (*os.File, error) { return File("a test", size) },
		"temporary":     temporary,
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			file, err := make(12345)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			whole := [12346]byte{12345: 1}
			if n, _ := file.ReadAt(whole[:], 0); n != 12345 || whole != [12346]byte{12345: 1} {
				t.Errorf("it has %d bytes, or not only zeros", n)
			}
			if err := file.Truncate(1 << 30); err != nil {
				t.Errorf("it cannot grow: %v", err)
			}
			if _, err := os.Stat(file.Name()); err == nil {
				t.Errorf("%s is there", file.Name())
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("%v is left in TMPDIR", left)
			}
		})
	}
}
