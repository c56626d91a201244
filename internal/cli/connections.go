package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) connections() *cobra.Command {
	t := thing{one: "connection", many: "connections", arg: "CONN_ID", ids: func(ctx context.Context, cl *client.Client) ([]string, error) {
		all, err := cl.Connections(ctx)
		return names(all, func(x wire.Connection) string { return x.ID }), err
	}}
	head := []string{"CONNECTION", "TYPE", "HOST", "PORT", "SCHEMA", "LOGIN", "DESCRIPTION"}
	row := func(x wire.Connection) []string {
		port := ""
		if x.Port != nil {
			port = strconv.Itoa(*x.Port)
		}
		return []string{x.ID, x.Type, str(x.Host), port, str(x.Schema), str(x.Login), str(x.Description)}
	}
	list := listCommand(c, t, head, func(ctx context.Context, cl *client.Client) ([]wire.Connection, error) { return cl.Connections(ctx) }, row)
	t.secrets = true
	get := getCommand(c, t, func(x wire.Connection) {
		for i, value := range row(x) {
			fmt.Fprintf(c.Out, "%-12s %s\n", head[i], orDash(value))
		}
		fmt.Fprintf(c.Out, "%-12s %s\n%-12s %s\n", "PASSWORD", orDash(str(x.Password)), "EXTRA", orDash(str(x.Extra)))
	})
	return c.parent("connections", "Read and write connections", "  ostro connections set warehouse --type postgres --host db.example.com\n"+
		"  ostro connections add warehouse --conn-uri postgres://me:secret@db.example.com:5432/sales", list, get, c.connectionsSet(), c.connectionsAdd(), c.deleteCommand(t),
		c.connectionsImport(), c.connectionsExport())
}

// connectionFields are the fields of a connection that flags set: --conn-X as in Airflow, and --X.
var connectionFields = []string{"type", "host", "schema", "login", "password", "extra", "description"}

func (c *command) connectionsSet() *cobra.Command {
	cmd := &cobra.Command{Use: "set CONN_ID", Short: "Create or change a connection", Args: args(1, 1),
		Long: "Create or change a connection. Only the fields given are changed. A password, an extra or a URI of - is read from standard " +
			"input, so that it stands in no command line. (--port is the server's; a connection's is --conn-port.)",
		Example: "  ostro connections set warehouse --conn-type postgres --conn-host db.example.com --conn-port 5432 --conn-password - < password.txt\n" +
			"  ostro connections set warehouse --conn-uri - < uri.txt"}
	return c.writesConnection(cmd, false)
}

func (c *command) connectionsAdd() *cobra.Command {
	cmd := &cobra.Command{Use: "add CONN_ID", Short: "Create a connection; refused when there is one of that name", Args: args(1, 1),
		Long: "Create a connection, as airflow connections add does. A password, an extra or a URI of - is read from standard input.",
		Example: "  ostro connections add warehouse --conn-uri postgres://me:secret@db.example.com:5432/sales?sslmode=require\n" +
			"  ostro connections add slack --conn-type http --conn-host hooks.slack.com --conn-password - < token.txt"}
	return c.writesConnection(cmd, true)
}

