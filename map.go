package gpool

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"reflect"
	"slices"
	"sync"

	"gpool/internal/pool"
)

// Items is what Map and IMap take their input from: a slice, an [iter.Seq], or an
// [iter.Seq2] of items and errors, of which the first error ends the input.
type Items[In any] interface {
	~[]In | ~func(yield func(In) bool) | ~func(yield func(In, error) bool)
}

// each hands out items until yield returns false; of what kind they are is looked at
// once.
func each[In any, S Items[In]](items S) iter.Seq2[In, error] {
	switch seq := any(items).(type) {
	case []In:
		return ofSlice(seq)
	case iter.Seq[In]:
		return ofSeq(seq)
	case func(func(In) bool):
		return ofSeq(seq)
	case iter.Seq2[In, error]:
		return seq
	case func(func(In, error) bool):
		return seq
	}
	v := reflect.ValueOf(items) // a named type
	switch {
	case v.Kind() == reflect.Slice:
		return ofSlice(v.Convert(reflect.TypeFor[[]In]()).Interface().([]In))
	case v.CanConvert(reflect.TypeFor[iter.Seq[In]]()):
		return ofSeq(v.Convert(reflect.TypeFor[iter.Seq[In]]()).Interface().(iter.Seq[In]))
	}
	return v.Convert(reflect.TypeFor[iter.Seq2[In, error]]()).Interface().(iter.Seq2[In, error])
}

func ofSlice[In any](list []In) iter.Seq2[In, error] {
	return func(yield func(In, error) bool) {
		for _, in := range list {
			if !yield(in, nil) {
				return
			}
		}
	}
}

func ofSeq[In any](seq iter.Seq[In]) iter.Seq2[In, error] {
	return func(yield func(In, error) bool) {
		for in := range seq {
			if !yield(in, nil) {
				return
			}
		}
	}
}

