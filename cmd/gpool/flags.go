package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gpool/internal/command"
	"gpool/internal/pool"
	"gpool/internal/pool/admit"
)

// The values of flags, each with its own words for what is wrong with it.

// badValue is the error of a flag's value. It is a sentence of its own: what pflag says
// around it is left out.
type badValue struct{ flag, value, why string }

func (e *badValue) Error() string {
	return fmt.Sprintf("%s %s: %s", e.flag, command.Quote(e.value), e.why)
}

// setter is a flag whose value is read by a function.
type setter struct {
	flag string
	kind string // in the help
	text string // as it was given
	read func(string) error
}

func (s *setter) String() string { return s.text }
func (s *setter) Type() string   { return s.kind }

func (s *setter) Set(text string) error {
	s.text = text
	if err := s.read(text); err != nil {
		return &badValue{s.flag, text, err.Error()}
	}
	return nil
}

// parsed is a flag whose value a function makes of the text.
func parsed[T any](flag, kind string, at *T, parse func(string) (T, error)) *setter {
	return &setter{flag: flag, kind: kind, read: func(text string) (err error) {
		*at, err = parse(text)
		return err
	}}
}

// atLeast is a whole number that is not below another one.
func atLeast(least int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("a whole number is needed")
		}
		if n < least {
			return 0, fmt.Errorf("at least %d is needed", least)
		}
		return n, nil
	}
}

// oneOf is one of some words.
func oneOf(words ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		for _, w := range words {
			if text == w {
				return text, nil
			}
		}
		last := len(words) - 1
		return "", fmt.Errorf("it is %s or %s", strings.Join(words[:last], ", "), words[last])
	}
}

// duration reads 1.5s, 2m, 1d12h, and a number alone as seconds, as GNU parallel does.
func duration(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return seconds(n)
	}
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseFloat(days, 64)
	d := time.Duration(0)
	if err == nil && (rest != "" || !found) {
		d, err = time.ParseDuration(rest)
	}
	if err != nil {
		return 0, errors.New("a time is needed, such as 30s, 1.5m, 2h or 1d12h")
	}
	return seconds(n*86400 + d.Seconds())
}

func seconds(n float64) (time.Duration, error) {
	switch {
	case math.IsNaN(n) || n < 0:
		return 0, errors.New("a time is not below zero")
	case n > math.MaxInt64/1e9:
		return 0, errors.New("this is more time than there is")
	}
	return time.Duration(n * 1e9), nil
}

// someTime is a duration above zero.
func someTime(text string) (time.Duration, error) {
	d, err := duration(text)
	if err == nil && d == 0 {
		err = errors.New("more than 0 is needed")
	}
	return d, err
}

// timeLimit is the value of --timeout.
type timeLimit struct {
	after   time.Duration
	medians float64
}

func parseTimeLimit(text string) (l timeLimit, err error) {
	number, percent := strings.CutSuffix(text, "%")
	if !percent {
		l.after, err = someTime(text)
		return l, err
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0) || n > 1e9 {
		return l, errors.New("a percentage of the median is needed, such as 300%")
	}
	l.medians = n / 100
	return l, nil
}

// span is the value of --backoff: a time, or two of them.
type span struct{ from, to time.Duration }

func parseSpan(text string) (s span, err error) {
	first, last, found := strings.Cut(text, "..")
	if s.from, err = duration(first); err != nil {
		return s, err
	}
	s.to = s.from
	if found {
		if s.to, err = duration(last); err != nil {
			return s, err
		}
	}
	if s.to < s.from {
		return s, errors.New("the longest wait comes second: 1s..30s")
	}
	return s, nil
}

// retryOn is the value of --retry-on: which failures are tried again.
type retryOn struct {
	any, failed, timeout, died, memory bool
	codes                              map[int]bool
}

func parseRetryOn(text string) (r retryOn, err error) {
	words := strings.Split(text, ",")
	for i, w := range words {
		code, isExit := strings.CutPrefix(w, "exit:")
		if n, err := strconv.Atoi(w); err == nil && i > 0 && len(r.codes) > 0 { // exit:75,76
			code, isExit = strconv.Itoa(n), true
		}
		switch {
		case isExit:
			n, err := strconv.Atoi(code)
			if err != nil || n < 1 || n > 255 {
				return r, fmt.Errorf("an exit code is a number from 1 to 255, and %q is none", code)
			}
			if r.codes == nil {
				r.codes = map[int]bool{}
			}
			r.codes[n] = true
		case w == "any":
			r.any = true
		case w == "failed":
			r.failed = true
		case w == "timeout":
			r.timeout = true
		case w == "died":
			r.died = true
		case w == "memory":
			r.memory = true
		default:
			return r, fmt.Errorf("%q is not any, failed, exit:N, timeout, died or memory", w)
		}
	}
	return r, nil
}

