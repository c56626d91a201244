package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// thing is what variables, connections and pools have in common on the command line.
type thing struct {
	one, many, arg string // "variable", "variables", "KEY"
	ids            func(context.Context, *client.Client) ([]string, error)
	secrets        bool                           // get takes --reveal
	hidden         func(x any, name string) error // what get does about a hidden value; nil shows it as it came
}

// missing turns a 404 into one that names the nearest thing there is.
func (t thing) missing(ctx context.Context, cl *client.Client, id string, err error) error {
	if client.StatusOf(err) != 404 {
		return err
	}
	ids, listErr := t.ids(ctx, cl)
	if listErr != nil {
		return err
	}
	return &problem{code: exitNotFound, err: fmt.Errorf("there is no %s %q%s", t.one, id, didYouMean(id, ids)), hint: "see: ostro " + t.many + " list"}
}

func (c *command) deleteCommand(t thing) *cobra.Command {
	return &cobra.Command{Use: "delete " + t.arg + "...", Short: "Delete " + t.many, Example: "  ostro " + t.many + " delete NAME", Args: args(1, -1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			for _, id := range a {
				if err := cl.Delete(cmd.Context(), client.Path(t.many, id)); err != nil {
					return t.missing(cmd.Context(), cl, id, err)
				}
			}
			return c.show(map[string][]string{"deleted": a}, func() { fmt.Fprintf(c.Out, "Deleted %d %s(s)\n", len(a), t.one) })
		}}
}

// listCommand lists things as rows.
func listCommand[T any](c *command, t thing, head []string, list func(context.Context, *client.Client) ([]T, error), row func(T) []string) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List " + t.many, Example: "  ostro " + t.many + " list", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			all, err := list(cmd.Context(), cl)
			if err != nil {
				return err
			}
			return c.show(all, func() {
				rows := make([][]string, 0, len(all))
				for _, x := range all {
					rows = append(rows, row(x))
				}
				c.table(head, rows)
			})
		}}
}

// getCommand shows one thing.
func getCommand[T any](c *command, t thing, table func(T)) *cobra.Command {
	reveal := false
	cmd := &cobra.Command{Use: "get " + t.arg, Short: "Show a " + t.one, Example: "  ostro " + t.many + " get NAME", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			var query url.Values
			if reveal {
				query = url.Values{"reveal": {"true"}}
			}
			x, err := client.Get[T](cmd.Context(), cl, client.Path(t.many, a[0]), query)
			if err != nil {
				return t.missing(cmd.Context(), cl, a[0], err)
			}
			if t.hidden != nil {
				if err := t.hidden(x, a[0]); err != nil {
					return err
				}
			}
			return c.show(x, func() { table(x) })
		}}
	if t.secrets {
		cmd.Flags().BoolVar(&reveal, "reveal", false, "show secrets as they are stored; an event records that somebody did")
		cmd.Example += "\n  ostro " + t.many + " get NAME --reveal"
	}
	return cmd
}

// hiddenVariable refuses to print stars for a value: a script would take them for the secret.
func (c *command) hiddenVariable(x any, key string) error {
	v, ok := x.(wire.Variable)
	switch {
	case !ok:
	case v.Value == hiddenText:
		return &problem{code: exitRefused, err: fmt.Errorf("variable %s is hidden: its name says that it is a secret", key),
			hint: "print it with: ostro variables get " + key + " --reveal"}
	case strings.Contains(v.Value, `"`+hiddenText+`"`):
		fmt.Fprintf(c.Err, "members whose names say that they are secrets are hidden; show them with --reveal\n")
	}
	return nil
}

// hiddenText is what stands where the API hides a secret.
const hiddenText = "***"

func (c *command) variables() *cobra.Command {
	t := thing{one: "variable", many: "variables", arg: "KEY", ids: func(ctx context.Context, cl *client.Client) ([]string, error) {
		all, err := cl.Variables(ctx)
		return names(all, func(v wire.Variable) string { return v.Key }), err
	}}
	list := listCommand(c, t, []string{"KEY", "VALUE", "DESCRIPTION"}, func(ctx context.Context, cl *client.Client) ([]wire.Variable, error) { return cl.Variables(ctx) },
		func(v wire.Variable) []string { return []string{v.Key, clip(oneLine(v.Value), 60), str(v.Description)} })
	t.secrets, t.hidden = true, c.hiddenVariable
	get := getCommand(c, t, func(v wire.Variable) { fmt.Fprintln(c.Out, v.Value) })
	return c.parent("variables", "Read and write variables", "  ostro variables set threshold 0.9", list, get, c.variablesSet(), c.deleteCommand(t), c.variablesImport(), c.variablesExport())
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, 0, len(list))
	for _, x := range list {
		out = append(out, name(x))
	}
	return out
}

