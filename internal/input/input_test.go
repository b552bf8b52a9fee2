package input

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// show writes rows so that a test can compare them at a glance: columns, names, or the error.
func show(rows []Row) []string {
	var lines []string
	for _, row := range rows {
		switch {
		case row.Err != nil:
			lines = append(lines, "error: "+row.Err.Error())
		case row.Names != nil:
			lines = append(lines, fmt.Sprintf("%d %q %q", row.Line, row.Names, row.Columns))
		default:
			lines = append(lines, fmt.Sprintf("%d %q", row.Line, row.Columns))
		}
	}
	return lines
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one with %q", err, part)
	}
}

var formats = []struct {
	name   string
	format Format
	text   string
	want   []string
}{
	{"empty", Format{}, "", nil},
	{"lines", Format{}, "a\n\n b \r\nlast", []string{`1 ["a"]`, `2 [""]`, `3 [" b \r"]`, `4 ["last"]`}},
	{"bytes", Format{}, "\xff\x00\t{}\n\n", []string{`1 ["\xff\x00\t{}"]`, `2 [""]`}},
	{"nul", Format{Null: true}, "a\nb\x00\x00c", []string{`1 ["a\nb"]`, `2 [""]`, `3 ["c"]`}},
	{"tabs", Format{Rows: Columns}, "a\t\tb\n\n\t", []string{`1 ["a" "" "b"]`, `2 [""]`, `3 ["" ""]`}},
	{"nul tabs", Format{Rows: Columns, Null: true}, "a\tb\nc\x00", []string{`1 ["a" "b\nc"]`}},
	{"regexp", Format{Rows: Columns, Sep: regexp.MustCompile(`\s*,\s*`)}, "a , b,,\n\xff", []string{`1 ["a" "b" "" ""]`, `2 ["\xff"]`}},
	{"csv", Format{Rows: CSV}, "a,\"b,\"\"c\"\n\n\"x\ny\",\xff,\r\nz", []string{`1 ["a" "b,\"c"]`, `3 ["x\ny" "\xff" ""]`, `5 ["z"]`}},
	{"csv mark", Format{Rows: CSV}, "\ufeff\"a\",b\n", []string{`1 ["a" "b"]`}},
	{"csv bad", Format{Rows: CSV}, "a,b\nx\"y,z\nc\n\"d\"e\nf", []string{`1 ["a" "b"]`,
		`error: line 2 of standard input is not CSV, at column 2 of line 2: bare " in non-quoted-field`, `3 ["c"]`,
		`error: line 4 of standard input is not CSV, at column 3 of line 4: extraneous or missing " in quoted-field`, `5 ["f"]`}},
	{"csv open quote in the last line", Format{Rows: CSV}, "a\n\"b\n", []string{`1 ["a"]`,
		`error: line 2 of standard input is not CSV, at column 4 of line 2: extraneous or missing " in quoted-field`}},
	{"jsonl arrays", Format{Rows: JSONL}, "[\"a\\n\\u00e9\",1.50e+3,true,false,null,[1, {\"x\" : \"]\\\"\"}],{}]\n\n \t\r\n [ ] \r\n[\"ä\"]",
		[]string{`1 ["a\né" "1.50e+3" "true" "false" "" "[1,{\"x\":\"]\\\"\"}]" "{}"]`, `4 []`, `5 ["ä"]`}},
	{"jsonl objects", Format{Rows: JSONL}, `{"z": 1, "a" :"x","\u0062":{"c":[1, 2]}}` + "\n{}",
		[]string{`1 ["z" "a" "b"] ["1" "x" "{\"c\":[1,2]}"]`, `2 [] []`}},
	{"jsonl nul", Format{Rows: JSONL, Null: true}, "[1,\n2]\x00x", []string{`1 ["1" "2"]`,
		`error: record 2 of standard input is not a JSON array or object: invalid character 'x' looking for beginning of value`}},
	{"json text", Format{Rows: JSONText}, "[1, 2]\n\n \t\r\n{\"a\"\n\xff", []string{`1 ["[1, 2]"]`, `4 ["{\"a\""]`, `5 ["\xff"]`}},
	{"jsonl bad", Format{Rows: JSONL}, "[1]\n42\n[1\n[\"\xff\"]\n[1] x\n\"s\"\n[2]", []string{`1 ["1"]`,
		`error: line 2 of standard input is not a JSON array or object: it is the single value 42: put it in brackets`,
		`error: line 3 of standard input is not a JSON array or object: unexpected end of JSON input`,
		`error: line 4 of standard input is not a JSON array or object: it holds bytes that are not UTF-8`,
		`error: line 5 of standard input is not a JSON array or object: invalid character 'x' after top-level value`,
		`error: line 6 of standard input is not a JSON array or object: it is the single value "s": put it in brackets`,
		`7 ["2"]`}},
}

