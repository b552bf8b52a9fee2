package wire

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
)

// DefaultPool is the name of the pool that is used if none is named.
const DefaultPool = "default"

// maxSocket keeps the paths of sockets within what every system takes: 108 bytes on Linux, 104
// on macOS, with their end.
const maxSocket = 100

// Place is where a pool lives: the paths that its server and its clients must agree on.
type Place struct {
	Name   string // of the pool
	Socket string // on which its server listens
	Lock   string // file whose lock the server holds as long as it lives
	Spool  string // folder of its journal and outputs; MakeSpool makes it
}

var poolName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) })

// NameError says that a pool cannot be called so.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%q is no name of a pool: it must be of letters, digits and the characters . _ -, "+
		"begin with a letter or digit, and have at most 64 of them", e.Name)
}

// Locate says where the pool of that name lives, for our user. The socket and the lock are in
// $XDG_RUNTIME_DIR/gpool, or in /tmp/gpool-UID if there is no such folder of our own; the spool is
// in $GPOOL_SPOOL or /var/tmp/gpool-UID, which survives a reboot. $TMPDIR has no say: clients in
// which it differs must meet. Locate makes the folder of the socket, if need be, and makes sure
// that nobody else can reach into it; the spool's is only looked at.
func Locate(name string, getenv func(string) string) (Place, error) {
	if !poolName().MatchString(name) {
		return Place{}, &NameError{name}
	}
	runtime := runtimeFolder(getenv("XDG_RUNTIME_DIR"))
	if err := makePrivate(runtime, "XDG_RUNTIME_DIR"); err != nil {
		return Place{}, err
	}
	p := Place{Name: name, Socket: filepath.Join(runtime, name+".sock"), Lock: filepath.Join(runtime, name+".lock")}
	if len(p.Socket) > maxSocket {
		return Place{}, fmt.Errorf("the path of the pool's socket, %s, has %d bytes, and at most %d are possible: "+
			"set XDG_RUNTIME_DIR to a shorter path, or give the pool a shorter name", p.Socket, len(p.Socket), maxSocket)
	}
	base := getenv("GPOOL_SPOOL")
	if base != "" && !filepath.IsAbs(base) {
		return Place{}, fmt.Errorf("GPOOL_SPOOL is %q, and must be an absolute path: "+
			"the server has another working directory", base)
	}
	if base == "" {
		base = spoolBase()
		if _, err := checkPrivate(base, "GPOOL_SPOOL"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Place{}, err
		}
	}
	// The path of the socket is part of the name, so that two runtime folders have two spools.
	hash := sha256.Sum256([]byte(p.Socket))
	p.Spool = filepath.Join(base, fmt.Sprintf("%s-%x", name, hash[:4]))
	return p, nil
}

// runtimeFolder is the folder of sockets. An XDG_RUNTIME_DIR of another user, which su and sudo
// may leave behind, is none.
func runtimeFolder(xdg string) string {
	if filepath.IsAbs(xdg) {
		if info, err := os.Stat(xdg); err == nil && info.IsDir() && owner(info) == os.Geteuid() {
			return filepath.Join(xdg, "gpool")
		}
	}
	return fmt.Sprintf("/tmp/gpool-%d", os.Geteuid())
}

func spoolBase() string { return fmt.Sprintf("/var/tmp/gpool-%d", os.Geteuid()) }

// Kept reports whether there is a spool: a pool has run here, and has not ended in order, or some
// of its results have not been fetched.
func (p Place) Kept() bool {
	info, err := os.Lstat(p.Spool)
	return err == nil && info.IsDir()
}

// MakeSpool makes the spool, which may be there already, and sees to it that only we can use it.
func (p Place) MakeSpool() error {
	base := filepath.Dir(p.Spool)
	if base == spoolBase() {
		if err := makePrivate(base, "GPOOL_SPOOL"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(base, 0o700); err != nil {
		return fmt.Errorf("make the folder of GPOOL_SPOOL: %w", err)
	}
	return makePrivate(p.Spool, "GPOOL_SPOOL")
}

// makePrivate makes a folder that only we can use, or makes one that is there such; variable is
// what the user can set to have another.
func makePrivate(path, variable string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a folder for the pool: %w; set %s to a folder where it can be", err, variable)
	}
	mode, err := checkPrivate(path, variable)
	if err != nil || mode.Perm() == 0o700 {
		return err
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("close the folder %s to others: %w", path, err)
	}
	return nil
}

// checkPrivate makes sure that a folder is one and is ours. Nobody else can then replace it: the
// folders above it are our own, or sticky.
func checkPrivate(path, variable string) (fs.FileMode, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return 0, fmt.Errorf("look at the folder of the pool: %w", err)
	case !info.IsDir():
		return 0, fmt.Errorf("%s should be a folder of the pool, and is none (%v): remove it, or set %s to another folder",
			path, info.Mode(), variable)
	case owner(info) != os.Geteuid():
		return 0, fmt.Errorf("the folder %s belongs to the user with the id %d, not to you: set %s to a folder of your own",
			path, owner(info), variable)
	}
	return info.Mode(), nil
}

func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// nonceLetters are those that nobody confuses: 0, 1, i, l and o are missing.
const (
	nonceLetters = "23456789abcdefghjkmnpqrstuvwxyz"
	nonceLength  = 5
)

// NewNonce returns what tells the ids of this pool's calls from those of a pool of the same name
// before or after it. It is no secret.
func NewNonce() string {
	b := make([]byte, nonceLength)
	for i := range b {
		b[i] = nonceLetters[rand.N(len(nonceLetters))]
	}
	return string(b)
}

// FormatID returns the id of the call n of a pool, such as 7hq2m-17, with the name of the pool
// before it, as in two-7hq2m-17, unless that is the default.
func FormatID(pool, nonce string, n uint64) string {
	id := nonce + "-" + strconv.FormatUint(n, 10)
	if pool == DefaultPool {
		return id
	}
	return pool + "-" + id
}

var callID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:(.+)-)?([` + nonceLetters + `]{5})-([1-9][0-9]*)$`)
})

// ParseID is the inverse of FormatID, and takes nothing else.
func ParseID(id string) (pool, nonce string, n uint64, err error) {
	m := callID().FindStringSubmatch(id)
	if m != nil {
		pool = cmp.Or(m[1], DefaultPool)
		n, err = strconv.ParseUint(m[3], 10, 64)
	}
	if m == nil || err != nil || m[1] == DefaultPool || !poolName().MatchString(pool) {
		return "", "", 0, fmt.Errorf("%q is no id of a call: one looks like 7hq2m-17, or two-7hq2m-17 in the pool two", id)
	}
	return pool, m[2], n, nil
}
