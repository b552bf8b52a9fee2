package shelf

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func take(t interface{ Fatal(...any) }, s *Shelf, p Piece) []byte {
	var got []byte
	err := s.Take(p, func(b []byte) error {
		got = append(got, b...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestShelfGivesBackWhatItWasGiven puts and takes pieces in any order, through
// memory and the file.
func TestShelfGivesBackWhatItWasGiven(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		s := &Shelf{Limit: rapid.IntRange(0, 2000).Draw(t, "limit")}
		defer s.Close()
		var pieces []Piece
		var want [][]byte
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			if len(pieces) == 0 || rapid.Bool().Draw(t, "put") {
				data := bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 1000).Draw(t, "size"))
				var beside Piece
				last := len(pieces) - 1
				if last >= 0 && rapid.Bool().Draw(t, "beside the last") {
					beside = pieces[last]
				}
				p, err := s.Put(data, beside)
				if err != nil {
					t.Fatal(err)
				}
				if last >= 0 && beside.n > 0 && rapid.Bool().Draw(t, "join") && pieces[last].Join(p) {
					want[last] = append(want[last], data...)
					continue
				}
				pieces, want = append(pieces, p), append(want, data)
				continue
			}
			k := rapid.IntRange(0, len(pieces)-1).Draw(t, "which")
			if got := take(t, s, pieces[k]); !bytes.Equal(got, want[k]) {
				t.Fatalf("piece %d came back as %d bytes of %d", k, len(got), len(want[k]))
			}
			pieces = append(pieces[:k], pieces[k+1:]...)
			want = append(want[:k], want[k+1:]...)
		}
		if s.memory > s.Limit {
			t.Fatalf("%d bytes are in memory, %d are allowed", s.memory, s.Limit)
		}
	})
}

// TestShelfGivesTheDiskBack: the file has no name, gets holes as pieces are taken,
// and is empty when nothing is on the shelf.
func TestShelfGivesTheDiskBack(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := &Shelf{}
	defer s.Close()
	var pieces []Piece
	for range 8 {
		p, err := s.Put(make([]byte, 1<<20), Piece{})
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, p)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the directory of temporary files has %v, %v", names, err)
	}
	blocks := func() int64 {
		info, err := s.file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	before := blocks()
	for _, p := range pieces[1:] {
		take(t, s, p)
	}
	if after := blocks(); before >= 8<<20 && after > 2<<20 { // not on a file system without holes
		t.Errorf("the file takes %d bytes of disk for one piece of 1 MiB, and took %d for 8", after, before)
	}
	take(t, s, pieces[0])
	if info, err := s.file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the empty shelf has a file of %d bytes, %v", info.Size(), err)
	}
}

// TestSmallPiecesOfOneCallLieTogether, also if those of others come between.
func TestSmallPiecesOfOneCallLieTogether(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := &Shelf{}
	defer s.Close()
	calls := make([][]Piece, 3)
	for range 100 {
		for i := range calls {
			var beside Piece
			if last := len(calls[i]) - 1; last >= 0 {
				beside = calls[i][last]
			}
			p, err := s.Put(bytes.Repeat([]byte{byte(i)}, 30<<10), beside)
			if err != nil {
				t.Fatal(err)
			}
			if last := len(calls[i]) - 1; last < 0 || !calls[i][last].Join(p) {
				calls[i] = append(calls[i], p)
			}
		}
	}
	for i, pieces := range calls {
		if len(pieces) > 8 { // 3000 KiB, in extents that grow to 1 MiB
			t.Errorf("call %d has %d pieces", i, len(pieces))
		}
		n := 0
		for _, p := range pieces {
			got := take(t, s, p)
			n += bytes.Count(got, []byte{byte(i)})
		}
		if n != 100*30<<10 {
			t.Errorf("call %d has %d bytes of its own", i, n)
		}
	}
}

// TestSmallPiecesArePacked: a million calls that print a word take as much as they print.
func TestSmallPiecesArePacked(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := &Shelf{}
	defer s.Close()
	for range 10000 {
		p, err := s.Put([]byte("word\n"), Piece{})
		if err != nil {
			t.Fatal(err)
		}
		if p, err = s.Put([]byte("another\n"), p); err != nil {
			t.Fatal(err)
		}
		_ = p
	}
	if info, err := s.file.Stat(); err != nil || info.Size() > 3*10000*13 {
		t.Errorf("130000 bytes in a file of %d, %v", info.Size(), err)
	}
}

func TestShelfPassesErrorsOn(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	s := &Shelf{Limit: 3 + pieceCost}
	defer s.Close()
	p, err := s.Put([]byte("abc"), Piece{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put([]byte("d"), Piece{}); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without a place for its file it says %v", err)
	}
	broken := errors.New("broken on purpose")
	if err := s.Take(p, func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the user's error became %v", err)
	}
}
