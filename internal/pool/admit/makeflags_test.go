package admit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMakeFlags(t *testing.T) {
	for _, c := range []struct {
		flags string
		want  *Auth
	}{
		{"", nil},
		{"kw", nil},
		{" -j4", nil},
		{" -j4 --jobserver-auth=3,4", &Auth{Read: 3, Write: 4, Jobs: 4}},
		{"k -j --jobserver-fds=5,6 -j", &Auth{Read: 5, Write: 6}},
		{" -j8 --jobserver-auth=fifo:/tmp/GMfifo17", &Auth{Path: "/tmp/GMfifo17", Jobs: 8}},
		{` --jobserver-auth=fifo:/my\ dir/pipe --jobs=2`, &Auth{Path: "/my dir/pipe", Jobs: 2}},
		{" -j2 --jobserver-auth=3,4 --jobserver-auth=-2,-2", &Auth{Read: -2, Write: -2, Jobs: 2}},
		{" --jobserver-fds=7,8 -j3 --jobserver-auth=3,4", &Auth{Read: 3, Write: 4, Jobs: 3}},
		{" --jobserver-auth=3,4 -- X=--jobserver-auth=7,8 --jobserver-auth=9,9", &Auth{Read: 3, Write: 4}},
	} {
		got, err := ParseMakeFlags(c.flags)
		if err != nil || (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.flags, got, err, c.want)
		}
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	for address, want := range map[string]string{
		"gmake_semaphore_1234": "Windows", "": "Windows", "fifo:": "names no pipe", "3,": "no two", "x,4": "no two", "3,4,5": "no two", "3,99999999999": "no two",
	} {
		auth, err := ParseMakeFlags("-j4 --jobserver-auth=" + address)
		var unavailable *UnavailableError
		if auth != nil || !errors.As(err, &unavailable) || !strings.Contains(unavailable.Why, want) {
			t.Errorf("%q: %v, %v; want %q", address, auth, err, want)
		}
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	s := newServer(t, "")
	file := must(os.CreateTemp(t.TempDir(), ""))(t)
	defer file.Close()
	plain := inheritable(t, int(file.Fd()))
	hidden := must(unix.FcntlInt(uintptr(s.auth.Read), unix.F_DUPFD_CLOEXEC, 0))(t)
	defer unix.Close(hidden)
	missing := filepath.Join(t.TempDir(), "pipe")
	for _, c := range []struct {
		auth Auth
		want string
	}{
		{*s.auth, ""},
		{Auth{Read: s.auth.Write, Write: s.auth.Write}, "wrong direction"},
		{Auth{Read: s.auth.Read, Write: s.auth.Read}, "wrong direction"},
		{Auth{Read: 9999, Write: s.auth.Write}, "9999 is closed"},
		{Auth{Read: s.auth.Read, Write: 9999}, "put + before the recipe line"},
		{Auth{Read: plain, Write: s.auth.Write}, "no pipe of make's"},
		{Auth{Read: hidden, Write: s.auth.Write}, "no pipe of make's"},
		{Auth{Read: -2, Write: -2}, "switched it off"},
		{Auth{Path: missing}, "no such file"},
		{Auth{Path: t.TempDir()}, "no named pipe"},
	} {
		err := c.auth.Check()
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %q", c.auth.String(), err, c.want)
		}
	}
}

// TestLift: the jobserver is the same, the numbers are others, and variables stay behind them.
func TestLift(t *testing.T) {
	s := newServer(t, "+")
	old := *s.auth
	lifted := *s.auth
	flags, err := lifted.Lift(fmt.Sprintf("k -j2 --jobserver-auth=%v -- X=1", s.auth))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lifted.Read)
	defer unix.Close(lifted.Write)
	again := must(ParseMakeFlags(flags))(t)
	if again.Read != lifted.Read || again.Write != lifted.Write || again.Read < 100 || !strings.HasSuffix(flags, " -- X=1") {
		t.Errorf("%v was lifted to %v: %q", old, lifted, flags)
	}
	if err := again.Check(); err != nil {
		t.Error(err)
	}
	if old.Check() == nil {
		t.Error("the old descriptors are still for everybody")
	}
}

func FuzzMakeFlags(f *testing.F) {
	for _, seed := range []string{" -j4 --jobserver-auth=3,4", "--jobserver-auth=fifo:/a b", `a\ b -- c`, "-j-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, flags string) {
		auth, err := ParseMakeFlags(flags)
		if auth == nil || err != nil {
			return
		}
		again, err := parseAuth(auth.String())
		if err != nil || again.Path != auth.Path || again.Read != auth.Read || again.Write != auth.Write || auth.Jobs < 0 {
			t.Errorf("%q is %+v, which is read back as %+v, %v", flags, auth, again, err)
		}
	})
}