// Each format is read at once, byte by byte, and row by row: the rows must not depend on it.
func TestFormats(t *testing.T) {
	for _, tt := range formats {
		t.Run(tt.name, func(t *testing.T) {
			for _, in := range []io.Reader{
				strings.NewReader(tt.text),
				iotest.OneByteReader(strings.NewReader(tt.text)),
				iotest.DataErrReader(strings.NewReader(tt.text)),
			} {
				src, names, err := Open(nil, in, tt.format)
				if err != nil || names != nil {
					t.Fatalf("open: names %q, error %v", names, err)
				}
				rows, err := readBy(src, 1)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, show(rows), tt.want)
			}
		})
	}
}

// readBy is ReadAll with a limit for each Next, which it checks.
func readBy(src Source, max int) ([]Row, error) {
	var all []Row
	for {
		rows, err := src.Next(max)
		if err == io.EOF && len(rows) == 0 {
			return all, src.Close()
		}
		if err != nil {
			return all, err
		}
		if len(rows) == 0 || len(rows) > max {
			return nil, fmt.Errorf("Next(%d) returned %d rows", max, len(rows))
		}
		all = append(all, rows...)
	}
}

func TestNextSizes(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "%d\n", i)
	}
	for _, format := range []Format{{}, {Rows: Columns}, {Rows: CSV}} {
		for _, max := range []int{1, 3, 255, 256, 257, 4096, math.MaxInt} {
			src, _, _ := Open(nil, strings.NewReader(text.String()), format)
			rows, err := readBy(src, max)
			if err != nil || len(rows) != 5000 {
				t.Fatalf("%v by %d: %d rows, error %v", format, max, len(rows), err)
			}
			for i, row := range rows {
				if row.Columns[0] != fmt.Sprint(i) || row.Line != int64(i+1) || row.File != stdinName {
					t.Fatalf("%v by %d: row %d is %+v", format, max, i, row)
				}
			}
		}
	}
	src, _, _ := Open(nil, strings.NewReader(text.String()), Format{})
	for range 10 {
		if rows, err := src.Next(100); len(rows) != 100 || err != nil {
			t.Fatalf("got %d rows and error %v, but 100 were buffered", len(rows), err)
		}
	}
}

