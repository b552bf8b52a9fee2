package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"gpool/internal/ipc"
)

// xmlElement is what a schema says of an XML element.
type xmlElement struct {
	required map[string]*regexp.Regexp // xmlAttrs that must be there
	optional map[string]*regexp.Regexp
	children []string // that may be there
	sequence bool     // at most once each, in this order
	text     bool     // it may have text
}

var (
	xmlText    = regexp.MustCompile(`(?s)^.*$`)
	digitsOnly = regexp.MustCompile(`^[0-9]+$`)
	xmlSeconds = regexp.MustCompile(`^(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?$`)
	xmlWord    = regexp.MustCompile(`^[a-z_]+$`)
	xmlMoment  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
)

type xmlAttrs map[string]*regexp.Regexp

// junitSchema holds a report to what both Jenkins' schema (junit-10 of its xunit plugin)
// and that of Surefire 3 ask: where one is stricter, it counts. Surefire's order of the
// elements of a case is left out, because Surefire itself does not keep it.
var junitSchema = map[string]xmlElement{
	"testsuites": {
		optional: xmlAttrs{"name": xmlText, "time": xmlSeconds, "tests": digitsOnly, "failures": digitsOnly, "errors": digitsOnly},
		children: []string{"testsuite"},
	},
	"testsuite": {
		required: xmlAttrs{"name": xmlText, "tests": digitsOnly, "failures": digitsOnly, "errors": digitsOnly, "skipped": digitsOnly},
		optional: xmlAttrs{"time": xmlSeconds, "timestamp": xmlMoment, "hostname": xmlText},
		children: []string{"testcase"},
	},
	"testcase": {
		required: xmlAttrs{"name": xmlText, "time": xmlSeconds},
		optional: xmlAttrs{"classname": xmlText},
		children: []string{"skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError", "system-out", "system-err"},
	},
	"failure":      {required: xmlAttrs{"type": xmlWord}, optional: xmlAttrs{"message": xmlText}, text: true},
	"error":        {required: xmlAttrs{"type": xmlWord}, optional: xmlAttrs{"message": xmlText}, text: true},
	"skipped":      {optional: xmlAttrs{"message": xmlText}, text: true},
	"rerunFailure": rerunElement,
	"rerunError":   rerunElement,
	"flakyFailure": rerunElement,
	"flakyError":   rerunElement,
	"stackTrace":   {text: true},
	"system-out":   {text: true},
	"system-err":   {text: true},
}

var rerunElement = xmlElement{
	required: xmlAttrs{"type": xmlWord}, optional: xmlAttrs{"message": xmlText},
	children: []string{"stackTrace", "system-out", "system-err"}, sequence: true,
}

// xmlNode is an XML element that was read back.
type xmlNode struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []xmlNode  `xml:",any"`
	Text     string     `xml:",chardata"`
}

func (n *xmlNode) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// all are the children of a name, at any depth.
func (n *xmlNode) all(name string) []*xmlNode {
	var found []*xmlNode
	for i := range n.Children {
		if n.Children[i].XMLName.Local == name {
			found = append(found, &n.Children[i])
		}
		found = append(found, n.Children[i].all(name)...)
	}
	return found
}

// check holds a xmlNode to the schema.
func (n *xmlNode) check() error {
	name := n.XMLName.Local
	rule, ok := junitSchema[name]
	if !ok {
		return fmt.Errorf("unknown element %s", name)
	}
	seen := map[string]bool{}
	for _, a := range n.Attrs {
		pattern := rule.required[a.Name.Local]
		if pattern == nil {
			pattern = rule.optional[a.Name.Local]
		}
		if pattern == nil || !pattern.MatchString(a.Value) || seen[a.Name.Local] {
			return fmt.Errorf("%s has the attribute %s=%q", name, a.Name.Local, a.Value)
		}
		seen[a.Name.Local] = true
	}
	for a := range rule.required {
		if !seen[a] {
			return fmt.Errorf("%s lacks the attribute %s", name, a)
		}
	}
	if !rule.text && strings.TrimSpace(n.Text) != "" {
		return fmt.Errorf("%s has the text %q", name, n.Text)
	}
	return n.checkChildren(rule)
}

