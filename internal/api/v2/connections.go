package v2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/store"
)

// wireConnection never holds the password, nor what the extra keeps under a sensitive name; an extra that is not JSON is
// hidden whole, since nothing says what is in it.
func wireConnection(c store.Connection) wire.Connection {
	out := wire.Connection{ID: c.ID, Type: c.Type, Description: opt(c.Description), Host: opt(c.Host), Login: opt(c.Login), Schema: opt(c.Schema), Port: c.Port}
	hidden := secret.Hidden
	if c.Password != "" {
		out.Password = &hidden
	}
	switch {
	case c.Extra == "":
	case json.Valid([]byte(c.Extra)):
		s := redact("extra", c.Extra)
		out.Extra = &s
	default:
		out.Extra = &hidden
	}
	return out
}

// writtenConnection is the answer to a write.
func writtenConnection(c store.Connection) wire.Connection {
	out := wireConnection(c)
	out.Ostro = warned(connectionWarnings(c))
	return out
}

// connectionWarnings says which secrets of a connection logs will show.
func connectionWarnings(c store.Connection) []string {
	warnings := shortMembers("the extra of connection "+c.ID+":", c.Extra)
	if secret.TooShort(c.Password) {
		warnings = append(warnings, shortSecret("the password of connection "+c.ID))
	}
	return warnings
}

func (a *API) connection(r *request, id string) (store.Connection, error) {
	c, err := a.Store.Connection(r.ctx(), id)
	if errors.Is(err, store.ErrNotFound) {
		return c, notFound("The Connection with connection_id: `%s` was not found", id)
	}
	return c, err
}

func (a *API) listConnections(r *request) error {
	limit, offset := r.page()
	order, err := r.order("Connection", map[string]string{"conn_id": "id", "connection_id": "id", "id": "id", "conn_type": "type", "host": "host", "description": "description", "port": ""})
	if err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	all, err := a.Store.Connections(r.ctx())
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	if p := r.text("connection_id_pattern"); p != "" && p != everyDAG {
		all = slices.DeleteFunc(all, func(c store.Connection) bool { return !like(p, c.ID) })
	}
	sortBy(all, order, map[string]func(store.Connection) string{"id": func(c store.Connection) string { return c.ID },
		"type": func(c store.Connection) string { return c.Type }, "host": func(c store.Connection) string { return c.Host },
		"description": func(c store.Connection) string { return c.Description }})
	out := wire.Connections{Connections: []wire.Connection{}, Total: len(all)}
	for _, c := range window(all, limit, offset) {
		out.Connections = append(out.Connections, wireConnection(c))
	}
	return r.ok(out)
}

func (a *API) getConnection(r *request) error {
	c, err := a.connection(r, r.path("connection_id"))
	if err != nil {
		return err
	}
	out := wireConnection(c)
	if show, err := a.reveal(r, "connection", c.ID); err != nil {
		return err
	} else if show {
		out.Password, out.Extra = opt(c.Password), opt(c.Extra)
	}
	return r.ok(out)
}

// checkExtra refuses an extra that is no JSON object: hooks read it as one and would fail much later.
func (f *fields) checkExtra(extra string) {
	if extra == "" || extra == secret.Hidden { // hidden comes back from who has read it
		return
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal([]byte(extra), &object)
	if err == nil && object != nil {
		return
	}
	why := "it is another JSON value"
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		why = fmt.Sprintf("%s at character %d", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset)
	}
	f.wrong("extra", "value_error", "Value error, The `extra` field must be a JSON object: "+why, f.members["extra"])
}

func connectionBody(f *fields) (store.Connection, error) {
	c := store.Connection{ID: f.mustText("connection_id", 200), Type: f.mustText("conn_type", 0), Description: text(f.text("description", 0)),
		Host: text(f.text("host", 0)), Login: text(f.text("login", 0)), Schema: text(f.text("schema", 0)), Port: f.integer("port", 0),
		Password: text(f.text("password", 0)), Extra: text(f.text("extra", 0))}
	if given := string(f.members["connection_id"]); (c.ID != "" || given == `""`) && !wire.ValidConnectionID(c.ID) {
		f.r.fault(wire.Fault{Type: "string_pattern_mismatch", Loc: f.at("connection_id"), Msg: `String should match pattern '^[\w.-]+$'`,
			Input: quoted(c.ID), Ctx: map[string]any{"pattern": `^[\w.-]+$`}})
	}
	f.checkExtra(c.Extra)
	if f.take("team_name") != nil {
		return c, noTeams()
	}
	return c, f.done()
}

