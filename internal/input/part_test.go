package input

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func lines(t *testing.T, text string) []Row {
	t.Helper()
	s, _, err := Open(nil, strings.NewReader(text), Format{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// mine reads a part and returns the items that are in it.
func mine(t *testing.T, s Source, rows int) (items []string) {
	t.Helper()
	all, err := ReadAll(s)
	if err != nil || len(all) != rows {
		t.Fatalf("%d rows of %d, %v", len(all), rows, err)
	}
	for i := range all {
		if all[i].Err == nil {
			items = append(items, all[i].Columns[0])
		}
	}
	return items
}

func TestPartsHaveEachItemOnce(t *testing.T) {
	for name, part := range map[string]func(s Source, n, m int) Source{"slice": Slice, "hash": Hash} {
		var all []string
		for n := 1; n <= 5; n++ {
			got := mine(t, part(FromRows(lines(t, numbers(1, 1000))), n, 5), 1000)
			if name == "slice" && len(got) != 200 || len(got) < 150 || len(got) > 250 {
				t.Errorf("%s %d/5 has %d of 1000 items", name, n, len(got))
			}
			all = append(all, got...)
		}
		slices.Sort(all)
		if len(all) != 1000 || len(slices.Compact(all)) != 1000 {
			t.Errorf("%s: the five parts have %d items together", name, len(all))
		}
	}
	if got := mine(t, Slice(FromRows(lines(t, numbers(1, 7))), 2, 3), 7); !slices.Equal(got, []string{"2", "5"}) {
		t.Errorf("slice 2/3 of 7 is %v", got)
	}
}

// TestHashPartsStay: an inserted line moves no other to another part, and the parts are
// those of the release before.
func TestHashPartsStay(t *testing.T) {
	before := mine(t, Hash(FromRows(lines(t, numbers(1, 20))), 1, 3), 20)
	after := mine(t, Hash(FromRows(lines(t, "new\n"+numbers(1, 20))), 1, 3), 21)
	if after = slices.DeleteFunc(after, func(s string) bool { return s == "new" }); !slices.Equal(before, after) {
		t.Errorf("with a line before them %v are in the part, and %v without", after, before)
	}
}

func TestShuffleDependsOnItsSeed(t *testing.T) {
	order := func(seed uint64) (items []string) {
		rows := lines(t, numbers(1, 50))
		Shuffle(rows, seed)
		for i := range rows {
			items = append(items, rows[i].Columns[0])
		}
		return items
	}
	a, b := order(7), order(8)
	if !slices.Equal(a, order(7)) || slices.Equal(a, b) {
		t.Errorf("seed 7 gives %v and %v, seed 8 gives %v", a, order(7), b)
	}
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("two orders of the same items have %v and %v", a, b)
	}
}