func TestFilesFollowEachOther(t *testing.T) {
	a, b, empty := write(t, "a", "1\n2"), write(t, "b", "3\n"), write(t, "empty", "")
	src, _, err := Open([]string{a, empty, "-", b}, strings.NewReader("in"), Format{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ReadAll(src)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, show(rows), []string{`1 ["1"]`, `2 ["2"]`, `1 ["in"]`, `1 ["3"]`})
	if files := []string{rows[0].File, rows[2].File, rows[3].File}; !slices.Equal(files, []string{a, stdinName, b}) {
		t.Errorf("files are %q", files)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if _, err := src.Next(1); err == nil {
		t.Error("a closed source still reads")
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	good := write(t, "good", "x\n")
	tests := []struct {
		files  []string
		format Format
		want   string
	}{
		{[]string{good, missing}, Format{}, missing + ": no such file"},
		{[]string{good, dir}, Format{}, dir + " is a directory"},
		{[]string{"-", "-"}, Format{}, "standard input is named twice"},
		{nil, Format{Null: true, Rows: CSV}, "CSV records end with a newline"},
	}
	for _, tt := range tests {
		in := iotest.ErrReader(errors.New("read too early"))
		_, _, err := Open(tt.files, in, tt.format)
		wantError(t, err, tt.want)
	}
}

func TestHeader(t *testing.T) {
	a, b := write(t, "a", "name\tsize\nx\t1\ny\nz\t2\t3\n"), write(t, "b", "name\tsize\nw\t4")
	empty := write(t, "empty", "")
	format := Format{Rows: Columns, Header: true}
	src, names, err := Open([]string{empty, a, empty, b}, nil, format)
	if err != nil || !slices.Equal(names, []string{"name", "size"}) {
		t.Fatalf("names %q, error %v", names, err)
	}
	rows, err := ReadAll(src)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, show(rows), []string{`2 ["x" "1"]`,
		"error: line 3 of " + a + " has 1 column, but the header has 2",
		"error: line 4 of " + a + " has 3 columns, but the header has 2", `2 ["w" "4"]`})

	other := write(t, "other", "name\tage\n1\t2\n")
	src, _, err = Open([]string{b, other}, nil, format)
	if err != nil {
		t.Fatal(err)
	}
	rows, err = ReadAll(src)
	equal(t, show(rows), []string{`2 ["w" "4"]`})
	wantError(t, err, other+" has the header name, age, but "+b+" has name, size")

	if _, names, err := Open([]string{empty}, nil, format); names != nil || err != nil {
		t.Errorf("empty file: names %q, error %v", names, err)
	}
	_, _, err = Open(nil, strings.NewReader("a\"b\n"), Format{Rows: CSV, Header: true})
	wantError(t, err, "read the header: line 1")
	_, _, err = Open(nil, strings.NewReader("{\"a\":1}\n"), Format{Rows: JSONL, Header: true})
	wantError(t, err, "leave --header out")
	_, names, err = Open(nil, strings.NewReader("[\"a\"]\n[1]"), Format{Rows: JSONL, Header: true})
	if err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("JSONL header: names %q, error %v", names, err)
	}
}

// What stood before a read error is handed out; the line that it cut off is not an item.
func TestReadErrorInMidLine(t *testing.T) {
	boom := errors.New("boom")
	for _, rows := range []RowFormat{WholeLine, Columns, CSV, JSONL, JSONText} {
		in := io.MultiReader(strings.NewReader("[1]\n[2]\n[3]"), iotest.ErrReader(boom))
		src, _, _ := Open(nil, in, Format{Rows: rows})
		got, err := ReadAll(src)
		if len(got) != 2 || !errors.Is(err, boom) {
			t.Errorf("format %d: got %d rows and error %v", rows, len(got), err)
		}
		wantError(t, err, "read standard input after line 2: boom")
		if _, again := src.Next(1); !errors.Is(again, boom) {
			t.Errorf("format %d: the error was told only once, then %v", rows, again)
		}
	}
	_, _, err := Open(nil, iotest.ErrReader(boom), Format{Header: true})
	wantError(t, err, "read standard input: boom")
}

func TestCSVQuoteLeftOpen(t *testing.T) {
	for _, cut := range []io.Reader{strings.NewReader(""), iotest.ErrReader(errors.New("boom"))} {
		src, _, _ := Open(nil, io.MultiReader(strings.NewReader("a\n\"b\nc\nd\n"), cut), Format{Rows: CSV})
		rows, err := ReadAll(src)
		equal(t, show(rows), []string{`1 ["a"]`})
		if err == nil {
			t.Error("the lines after the quote were lost silently")
		}
	}
}

// A row must come out as soon as it is there: the pipe has no second one, and Next would hang.
func TestNextDoesNotWaitForMore(t *testing.T) {
	for _, rows := range []RowFormat{WholeLine, Columns, CSV, JSONL} {
		r, w := io.Pipe()
		src, _, _ := Open(nil, r, Format{Rows: rows})
		// The second half of a record is behind the first whole one, and for some formats a line that is no row.
		go func() { _, _ = io.WriteString(w, "[1]\n\n\"ha\n") }()
		got, err := src.Next(1)
		if err != nil || len(got) != 1 || got[0].Columns == nil {
			t.Fatalf("format %d: got %v, error %v", rows, show(got), err)
		}
		_ = r.Close()
	}
	r, w := io.Pipe()
	src, _, _ := Open(nil, r, Format{})
	go func() { _, _ = io.WriteString(w, "1\n2\n3\nhal") }()
	if got, err := src.Next(10); err != nil || len(got) != 3 {
		t.Errorf("got %v, error %v", show(got), err)
	}
	joined := Batch(src, 2)
	go func() { _, _ = io.WriteString(w, "f\n5\n6\n") }()
	got, err := joined.Next(10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, show(got), []string{`4 ["half" "5"]`})
	_ = r.Close()
}

// zeros is a long line without the memory for it.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

func TestLongLine(t *testing.T) {
	size := 200 << 10
	if !testing.Short() {
		size = 100_000_000
	}
	in := io.MultiReader(strings.NewReader("a\n"), &zeros{size}, strings.NewReader("\nb"))
	src, _, _ := Open(nil, in, Format{})
	rows, err := ReadAll(src)
	if err != nil || len(rows) != 3 || len(rows[1].Columns[0]) != size || rows[2].Columns[0] != "b" || rows[2].Line != 3 {
		t.Errorf("got %d rows, error %v", len(rows), err)
	}
}

// counter tells how much has been read from an endless input.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "y\n"[(c.n+i)%2]
	}
	c.n += len(p)
	return len(p), nil
}

