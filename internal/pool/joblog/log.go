package joblog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Log is a log that is being written. One goroutine. While it is open it is locked against other runs,
// unless its file system knows no locks. It owns its descriptor, which no child inherits.
type Log struct {
	path string
	file file
	end  int64 // where the last row ends
	cuts bool  // a torn row can be cut off
	torn bool  // one could not be: what is written now would be glued to it
	buf  []byte
}

// file is what a log needs of an os.File that was opened to append.
type file interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
}

// Open opens a new log at path; what is there is thrown away by Begin. A path "+FILE" keeps it, which must
// be a log then, and writes behind it. A path that is no regular file, such as a FIFO, is just written to;
// a FIFO waits for its reader. Another run that has just been killed may hold its lock for some
// milliseconds more, so a lock is waited for, up to a second. The error names the path.
func Open(path string) (*Log, error) {
	path, keep := strings.CutPrefix(path, "+")
	special, err := look(path)
	if err != nil {
		return nil, err
	}
	f, err := open(path, special)
	if err != nil {
		return nil, err
	}
	log := &Log{path: path, file: f, cuts: !special}
	if keep && !special {
		err = log.follow(f)
	}
	return finish(log, err)
}

// Reopen opens the log at path to write behind what is there, and reads what of it a run need not do
// again. A file that is not there begins a new log. "+FILE" is the same as FILE. The error names
// the path. It reads about a million rows in a second.
func Reopen(path string, mode Mode) (*Log, *History, error) {
	path, _ = strings.CutPrefix(path, "+")
	special, err := look(path)
	if err != nil {
		return nil, nil, err
	}
	if special {
		return nil, nil, fmt.Errorf("resume from %s: only a regular file can be read again; name the joblog of the earlier run", path)
	}
	f, err := open(path, false)
	if err != nil {
		return nil, nil, err
	}
	log := &Log{path: path, file: f, cuts: true}
	h, err := log.resume(f, mode)
	if log, err = finish(log, err); err != nil {
		return nil, nil, err
	}
	return log, h, nil
}

// finish gives a log up that could not be opened.
func finish(log *Log, err error) (*Log, error) {
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

// resume reads the log.
func (l *Log) resume(f *os.File, mode Mode) (*History, error) {
	size, err := l.size()
	if err != nil {
		return nil, err
	}
	h, end, err := read(f, size, mode)
	if err != nil {
		return nil, fmt.Errorf("resume from %s: %w; name the joblog of the earlier run, or go without --resume", l.path, err)
	}
	l.end = end
	return h, nil
}

// Begin makes the log ready for rows: what is to be thrown away, or is torn, is cut off, and a
// log that is empty gets its header. Until then the file is as it was.
func (l *Log) Begin() error {
	if !l.cuts {
		return l.start()
	}
	return l.cut(l.end)
}

// follow finds the end of a log without reading all of it.
func (l *Log) follow(f *os.File) error {
	size, err := l.size()
	if err != nil {
		return err
	}
	end, err := readHeader(f, size)
	if err != nil {
		return fmt.Errorf("append to the joblog %s: %w; name another file", l.path, err)
	}
	if end > 0 {
		if end, err = lastLineEnd(f, size); err != nil {
			return fmt.Errorf("read the end of the joblog %s: %w", l.path, err)
		}
	}
	l.end = end
	return nil
}

// cut makes the log end at end, where a whole line ends, and writes the header if nothing is left.
func (l *Log) cut(end int64) error {
	size, err := l.size()
	if err != nil {
		return err
	}
	if size > end {
		if err := l.file.Truncate(end); err != nil {
			return fmt.Errorf("cut the joblog %s to %d bytes: %w", l.path, end, err)
		}
	}
	l.end = end
	if end == 0 {
		return l.start()
	}
	return nil
}

func (l *Log) start() error { return l.put([]byte(header)) }

func (l *Log) size() (int64, error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at the joblog %s: %w", l.path, err)
	}
	return info.Size(), nil
}

// Write appends a row, in one system call. After an error, such as that of a full disk, the log ends with
// the last whole row again if that is possible; else every further Write is refused.
func (l *Log) Write(r *Row) error {
	l.buf = r.Append(l.buf[:0])
	return l.put(l.buf)
}

func (l *Log) put(line []byte) error {
	if l.torn {
		return fmt.Errorf("write the joblog %s: its last row is torn, and what came after it would be lost", l.path)
	}
	n, err := l.file.Write(line)
	if err == nil {
		l.end += int64(n)
		return nil
	}
	if n > 0 {
		l.torn = !l.mend(int64(n))
	}
	return fmt.Errorf("write the joblog %s: %w; without a row its call would be run again on resume", l.path, reason(err))
}

// mend cuts off the first n bytes of a row, and reports whether it could. It does not if somebody else
// has written to the file, and has not respected the lock: that may be rows.
func (l *Log) mend(n int64) bool {
	if !l.cuts {
		return false
	}
	size, err := l.size()
	return err == nil && size == l.end+n && l.file.Truncate(l.end) == nil
}

// Close ends the log, and lets other runs have it.
func (l *Log) Close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("close the joblog %s: %w", l.path, err)
	}
	return nil
}

// look refuses what can be no log by its name or kind. special says that it is there and is no regular file.
func look(path string) (special bool, err error) {
	switch path {
	case "":
		return false, errors.New("open the joblog: its name is empty; name a file")
	case "-":
		return false, errors.New(`open the joblog "-": stdout is for results; name a file, or ./- for a file of that name`)
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, nil // to open it makes it, or says what is wrong
	}
	if info.IsDir() {
		return false, fmt.Errorf("open the joblog %s: it is a directory; name a file", path)
	}
	return !info.Mode().IsRegular(), nil
}

// open opens the file of a log, which is made if it is not there, and changes nothing in it. A regular
// file is locked before anybody reads it.
func open(path string, special bool) (*os.File, error) {
	flags := os.O_RDWR | os.O_CREATE
	if special {
		flags = os.O_WRONLY // to read as well would keep a FIFO from telling that its reader is gone
	}
	f, err := os.OpenFile(path, flags|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the joblog %s: %w", path, reason(err))
	}
	if special {
		return f, nil
	}
	if err := claim(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// claim makes sure that nobody else writes to a regular file, this process included.
func claim(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the joblog %s: %w", path, err)
	}
	for _, output := range [...]*os.File{os.Stdout, os.Stderr} {
		if other, err := output.Stat(); err == nil && os.SameFile(info, other) {
			return fmt.Errorf("open the joblog %s: gpool's own output goes there; name another file", path)
		}
	}
	err = lock(f)
	for tries := 0; errors.Is(err, unix.EWOULDBLOCK) && tries < lockTries; tries++ {
		time.Sleep(lockPause)
		err = lock(f)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("open the joblog %s: another run is writing to it; wait for its end, or name another file", path)
	}
	if err != nil {
		return fmt.Errorf("lock the joblog %s: %w", path, err)
	}
	return nil
}

// How long a lock is waited for. It belongs to all who have the descriptor: after a kill, a process that
// was between fork and exec holds it until its exec.
const (
	lockTries = 20
	lockPause = 50 * time.Millisecond
)

// lock locks the file until it is closed, or fails at once. Some file systems of networks and of user
// space have no locks: a log there is used without.
func lock(f *os.File) error {
	err := error(unix.EINTR)
	for err == unix.EINTR {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if slices.Contains([]error{unix.ENOTSUP, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENOLCK}, err) {
		return nil
	}
	return err
}

// reason takes the part of an error that the message around it has not said already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