func (n *xmlNode) checkChildren(rule xmlElement) error {
	last := -1
	for i := range n.Children {
		at := slices.Index(rule.children, n.Children[i].XMLName.Local)
		if at < 0 || rule.sequence && at <= last {
			return fmt.Errorf("%s has a %s as its child %d", n.XMLName.Local, n.Children[i].XMLName.Local, i)
		}
		last = at
		if err := n.Children[i].check(); err != nil {
			return err
		}
	}
	if rule.sequence && rule.children[0] == "stackTrace" && len(n.all("stackTrace")) != 1 {
		return fmt.Errorf("%s has no stackTrace", n.XMLName.Local)
	}
	return nil
}

// readJUnit reads a report, holds it to the schema, and its counts to its cases.
func readJUnit(b []byte) (*xmlNode, error) {
	if r, bad := forbidden(b); bad {
		return nil, fmt.Errorf("the character %U is in it", r)
	}
	decoder := xml.NewDecoder(bytes.NewReader(b))
	root := &xmlNode{}
	if err := decoder.Decode(root); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("after the root: %w", err)
	}
	if root.XMLName.Local != "testsuites" {
		return nil, fmt.Errorf("the root is %s", root.XMLName.Local)
	}
	if err := root.check(); err != nil {
		return nil, err
	}
	for _, of := range [][2]string{{"tests", "testcase"}, {"failures", "failure"}, {"errors", "error"}, {"skipped", "skipped"}} {
		for _, n := range []*xmlNode{root, &root.Children[0]} {
			if n == root && of[0] == "skipped" {
				continue
			}
			if got, want := n.attr(of[0]), strconv.Itoa(len(root.all(of[1]))); got != want {
				return nil, fmt.Errorf("%s=%q, and there are %s", of[0], got, want)
			}
		}
	}
	return root, nil
}

// forbidden finds a control character, or what XML 1.0 does not allow.
func forbidden(b []byte) (rune, bool) {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		control := r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0
		if control || r == utf8.RuneError && size == 1 || r == 0xfffe || r == 0xffff {
			return r, true
		}
	}
	return 0, false
}

// desk is a JUnit report under test.
type desk struct {
	*JUnit
	t    testing.TB
	path string
}

func newDesk(t testing.TB) *desk {
	path := filepath.Join(t.TempDir(), "report.xml")
	j, err := NewJUnit(path, "convert", start())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.file.Close() })
	return &desk{j, t, path}
}

func (d *desk) ok(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) text() []byte {
	d.t.Helper()
	b, err := os.ReadFile(d.path)
	d.ok(err)
	return b
}

func (d *desk) read() *xmlNode {
	d.t.Helper()
	root, err := readJUnit(d.text())
	if err != nil {
		d.t.Fatalf("%v in\n%.2000s", err, d.text())
	}
	return root
}

var everyStatus = []Status{Succeeded, Failed, NotStarted, WorkerDied, TimedOut, OutOfMemory, Cancelled, NotRun, Skipped}

// sampleAttempt is an attempt that ended with a status.
func sampleAttempt(n int, status Status) Attempt {
	a := Attempt{N: n, Status: status, Exit: 3, Slot: 2, Pid: 4711, Start: at(float64(n)),
		Elapsed: 1500 * time.Millisecond, User: time.Second, System: 20 * time.Millisecond, MaxRSS: 1 << 20, Stdout: 5, Stderr: 7}
	if status != Succeeded {
		a.Error = "exit code 3"
	} else {
		a.Exit = 0
	}
	return a
}

