package command

import "testing"

func TestQuote(t *testing.T) {
	tests := []struct{ word, want string }{
		{"", "''"},
		{"abc", "abc"},
		{"a/b.c_d-e+f:g,h@i9", "a/b.c_d-e+f:g,h@i9"},
		{"#c", "'#c'"},
		{"~", "'~'"},
		{"A=b", "'A=b'"},
		{"100%", "'100%'"},
		{"a b", "'a b'"},
		{"it's", `'it'\''s'`},
		{"'", `''\'''`},
		{"\n", "'\n'"},
		{"\xff", "'\xff'"},
		{"é", "'é'"},
		{`\`, `'\'`},
	}
	for _, tt := range tests {
		if got := Quote(tt.word); got != tt.want {
			t.Errorf("Quote(%q) = %s, want %s", tt.word, got, tt.want)
		}
	}
}

func TestQuoteArgv(t *testing.T) {
	tests := []struct {
		argv []string
		want string
	}{
		{nil, ""},
		{[]string{"echo", "a b", "", "if"}, "echo 'a b' '' if"},
		{[]string{"A=b", "C=d"}, "'A=b' 'C=d'"},
		{[]string{"if"}, "'if'"},
	}
	for _, tt := range tests {
		if got := QuoteArgv(tt.argv); got != tt.want {
			t.Errorf("QuoteArgv(%q) = %s, want %s", tt.argv, got, tt.want)
		}
	}
}
