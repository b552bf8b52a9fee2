package joblog

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// oursRow is a row as gpool writes it.
func oursRow(seq uint64, command string, exit int) string {
	r := Row{Seq: seq, Start: time.UnixMilli(1795319359608 + int64(seq)*37), Exit: exit, Command: command}
	return string(r.Append(nil))
}

// otherRow is a row of a program that knows of no marks, and has none by chance.
func otherRow(seq uint64, command string, exit int) string {
	n := mark(seq, 1795319359608+int64(seq)*37)
	n = n/10*10 + (n+3)%10
	return fmt.Sprintf("%d\t:\t%d.%03d\t     0.000\t0\t0\t%d\t0\t%s\n", seq, n/1000, n%1000, exit, command)
}

func history(t interface{ Fatal(...any) }, log string, mode Mode) *History {
	h, _, err := read(strings.NewReader(log), int64(len(log)), mode)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// asked asks for commands in input order and returns which of them are done.
func asked(h *History, commands ...string) (done []bool) {
	for i, c := range commands {
		d, _ := h.Done(uint64(i+1), c)
		done = append(done, d)
	}
	return done
}

func TestOursCountByContent(t *testing.T) {
	log := header + oursRow(1, "echo a", 0) + oursRow(2, "echo b", 1) + oursRow(3, "echo a", 0) + oursRow(2, "echo b", 0) +
		oursRow(4, "echo c", 1) + oursRow(4, "echo c", 2)
	for _, c := range []struct {
		mode     Mode
		commands []string
		want     []bool
		left     int
	}{
		{SkipLogged, []string{"echo a", "echo b", "echo a", "echo c"}, []bool{true, true, true, true}, 0},
		{SkipSucceeded, []string{"echo a", "echo b", "echo a", "echo c"}, []bool{true, true, true, false}, 0},
		{SkipLogged, []string{"echo new", "echo c", "echo b", "echo b", "echo 'a'"}, []bool{false, true, true, false, false}, 2},
		{SkipSucceeded, []string{"echo a", "echo a", "echo a"}, []bool{true, true, false}, 1},
	} {
		h := history(t, log, c.mode)
		if got := asked(h, c.commands...); !slices.Equal(got, c.want) || h.Left() != c.left {
			t.Errorf("mode %d: %q are done %v, %d left; want %v, %d", c.mode, c.commands, got, h.Left(), c.want, c.left)
		}
		if h.Rows != 6 || h.Ours != 6 || h.Failed != 3 || h.Malformed != 0 || h.Torn != 0 {
			t.Errorf("counts %+v", h)
		}
	}
}

func TestOthersCountByPosition(t *testing.T) {
	log := header + otherRow(1, `echo a\ b`, 0) + otherRow(3, "echo c", 0) + otherRow(2, "echo b", 1) + otherRow(3, "echo new", 1)
	h := history(t, log, SkipSucceeded)
	if h.Rows != 4 || h.Ours != 0 || h.Failed != 2 || h.Left() != 0 {
		t.Errorf("counts %+v", h)
	}
	for _, c := range []struct {
		seq     uint64
		command string
		done    bool
		differs string
	}{
		{1, "echo 'a b'", true, ""}, {1, "echo 'a b'", true, ""}, {1, "echo a b", true, `echo a\ b`},
		{2, "echo b", false, ""}, {3, "echo c", true, "echo new"}, {3, "echo  new", true, ""}, {4, "echo c", false, ""},
	} {
		if done, differs := h.Done(c.seq, c.command); done != c.done || differs != c.differs {
			t.Errorf("%d %q: %v, %q", c.seq, c.command, done, differs)
		}
	}
	if done, _ := history(t, log, SkipLogged).Done(2, "echo b"); !done {
		t.Error("a call that failed is in the log, and is not done")
	}
}

// TestWhatDiffersIsFitForAMessage: it is quoted from a file that anybody may have written.
func TestWhatDiffersIsFitForAMessage(t *testing.T) {
	for logged, want := range map[string]string{
		"":                        "nothing",
		"a\x00b\x1b[2J\xff":       "a?b?[2J?",
		strings.Repeat("x", 5000): strings.Repeat("x", quoted) + "…",
	} {
		h := history(t, header+otherRow(1, logged, 0), SkipLogged)
		if _, differs := h.Done(1, "other"); differs != want {
			t.Errorf("%q is quoted as %q", logged, differs)
		}
	}
	h := history(t, header+strings.Replace(otherRow(1, "x", 0), ":", strings.Repeat("h", 2000), 1), SkipLogged)
	if _, differs := h.Done(1, "other"); differs != "another command" {
		t.Errorf("a row that cannot be quoted is quoted as %q", differs)
	}
}

// TestWhoWroteWhat: a run of rows that pass is ours, and so is a file in which all do.
func TestWhoWroteWhat(t *testing.T) {
	for _, c := range []struct {
		writers string // o ours, x another program, ! a line that is no row
		ours    int
	}{
		{"", 0}, {"o", 1}, {"ooooo", 5}, {"oooooooo", 8}, {"o!ooo", 4}, {"x", 0}, {"xxxxxxx", 0},
		{"oooooxooooo", 0}, {"ooooooxooooo", 6}, {"xoooooox", 6}, {"xooooo", 0}, {"ooo!ooox", 6}, {"xxooooooooxoooooooxo", 15},
	} {
		log := header
		for i, w := range c.writers {
			switch w {
			case 'o':
				log += oursRow(uint64(i+1), "echo", 0)
			case 'x':
				log += otherRow(uint64(i+1), "echo", 0)
			default:
				log += "12\t:\t17\n"
			}
		}
		h := history(t, log, SkipLogged)
		bad, first := strings.Count(c.writers, "!"), 0
		if bad > 0 {
			first = strings.Index(c.writers, "!") + 2
		}
		if h.Ours != c.ours || h.Rows != len(c.writers)-bad || h.Malformed != bad || h.FirstBad != first {
			t.Errorf("%s: %+v", c.writers, h)
		}
	}
}

// TestMixedLogs: a program resumed what the other one began. Commands that occur twice are done by the
// program that did them.
func TestMixedLogs(t *testing.T) {
	var log strings.Builder
	log.WriteString(header)
	commands := []string{"echo a", "echo a", "echo b", "echo a", "echo c", "echo d", "echo e", "echo a", "echo f", "echo a", "echo g"}
	for i, c := range commands {
		row := oursRow
		if i%11 < 3 || i == 10 {
			row = otherRow
		}
		log.WriteString(row(uint64(i+1), c, 0))
	}
	h := history(t, log.String(), SkipLogged)
	if got := asked(h, commands...); slices.Contains(got, false) || h.Ours != 7 || h.Left() != 0 {
		t.Errorf("done %v, %+v", got, h)
	}
	if done, _ := h.Done(12, "echo a"); done {
		t.Error("a call more is done than were logged")
	}
}

func TestHistoryOfANewLog(t *testing.T) {
	var h *History
	if done, differs := h.Done(1, "echo"); done || differs != "" || h.Left() != 0 {
		t.Error("something is done that was never logged")
	}
}

// player plays runs of an input that changes between them, with calls that fail and crashes of the
// machine. It counts what was logged as done, by command, as a model that knows nothing of files.
type player struct {
	mode  Mode
	log   []byte
	input []string
	done  map[string]int
	last  map[string]int // exit codes by number and command
}

var someCommands = rapid.SampledFrom([]string{"a", "b", "c d", "'c d'", "e\nf", "g\th"})

// edit adds, removes and moves lines of the input.
func (p *player) edit(t *rapid.T) {
	for range rapid.IntRange(0, 5).Draw(t, "edits") {
		at := rapid.IntRange(0, len(p.input)).Draw(t, "at")
		if at == len(p.input) || rapid.Bool().Draw(t, "insert") {
			p.input = slices.Insert(p.input, at, someCommands.Draw(t, "command"))
			continue
		}
		line := p.input[at]
		p.input = slices.Delete(p.input, at, at+1)
		if rapid.Bool().Draw(t, "move") {
			p.input = slices.Insert(p.input, rapid.IntRange(0, len(p.input)).Draw(t, "to"), line)
		}
	}
}

// run plays one run, and checks each answer against the model.
func (p *player) run(t *rapid.T, mayFail bool) {
	h, end, err := read(bytes.NewReader(p.log), int64(len(p.log)), p.mode)
	if err != nil {
		t.Fatal(err)
	}
	if p.log = p.log[:end]; end == 0 {
		p.log = []byte(header)
	}
	left := map[string]int{}
	for command, n := range p.done {
		left[command] = n
	}
	crash := rapid.IntRange(0, 2*len(p.input)).Draw(t, "crash")
	for i, command := range p.input {
		done, differs := h.Done(uint64(i+1), command)
		call := fmt.Sprint(i+1, command)
		if done != (left[command] > 0 && p.last[call] == 0) || differs != "" {
			t.Fatalf("call %d, %q, is done: %v, %q; %d of it are, exit code %d", i+1, command, done, differs, left[command], p.last[call])
		}
		if done {
			left[command]--
			continue
		}
		exit := 0
		if mayFail {
			exit = rapid.IntRange(0, 1).Draw(t, "exit")
		}
		row := []byte(oursRow(uint64(i+1), command, exit))
		if i == crash {
			row = row[:rapid.IntRange(0, len(row)-1).Draw(t, "torn")]
			p.log = append(p.log, append(row, make([]byte, rapid.IntRange(0, 3).Draw(t, "zeros"))...)...)
			return
		}
		p.log = append(p.log, row...)
		p.last[call] = exit
		if exit == 0 {
			p.done[command]++
		}
	}
}

// TestEveryCallIsDoneExactlyOnce whatever happens to the input between runs, and to the machine.
func TestEveryCallIsDoneExactlyOnce(t *testing.T) {
	for _, mode := range []Mode{SkipLogged, SkipSucceeded} {
		rapid.Check(t, func(t *rapid.T) {
			p := &player{mode: mode, done: map[string]int{}, last: map[string]int{}}
			for range rapid.IntRange(1, 6).Draw(t, "runs") {
				p.edit(t)
				p.run(t, mode == SkipSucceeded)
			}
		})
	}
}

// TestOfEqualCallsTheFailedOnesRunAgain: while the input does not change, the calls that failed are run again,
// and no others, also if others have the same command. To a resume that takes failures for done, all is.
func TestOfEqualCallsTheFailedOnesRunAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		input := rapid.SliceOfN(someCommands, 0, 12).Draw(t, "input")
		log, succeeded := header, make([]bool, len(input))
		for range rapid.IntRange(1, 4).Draw(t, "runs") {
			if got := asked(history(t, log, SkipSucceeded), input...); !slices.Equal(got, succeeded) {
				t.Fatalf("done are %v, want %v, after\n%s", got, succeeded, log)
			}
			for i, command := range input {
				if !succeeded[i] {
					succeeded[i] = rapid.Bool().Draw(t, "succeeds")
					log += oursRow(uint64(i+1), command, map[bool]int{false: 1}[succeeded[i]])
				}
			}
		}
		h := history(t, log, SkipLogged)
		if slices.Contains(asked(h, input...), false) || h.Left() != 0 {
			t.Fatalf("%d are left of\n%s", h.Left(), log)
		}
	})
}

