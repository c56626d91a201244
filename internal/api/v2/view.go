package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// A view loads what answers are made of and remembers it for one request: a page of task instances names few DAG
// versions and few runs.
type view struct {
	api      *API
	ctx      context.Context
	versions map[versionKey]*version
	newest   map[string]*version
	runs     map[run.Key]run.DAGRun
	waiting  map[run.Key]map[run.Key]string
}

type versionKey struct {
	dagID  string
	number int
}

// version is one DAG version with what answers need of it.
type version struct {
	dag   *dag.DAG
	info  store.DAGVersionInfo
	index func(*dag.DAG) *dag.Index
}

func (a *API) view(ctx context.Context) *view {
	return &view{api: a, ctx: ctx, versions: map[versionKey]*version{}, newest: map[string]*version{}, runs: map[run.Key]run.DAGRun{},
		waiting: map[run.Key]map[run.Key]string{}}
}

// dagInfo returns a DAG by id, or Airflow's 404.
func (a *API) dagInfo(ctx context.Context, dagID string) (store.DAGInfo, error) {
	info, err := a.Store.DAG(ctx, dagID)
	if errors.Is(err, store.ErrNotFound) {
		return info, notFound("The Dag with ID: `%s` was not found%s", dagID, a.nearestDAG(ctx, dagID))
	}
	return info, err
}

// dagRun returns a run, or Airflow's 404.
func (a *API) dagRun(ctx context.Context, dagID, runID string) (run.DAGRun, error) {
	r, err := a.Store.Run(ctx, dagID, runID)
	if errors.Is(err, store.ErrNotFound) {
		return r, notFound("The DagRun with dag_id: `%s` and run_id: `%s` was not found", dagID, runID)
	}
	return r, err
}

func (v *view) run(dagID, runID string) (run.DAGRun, error) {
	k := run.Key{DAGID: dagID, RunID: runID}
	if r, ok := v.runs[k]; ok {
		return r, nil
	}
	r, err := v.api.dagRun(v.ctx, dagID, runID)
	if err == nil {
		v.runs[k] = r
	}
	return r, err
}

// version loads a DAG version; number 0 is the newest. A version that is gone (a DAG deleted beside its runs) is nil.
func (v *view) version(dagID string, number int) (*version, error) {
	k := versionKey{dagID, number}
	if got, ok := v.versions[k]; ok {
		return got, nil
	}
	d, info, err := v.api.Store.DAGVersion(v.ctx, dagID, number)
	if errors.Is(err, store.ErrNotFound) {
		v.versions[k] = nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load version %d of DAG %s: %w", number, dagID, err)
	}
	got := &version{dag: d, info: info, index: v.api.compiled.Index}
	v.versions[k] = got
	return got, nil
}

func opt(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (d *version) display(dagID string) string {
	if d == nil || d.dag.DisplayName == "" {
		return dagID
	}
	return d.dag.DisplayName
}

func (d *version) task(id string) *dag.Task {
	if d == nil {
		return nil
	}
	return d.index(d.dag).Task(id)
}

// priority is a task's weight by its weight rule.
func (d *version) priority(id string) int {
	index := d.index(d.dag)
	if at, known := index.Pos(id); known {
		return index.Weight(at)
	}
	return 1
}

// dagVersionSpace makes the ids of DAG versions, which Airflow wants to be UUIDs.
var dagVersionSpace = uuid.MustParse("5f0c7a52-6e0b-5c55-9d0e-6f7374726f31")

func wireVersion(d *dag.DAG, info store.DAGVersionInfo) wire.DagVersion {
	display := d.DisplayName
	if display == "" {
		display = d.ID
	}
	return wire.DagVersion{
		ID:            uuid.NewSHA1(dagVersionSpace, fmt.Appendf(nil, "%s/%d", d.ID, info.Number)).String(),
		VersionNumber: info.Number, DAGID: d.ID, BundleName: opt(info.Bundle), BundleVersion: opt(info.BundleVersion),
		CreatedAt: wire.At(info.CreatedAt), DagDisplayName: display,
	}
}

// fileloc is the path people know a DAG file by.
func (a *API) fileloc(file string) string {
	if a.DAGsRoot == "" {
		return path.Clean("/" + file)
	}
	return filepath.Join(a.DAGsRoot, filepath.FromSlash(file))
}

func seconds(start, end *time.Time) *float64 {
	if start == nil || end == nil {
		return nil
	}
	s := end.Sub(*start).Seconds()
	return &s
}

// rawOr returns raw, or otherwise when there is none.
func rawOr(raw json.RawMessage, otherwise string) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(otherwise)
	}
	return raw
}

// triggeredBy maps an actor to Airflow's enumeration and the user's name.
func triggeredBy(actor string, t run.Type) (kind, user *string) {
	scheme, name, _ := strings.Cut(actor, ":")
	k := ""
	switch {
	case t == run.TypeBackfill:
		k = "backfill"
	case t == run.TypeAssetTriggered:
		k = "asset"
	case scheme == "scheduler":
		return opt("timetable"), nil
	case scheme == "dag":
		return opt("operator"), nil
	case scheme == "cli":
		k = "cli"
	case scheme == "token", scheme == "user":
		k = "rest_api"
	case scheme == "test":
		k = "test"
	}
	return opt(k), opt(name)
}
