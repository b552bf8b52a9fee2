package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gpool/internal/ipc"
)

// keepMost is how many bytes of a stream wait in memory for the end of their call. More
// goes to its file at once: a few system calls for so much are nothing.
const keepMost = 32 << 10

// partSuffix marks a folder that takes the place of another one when its call has ended.
const partSuffix = ".part"

var streamNames = [2]string{"stdout", "stderr"}

var _ Sink = (*Results)(nil)

// Results keeps what each call printed, and how it ended, in a folder of files:
//
//	DIR/SEQ/stdout, DIR/SEQ/stderr     of the last attempt, whole
//	DIR/SEQ/attempt-N/stdout, stderr   of an earlier attempt
//	DIR/SEQ/result.json                how the call ended; there when all else is
//
// A folder of an earlier run stays if it is of another item: the new one is then SEQ-2, or
// SEQ-3. If it is of the same item, or has no result, it is replaced when the call has ended.
//
// It is a [Sink]: one goroutine. No file stays open, whatever the number of calls under way:
// output is appended with open, write and close. Memory is 32 KiB for each stream of a call
// that has not ended. A call with little output takes ten system calls, and nothing waits
// for the disk.
type Results struct {
	path string
	dir  *os.File // names are relative to it, so the kernel looks up one folder and not the whole path
	fd   int
	open map[uint64]*folder // calls that have printed and not ended
	free []*folder          // for reuse
	json []byte
	err  error // the first one
}

// folder is a call that has not ended.
type folder struct {
	seq     string
	name    string // of the folder, "" as long as there is none
	attempt int    // whose output comes
	streams [2]struct {
		kept  []byte
		there bool // the file is
	}
	moved []int // earlier attempts that have their own folders
}

// NewResults opens the folder, and makes it and those above it if they are not there.
func NewResults(dir string) (*Results, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make the folder for results: %w", err)
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder for results: %w", err)
	}
	return &Results{path: dir, dir: file, fd: int(file.Fd()), open: make(map[uint64]*folder)}, nil
}

// Output keeps what an attempt prints, in memory while it is little.
func (r *Results) Output(seq uint64, attempt int, s ipc.Stream, b []byte) error {
	if r.err != nil || s != ipc.Stdout && s != ipc.Stderr {
		return r.err
	}
	f := r.open[seq]
	if f == nil {
		f = r.newFolder(seq, attempt)
		r.open[seq] = f
	}
	if attempt > f.attempt {
		if err := r.moveAttempt(f); err != nil {
			return r.failed(err)
		}
		f.attempt = attempt
	}
	kept := &f.streams[s-1].kept
	if len(*kept)+len(b) <= keepMost {
		*kept = append(*kept, b...)
		return nil
	}
	if len(*kept) > 0 {
		if err := r.spill(f, int(s-1), *kept); err != nil {
			return r.failed(err)
		}
	}
	return r.failed(r.spill(f, int(s-1), b))
}

// Call writes the files of a call that are not there yet, and its result last. Calls that
// did not run have no folder.
func (r *Results) Call(rec *Record) error {
	f := r.open[rec.Seq]
	delete(r.open, rec.Seq)
	if r.err != nil {
		return r.err
	}
	if f == nil {
		if (rec.Status == Skipped || rec.Status == NotRun) && len(rec.Earlier) == 0 {
			return nil
		}
		f = r.newFolder(rec.Seq, lastAttempt(rec))
	}
	err := r.finish(f, rec)
	if len(r.free) < 64 {
		r.free = append(r.free, f)
	}
	return r.failed(err)
}

// lastAttempt is the number of the last attempt that began. A call may have been stopped
// before the next one.
func lastAttempt(rec *Record) int {
	last := rec.N
	for i := range rec.Earlier {
		last = max(last, rec.Earlier[i].N)
	}
	return last
}

func (r *Results) newFolder(seq uint64, attempt int) *folder {
	f := &folder{}
	if n := len(r.free); n > 0 {
		f, r.free = r.free[n-1], r.free[:n-1]
	}
	f.seq, f.name, f.attempt, f.moved = strconv.FormatUint(seq, 10), "", attempt, f.moved[:0]
	for i := range f.streams {
		f.streams[i].kept, f.streams[i].there = f.streams[i].kept[:0], false
	}
	return f
}

