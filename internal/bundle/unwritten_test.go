package bundle

import (
	"testing"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/store"
)

func TestAPublicationLeavesOutWhatTheStoreHoldsAlready(t *testing.T) {
	a, b, changed := &dag.DAG{ID: "a"}, &dag.DAG{ID: "b"}, &dag.DAG{ID: "a", Description: "other"}
	info := func(version string, dags ...*dag.DAG) (out []store.DAGInfo) {
		for _, d := range dags {
			out = append(out, store.DAGInfo{DAG: d, BundleVersion: version})
		}
		return out
	}
	w := &Watcher{tree: &tree{version: "1"}}
	for _, step := range []struct {
		name    string
		version string
		known   []*dag.DAG
		held    []store.DAGInfo
		want    []*dag.DAG
	}{
		{"the first of all", "1", []*dag.DAG{a}, nil, []*dag.DAG{a}},
		{"another comes", "1", []*dag.DAG{a, b}, info("1", a), []*dag.DAG{b}},
		{"nothing new", "1", []*dag.DAG{a, b}, info("1", a, b), nil},
		{"one was parsed again", "1", []*dag.DAG{changed, b}, info("1", a, b), []*dag.DAG{changed}},
		{"the folder has changed", "2", []*dag.DAG{changed, b}, info("1", a, b), []*dag.DAG{changed, b}},
		{"somebody has deleted one", "2", []*dag.DAG{changed, b}, info("2", b), []*dag.DAG{changed}},
	} {
		w.tree.version = step.version
		p := publication{dags: append([]*dag.DAG(nil), step.known...)}
		w.written = w.unwritten(&p, step.held)
		if len(p.dags) != len(step.want) {
			t.Errorf("%s: %d DAGs are written, want %d", step.name, len(p.dags), len(step.want))
			continue
		}
		for i := range p.dags {
			if p.dags[i] != step.want[i] {
				t.Errorf("%s: DAG %s is written, want %s", step.name, p.dags[i].ID, step.want[i].ID)
			}
		}
	}
}