func (c *command) variablesSet() *cobra.Command {
	var description string
	cmd := &cobra.Command{Use: "set KEY VALUE", Short: "Create or change a variable", Example: "  ostro variables set threshold 0.9\n  ostro variables set settings '{\"depth\": 3}'\n  ostro variables set api_key - < key.txt", Args: args(2, 2),
		Long: "Create or change a variable. The value - is read from standard input, which keeps a secret out of the shell's history.",
		RunE: func(cmd *cobra.Command, a []string) error {
			value, err := c.valueOf(a[1])
			if err != nil {
				return err
			}
			if err := checkText("the value", value); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			body := map[string]any{"key": a[0], "value": value}
			if cmd.Flags().Changed("description") {
				body["description"] = description
			}
			if err := c.putVariable(cmd.Context(), cl, body); err != nil {
				return err
			}
			return c.show(map[string]string{"key": a[0]}, func() { fmt.Fprintf(c.Out, "Set variable %s\n", a[0]) })
		}}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func (c *command) valueOf(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := io.ReadAll(c.In)
	if err != nil {
		return "", fmt.Errorf("read the value from standard input: %w", err)
	}
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return string(b), nil
}

// putVariable keeps the description of a variable that exists unless a new one is given.
func (c *command) putVariable(ctx context.Context, cl *client.Client, body map[string]any) error {
	key := body["key"].(string)
	v, err := client.Send[wire.Variable](ctx, cl, "POST", client.Path("variables"), nil, body)
	if client.StatusOf(err) == 409 {
		mask := map[string][]string{"update_mask": {"value"}}
		if _, ok := body["description"]; ok {
			mask["update_mask"] = append(mask["update_mask"], "description")
		}
		v, err = client.Send[wire.Variable](ctx, cl, "PATCH", client.Path("variables", key), mask, body)
	}
	if err == nil {
		c.warn(v.Ostro)
	}
	return err
}

// warn prints what the server warns of.
func (c *command) warn(x *wire.AdminExtras) {
	if x == nil {
		return
	}
	for _, w := range x.Warnings {
		fmt.Fprintf(c.Err, "warning: %s\n", oneLine(w))
	}
}

func (c *command) variablesImport() *cobra.Command {
	return &cobra.Command{Use: "import FILE", Short: "Set variables from a JSON object of keys and values", Example: "  ostro variables import variables.json", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			values, err := c.readObject(a[0])
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			keys := make([]string, 0, len(values))
			for key := range values {
				keys = append(keys, key)
			}
			slices.Sort(keys)
			for _, key := range keys {
				body := map[string]any{"key": key, "value": values[key]}
				var long struct { // Airflow's form with a description
					Value       json.RawMessage `json:"value"`
					Description *string         `json:"description"`
				}
				if json.Unmarshal(values[key], &long) == nil && long.Value != nil && long.Description != nil {
					body["value"], body["description"] = long.Value, *long.Description
				}
				if err := c.putVariable(cmd.Context(), cl, body); err != nil {
					return fmt.Errorf("set variable %s: %w", key, err)
				}
			}
			return c.show(map[string][]string{"imported": keys}, func() { fmt.Fprintf(c.Out, "Imported %d variable(s)\n", len(keys)) })
		}}
}

// readObject reads a JSON object from a file, or from standard input for "-".
func (c *command) readObject(path string) (map[string]json.RawMessage, error) {
	var raw []byte
	var err error
	if path == "-" {
		raw, err = io.ReadAll(c.In)
	} else {
		raw, err = os.ReadFile(path)
	}
	if os.IsNotExist(err) {
		return nil, &problem{code: exitNotFound, err: fmt.Errorf("there is no file %s", path)}
	}
	if err != nil { // a folder, or one may not read it
		return nil, usage("read %s: %w", path, reason(err))
	}
	if err := checkText(fileName(path), string(raw)); err != nil {
		return nil, err
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, usage("%s is not a JSON object: %s", fileName(path), jsonFault(string(raw), err))
	}
	return out, nil
}

// reason is what the system said, without the path that is named beside it.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// checkText refuses bytes that are no text: JSON would carry others in their place.
func checkText(what, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return usage("%s is not UTF-8 text", what)
}

