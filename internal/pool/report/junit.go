package report

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"gpool/internal/ipc"
)

const (
	// junitBatch is how many bytes of cases gather before they are written without a flush.
	junitBatch = 256 << 10

	// nameMost is the length of a case's name in characters: CI servers show it in a table.
	nameMost = 200

	// attemptsShown is of how many attempts of a call the output is kept: the first, which
	// JUnit calls the failure, and the latest. It bounds what a call with many retries takes.
	attemptsShown = 8
)

const junitEnd = "</testsuite>\n</testsuites>\n"

var _ Sink = (*JUnit)(nil)

// JUnit writes a report that CI servers read: a case for each call, in the structure that
// Jenkins and GitLab know from Maven Surefire 3, with retries (rerunFailure, flakyFailure).
// As there, the failure of a call is its first one, and the later ones are reruns.
//
// The file is well-formed after each [JUnit.Flush], however the process ends then: cases
// are written over the closing tags together with new ones, and the counts, which come
// first, have a fixed size and are overwritten in place. Only a SIGKILL in the middle of a
// write of several pages can leave half a case at its end.
//
// It is a [Sink]: one goroutine. Memory is bounded for each call that has not ended: 128 KiB
// for each stream of at most 8 attempts. A case costs about a microsecond.
type JUnit struct {
	path    string
	file    junitFile
	suite   string
	host    string
	start   time.Time
	counts  junitCounts
	size    int    // of the head, fixed
	end     int64  // where the next case goes: behind the last one
	cases   []byte // that are not yet in the file
	dirty   bool   // the head has changed
	pending map[uint64]*callOutput
	err     error // the first one
}

// junitFile is what a report needs of an *os.File.
type junitFile interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// junitCounts are what the head says.
type junitCounts struct {
	tests, failures, errors, skipped int64
	wall                             time.Duration
}

// callOutput is what a call has printed before its record came.
type callOutput struct {
	attempts []attemptOutput // in their order
}

type attemptOutput struct {
	n       int
	streams [2]tail
}