func TestJUnitOfEveryStatus(t *testing.T) {
	d := newDesk(t)
	for i, status := range everyStatus {
		d.ok(d.Output(uint64(i+1), 1, ipc.Stdout, []byte("out of it")))
		d.ok(d.Call(&Record{Seq: uint64(i + 1), Item: []string{"item", string(status)}, Attempt: sampleAttempt(1, status)}))
	}
	d.ok(d.Close(&Totals{Wall: 90 * time.Second}))
	root := d.read()
	want := map[Status]string{Succeeded: "", Failed: "failure", NotStarted: "error", WorkerDied: "error", TimedOut: "error",
		OutOfMemory: "error", Cancelled: "error", NotRun: "skipped"}
	cases := root.all("testcase")
	if len(cases) != len(want) {
		t.Errorf("%d cases, want %d: one for each but %s", len(cases), len(want), Skipped)
	}
	for _, c := range cases {
		status := Status(strings.TrimPrefix(c.attr("name"), "item "))
		var got string
		if len(c.Children) > 0 {
			got = c.Children[0].XMLName.Local
		}
		if got != want[status] {
			t.Errorf("%s is a %q, want %q", status, got, want[status])
		}
		if got == "failure" || got == "error" {
			failure := c.Children[0]
			if typ := failure.attr("type"); typ != strings.ReplaceAll(string(status), " ", "_") {
				t.Errorf("%s has the type %s", status, typ)
			}
			if failure.attr("message") != "exit code 3" || !strings.Contains(failure.Text, "out of it") {
				t.Errorf("%s: message %q, text %q", status, failure.attr("message"), failure.Text)
			}
		}
		if c.attr("classname") != "convert" || c.attr("time") != "1.500" {
			t.Errorf("%s: classname %q, time %q", status, c.attr("classname"), c.attr("time"))
		}
	}
	if got := root.attr("time"); got != "90.000" {
		t.Errorf("the run took %q", got)
	}
}

// A retry is told as Surefire tells it: the first failure, then the reruns in their order,
// or only flaky ones if the call passed in the end.
func TestJUnitOfRetries(t *testing.T) {
	for _, test := range []struct {
		name     string
		statuses []Status
		want     string
	}{
		{"fails thrice", []Status{Failed, TimedOut, Failed}, "failure:1 rerunError:2 rerunFailure:3"},
		{"the first decides", []Status{WorkerDied, Failed}, "error:1 rerunFailure:2"},
		{"passes at last", []Status{Failed, WorkerDied, Succeeded}, "flakyFailure:1 flakyError:2"},
		{"stopped before the second", []Status{Failed, NotRun}, "failure:1"},
		{"passes at once", []Status{Succeeded}, ""},
		{"not run", []Status{NotRun}, "skipped:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t)
			r := &Record{Seq: 1, Item: []string{"a"}}
			for i, status := range test.statuses {
				d.ok(d.Output(1, i+1, ipc.Stderr, fmt.Appendf(nil, "printed by %d", i+1)))
				r.Earlier = append(r.Earlier, sampleAttempt(i+1, status))
			}
			last := len(r.Earlier) - 1
			r.Attempt, r.Earlier = r.Earlier[last], r.Earlier[:last]
			d.ok(d.Call(r))
			d.ok(d.Flush())
			var got []string
			for _, f := range d.read().all("testcase")[0].Children {
				text := f.Text
				for _, child := range f.Children {
					text += child.Text
				}
				_, by, _ := strings.Cut(strings.TrimSpace(text), "printed by ")
				got = append(got, f.XMLName.Local+":"+by)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The file is a whole report after every flush, whatever comes; without one it keeps what
// it had, so that a kill costs the calls since then and no more.
func TestJUnitIsWholeAfterEveryFlush(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("gpool-junit-%d.xml", os.Getpid()))
		defer os.Remove(path)
		j, err := NewJUnit(path, rapid.String().Draw(t, "suite"), start())
		if err != nil {
			t.Fatal(err)
		}
		defer j.file.Close()
		cases, flushed := 0, 0
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			seq := rapid.Uint64Range(1, 4).Draw(t, "seq")
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				err = j.Output(seq, rapid.IntRange(1, 3).Draw(t, "attempt"), rapid.SampledFrom([]ipc.Stream{ipc.Stdout, ipc.Stderr}).Draw(t, "stream"),
					rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "printed"))
			case 1:
				r := drawRecord(t, seq)
				if r.Status != Skipped {
					cases++
				}
				err = j.Call(r)
			case 2:
				err = j.Flush()
				flushed = cases
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			root, err := readJUnit(b)
			if err != nil {
				t.Fatalf("%v in\n%s", err, b)
			}
			if got := len(root.all("testcase")); got != flushed {
				t.Fatalf("%d cases after a flush with %d", got, flushed)
			}
		}
	})
}

