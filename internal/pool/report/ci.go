package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// CIKind is a CI system whose log gpool can shape.
type CIKind int

// The CI systems. With NoCI nothing is folded.
const (
	NoCI CIKind = iota
	GitHub
	GitLab
)

// DetectCI finds the CI system by the variables that it sets for every job. getenv is
// usually [os.Getenv].
func DetectCI(getenv func(string) string) CIKind {
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		return GitHub
	case getenv("GITLAB_CI") == "true":
		return GitLab
	}
	return NoCI
}

// ParseCI decides for --ci: mode is github, gitlab, never or auto, and auto asks
// [DetectCI]. Any other mode is an error.
func ParseCI(mode string, getenv func(string) string) (CIKind, error) {
	switch mode {
	case "github":
		return GitHub, nil
	case "gitlab":
		return GitLab, nil
	case "never":
		return NoCI, nil
	case "auto":
		return DetectCI(getenv), nil
	}
	return NoCI, fmt.Errorf("--ci %q is not known: use github, gitlab, auto or never", mode)
}

const (
	// annotationMost is how many annotations of a step GitHub shows; it drops the others
	// without a word.
	annotationMost = 10
	// repeatMost is how many failed calls are printed again at the end,
	repeatMost = 20
	// repeatBytes is how much of the output of each.
	repeatBytes = 4 << 10
)

// CI prints calls for the log of a CI system: those that passed folded, and failed ones open,
// because GitHub shows all groups folded and cannot nest them. What calls print goes
// through a [Filter].
//
// For each call, in whatever order, the caller uses Begin, Write for all its output, stdout and
// stderr, and End; at the end of the run Finish. All goes to one writer: the system
// reads stdout and stderr at speeds of their own, so what is on the other one would not be
// in its group. After an error every method returns that error. One goroutine.
type CI struct {
	kind     CIKind
	out      *Filter
	err      error // the first one
	call     *Record
	open     bool  // the group of the call
	failed   int64 // calls so far
	failures []failure
}

// failure is a failed call, kept until the end. Up to 20 of them take some 8 KiB each.
type failure struct {
	title, err string
	tail       lastBytes
}

// NewCI makes the form of output for one run. It writes to w, unbuffered, in pieces as small
// as they come.
func NewCI(kind CIKind, w io.Writer) *CI { return &CI{kind: kind, out: NewFilter(w)} }

// Begin starts the output of a call, whose end is known. A failed call gets a heading; any
// other one a group, once it prints something, since thousands of empty groups are noise.
func (c *CI) Begin(r *Record) error {
	c.call, c.open = r, false
	if !r.Status.Failure() {
		return c.err
	}
	c.failed++
	if c.repeats() {
		c.failures = append(c.failures, failure{title: callTitle(r), err: errorText(r)})
	}
	c.line(callTitle(r) + ": " + string(r.Status))
	return c.err
}

// Write implements [io.Writer] for what the call printed.
func (c *CI) Write(b []byte) (int, error) {
	if len(b) == 0 || c.err != nil {
		return 0, c.err
	}
	switch {
	case c.call.Status.Failure():
		if c.repeats() {
			c.failures[len(c.failures)-1].tail.add(b)
		}
	case !c.open:
		c.open = true
		c.order(c.kind.group(c.call))
	}
	if c.text(b); c.err != nil {
		return 0, c.err
	}
	return len(b), nil
}

// End ends the output of the call: its group, or why it failed. That is an annotation for
// the first ten on GitHub, else a line, red on GitLab.
func (c *CI) End() error {
	switch {
	case c.call.Status.Failure() && c.kind == GitHub && c.failed <= annotationMost:
		c.order(annotation(c.call))
	case c.call.Status.Failure():
		c.red(callText(c.call.Seq, c.call.Item) + ": " + errorText(c.call))
	case c.open:
		c.order(c.kind.endGroup(c.call))
	}
	return c.err
}

// Finish prints the failed calls again, up to 20 of them with the last 4 KiB of their output,
// and the counts of the run: whoever opens a log sees its end first.
func (c *CI) Finish(t *Totals) error {
	if n := int64(len(c.failures)); n > 0 {
		heading := plural(c.failed, "failed call") + ", once more:"
		if n < c.failed {
			heading = fmt.Sprintf("the first %d of %s, once more:", n, plural(c.failed, "failed call"))
		}
		c.line("")
		c.line(heading)
	}
	for i := range c.failures {
		c.again(&c.failures[i])
	}
	if c.kind == GitHub && c.failed > annotationMost {
		c.line(fmt.Sprintf("%d failed calls have no annotation: GitHub shows %d of a step",
			c.failed-annotationMost, annotationMost))
	}
	c.line(t.Line())
	return c.err
}