// list reads all items, as Python does before it runs any of them.
func list[In any, S Items[In]](items S) ([]In, error) {
	if slice, ok := any(items).([]In); ok {
		return slice, nil
	}
	var all []In
	for in, err := range each[In](items) {
		if err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	return all, nil
}

// Map runs a task for each item and returns the results in the order of the items. All
// items are taken from the input first, and an error of the input is returned before
// anything runs. Map returns when all calls have ended, unless [FailFast] says otherwise
// or ctx ends. The results are there for all items that succeeded, also if there is an
// error; it is that of the first call that failed in time, unless [FirstByIndex] or
// [CollectErrors] says otherwise. No result is lost because another call failed.
//
// If ctx ends first, Map returns an [ErrCancelled] and the cause of ctx, and no results;
// calls that run are cancelled, and their workers are ended if they go on for longer
// than [Grace].
//
// Items are encoded as the workers need them, so they must not be changed until Map
// returns.
func Map[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) ([]Out, error) {
	return MapAsync(ctx, r, t, items, o...).Get(context.Background())
}

// MapAsync is [Map] that returns a [Future] once it has read the items. They must not be
// changed until it has ended. Its Cancel works as long as no item was handed to a worker.
func MapAsync[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) *Future[[]Out] {
	e := r.engineOf()
	f := newFuture[[]Out](e, t.name, t.origin, r)
	in, err := list[In](items)
	if err == nil {
		err = mapAsync(ctx, e, f, t, in, o)
	}
	if err != nil {
		f.fail(err)
	}
	return f
}

// Starmap is [Map] for a task of several arguments, each item of which is an [Args2],
// [Args3] or [Args4]. It is Map by the name that Python has for this.
func Starmap[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) ([]Out, error) {
	return Map(ctx, r, t, items, o...)
}

// StarmapAsync is to [Starmap] as [MapAsync] is to [Map].
func StarmapAsync[In, Out any, S Items[In]](ctx context.Context, r Runner, t *Task[In, Out], items S, o ...CallOption) *Future[[]Out] {
	return MapAsync(ctx, r, t, items, o...)
}

func mapAsync[In, Out any](ctx context.Context, e *engine, f *Future[[]Out], t *Task[In, Out], items []In, o []CallOption) error {
	name, call, err := e.admit(ctx, t.name, o)
	if err != nil {
		return err
	}
	m := &mapJob[In, Out]{
		engine: e, task: t, future: f, policy: call.errors,
		items: items, out: make([]Out, len(items)),
	}
	f.release = m.release
	running, err := e.submit(m, pool.Job{
		Task: name, Source: m, Consumer: m, Order: pool.Unordered,
		ChunkSize: call.chunk, Total: len(items), Window: max(len(items), 1),
		Limits: e.limitsOf(&call), Retry: e.retryOf(&call, t.name, t.origin, true), Halt: call.halt,
		Claim: func(*pool.Call) bool { return f.claim() }, Dropped: e.dropAll, Done: m.over,
	})
	if err != nil {
		return err
	}
	m.job.set(running)
	f.watch(ctx, func() { m.job.stop(pool.Terminate) })
	return nil
}

// mapJob is a Map that is under way: the source of its calls, and the consumer of their
// results.
type mapJob[In, Out any] struct {
	resultsOnly
	job    handle
	engine *engine
	task   *Task[In, Out]
	future *Future[[]Out]
	policy errorPolicy

	mu    sync.Mutex
	items []In // nil once nobody may look at them any more: the future has ended
	next  int
	each  int // about how large the payload of one is

	// What follows belongs to the goroutine of the consumer.
	out    []Out
	first  error // in time
	failed []indexedError
	booked int // results that have come
}

type indexedError struct {
	index int
	err   error
}

// Next implements pool.Source. The payloads of a batch share one block of memory.
func (m *mapJob[In, Out]) Next(_ context.Context, max int) ([]pool.Call, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(max, len(m.items)-m.next)
	if n <= 0 {
		return nil, io.EOF
	}
	calls := make([]pool.Call, n)
	ends := make([]int, n)
	block := make([]byte, 0, min(n*m.each, pool.BatchBytes+m.each))
	for i := range calls {
		if len(block) > pool.BatchBytes { // large ones have come: as many are enough
			calls, ends, n = calls[:i], ends[:i], i
			break
		}
		var err error
		if block, err = appendCall(m.engine, block, m.task, &m.items[m.next+i]); err != nil {
			calls[i].Err = err
		}
		ends[i] = len(block)
	}
	m.next += n
	m.each = len(block)/n + 1
	start := 0
	for i, end := range ends {
		calls[i].Payload = block[start:end:end]
		start = end
	}
	return calls, nil
}

// release returns when the items are not looked at any more.
func (m *mapJob[In, Out]) release() {
	m.mu.Lock()
	m.items = nil
	m.mu.Unlock()
}

// Result implements pool.Consumer.
func (m *mapJob[In, Out]) Result(r *pool.Result) error {
	index := int(r.Call.Seq - 1)
	m.booked++
	err := m.take(r, index)
	if err == nil {
		return nil
	}
	if m.first == nil {
		m.first = err
	}
	switch m.policy {
	case firstInOrder, allErrors:
		m.failed = append(m.failed, indexedError{index, err})
	case failFast:
		m.settle(nil)
		m.job.stop(pool.Terminate)
	}
	return nil
}

// take reads the result of one call; after the end its value is of no use.
func (m *mapJob[In, Out]) take(r *pool.Result, index int) error {
	if r.Kind != pool.Succeeded {
		err := m.job.why(m.engine.errorOf(r, m.task.name, m.task.origin, index))
		m.engine.drop(r.Call.Payload)
		return err
	}
	v, err := takeResult[Out](m.engine, m.task.name, r.Value)
	if m.out != nil {
		m.out[index] = v
	}
	return err
}

// settle ends the future with what has come, and gives the results out of hand. If
// nothing of that is an error, missing says why there is not more.
func (m *mapJob[In, Out]) settle(missing error) {
	out := m.out
	m.out = nil
	m.future.settle(handed, out, cmp.Or(m.verdict(), missing))
}

func (m *mapJob[In, Out]) verdict() error {
	switch m.policy {
	case firstInOrder:
		var first indexedError
		for _, f := range m.failed {
			if first.err == nil || f.index < first.index {
				first = f
			}
		}
		return first.err
	case allErrors:
		return joined(m.failed)
	}
	return m.first
}

// over is told when the last result has come.
func (m *mapJob[In, Out]) over(err error) {
	m.engine.over(m, err)
	var missing error
	if m.booked < len(m.out) { // it ended before the pool had taken all items
		missing = cmp.Or[error](m.engine.ending(), &cancelledError{})
	}
	m.settle(missing)
}

func (m *mapJob[In, Out]) closing() {}

func (m *mapJob[In, Out]) cancelPending() { m.job.stop(pool.Drain) }

func (m *mapJob[In, Out]) terminate(err error) { m.future.fail(err) }

// joined is all errors in the order of the input, nil if there are none.
func joined(failed []indexedError) error {
	if len(failed) == 0 {
		return nil
	}
	slices.SortFunc(failed, func(a, b indexedError) int { return a.index - b.index })
	list := make([]error, len(failed))
	for i, f := range failed {
		list[i] = f.err
	}
	return errors.Join(list...)
}
