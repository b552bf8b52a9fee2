package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gpool/internal/pool/hub/wire"
)

const hubHelp = `hub tells what is in a hub: each lock, queue and so on, who has it, and who waits
for it. drop forgets an object, whatever it holds; those who wait for it fail.

EXIT STATUS
  0 done; 1 drop: it is not there; 2 bad usage; 3 gpool itself, or the hub, failed;
  128+N stopped by signal N`

func newHub(io stdio) *cobra.Command {
	return family("hub", "Tell what processes share, and who holds it", hubHelp, newHubList(io), newHubDrop(io))
}

func newHubList(io stdio) *cobra.Command {
	c, asObjects := &hubClient{io: io}, false
	cmd := &cobra.Command{
		Use: "list", Short: "List what is in the hub", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.run(func(ctx context.Context) error {
				objects, err := c.objects(ctx)
				if err != nil {
					return err
				}
				print := printObjects
				if asObjects {
					print = printObjectsJSON
				}
				if err := print(c.io.out, objects); err != nil {
					return outputError(err)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asObjects, "json", false, "print a JSON object for each")
	c.define(cmd.Flags())
	return cmd
}

// objects are those of the hub.
func (c *hubClient) objects(ctx context.Context) ([]wire.Object, error) {
	reply, err := c.call(ctx, wire.Request{Op: wire.Describe})
	if err != nil {
		return nil, err
	}
	objects := make([]wire.Object, len(reply.Values))
	for i, b := range reply.Values {
		if objects[i], err = wire.DecodeObject(b); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// printObjects prints a table. Names are those of anybody.
func printObjects(w io.Writer, objects []wire.Object) error {
	if len(objects) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OBJECT\tSTATE\tKEEPS\tHELD BY\tWAITING")
	for _, o := range objects {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", printable(o.Kind+"/"+o.Name), printable(o.State), size(o.Bytes), people(o.Holders), people(o.Waiting))
	}
	return table.Flush()
}

// people names members in a column.
func people(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return printable(strings.Join(names, ", "))
}

// objectJSON is an object of gpool hub list --json.
type objectJSON struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Holders []string `json:"holders"`
	Waiting []string `json:"waiting"`
	Bytes   int64    `json:"bytes"`
}

func printObjectsJSON(w io.Writer, objects []wire.Object) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, o := range objects {
		some := func(list []string) []string { return append([]string{}, list...) } // [] and not null
		if err := enc.Encode(objectJSON{o.Kind, o.Name, o.State, some(o.Holders), some(o.Waiting), o.Bytes}); err != nil {
			return err
		}
	}
	return nil
}

func newHubDrop(io stdio) *cobra.Command {
	c := &hubClient{io: io}
	cmd := &cobra.Command{
		Use: "drop KIND/NAME", Short: "Forget an object, whatever it holds",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("say which object: gpool hub drop KIND/NAME, as gpool hub list names it")
			}
			if kind, name, ok := strings.Cut(args[0], "/"); !ok || kind == "" || name == "" {
				return fmt.Errorf("%q is not KIND/NAME: lock/deploy, for one, as gpool hub list names it", args[0])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return c.run(func(ctx context.Context) error {
				_, err := c.call(ctx, wire.Request{Op: wire.Drop, Object: args[0]})
				return err
			})
		},
	}
	f := cmd.Flags()
	c.define(f)
	return cmd
}