// TestLogCutAnywhere: at whatever byte a crash cuts a log, with or without zeros after it, what was whole
// counts, and what was torn does not.
func TestLogCutAnywhere(t *testing.T) {
	log, ends := header, []int{len(header)}
	for i := range uint64(9) {
		log += oursRow(i+1, fmt.Sprintf("echo 'line\n%d'", i), 0)
		ends = append(ends, len(log))
	}
	for cut := range len(log) + 1 {
		for _, zeros := range []int{0, 1, 5000} {
			torn := log[:cut] + strings.Repeat("\x00", zeros)
			h, end, err := read(strings.NewReader(torn), int64(len(torn)), SkipLogged)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			rows, want := -1, 0
			for _, e := range ends {
				if e <= cut {
					rows, want = rows+1, e
				}
			}
			if int(end) != want || h.Rows != max(rows, 0) || h.Ours != h.Rows || h.Malformed != 0 || int(h.Torn) != len(torn)-want {
				t.Fatalf("cut at %d with %d zeros: end %d, want %d, %+v", cut, zeros, end, want, h)
			}
			if last, _ := lastLineEnd(strings.NewReader(torn), int64(len(torn))); int(last) != want {
				t.Fatalf("cut at %d: the last line ends at %d, want %d", cut, last, want)
			}
		}
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	log := header + oursRow(1, long, 0) + oursRow(2, strings.Repeat("y", maxLine), 0) + oursRow(3, "echo", 0)
	h := history(t, log, SkipLogged)
	if got := asked(h, long, "echo"); slices.Contains(got, false) || h.Rows != 2 || h.Malformed != 1 || h.FirstBad != 3 {
		t.Errorf("%v, %d rows, %d malformed from %d", got, h.Rows, h.Malformed, h.FirstBad)
	}
	if last, err := lastLineEnd(strings.NewReader(log+long), int64(len(log)+len(long))); err != nil || int(last) != len(log) {
		t.Errorf("the last whole line ends at %d of %d, %v", last, len(log), err)
	}
}

func TestWhatIsNoLog(t *testing.T) {
	for _, text := range []string{"hello\n", "Seq\n", "\n" + header, "Seq\tHost\tStarttime\n", "Seq\tHosts", strings.Repeat("S", 500),
		"\x00x", strings.Repeat("\x00", 9000) + "x", header[:20] + "\x00\n"} {
		if _, _, err := read(strings.NewReader(text), int64(len(text)), SkipLogged); err == nil || !strings.Contains(err.Error(), "no joblog") {
			t.Errorf("%.20q is a log: %v", text, err)
		}
	}
	old := strings.Replace(header, "JobRuntime", "Runtime", 1) // as releases of 2013 had it
	if h := history(t, old+otherRow(1, "echo", 0), SkipLogged); h.Rows != 1 {
		t.Errorf("an old header: %+v", h)
	}
}

// brokenDisk fails behind some bytes.
type brokenDisk struct {
	text string
}

func (d brokenDisk) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(d.text)) {
		return 0, io.ErrNoProgress
	}
	return copy(p, d.text[at:]), nil
}

func TestLogThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"", header + oursRow(1, strings.Repeat("x", 300), 0)} {
		if _, _, err := read(brokenDisk{text}, 100_000, SkipLogged); err == nil {
			t.Error("what could not be read counts as read")
		}
	}
	if _, err := lastLineEnd(brokenDisk{}, 10); err == nil {
		t.Error("the end of what cannot be read was found")
	}
}

// FuzzRead: no file makes it panic, all lines are accounted for, and cutting off what is torn makes a
// log that says the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(header + oursRow(1, "echo a", 0) + otherRow(2, "echo 'b", 1) + "x\n\x00\x00"))
	f.Add([]byte(header + strings.Repeat(oursRow(1, "a", 1), 7)))
	f.Add([]byte(header[:10]))
	f.Fuzz(func(t *testing.T, log []byte) {
		for _, mode := range []Mode{SkipLogged, SkipSucceeded} {
			h, end, err := read(bytes.NewReader(log), int64(len(log)), mode)
			if err != nil {
				continue
			}
			if lines := max(bytes.Count(log, []byte("\n"))-1, 0); h.Rows+h.Malformed != lines || h.Torn != int64(len(log))-end {
				t.Errorf("%d lines: %+v", lines, h)
			}
			again, end2, err := read(bytes.NewReader(log[:end]), end, mode)
			if err != nil || end2 != end || again.Rows != h.Rows || again.Ours != h.Ours || again.Left() != h.Left() {
				t.Errorf("%+v, after the cut %+v, %v", h, again, err)
			}
			for seq := range uint64(3) {
				h.Done(seq, "a")
			}
		}
	})
}

