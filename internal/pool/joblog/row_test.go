package joblog

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRowIsByteForByteWhatGNUParallelWrites(t *testing.T) {
	start := time.UnixMilli(mark(7, 1795319359608))
	stamp := start.UTC().Format("05.000")[2:] // the milliseconds
	for _, c := range []struct {
		row  Row
		want string
	}{
		{Row{Seq: 7, Start: start, Command: "exit 0"}, "7\t:\t1795319359" + stamp + "\t     0.000\t0\t0\t0\t0\texit 0\n"},
		{Row{Seq: 7, Host: "n1", Start: start, Runtime: 1234567 * time.Microsecond, Send: 1, Receive: 22, Exit: -1, Signal: 15,
			Command: "printf 'a\nb'\tc"}, "7\tn1\t1795319359" + stamp + "\t     1.234\t1\t22\t-1\t15\tprintf 'a\x00b'\tc\n"},
		{Row{Seq: 7, Host: "a\tb\nc", Start: start, Runtime: 12345678 * time.Second},
			"7\ta_b_c\t1795319359" + stamp + "\t12345678.000\t0\t0\t0\t0\t\n"},
	} {
		if got := string(c.row.Append([]byte("before"))); got != "before"+c.want {
			t.Errorf("row\n%q, want\n%q", got, "before"+c.want)
		}
	}
}

func TestParseRow(t *testing.T) {
	for _, c := range []struct {
		line string
		want Row
	}{
		{"3\t:\t1795319359.608\t     0.015\t0\t7\t2\t0\techo a\tb", Row{Seq: 3, Host: ":", Start: time.UnixMilli(1795319359608),
			Runtime: 15 * time.Millisecond, Receive: 7, Exit: 2, Command: "echo a\tb"}},
		{"3\tme@n2\t 17.6\t-0.5\t1\t7\t-1\t15\ta\x00b", Row{Seq: 3, Host: "me@n2", Start: time.UnixMilli(17600),
			Runtime: -500 * time.Millisecond, Send: 1, Receive: 7, Exit: -1, Signal: 15, Command: "a\nb"}},
		{"1\t:\t17\t1.23456\t0\t0\t0\t0\t", Row{Seq: 1, Host: ":", Start: time.UnixMilli(17000), Runtime: 1234 * time.Millisecond}},
	} {
		if got, err := ParseRow([]byte(c.line)); err != nil || got != c.want {
			t.Errorf("%q is\n%+v, %v, want\n%+v", c.line, got, err, c.want)
		}
	}
}

func TestParseRowSaysWhatIsWrong(t *testing.T) {
	const good = "3\t:\t1795319359.608\t     0.015\t0\t7\t2\t0\techo"
	for i, c := range []struct{ name, bad string }{
		{"Seq", "x"}, {"Host", ""}, {"Starttime", "12345678901.000"}, {"JobRuntime", "1.2.3"}, {"Send", ""},
		{"Receive", "7x"}, {"Exitval", "-"}, {"Signal", "99999999999999999999"},
	} {
		f := strings.Split(good, "\t")
		f[i] = c.bad
		if _, err := ParseRow([]byte(strings.Join(f, "\t"))); err == nil || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s %q: %v", c.name, c.bad, err)
		}
	}
	for line, want := range map[string]string{"": "1 columns", "1\t:\t1.000": "3 columns", "0" + good[1:]: "from 1",
		"1\t:\t9999999999.999\t0\t0\t0\t0\t0\t": "Starttime"} {
		if _, err := ParseRow([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func drawRow(t *rapid.T) Row {
	return Row{
		Seq:     rapid.Uint64Min(1).Draw(t, "seq"),
		Host:    rapid.SampledFrom([]string{":", "n1", "me@host"}).Draw(t, "host"),
		Start:   time.UnixMilli(rapid.Int64Range(100, maxMillis-1000).Draw(t, "start")),
		Runtime: time.Duration(rapid.Int64().Draw(t, "runtime")),
		Send:    rapid.Int64().Draw(t, "send"),
		Receive: rapid.Int64().Draw(t, "receive"),
		Exit:    rapid.IntRange(-1, 255).Draw(t, "exit"),
		Signal:  rapid.IntRange(0, 64).Draw(t, "signal"),
		Command: strings.ReplaceAll(string(rapid.SliceOf(rapid.Byte()).Draw(t, "command")), "\x00", " "),
	}
}

// TestRowsComeBack: but for what milliseconds and the mark take, a row that was written is the row
// that is read, and writing that one again changes no byte.
func TestRowsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := drawRow(t)
		line := row.Append(nil)
		if i := bytes.IndexByte(line, '\n'); i != len(line)-1 {
			t.Fatalf("a newline at %d of %q", i, line)
		}
		got, err := ParseRow(line[:len(line)-1])
		if err != nil {
			t.Fatal(err)
		}
		if again := got.Append(nil); !bytes.Equal(again, line) {
			t.Fatalf("written again\n%q, at first\n%q", again, line)
		}
		if off := got.Start.Sub(row.Start).Abs(); off > 5*time.Millisecond {
			t.Fatalf("the mark moves the start by %v", off)
		}
		got.Start, row.Runtime = row.Start, row.Runtime.Truncate(time.Millisecond)
		if got != row {
			t.Fatalf("read\n%+v, written\n%+v", got, row)
		}
	})
}

