package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// exported is a connection as Airflow's files of connections have it.
type exported struct {
	Type        string  `json:"conn_type"`
	Description *string `json:"description"`
	Login       *string `json:"login"`
	Password    *string `json:"password"`
	Host        *string `json:"host"`
	Port        *int    `json:"port"`
	Schema      *string `json:"schema"`
	Extra       *string `json:"extra"`
}

// exportedPool is a pool as Airflow's files of pools have it.
type exportedPool struct {
	Slots           int    `json:"slots"`
	Description     string `json:"description"`
	IncludeDeferred bool   `json:"include_deferred"`
}

// fileName is what messages call a file of the command line.
func fileName(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// writePrivate writes a file that only its owner may read, also where there was one that others might.
func writePrivate(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if err := f.Chmod(0o600); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Close()
}

// writeExport writes values as JSON to a file, or to standard output when file is "" or "-". what names them with their number,
// for people.
func (c *command) writeExport(file, what string, values any) error {
	b, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	b = append(b, '\n')
	if file == "" || file == "-" {
		_, err = c.Out.Write(b)
		return err
	}
	switch err := writePrivate(file, b); {
	case diskFault(err):
		return fmt.Errorf("write %s: %w", file, err)
	case err != nil:
		return usage("write %s: %w", file, reason(err))
	}
	fmt.Fprintf(c.Err, "Exported %s to %s\n", what, file)
	return nil
}

func (c *command) connectionsExport() *cobra.Command {
	reveal := false
	cmd := &cobra.Command{Use: "export [FILE]", Short: "Write connections as a JSON object that import reads", Args: args(0, 1),
		Long: "Write connections as a JSON object that import reads, to FILE or standard output. Those that hold a secret are left out and\n" +
			"named on standard error, unless --reveal is given.",
		Example: "  ostro connections export --reveal connections.json",
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			all, err := cl.Connections(cmd.Context())
			if err != nil {
				return err
			}
			out := map[string]exported{}
			for _, x := range all {
				if hidden(x) {
					if !reveal {
						fmt.Fprintf(c.Err, "left out: %s (it holds a secret; --reveal writes it)\n", x.ID)
						continue
					}
					if x, err = client.Get[wire.Connection](cmd.Context(), cl, client.Path("connections", x.ID), url.Values{"reveal": {"true"}}); err != nil {
						return err
					}
				}
				out[x.ID] = exported{x.Type, x.Description, x.Login, x.Password, x.Host, x.Port, x.Schema, x.Extra}
			}
			return c.writeExport(first(a), fmt.Sprintf("%d connection(s)", len(out)), out)
		}}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "with secrets as they are stored; an event records that somebody did")
	return cmd
}

// hidden tells whether the server kept back a secret of a connection.
func hidden(x wire.Connection) bool {
	return x.Password != nil && *x.Password == hiddenText || x.Extra != nil && strings.Contains(*x.Extra, hiddenText)
}

func (c *command) connectionsImport() *cobra.Command {
	overwrite := false
	cmd := &cobra.Command{Use: "import FILE", Short: "Create connections from a JSON object", Args: args(1, 1),
		Long: "Create connections from a JSON object of their ids. Each is a URI, or an object with Airflow's names (conn_type, host, …).\n" +
			"FILE may be - for standard input. Connections that exist already are left alone unless --overwrite is given. Nothing is\n" +
			"changed when the file has a fault.",
		Example: "  ostro connections import connections.json\n  ostro connections import --overwrite - < connections.json",
		RunE: func(cmd *cobra.Command, a []string) error {
			values, err := c.readObject(a[0])
			if err != nil {
				return err
			}
			bodies := map[string]map[string]any{}
			for _, id := range slices.Sorted(maps.Keys(values)) { // of several faults always the same one is said
				if err := checkConnectionID(id); err != nil {
					return usage("%s: %w", fileName(a[0]), err)
				}
				if bodies[id], err = connectionOf(values[id]); err != nil {
					return usage("%s: connection %s: %w", fileName(a[0]), id, err)
				}
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return c.importConnections(cmd.Context(), cl, bodies, overwrite)
		}}
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "change connections that exist already")
	return cmd
}

