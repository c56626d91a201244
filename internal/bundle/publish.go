package bundle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// actor is who changes what this package changes.
const actor = "bundle"

// fileState is what is known about one file that may declare DAGs.
type fileState struct {
	file    string
	version string            // of the tree in which it was parsed
	deps    map[string]digest // the files its import read, as they were; nil until it has been parsed
	// mentions are, of a file with errors, the files it might import besides, as they were; touched is when it was written.
	mentions map[string]digest
	touched  time.Time
	// asked are the variables and connections its import read, at the time askedAt.
	asked   []asked
	askedAt uint64
	dags    []*dag.DAG // what its last parse declared and passed validation
	errs    []protocol.ImportError
	// warnings are what the parse accepted and would rather have otherwise.
	warnings []string
	// broken: the last parse failed for the file as a whole, so it says nothing about which DAGs exist.
	broken bool
	// published is what the store holds for the file, once known is true.
	published []protocol.ImportError
	known     bool
	// again: its parse failed for what may not be the file's fault; tries counts.
	again bool
	tries int
}

// load reads, once, which file every DAG and every import error in the store belongs to.
func (w *Watcher) load(ctx context.Context) error {
	if w.loaded {
		return nil
	}
	infos, _, err := w.store.DAGs(ctx, store.DAGFilter{})
	if err != nil {
		return fmt.Errorf("list published DAGs: %w", err)
	}
	errs, err := w.store.ImportErrors(ctx)
	if err != nil {
		return fmt.Errorf("list import errors: %w", err)
	}
	for _, i := range infos {
		if i.Bundle == w.cfg.Name {
			w.owners[i.DAG.ID] = i.DAG.File
		}
	}
	for _, e := range errs {
		if e.Bundle == w.cfg.Name && w.files[e.File] == nil {
			w.files[e.File] = &fileState{broken: true} // no deps: parsed again, or forgotten
		}
	}
	w.loaded = true
	return nil
}

// parseTries is how often a file is parsed whose parsing process is killed, or whose time is up.
const parseTries = 3

// toParseAgain says whether a file should be parsed again though nothing has changed.
func (s *fileState) toParseAgain() bool { return s.again && s.tries < parseTries }

// impatient says whether there is something to be parsed again soon.
func (w *Watcher) impatient() bool {
	for _, s := range w.files {
		if s.toParseAgain() {
			return true
		}
	}
	return false
}

// accept keeps the DAGs that can be scheduled and records, for the others, what is wrong with them.
func (s *fileState) accept(file string, dags []dag.DAG) {
	seen := map[string]bool{}
	for i := range dags {
		d := &dags[i]
		d.File = file
		err := validate(d)
		if err == nil && seen[d.ID] {
			err = fmt.Errorf("the DAG id %q is declared twice in %s", d.ID, file)
		}
		if err != nil {
			s.errs = append(s.errs, protocol.ImportError{File: file, DAGID: d.ID, Message: err.Error()})
			continue
		}
		seen[d.ID] = true
		s.dags = append(s.dags, d)
	}
}

// publication is what one transaction writes.
type publication struct {
	dags   []*dag.DAG
	remove []string
	errs   map[string][]protocol.ImportError // by file; empty clears
}

// decide says who owns which DAG and what follows. infos are the bundle's DAGs in the store.
func (w *Watcher) decide(infos []store.DAGInfo, gone []string) (publication, map[string]string) {
	p := publication{errs: map[string][]protocol.ImportError{}}
	claims := map[string][]string{} // dag id → files, sorted
	byFile := map[string]map[string]*dag.DAG{}
	files := slices.Sorted(maps.Keys(w.files))
	for _, f := range files {
		byFile[f] = map[string]*dag.DAG{}
		for _, d := range w.files[f].dags {
			claims[d.ID] = append(claims[d.ID], f)
			byFile[f][d.ID] = d
		}
		p.errs[f] = slices.Clone(w.files[f].errs)
	}
	owners := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(claims)) {
		claimants := claims[id]
		owner := w.owners[id]
		if !slices.Contains(claimants, owner) && !w.mayStillDeclare(owner, id) {
			owner = claimants[0]
		}
		owners[id] = owner
		if d := byFile[owner][id]; d != nil {
			p.dags = append(p.dags, d)
		}
		for _, f := range claimants {
			if f != owner {
				p.errs[f] = append(p.errs[f], protocol.ImportError{
					File: f, DAGID: id,
					Message: fmt.Sprintf("the DAG id %q is declared in both %s and %s; %s keeps it, rename the one in %s", id, owner, f, owner, f),
				})
			}
		}
	}
	for _, i := range infos {
		id := i.DAG.ID
		if owners[id] != "" {
			continue
		}
		if w.mayStillDeclare(i.DAG.File, id) {
			owners[id] = i.DAG.File // keeps its last good version
			continue
		}
		p.remove = append(p.remove, id)
	}
	maps.DeleteFunc(p.errs, func(f string, errs []protocol.ImportError) bool {
		s := w.files[f]
		return s.deps == nil || (s.known && slices.EqualFunc(s.published, errs, sameError))
	})
	for _, f := range gone {
		if w.files[f] == nil {
			p.errs[f] = nil
		}
	}
	return p, owners
}

