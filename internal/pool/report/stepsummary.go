package report

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"gpool/internal/ipc"
)

const (
	// summaryFailed and summaryFlaky are how many calls of each kind are listed. With what
	// is shown of each, a summary stays below 512 KiB whatever the items are; GitHub takes
	// 1 MiB from a step, and nothing of more.
	summaryFailed = 50
	summaryFlaky  = 20
)

// StepSummary appends a summary of the run in Markdown to a file: the one that GitHub names in
// GITHUB_STEP_SUMMARY, and shows on the page of the run. It keeps a line for up to 70 calls,
// and writes once, at the end. One goroutine.
type StepSummary struct {
	path          string
	failed, flaky []string // rows of the tables
}

// NewStepSummary makes a summary that goes to the end of the file at path, which is made
// if it is not there. Nothing is opened before Close.
func NewStepSummary(path string) *StepSummary { return &StepSummary{path: path} }

// Output implements [Sink]; output is not in the summary.
func (*StepSummary) Output(uint64, int, ipc.Stream, []byte) error { return nil }

// Call implements [Sink].
func (s *StepSummary) Call(r *Record) error {
	switch {
	case r.Status.Failure() && len(s.failed) < summaryFailed:
		s.failed = append(s.failed, tableRow(strconv.FormatUint(r.Seq, 10), code(itemText(r.Item)),
			string(r.Status), exitText(r), attempts(r), code(harmless(beginning(r.Error, errorMost)))))
	case r.Flaky() && len(s.flaky) < summaryFlaky:
		first := r.Earlier[0]
		s.flaky = append(s.flaky, tableRow(strconv.FormatUint(r.Seq, 10), code(itemText(r.Item)),
			attempts(r), string(first.Status), code(harmless(beginning(first.Error, errorMost)))))
	}
	return nil
}

// Flush implements [Sink]; there is nothing to flush before the end.
func (*StepSummary) Flush() error { return nil }

// Close implements [Sink]. Its error names the file.
func (s *StepSummary) Close(t *Totals) error {
	if err := appendFile(s.path, s.markdown(t)); err != nil {
		return fmt.Errorf("append the summary of the run to the file in GITHUB_STEP_SUMMARY: %w", err)
	}
	return nil
}

// appendFile writes text at the end of a file, in one write.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// markdown is the whole summary. It begins with an empty line, since what is in the file
// already may be a table.
func (s *StepSummary) markdown(t *Totals) string {
	var text strings.Builder
	text.WriteString("\n### gpool: " + t.Line() + "\n\n")
	text.WriteString(countsTable(t))
	writeTable(&text, s.failed, t.Failed, "failed", "call", "item", "status", "exit", "attempts", "error")
	writeTable(&text, s.flaky, t.Flaky, "flaky", "call", "item", "attempts", "first", "error")
	return text.String()
}

// countsTable is the table of how many calls ended how.
func countsTable(t *Totals) string {
	names := []string{"calls", "succeeded", "failed", "flaky"}
	values := []string{number(t.Calls), number(t.Succeeded), number(t.Failed), number(t.Flaky)}
	for _, more := range []struct {
		name string
		n    int64
	}{{"ended by the stop", t.Cancelled}, {"not run", t.NotRun}, {"done before", t.Skipped}} {
		if more.n > 0 {
			names, values = append(names, more.name), append(values, number(more.n))
		}
	}
	names, values = append(names, "wall time", "time in calls"), append(values, seconds(t.Wall), seconds(t.Busy))
	if speed := t.speedUp(); speed != "" {
		names, values = append(names, "speed-up"), append(values, speed)
	}
	return tableHead(names...) + tableRow(values...)
}

// writeTable appends the rows of one kind of call, and how many there are beyond them.
func writeTable(text *strings.Builder, rows []string, all int64, kind string, names ...string) {
	if len(rows) == 0 {
		return
	}
	text.WriteString("\n" + tableHead(names...) + strings.Join(rows, ""))
	if more := all - int64(len(rows)); more > 0 {
		text.WriteString("\nand " + plural(more, "more "+kind+" call") + "\n")
	}
}

func tableHead(names ...string) string {
	return tableRow(names...) + strings.Repeat("|---", len(names)) + "|\n"
}

func tableRow(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

func number(n int64) string { return strconv.FormatInt(n, 10) }

// exitText is the exit code of the command, if one has ended.
func exitText(r *Record) string {
	switch {
	case r.Signal != 0:
		return fmt.Sprintf("%d (signal %d)", r.Exit, r.Signal)
	case r.Exit < 0:
		return ""
	}
	return strconv.Itoa(r.Exit)
}

// attempts is how many there were.
func attempts(r *Record) string { return strconv.Itoa(len(r.Earlier) + min(1, r.N)) }

// code is foreign text as a cell of a table, in the type of code.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "<code>" + escapeMarkdown(text) + "</code>"
}

// escapeMarkdown writes every character that could mean something to Markdown or HTML as
// a numeric reference, which never does. A code span would not do: a "|" ends a cell in
// it too, and how many backticks it takes depends on the text.
func escapeMarkdown(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r >= 0x80, letterOrDigit(r), strings.ContainsRune(" -/,=+", r):
			out.WriteRune(r)
		default:
			fmt.Fprintf(&out, "&#%d;", r)
		}
	}
	return out.String()
}

func letterOrDigit(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z'
}