// writesConnection gives a command the flags of a connection's fields and has it write them.
func (c *command) writesConnection(cmd *cobra.Command, fresh bool) *cobra.Command {
	f := cmd.Flags()
	texts := map[string]*string{"uri": f.String("conn-uri", "", "everything at once: type://login:password@host:port/schema?extra=value"),
		"json": f.String("conn-json", "", "everything at once, as a JSON object with Airflow's names (conn_type, host, …)")}
	for _, field := range connectionFields {
		texts[field] = f.String("conn-"+field, "", "the connection's "+field)
		f.StringVar(texts[field], field, "", "the same as --conn-"+field)
	}
	f.StringVar(texts["uri"], "uri", "", "the same as --conn-uri")
	port := f.Int("conn-port", 0, "the connection's port")
	f.IntVar(port, "port-number", 0, "the same as --conn-port")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := checkConnectionID(a[0]); err != nil {
			return err
		}
		body := map[string]any{}
		given := func(name string) bool { return f.Changed("conn-"+name) || f.Changed(name) }
		for _, name := range append([]string{"uri", "json"}, connectionFields...) {
			if !given(name) {
				continue
			}
			value := *texts[name]
			if value == "-" && slices.Contains([]string{"uri", "json", "password", "extra"}, name) {
				var err error
				if value, err = c.valueOf(value); err != nil {
					return err
				}
			}
			if err := setField(body, name, value); err != nil {
				return err
			}
		}
		if f.Changed("conn-port") || f.Changed("port-number") {
			body["port"] = *port
		}
		if err := checkConnection(body); err != nil {
			return err
		}
		body["connection_id"] = a[0]
		cl, err := c.connect()
		if err != nil {
			return err
		}
		err = c.putConnection(cmd.Context(), cl, a[0], body, fresh)
		var gone *client.Unreachable
		if errors.As(err, &gone) && cmd.Flags().Changed("port") {
			return &problem{code: exitUnreachable, err: err, hint: "--port is the server's; the connection's port is set with --conn-port"}
		}
		return err
	}
	return cmd
}

// setField puts what one flag says into the connection.
func setField(body map[string]any, flag, value string) error {
	switch flag {
	case "uri":
		return atFlag("--conn-uri", connectionOfURI(body, value))
	case "json":
		if err := checkObject("--conn-json", value); err != nil {
			return err
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(value), &fields); err != nil {
			return fmt.Errorf("read --conn-json: %w", err)
		}
		return atFlag("--conn-json", connectionOfJSON(body, fields))
	case "type":
		body["conn_type"] = value
	default:
		body[flag] = value
	}
	return nil
}

// atFlag adds to a fault of what was given the flag that gave it.
func atFlag(flag string, err error) error {
	if err == nil {
		return nil
	}
	return usage("%s: %w", flag, err)
}

// connectionOfURI reads Airflow's form of a connection as a URI: parts may be percent-encoded, the type's underscores are
// dashes, the host may begin with a protocol of its own, and what follows the question mark is the extra, by name or whole
// as __extra__. What it does not say is unset: a password must not go on to another host.
func connectionOfURI(body map[string]any, text string) error {
	bad := usage("this is no URI of the form type://login:password@host:port/schema") // the text may hold a password
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme == "" {
		return bad
	}
	for _, field := range []string{"login", "password", "host", "port", "schema", "extra"} {
		body[field] = nil
	}
	body["conn_type"] = connectionType(scheme)
	rest, query, _ := strings.Cut(rest, "?")
	protocol := ""
	if before, after, ok := strings.Cut(rest, "://"); ok {
		protocol, rest = before+"://", after
	}
	place, schema, _ := strings.Cut(rest, "/")
	user, address, ok := cutLast(place, "@")
	if !ok {
		user, address = "", place
	}
	login, password, _ := strings.Cut(user, ":")
	host, port := address, ""
	if i := strings.LastIndex(address, ":"); i > strings.LastIndex(address, "]") {
		host, port = address[:i], address[i+1:]
	}
	for field, part := range map[string]string{"login": login, "password": password, "host": strings.Trim(host, "[]"), "schema": schema} {
		if plain := unquoted(part); plain != "" {
			body[field] = plain
		}
	}
	if host, ok := body["host"].(string); ok {
		body["host"] = protocol + host
	}
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil {
			return usage("%q is not a port", port)
		}
		body["port"] = n
	}
	return extraOfURI(body, query)
}