// TestTimesThatNoLogCanHold: they are moved into what one can.
func TestTimesThatNoLogCanHold(t *testing.T) {
	for _, start := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 0), time.Unix(math.MaxInt64, 0),
		time.UnixMilli(math.MaxInt64)} {
		row := Row{Seq: 1, Start: start, Runtime: math.MaxInt64, Exit: math.MinInt}
		line := row.Append(nil)
		if got, err := ParseRow(bytes.TrimSuffix(line, []byte("\n"))); err != nil || !marked(&got) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestMarkIsAtMostFiveOff walks over all carries of some million neighbours.
func TestMarkIsAtMostFiveOff(t *testing.T) {
	for seq := range uint64(20) {
		for _, base := range []int64{1000, 999_900_000, 1795319000000, 1799999990000} {
			for n := base; n < base+20000; n++ {
				if off := mark(seq, n) - n; off < -5 || off > 5 {
					t.Fatalf("%d of seq %d moves by %d", n, seq, off)
				}
			}
		}
	}
}

// TestOtherTimesSeldomPass: one in ten, also if calls start at a regular pace, and runs that would be
// taken for ours are as rare as chance has them.
func TestOtherTimesSeldomPass(t *testing.T) {
	for pace := int64(0); pace < 120; pace++ {
		passed, inARow, runs := 0, 0, 0
		const rows = 20000
		for seq := range uint64(rows) {
			r := Row{Seq: seq + 1, Start: time.UnixMilli(1795319359608 + int64(seq)*pace)}
			if !marked(&r) {
				inARow = 0
				continue
			}
			passed++
			if inARow++; inARow == minRun {
				runs++
			}
		}
		if passed < rows*8/100 || passed > rows*12/100 || runs > 2 {
			t.Errorf("every %d ms: %d of %d rows pass, %d runs", pace, passed, rows, runs)
		}
	}
}

// FuzzParseRow: no line makes it panic, and what it takes can be written and read again.
func FuzzParseRow(f *testing.F) {
	f.Add([]byte("3\t:\t1795319359.608\t     0.015\t0\t7\t2\t0\techo a\tb\x00c"))
	f.Add([]byte("3\t:\t-1.5\t-0\t-1\t+7\t-2\t0\t"))
	f.Add([]byte(strings.TrimSuffix(header, "\n")))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		row, err := ParseRow(line)
		if err != nil {
			return
		}
		again, err := ParseRow(bytes.TrimSuffix(row.Append(nil), []byte("\n")))
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", line, err)
		}
		again.Start = row.Start
		if row.Host = host(row.Host); again != row {
			t.Errorf("%+v came back as %+v", row, again)
		}
	})
}
