package v2

import (
	"fmt"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/store"
)

// Airflow's types of warnings; its clients know no others. What the import of a DAG file finds in its code is of the
// second one, the only one Airflow has for that.
const (
	warnPool   = "non-existent pool"
	warnImport = "runtime varying value"
	warnAssets = "asset conflict" // never given here
)

// listWarnings lists what the import of DAG files warned of, once for each DAG of the file, and tasks whose pool does not
// exist: they would wait for ever.
func (a *API) listWarnings(r *request) error {
	limit, offset := r.page()
	order, err := r.order("DagWarning", map[string]string{"dag_id": "dag_id", "warning_type": "warning_type", "message": "message", "timestamp": "timestamp"})
	if err != nil {
		return err
	}
	types := enums(r, "warning_type", []string{warnAssets, warnPool, warnImport})
	if err := r.bad(); err != nil {
		return err
	}
	infos, _, err := a.Store.DAGs(r.ctx(), store.DAGFilter{})
	if err != nil {
		return fmt.Errorf("list DAGs: %w", err)
	}
	all, err := a.poolWarnings(r, infos)
	if err != nil {
		return err
	}
	all = append(all, a.importWarnings(infos)...)
	all = slices.DeleteFunc(all, func(w wire.DAGWarning) bool {
		return r.has("dag_id") && w.DAGID != r.text("dag_id") || len(types) > 0 && !slices.Contains(types, w.Type)
	})
	if len(order) == 0 {
		order = []string{"dag_id"}
	}
	sortBy(all, order, map[string]func(wire.DAGWarning) string{"dag_id": func(w wire.DAGWarning) string { return w.DAGID },
		"warning_type": func(w wire.DAGWarning) string { return w.Type }, "message": func(w wire.DAGWarning) string { return w.Message },
		"timestamp": func(w wire.DAGWarning) string { return w.Timestamp.Std().UTC().Format("2006-01-02T15:04:05.000000") }})
	return r.ok(wire.DAGWarnings{DAGWarnings: append([]wire.DAGWarning{}, window(all, limit, offset)...), Total: len(all)})
}

// importWarnings gives a file's warnings to each of its DAGs. A file that declares none has nobody to warn.
func (a *API) importWarnings(infos []store.DAGInfo) []wire.DAGWarning {
	if a.Warnings == nil {
		return nil
	}
	names := map[string]string{}
	for _, i := range infos {
		names[i.DAG.ID] = display(i)
	}
	var out []wire.DAGWarning
	for _, w := range a.Warnings() {
		for _, id := range w.DAGIDs {
			if shown, ok := names[id]; ok {
				out = append(out, wire.DAGWarning{DAGID: id, DagDisplayName: shown, Type: warnImport, Message: w.Message, Timestamp: wire.At(w.At),
					Ostro: wire.WarningExtras{File: w.File, Kind: "import"}})
			}
		}
	}
	return out
}

func (a *API) poolWarnings(r *request, infos []store.DAGInfo) ([]wire.DAGWarning, error) {
	pools, err := a.Store.Pools(r.ctx())
	if err != nil {
		return nil, fmt.Errorf("list pools: %w", err)
	}
	known := map[string]bool{"": true, plan.DefaultPool: true}
	for _, p := range pools {
		known[p.Name] = true
	}
	var out []wire.DAGWarning
	for _, i := range infos {
		var missing []string
		for _, t := range i.DAG.Tasks {
			if !known[t.Pool] && !slices.Contains(missing, t.Pool) {
				missing = append(missing, t.Pool)
			}
		}
		if len(missing) == 0 {
			continue
		}
		slices.Sort(missing)
		out = append(out, wire.DAGWarning{DAGID: i.DAG.ID, DagDisplayName: display(i), Type: warnPool, Timestamp: wire.At(i.LastParsed),
			Message: fmt.Sprintf("Dag '%s' references non-existent pools: ['%s']", i.DAG.ID, strings.Join(missing, "', '")),
			Ostro:   wire.WarningExtras{File: i.DAG.File, Kind: "pool"}})
	}
	return out, nil
}
