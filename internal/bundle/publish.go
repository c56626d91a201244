package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// parseLimit is how many files are imported at once: parsing must leave room for tasks.
const parseLimit = 2

// slowParse is when an import counts as slow: others begin beside it, and are published before it is done.
const slowParse = time.Second

// actor is who changes what this package changes.
const actor = "bundle"

// fileState is what is known about one file that may declare DAGs.
type fileState struct {
	deps map[string]digest // the files its import read, as they were
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
	// killed: the process that parsed it was killed from outside, so that trying again makes sense; tries counts.
	killed bool
	tries  int
}

// publish has the files parsed that the change from w.tree to t concerns, and writes the outcome.
func (w *Watcher) publish(ctx context.Context, t *tree, snapshot string) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	todo := w.stale(t)
	gone := w.forget(t)
	again := w.again.Swap(false)
	if w.tree != nil && w.tree.version == t.version && len(todo) == 0 && len(gone) == 0 && !again {
		return nil
	}
	parseErr := w.parseAll(ctx, t, snapshot, todo, func() error {
		defer w.changed()
		return w.write(ctx, t, snapshot, gone)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := w.write(ctx, t, snapshot, gone); err != nil {
		w.again.Store(again)
		return fmt.Errorf("publish bundle version %s: %w", t.version, err)
	}
	w.log.Info("published the DAG folder", "version", t.version, "files", len(w.files), "parsed", len(todo), "dags", len(w.owners))
	w.changed()
	w.collectGarbage(ctx, t.version)
	return parseErr
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

// stale lists the files that must be parsed: new ones, those a file, a variable or a connection read by whose import has
// changed, all when data changed that a file may read while it is imported, and broken ones whenever anything changed.
func (w *Watcher) stale(t *tree) []string {
	dataChanged := w.tree != nil && !maps.Equal(dataFiles(w.tree), dataFiles(t))
	changed := w.tree == nil || w.tree.version != t.version
	var out []string
	for _, f := range t.candidates() {
		s := w.files[f]
		if s == nil || s.deps == nil || dataChanged || (changed && len(s.errs) > 0) || s.again() || w.names.since(s.asked, s.askedAt) {
			out = append(out, f)
			continue
		}
		for dep, d := range s.deps {
			if now, ok := t.byPath[dep]; !ok || now != d {
				out = append(out, f)
				break
			}
		}
	}
	return out
}

// parseTries is how often a file is parsed whose parsing process is killed.
const parseTries = 3

// again says whether a file should be parsed again though nothing has changed.
func (s *fileState) again() bool { return s.killed && s.tries < parseTries }

// impatient says whether there is something to be parsed again soon.
func (w *Watcher) impatient() bool {
	for _, s := range w.files {
		if s.again() {
			return true
		}
	}
	return false
}

// dataFiles are the files that are not Python: what they hold may decide what DAGs a file declares.
func dataFiles(t *tree) map[string]digest {
	out := map[string]digest{}
	for p, d := range t.byPath {
		switch path.Ext(p) {
		case ".py", ".pyi", ".md", ".rst":
		default:
			out[p] = d
		}
	}
	return out
}

// forget drops the files that are gone, or no candidates any more, and returns them.
func (w *Watcher) forget(t *tree) []string {
	have := map[string]bool{}
	for _, f := range t.candidates() {
		have[f] = true
	}
	var gone []string
	for f := range w.files {
		if !have[f] {
			gone = append(gone, f)
			delete(w.files, f)
		}
	}
	slices.Sort(gone)
	return gone
}

// parseAll parses files, a few at a time, and calls flush now and then while slow ones are still being parsed, so that one
// file that hangs does not keep the others from being published. A file that could not be parsed at all is stale again at
// the next refresh, and until then says nothing about its DAGs; the error says so.
func (w *Watcher) parseAll(ctx context.Context, t *tree, snapshot string, todo []string, flush func() error) error {
	type outcome struct {
		file  string
		state *fileState
		err   error
	}
	for _, f := range todo {
		pending := &fileState{broken: true}
		if old := w.files[f]; old != nil {
			pending.published, pending.known, pending.tries = old.published, old.known, old.tries
		}
		w.files[f] = pending
	}
	outcomes := make(chan outcome, len(todo))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		slots := make(chan struct{}, parseLimit)
		for _, f := range todo {
			slots <- struct{}{}
			release := sync.OnceFunc(func() { <-slots })
			slow := time.AfterFunc(slowParse, release) // whatever hangs makes room for others
			wg.Go(func() {
				defer release()
				defer slow.Stop()
				state, err := w.parse(ctx, t, snapshot, f)
				outcomes <- outcome{f, state, err}
			})
		}
	})
	var errs []error
	tick := time.NewTicker(slowParse)
	defer tick.Stop()
	fresh := false
	for left := len(todo); left > 0; {
		select {
		case o := <-outcomes:
			left--
			if o.err != nil {
				errs = append(errs, o.err)
				continue
			}
			fresh = true
			old := w.files[o.file]
			o.state.published, o.state.known = old.published, old.known
			if o.state.killed {
				o.state.tries = old.tries + 1
			}
			w.files[o.file] = o.state
		case <-tick.C:
			if fresh && ctx.Err() == nil {
				fresh = false
				if err := flush(); err != nil {
					w.log.Warn("what has been parsed so far could not be published yet", "error", err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

func (w *Watcher) parse(ctx context.Context, t *tree, snapshot, file string) (*fileState, error) {
	shown, err := filepath.Abs(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	askedAt := w.names.now()
	parsed, err := w.parser.Parse(ctx, workerapi.Parse{
		Type: "Parse", Interpreter: w.cfg.Interpreter, Version: t.version,
		Describe: protocol.Describe{
			Type: "Describe", BundleName: w.cfg.Name, BundlePath: snapshot, File: file, ShownPath: shown,
			Compat: w.cfg.Compat, Defaults: w.cfg.Defaults,
		},
		TimeoutSeconds: w.cfg.ParseTimeout.Seconds(), MemoryBytes: w.cfg.ParseMemory,
	})
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	d := parsed.Described
	s := &fileState{deps: map[string]digest{file: t.byPath[file]}, errs: d.Errors, warnings: d.Warnings, asked: askedBy(d), askedAt: askedAt}
	for _, m := range d.Modules {
		if sum, ok := t.byPath[m]; ok {
			s.deps[m] = sum
		}
	}
	for i := range s.errs {
		if s.errs[i].File == "" {
			s.errs[i].File = file
		}
		s.broken = s.broken || s.errs[i].DAGID == ""
		s.killed = s.killed || strings.Contains(s.errs[i].Message, "has ended (killed by")
	}
	s.accept(file, d.DAGs)
	for _, warning := range d.Warnings {
		w.log.Warn("DAG file", "file", file, "warning", warning)
	}
	return s, nil
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
		p.errs[f] = nil
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
func (w *Watcher) write(ctx context.Context, t *tree, snapshot string, gone []string) error {
	all, _, err := w.store.DAGs(ctx, store.DAGFilter{})
	if err != nil {
		return err
	}
	infos := slices.DeleteFunc(all, func(i store.DAGInfo) bool { return i.Removed || i.Bundle != w.cfg.Name })
	p, owners := w.decide(infos, gone)
	now := time.Now()
	err = w.store.Update(ctx, actor, now, func(tx *store.Tx) error {
		if err := tx.PutBundleVersion(store.BundleVersion{Bundle: w.cfg.Name, Version: t.version, Path: snapshot, At: now}); err != nil {
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
	w.owners = owners
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

// collectGarbage removes old snapshots. That it cannot is no reason to stop.
func (w *Watcher) collectGarbage(ctx context.Context, current string) {
	infos, _, err := w.store.DAGs(ctx, store.DAGFilter{IncludeRemoved: true})
	if err != nil {
		return
	}
	live, err := w.store.LiveRuns(ctx)
	if err != nil {
		return
	}
	used := map[string]bool{current: true}
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
}
