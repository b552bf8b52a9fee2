package admit

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what calls have to wait for. The zero value lets every call begin at once.
type Options struct {
	Delay   time.Duration // least time between the beginnings of two calls; 0: none
	Rate    float64       // calls that may begin a second, in the long run; 0: any number
	Burst   int           // how many may begin at once after a pause; 0 counts as 1. Only with Rate
	MaxLoad float64       // load average from which on no call begins; 0: any
	MinFree int64         // bytes of memory that must be free for a call to begin; 0: none

	// Jobserver is the make that lends out tokens, nil if there is none. See ParseMakeFlags.
	Jobserver *Auth
	// Keeper is the command line of a program that calls Keeper; the jobserver's address is
	// added to it as the last argument. Needed with Jobserver only.
	Keeper []string

	// Lender lends a place to each call, instead of a jobserver; nil if there is none. It is Open's
	// to close.
	Lender Lender

	// Say is told, in a sentence without a newline, that calls wait for the machine, and that
	// they go on. It is called from Admit and from a goroutine of ours, never twice at a time,
	// and has to return at once. nil: nothing is said.
	Say func(string)
}

// Wanted reports whether the options ask for anything.
func (o *Options) Wanted() bool {
	return o.Delay != 0 || o.Rate != 0 || o.MaxLoad != 0 || o.MinFree != 0 || o.Jobserver != nil || o.Lender != nil
}

// Lender is somebody who has the places in which calls run, and lends them out. Its methods are
// called under a lock of ours and must not wait, nor call back.
type Lender interface {
	// Attach names whom to wake when Take is worth another try.
	Attach(wake func())
	// Take reports whether one more call may begin while so many run, and takes its place. If
	// not, it asks for one.
	Take(running int) bool
	// Settle says that so many run and nothing is to begin: other places go back.
	Settle(running int)
	// Release gives all back. Wait waits for that, and may wait.
	Release()
	Wait()
}

func (o Options) check() error {
	switch {
	case o.Delay < 0:
		return fmt.Errorf("a delay of %v between calls is less than nothing; give 0 or more", o.Delay)
	case !(o.Rate >= 0 && o.Rate <= 1e9):
		return fmt.Errorf("a rate of %v calls a second is none; give one above 0, like 5/s", o.Rate)
	case o.Burst < 0:
		return fmt.Errorf("a burst of %d calls is less than none; give 1 or more", o.Burst)
	case !(o.MaxLoad >= 0):
		return fmt.Errorf("a load of %v is none; give one above 0, like 4 or 80%%", o.MaxLoad)
	case o.MinFree < 0:
		return fmt.Errorf("%d bytes of free memory are less than none; give a size like 512M", o.MinFree)
	case o.Jobserver != nil && o.Lender != nil:
		return errors.New("places are lent by a jobserver and by somebody else; leave one of them out")
	case o.Jobserver != nil && len(o.Keeper) == 0:
		return errors.New("a jobserver is given and no program that keeps its tokens; set Keeper")
	}
	return nil
}

// Admission says when the next call may begin. Admit and Ended belong to one goroutine,
// the pool's loop, and never wait; Close may be called from any.
type Admission struct {
	wakes atomic.Pointer[func()] // see Attach
	say   func(string)
	halt  chan struct{}  // closed by Close
	live  sync.WaitGroup // our goroutines

	sayMu sync.Mutex // one sentence at a time; taken after mu was left

	mu       sync.Mutex // guards the following fields
	pace     pace
	load     *loadLimit   // nil: any load
	memory   *memoryLimit // nil: any memory
	lender   Lender       // freely if there is none
	stretch  stretch
	sampling bool // the next sample wakes the loop
	closed   bool
}

