package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The table of the figures stands between these two lines of the document.
const (
	tableBegins = "<!-- written by make bench -->\n"
	tableEnds   = "<!-- end -->\n"
)

// machine says what is measured on.
func machine() string {
	cpu := runtime.GOARCH
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(info) {
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	return fmt.Sprintf("%d CPUs (%s), %s, %s", runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), runtime.Version())
}

// versions are those of the peers, as they tell them.
func versions() string {
	var list []string
	for _, argv := range [][]string{{"xargs", "--version"}, {"parallel", "--version"}, {"python3", "--version"}, {"node", "--version"}} {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if line, _, _ := strings.Cut(string(out), "\n"); err == nil {
			list = append(list, strings.TrimSpace(strings.ReplaceAll(line, "v", "Node v")))
		}
	}
	return strings.Join(list, ", ")
}

// writeInto replaces the table in the document, and the picture beside it.
func (b *bench) writeInto(document string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), tableBegins)
	_, after, closed := strings.Cut(rest, tableEnds)
	if !ok || !closed {
		return fmt.Errorf("%s has no lines %q and %q, between which the table belongs", document, tableBegins, tableEnds)
	}
	picture := strings.TrimSuffix(document, filepath.Ext(document)) + ".svg"
	if err := os.WriteFile(picture, []byte(b.picture()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(document, []byte(before+tableBegins+b.table()+tableEnds+after), 0o644)
}

func (b *bench) table() string {
	var t strings.Builder
	fmt.Fprintf(&t, "\n%s: %s.\n%s. %d items for commands, median (and range) of %d pairs.\n",
		time.Now().Format(time.DateOnly), machine(), versions(), *items, *pairs)
	for _, what := range b.missing {
		fmt.Fprintf(&t, "Not measured, since it was not installed: %s.\n", what)
	}
	t.WriteString("\n| case | gpool | beside | takes | ratio | to reach | |\n|---|---|---|---|---|---|---|\n")
	for _, f := range b.figures {
		cell := func(s string) { fmt.Fprintf(&t, "| %s ", strings.ReplaceAll(s, "|", "\\|")) }
		cell(f.what)
		switch {
		case f.failed != nil:
			cell("failed: " + f.failed.Error())
			cell(f.rival)
			cell("")
			cell("")
		case f.rival == "":
			cell(f.amount(f.value()))
			cell("")
			cell("")
			cell("")
		default:
			cell(rounded(f.ours).String())
			cell(f.rival)
			cell(rounded(f.theirs).String())
			how := " times as fast"
			if f.atMost {
				how = " times as long"
			}
			cell(fmt.Sprintf("%s%s (%s to %s)", f.amount(f.value()), how, f.amount(f.list[0]), f.amount(f.list[len(f.list)-1])))
		}
		cell(f.goal())
		cell(map[bool]string{true: "", false: "**not reached**"}[f.reached()])
		t.WriteString("|\n")
	}
	t.WriteString("\n")
	return t.String()
}

// The measures of the picture, in pixels.
const (
	rowHeight = 22
	margin    = 80 // left of the labels, for long ones
	labels    = 560
	bars      = 420
)

// picture draws how many times as fast gpool is, on a scale of tens: a bar for each figure that is such a ratio.
func (b *bench) picture() string {
	var rows []figure
	most := 10.0
	for _, f := range b.figures {
		if f.rival != "" && !f.atMost && f.failed == nil {
			rows = append(rows, f)
			most = max(most, f.value())
		}
	}
	tens := math.Ceil(math.Log10(most))
	x := func(ratio float64) float64 { // 0.1 is at the left edge
		return labels + bars*(math.Log10(max(ratio, 0.1))+1)/(tens+1)
	}
	var s strings.Builder
	height := rowHeight*len(rows) + 50
	width := margin + labels + bars + 70
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="-%d 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, margin, width, height)
	fmt.Fprintf(&s, `<rect x="-%d" width="100%%" height="100%%" fill="white"/><text x="8" y="18" font-weight="bold">How many times as fast as its rival gpool is</text>`+"\n", margin)
	for e := -1.0; e <= tens; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(&s, `<path d="M%.0f 28V%d" stroke="%s"/><text x="%.0f" y="%d" text-anchor="middle" fill="#555">%g</text>`+"\n",
			at, height-20, map[bool]string{true: "#333", false: "#ddd"}[e == 0], at, height-6, math.Pow(10, e))
	}
	for i, f := range rows {
		y := 32 + i*rowHeight
		from, to := min(x(1), x(f.value())), max(x(1), x(f.value()))
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s / %s</text>`, labels-8, y+14, escape(f.what), escape(f.rival))
		fmt.Fprintf(&s, `<rect x="%.0f" y="%d" width="%.0f" height="%d" fill="%s"/>`, from, y+2, max(to-from, 1), rowHeight-6,
			map[bool]string{true: "#3b7dd8", false: "#c0504d"}[f.value() >= 1])
		fmt.Fprintf(&s, `<text x="%.0f" y="%d">%s</text>`+"\n", to+4, y+14, f.amount(f.value()))
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
