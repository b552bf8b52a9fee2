package journal

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// The file is a first line and then records. A record is a head and its payload; a head is three
// little-endian numbers of 4 bytes: the payload's length, the payload's checksum, and the checksum of
// these two. Because a head vouches for itself, one that is whole with too few bytes behind it is
// what a crash in mid-write leaves, and a length that somebody has flipped is not taken for that.
// No head is all zeros, so a zeroed piece of a file holds no records.
const (
	family    = "gpool journal "
	firstLine = family + "1\n"
	headSize  = 12
)

// MaxRecord is how long a record may be, in bytes.
const MaxRecord = 64 << 20

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// head is what is known of a record before its payload is read.
type head struct {
	length   uint32
	checksum uint32 // of the payload
}

func headOf(record []byte) head {
	return head{uint32(len(record)), crc32.Checksum(record, castagnoli())}
}

// append writes the head behind b.
func (h head) append(b []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.checksum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli()))
}

// parseHead reads a head of headSize bytes. It is not ok if it is damaged, or not of our making.
func parseHead(b []byte) (h head, ok bool) {
	h.length = binary.LittleEndian.Uint32(b)
	h.checksum = binary.LittleEndian.Uint32(b[4:])
	own := binary.LittleEndian.Uint32(b[8:])
	return h, own == crc32.Checksum(b[:8], castagnoli()) && h.length <= MaxRecord
}

func appendRecord(b, record []byte) []byte {
	return append(headOf(record).append(b), record...)
}

// ending says how the records of a file end.
type ending int

const (
	whole   ending = iota // with the last whole record
	torn                  // with the beginning of a record: the writer was killed
	damaged               // before a record that is not what was written: no kill does that
)

// scanner reads records one by one and holds the last of them in memory.
type scanner struct {
	in     *bufio.Reader
	left   int64 // bytes that have not been read
	head   [headSize]byte
	record []byte
}

// scan hands every whole record of a file's size bytes to replay, in order, until the end or the first
// one that is torn or damaged. It returns the bytes that they take. An error is of in or of replay.
func scan(in io.Reader, size int64, replay func(record []byte) error) (end int64, how ending, err error) {
	s := &scanner{in: bufio.NewReaderSize(in, 64<<10), left: size}
	for s.left > 0 {
		how, err = s.next()
		if err != nil || how != whole {
			return end, how, err
		}
		if err := replay(s.record); err != nil {
			return end, whole, err
		}
		end = size - s.left
	}
	return end, whole, nil
}

// next reads a record. The memory it takes is no more than what the file has.
func (s *scanner) next() (ending, error) {
	if s.left < headSize {
		return torn, nil
	}
	if err := s.read(s.head[:]); err != nil {
		return whole, err
	}
	h, ok := parseHead(s.head[:])
	if !ok {
		return damaged, nil
	}
	if int64(h.length) > s.left {
		return torn, nil
	}
	if int(h.length) > cap(s.record) {
		s.record = make([]byte, h.length)
	}
	s.record = s.record[:h.length]
	if err := s.read(s.record); err != nil {
		return whole, err
	}
	if headOf(s.record) != h {
		return damaged, nil
	}
	return whole, nil
}

func (s *scanner) read(b []byte) error {
	if _, err := io.ReadFull(s.in, b); err != nil {
		return fmt.Errorf("read the next record: %w", err)
	}
	s.left -= int64(len(b))
	return nil
}