func benchmarkRead(b *testing.B, row func(uint64, string, int) string) {
	var log strings.Builder
	log.WriteString(header)
	const rows = 100_000
	for i := range uint64(rows) {
		log.WriteString(row(i+1, fmt.Sprintf("convert -resize 50%% 'in/picture %d.jpg' out/%d.jpg", i, i), 0))
	}
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		if h := history(b, log.String(), SkipLogged); h.Rows != rows {
			b.Fatal(h.Rows)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkRead(b *testing.B) {
	b.Run("ours", func(b *testing.B) { benchmarkRead(b, oursRow) })
	b.Run("others", func(b *testing.B) { benchmarkRead(b, otherRow) })
}

func BenchmarkDone(b *testing.B) {
	h := history(b, header+strings.Repeat(oursRow(1, "echo a", 0), 10), SkipLogged)
	for b.Loop() {
		h.Done(5, "convert -resize 50% 'in/picture 17.jpg' out/17.jpg")
	}
}

// TestOneCallInTwoHands: a call that one program has logged as failed and the other one has
// run again is one call, so that an equal one that comes later is run.
func TestOneCallInTwoHands(t *testing.T) {
	var others, ours string
	for seq := uint64(1); seq <= 8; seq++ {
		others += otherRow(seq, "job", 1)
		ours += oursRow(seq, "job", 0)
	}
	var oursFailed, othersDone string
	for seq := uint64(1); seq <= 8; seq++ {
		oursFailed += oursRow(seq, "job", 1)
		othersDone += otherRow(seq, "job", 0)
	}
	for name, log := range map[string]string{"theirs, then ours": header + others + ours, "ours, then theirs": header + oursFailed + othersDone} {
		for _, mode := range []Mode{SkipLogged, SkipSucceeded} {
			h := history(t, log, mode)
			n := 0
			for seq := uint64(1); seq <= 16; seq++ {
				if done, differs := h.Done(seq, "job"); done && differs == "" {
					n++
				}
			}
			if n != 8 || h.Left() != 0 {
				t.Errorf("%s, mode %d: of 16 equal calls %d are done, and %d are left over; 8 have run", name, mode, n, h.Left())
			}
		}
	}
}
