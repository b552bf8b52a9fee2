package input

import (
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSplitArgs(t *testing.T) {
	tests := []struct {
		args   string
		cmd    []string
		groups []Group
	}{
		{"echo a", []string{"echo", "a"}, nil},
		{"echo ::: a b", []string{"echo"}, []Group{{Values: []string{"a", "b"}}}},
		{"::: a", nil, []Group{{Values: []string{"a"}}}},
		{"e :::", []string{"e"}, []Group{{}}},
		{"e :::+ a :::+ b ::::+ f g :::: -", []string{"e"}, []Group{
			{Values: []string{"a"}}, {Link: true, Values: []string{"b"}},
			{Link: true, FromFiles: true, Values: []string{"f", "g"}}, {FromFiles: true, Values: []string{"-"}}}},
	}
	for _, tt := range tests {
		cmd, groups, err := SplitArgs(strings.Fields(tt.args))
		if err != nil || !slices.Equal(cmd, tt.cmd) || !reflect.DeepEqual(groups, tt.groups) {
			t.Errorf("%s: got %q %+v, error %v", tt.args, cmd, groups, err)
		}
	}
	_, _, err := SplitArgs([]string{"e", "::::", ":::", "a"})
	wantError(t, err, "no file follows ::::")
}

// The expectations are what GNU parallel prints, but for the empty sources: see TestProductOfNothing.
func TestProduct(t *testing.T) {
	f1, f2 := write(t, "f1", "1\n2\n"), write(t, "f2", "A\nB")
	tests := []struct {
		args string
		want string
	}{
		{"::: a b", "a|b"},
		{"::: a b ::: 1 2", "a 1|a 2|b 1|b 2"},
		{"::: a b c :::+ x y ::: 1 2", "a x 1|a x 2|b y 1|b y 2"},
		{"::: a b c :::+ x y :::+ p q r", "a x p|b y q"},
		{":::+ a b", "a|b"},
		{":::: F1", "1|2"},
		{":::: F1 F2", "1 A|1 B|2 A|2 B"},
		{":::: F1 ::::+ F2", "1 A|2 B"},
		{"::: x y ::::+ F1 F2", "x 1 A|y 2 B"},
		{"::: a b :::: F1 :::+ Q R", "a 1 Q|a 2 R|b 1 Q|b 2 R"},
		{":::: F1 F2 :::+ Q R", "1 A Q|1 B R|2 A Q|2 B R"},
		{":::: - ::: a", "in a"},
	}
	for _, tt := range tests {
		args := strings.NewReplacer("F1", f1, "F2", f2).Replace(tt.args)
		_, groups, err := SplitArgs(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		src, total, err := Product(groups, strings.NewReader("in\n"), Format{Rows: CSV})
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		rows, err := readBy(src, 3)
		var got []string
		for _, row := range rows {
			got = append(got, strings.Join(row.Columns, " "))
		}
		if err != nil || strings.Join(got, "|") != tt.want || total != int64(len(rows)) {
			t.Errorf("%s: got %q of %d, error %v; want %s", tt.args, got, total, err, tt.want)
		}
	}
}

// GNU parallel puts an empty word in for an empty source among others. A product with nothing is nothing: a glob
// without a match must not run commands with holes in them.
func TestProductOfNothing(t *testing.T) {
	for _, groups := range [][]Group{
		nil, {{}}, {{Values: []string{"a"}}, {}}, {{}, {Values: []string{"a"}}}, {{Values: []string{"a"}}, {Link: true}},
	} {
		src, total, err := Product(groups, nil, Format{})
		if err != nil || total != 0 {
			t.Errorf("%+v: total %d, error %v", groups, total, err)
		}
		if rows, err := src.Next(1); err != io.EOF {
			t.Errorf("%+v: got %v, error %v", groups, show(rows), err)
		}
	}
}

func TestProductIsLazy(t *testing.T) {
	thousand := Group{Values: make([]string, 1000)}
	src, total, err := Product([]Group{thousand, thousand, thousand, thousand, thousand, thousand}, nil, Format{})
	if err != nil || total != 1_000_000_000_000_000_000 {
		t.Fatalf("total %d, error %v", total, err)
	}
	if rows, err := src.Next(math.MaxInt); err != nil || len(rows) == 0 || len(rows) > 10_000 {
		t.Errorf("got %d rows, error %v", len(rows), err)
	}
	_, _, err = Product(slices.Repeat([]Group{thousand}, 7), nil, Format{})
	wantError(t, err, "more than can be counted")
	if _, total, err := Product(append(slices.Repeat([]Group{thousand}, 7), Group{}), nil, Format{}); total != 0 || err != nil {
		t.Errorf("an empty source at the end: total %d, error %v", total, err)
	}
}

func TestProductErrors(t *testing.T) {
	f := write(t, "f", "1\n")
	_, _, err := Product([]Group{{FromFiles: true, Values: []string{f, "/no/such/file"}}}, nil, Format{})
	wantError(t, err, "/no/such/file")
	_, _, err = Product([]Group{{FromFiles: true, Values: []string{"-"}}, {FromFiles: true, Values: []string{"-"}}}, nil, Format{})
	wantError(t, err, "named twice")
}

// One file alone keeps what errors will want to say.
func TestProductOfOneFile(t *testing.T) {
	f := write(t, "f", "1\x002\x00")
	src, total, err := Product([]Group{{FromFiles: true, Values: []string{f}}}, nil, Format{Null: true})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ReadAll(src)
	if err != nil || total != 2 || rows[1].Line != 2 || rows[1].File != f {
		t.Errorf("got %+v of %d, error %v", rows, total, err)
	}
}

func TestBatch(t *testing.T) {
	bad := Row{Err: errors.New("bad")}
	plain := func(values ...string) []Row { return rowsOf(values) }
	tests := []struct {
		name string
		n    int
		rows []Row
		want []string
	}{
		{"none", 2, nil, nil},
		{"one each", 1, plain("a", "b"), []string{`0 ["a"]`, `0 ["b"]`}},
		{"even", 2, plain("a", "b", "c", "d"), []string{`0 ["a" "b"]`, `0 ["c" "d"]`}},
		{"rest", 3, plain("a", "b", "c", "d"), []string{`0 ["a" "b" "c"]`, `0 ["d"]`}},
		{"bad in the middle", 2, append(append(plain("a", "b", "c"), bad), plain("d", "e", "f")...),
			[]string{`0 ["a" "b"]`, `0 ["c"]`, "error: bad", `0 ["d" "e"]`, `0 ["f"]`}},
	}
	for _, tt := range tests {
		for _, max := range []int{1, 2, math.MaxInt} {
			rows, err := readBy(Batch(FromRows(slices.Clone(tt.rows)), tt.n), max)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, show(rows), tt.want)
		}
	}
}

// The rows before a failure go out before it is told, the last batch being short.
func TestBatchOfFailingSource(t *testing.T) {
	boom := errors.New("boom")
	src, _, _ := Open(nil, io.MultiReader(strings.NewReader("a\nb\nc\n"), iotest.ErrReader(boom)), Format{})
	rows, err := ReadAll(Batch(src, 2))
	equal(t, show(rows), []string{`1 ["a" "b"]`, `3 ["c"]`})
	if !errors.Is(err, boom) {
		t.Errorf("got error %v", err)
	}
}
