package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/input"
	"gpool/internal/pool/hub/wire"
)

// dictVerb is one execution of a verb of a dict.
type dictVerb struct {
	*hubClient
	text   bool // --text
	asJSON bool
	null   bool
}

const dictHelp = `dict keeps values by keys, in the order in which the keys were first set. Each verb
is one step: nothing that others do comes between.

  gpool dict set progress done=0 failed=0
  gpool dict incr progress done

A value that is a number, written as it would be printed, is kept as one; so incr
works, and a program in Go reads an int or a float64. 007, +1 and 1e3 are text. A
key is always text.

EXIT STATUS
  0      done
  1      get, del, pop: there is no such key; swap: the value is another one
  2      bad usage or input
  3      gpool itself, or the hub, failed; the value is not of the kind that is needed
  128+N  stopped by signal N; 141 if the reader of the output has left`

func newDict(io stdio) *cobra.Command {
	verb := func(make func(d *dictVerb) hubVerb) *cobra.Command {
		d := &dictVerb{hubClient: &hubClient{io: io}}
		return make(d).command(d.hubClient)
	}
	return family("dict", "Keep values by keys, for all processes", dictHelp,
		verb((*dictVerb).getVerb), verb((*dictVerb).setVerb), verb((*dictVerb).setDefaultVerb), verb((*dictVerb).incrVerb),
		verb((*dictVerb).appendVerb), verb((*dictVerb).swapVerb), verb((*dictVerb).delVerb), verb((*dictVerb).popVerb),
		verb((*dictVerb).keysVerb), verb((*dictVerb).dumpVerb), verb((*dictVerb).lenVerb))
}

func (d *dictVerb) defineText(f *pflag.FlagSet) {
	f.BoolVar(&d.text, "text", false, "keep numbers as text, too")
}

// value is what a word of the command line, or a column, becomes.
func (d *dictVerb) value(text string) []byte {
	if d.text {
		return asText(text)
	}
	return asScalar(text)
}

// ofKey asks about a key.
func (d *dictVerb) ofKey(ctx context.Context, op wire.Op, name, key string, values ...[]byte) (wire.Reply, error) {
	reply, err := d.call(ctx, wire.Request{Op: op, Object: name, Key: asText(key), Values: values})
	if hubFault(err) == wire.FaultMissing {
		err = &exitError{exitFailed, fmt.Errorf("the dict %q has no key %q", name, key)}
	}
	return reply, err
}

// printValue asks about a key, and prints the value that is the answer.
func (d *dictVerb) printValue(ctx context.Context, op wire.Op, name, key string, values ...[]byte) error {
	reply, err := d.ofKey(ctx, op, name, key, values...)
	if err != nil {
		return err
	}
	if len(reply.Values) != 1 {
		return noAnswer(op)
	}
	return d.print('\n', []byte(asLine(reply.Values[0])))
}

// noAnswer says that a hub has not answered as it must: it may be anybody's.
func noAnswer(op wire.Op) error { return fmt.Errorf("the hub has answered %s with something else", op) }

func (d *dictVerb) getVerb() hubVerb {
	return hubVerb{
		use: "get NAME KEY", short: "Print the value of a key", least: 1, most: 1,
		do: func(ctx context.Context, name string, args []string) error {
			return d.printValue(ctx, wire.DictGet, name, args[0])
		},
	}
}

func (d *dictVerb) setVerb() hubVerb {
	return hubVerb{
		use: "set NAME [KEY VALUE | KEY=VALUE...]", short: "Set a key, several, or those of the rows of stdin (KEY, TAB, VALUE)", most: -1,
		flags: d.defineText,
		do: func(ctx context.Context, name string, args []string) error {
			if len(args) == 0 {
				return d.setRows(ctx, name)
			}
			pairs, err := pairsOf(args)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return d.update(ctx, name, pairs)
		},
	}
}

// pairsOf reads KEY VALUE, or KEY=VALUE any number of times.
func pairsOf(args []string) (pairs [][2]string, err error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		return [][2]string{{args[0], args[1]}}, nil
	}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY=VALUE: what to set is KEY VALUE, or KEY=VALUE any number of times", arg)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// update sets some keys in one step.
