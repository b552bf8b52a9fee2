package gpool

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gpool/internal/pool/hub/wire"
	"gpool/internal/value"
)

// Queue is first in, first out, between processes. What Put has accepted is in the hub: it does not matter
// how its process ends. An item is taken once. Items of one process stay in order, and so do those of all processes, as they
// were accepted.
//
// Put and Get cost a round trip to the hub each. PutAll and GetUpTo cost one for many items: use them when items are small.
type Queue[T any] struct{ ref }

// joinable marks a queue whose items are kept for whoever took them, until they are done.
const joinable = "joinable"

// NewQueue makes a queue with room for some items, 0 for any number. Python's SimpleQueue is one without
// a bound.
func NewQueue[T any](h Hub, capacity int, o ...ObjectOption) Queue[T] {
	return Queue[T]{newHandle(h, "queue", int64(capacity), o)}
}

// NewJoinableQueue makes a queue of work: whoever takes an item says Done when it is done. If its process ends before, the item
// goes back to the front, and is delivered again.
func NewJoinableQueue[T any](h Hub, capacity int, o ...ObjectOption) Queue[T] {
	q := NewQueue[T](h, capacity, o...)
	q.at.more = joinable
	return q
}

// Put puts an item at the end, and waits for room until ctx ends; then it returns the cause of that. The item is encoded first: an
// [EncodeError] says that it cannot be, and the queue is as it was. Of a closed queue the error is [ErrClosed].
func (q Queue[T]) Put(ctx context.Context, item T) error {
	_, err := q.put(ctx, []T{item}, true)
	return err
}

// TryPut puts an item if there is room, and returns [ErrFull] if not.
func (q Queue[T]) TryPut(item T) error {
	_, err := q.put(context.Background(), []T{item}, false)
	if refused(err, wire.FaultBusy) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// PutAll puts items in order, and waits for room as Put does. It returns how many were put, which is all of them if there is no error.
func (q Queue[T]) PutAll(ctx context.Context, items ...T) (int, error) {
	if len(items) == 0 {
		return 0, nil
	}
	return q.put(ctx, items, true)
}

func (q Queue[T]) put(ctx context.Context, items []T, wait bool) (int, error) {
	r := q.request(wire.QueuePut)
	r.Wait = wait
	r.Values = make([][]byte, len(items))
	for i := range items {
		var err error
		if r.Values[i], err = encodeShared(&items[i], q.ref); err != nil {
			return 0, err
		}
	}
	reply, err := q.call(ctx, r)
	return int(reply.N), err
}

// Get takes the first item, and waits for one until ctx ends; then it returns the cause of that, and no item is lost.
// Of a queue that is closed and empty the error is [ErrClosed]. An item that is no T is a [DecodeError], and is gone.
func (q Queue[T]) Get(ctx context.Context) (item T, err error) {
	items, err := q.get(ctx, 1, true)
	if len(items) > 0 {
		item = items[0]
	}
	return item, err
}

// TryGet takes the first item, or returns [ErrEmpty] if there is none at this moment.
func (q Queue[T]) TryGet() (item T, err error) {
	items, err := q.get(context.Background(), 1, false)
	if len(items) > 0 {
		item = items[0]
	}
	return item, err
}

// GetUpTo takes what is there, up to n items, and waits for one as Get does.
func (q Queue[T]) GetUpTo(ctx context.Context, n int) ([]T, error) {
	if n < 1 {
		return nil, fmt.Errorf("gpool: GetUpTo(%d): at least 1 item can be taken", n)
	}
	return q.get(ctx, n, true)
}

func (q Queue[T]) get(ctx context.Context, n int, wait bool) ([]T, error) {
	r := q.request(wire.QueueGet)
	r.N, r.Wait = int64(n), wait
	r.Hold = q.at != nil && q.at.more == joinable
	reply, err := q.call(ctx, r)
	if err != nil {
		return nil, err
	}
	items := make([]T, 0, len(reply.Values))
	for _, b := range reply.Values {
		var item T
		if e := decodeShared(b, &item, q.ref); e != nil {
			err = errors.Join(err, e)
			continue
		}
		items = append(items, item)
	}
	return items, err
}

// All takes items one after the other until the queue is closed and empty, or ctx ends. An error, but for the end of the queue, is yielded
// last; an item that is no T is yielded as its error, and the range goes on.
func (q Queue[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			item, err := q.Get(ctx)
			_, undecodable := errors.AsType[*DecodeError](err)
			switch {
			case errors.Is(err, ErrClosed):
				return
			case err != nil && !undecodable:
				yield(item, err)
				return
			case !yield(item, err):
				return
			}
		}
	}
}

// Len is how many items wait, exactly, at this moment; also of a closed queue.
func (q Queue[T]) Len() (int, error) {
	reply, err := q.call(context.Background(), q.request(wire.QueueState))
	return int(reply.N), err
}

// Unfinished is how many items were put and are not done.
func (q Queue[T]) Unfinished() (int, error) {
	reply, err := q.call(context.Background(), q.request(wire.QueueState))
	return int(reply.M), err
}

// Close ends the queue for all processes: nothing can be put any more, and who waits to put gets [ErrClosed]. What is in it can
// still be taken. Closing twice is fine.
func (q Queue[T]) Close() error {
	_, err := q.call(context.Background(), q.request(wire.QueueClose))
	return err
}

// Done says that an item that was taken is done; n says how many. More than were put is [ErrOverflow].
func (q Queue[T]) Done(n ...int) error {
	r := q.request(wire.QueueDone)
	r.N = 1
	if len(n) > 0 {
		r.N = int64(n[0])
	}
	if r.N == 0 { // to the hub that is one
		return nil
	}
	_, err := q.call(context.Background(), r)
	return err
}

// Join waits until all items that were put are done, or until ctx ends; then it returns the cause of that.
func (q Queue[T]) Join(ctx context.Context) error {
	r := q.request(wire.QueueJoin)
	r.Wait = true
	_, err := q.call(ctx, r)
	return err
}

// MarshalBinary makes the handle a value that can travel.
func (q Queue[T]) MarshalBinary() ([]byte, error) { return q.marshal() }

// MarshalText is [Queue.MarshalBinary], for JSON and the like.
func (q Queue[T]) MarshalText() ([]byte, error) { return q.MarshalBinary() }

// UnmarshalBinary reads what MarshalBinary has written.
func (q *Queue[T]) UnmarshalBinary(b []byte) error { return q.unmarshal(b, "queue") }

// UnmarshalText reads what MarshalText has written.
func (q *Queue[T]) UnmarshalText(text []byte) error { return q.UnmarshalBinary(text) }

// encodeShared encodes what a shared object is given.
func encodeShared[T any](v *T, h ref) ([]byte, error) {
	b, err := value.Append(nil, v)
	if err != nil {
		return nil, &EncodeError{What: "what is put into the " + h.what(), Type: value.TypeName[T](), Err: err}
	}
	return b, nil
}

// decodeShared decodes what comes out of one.
func decodeShared[T any](b []byte, v *T, h ref) error {
	if err := value.Decode(b, v); err != nil {
		return &DecodeError{What: "what comes out of the " + h.what(), Type: value.TypeName[T](), Err: err}
	}
	return nil
}

// what names the object for people.
func (h ref) what() string {
	if h.at == nil {
		return "object without a handle"
	}
	return fmt.Sprintf("%s %q", h.at.kind, h.at.name)
}
