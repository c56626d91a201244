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

func (a *API) wireVariable(v store.Variable) wire.Variable {
	return wire.Variable{Key: v.Key, Value: redact(v.Key, v.Value), Description: opt(v.Description), IsEncrypted: a.Encrypted}
}

// writtenVariable is the answer to a write.
func (a *API) writtenVariable(v store.Variable) wire.Variable {
	out := a.wireVariable(v)
	out.Ostro = warned(variableWarnings(v))
	return out
}

// variableWarnings says which secrets of a variable logs will show.
func variableWarnings(v store.Variable) []string {
	warnings := shortMembers("variable "+v.Key, v.Value)
	if secret.IsSensitive(v.Key) && secret.TooShort(v.Value) {
		warnings = append(warnings, shortSecret("variable "+v.Key))
	}
	return warnings
}

func (a *API) variable(r *request, key string) (store.Variable, error) {
	v, err := a.Store.Variable(r.ctx(), key)
	if errors.Is(err, store.ErrNotFound) {
		return v, notFound("The Variable with key: `%s` was not found", key)
	}
	return v, err
}

func (a *API) listVariables(r *request) error {
	limit, offset := r.page()
	order, err := r.order("Variable", map[string]string{"key": "key", "id": "key", "_val": "", "description": "description", "is_encrypted": ""})
	if err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	all, err := a.Store.Variables(r.ctx(), "")
	if err != nil {
		return fmt.Errorf("list variables: %w", err)
	}
	if p := r.text("variable_key_pattern"); p != "" && p != everyDAG {
		all = slices.DeleteFunc(all, func(v store.Variable) bool { return !like(p, v.Key) })
	}
	sortBy(all, order, map[string]func(store.Variable) string{"key": func(v store.Variable) string { return v.Key },
		"description": func(v store.Variable) string { return v.Description }})
	out := wire.Variables{Variables: []wire.Variable{}, Total: len(all)}
	for _, v := range window(all, limit, offset) {
		out.Variables = append(out.Variables, a.wireVariable(v))
	}
	return r.ok(out)
}

// sortBy sorts by the last attribute first, so that the first one decides.
func sortBy[T any](list []T, order []string, by map[string]func(T) string) {
	for _, name := range slices.Backward(order) {
		name, desc := strings.CutPrefix(name, "-")
		get := by[name]
		if get == nil {
			continue
		}
		slices.SortStableFunc(list, func(x, y T) int {
			if desc {
				x, y = y, x
			}
			return strings.Compare(get(x), get(y))
		})
	}
}

func (a *API) getVariable(r *request) error {
	v, err := a.variable(r, r.path("variable_key"))
	if err != nil {
		return err
	}
	out := a.wireVariable(v)
	if show, err := a.reveal(r, "variable", v.Key); err != nil {
		return err
	} else if show {
		out.Value = v.Value
	}
	return r.ok(out)
}

// variableBody reads a variable. A value that is not a string is stored as its JSON text.
func variableBody(f *fields) (store.Variable, error) {
	v := store.Variable{Key: f.mustText("key", 250)}
	if v.Key == "" && f.given("key") {
		f.wrong("key", "string_too_short", "String should have at least 1 character", f.members["key"])
	}
	if f.must("value") {
		raw := f.members["value"]
		if json.Unmarshal(raw, &v.Value) != nil || string(raw) == "null" {
			v.Value = string(raw)
		}
	}
	v.Description = text(f.text("description", 0))
	if f.take("team_name") != nil {
		return v, noTeams()
	}
	return v, f.done()
}

func noTeams() error {
	return &refusal{status: http.StatusNotImplemented, detail: "The field team_name is not served: there are no teams"}
}

func (a *API) putVariable(r *request, v store.Variable) error {
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.PutVariable(v) })
	if err != nil {
		return fmt.Errorf("write variable %s: %w", v.Key, err)
	}
	return nil
}

func (a *API) createVariable(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	v, err := variableBody(body)
	if err != nil {
		return err
	}
	if _, err := a.Store.Variable(r.ctx(), v.Key); err == nil {
		return refuse(http.StatusConflict, "The Variable with key: `%s` already exists", v.Key)
	}
	if err := a.putVariable(r, v); err != nil {
		return err
	}
	return r.created(a.writtenVariable(v))
}

func (a *API) patchVariable(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	v, err := variableBody(body)
	if err != nil {
		return err
	}
	if v.Key != r.path("variable_key") {
		return badRequest("Invalid body, key from request body doesn't match uri parameter")
	}
	old, err := a.variable(r, v.Key)
	if err != nil {
		return err
	}
	merged, err := mergeVariable(old, v, r.mask())
	if err != nil {
		return err
	}
	if err := a.putVariable(r, merged); err != nil {
		return err
	}
	return r.ok(a.writtenVariable(merged))
}

// mergeVariable changes what the mask covers; a value that is hidden in answers and comes back hidden stays as it was.
func mergeVariable(old, v store.Variable, m mask) (store.Variable, error) {
	if err := m.only("Variable", "key", "value", "description"); err != nil {
		return old, err
	}
	if m.covers("value") && !(v.Value == secret.Hidden && secret.IsSensitive(old.Key)) {
		old.Value = v.Value
	}
	if m.covers("description") {
		old.Description = v.Description
	}
	return old, nil
}

func (a *API) deleteVariable(r *request) error {
	if err := a.dropVariable(r, r.path("variable_key")); err != nil {
		return err
	}
	return r.nothing()
}

func (a *API) dropVariable(r *request, key string) error {
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.DeleteVariable(key) })
	if errors.Is(err, store.ErrNotFound) {
		return notFound("The Variable with key: `%s` was not found", key)
	}
	return err
}

func (a *API) bulkVariables(r *request) error {
	put := func(v store.Variable) ([]string, error) { return variableWarnings(v), a.putVariable(r, v) }
	return a.bulk(r, bulkKind{
		name: "variable", keyField: "key",
		exists: func(key string) (bool, error) { return found(a.Store.Variable(r.ctx(), key)) },
		create: creating(variableBody, put),
		update: updating(variableBody, put, func(v store.Variable, _ *fields, m mask) (store.Variable, error) {
			old, err := a.variable(r, v.Key)
			if err != nil {
				return old, err
			}
			return mergeVariable(old, v, m)
		}),
		drop: func(key string) error { return a.dropVariable(r, key) },
	})
}

// found turns a read into whether the thing exists.
func found[T any](_ T, err error) (bool, error) {
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
