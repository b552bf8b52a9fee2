package daemon

import (
	"fmt"
	"time"

	"gpool/internal/pool/daemon/wire"
	"gpool/internal/value"
)

// What the journal knows of a pool: a record for each thing that happened, which is one byte for
// its kind and one msgpack value. Played from the first to the last, they make the state of
// the server. A kind that is not known is an error: an older gpool must not guess.

type kind byte

const (
	kindOpened    kind = 'o'
	kindOrigin    kind = 'x'
	kindAccepted  kind = 'a'
	kindBegun     kind = 'b'
	kindEnded     kind = 'e'
	kindCalled    kind = 'c'
	kindTaken     kind = 't'
	kindForgotten kind = 'f'
	kindGiven     kind = 'g'
)

// opened is the first record, and follows again when the pool is closed or changed.
type opened struct {
	Nonce   string // of all ids
	Last    uint64 // the highest number that an id has had
	Options Options
	Closed  bool
	Over    bool // it was terminated: nothing of it counts
}

// originRecord is a context that calls refer to.
type originRecord struct {
	Ref     uint64
	Context wire.Context
}

type acceptedRecord struct {
	N, Origin uint64
	Call      wire.Call
	At        time.Time
	Attached  bool
}

// begunRecord is written before a worker hears of a call.
type begunRecord struct {
	N       uint64
	Attempt int
	At      time.Time
}

type endedRecord struct {
	N      uint64
	Result wire.Result
	Kept   []int64 // bytes of stdout and stderr in the spool
}

// calledRecord is the end of a callback.
type calledRecord struct {
	N       uint64
	Told    bool // a callback has had the result
	Problem string
}

// numbered is what taken, forgotten and given say: the result was fetched, or is gone; the call
// was given up while it ran.
type numbered struct{ N uint64 }

// encode makes a record.
func encode[T any](k kind, v T) []byte {
	b, err := value.Append([]byte{byte(k)}, &v)
	if err != nil {
		panic(fmt.Sprintf("encode a record of kind %q: %v", k, err)) // our own types always can be
	}
	return b
}

// decode reads one of a known kind.
func decode[T any](record []byte) (v T, err error) {
	if err = value.Decode(record[1:], &v); err != nil {
		err = fmt.Errorf("a record of kind %q: %w", record[0], err)
	}
	return v, err
}
