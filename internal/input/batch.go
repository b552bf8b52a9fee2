package input

import (
	"io"
	"math"
	"slices"
)

// FromRows returns a source that hands out rows that are there already. It takes the slice over.
func FromRows(rows []Row) Source { return &sliceSource{rows} }

type sliceSource struct{ rows []Row }

// Next implements Source.
func (s *sliceSource) Next(max int) ([]Row, error) {
	if len(s.rows) == 0 {
		return nil, io.EOF
	}
	n := min(atLeastOne(max), len(s.rows))
	rows := s.rows[:n:n]
	s.rows = s.rows[n:]
	return rows, nil
}

// Close implements Source.
func (s *sliceSource) Close() error { s.rows = nil; return nil }

// ReadAll returns all the rows of a source, or those before its failure and the error. It leaves the closing to its
// caller.
func ReadAll(src Source) ([]Row, error) {
	var all []Row
	for {
		rows, err := src.Next(math.MaxInt)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, rows...)
	}
}

// Batch returns a source whose rows are the columns of n rows of src each, one after the other; the last one may be
// shorter. A bad row stays alone and keeps its place, so what is gathered before it goes out short. A joined row has the
// file and line of its first, and no names of its own. The source takes src over.
func Batch(src Source, n int) Source {
	if n <= 1 {
		return src
	}
	return &batchSource{src: src, n: n}
}

type batchSource struct {
	src   Source
	n     int
	held  Row // what is gathered so far: a row of count rows, if count is not 0
	count int
	made  []Row // whole, but not handed out
	err   error // the end, to be told after the last row
}

// Next implements Source. It waits until one row is whole.
func (b *batchSource) Next(max int) ([]Row, error) {
	max = atLeastOne(max)
	for len(b.made) == 0 && b.err == nil {
		rows, err := b.src.Next(b.wanted(max))
		for i := range rows {
			b.add(&rows[i])
		}
		if err != nil {
			b.err = err
			b.flush()
		}
	}
	if len(b.made) == 0 {
		return nil, b.err
	}
	n := min(max, len(b.made))
	rows := b.made[:n:n]
	b.made = b.made[n:]
	return rows, nil
}

// wanted is how many rows of src make max of ours.
func (b *batchSource) wanted(max int) int {
	if max > math.MaxInt/b.n {
		return math.MaxInt
	}
	return max*b.n - b.count
}

func (b *batchSource) add(row *Row) {
	if row.Err != nil {
		b.flush()
		b.made = append(b.made, *row)
		return
	}
	if b.count == 0 {
		b.held = *row
		b.held.Names = nil
		b.held.Columns = slices.Clone(row.Columns)
	} else {
		b.held.Columns = append(b.held.Columns, row.Columns...)
	}
	if b.count++; b.count == b.n {
		b.flush()
	}
}

// flush hands on what is gathered, whole or not.
func (b *batchSource) flush() {
	if b.count > 0 {
		b.made = append(b.made, b.held)
		b.held, b.count = Row{}, 0
	}
}

// Close implements Source.
func (b *batchSource) Close() error { return b.src.Close() }