func sameError(a, b protocol.ImportError) bool { return a == b }

// mayStillDeclare says that a file is there but cannot be asked: it is broken, or the DAG in it is.
func (w *Watcher) mayStillDeclare(file, id string) bool {
	s := w.files[file]
	if s == nil {
		return false
	}
	return s.broken || slices.ContainsFunc(s.errs, func(e protocol.ImportError) bool { return e.DAGID == id })
}

// write publishes in one transaction.
func (w *Watcher) write(ctx context.Context) error {
	t := w.tree
	all, _, err := w.store.DAGs(ctx, store.DAGFilter{})
	if err != nil {
		return err
	}
	infos := slices.DeleteFunc(all, func(i store.DAGInfo) bool { return i.Removed || i.Bundle != w.cfg.Name })
	p, owners := w.decide(infos, w.gone)
	put := w.unwritten(&p, infos)
	now := time.Now()
	err = w.store.Update(ctx, actor, now, func(tx *store.Tx) error {
		if err := tx.PutBundleVersion(store.BundleVersion{Bundle: w.cfg.Name, Version: t.version, Path: snapshotPath(w.cfg.Snapshots, t.version), At: now}); err != nil {
			return err
		}
		for _, d := range p.dags {
			if _, _, err := tx.PutDAG(d, w.cfg.Name, t.version, w.cfg.PausedAtCreation); err != nil {
				return fmt.Errorf("DAG %s: %w", d.ID, err)
			}
		}
		for _, f := range slices.Sorted(maps.Keys(p.errs)) {
			if err := tx.SetImportErrors(w.cfg.Name, f, p.errs[f]); err != nil {
				return fmt.Errorf("import errors of %s: %w", f, err)
			}
		}
		for _, id := range p.remove {
			if err := tx.RemoveDAG(id); err != nil {
				return fmt.Errorf("remove DAG %s: %w", id, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.owners, w.written, w.gone, w.due = owners, put, nil, false
	w.keepWarnings(now)
	for f, errs := range p.errs {
		if s := w.files[f]; s != nil {
			s.published, s.known = errs, true
		}
		for _, e := range errs {
			w.log.Warn("import error", "file", e.File, "dag", e.DAGID, "line", e.Line, "error", e.Message)
		}
	}
	return nil
}

// A writing is what the store was told last of a DAG.
type writing struct {
	dag     *dag.DAG
	version string // of the bundle
}

// unwritten leaves of the DAGs of a publication those that the store does not hold like this, and returns what it holds
// afterwards: while a large folder is parsed for the first time, there are many publications of one version.
func (w *Watcher) unwritten(p *publication, infos []store.DAGInfo) map[string]writing {
	held := map[string]bool{}
	for _, i := range infos {
		held[i.DAG.ID] = i.BundleVersion == w.tree.version
	}
	after := map[string]writing{}
	p.dags = slices.DeleteFunc(p.dags, func(d *dag.DAG) bool {
		now := writing{d, w.tree.version}
		after[d.ID] = now
		return held[d.ID] && w.written[d.ID] == now
	})
	return after
}

// collectGarbage removes old snapshots and says whether it could find out which those are. That it cannot is no reason to
// stop.
func (w *Watcher) collectGarbage(ctx context.Context) bool {
	infos, _, err := w.store.DAGs(ctx, store.DAGFilter{IncludeRemoved: true})
	if err != nil {
		return false
	}
	live, err := w.store.LiveRuns(ctx)
	if err != nil {
		return false
	}
	used := map[string]bool{w.tree.version: true}
	for _, p := range w.parses.all() {
		used[p.tree.version] = true
	}
	for _, i := range infos {
		used[i.BundleVersion] = true
	}
	for _, l := range live {
		used[l.Run.BundleVersion] = true
	}
	removed, err := collect(w.cfg.Snapshots, used, w.cfg.Keep, time.Now())
	if err != nil {
		w.log.Warn("old snapshots could not be removed", "error", err)
	}
	if len(removed) > 0 {
		w.log.Info("removed snapshots that nothing uses", "count", len(removed))
	}
	return err == nil
}
