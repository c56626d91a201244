package v2

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func (v *view) wireXCom(x store.XCom, r run.DAGRun) (wire.XCom, error) {
	d, err := v.describe(r, x.Key.TaskID)
	if err != nil {
		return wire.XCom{}, err
	}
	return wire.XCom{Key: x.Name, Timestamp: wire.At(x.At), LogicalDate: wire.AtPtr(r.LogicalDate), MapIndex: x.Key.MapIndex, TaskID: x.Key.TaskID,
		DAGID: x.Key.DAGID, RunID: x.Key.RunID, DagDisplayName: d.ver.display(x.Key.DAGID), TaskDisplayName: d.display, RunAfter: wire.At(r.RunAfter)}, nil
}

// listXComs lists the entries of one task instance, of all its map indexes when none is asked for, or with the wildcard
// for the task of all tasks of the run.
func (a *API) listXComs(r *request) error {
	if err := r.unserved("dag_display_name_pattern", "run_id_pattern", "logical_date_gte", "logical_date_gt", "logical_date_lte", "logical_date_lt",
		"run_after_gte", "run_after_gt", "run_after_lte", "run_after_lt", "map_index_filter"); err != nil {
		return err
	}
	limit, offset := r.page()
	index := r.intFrom("map_index", -2, -1)
	key, pattern, taskPattern := r.text("xcom_key"), r.text("xcom_key_pattern"), r.text("task_id_pattern")
	if err := r.bad(); err != nil {
		return err
	}
	k := keyOf(r, index)
	if k.DAGID == everyDAG || k.RunID == everyDAG {
		return &refusal{status: 501, detail: "XCom entries are listed for one DAG run at a time; ~ is served for the task only"}
	}
	one, err := a.dagRun(r.ctx(), k.DAGID, k.RunID)
	if err != nil {
		return err
	}
	f := store.TIFilter{DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID}
	if k.TaskID == everyDAG {
		f.TaskID = ""
	}
	tis, _, err := a.Store.TaskInstances(r.ctx(), f)
	if err != nil {
		return fmt.Errorf("list task instances: %w", err)
	}
	out, v := wire.XComs{Entries: []wire.XCom{}}, a.view(r.ctx())
	for _, ti := range tis {
		if index != -2 && ti.MapIndex != index || taskPattern != "" && !like(taskPattern, ti.TaskID) {
			continue
		}
		xs, err := a.Store.XComs(r.ctx(), ti.Key, false)
		if err != nil {
			return fmt.Errorf("list XComs of %s: %w", ti.TaskID, err)
		}
		for _, x := range xs {
			if key != "" && x.Name != key || pattern != "" && !like(pattern, x.Name) {
				continue
			}
			w, err := v.wireXCom(x, one)
			if err != nil {
				return err
			}
			out.Entries = append(out.Entries, w)
		}
	}
	out.Total = len(out.Entries)
	out.Entries = window(out.Entries, limit, offset)
	return r.ok(out)
}

func (a *API) xcom(r *request, k run.Key, key string) (store.XCom, error) {
	x, err := a.Store.XCom(r.ctx(), k, key)
	if errors.Is(err, store.ErrNotFound) {
		return x, notFound("XCom entry with key: `%s` not found", key)
	}
	return x, err
}

// getXCom answers with the value as JSON, in Airflow's serde form for what JSON has no type for; stringify gives
// Python's text of it. Deserialising runs a task's classes in the server, which Airflow refuses by default too.
func (a *API) getXCom(r *request) error {
	k := keyOf(r, r.mapIndex())
	deserialize, stringify := r.boolean("deserialize", false), r.boolean("stringify", false)
	if err := r.bad(); err != nil {
		return err
	}
	if deserialize {
		return badRequest("XCom deserialization is disabled in configuration.")
	}
	return a.answerXCom(r, k, r.path("xcom_key"), stringify, 200)
}

func (a *API) answerXCom(r *request, k run.Key, key string, stringify bool, status int) error {
	x, err := a.xcom(r, k, key)
	if err != nil {
		return err
	}
	one, err := a.dagRun(r.ctx(), k.DAGID, k.RunID)
	if err != nil {
		return err
	}
	w, err := a.view(r.ctx()).wireXCom(x, one)
	if err != nil {
		return err
	}
	value := rawOr(x.Value, "null")
	if stringify {
		s, err := pythonText(value)
		if err != nil {
			return fmt.Errorf("write XCom %s as text: %w", key, err)
		}
		value = quoted(s)
	}
	answer(r.w, status, wire.XComValue{XCom: w, Value: value})
	return nil
}

func (a *API) createXCom(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	key, index := body.mustText("key", 0), body.integer("map_index", -1)
	body.must("value")
	value := rawOr(body.members["value"], "null")
	if err := body.done(); err != nil {
		return err
	}
	k := keyOf(r, indexOr(index))
	if _, err := a.instance(r, k); err != nil {
		return err
	}
	if _, err := a.Store.XCom(r.ctx(), k, key); err == nil {
		return refuse(409, "The XCom with key: `%s` with mentioned task instance already exists.", key)
	}
	if err := a.putXCom(r, k, key, value); err != nil {
		return err
	}
	return a.answerXCom(r, k, key, false, 201)
}

func indexOr(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}

func (a *API) putXCom(r *request, k run.Key, key string, value json.RawMessage) error {
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.PutXCom(k, key, value, mapLength(value)) })
	if err != nil {
		return fmt.Errorf("write XCom %s of %s: %w", key, k.TaskID, err)
	}
	return nil
}

// mapLength is the number of elements mapped tasks downstream would unfold into; -1 for a scalar.
func mapLength(value json.RawMessage) int {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil && list != nil {
		return len(list)
	}
	var dict map[string]json.RawMessage
	if json.Unmarshal(value, &dict) == nil && dict != nil {
		return len(dict)
	}
	return -1
}

func (a *API) patchXCom(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	index := body.integer("map_index", -1)
	body.must("value")
	value := rawOr(body.members["value"], "null")
	if err := body.done(); err != nil {
		return err
	}
	k, key := keyOf(r, indexOr(index)), r.path("xcom_key")
	if _, err := a.xcom(r, k, key); err != nil {
		return err
	}
	if err := a.putXCom(r, k, key, value); err != nil {
		return err
	}
	return a.answerXCom(r, k, key, false, 200)
}

func (a *API) deleteXCom(r *request) error {
	k, key := keyOf(r, r.mapIndex()), r.path("xcom_key")
	if err := r.bad(); err != nil {
		return err
	}
	if _, err := a.xcom(r, k, key); err != nil {
		return err
	}
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error { return tx.DeleteXComs(k, key) })
	if err != nil {
		return fmt.Errorf("delete XCom %s of %s: %w", key, k.TaskID, err)
	}
	return r.nothing()
}