// drawRecord makes a call with up to three attempts, of hostile bytes.
func drawRecord(t *rapid.T, seq uint64) *Record {
	text := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes"))
	})
	attempt := func(n int, statuses []Status) Attempt {
		return Attempt{N: n, Status: rapid.SampledFrom(statuses).Draw(t, "status"), Error: text.Draw(t, "error"),
			Exit: rapid.IntRange(-1, 255).Draw(t, "exit"), Start: at(rapid.Float64Range(0, 1e6).Draw(t, "start")),
			Elapsed: time.Duration(rapid.Int64Min(0).Draw(t, "elapsed")), Stdout: rapid.Int64Range(0, 9).Draw(t, "stdout")}
	}
	r := &Record{Seq: seq, Item: rapid.SliceOfN(text, 0, 3).Draw(t, "item"), Command: text.Draw(t, "command")}
	n := rapid.IntRange(1, 3).Draw(t, "attempts")
	for i := range n - 1 {
		r.Earlier = append(r.Earlier, attempt(i+1, everyStatus[1:6]))
	}
	r.Attempt = attempt(n, everyStatus)
	return r
}

func TestJUnitNames(t *testing.T) {
	long := strings.Repeat("ä", 300)
	for _, test := range []struct {
		name string
		r    Record
		want string
	}{
		{"columns", Record{Seq: 1, Item: []string{"a", "b c"}, Command: "x"}, "a b c"},
		{"no item", Record{Seq: 1, Command: "make all"}, "make all"},
		{"nothing", Record{Seq: 7, Item: []string{""}}, "call 7"},
		{"several lines", Record{Seq: 1, Item: []string{"a\nb\tc"}}, "a b c"},
		{"colours", Record{Seq: 1, Item: []string{"\x1b[31mred\x1b[0m"}}, "red"},
		{"control characters and no UTF-8", Record{Seq: 1, Item: []string{"a\x00\x07\xff\u009bz"}}, "a\ufffd\ufffd\ufffd\ufffdz"},
		{"markup", Record{Seq: 1, Item: []string{`<a b="c">&'`}}, `&lt;a b=&quot;c&quot;&gt;&amp;'`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := caseName(&test.r); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	one, two := caseName(&Record{Seq: 1, Item: []string{long + "1"}}), caseName(&Record{Seq: 2, Item: []string{long + "2"}})
	if n := utf8.RuneCountInString(one); n != nameMost || one == two {
		t.Errorf("%d characters of a long item, and another one is named %q and %q", n, one, two)
	}
}

func TestXMLText(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "a\tb\nc", "a\tb\nc"},
		{"carriage returns", "10%\r20%\r\ndone\r", "10%\n20%\ndone\n"},
		{"markup", "<a>&]]>", "&lt;a&gt;&amp;]]&gt;"},
		{"colours", "\x1b[1;31mE\x1b[m \x1b[38:2::1:2:3mx", "E x"},
		{"a title, a link", "\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"},
		{"short sequences", "\x1b7a\x1b(Bb\x1bcd", "abd"},
		{"a lone escape", "a\x1b", "a\ufffd"},
		{"a cut sequence", "a\x1b[31", "a\ufffd[31"},
		{"a title without an end", "\x1b]0;title\nnext", "\ufffd]0;title\nnext"},
		{"a sequence within", "\x1b[3\x1b[31mx", "\ufffd[3x"},
		{"control characters", "\x00\x08\x7f\u0080\u009f\ufffe\uffff", strings.Repeat("\ufffd", 7)},
		{"no UTF-8", "\xff\xed\xa0\x80é", "\ufffd\ufffd\ufffd\ufffdé"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := string(appendXML(nil, []byte(test.text), false)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Of much output the end is kept, and the report says so; memory does not grow with it.
func TestJUnitKeepsTheEndOfOutput(t *testing.T) {
	d := newDesk(t)
	piece := bytes.Repeat([]byte("0123456789abcde\n"), 1000)
	for range 100 {
		d.ok(d.Output(1, 1, ipc.Stdout, piece))
	}
	d.ok(d.Output(1, 1, ipc.Stdout, []byte("the end")))
	if n := cap(d.pending[1].attempts[0].streams[0].kept); n > 4*tailMost {
		t.Errorf("%d bytes are kept", n)
	}
	d.ok(d.Call(&Record{Seq: 1, Item: []string{"a"}, Attempt: sampleAttempt(1, Failed)}))
	if len(d.pending) != 0 {
		t.Error("output is kept beyond its call")
	}
	d.ok(d.Flush())
	text := d.read().all("failure")[0].Text
	if want := "[stdout: the last 65536 of 1600007 bytes]\n"; !strings.HasPrefix(text, want) {
		t.Errorf("it begins with %.80q", text)
	}
	if !strings.HasSuffix(text, "\nthe end\n") || len(text) > tailMost+100 {
		t.Errorf("%d bytes, ending with %q", len(text), text[len(text)-20:])
	}
}

func TestTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		var kept tail
		for i := range rapid.IntRange(0, 8).Draw(t, "pieces") {
			piece := bytes.Repeat([]byte{byte('a' + i)}, rapid.IntRange(0, 3*tailMost).Draw(t, "size"))
			all = append(all, piece...)
			kept.add(piece)
		}
		want := all[max(0, len(all)-tailMost):]
		if !bytes.Equal(kept.bytes(), want) || kept.total != int64(len(all)) {
			t.Fatalf("%d bytes of %d, want %d of %d", len(kept.bytes()), kept.total, len(want), len(all))
		}
	})
}

// A call with many retries keeps the output of its first attempt and of the latest.
func TestJUnitBoundsAttempts(t *testing.T) {
	d := newDesk(t)
	r := &Record{Seq: 1, Item: []string{"a"}, Attempt: sampleAttempt(20, Failed)}
	for n := 1; n <= 20; n++ {
		d.ok(d.Output(1, n, ipc.Stdout, fmt.Appendf(nil, "output %d.", n)))
		if n < 20 {
			r.Earlier = append(r.Earlier, sampleAttempt(n, Failed))
		}
	}
	if n := len(d.pending[1].attempts); n != attemptsShown {
		t.Errorf("%d attempts are kept", n)
	}
	d.ok(d.Call(r))
	d.ok(d.Flush())
	text := string(d.text())
	for n, want := range map[int]bool{1: true, 2: false, 13: false, 14: true, 20: true} {
		if got := strings.Contains(text, fmt.Sprintf("output %d.", n)); got != want {
			t.Errorf("output of attempt %d is there: %v, want %v", n, got, want)
		}
	}
	if !strings.Contains(text, "the last 0 of 5 bytes") {
		t.Error("nothing says that output is missing")
	}
	d.read()
}

func TestJUnitRefusesWhatIsNoFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo:           "no regular file",
		os.DevNull:     "no regular file",
		t.TempDir():    "no regular file",
		"/nowhere/x.y": "no such file",
	} {
		if _, err := NewJUnit(path, "s", start()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestJUnitReplacesAnOldReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.xml")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := NewJUnit(path, "s", start())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(&Totals{}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	if _, err := readJUnit(b); err != nil {
		t.Error(err)
	}
}