func (a *API) putConnection(r *request, c store.Connection) error {
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.PutConnection(c) })
	if err != nil {
		return fmt.Errorf("write connection %s: %w", c.ID, err)
	}
	return nil
}

func (a *API) createConnection(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	c, err := connectionBody(body)
	if err != nil {
		return err
	}
	if _, err := a.Store.Connection(r.ctx(), c.ID); err == nil {
		return duplicate("a connection with id %s exists already", c.ID)
	}
	if err := a.putConnection(r, c); err != nil {
		return err
	}
	return r.created(writtenConnection(c))
}

func (a *API) patchConnection(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	given := body.given
	c, err := connectionBody(body)
	if err != nil {
		return err
	}
	if c.ID != r.path("connection_id") {
		return badRequest("The connection_id in the request body does not match the URL parameter")
	}
	old, err := a.connection(r, c.ID)
	if err != nil {
		return err
	}
	merged, err := mergeConnection(old, c, given, r.mask())
	if err != nil {
		return err
	}
	if err := a.putConnection(r, merged); err != nil {
		return err
	}
	return r.ok(writtenConnection(merged))
}

// mergeConnection changes the fields that were sent and that the mask covers. What answers hide and a client sends back
// hidden stays as it was.
func mergeConnection(old, c store.Connection, given func(string) bool, m mask) (store.Connection, error) {
	if err := m.only("Connection", "connection_id", "conn_type", "description", "host", "login", "schema", "port", "password", "extra"); err != nil {
		return old, err
	}
	change := func(name string) bool { return given(name) && m.covers(name) }
	for _, f := range []struct {
		name     string
		into, by *string
	}{{"conn_type", &old.Type, &c.Type}, {"description", &old.Description, &c.Description}, {"host", &old.Host, &c.Host},
		{"login", &old.Login, &c.Login}, {"schema", &old.Schema, &c.Schema}} {
		if change(f.name) {
			*f.into = *f.by
		}
	}
	if change("port") {
		old.Port = c.Port
	}
	if change("password") && c.Password != secret.Hidden {
		old.Password = c.Password
	}
	if change("extra") {
		old.Extra = unhide(c.Extra, old.Extra)
	}
	return old, nil
}

// unhide puts back what was hidden in an extra.
func unhide(sent, stored string) string {
	if sent == secret.Hidden {
		return stored
	}
	var now, before map[string]json.RawMessage
	if json.Unmarshal([]byte(sent), &now) != nil || json.Unmarshal([]byte(stored), &before) != nil {
		return sent
	}
	changed := false
	for k, v := range now {
		var s string
		if json.Unmarshal(v, &s) != nil || s != secret.Hidden {
			continue
		}
		if was, ok := before[k]; ok {
			now[k], changed = was, true
		}
	}
	if !changed {
		return sent
	}
	b, err := encode(now)
	if err != nil {
		return sent
	}
	return string(b)
}

func (a *API) deleteConnection(r *request) error {
	if err := a.dropConnection(r, r.path("connection_id")); err != nil {
		return err
	}
	return r.nothing()
}

func (a *API) dropConnection(r *request, id string) error {
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.DeleteConnection(id) })
	if errors.Is(err, store.ErrNotFound) {
		return notFound("The Connection with connection_id: `%s` was not found", id)
	}
	return err
}

// testConnection is off, as in Airflow by default: it would run hooks in the server.
func testConnection(*request) error {
	return refuse(http.StatusForbidden, "Testing connections is disabled.")
}

func (a *API) bulkConnections(r *request) error {
	put := func(c store.Connection) ([]string, error) { return connectionWarnings(c), a.putConnection(r, c) }
	return a.bulk(r, bulkKind{
		name: "connection", keyField: "connection_id",
		exists: func(id string) (bool, error) { return found(a.Store.Connection(r.ctx(), id)) },
		create: creating(connectionBody, put),
		update: updating(connectionBody, put, func(c store.Connection, f *fields, m mask) (store.Connection, error) {
			old, err := a.connection(r, c.ID)
			if err != nil {
				return old, err
			}
			return mergeConnection(old, c, f.given, m)
		}),
		drop: func(id string) error { return a.dropConnection(r, id) },
	})
}
