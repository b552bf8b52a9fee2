package command

import (
	"bytes"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestScript(t *testing.T) {
	const it = `it's "$5"`
	tests := []struct {
		name, script string
		row          Row
		want         string
	}{
		{"appended", "echo hi", row("a", "b c"), "echo hi a 'b c'"},
		{"appended after newlines", "echo hi \n\n", row("a"), "echo hi a"},
		{"appended after an escape", "echo \\\n\n", row("a"), "echo \\\n a"},
		{"appended after an escaped semicolon", `find . \;`, row("a"), `find . \; a`},
		{"plain", "echo {}", row(it), `echo 'it'\''s "$5"'`},
		{"plain columns", "echo x{}y", row("a", "b"), "echo x'a' 'b'y"},
		{"double", `echo "<{}>"`, row(it), `echo "<it's \"\$5\">"`},
		{"double columns", `echo "{}"`, row("$", "b"), `echo "\$ b"`},
		{"double after a name", `echo "$a{}" "$1{}" "$$ {}"`, row("b"), `echo "$a""b" "$1""b" "$$ b"`},
		{"double after an escaped dollar", `echo "\$a{}"`, row("b"), `echo "\$ab"`},
		{"single", "echo '<{}>'", row(it), `echo '<it'\''s "$5">'`},
		{"substitution", `echo "$(echo {} "{}" '{}')" "{}"`, row("$"), `echo "$(echo '$' "\$" '$')" "\$"`},
		{"parentheses", `(echo {}; (echo "{}")) '{}'`, row("$"), `(echo '$'; (echo "\$")) '$'`},
		{"glued to a redirection", "echo {}>f {#}>f", row("2"), "echo '2'>f '7'>f"},
		{"glued to others", "echo $a{} ~{} {1}{1} a={} /x/{} {}.txt", row("2"), "echo $a'2' ~'2' '2''2' a=2 /x/2 2.txt"},
		{"word of the grammar", "{} x", row("if"), "'if' x"},
		{"empty", "echo {} x{}", row(""), "echo '' x''"},
		{"one pass", "echo {} '{}'", row("{}{#}"), "echo '{}{#}' '{}{#}'"},
		{"parameters are the shell's", "f() { echo ${1} ${x} ${#}; }; f {}", row("v"), "f() { echo ${1} ${x} ${#}; }; f v"},
		{"awk", `awk '{print $1}' {}`, row("f"), `awk '{print $1}' f`},
		{"numbers in odd places", "echo $(({#} + {%})) $'{#}' ${x:-{%}} # {#}\n{}", row("v"), "echo $((7 + 3)) $'7' ${x:-3} # 7\nv"},
		{"after a comment", "echo a#b # it's\necho {}", row("v"), "echo a#b # it's\necho v"},
		{"no comment", `echo ${#a} $# "#" \# x#'' {} '{}'`, row("v"), `echo ${#a} $# "#" \# x#'' v 'v'`},
		{"before a here-document", "cat {} <<E\nit's\nE\n", row("v"), "cat v <<E\nit's\nE\n"},
		{"here-string", "cat <<<{}", row("v"), "cat <<<v"},
		{"in arithmetic", `echo $((1 - {} * ({} + 1))); ((i = {1}))`, row("-42"), `echo $((1 - (-42) * ((-42) + 1))); ((i = (-42)))`},
		{"after arithmetic", `echo $(( (1<<2) + $(echo 3) )) "{}"`, row("$"), `echo $(( (1<<2) + $(echo 3) )) "\$"`},
		{"after an arithmetic for", `for ((i=0; i<2; i++)); do echo {}; done`, row("v"), `for ((i=0; i<2; i++)); do echo v; done`},
		{"after parameters", `echo ${a:-'}'} "${b%.c}" "{}"`, row("$"), `echo ${a:-'}'} "${b%.c}" "\$"`},
		{"after backticks", "echo `echo \"\\`\"` \"{}\"", row("$"), "echo `echo \"\\`\"` \"\\$\""},
		{"after $'...'", `echo $'a\n' "{}"`, row("$"), `echo $'a\n' "\$"`},
		{"case", "case {} in *.c) echo \"{}\";; esac", row("$"), "case '$' in *.c) echo \"\\$\";; esac"},
		{"after a descriptor", "echo 2>&1 >&- >&$fd {} & echo {}", row("v"), "echo 2>&1 >&- >&$fd v & echo v"},
		{"to a file", "echo >{} 2>&1", row("$"), "echo >'$' 2>&1"},
		{"lone dollar", `echo $ "$" {}`, row("v"), `echo $ "$" v`},
		{"double backslash", `echo \\{} "\\{}"`, row("a$"), `echo \\'a$' "\\a\$"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Spec{Mode: Script, Shell: "/bin/sh", Words: []string{tt.script}}
			got := render(t, s, Values{Row: tt.row, Seq: 7, Slot: 3})
			if want := []string{"/bin/sh", "-c", tt.want}; !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got[2], tt.want)
			}
		})
	}
}

func TestScriptRefused(t *testing.T) {
	tests := []struct{ script, want string }{
		{"echo `echo {}`", "use $(...) instead"},
		{"echo `echo {#}`", "use $(...) instead"},
		{"echo \"`echo '{}'`\"", "use $(...) instead"},
		{"echo $'{}'", "end the quotes before it"},
		{"echo ${x:-{}}", "assign it to a variable first"},
		{"echo \"${x:-{1}}\"", "assign it to a variable first"},
		{"echo hi # {}", "take the comment out"},
		{"echo hi # comment", "take the comment out"},
		{"cat <<E\n{}\nE", "pass the value as an argument"},
		{"cat <<-E\nx\nE\n", "here-document"},
		{`echo \{}`, "backslash right before the placeholder {}"},
		{`echo "\{1}"`, "backslash right before the placeholder {1}"},
		{"echo $'\\{}'", "backslash right before"},
		{"echo `\\{}`", "backslash right before"},
		{`echo "$(case x in a) echo {};; esac)"`, "move the case out"},
		{`echo "${x:-"}"}" {}`, "follows quotes within"},
		{`echo "${x:-'a'}" {}`, "follows quotes within"},
		{`echo ${x:-$'a'} {}`, "within ${...}"},
		{`echo $'a\'' {}`, "follows $'...'"},
		{"echo $[1] {}", "use $((...))"},
		{"((echo a) ; echo {})", "write a blank between"},
		{`((x['a'])) {}`, "write a blank between"},
		{"echo $\\\n{}", "join the two lines"},
		{"echo hi;", "say with {} where the item belongs"},
		{"sleep 1 &\n", "say with {} where the item belongs"},
		{`echo \`, "ends in a backslash"},
		{"echo >&{}", "write >FILE 2>&1"},
		{"echo >& {}", "write >FILE 2>&1"},
		{"echo >&2{}", "write >FILE 2>&1"},
		{`echo >&"{}"`, "write >FILE 2>&1"},
		{`echo "{}`, "opens double quotes, but does not close it"},
		{"echo 'a", "opens single quotes"},
		{"x=({} b", "opens a parenthesis"},
		{"echo $(ls {}", "opens $("},
	}
	for _, tt := range tests {
		_, err := Parse(Spec{Mode: Script, Shell: "sh", Words: []string{tt.script}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", tt.script, err, tt.want)
		}
	}
}

// flat and forking put column N at many places; the expected words are what a shell has to make of them. They are apart
// because each $(...) costs a process.
const (
	flat    = `{N} "{N}" '{N}' x{N}y "x{N}y" 'x{N}y' $E{N} "$E{N}" "${E}{N}" "\${N}" $${N} "${E:-a}{N}" a={N} `
	forking = `"$(printf %s {N}x)" "$(printf %s "{N}x" '{N}')" "$( (printf %s {N}>&1); echo x # it's "
)" "$(printf %s "$(printf %s "{N}x")")" $(: {N} "{N}" '{N}'){N} `
)

func expectFlat(v string) []string {
	return []string{v, v, v, "x" + v + "y", "x" + v + "y", "x" + v + "y", v, v, v, "$" + v, "PID" + v, "a" + v, "a=" + v}
}

func expectForking(v string) []string { return []string{v + "x", v + "x" + v, v + "x", v + "x", v} }

// columns is how many values one shell start checks: a start costs more than all of them.
const columns = 6

func printEach(t *testing.T, shell, places string) *Template {
	t.Helper()
	var script strings.Builder
	script.WriteString(`printf '%s\0' `)
	for i := range columns {
		script.WriteString(strings.ReplaceAll(places, "{N}", "{"+strconv.Itoa(i+1)+"}"))
	}
	template, err := Parse(Spec{Mode: Script, Shell: shell, Words: []string{script.String()}})
	if err != nil {
		t.Fatal(err)
	}
	return template
}

func TestShellsGiveTheBytesBack(t *testing.T) {
	value := rapid.OneOf(
		rapid.Map(rapid.SliceOf(rapid.ByteRange(1, 255)), func(b []byte) string { return string(b) }),
		rapid.StringOf(rapid.SampledFrom([]rune("'\"\\$`(){}#!~*?[]&;|<> \n\ta1=-"))),
		rapid.SampledFrom([]string{"", "-n", "2", "FIX", "if", "a,b", "\\", "'", "$(id)", "`id`", "\n", "\n\n", "{}", "a\\\n"}),
	)
	values := rapid.SliceOfN(value, columns, columns)
	for _, shell := range []string{"sh", "bash", "ksh", "zsh"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			cheap, dear := printEach(t, path, flat), printEach(t, path, forking)
			rapid.Check(t, func(t *rapid.T) {
				checkShell(t, cheap, values.Draw(t, "values"), expectFlat)
			})
			for seed := range 5 {
				checkShell(t, dear, values.Example(seed), expectForking)
			}
		})
	}
}

func checkShell(t rapid.TB, template *Template, values []string, expect func(string) []string) {
	t.Helper()
	argv, err := template.Render(Values{Row: row(values...)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, argv[2])
	}
	got := strings.Split(string(bytes.TrimSuffix(out, []byte{0})), "\x00")
	var want []string
	for _, v := range values {
		want = append(want, expect(v)...)
	}
	for i, w := range want {
		if rest, ok := strings.CutPrefix(w, "PID"); ok {
			w = strconv.Itoa(cmd.Process.Pid) + rest
		}
		if i >= len(got) || got[i] != w {
			t.Fatalf("place %d of %d: got %q, want %q", i%(len(want)/len(values)), len(got), got[min(i, len(got)-1)], w)
		}
	}
}

func TestOnlyNumbersAreWrittenInArithmetic(t *testing.T) {
	tmpl, err := Parse(Spec{Mode: Script, Words: []string{"echo $((1 + {}))"}, Shell: "sh"})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"", "x", "a[$(id)]", "1+1", "0x10", "1\n", "--1", "1 "} {
		if argv, err := tmpl.Render(Values{Row: Row{Columns: []string{value}}}); err == nil || !strings.Contains(err.Error(), "whole number") {
			t.Errorf("the value %q became %q, %v", value, argv, err)
		}
	}
}