// unquoted undoes percent-encoding. What is none stays as it is, as in Airflow: a password may hold a percent sign.
func unquoted(s string) string {
	var b strings.Builder
	for ; s != ""; s = s[1:] {
		if len(s) > 2 && s[0] == '%' {
			if n, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[2:]
				continue
			}
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

// cutLast cuts a text around the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// connectionType is the type that a URI's scheme stands for.
func connectionType(scheme string) string {
	if scheme == "postgresql" {
		return "postgres"
	}
	return strings.ToLower(strings.ReplaceAll(scheme, "-", "_"))
}

// extraOfURI reads the extra from what follows the question mark: NAME=VALUE&…, the last value of a name.
func extraOfURI(body map[string]any, query string) error {
	extra := map[string]string{}
	for pair := range strings.SplitSeq(strings.ReplaceAll(query, "+", " "), "&") {
		if name, value, _ := strings.Cut(pair, "="); pair != "" {
			extra[unquoted(name)] = unquoted(value)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	if whole := extra["__extra__"]; whole != "" {
		body["extra"] = whole
		return nil
	}
	for name, value := range extra { // before JSON carries something else in the place of what is no text
		if !utf8.ValidString(name + value) {
			return notText("extra")
		}
	}
	text, err := json.Marshal(extra)
	if err != nil {
		return fmt.Errorf("write the extra: %w", err)
	}
	body["extra"] = string(text)
	return nil
}

// connectionOfJSON takes the names that Airflow's file of connections uses.
func connectionOfJSON(body, fields map[string]any) error {
	known := append([]string{"conn_type", "port"}, connectionFields[1:]...)
	for _, field := range known {
		body[field] = nil
	}
	for name, value := range fields {
		if !slices.Contains(known, name) {
			return usage("a connection has no %q%s", name, didYouMean(name, known))
		}
		_, text := value.(string)
		switch {
		case name == "port":
			port, err := numberOfPort(value)
			if err != nil {
				return err
			}
			value = port
		case text || value == nil:
		case name == "extra":
			inner, err := json.Marshal(value)
			if err != nil {
				return fmt.Errorf("write the extra: %w", err)
			}
			value = string(inner)
		default:
			return usage("the %s is not a text", name)
		}
		body[name] = value
	}
	return nil
}

// numberOfPort reads the port of a JSON object, where Airflow takes a number and the text of one.
func numberOfPort(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil // no port
	case float64:
		if v == float64(int(v)) {
			return int(v), nil
		}
	case string:
		if v == "" {
			return nil, nil // no port
		}
		if n, err := strconv.Atoi(v); err == nil {
			return n, nil
		}
	}
	return nil, usage("%v is not a port", value)
}

// checkConnection refuses what the server would, and bytes that JSON would not carry as they are.
func checkConnection(body map[string]any) error {
	for _, field := range slices.Sorted(maps.Keys(body)) {
		if text, ok := body[field].(string); ok && !utf8.ValidString(text) {
			return notText(field)
		}
	}
	if extra, ok := body["extra"].(string); ok && extra != "" {
		if err := checkObject("the extra", extra); err != nil {
			return err
		}
	}
	if port, ok := body["port"].(int); ok && (port < 0 || port > 65535) {
		return usage("%d is not a port: they go from 0 to 65535", port)
	}
	return nil
}

// notText is the refusal of a field that is not UTF-8, which does not show it: it may be the password.
func notText(field string) error {
	return usage("the %s is not UTF-8 text; in a URI an ä is written as it is, or as %%C3%%A4", field)
}

// checkConnectionID refuses an id that the server would.
func checkConnectionID(id string) error {
	if wire.ValidConnectionID(id) {
		return nil
	}
	return usage("%q cannot be the id of a connection: it may have letters, digits, underscores, dashes and dots, 200 at most", id)
}

// putConnection creates a connection or, unless it is to be new, changes it.
func (c *command) putConnection(ctx context.Context, cl *client.Client, id string, body map[string]any, fresh bool) error {
	old, err := client.Get[wire.Connection](ctx, cl, client.Path("connections", id), nil)
	method, path := "PATCH", client.Path("connections", id)
	switch {
	case client.StatusOf(err) == 404:
		method, path = "POST", client.Path("connections")
		if body["conn_type"] == nil {
			return usage("a new connection needs --conn-type or --conn-uri")
		}
	case err != nil:
		return err
	case fresh:
		return &problem{code: exitConflict, err: fmt.Errorf("there is a connection %q already", id), hint: "change it with: ostro connections set " + id}
	case body["conn_type"] == nil:
		body["conn_type"] = old.Type
	}
	x, err := client.Send[wire.Connection](ctx, cl, method, path, nil, body)
	if err != nil {
		return err
	}
	c.warn(x.Ostro)
	return c.show(x, func() { fmt.Fprintf(c.Out, "Set connection %s\n", id) })
}
