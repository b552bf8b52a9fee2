package command

import (
	"slices"
	"strings"
	"testing"
)

// render is the short way for tests: a template in Direct mode and a row of plain columns.
func render(t *testing.T, s Spec, v Values) []string {
	t.Helper()
	template, err := Parse(s)
	if err != nil {
		t.Fatalf("parse %q: %v", s.Words, err)
	}
	argv, err := template.Render(v)
	if err != nil {
		t.Fatalf("render %q: %v", s.Words, err)
	}
	return argv
}

func row(columns ...string) Row { return Row{Columns: columns} }

// The expectations come from GNU parallel 20240222: parallel -q printf '[%s]' {.} {/} {//} {/.} ::: PATH.
func TestPathForms(t *testing.T) {
	tests := []struct{ path, noExt, base, dir, baseNoExt string }{
		{"a.b/c", "a.b/c", "c", "a.b", "c"},
		{"d/", "d/", "", ".", ""},
		{"/", "/", "", "/", ""},
		{"//", "//", "", "/", ""},
		{"a//b", "a//b", "b", "a", "b"},
		{".b", "", ".b", ".", ""},
		{"a/.b", "a/", ".b", "a", ""},
		{"a.b.", "a.b", "a.b.", ".", "a.b"},
		{"x.", "x", "x.", ".", "x"},
		{".", "", ".", ".", ""},
		{"..", ".", "..", ".", "."},
		{"../", "../", "", ".", ""},
		{"/a", "/a", "a", "/", "a"},
		{"//a", "//a", "a", "/", "a"},
		{"./a", "./a", "a", ".", "a"},
		{"foo.tar.gz", "foo.tar", "foo.tar.gz", ".", "foo.tar"},
		{"a.b/", "a.b/", "", ".", ""},
		{"", "", "", ".", ""},
		{"a b.c", "a b", "a b.c", ".", "a b"},
		{"a/b.c/d.", "a/b.c/d", "d.", "a/b.c", "d"},
		{"dir.d/sub/foo.tar.gz", "dir.d/sub/foo.tar", "foo.tar.gz", "dir.d/sub", "foo.tar"},
		{"a\nb/\xff.c", "a\nb/\xff", "\xff.c", "a\nb", "\xff"},
	}
	for _, tt := range tests {
		got := render(t, Spec{Words: []string{"c", "{}", "{.}", "{/}", "{//}", "{/.}"}}, Values{Row: row(tt.path)})
		want := []string{"c", tt.path, tt.noExt, tt.base, tt.dir, tt.baseNoExt}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", tt.path, got[1:], want[1:])
		}
	}
}