// oldHalts are spellings that GNU parallel takes from its past.
var oldHalts = map[string]string{"0": "never", "1": "soon,fail=1", "2": "now,fail=1", "-1": "soon,success=1", "-2": "now,success=1"}

// parseHalt reads GNU parallel's spelling: never, now|soon,fail|success|done=N|N%.
func parseHalt(text string) (h pool.Halt, err error) {
	if now, old := oldHalts[text]; old {
		text = now
	} else if number, percent := strings.CutSuffix(text, "%"); percent && !strings.Contains(text, ",") {
		text = "soon,fail=" + number + "%"
	}
	wrong := errors.New("it is never, or now or soon, a comma, fail, success or done, =, and N or N%: now,fail=1")
	if text == "never" {
		return h, nil
	}
	when, why, ok := strings.Cut(text, ",")
	what, number, ok2 := strings.Cut(why, "=")
	if !ok || !ok2 || when != "now" && when != "soon" {
		return h, wrong
	}
	h.Now = when == "now"
	h.On = map[string]pool.HaltOn{"fail": pool.HaltOnFail, "success": pool.HaltOnSuccess, "done": pool.HaltOnDone}[what]
	if h.On == 0 {
		return h, wrong
	}
	if p, isPercent := strings.CutSuffix(number, "%"); isPercent {
		h.Percent, err = strconv.ParseFloat(p, 64)
		if err != nil || !(h.Percent > 0) || h.Percent > 100 {
			return h, errors.New("a percentage is more than 0% and at most 100%")
		}
		return h, nil
	}
	if h.N, err = strconv.Atoi(number); err != nil || h.N < 1 {
		return h, errors.New("the number of calls is 1 or more")
	}
	return h, nil
}

// part is the value of --partition: the part n of m.
type part struct {
	hash bool
	n, m int // m is 0 if there is no partition
}

func (p part) String() string {
	switch {
	case p.m == 0:
		return ""
	case p.hash:
		return fmt.Sprintf("hash:%d/%d", p.n, p.m)
	}
	return fmt.Sprintf("slice:%d/%d", p.n, p.m)
}

func parsePart(text string) (p part, err error) {
	how, numbers, ok := strings.Cut(text, ":")
	n, m, ok2 := strings.Cut(numbers, "/")
	if !ok || !ok2 || how != "slice" && how != "hash" {
		return p, errors.New("it is slice:N/M or hash:N/M, such as slice:2/5 for the second of five parts")
	}
	p.hash = how == "hash"
	p.n, err = strconv.Atoi(n)
	var err2 error
	p.m, err2 = strconv.Atoi(m)
	if err != nil || err2 != nil || p.n < 1 || p.m < p.n {
		return part{}, errors.New("parts are numbered from 1 to M")
	}
	return p, nil
}

// jobs is the value of -j.
type jobs struct{ text string }

func (j *jobs) String() string { return j.text }
func (j *jobs) Type() string   { return "N" }

func (j *jobs) Set(s string) error {
	j.text = s
	if _, err := j.count(); err != nil {
		return &badValue{"-j", s, err.Error()}
	}
	return nil
}

// given reports whether the user has said how many workers there should be.
func (j *jobs) given() bool { return j.text != "" }

// maxWorkers keeps a slip of the finger from taking the machine down.
const maxWorkers = 10000

// count is the number of workers.
func (j *jobs) count() (int, error) {
	s := j.text
	if s == "" {
		return admit.CPUs(), nil
	}
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("it is N, N%%, +N or -N")
	}
	switch {
	case percent && n > 0:
		n = int(math.Ceil(float64(admit.CPUs()) * float64(n) / 100))
	case percent:
		return 0, fmt.Errorf("more than 0%% is needed")
	case s[0] == '+' || s[0] == '-':
		n = max(1, admit.CPUs()+n)
	case n < 1:
		return 0, fmt.Errorf("at least 1 worker is needed")
	}
	if n > maxWorkers {
		return 0, fmt.Errorf("at most %d workers are possible", maxWorkers)
	}
	return n, nil
}
