package v2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// bulkKind is what a bulk request does with one kind of entity.
type bulkKind struct {
	name, keyField string
	exists         func(key string) (bool, error)
	create         func(*fields) (warnings []string, err error)
	update         func(*fields, mask) (warnings []string, err error)
	drop           func(key string) error
}

// creating reads an entity and puts it there. put returns what is to be warned of.
func creating[T any](read func(*fields) (T, error), put func(T) ([]string, error)) func(*fields) ([]string, error) {
	return func(f *fields) ([]string, error) {
		given, err := read(f)
		if err != nil {
			return nil, err
		}
		return put(given)
	}
}

// updating reads an entity, merges it into the one there is, and puts the result there.
func updating[T any](read func(*fields) (T, error), put func(T) ([]string, error), merged func(given T, f *fields, m mask) (T, error)) func(*fields, mask) ([]string, error) {
	return func(f *fields, m mask) ([]string, error) {
		given, err := read(f)
		if err != nil {
			return nil, err
		}
		whole, err := merged(given, f, m)
		if err != nil {
			return nil, err
		}
		return put(whole)
	}
}

var bulkActions = []string{"create", "update", "delete"}

// bulk answers 200 whenever the body can be read; what became of each action stands inside.
func (a *API) bulk(r *request, kind bulkKind) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	body.must("actions")
	var actions []*fields
	for i, raw := range body.list("actions") {
		f, err := r.object([]any{"body", "actions", i}, raw)
		if err != nil {
			return err
		}
		actions = append(actions, f)
	}
	if err := body.done(); err != nil {
		return err
	}
	var out wire.BulkResult
	for _, f := range actions {
		name := enum(f, "action", bulkActions)
		if name == "" && len(r.faults) == 0 {
			f.must("action")
		}
		onExisting, onMissing := f.text("action_on_existence", 0), f.text("action_on_non_existence", 0)
		m, entities := mask(f.texts("update_mask")), f.list("entities")
		f.must("entities")
		if err := f.done(); err != nil {
			return err
		}
		outcome := outcomeOf(&out, name)
		for _, e := range entities {
			key, warnings, err := a.bulkOne(r, kind, name, text(onExisting), text(onMissing), m, e)
			switch {
			case err != nil:
				outcome.Errors = append(outcome.Errors, bulkError(err))
			case key != "":
				outcome.Success = append(outcome.Success, key)
				warn(outcome, warnings)
			}
		}
	}
	return r.ok(out)
}

// outcomeOf is the part of the result for one kind of action, made when it is first asked for.
func outcomeOf(r *wire.BulkResult, action string) *wire.BulkOutcome {
	at := map[string]**wire.BulkOutcome{"create": &r.Create, "update": &r.Update, "delete": &r.Delete}[action]
	if *at == nil {
		*at = &wire.BulkOutcome{Success: []string{}, Errors: []wire.BulkError{}}
	}
	return *at
}

// warn adds to what the answer says of the secrets that were written, as single writes do.
func warn(o *wire.BulkOutcome, warnings []string) {
	if o.Ostro != nil {
		warnings = append(o.Ostro.Warnings, warnings...)
	}
	o.Ostro = warned(warnings)
}

func bulkError(err error) wire.BulkError {
	var r *refusal
	if !errors.As(err, &r) {
		return wire.BulkError{Error: err.Error(), StatusCode: http.StatusInternalServerError}
	}
	s, ok := r.detail.(string)
	if !ok {
		b, _ := encode(r.detail) // details are plain values
		s = string(b)
	}
	return wire.BulkError{Error: s, StatusCode: r.status}
}

// bulkOne does one action on one entity; an empty key with no error means that it was skipped as asked.
func (a *API) bulkOne(r *request, kind bulkKind, action, onExisting, onMissing string, m mask, raw json.RawMessage) (key string, warnings []string, err error) {
	key, f, err := kind.entity(r, action, raw)
	if err != nil {
		return "", nil, err
	}
	there, err := kind.exists(key)
	if err != nil {
		return "", nil, fmt.Errorf("look for %s %s: %w", kind.name, key, err)
	}
	if action == "create" {
		if there && onExisting == "skip" {
			return "", nil, nil
		}
		if there && onExisting != "overwrite" {
			return "", nil, refuse(http.StatusConflict, "The %s with these %ss: {'%s'} already exist.", kind.name, kind.keyField, key)
		}
		warnings, err = kind.create(f)
		return key, warnings, err
	}
	if !there && onMissing == "skip" {
		return "", nil, nil
	}
	if !there {
		return "", nil, notFound("The %s with these %ss: {'%s'} were not found.", kind.name, kind.keyField, key)
	}
	if action == "update" {
		warnings, err = kind.update(f, m)
		return key, warnings, err
	}
	return key, nil, kind.drop(key)
}

// entity reads the key of an entity: an object's member, or for a deletion the key alone.
func (kind bulkKind) entity(r *request, action string, raw json.RawMessage) (string, *fields, error) {
	var key string
	if json.Unmarshal(raw, &key) == nil && action == "delete" {
		return key, nil, nil
	}
	inner := &request{Request: r.Request, w: r.w, params: r.params} // its faults are this entity's alone
	f, err := inner.object([]any{"body", "entities"}, raw)
	if err != nil {
		return "", nil, err
	}
	_ = json.Unmarshal(f.members[kind.keyField], &key) // a key of another type is reported by the reader of the entity
	return key, f, nil
}
