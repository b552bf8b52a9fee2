package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gpool/internal/pool/hub/wire"
)

// valueVerb is one execution of a verb of a value.
type valueVerb struct {
	*hubClient
	kind string // int or float
}

const valueHelp = `value is one number that processes share: a Value[int64], or with --type float a
Value[float64], which programs in Go have in their memory. It is 0 when it is first
set, added to or swapped.

  gpool value add seen 1

EXIT STATUS
  0 done; 1 get: it is not there; swap: it is another number; 2 bad usage; 3 gpool
  itself, or the hub, failed, or it is of another type; 128+N stopped by signal N`

func newValue(io stdio) *cobra.Command {
	verb := func(use, short string, numbers int, do func(v *valueVerb, ctx context.Context, name string, words [][]byte) error) *cobra.Command {
		v := &valueVerb{hubClient: &hubClient{io: io}}
		return hubVerb{
			use: use, short: short, least: numbers, most: numbers,
			flags: func(f *pflag.FlagSet) { choice(f, &v.kind, "type", "what it is", "int", "float") },
			do: func(ctx context.Context, name string, args []string) error {
				words, err := v.words(args)
				if err != nil {
					return &exitError{exitUsage, err}
				}
				return do(v, ctx, name, words)
			},
		}.command(v.hubClient)
	}
	return family("value", "Share a number", valueHelp,
		verb("get NAME", "Print the number", 0, (*valueVerb).get),
		verb("set NAME N", "Set the number", 1, (*valueVerb).set),
		verb("add NAME N", "Add to the number, and print the new one", 1, (*valueVerb).add),
		verb("swap NAME OLD NEW", "Set the number to NEW if it is OLD, and print it", 2, (*valueVerb).swap))
}

// words are numbers as a hub has them.
func (v *valueVerb) words(args []string) (words [][]byte, err error) {
	for _, text := range args {
		word, err := v.word(text)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, nil
}

func (v *valueVerb) word(text string) ([]byte, error) {
	if v.kind == "float" {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, &badValue{"N", text, "a number is needed"}
		}
		return binary.NativeEndian.AppendUint64(nil, math.Float64bits(f)), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return nil, &badValue{"N", text, "it does not fit into 64 bits"}
	}
	if err != nil {
		return nil, &badValue{"N", text, "a whole number is needed, or --type float"}
	}
	return binary.NativeEndian.AppendUint64(nil, uint64(n)), nil
}

// printed is a number of the hub as text.
func (v *valueVerb) printed(reply wire.Reply, op wire.Op) (string, error) {
	if len(reply.Values) != 1 || len(reply.Values[0]) != 8 {
		return "", noAnswer(op)
	}
	bits := binary.NativeEndian.Uint64(reply.Values[0])
	if v.kind == "float" {
		return strconv.FormatFloat(math.Float64frombits(bits), 'g', -1, 64), nil
	}
	return strconv.FormatInt(int64(bits), 10), nil
}

// ask asks for something that makes the value if need be.
func (v *valueVerb) ask(ctx context.Context, op wire.Op, name string, make bool, words [][]byte) (wire.Reply, error) {
	letter := wire.Type('q')
	if v.kind == "float" {
		letter = 'd'
	}
	return v.call(ctx, wire.Request{Op: op, Object: name, Init: 8, M: letter, Flag: make, Values: words})
}

func (v *valueVerb) show(reply wire.Reply, op wire.Op) error {
	text, err := v.printed(reply, op)
	if err != nil {
		return err
	}
	return v.print('\n', []byte(text))
}

func (v *valueVerb) get(ctx context.Context, name string, _ [][]byte) error {
	reply, err := v.ask(ctx, wire.ValueLoad, name, false, nil)
	if err != nil {
		return err
	}
	return v.show(reply, wire.ValueLoad)
}

func (v *valueVerb) set(ctx context.Context, name string, words [][]byte) error {
	_, err := v.ask(ctx, wire.ValueStore, name, true, words)
	return err
}

func (v *valueVerb) add(ctx context.Context, name string, words [][]byte) error {
	reply, err := v.ask(ctx, wire.ValueAdd, name, true, words)
	if err != nil {
		return err
	}
	return v.show(reply, wire.ValueAdd)
}

func (v *valueVerb) swap(ctx context.Context, name string, words [][]byte) error {
	reply, err := v.ask(ctx, wire.ValueSwap, name, true, words)
	switch {
	case err != nil:
		return err
	case reply.Flag:
		return v.show(wire.Reply{Values: words[1:]}, wire.ValueSwap)
	}
	is, err := v.printed(reply, wire.ValueSwap)
	if err != nil {
		return err
	}
	return &exitError{exitFailed, fmt.Errorf("the value %q is %s", name, is)}
}