// NewJUnit creates the report at path, with no case in it, and replaces what was there.
// The suite names the run, and start is when it began. The path must be a regular file, or
// not there yet: a pipe cannot be overwritten.
func NewJUnit(path, suite string, start time.Time) (*JUnit, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("write a JUnit report to %s: it is no regular file, "+
			"and the counts at the beginning are overwritten as calls end; name a file, and read it when the run is over", path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create a JUnit report: %w", err)
	}
	host, _ := os.Hostname() // optional in the report
	j := &JUnit{path: path, file: file, suite: xmlName(suite), host: xmlName(host), start: start, dirty: true,
		pending: make(map[uint64]*callOutput)}
	most := junitCounts{1 << 62, 1 << 62, 1 << 62, 1 << 62, 1 << 62}
	j.size = len(j.head(most))
	j.end = int64(j.size)
	j.cases = append(j.head(j.counts), junitEnd...)
	if err := j.put(j.cases, 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	j.cases = j.cases[:0]
	return j, nil
}

// head is everything before the first case, with blanks inside the last tag up to the
// fixed size.
func (j *JUnit) head(c junitCounts) []byte {
	seconds := appendMillis(nil, c.wall)
	b := fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<testsuites name="%s" tests="%d" failures="%d" errors="%d" time="%s">`+"\n"+
		`<testsuite name="%[1]s" tests="%[2]d" failures="%[3]d" errors="%[4]d" skipped="%[6]d" time="%[5]s" timestamp="%[7]s"`,
		j.suite, c.tests, c.failures, c.errors, seconds, c.skipped, j.start.UTC().Format(time.RFC3339))
	if j.host != "" {
		b = fmt.Appendf(b, ` hostname="%s"`, j.host)
	}
	for len(b) < j.size-2 {
		b = append(b, ' ')
	}
	return append(b, '>', '\n')
}

// Output keeps the end of what an attempt prints.
func (j *JUnit) Output(seq uint64, attempt int, s ipc.Stream, b []byte) error {
	p := j.pending[seq]
	if p == nil {
		p = &callOutput{}
		j.pending[seq] = p
	}
	if s == ipc.Stdout || s == ipc.Stderr {
		p.of(attempt).streams[s-1].add(b)
	}
	return j.err
}

// of is the room for the output of an attempt. When there are too many, the second oldest goes.
func (p *callOutput) of(n int) *attemptOutput {
	if a := p.find(n); a != nil {
		return a
	}
	if len(p.attempts) == attemptsShown {
		p.attempts = append(p.attempts[:1], p.attempts[2:]...)
	}
	p.attempts = append(p.attempts, attemptOutput{n: n})
	return &p.attempts[len(p.attempts)-1]
}

// find is nil if nothing is kept of the attempt; p may be nil too.
func (p *callOutput) find(n int) *attemptOutput {
	if p == nil {
		return nil
	}
	for i := range p.attempts {
		if p.attempts[i].n == n {
			return &p.attempts[i]
		}
	}
	return nil
}

// Call takes a finished call. One that was skipped is no case at all: another run reports it.
//
// What a call printed that succeeded is left out: of a million calls nobody reads it, and
// GitLab refuses files of more than 30 MB.
func (j *JUnit) Call(r *Record) error {
	p := j.pending[r.Seq]
	delete(j.pending, r.Seq)
	if r.Status == Skipped || j.err != nil {
		return j.err
	}
	failed := failedAttempts(r)
	j.counts.add(r, failed)
	if !r.Start.IsZero() {
		j.counts.wall = max(j.counts.wall, r.Start.Add(r.Elapsed).Sub(j.start))
	}
	j.dirty = true
	j.cases = j.appendCase(j.cases, r, failed, p)
	if len(j.cases) >= junitBatch {
		return j.Flush()
	}
	return nil
}

// failedAttempts are those that did not succeed, in their order. An attempt that was not
// run is none.
func failedAttempts(r *Record) []*Attempt {
	var failed []*Attempt
	for i := range r.Earlier {
		failed = append(failed, &r.Earlier[i])
	}
	if r.Status != Succeeded && r.Status != NotRun {
		failed = append(failed, &r.Attempt)
	}
	return failed
}

func (c *junitCounts) add(r *Record, failed []*Attempt) {
	c.tests++
	switch {
	case r.Status == Succeeded:
	case len(failed) == 0:
		c.skipped++
	case failed[0].Status == Failed:
		c.failures++
	default:
		c.errors++
	}
}

func (j *JUnit) appendCase(b []byte, r *Record, failed []*Attempt, p *callOutput) []byte {
	shown := &r.Attempt // whose time is the time of the case, as in Surefire
	if r.Status != Succeeded && len(failed) > 0 {
		shown = failed[0]
	}
	b = append(b, `<testcase name="`...)
	b = append(b, caseName(r)...)
	b = append(b, `" classname="`...)
	b = append(b, j.suite...)
	b = append(b, `" time="`...)
	b = append(appendMillis(b, shown.Elapsed), '"')
	switch {
	case len(failed) > 0:
		b = append(b, ">\n"...)
		b = appendFailures(b, r, failed, p)
	case r.Status == NotRun:
		b = append(b, ">\n<skipped"...)
		b = append(appendMessage(b, &r.Attempt), "/>\n"...)
	default:
		return append(b, "/>\n"...)
	}
	return append(b, "</testcase>\n"...)
}

// appendFailures adds an element for each failed attempt, in the order in which they ran.
func appendFailures(b []byte, r *Record, failed []*Attempt, p *callOutput) []byte {
	for i, a := range failed {
		switch {
		case r.Status == Succeeded:
			b = appendRerun(b, "flaky", a, p.find(a.N))
		case i == 0:
			b = appendFailure(b, a, p.find(a.N))
		default:
			b = appendRerun(b, "rerun", a, p.find(a.N))
		}
	}
	return b
}

// appendFailure adds the failure that counts. Its text is what the attempt printed: a
// system-out beside it would not be shown by GitLab.
func appendFailure(b []byte, a *Attempt, p *attemptOutput) []byte {
	element := "error"
	if a.Status == Failed {
		element = "failure"
	}
	b = appendOpen(b, element, a)
	for i, name := range []string{"stdout", "stderr"} {
		b = appendStream(b, name, a.printed(i), p, i, true)
	}
	return appendClose(b, element)
}

// appendRerun adds the failure of an attempt before or after the one that counts.
func appendRerun(b []byte, kind string, a *Attempt, p *attemptOutput) []byte {
	element := kind + "Error"
	if a.Status == Failed {
		element = kind + "Failure"
	}
	b = append(appendOpen(b, element, a), "\n<stackTrace>"...)
	b = appendXML(b, []byte(a.message()), false)
	b = append(b, "</stackTrace>\n"...)
	for i, name := range []string{"stdout", "stderr"} {
		if a.printed(i) == 0 && (p == nil || p.streams[i].total == 0) {
			continue
		}
		tag := [...]string{"system-out", "system-err"}[i]
		b = append(append(append(b, '<'), tag...), '>')
		b = appendStream(b, name, a.printed(i), p, i, false)
		b = appendClose(b, tag)
	}
	return appendClose(b, element)
}

func appendOpen(b []byte, element string, a *Attempt) []byte {
	b = append(append(b, '<'), element...)
	b = append(b, ` type="`...)
	b = append(b, strings.ReplaceAll(string(a.Status), " ", "_")...)
	b = append(b, '"')
	return append(appendMessage(b, a), '>')
}

func appendClose(b []byte, element string) []byte {
	return append(append(append(b, "</"...), element...), ">\n"...)
}

func appendMessage(b []byte, a *Attempt) []byte {
	b = append(b, ` message="`...)
	return append(appendXML(b, []byte(a.message()), true), '"')
}

// message is never empty: a failure without one looks like a mistake of the report.
func (a *Attempt) message() string {
	if a.Error == "" {
		return string(a.Status)
	}
	return a.Error
}

// printed is how many bytes the attempt printed to stdout (0) or stderr (1).
func (a *Attempt) printed(stream int) int64 {
	return [...]int64{a.Stdout, a.Stderr}[stream]
}

// appendStream adds what is kept of a stream, and says what is not. A title tells two
// streams in one text apart.
func appendStream(b []byte, name string, total int64, p *attemptOutput, i int, title bool) []byte {
	var text []byte
	if p != nil {
		text, total = p.streams[i].bytes(), p.streams[i].total
	}
	switch cut := total - int64(len(text)); {
	case total == 0:
		return b
	case cut > 0:
		b = fmt.Appendf(b, "[%s: the last %d of %d bytes]\n", name, len(text), total)
	case title:
		b = fmt.Appendf(b, "[%s]\n", name)
	}
	b = appendXML(b, text, false)
	if title && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return b
}

// caseName is the escaped name of a case: its item in one line, or else its command. A
// long one ends with a checksum of the whole, since GitLab drops cases of the same name;
// the number of the call would change when lines are inserted in the input.
func caseName(r *Record) string {
	whole := strings.Join(r.Item, " ")
	if len(r.Item) == 0 {
		whole = r.Command
	}
	if strings.TrimSpace(whole) == "" {
		return "call " + strconv.FormatUint(r.Seq, 10)
	}
	return xmlName(whole)
}

// xmlName is text as an attribute of one line, at most nameMost characters long.
func xmlName(text string) string {
	if short := firstRunes(text, nameMost); len(short) < len(text) {
		end := fmt.Sprintf("...%08x", crc32.ChecksumIEEE([]byte(text)))
		text = firstRunes(text, nameMost-len(end)) + end
	}
	return string(appendXML(nil, oneLine([]byte(text)), true))
}

// firstRunes is the beginning of text, at most n characters long.
func firstRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// appendMillis adds a duration in seconds, with three decimals: the most that Surefire's
// schema has.
func appendMillis(b []byte, d time.Duration) []byte {
	millis := max(0, d.Milliseconds())
	b = strconv.AppendInt(b, millis/1000, 10)
	return append(b, '.', byte('0'+millis/100%10), byte('0'+millis/10%10), byte('0'+millis%10))
}

// Flush writes the cases that wait and the counts: two writes, or none.
func (j *JUnit) Flush() error {
	if j.err != nil || !j.dirty {
		return j.err
	}
	n := len(j.cases)
	j.cases = append(j.cases, junitEnd...)
	if err := j.put(j.cases, j.end); err != nil {
		return err
	}
	j.end += int64(n)
	j.cases = j.cases[:0]
	if cap(j.cases) > 4*junitBatch {
		j.cases = nil
	}
	j.dirty = false
	return j.put(j.head(j.counts), 0)
}

// put writes, and keeps the first error. What was in the file is made whole again, as far
// as that goes: the closing tags had their place on the disk already.
func (j *JUnit) put(b []byte, at int64) error {
	_, err := j.file.WriteAt(b, at)
	if err == nil {
		return nil
	}
	if at == j.end {
		_, _ = j.file.WriteAt([]byte(junitEnd), j.end)
		_ = j.file.Truncate(j.end + int64(len(junitEnd)))
	}
	var path *os.PathError // says the name a second time
	if errors.As(err, &path) {
		err = path.Err
	}
	j.err = fmt.Errorf("write the JUnit report %s: %w", j.path, err)
	return j.err
}

// Close writes what waits, and the time that the run took, and closes the file.
func (j *JUnit) Close(t *Totals) error {
	j.pending = nil
	j.counts.wall = t.Wall
	j.dirty = true
	err := j.Flush()
	if closed := j.file.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the JUnit report: %w", closed)
	}
	return err
}
