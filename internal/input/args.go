package input

import (
	"errors"
	"fmt"
	"io"
	"math"

	"gpool/internal/command"
)

// Group is one ::: or :::: of the command line, with the words that follow it.
type Group struct {
	Link      bool // :::+ and ::::+: zipped with the source before it
	FromFiles bool // :::: and ::::+: the values are files, each a source of its own
	Values    []string
}

// SplitArgs cuts what follows the flags at ::: and its relatives. cmd is what stands before the first of them; groups is
// nil when there is none. As in GNU parallel a first group has nothing to be linked with, so its + has no meaning.
func SplitArgs(args []string) (cmd []string, groups []Group, err error) {
	for _, arg := range args {
		if g, ok := separator(arg); ok {
			g.Link = g.Link && len(groups) > 0
			groups = append(groups, g)
			continue
		}
		if len(groups) == 0 {
			cmd = append(cmd, arg)
			continue
		}
		last := &groups[len(groups)-1]
		last.Values = append(last.Values, arg)
	}
	for _, g := range groups {
		if g.FromFiles && len(g.Values) == 0 {
			return nil, nil, errors.New("no file follows ::::, so there is nothing to read: name one, or - for standard input")
		}
	}
	return cmd, groups, nil
}

func separator(arg string) (Group, bool) {
	switch arg {
	case ":::":
		return Group{}, true
	case ":::+":
		return Group{Link: true}, true
	case "::::":
		return Group{FromFiles: true}, true
	case "::::+":
		return Group{Link: true, FromFiles: true}, true
	}
	return Group{}, false
}

// Product returns the rows that the groups stand for, and how many they are: the cartesian product, of which the last
// group varies fastest. A linked group is zipped with the one before it, as far as the shorter of them goes; so is every
// file of a linked ::::. Without a value in one of the groups there are no rows.
//
// Files are read here and now, a value per line or per NUL, whatever else f says; "-" is stdin. Only the values are
// held: rows are made as they are asked for.
func Product(groups []Group, stdin io.Reader, f Format) (Source, int64, error) {
	read, err := readGroups(groups, stdin, Format{Null: f.Null})
	if err != nil {
		return nil, 0, err
	}
	var axes []axis
	for i, g := range groups {
		sources := read[i]
		if !g.FromFiles {
			sources = [][]Row{rowsOf(g.Values)}
		}
		for _, rows := range sources {
			axes = appendAxis(axes, rows, g.Link)
		}
	}
	if len(axes) == 1 && len(axes[0].zipped) == 1 {
		// One source alone keeps its lines and files for error texts.
		return FromRows(axes[0].zipped[0]), int64(axes[0].length), nil
	}
	total, err := size(axes)
	if err != nil {
		return nil, 0, err
	}
	return &productSource{axes: axes, at: make([]int, len(axes)), left: total}, total, nil
}

// readGroups reads the files of the groups that have some. All are opened before the first is read.
func readGroups(groups []Group, stdin io.Reader, f Format) ([][][]Row, error) {
	var paths []string
	for _, g := range groups {
		if g.FromFiles {
			paths = append(paths, g.Values...)
		}
	}
	files, err := openFiles(paths, stdin)
	if err != nil {
		return nil, err
	}
	read := make([][][]Row, len(groups))
	for i, g := range groups {
		for range fileCount(g) {
			src := &fileSource{format: f, files: files[:1:1]}
			rows, err := ReadAll(src)
			if err != nil {
				return nil, errors.Join(err, closeFiles(files))
			}
			files = files[1:]
			read[i] = append(read[i], rows)
		}
	}
	return read, nil
}

func fileCount(g Group) int {
	if g.FromFiles {
		return len(g.Values)
	}
	return 0
}

func rowsOf(values []string) []Row {
	rows := make([]Row, len(values))
	for i := range rows {
		rows[i] = Row{Row: command.Row{Columns: values[i : i+1 : i+1]}}
	}
	return rows
}

// axis is one dimension of the product: sources that go together, step by step.
type axis struct {
	zipped [][]Row
	length int // of the shortest
}

func appendAxis(axes []axis, rows []Row, link bool) []axis {
	if !link || len(axes) == 0 {
		return append(axes, axis{[][]Row{rows}, len(rows)})
	}
	last := &axes[len(axes)-1]
	last.zipped = append(last.zipped, rows)
	last.length = min(last.length, len(rows))
	return axes
}

// size multiplies the lengths. An empty axis makes it 0 however long the others are.
func size(axes []axis) (int64, error) {
	total := int64(min(len(axes), 1))
	for _, a := range axes {
		if a.length == 0 {
			return 0, nil
		}
	}
	for _, a := range axes {
		if total > math.MaxInt64/int64(a.length) {
			return 0, fmt.Errorf("all the combinations of %s are more than can be counted: leave some out, or link them with :::+",
				count(len(axes), "source"))
		}
		total *= int64(a.length)
	}
	return total, nil
}

// productSource counts through the product like an odometer.
type productSource struct {
	axes []axis
	at   []int
	left int64
}

// Next implements Source.
func (p *productSource) Next(max int) ([]Row, error) {
	if p.left == 0 {
		return nil, io.EOF
	}
	n := int(min(int64(atLeastOne(max)), p.left, 4*ahead))
	p.left -= int64(n)
	rows := make([]Row, n)
	block := make([]string, 0, n*p.width())
	for i := range rows {
		start := len(block)
		block = p.appendColumns(block)
		rows[i].Columns = block[start:len(block):len(block)]
		p.advance()
	}
	return rows, nil
}

func (p *productSource) width() int {
	n := 0
	for _, a := range p.axes {
		n += len(a.zipped)
	}
	return n
}

func (p *productSource) appendColumns(block []string) []string {
	for i, a := range p.axes {
		for _, rows := range a.zipped {
			block = append(block, rows[p.at[i]].Columns...)
		}
	}
	return block
}

func (p *productSource) advance() {
	for i := len(p.at) - 1; i >= 0; i-- {
		if p.at[i]++; p.at[i] < p.axes[i].length {
			return
		}
		p.at[i] = 0
	}
}

// Close implements Source.
func (p *productSource) Close() error { p.left = 0; return nil }