// fullDisk is a file that has room for so many bytes.
type fullDisk struct {
	*os.File
	room int64
}

func (f *fullDisk) WriteAt(b []byte, at int64) (int, error) {
	fits := max(0, min(int64(len(b)), f.room-at))
	n, err := f.File.WriteAt(b[:fits], at)
	if err == nil && n < len(b) {
		err = &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

// A full disk is an error with the name of the file, from then on, and the report keeps
// the calls that it had.
func TestJUnitOnAFullDisk(t *testing.T) {
	d := newDesk(t)
	call := func(seq uint64) *Record {
		return &Record{Seq: seq, Item: []string{"a"}, Attempt: sampleAttempt(1, Succeeded)}
	}
	d.ok(d.Call(call(1)))
	d.ok(d.Flush())
	d.file = &fullDisk{d.file.(*os.File), d.end + 40}
	d.ok(d.Call(call(2)))
	err := d.Flush()
	if !errors.Is(err, syscall.ENOSPC) || strings.Count(err.Error(), d.path) != 1 {
		t.Errorf("it says %v", err)
	}
	if again := d.Call(call(3)); again != err {
		t.Errorf("later it says %v", again)
	}
	if n := len(d.read().all("testcase")); n != 1 {
		t.Errorf("%d cases are in the report", n)
	}
	if closed := d.Close(&Totals{}); closed != err {
		t.Errorf("at the end it says %v", closed)
	}
}

// The validator must be able to fail.
func TestJUnitSchemaRefuses(t *testing.T) {
	d := newDesk(t)
	d.ok(d.Call(&Record{Seq: 1, Item: []string{"a"}, Attempt: sampleAttempt(2, Succeeded), Earlier: []Attempt{sampleAttempt(1, Failed)}}))
	d.ok(d.Flush())
	good := string(d.text())
	for _, change := range [][2]string{
		{`tests="1"`, `tests="2"`}, {`name="a"`, ``}, {`time="1.500"`, `time="1.5s"`}, {`type="failed"`, ``},
		{"<stackTrace>exit code 3</stackTrace>", ""}, {"flakyFailure", "flaky"}, {"</testsuites>", ""}, {"exit", "\x1b"},
		{`classname=`, `class=`},
	} {
		bad := strings.ReplaceAll(good, change[0], change[1])
		if bad == good {
			t.Fatalf("%q is not in the report", change[0])
		}
		if _, err := readJUnit([]byte(bad)); err == nil {
			t.Errorf("%q in the place of %q passes", change[1], change[0])
		}
	}
}

// Whatever bytes go in, the report can be read, and no forbidden character is in it.
func FuzzJUnit(f *testing.F) {
	for _, seed := range []string{"plain", "]]>", "\x1b[31mred\x1b[0m", "\x1b]8;;x\x07", "\x00\xff\xfe", "\ufffe\u0085", "<!--", "\r\n\r", "&#0;"} {
		f.Add(seed, seed, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, item, message string, printed []byte) {
		j := &JUnit{path: "fuzz", suite: xmlName(item), start: start(), pending: map[uint64]*callOutput{}}
		_ = j.Output(1, 1, ipc.Stdout, printed)
		_ = j.Output(1, 2, ipc.Stderr, printed)
		first := Attempt{N: 1, Status: Failed, Error: message}
		for _, status := range []Status{Succeeded, TimedOut} {
			r := &Record{Seq: 1, Item: []string{item}, Attempt: Attempt{N: 2, Status: status, Error: message}, Earlier: []Attempt{first}}
			j.counts.add(r, failedAttempts(r))
			j.cases = j.appendCase(j.cases, r, failedAttempts(r), j.pending[1])
		}
		b := append(append(j.head(j.counts), j.cases...), junitEnd...)
		if _, err := readJUnit(b); err != nil {
			t.Fatalf("%v in\n%q", err, b)
		}
	})
}

func BenchmarkJUnit(b *testing.B) {
	path := filepath.Join(b.TempDir(), "report.xml")
	j, err := NewJUnit(path, "s", start())
	if err != nil {
		b.Fatal(err)
	}
	r := &Record{Item: []string{"images/0001.png"}, Attempt: sampleAttempt(1, Succeeded)}
	out := []byte("0123456789")
	b.ReportAllocs()
	for b.Loop() {
		r.Seq++
		if err := errors.Join(j.Output(r.Seq, 1, ipc.Stdout, out), j.Call(r)); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Close(&Totals{}); err != nil {
		b.Fatal(err)
	}
}