// Open starts what the options need: a goroutine that samples the machine once a second, if a
// load or free memory is asked for; a keeper, if there is a jobserver. The errors are options that
// make no sense, or that this system cannot serve, and an *UnavailableError for a jobserver that
// is out of reach.
func Open(o Options) (*Admission, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	a := &Admission{say: o.Say, halt: make(chan struct{}), pace: newPace(o.Delay, o.Rate, o.Burst), lender: freely{}}
	if o.Lender != nil {
		a.lender = o.Lender
		a.lender.Attach(a.wake)
	}
	if err := a.watchMachine(o); err != nil {
		return nil, err
	}
	if err := a.openTokens(o); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Attach names whom to wake when it is worth asking again after Admit has named no time. wake is
// called on a goroutine of ours, and has to return at once. Before it is attached nobody waits.
func (a *Admission) Attach(wake func()) { a.wakes.Store(&wake) }

func (a *Admission) wake() {
	if wake := a.wakes.Load(); wake != nil {
		(*wake)()
	}
}

// watchMachine takes the first sample, so that no call begins in ignorance.
func (a *Admission) watchMachine(o Options) error {
	if o.MaxLoad > 0 {
		a.load = &loadLimit{max: o.MaxLoad}
	}
	if o.MinFree > 0 {
		a.memory = &memoryLimit{min: o.MinFree}
	}
	if a.load == nil && a.memory == nil {
		return nil
	}
	if err := a.sample(); err != nil {
		return err
	}
	if a.memory != nil {
		if err := a.memory.reachable(totalMemory()); err != nil {
			return err
		}
	}
	a.live.Go(a.keepSampling)
	return nil
}

// Admit reports whether one more call may begin now, while so many run; if so, it counts as
// begun. If not, again is when to ask, or zero if wake will be called. Nothing that waits for the
// load or for memory is let through because nothing runs: who asks for room on a shared machine
// means it for the first call as well. A jobserver always has room for the first one, which is
// the place that make has given us. Whoever was woken, or told a time, and has nothing more to
// begin calls Ended instead, so that no token lies idle. Costs well under a microsecond, and a
// system call when a token is asked for or given back; a token's way here and back takes 0.1 ms.
func (a *Admission) Admit(now time.Time, running int) (ok bool, again time.Time) {
	a.mu.Lock()
	ok, again, word := a.decide(now, running)
	a.mu.Unlock()
	a.tell(word)
	return ok, again
}

// decide is Admit under the lock. Tokens come last, so that none is asked for in vain.
func (a *Admission) decide(now time.Time, running int) (ok bool, again time.Time, word string) {
	if a.closed {
		return false, time.Time{}, ""
	}
	a.load.note(now, running)
	if next := a.pace.next(); next.After(now) {
		a.lender.Settle(running)
		return false, next, ""
	}
	if why := a.pressure(); why != nil {
		a.sampling = true
		a.lender.Settle(running)
		return false, time.Time{}, a.stretch.refused(now, why.text)
	}
	if !a.lender.Take(running) {
		return false, time.Time{}, ""
	}
	a.pace.begun(now)
	a.load.note(now, running+1)
	a.memory.begun()
	return true, time.Time{}, a.stretch.passed(now)
}

// pressure says what of the machine is short, nil if nothing is.
func (a *Admission) pressure() *reason {
	if why := a.load.refuses(); why != nil {
		return why
	}
	return a.memory.refuses()
}

// Ended says that calls have ended, and that so many run now. Tokens that these do not need go
// back to make, and one that is still asked for is not wanted any more. So the loop calls it
// after it has begun what it could: a token that it can use at once has no way to go.
func (a *Admission) Ended(running int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.load.note(time.Now(), running)
	if !a.closed {
		a.lender.Settle(running)
	}
}

// Close gives every token back and ends our goroutines; no call may begin any more. It waits for
// the keeper, some milliseconds, but not for one that is stopped. Later calls wait as well, and
// do nothing else. The error is always nil.
func (a *Admission) Close() error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.halt)
		a.lender.Release()
	}
	a.mu.Unlock()
	a.lender.Wait()
	a.live.Wait()
	return nil
}

// freely lends a place to every call.
type freely struct{}

func (freely) Attach(func()) {}
func (freely) Take(int) bool { return true }
func (freely) Settle(int)    {}
func (freely) Release()      {}
func (freely) Wait()         {}

// tell hands a sentence on.
func (a *Admission) tell(word string) {
	if word == "" || a.say == nil {
		return
	}
	a.sayMu.Lock()
	defer a.sayMu.Unlock()
	a.say(word)
}