func (c *command) variablesExport() *cobra.Command {
	reveal := false
	cmd := &cobra.Command{Use: "export [FILE]", Short: "Write variables as a JSON object of keys and values", Args: args(0, 1),
		Long:    "Write variables as a JSON object of keys and values, to FILE or standard output. The API hides values whose name says\nthat they are secret; those are left out and named on standard error, unless --reveal is given.",
		Example: "  ostro variables export variables.json\n  ostro variables export --reveal variables.json",
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			all, err := cl.Variables(cmd.Context())
			if err != nil {
				return err
			}
			values := map[string]string{}
			for _, v := range all {
				if strings.Contains(v.Value, hiddenText) {
					if !reveal {
						fmt.Fprintf(c.Err, "left out: %s (it holds a secret; --reveal writes it)\n", v.Key)
						continue
					}
					if v, err = client.Get[wire.Variable](cmd.Context(), cl, client.Path("variables", v.Key), url.Values{"reveal": {"true"}}); err != nil {
						return err
					}
				}
				values[v.Key] = v.Value
			}
			return c.writeExport(first(a), fmt.Sprintf("%d variable(s)", len(values)), values)
		}}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "with secrets as they are stored; an event records that somebody did")
	return cmd
}

// checkObject refuses the value of a flag that is not a JSON object, with the reason and its beginning.
func checkObject(flag, text string) error {
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		return usage("%s is not a JSON object (%s): %s", flag, jsonFault(text, err), clip(oneLine(text), 60))
	}
	return nil
}

// jsonFault says what keeps a text from being a JSON object.
func jsonFault(text string, err error) string {
	if json.Valid([]byte(text)) {
		return "it is another JSON value"
	}
	return err.Error()
}

func (c *command) pools() *cobra.Command {
	t := thing{one: "pool", many: "pools", arg: "NAME", ids: func(ctx context.Context, cl *client.Client) ([]string, error) {
		all, err := cl.Pools(ctx)
		return names(all, func(x wire.Pool) string { return x.Name }), err
	}}
	head := []string{"POOL", "SLOTS", "RUNNING", "QUEUED", "SCHEDULED", "DEFERRED", "OPEN", "DESCRIPTION"}
	row := func(p wire.Pool) []string {
		slots, open := strconv.Itoa(p.Slots), strconv.Itoa(p.OpenSlots)
		if p.Slots < 0 {
			slots, open = "unlimited", "unlimited"
		}
		return []string{p.Name, slots, strconv.Itoa(p.RunningSlots), strconv.Itoa(p.QueuedSlots), strconv.Itoa(p.ScheduledSlots), strconv.Itoa(p.DeferredSlots), open, str(p.Description)}
	}
	list := listCommand(c, t, head, func(ctx context.Context, cl *client.Client) ([]wire.Pool, error) { return cl.Pools(ctx) }, row)
	get := getCommand(c, t, func(p wire.Pool) { c.table(head, [][]string{row(p)}) })
	return c.parent("pools", "Read and write pools", "  ostro pools set gpu 2", list, get, c.poolsSet(), c.deleteCommand(t), c.poolsImport(), c.poolsExport())
}

func (c *command) poolsSet() *cobra.Command {
	var description string
	var deferred, unlimited bool
	cmd := &cobra.Command{Use: "set NAME SLOTS [DESCRIPTION]", Short: "Create or change a pool (slots: a number, or -1 or unlimited)", Example: "  ostro pools set gpu 2 'GPUs of this machine'\n  ostro pools set downloads -1", Args: args(1, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			described := cmd.Flags().Changed("description")
			if len(a) == 3 {
				if described {
					return usage("the description is given twice: %q and %q", a[2], description)
				}
				description, described = a[2], true
			}
			switch {
			case unlimited && len(a) > 1:
				return usage("slots are given twice: %s and unlimited", a[1])
			case unlimited:
				a = append(a, "unlimited")
			case len(a) < 2:
				return args(2, 3)(cmd, a)
			}
			slots, err := strconv.Atoi(a[1])
			if a[1] == "unlimited" || a[1] == "-1" {
				slots, err = -1, nil
			}
			if err != nil || slots < -1 {
				return &problem{code: exitUsage, err: fmt.Errorf("%q is not a number of slots", a[1]),
					hint: "give 0 or more, or -1 (or unlimited) for no limit, as in: ostro pools set " + a[0] + " 4"}
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			create := map[string]any{"name": a[0], "slots": slots, "include_deferred": deferred}
			change := map[string]any{"pool": a[0], "slots": slots}
			if cmd.Flags().Changed("include-deferred") {
				change["include_deferred"] = deferred
			}
			if described {
				create["description"], change["description"] = description, description
			}
			if err := cl.Put(cmd.Context(), "pools", a[0], create, change); err != nil {
				return err
			}
			return c.show(map[string]any{"name": a[0], "slots": slots}, func() { fmt.Fprintf(c.Out, "Set pool %s to %s slots\n", a[0], a[1]) })
		}}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().BoolVar(&unlimited, "unlimited", false, "no limit, in the place of SLOTS")
	cmd.Flags().BoolVar(&deferred, "include-deferred", false, "deferred tasks hold their slots")
	return cmd
}