func TestRenderDirect(t *testing.T) {
	two := row("a/b.c", "d e")
	tests := []struct {
		name  string
		words []string
		row   Row
		want  []string
	}{
		{"appended", []string{"echo"}, two, []string{"echo", "a/b.c", "d e"}},
		{"number is a placeholder", []string{"echo", "{#}"}, two, []string{"echo", "7"}},
		{"slot is a placeholder", []string{"echo", "s{%}"}, two, []string{"echo", "s3"}},
		{"whole word", []string{"echo", "{}", "z"}, two, []string{"echo", "a/b.c", "d e", "z"}},
		{"whole word, path", []string{"echo", "{/.}"}, two, []string{"echo", "b", "d e"}},
		{"within a word", []string{"echo", "<{}>"}, two, []string{"echo", "<a/b.c d e>"}},
		{"within a word, path", []string{"echo", "<{//}>"}, two, []string{"echo", "<a .>"}},
		{"columns", []string{"echo", "{2}{1}", "{-1}", "{-2/.}", "{1.}", "{1//}"}, two, []string{"echo", "d ea/b.c", "d e", "b", "a/b", "a"}},
		{"one pass", []string{"echo", "{}", "x{}"}, row("{}{#}{1}"), []string{"echo", "{}{#}{1}", "x{}{#}{1}"}},
		{"other braces", []string{"awk", "{print $1}", "{0}", "{01}", "{+1}", "{1 }", "{1//.}", "{a,b}", "{", "}", "{{}}", "{name}", "{-}", "{99999999999999999999}"}, row("v"),
			[]string{"awk", "{print $1}", "{0}", "{01}", "{+1}", "{1 }", "{1//.}", "{a,b}", "{", "}", "{v}", "{name}", "{-}", "{99999999999999999999}"}},
		{"dollar", []string{"echo", "${1}"}, row("v"), []string{"echo", "$v"}},
		{"program", []string{"{}", "x"}, row("ls", "-l"), []string{"ls", "-l", "x"}},
		{"no columns", []string{"echo", "{}", "a{}b"}, row(), []string{"echo", "ab"}},
		{"empty", []string{"echo", ""}, row(""), []string{"echo", "", ""}},
		{"bytes", []string{"echo", "\xff{}"}, row("\xfe\n"), []string{"echo", "\xff\xfe\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := render(t, Spec{Words: tt.words}, Values{Row: tt.row, Seq: 7, Slot: 3})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRenderNames(t *testing.T) {
	header := Spec{Words: []string{"echo", "{size}", "{name/.}", "{a-b}"}, Names: []string{"name", "size", "a-b"}}
	got := render(t, header, Values{Row: row("x/y.z", "12", "")})
	if want := []string{"echo", "12", "y", ""}; !slices.Equal(got, want) {
		t.Errorf("header: got %q, want %q", got, want)
	}
	object := Spec{Words: []string{"echo", "{k}", "{k//}"}, NamedRows: true}
	got = render(t, object, Values{Row: Row{Columns: []string{"first", "x", "a/last"}, Names: []string{"k", "j", "k"}}})
	if want := []string{"echo", "a/last", "a"}; !slices.Equal(got, want) {
		t.Errorf("object with a repeated key: got %q, want %q", got, want)
	}
	both := Spec{Words: []string{"echo", "{k}"}, NamedRows: true, Names: []string{"j", "k"}}
	if got := render(t, both, Values{Row: row("1", "2")}); got[1] != "2" {
		t.Errorf("row without names: got %q, want the header's column", got)
	}
}

func TestRenderItemIsScript(t *testing.T) {
	got := render(t, Spec{Mode: ItemIsScript, Shell: "/bin/sh"}, Values{Row: row("echo {} 'a'")})
	if want := []string{"/bin/sh", "-c", "echo {} 'a'"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRenderLiteral(t *testing.T) {
	words := []string{"a{}", "{}", "{#}", "", "{1}", "\xff"}
	spec := Spec{Mode: Literal, Words: words, Names: []string{"x"}}
	template, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the argv is the caller's
		got, err := template.Render(Values{Row: row("not", "appended"), Seq: 7})
		if err != nil || !slices.Equal(got, []string{"a{}", "{}", "{#}", "", "{1}", "\xff"}) {
			t.Errorf("got %q, error %v", got, err)
		}
		clear(got)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		spec Spec
		want string
	}{
		{Spec{}, "there is no command to run"},
		{Spec{Words: []string{""}}, "the name of the command is empty"},
		{Spec{Words: []string{"a\x00b"}}, "NUL byte"},
		{Spec{Mode: Literal}, "there is no command to run"},
		{Spec{Mode: Literal, Words: []string{""}}, "the name of the command is empty"},
		{Spec{Mode: Literal, Words: []string{"a", "\x00"}}, "NUL byte"},
		{Spec{Mode: Script, Shell: "sh"}, "the shell command line is empty"},
		{Spec{Mode: Script, Shell: "sh", Words: []string{" \n"}}, "the shell command line is empty"},
		{Spec{Mode: Script, Shell: "sh", Words: []string{"a", "b"}}, `"b" follows it`},
		{Spec{Mode: Script, Words: []string{"a"}}, "no shell"},
		{Spec{Mode: Script, Shell: "/usr/bin/fish", Words: []string{"a"}}, "use sh, dash, bash"},
		{Spec{Mode: ItemIsScript}, "no shell"},
		{Spec{Mode: ItemIsScript, Shell: "sh", Words: []string{"a"}}, "has no place"},
		{Spec{Mode: 9}, "mode 9"},
		{Spec{Words: []string{"a", "{nmae}"}, Names: []string{"name", "size"}},
			"the template names {nmae}, but the header has the columns name, size"},
		{Spec{Words: []string{"a", "{x}"}, Names: []string{"x", "y", "x"}}, "use {1} or {3}"},
		{Spec{Words: []string{"a", "{x}"}, Names: slices.Repeat([]string{"n"}, 30)}, "and 10 more"},
	}
	for _, tt := range tests {
		_, err := Parse(tt.spec)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("parse %+v: got error %v, want one with %q", tt.spec, err, tt.want)
		}
	}
}

func TestRenderErrors(t *testing.T) {
	object := Row{Columns: []string{"1", "2"}, Names: []string{"a", "b"}}
	tests := []struct {
		spec Spec
		row  Row
		want string
	}{
		{Spec{Words: []string{"a", "{7}"}}, row("1", "2", "3"), "the template names column 7, but the row has 3 columns"},
		{Spec{Words: []string{"a", "x{-2}"}}, row("1"), "the template names column -2, but the row has 1 column"},
		{Spec{Words: []string{"a"}}, row("x\x00"), "the item holds a NUL byte, which no command argument may hold"},
		{Spec{Words: []string{"a", "x{1}"}}, row("\x00"), "NUL byte"},
		{Spec{Mode: Script, Shell: "sh", Words: []string{"a"}}, row("\x00"), "NUL byte"},
		{Spec{Mode: ItemIsScript, Shell: "sh"}, row("\x00"), "NUL byte"},
		{Spec{Words: []string{"{}", "x"}}, row(), "no command to run"},
		{Spec{Words: []string{"a", "{c}"}, NamedRows: true}, object, "the template names {c}, but the row has the keys a, b"},
		{Spec{Words: []string{"a", "{c}"}, NamedRows: true}, row("1"), "the row has no names"},
	}
	for _, tt := range tests {
		template, err := Parse(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := template.Render(Values{Row: tt.row}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("render %q of %q: got error %v, want one with %q", tt.spec.Words, tt.row.Columns, err, tt.want)
		}
	}
}

func TestColumnsAndFixedProgram(t *testing.T) {
	tests := []struct {
		spec    Spec
		columns int
		program string
	}{
		{Spec{Words: []string{"echo", "{}"}}, 0, "echo"},
		{Spec{Words: []string{"echo", "{2}{-5/}", "{3}"}}, 5, "echo"},
		{Spec{Words: []string{"./{}"}}, 0, ""},
		{Spec{Words: []string{"{1}"}}, 1, ""},
		{Spec{Words: []string{"echo", "{x}"}, Names: []string{"x"}}, 0, "echo"},
		{Spec{Mode: Script, Shell: "sh", Words: []string{"echo {4}"}}, 4, ""},
		{Spec{Mode: ItemIsScript, Shell: "sh"}, 0, ""},
		{Spec{Mode: Literal, Words: []string{"{4}", "{5}"}}, 0, "{4}"},
	}
	for _, tt := range tests {
		template, err := Parse(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		program, fixed := template.FixedProgram()
		if template.Columns() != tt.columns || program != tt.program || fixed != (tt.program != "") {
			t.Errorf("%q: columns %d, program %q %t", tt.spec.Words, template.Columns(), program, fixed)
		}
	}
}

// The marker takes the same way through quoting and path forms as {}, but cannot be taken for a placeholder: so the two
// renderings differ by the value alone, unless an inserted value is looked at again.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"", "{}", "a{1/.}{-1}b", "{#}{%}", "'{}' \"{}\" $({})", "${x:-{}}", "$'{}'", "`{}`",
		"<<E {}", "((1 {}", "$((1)) {}", "\\{}", "# {}", "{name//}", "$a{}", "\"$a{}\"", "$[", "case", "echo \\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		const marker = "<\x01>"
		if strings.Contains(word, "\x01") {
			return
		}
		for _, s := range []Spec{
			{Words: []string{"p", word}, NamedRows: true},
			{Mode: Script, Shell: "sh", Words: []string{word}, Names: []string{"name"}},
		} {
			template, err := Parse(s)
			if err != nil {
				continue
			}
			names := []string{"name"}
			got, err := template.Render(Values{Row: Row{Columns: []string{"{}"}, Names: names}})
			marked, err2 := template.Render(Values{Row: Row{Columns: []string{marker}, Names: names}})
			if (err == nil) != (err2 == nil) {
				t.Fatalf("render %q: %v, but with the marker: %v", word, err, err2)
			}
			for i, w := range marked {
				if w = strings.ReplaceAll(w, marker, "{}"); w != got[i] {
					t.Errorf("render %q: got %q, want %q", word, got[i], w)
				}
			}
		}
	})
}

func BenchmarkRender(b *testing.B) {
	for _, bb := range []struct {
		name string
		spec Spec
	}{
		{"argv", Spec{Words: []string{"echo", "{}"}}},
		{"word", Spec{Words: []string{"echo", "--file={}"}}},
		{"script", Spec{Mode: Script, Shell: "sh", Words: []string{"echo {} '{/}' > \"{.}.log\""}}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			template, err := Parse(bb.spec)
			if err != nil {
				b.Fatal(err)
			}
			v := Values{Row: row("some/path/to/a file.txt"), Seq: 12345}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := template.Render(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
