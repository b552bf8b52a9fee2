package joblog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// header is the first line of every log.
const header = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

// columns is how many fields a row has; the last one takes the rest of the line, with its TABs.
const columns = 9

// Row is one finished call.
type Row struct {
	Seq           uint64 // from 1, in input order
	Host          string // where it ran; ":", and "" as well, is this machine
	Start         time.Time
	Runtime       time.Duration
	Send, Receive int64  // bytes of its input and of its stdout
	Exit          int    // -1 if it was ended for its time limit
	Signal        int    // that ended it, else 0
	Command       string // as a shell reads it
}

// Succeeded reports whether the call ended with exit code 0 and by no signal.
func (r *Row) Succeeded() bool { return r.Exit == 0 && r.Signal == 0 }

// Append appends the row as a line of the log, with its newline, and with the mark that makes it
// gpool's: Start is moved by up to 5 ms for it. Times are cut to milliseconds.
func (r *Row) Append(dst []byte) []byte {
	start := mark(r.Seq, millis(r.Start))
	dst = fmt.Appendf(dst, "%d\t%s\t%d.%03d\t%10.3f\t%d\t%d\t%d\t%d\t", r.Seq, host(r.Host), start/1000, start%1000,
		float64(r.Runtime.Milliseconds())/1000, r.Send, r.Receive, r.Exit, r.Signal)
	return append(appendCommand(dst, r.Command), '\n')
}

// ParseRow reads a line of a log, without its newline. It takes what GNU parallel takes, and an error
// says which column is wrong.
func ParseRow(line []byte) (Row, error) {
	f, err := parse(line)
	if err != nil {
		return Row{}, err
	}
	r := f.Row
	r.Host = string(f.host)
	r.Command = strings.ReplaceAll(string(f.command), "\x00", "\n")
	return r, nil
}

// parsed is a row whose texts still lie in the line that it was read from: reading a log of millions
// of rows makes no garbage.
type parsed struct {
	Row           // but for Host and Command
	host, command []byte
}

// parse is ParseRow before texts are copied.
func parse(line []byte) (f parsed, err error) {
	var column [columns][]byte
	rest := line
	for i := range columns - 1 {
		var found bool
		if column[i], rest, found = bytes.Cut(rest, []byte{'\t'}); !found {
			return f, fmt.Errorf("it has %d columns, and a row of a joblog has %d", i+1, columns)
		}
	}
	var start, runtime int64
	var errs [7]error
	f.Seq, errs[0] = strconv.ParseUint(string(column[0]), 10, 64)
	start, errs[1] = parseMillis(column[2])
	runtime, errs[2] = parseMillis(column[3])
	f.Send, errs[3] = strconv.ParseInt(string(column[4]), 10, 64)
	f.Receive, errs[4] = strconv.ParseInt(string(column[5]), 10, 64)
	f.Exit, errs[5] = strconv.Atoi(string(column[6]))
	f.Signal, errs[6] = strconv.Atoi(string(column[7]))
	for i, name := range [...]string{"Seq", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal"} {
		if errs[i] != nil {
			return f, fmt.Errorf("its column %s is no such number", name)
		}
	}
	f.Start, f.Runtime = time.UnixMilli(start), time.Duration(runtime)*time.Millisecond
	f.host, f.command = column[1], rest
	return f, f.check()
}

// check refuses what is well formed and cannot be.
func (f *parsed) check() error {
	switch {
	case f.Seq == 0:
		return errors.New("its column Seq is 0, and calls are counted from 1")
	case len(f.host) == 0:
		return errors.New("its column Host is empty")
	}
	return nil
}

// maxMillis keeps times within what a time.Duration can hold: 292 years.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

var errNumber = errors.New("no decimal number")

// parseMillis reads seconds with or without decimals, perhaps padded with blanks on the left, as
// milliseconds. Further decimals are cut off.
func parseMillis(b []byte) (int64, error) {
	b = bytes.TrimLeft(b, " ")
	b, negative := bytes.CutPrefix(b, []byte{'-'})
	whole, decimals, _ := bytes.Cut(b, []byte{'.'})
	if len(whole) == 0 || len(whole) > 10 || !areDigits(whole) || !areDigits(decimals) {
		return 0, errNumber
	}
	n := int64(0)
	for _, c := range whole {
		n = n*10 + int64(c-'0')
	}
	for i := range 3 {
		n *= 10
		if i < len(decimals) {
			n += int64(decimals[i] - '0')
		}
	}
	if n > maxMillis {
		return 0, errNumber
	}
	if negative {
		n = -n
	}
	return n, nil
}

func areDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// host makes a name that fits into its column.
func host(name string) string {
	if name == "" {
		return ":"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' {
			return '_'
		}
		return r
	}, name)
}

// appendCommand appends a command as the log has it: a newline would end the row, so it is a NUL,
// which no command can hold.
func appendCommand(dst []byte, command string) []byte {
	start := len(dst)
	dst = append(dst, command...)
	for i, c := range dst[start:] {
		if c == '\n' {
			dst[start+i] = 0
		}
	}
	return dst
}
