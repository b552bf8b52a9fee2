package report

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// screen is a terminal as small as the tests need: printable text, \r, \n, and
// the sequences that erase. Rows are never scrolled away. Anything else, and a
// character in the last column, is an error, so that a test notices when the bar
// says or needs more.
type screen struct {
	cols     int
	rows     [][]rune
	row, col int
	wrapped  int // how often text ran into the next row
}

// render plays the bytes that a terminal of cols columns received.
func render(t testing.TB, cols int, stream string) *screen {
	t.Helper()
	s := &screen{cols: cols, rows: make([][]rune, 1)}
	for stream != "" {
		rest, err := s.next(stream)
		if err != nil {
			t.Fatalf("%v at %.40q", err, stream)
		}
		stream = rest
	}
	return s
}

// next plays one character or sequence and returns the rest.
func (s *screen) next(stream string) (string, error) {
	if stream[0] == '\x1b' {
		return s.erase(stream)
	}
	r, size := utf8.DecodeRuneInString(stream)
	switch {
	case r == '\r':
		s.col = 0
	case r == '\n':
		s.down()
	case r < ' ' || r == 0x7f || r == utf8.RuneError:
		return "", errors.New("unknown control character")
	default:
		s.print(r)
	}
	return stream[size:], nil
}

// erase plays the sequence that stream begins with.
func (s *screen) erase(stream string) (string, error) {
	if rest, ok := strings.CutPrefix(stream, "\x1b[2K"); ok {
		s.rows[s.row] = nil
		return rest, nil
	}
	if rest, ok := strings.CutPrefix(stream, "\x1b[K"); ok {
		s.eraseRow()
		return rest, nil
	}
	if rest, ok := strings.CutPrefix(stream, "\x1b[J"); ok {
		s.eraseRow()
		s.rows = s.rows[:s.row+1]
		return rest, nil
	}
	return "", errors.New("unknown sequence")
}

// eraseRow erases from the cursor to the end of its row.
func (s *screen) eraseRow() {
	s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
}

// down moves the cursor one row down, in the same column.
func (s *screen) down() {
	s.row++
	if s.row == len(s.rows) {
		s.rows = append(s.rows, nil)
	}
}

// print puts r at the cursor.
func (s *screen) print(r rune) {
	if s.col == s.cols {
		s.wrapped++
		s.col = 0
		s.down()
	}
	row := s.rows[s.row]
	for len(row) <= s.col {
		row = append(row, ' ')
	}
	row[s.col] = r
	s.rows[s.row] = row
	s.col++
}

// lines is what is to be seen, without blanks at the ends of rows.
func (s *screen) lines() []string {
	lines := make([]string, len(s.rows))
	for i, row := range s.rows {
		lines[i] = strings.TrimRight(string(row), " ")
	}
	return lines
}

// last is the row of the cursor.
func (s *screen) last() string { return s.lines()[s.row] }

func TestScreen(t *testing.T) {
	for _, test := range []struct {
		name, stream string
		want         string
		wrapped      int
	}{
		{"text", "ab\r\ncd", "ab|cd", 0},
		{"overwrite", "abcdef\rxy", "xycdef", 0},
		{"erase to the end of the row", "abcdef\rxy\x1b[K", "xy", 0},
		{"erase the row", "abcdef\x1b[2K\rx", "x", 0},
		{"erase to the end of the screen", "a\r\nbc\r\x1b[Jd", "a|d", 0},
		{"line feed alone keeps the column", "ab\nc", "ab|  c", 0},
		{"the last column", "0123456789", "0123456789", 0},
		{"too long", "0123456789x", "0123456789|x", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := render(t, 10, test.stream)
			if got := strings.Join(s.lines(), "|"); got != test.want || s.wrapped != test.wrapped {
				t.Errorf("%q shows %q, %d wrapped; want %q, %d", test.stream, got, s.wrapped, test.want, test.wrapped)
			}
		})
	}
}
