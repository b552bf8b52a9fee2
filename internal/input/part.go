package input

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
)

// ErrElsewhere is the Err of a row that belongs to another part of the input.
var ErrElsewhere = errors.New("the item belongs to another part of the input")

// Slice marks all rows but every m-th one, from the n-th on, with ErrElsewhere. They stay in
// their places, so that a row has the same number in every part.
func Slice(s Source, n, m int) Source {
	return &marking{source: s, mine: func(row *Row, at uint64) bool { return at%uint64(m) == uint64(n-1) }}
}

// Hash is as Slice, by the columns of each row and not by its place: a row that is added
// or moved changes the part of no other. It is the beginning of the SHA-256 of the
// columns, each with a zero byte behind it, as a big-endian number modulo m.
func Hash(s Source, n, m int) Source {
	var text []byte
	return &marking{source: s, mine: func(row *Row, _ uint64) bool {
		text = text[:0]
		for _, c := range row.Columns {
			text = append(append(text, c...), 0)
		}
		sum := sha256.Sum256(text)
		return binary.BigEndian.Uint64(sum[:])%uint64(m) == uint64(n-1)
	}}
}

type marking struct {
	source Source
	mine   func(row *Row, at uint64) bool
	at     uint64
}

func (p *marking) Next(max int) ([]Row, error) {
	rows, err := p.source.Next(max)
	for i := range rows {
		if !p.mine(&rows[i], p.at) {
			rows[i].Err = ErrElsewhere
		}
		p.at++
	}
	return rows, err
}

func (p *marking) Close() error { return p.source.Close() }

// Shuffle brings rows into an order that depends on the seed alone.
func Shuffle(rows []Row, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(rows), func(a, b int) { rows[a], rows[b] = rows[b], rows[a] })
}
