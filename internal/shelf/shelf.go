// Package shelf keeps bytes until they are needed: a little in memory, the rest in
// one temporary file. Parent only.
package shelf

import (
	"errors"
	"fmt"
	"os"
)

// Shelf keeps pieces of output until their turn comes. Its file has no name, so that
// nothing is left of it however the process ends. One goroutine.
type Shelf struct {
	Limit int // bytes that may be kept in memory; more goes to disk

	memory int
	file   *os.File
	end    int64 // where the next piece goes
	live   int64 // bytes of the file that are still needed
	buf    []byte
}

// pieceCost is what a piece counts in memory besides its bytes.
const pieceCost = 64

// extent is how much of the file a piece that is put beside others gets at most, so that
// what comes later lies behind it: much output in small pieces is then read, and its space
// given back, in large ones. It gets as much as there is already of its kind, so the file
// is never more than a few times as long as what is in it.
const extent = 1 << 20

// Piece is what was put on a shelf at once, or joined.
type Piece struct {
	data []byte // nil if it is in the file
	at   int64
	n    int
	room int // bytes of the file behind it that are its own
}

// InMemory reports whether the piece is the memory that was put.
func (p *Piece) InMemory() bool { return p.data != nil }

// Join makes one piece of two, if the other one lies right behind it in the file.
func (p *Piece) Join(behind Piece) bool {
	if p.data != nil || behind.data != nil || p.n == 0 || behind.at != p.at+int64(p.n) {
		return false
	}
	p.n, p.room = p.n+behind.n, behind.room
	return true
}

// Put keeps data, which must not be changed any more, beside another piece if it can.
// That must be on the shelf, and the last one of those that were put beside each other;
// or it is the zero Piece.
func (s *Shelf) Put(data []byte, beside Piece) (Piece, error) {
	if len(data) == 0 {
		return Piece{}, nil
	}
	if s.memory+len(data)+pieceCost <= s.Limit {
		s.memory += len(data) + pieceCost
		return Piece{data: data, n: len(data)}, nil
	}
	if s.file == nil {
		file, err := os.CreateTemp("", "gpool-*")
		if err != nil {
			return Piece{}, fmt.Errorf("make a temporary file for output that must wait (TMPDIR chooses where): %w", err)
		}
		if err := os.Remove(file.Name()); err != nil {
			return Piece{}, errors.Join(fmt.Errorf("unlink a temporary file: %w", err), file.Close())
		}
		s.file = file
	}
	p := Piece{at: beside.at + int64(beside.n), n: len(data), room: beside.room - len(data)}
	if beside.room < len(data) {
		whole := max(len(data), min(2*beside.n, extent))
		p = Piece{at: s.end, n: len(data), room: whole - len(data)}
		s.end += int64(whole)
	}
	if _, err := s.file.WriteAt(data, p.at); err != nil {
		return Piece{}, fmt.Errorf("keep output that must wait in a temporary file in %s (TMPDIR chooses where): %w", os.TempDir(), err)
	}
	s.live += int64(len(data))
	return p, nil
}

// Take hands a piece over to use, in blocks that are valid during the call, and
// frees it. Pieces may be taken in any order, each once.
func (s *Shelf) Take(p Piece, use func([]byte) error) error {
	if p.n == 0 {
		return nil
	}
	if p.data != nil {
		s.memory -= p.n + pieceCost
		return use(p.data)
	}
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	for p.n > freeStep {
		first := Piece{at: p.at, n: freeStep}
		p.at, p.n = p.at+freeStep, p.n-freeStep
		if err := s.takeFile(first, use); err != nil {
			s.free(p)
			return err
		}
	}
	return s.takeFile(p, use)
}

// freeStep is how much of a large piece is given back at once: what was not yet written to the disk never is, so
// output that was kept does not fill the system's memory for writes twice.
const freeStep = 16 << 20

func (s *Shelf) takeFile(p Piece, use func([]byte) error) error {
	defer s.free(p)
	for at, left := p.at, p.n; left > 0; {
		block := s.buf[:min(left, len(s.buf))]
		if _, err := s.file.ReadAt(block, at); err != nil {
			return fmt.Errorf("read back output that was kept in a temporary file: %w", err)
		}
		if err := use(block); err != nil {
			return err
		}
		at, left = at+int64(len(block)), left-len(block)
	}
	return nil
}

// free gives the disk space of a piece back: of the whole file when nothing in it is
// needed any more, which is the usual case, else of the piece where the file system
// can have holes.
func (s *Shelf) free(p Piece) {
	s.live -= int64(p.n)
	if s.live == 0 {
		s.end = 0
		_ = s.file.Truncate(0)
		return
	}
	punchHole(s.file, p.at, int64(p.n))
}

// Close gives everything up that is still on the shelf.
func (s *Shelf) Close() {
	if s.file != nil {
		_ = s.file.Close() // without a name: nothing can be lost
	}
}