func (d *dictVerb) update(ctx context.Context, name string, pairs [][2]string) error {
	values := make([][]byte, 0, 2*len(pairs))
	for _, pair := range pairs {
		values = append(values, asText(pair[0]), d.value(pair[1]))
	}
	_, err := d.call(ctx, wire.Request{Op: wire.DictUpdate, Object: name, Values: values})
	return err
}

// setRows sets the keys of the rows of stdin, many at once if they come at once.
func (d *dictVerb) setRows(ctx context.Context, name string) error {
	rows, _, err := input.Open(nil, d.io.in, input.Format{})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for {
		var batch []input.Row
		d.unhurried(func() { batch, err = rows.Next(batchCalls) })
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &exitError{exitUsage, err}
		}
		for part := range portions(batch, batchBytes) {
			pairs, bad := pairsOfRows(part)
			if err := d.update(ctx, name, pairs); err != nil {
				return err
			}
			if bad != nil {
				return &exitError{exitUsage, bad}
			}
		}
	}
}

// pairsOfRows reads rows up to the first that is none. A value may have a TAB in it.
func pairsOfRows(rows []input.Row) (pairs [][2]string, err error) {
	for _, row := range rows {
		if row.Err != nil {
			return pairs, row.Err
		}
		key, value, ok := strings.Cut(row.Columns[0], "\t")
		if !ok {
			return pairs, fmt.Errorf("line %d of stdin has no TAB: a row is KEY, TAB and VALUE; those before it were set", row.Line)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

func (d *dictVerb) setDefaultVerb() hubVerb {
	return hubVerb{
		use: "set-default NAME KEY VALUE", short: "Set a key that is not there, and print what it has now", least: 2, most: 2, flags: d.defineText,
		do: func(ctx context.Context, name string, args []string) error {
			return d.printValue(ctx, wire.DictSetDefault, name, args[0], d.value(args[1]))
		},
	}
}

func (d *dictVerb) incrVerb() hubVerb {
	return hubVerb{
		use: "incr NAME KEY [N]", short: "Add 1, or N, to a number (0 if it is not there), and print the new one", least: 1, most: 2,
		do: func(ctx context.Context, name string, args []string) error {
			text := append(args, "1")[1]
			by, ok := asNumber(text)
			if !ok {
				return &exitError{exitUsage, &badValue{"N", text, "a number is needed; one below 0 comes behind --"}}
			}
			return d.printValue(ctx, wire.DictIncr, name, args[0], by)
		},
	}
}

func (d *dictVerb) appendVerb() hubVerb {
	return hubVerb{
		use: "append NAME KEY ELEMENT...", short: "Append to an array, and print how long it is now", least: 2, most: -1, flags: d.defineText,
		do: func(ctx context.Context, name string, args []string) error {
			var elements [][]byte
			for _, text := range args[1:] {
				elements = append(elements, d.value(text))
			}
			reply, err := d.ofKey(ctx, wire.DictAppend, name, args[0], elements...)
			if err != nil {
				return err
			}
			return d.printNumber(reply.N)
		},
	}
}

func (d *dictVerb) swapVerb() hubVerb {
	return hubVerb{
		use: "swap NAME KEY OLD NEW", short: "Set a key to NEW if it has OLD", least: 3, most: 3, flags: d.defineText,
		do: func(ctx context.Context, name string, args []string) error {
			reply, err := d.ofKey(ctx, wire.DictSwap, name, args[0], d.value(args[1]), d.value(args[2]))
			if err != nil || reply.Flag {
				return err
			}
			if len(reply.Values) == 0 {
				return &exitError{exitFailed, fmt.Errorf("the dict %q has no key %q", name, args[0])}
			}
			has := asLine(reply.Values[0])
			if has == args[1] {
				return &exitError{exitFailed, fmt.Errorf("%q is %s as a number, or as text, and OLD is the other: see --text", args[0], brief(has))}
			}
			return &exitError{exitFailed, fmt.Errorf("%q is %s, and not %s", args[0], brief(has), brief(args[1]))}
		},
	}
}

func (d *dictVerb) delVerb() hubVerb {
	return hubVerb{
		use: "del NAME KEY...", short: "Remove keys", least: 1, most: -1,
		do: func(ctx context.Context, name string, args []string) error {
			var failed error
			for _, key := range args {
				if _, err := d.ofKey(ctx, wire.DictDelete, name, key); err != nil {
					failed = errors.Join(failed, err)
				}
			}
			return failed
		},
	}
}

func (d *dictVerb) popVerb() hubVerb {
	return hubVerb{
		use: "pop NAME [KEY]", short: "Remove a key and print its value; without KEY the last key, and print KEY, TAB, VALUE", most: 1,
		do: func(ctx context.Context, name string, args []string) error {
			if len(args) > 0 {
				return d.printValue(ctx, wire.DictPop, name, args[0])
			}
			reply, err := d.call(ctx, wire.Request{Op: wire.DictPopItem, Object: name})
			if hubFault(err) == wire.FaultMissing {
				err = &exitError{exitFailed, fmt.Errorf("the dict %q is empty", name)}
			}
			if err != nil {
				return err
			}
			return d.printRows(reply.Values)
		},
	}
}

// items are keys and values, one after the other.
func (d *dictVerb) items(ctx context.Context, name string) ([][]byte, error) {
	reply, err := d.call(ctx, wire.Request{Op: wire.DictItems, Object: name})
	if err == nil && len(reply.Values)%2 != 0 {
		err = noAnswer(wire.DictItems)
	}
	return reply.Values, err
}

// end is how rows end.
func (d *dictVerb) end() byte {
	if d.null {
		return 0
	}
	return '\n'
}

func (d *dictVerb) printRows(items [][]byte) error {
	rows := make([][]byte, 0, len(items)/2)
	for i := 1; i < len(items); i += 2 {
		rows = append(rows, []byte(asLine(items[i-1])+"\t"+asLine(items[i])))
	}
	return d.print(d.end(), rows...)
}

func (d *dictVerb) defineNull(f *pflag.FlagSet) {
	f.BoolVarP(&d.null, "null", "0", false, "end what is printed with NUL instead of newline")
}

func (d *dictVerb) keysVerb() hubVerb {
	return hubVerb{
		use: "keys NAME", short: "Print the keys", flags: d.defineNull,
		do: func(ctx context.Context, name string, _ []string) error {
			items, err := d.items(ctx, name)
			if err != nil {
				return err
			}
			var keys [][]byte
			for i := 0; i < len(items); i += 2 {
				keys = append(keys, []byte(asLine(items[i])))
			}
			return d.print(d.end(), keys...)
		},
	}
}

func (d *dictVerb) dumpVerb() hubVerb {
	return hubVerb{
		use: "dump NAME", short: "Print all of it: KEY, TAB, VALUE",
		flags: func(f *pflag.FlagSet) {
			d.defineNull(f)
			f.BoolVar(&d.asJSON, "json", false, "print one JSON object")
		},
		do: func(ctx context.Context, name string, _ []string) error {
			items, err := d.items(ctx, name)
			switch {
			case err != nil:
				return err
			case d.asJSON:
				return d.print(d.end(), dictJSON(items))
			}
			return d.printRows(items)
		},
	}
}

// dictJSON is an object of keys and values, in their order. Keys that are no text become their JSON.
func dictJSON(items [][]byte) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := 1; i < len(items); i += 2 {
		if i > 1 {
			b.WriteByte(',')
		}
		key := asJSON(asText(strings.ToValidUTF8(asLine(items[i-1]), "\uFFFD")))
		b.Write(key)
		b.WriteByte(':')
		b.Write(asJSON(items[i]))
	}
	b.WriteByte('}')
	return b.Bytes()
}

func (d *dictVerb) lenVerb() hubVerb {
	return hubVerb{use: "len NAME", short: "Print how many keys there are", do: func(ctx context.Context, name string, _ []string) error {
		reply, err := d.call(ctx, wire.Request{Op: wire.DictLen, Object: name})
		if err != nil {
			return err
		}
		return d.printNumber(reply.N)
	}}
}