func TestReadsNoFurtherThanTheBuffer(t *testing.T) {
	for _, rows := range []RowFormat{WholeLine, CSV} {
		in := &counter{}
		src, _, _ := Open(nil, in, Format{Rows: rows})
		if in.n > 0 {
			t.Errorf("Open read %d bytes", in.n)
		}
		for range 10 {
			if _, err := src.Next(5); err != nil {
				t.Fatal(err)
			}
		}
		if in.n > bufferSize {
			t.Errorf("50 rows took %d bytes", in.n)
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, tt := range formats {
		f.Add(tt.text, tt.format.Null)
	}
	f.Fuzz(func(t *testing.T, text string, null bool) {
		end := "\n"
		if null {
			end = "\x00"
		}
		src, _, _ := Open(nil, iotest.HalfReader(strings.NewReader(text)), Format{Null: null})
		rows, err := ReadAll(src)
		if err != nil {
			t.Fatal(err)
		}
		var joined strings.Builder
		for _, row := range rows {
			joined.WriteString(row.Columns[0] + end)
		}
		// Only a last line without its newline may have gained one.
		if got := joined.String(); got != text && got != text+end {
			t.Errorf("got %q of %q", got, text)
		}
	})
}

func FuzzJSONL(f *testing.F) {
	for _, tt := range formats {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		src, _, _ := Open(nil, strings.NewReader(text), Format{Rows: JSONL})
		rows, err := ReadAll(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.Names != nil && len(row.Names) != len(row.Columns) {
				t.Errorf("%q: %d names of %d columns", text, len(row.Names), len(row.Columns))
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	text := strings.Repeat("some line\n", 100_000)
	for _, bb := range []struct {
		name   string
		format Format
		max    int
	}{
		{"lines", Format{}, 1000}, {"lines one by one", Format{}, 1}, {"tabs", Format{Rows: Columns}, 1000}, {"csv", Format{Rows: CSV}, 1000},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				src, _, _ := Open(nil, strings.NewReader(text), bb.format)
				for {
					if _, err := src.Next(bb.max); err != nil {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/line")
		})
	}
}