// connectionOf reads a connection of a file: a URI or an object.
func connectionOf(raw json.RawMessage) (map[string]any, error) {
	body := map[string]any{}
	var uri string
	var fields map[string]any
	var err error
	switch {
	case json.Unmarshal(raw, &uri) == nil:
		err = connectionOfURI(body, uri)
	case json.Unmarshal(raw, &fields) == nil && fields != nil:
		err = connectionOfJSON(body, fields)
	default:
		err = errors.New("it is neither a URI nor an object")
	}
	if err != nil {
		return nil, err
	}
	if kind, ok := body["conn_type"].(string); !ok || kind == "" {
		return nil, errors.New("it has no conn_type")
	}
	return body, checkConnection(body)
}

func (c *command) importConnections(ctx context.Context, cl *client.Client, bodies map[string]map[string]any, overwrite bool) error {
	there, err := cl.Connections(ctx)
	if err != nil {
		return err
	}
	known := names(there, func(x wire.Connection) string { return x.ID })
	done, left := []string{}, []string{}
	for _, id := range slices.Sorted(maps.Keys(bodies)) {
		method, path := "POST", client.Path("connections")
		if slices.Contains(known, id) {
			if !overwrite {
				left = append(left, id)
				continue
			}
			method, path = "PATCH", client.Path("connections", id)
		}
		bodies[id]["connection_id"] = id
		x, err := client.Send[wire.Connection](ctx, cl, method, path, nil, bodies[id])
		if err != nil {
			return fmt.Errorf("set connection %s: %w", id, err)
		}
		c.warn(x.Ostro)
		done = append(done, id)
	}
	return c.show(map[string][]string{"imported": done, "left_alone": left}, func() {
		fmt.Fprintf(c.Out, "Imported %d connection(s)\n", len(done))
		if len(left) > 0 {
			fmt.Fprintf(c.Err, "left alone, for they exist already: %s; change them with --overwrite\n", strings.Join(left, ", "))
		}
	})
}

func (c *command) poolsExport() *cobra.Command {
	return &cobra.Command{Use: "export [FILE]", Short: "Write pools as a JSON object that import reads", Example: "  ostro pools export pools.json", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			all, err := cl.Pools(cmd.Context())
			if err != nil {
				return err
			}
			out := map[string]exportedPool{}
			for _, p := range all {
				out[p.Name] = exportedPool{p.Slots, str(p.Description), p.IncludeDeferred}
			}
			return c.writeExport(first(a), fmt.Sprintf("%d pool(s)", len(out)), out)
		}}
}

func (c *command) poolsImport() *cobra.Command {
	return &cobra.Command{Use: "import FILE", Short: "Create and change pools from a JSON object", Args: args(1, 1),
		Long: "Create and change pools from a JSON object of their names, each with its slots, and a description and include_deferred if\n" +
			"need be. FILE may be - for standard input. Nothing is changed when the file has a fault.",
		Example: "  ostro pools import pools.json",
		RunE: func(cmd *cobra.Command, a []string) error {
			values, err := c.readObject(a[0])
			if err != nil {
				return err
			}
			pools := map[string]exportedPool{}
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if pools[name], err = poolOf(values[name]); err != nil {
					return usage("%s: pool %s: %w", fileName(a[0]), name, err)
				}
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			done := slices.Sorted(maps.Keys(pools))
			for _, name := range done {
				if err := putPool(cmd.Context(), cl, name, pools[name]); err != nil {
					return fmt.Errorf("set pool %s: %w", name, err)
				}
			}
			return c.show(map[string][]string{"imported": done}, func() { fmt.Fprintf(c.Out, "Imported %d pool(s)\n", len(done)) })
		}}
}

// poolOf reads a pool of a file.
func poolOf(raw json.RawMessage) (exportedPool, error) {
	var p struct {
		Slots           *int   `json:"slots"`
		Description     string `json:"description"`
		IncludeDeferred bool   `json:"include_deferred"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return exportedPool{}, fmt.Errorf("it is no object with slots: %w", err)
	}
	if p.Slots == nil || *p.Slots < -1 {
		return exportedPool{}, errors.New("it needs slots: a number, or -1 for no limit")
	}
	return exportedPool{*p.Slots, p.Description, p.IncludeDeferred}, nil
}

func putPool(ctx context.Context, cl *client.Client, name string, p exportedPool) error {
	create := map[string]any{"name": name, "slots": p.Slots, "description": p.Description, "include_deferred": p.IncludeDeferred}
	change := map[string]any{"pool": name, "slots": p.Slots, "description": p.Description, "include_deferred": p.IncludeDeferred}
	return cl.Put(ctx, "pools", name, create, change)
}
