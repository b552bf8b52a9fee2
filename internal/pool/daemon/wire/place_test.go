package wire

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	dir := t.TempDir()
	env := environment(map[string]string{"XDG_RUNTIME_DIR": dir, "GPOOL_SPOOL": dir})
	for name, ok := range map[string]bool{
		"default": true, "a": true, "A-b.c_9": true, "9": true,
		"": false, "-a": false, ".": false, "..": false, "a/b": false, "a b": false, "a\n": false, "ü": false,
		strings.Repeat("a", 65): false,
	} {
		if _, err := Locate(name, env); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLocate(t *testing.T) {
	dir, spool := t.TempDir(), t.TempDir()
	p, err := Locate("two", environment(map[string]string{"XDG_RUNTIME_DIR": dir, "GPOOL_SPOOL": spool}))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "two" || p.Socket != dir+"/gpool/two.sock" || p.Lock != dir+"/gpool/two.lock" ||
		!strings.HasPrefix(p.Spool, spool+"/two-") || len(p.Spool) != len(spool)+len("/two-")+8 {
		t.Errorf("it is at %+v", p)
	}
	if info, err := os.Stat(dir + "/gpool"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the runtime folder: %v, %v", info, err)
	}
	if p.Kept() {
		t.Error("there is a spool before there was a pool")
	}
	if err := os.Chmod(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.MakeSpool(); err != nil || !p.Kept() {
		t.Errorf("make the spool: %v", err)
	}
	if info, err := os.Stat(p.Spool); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the spool: %v, %v", info, err)
	}
	if info, err := os.Stat(spool); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the user's own folder was changed: %v, %v", info, err)
	}
	other, err := Locate("two", environment(map[string]string{"XDG_RUNTIME_DIR": t.TempDir(), "GPOOL_SPOOL": spool}))
	if err != nil || other.Spool == p.Spool {
		t.Errorf("two runtime folders share the spool %s, %v", other.Spool, err)
	}
}

func TestRuntimeFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fallback := runtimeFolder("")
	if !strings.HasPrefix(fallback, "/tmp/gpool-") {
		t.Errorf("without the variable it is %s", fallback)
	}
	for xdg, want := range map[string]string{
		dir: dir + "/gpool", file: fallback, dir + "/none": fallback, "relative": fallback, ".": fallback,
	} {
		if got := runtimeFolder(xdg); got != want {
			t.Errorf("with %s it is %s", xdg, got)
		}
	}
	if os.Geteuid() != 0 {
		if got := runtimeFolder("/"); got != fallback {
			t.Errorf("with the folder of another user it is %s", got)
		}
	}
}

func TestFoldersThatAreNotPrivate(t *testing.T) {
	for what, c := range map[string]struct {
		make func(path string) error
		want string // part of the error; empty if it is put right
	}{
		"open to all": {func(p string) error { return os.Mkdir(p, 0o777) }, ""},
		"unusable":    {func(p string) error { return os.Mkdir(p, 0o200) }, ""},
		"a file":      {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "is none"},
		"a link":      {func(p string) error { return os.Symlink(os.TempDir(), p) }, "is none"},
		"foreign":     {func(p string) error { return errorOr(os.Mkdir(p, 0o700), os.Chown(p, 12345, -1)) }, "id 12345"},
	} {
		t.Run(what, func(t *testing.T) {
			if what == "foreign" && os.Geteuid() != 0 {
				t.Skip("only root can give folders away")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "gpool")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := Locate("a", environment(map[string]string{"XDG_RUNTIME_DIR": dir, "GPOOL_SPOOL": dir}))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if info, e := os.Stat(path); err != nil || e != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v, %v", err, info, e)
			}
		})
	}
}

func errorOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestPathsThatCannotBe(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 90))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, env := range []map[string]string{
		{"XDG_RUNTIME_DIR": long},
		{"XDG_RUNTIME_DIR": t.TempDir(), "GPOOL_SPOOL": "relative"},
	} {
		if p, err := Locate("a", environment(env)); err == nil {
			t.Errorf("%v: %+v", env, p)
		}
	}
}

func TestIDs(t *testing.T) {
	if a, b := FormatID("default", "7hq2m", 17), FormatID("two", "7hq2m", 17); a != "7hq2m-17" || b != "two-7hq2m-17" {
		t.Errorf("ids are %s, %s", a, b)
	}
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`).Draw(t, "pool")
		n := rapid.Uint64Min(1).Draw(t, "n")
		nonce := NewNonce()
		p, o, m, err := ParseID(FormatID(pool, nonce, n))
		if p != pool || o != nonce || m != n || err != nil {
			t.Errorf("%s, %s, %d became %s, %s, %d, %v", pool, nonce, n, p, o, m, err)
		}
	})
	for _, id := range []string{"", "-", "17", "7hq2m", "7hq2m-", "7hq2m-0", "7hq2m-017", "7hq2m-+1", "7hq2m--1", "7hq2m-1 ", "7hq2m-1\n",
		"7HQ2M-1", "7hq1m-1", "7hq2-1", "-7hq2m-1", "default-7hq2m-1", "a b-7hq2m-1", "\xff-7hq2m-1", "7hq2m-18446744073709551616"} {
		if p, o, n, err := ParseID(id); err == nil {
			t.Errorf("%q is %q, %q, %d", id, p, o, n)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("7hq2m-17")
	f.Add("a-b-7hq2m-17")
	f.Fuzz(func(t *testing.T, id string) {
		pool, nonce, n, err := ParseID(id)
		if err == nil && FormatID(pool, nonce, n) != id {
			t.Errorf("%q is %q, %q, %d", id, pool, nonce, n)
		}
	})
}