// finish writes what the folder of a call lacks.
func (r *Results) finish(f *folder, rec *Record) error {
	if last := lastAttempt(rec); last > f.attempt { // it has printed nothing
		if err := r.moveAttempt(f); err != nil {
			return err
		}
		f.attempt = last
	}
	if err := r.missingAttempts(f, rec.Earlier); err != nil {
		return err
	}
	if err := r.settle(f); err != nil {
		return err
	}
	head := appendItem(r.json[:0], rec)
	r.json = appendResult(head, rec)
	if err := r.writeWhole(f.name+"/result.json", r.json); err != nil {
		return err
	}
	if name := f.name; strings.HasSuffix(name, partSuffix) {
		return r.publish(f, r.json[:len(head)])
	}
	return nil
}

// appendItem begins the result of a call: what a later run recognises the item by. It is
// there even if it has no columns, and a comma ends it, so that no item begins another one.
func appendItem(b []byte, rec *Record) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), rec.Seq, 10)
	if len(rec.Item) == 0 {
		return append(b, `,"item":[],`...)
	}
	return append(appendTexts(b, "item", rec.Item), ',')
}

// appendResult adds the rest.
func appendResult(b []byte, rec *Record) []byte {
	start := len(b) - 1 // of the next comma
	b = appendText(b[:start], "command", rec.Command)
	b = appendAttempt(b, &rec.Attempt)
	b = appendEarlier(b, rec.Earlier)
	return append(b, '}', '\n')
}

// makeFolder makes the folder of a call, if it has none. Where an earlier run has left one, it is
// made beside that one: which of the two stays is decided when the item is known.
func (r *Results) makeFolder(f *folder) error {
	if f.name != "" {
		return nil
	}
	f.name = f.seq
	err := r.mkdir(f.name)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	f.name = f.seq + partSuffix
	if err := r.mkdir(f.name); !errors.Is(err, unix.EEXIST) {
		return err
	}
	if _, err := r.clear(f.name); err != nil { // of a run that was killed
		return err
	}
	return r.mkdir(f.name)
}

// spill appends b to a file of the folder, and forgets what was kept for it.
func (r *Results) spill(f *folder, stream int, b []byte) error {
	if err := r.makeFolder(f); err != nil {
		return err
	}
	s := &f.streams[stream]
	flags := unix.O_APPEND
	if !s.there {
		flags = unix.O_CREAT
	}
	err := r.write(f.name+"/"+streamNames[stream], flags, b)
	s.kept, s.there = s.kept[:0], true
	return err
}

