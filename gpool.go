// Package gpool runs Go functions in worker processes, with the semantics of Python's
// multiprocessing pool and concurrent.futures. A worker that crashes, leaks or hangs
// costs the call that it runs, and not the program; and whatever ends the program ends
// what it has started.
//
// # A program in one page
//
//	var square = gpool.Register("square", func(ctx context.Context, x int) (int, error) {
//		return x * x, nil
//	})
//
//	func main() {
//		gpool.Init() // workers are this program, started again: here they begin to serve
//		ctx := context.Background()
//		pool, err := gpool.New(ctx)
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer pool.Terminate()
//		squares, err := gpool.Map(ctx, pool, square, []int{1, 2, 3})
//		fmt.Println(squares, err)
//	}
//
// Tests that use a pool need a TestMain that calls [Init] first. A program that forgets
// it is told so by [New], and does not start itself for ever.
//
// # Names
//
// The calls have Python's names: [Apply], [ApplyAsync], [Map], [MapAsync], [Starmap],
// [StarmapAsync], [IMap], [IMapUnordered]; [Pool.Close], [Pool.Join], [Pool.Terminate].
// There is one spelling for each. They are functions and not methods, because methods
// of Go have no type parameters, and take what runs them as their second argument: a
// [Pool] of processes, a [ThreadPool] of goroutines, or an [Executor] over either.
// ApplyAsync is also the submit of an Executor. docs/semantics.md sets both side by
// side, and says what differs on purpose.
//
//	Apply          one call, and wait for its result
//	ApplyAsync     one call; the result is a [Future]
//	Map            a call for each item; results in the order of the items
//	Starmap        the same for tasks of two to four arguments ([Register2], [A2])
//	IMap           the same, lazily: a range over results, whose input may be endless
//	IMapUnordered  the same, as calls end
//	Start          the same without a range: results are asked for, with a time limit
//	Wait           for some of several futures, or all; AsCompleted yields them as they end
//	NewProcess     a process that runs one task: Python's Process
//
// # Values
//
// Arguments and results travel as msgpack: numbers, strings, byte slices, slices,
// arrays, maps, structs by their exported fields (renamed by tags `msgpack:"name"`),
// pointers, times, and types with methods MarshalBinary or MarshalText. Numbers, strings
// and bytes have a fast path. What cannot travel (functions, channels, structs of
// unexported fields, or of two fields with one name, cycles) is an [EncodeError], and
// costs its call only. A value of an interface type arrives as nil, bool, int64 (uint64
// if it is larger), float64, string, []byte, time.Time, []any or map[string]any. A value
// may have nearly 1 GiB. In a ThreadPool nothing travels: values are passed as they are.
//
// # Errors
//
// The failure of a task, the death of a process and the failure of the pool have types
// of their own: [TaskError] and [PanicError]; [WorkerDiedError] and [TimeoutError];
// [StartError] and [BrokenError]. Errors keep what they are on their way from a worker:
// [errors.Is] finds what a task returned, and [errors.As] too if its type is known to
// [RegisterError]. Map returns one error and all results, see [FirstByIndex],
// [CollectErrors] and [FailFast]; iterators yield an error in the place of its result.
//
// # Ends
//
// The context of a call ends it: it fails at once with [ErrCancelled], the task's own
// context ends, and a task that goes on for longer than [Grace] is ended with its worker.
// The context of a pool terminates it. Time limits are [SoftLimit], [HardLimit] and
// [MedianLimit]; [HaltSoon] and [HaltNow] end a Map early.
// Workers lead sessions of their own, so Ctrl-C reaches the program alone, which decides;
// signal.NotifyContext makes a context of it.
//
// Results that a worker has not sent yet outlive it in memory that it shares with the
// program, so a death costs exactly the call that was running, however small calls are;
// and no call is run twice but at the wish of the caller: [Retries].
//
// # Costs
//
// On a virtual machine of two cores, by `go test -bench .`: a worker starts and ends in
// some 4 ms, and takes 4 MiB if it has nothing else in it; a round trip of Apply takes
// some 70 µs, and a call of a Map of a million small ones below 1 µs.
package gpool

import "gpool/internal/worker"

// Version is the version of the library and of the command.
const Version = "0.6.0"

// Worker makes this process a worker that offers the built-in task exec, which runs
// commands: it is the command gpool that needs it. It serves calls on its stdin and
// stdout until the parent is done, and returns the exit code that the process should end
// with. It must be called before anything else reads or writes. Call it once.
func Worker() int { return worker.Main() }
