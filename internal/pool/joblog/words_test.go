package joblog

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func form(command string) string { return string(appendWords(nil, appendCommand(nil, command))) }

func TestCommandsOfTheSameWords(t *testing.T) {
	for _, same := range [][]string{
		{`echo a\ b`, `echo 'a b'`, `echo "a b"`, `echo   a" "b`, " echo\ta' '''b ", "ec\\\nho a\\ b", `echo "a \` + "\n" + `b"`, "echo \\\n 'a b'"},
		{`echo 'it'"'"'s'`, `echo 'it'\''s'`, `echo it\'s`, `echo "it's"`},
		{`echo ''`, `echo ""`, `echo ""''`},
		{`echo \$HOME`, `echo '$HOME'`, `echo "\$HOME"`},
		{`echo "$HOME"`, `echo $HOME`}, // not the same for a shell, but for us: no more than a warning depends on it
		{"printf 'a\nb'", "printf \"a\nb\"", "printf a'\n'b"},
		{`echo "a\qb"`, `echo 'a\qb'`},
		{"", "  ", "\t"},
		{`echo "open`, `echo   "open`},
	} {
		for _, other := range same[1:] {
			if form(same[0]) != form(other) {
				t.Errorf("%q is %q, %q is %q", same[0], form(same[0]), other, form(other))
			}
		}
	}
}

func TestCommandsOfOtherWords(t *testing.T) {
	commands := []string{
		`echo a b`, `echo 'a b'`, `echo ab`, `echo`, `echo ''`, `'echo a b'`, `echo a\`, `echo a '`, "echo a\nb", "echo 'a\nb'",
		`echo $HOME`, `echo '$HOME'`, `echo *`, `echo '*'`, `echo a;b`, `echo 'a;b'`, "echo `x`", "echo '`x`'", `echo $'a'`, `!echo a b`,
		`echo "`, `echo ? x`, `echo '?' x`, "echo !",
	}
	seen := map[string]string{}
	for _, c := range commands {
		if other, found := seen[form(c)]; found {
			t.Errorf("%q and %q are both %q", c, other, form(c))
		}
		seen[form(c)] = c
	}
}

// TestWordsAreThoseOfTheShell compares with sh whatever it understands and has no expansion.
func TestWordsAreThoseOfTheShell(t *testing.T) {
	alphabet := rapid.SampledFrom([]string{"a", "b", " ", "\t", "'", `"`, `\`, "\n", "$", "-", "é"})
	rapid.Check(t, func(t *rapid.T) {
		command := strings.Join(rapid.SliceOfN(alphabet, 0, 12).Draw(t, "command"), "")
		words := appendWords(nil, appendCommand(nil, command))
		words = bytes.ReplaceAll(words, []byte{special, ' '}, []byte{1})
		if bytes.IndexByte(words, special) >= 0 {
			return
		}
		out, err := exec.Command("sh", "-c", `printf '%s\001' `+command).Output()
		if err != nil {
			t.Fatalf("%q is no command for sh: %v", command, err)
		}
		if want := bytes.TrimSuffix(out, []byte{1}); !bytes.Equal(words, want) {
			t.Fatalf("%q has the words %q, for sh %q", command, words, want)
		}
	})
}

// FuzzWords: it is total, and no longer than twice its input.
func FuzzWords(f *testing.F) {
	f.Add([]byte(`echo "a\$b" 'c'\''d' $x *`))
	f.Fuzz(func(t *testing.T, command []byte) {
		if n := len(appendWords(nil, command)); n > 2*len(command)+2 {
			t.Errorf("%d bytes of %d", n, len(command))
		}
	})
}