// settle writes what is kept in memory; files without output are there and empty, so that
// a script needs not ask.
func (r *Results) settle(f *folder) error {
	for i := range f.streams {
		if s := &f.streams[i]; len(s.kept) > 0 || !s.there {
			if err := r.spill(f, i, s.kept); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveAttempt gives the attempt that is not the last one a folder of its own. Files that
// have been begun are renamed, others are written where they belong.
func (r *Results) moveAttempt(f *folder) error {
	if f.attempt == 0 {
		return nil
	}
	dir, err := r.makeAttempt(f, f.attempt)
	if err != nil {
		return err
	}
	for i := range f.streams {
		s, to, flags := &f.streams[i], dir+"/"+streamNames[i], unix.O_CREAT
		if s.there {
			if err := r.rename(f.name+"/"+streamNames[i], to); err != nil {
				return err
			}
			flags = unix.O_APPEND
		}
		if !s.there || len(s.kept) > 0 {
			if err := r.write(to, flags, s.kept); err != nil {
				return err
			}
		}
		s.kept, s.there = s.kept[:0], false
	}
	return nil
}

// makeAttempt makes the folder of an earlier attempt and returns its name.
func (r *Results) makeAttempt(f *folder, n int) (string, error) {
	if err := r.makeFolder(f); err != nil {
		return "", err
	}
	f.moved = append(f.moved, n)
	dir := f.name + "/attempt-" + strconv.Itoa(n)
	return dir, r.mkdir(dir)
}

// missingAttempts makes the folders of earlier attempts that printed nothing.
func (r *Results) missingAttempts(f *folder, earlier []Attempt) error {
next:
	for i := range earlier {
		n := earlier[i].N
		for _, moved := range f.moved {
			if n == moved {
				continue next
			}
		}
		if n == 0 || n == f.attempt {
			continue
		}
		dir, err := r.makeAttempt(f, n)
		if err != nil {
			return err
		}
		for _, name := range streamNames {
			if err := r.write(dir+"/"+name, unix.O_CREAT, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish puts a finished folder in its place: SEQ if what is there is of the same item or
// has no result, else SEQ-2 and so on.
func (r *Results) publish(f *folder, item []byte) error {
	for i := 1; ; i++ {
		name := f.seq
		if i > 1 {
			name += "-" + strconv.Itoa(i)
		}
		free, err := r.vacate(name, item)
		if err != nil {
			return err
		}
		if free {
			return r.rename(f.name, name)
		}
	}
}

// vacate reports whether name may be taken, and removes what is there if it may.
func (r *Results) vacate(name string, item []byte) (bool, error) {
	file, err := os.Open(filepath.Join(r.path, name, "result.json"))
	if err == nil {
		defer file.Close()
		head := make([]byte, len(item))
		if n, _ := file.ReadAt(head, 0); !bytes.Equal(head[:n], item) {
			return false, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return false, err
	}
	return r.clear(name)
}

// clear removes a folder of results, if it is one: a folder with anything else in it stays,
// and the answer is false. The files of the user's are not ours to remove.
func (r *Results) clear(name string) (bool, error) {
	path := filepath.Join(r.path, name)
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return true, nil
	case errors.Is(err, unix.ENOTDIR):
		return false, nil
	case err != nil:
		return false, err
	}
	for _, e := range entries {
		if !resultFile(e) {
			return false, nil
		}
	}
	return true, os.RemoveAll(path)
}

// resultFile reports whether a folder of results may have the entry.
func resultFile(e os.DirEntry) bool {
	if n, ok := strings.CutPrefix(e.Name(), "attempt-"); ok {
		_, err := strconv.ParseUint(n, 10, 63)
		return err == nil && e.IsDir()
	}
	switch e.Name() {
	case "stdout", "stderr", "result.json", "result.json" + partSuffix:
		return e.Type().IsRegular()
	}
	return false
}

// writeWhole writes a file that is there wholly or not at all, also when the process is
// killed in the middle.
func (r *Results) writeWhole(name string, b []byte) error {
	if err := r.write(name+partSuffix, unix.O_CREAT|unix.O_TRUNC, b); err != nil {
		return err
	}
	return r.rename(name+partSuffix, name)
}

// write opens a file of the folder, writes, and closes it.
func (r *Results) write(name string, flags int, b []byte) error {
	fd, err := retried(func() (int, error) {
		return unix.Openat(r.fd, name, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0o666)
	})
	if err != nil {
		return r.named("create", name, err)
	}
	for len(b) > 0 && err == nil {
		var n int
		n, err = retried(func() (int, error) { return unix.Write(fd, b) })
		b = b[max(0, n):]
	}
	if closed := unix.Close(fd); err == nil && !errors.Is(closed, unix.EINTR) {
		err = closed // some file systems say only now that the disk is full
	}
	return r.named("write", name, err)
}

// retried repeats a system call that a signal interrupted; the Go runtime sends some.
func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (r *Results) mkdir(name string) error {
	_, err := retried(func() (int, error) { return 0, unix.Mkdirat(r.fd, name, 0o777) })
	return r.named("make", name, err)
}

func (r *Results) rename(from, to string) error {
	_, err := retried(func() (int, error) { return 0, unix.Renameat(r.fd, from, r.fd, to) })
	return r.named("rename to", to, err)
}

func (r *Results) named(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: what, Path: filepath.Join(r.path, name), Err: err}
}

// failed keeps the first error.
func (r *Results) failed(err error) error {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("keep results: %w", err)
	}
	return r.err
}

// Flush writes what waits in memory: that of calls which have printed and not ended.
func (r *Results) Flush() error {
	for _, f := range r.open {
		for i := range f.streams {
			if s := &f.streams[i]; len(s.kept) > 0 && r.err == nil {
				_ = r.failed(r.spill(f, i, s.kept))
			}
		}
	}
	return r.err
}

// Close writes what waits; the folders of calls that have not ended have no result.
func (r *Results) Close(*Totals) error {
	err := r.Flush()
	if closed := r.dir.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the folder for results: %w", closed)
	}
	return err
}