// again prints one failed call once more.
func (c *CI) again(f *failure) {
	c.red(f.title + ": " + f.err)
	if f.tail.cut() {
		c.line(fmt.Sprintf("(the end of %s of output)", plural(f.tail.n, "byte")))
	}
	c.text(f.tail.bytes())
	c.line("")
}

// repeats reports whether the failed call under way is one that is printed again.
func (c *CI) repeats() bool { return c.failed <= repeatMost }

// text prints what may hold orders.
func (c *CI) text(b []byte) {
	if c.err == nil {
		_, c.err = c.out.Write(b)
	}
}

// line prints a line of gpool's own, which may have the item of a call in it.
func (c *CI) line(text string) {
	if c.err == nil {
		c.err = c.out.EndLine()
	}
	c.text([]byte(text + "\n"))
}

// red prints a line that is to be seen. GitHub has colours too, but its annotations do better.
func (c *CI) red(text string) {
	if c.kind == GitLab {
		text = "\x1b[31m" + text + "\x1b[0m"
	}
	c.line(text)
}

// order prints what the system is to obey, if it is not empty.
func (c *CI) order(text string) {
	if c.err == nil && text != "" {
		c.err = c.out.order(text)
	}
}

// callTitle is a call as the heading of its output: "call 12 (ITEM), 1.2 s".
func callTitle(r *Record) string {
	text := callText(r.Seq, r.Item) + ", " + seconds(r.Elapsed)
	if r.N > 1 {
		text += fmt.Sprintf(", attempt %d", r.N)
	}
	return text
}

// group is the order that opens the group of a call.
func (k CIKind) group(r *Record) string {
	title := callTitle(r)
	if r.Status != Succeeded {
		title += ", " + string(r.Status)
	}
	switch k {
	case GitHub:
		return "::group::" + escapeData(neutral(title)) + "\n"
	case GitLab:
		return fmt.Sprintf("\x1b[0Ksection_start:%d:%s[collapsed=true]\r\x1b[0K%s\n",
			max(0, r.Start.Unix()), section(r), neutral(title))
	}
	return ""
}

// endGroup is the order that closes it.
func (k CIKind) endGroup(r *Record) string {
	switch k {
	case GitHub:
		return "::endgroup::\n"
	case GitLab: // which shows the time between the two, so it is the call's own
		return fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n",
			max(0, r.Start.Add(r.Elapsed).Unix()), section(r))
	}
	return ""
}

// section is the name of a group for GitLab, which has to be the only one in the log of a job:
// that may be of several runs of gpool.
func section(r *Record) string {
	return fmt.Sprintf("gpool_%d_%d", max(0, r.Start.UnixMilli()), r.Seq)
}

// annotation is GitHub's order to show a failed call beside the log as well.
func annotation(r *Record) string {
	return "::error title=" + escapeProperty(neutral(callText(r.Seq, r.Item))) +
		"::" + escapeData(neutral(errorText(r))) + "\n"
}

// GitHub takes text in orders with these characters written as percent codes.
var (
	dataCodes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyCodes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func escapeData(text string) string     { return dataCodes.Replace(text) }
func escapeProperty(text string) string { return propertyCodes.Replace(text) }

// lastBytes keeps the end of some output, in at most twice repeatBytes bytes.
type lastBytes struct {
	kept []byte
	n    int64 // bytes in all
}

func (t *lastBytes) add(b []byte) {
	t.n += int64(len(b))
	t.kept = append(t.kept, b[max(0, len(b)-repeatBytes):]...)
	if over := len(t.kept) - repeatBytes; over > repeatBytes/2 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
}

// cut reports whether some of the output is missing.
func (t *lastBytes) cut() bool { return t.n > repeatBytes }

// bytes is the end of the output, from the beginning of a line if one begins in it.
func (t *lastBytes) bytes() []byte {
	b := t.kept[max(0, len(t.kept)-repeatBytes):]
	if !t.cut() {
		return b
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 && i < len(b)-1 {
		return b[i+1:]
	}
	return b
}
