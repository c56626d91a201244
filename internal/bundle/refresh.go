package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"time"

	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// look reads the folder, has those files parsed that what has changed concerns, and publishes what needs no parsing.
func (w *Watcher) look(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.turned.Store(time.Now().UnixNano()) }()
	t, err := w.read(ctx)
	if err != nil {
		return err
	}
	if err := w.load(ctx); err != nil {
		return err
	}
	todo := w.stale(t)
	w.forget(t)
	again := w.again.Swap(false)
	w.due = w.due || again || len(w.gone) > 0 || w.tree == nil || w.tree.version != t.version
	w.tree = t
	w.begin(ctx, todo)
	if w.parses.busy() {
		w.parses.soon()
		return nil
	}
	return w.settle(ctx)
}

// gather takes the outcomes that are there and publishes them. The error tells of files that could not be parsed at all:
// such a file is stale at the next look, and until then says nothing about its DAGs.
func (w *Watcher) gather(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.turned.Store(time.Now().UnixNano()) }()
	var errs []error
	for _, p := range w.parses.take() {
		switch {
		case p.err != nil:
			errs = append(errs, p.err)
		case w.outdated(p.state, w.tree):
			w.begin(ctx, []string{p.file})
		default:
			old := w.files[p.file]
			p.state.published, p.state.known = old.published, old.known
			if p.state.again {
				p.state.tries = old.tries + 1
			}
			w.files[p.file], w.due = p.state, true
			w.parsed++
			if w.names.since(p.state.asked, p.state.askedAt) { // the look that the change brought found it being parsed
				w.names.stir()
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(append(errs, w.settle(ctx))...)
}

// settle publishes what is known, if something of it is new.
func (w *Watcher) settle(ctx context.Context) error {
	if w.due {
		if err := w.write(ctx); err != nil {
			return fmt.Errorf("publish bundle version %s: %w", w.tree.version, err)
		}
		w.log.Info("published the DAG folder", "version", w.tree.version, "files", len(w.files), "parsed", w.parsed, "dags", len(w.owners))
		w.parsed = 0
		w.changed()
		if w.collected != w.tree.version {
			if w.collectGarbage(ctx) {
				w.collected = w.tree.version
			}
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(w.files)), func(s *fileState) bool { return s.deps == nil }) {
		w.once.Do(func() { close(w.ready) })
	}
	return nil
}

// read scans the folder and takes a snapshot of it.
func (w *Watcher) read(ctx context.Context) (*tree, error) {
	for attempt := 0; ; attempt++ {
		t, err := scan(w.cfg.Dir, w.cfg.Home, w.cfg.Compat, w.hashes)
		if err != nil {
			return nil, fmt.Errorf("read the DAG folder %s: %w", w.cfg.Dir, err)
		}
		_, err = snapshot(ctx, t, w.cfg.Snapshots)
		if errors.Is(err, errMoved) && attempt < 10 {
			continue // somebody wrote while we copied: look again
		}
		if err != nil {
			return nil, fmt.Errorf("take a snapshot of %s: %w", w.cfg.Dir, err)
		}
		return t, nil
	}
}

// stale lists the files that must be parsed: new ones, those a file, a variable or a connection read by whose import has
// changed, all when data changed that a file may read while it is imported, and of those with errors the ones that were
// written again or may import a module that has come or changed. Those with errors come last.
func (w *Watcher) stale(t *tree) []string {
	dataChanged := w.tree != nil && !maps.Equal(dataFiles(w.tree), dataFiles(t))
	var out, faulty []string
	for _, f := range t.files {
		if !f.candidate {
			continue
		}
		s := w.files[f.Path]
		if p := w.parses.of(f.Path); p != nil {
			if p.tree.byPath[f.Path] == f.Digest && !dataChanged && w.sameMentions(f.Path, p.tree, t) {
				continue // it is being done
			}
		} else if s != nil && s.deps != nil && !dataChanged && !s.toParseAgain() && !w.names.since(s.asked, s.askedAt) &&
			!w.outdated(s, t) && (len(s.errs) == 0 || s.touched.Equal(f.mtime)) {
			continue
		}
		if s != nil && (s.broken || len(s.errs) > 0) {
			faulty = append(faulty, f.Path)
		} else {
			out = append(out, f.Path)
		}
	}
	return append(out, faulty...)
}

// outdated says that a file's import would find other code in a tree than it has found.
func (w *Watcher) outdated(s *fileState, t *tree) bool {
	for dep, d := range s.deps {
		if now, ok := t.byPath[dep]; !ok || now != d {
			return true
		}
	}
	return len(s.errs) > 0 && s.version != t.version && !maps.Equal(s.mentions, w.mentionsIn(t, s.file))
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

// forget drops the files that are gone, or no candidates any more, and notes that their errors are to be cleared.
func (w *Watcher) forget(t *tree) {
	have := map[string]bool{}
	for _, f := range t.candidates() {
		have[f] = true
	}
	for f := range w.files {
		if !have[f] {
			w.gone = append(w.gone, f)
			w.parses.forget(f)
			delete(w.files, f)
		}
	}
}

// begin has files parsed as they are now. Until the outcome is there, each keeps what it has published.
func (w *Watcher) begin(ctx context.Context, files []string) {
	for _, f := range files {
		pending := &fileState{broken: true}
		if old := w.files[f]; old != nil {
			pending.published, pending.known, pending.tries = old.published, old.known, old.tries
		}
		w.files[f] = pending
		w.parses.begin(ctx, w.tree, f)
	}
}

// parse has one file imported and judges what it declares. It runs beside everything else.
func (w *Watcher) parse(p *parsing) {
	shown, err := filepath.Abs(w.cfg.Dir)
	if err != nil {
		p.err = err
		return
	}
	t, file, askedAt := p.tree, p.file, w.names.now()
	parsed, err := w.parser.Parse(p.ctx, workerapi.Parse{
		Type: "Parse", Interpreter: w.cfg.Interpreter, Version: t.version,
		Describe: protocol.Describe{
			Type: "Describe", BundleName: w.cfg.Name, BundlePath: snapshotPath(w.cfg.Snapshots, t.version), File: file, ShownPath: shown,
			Compat: w.cfg.Compat, Defaults: w.cfg.Defaults,
		},
		TimeoutSeconds: w.cfg.ParseTimeout.Seconds(), MemoryBytes: w.cfg.ParseMemory,
	})
	if err != nil {
		p.err = fmt.Errorf("parse %s: %w", file, err)
		return
	}
	d := parsed.Described
	s := &fileState{
		file: file, version: t.version, deps: map[string]digest{file: t.byPath[file]}, errs: d.Errors, warnings: d.Warnings,
		asked: askedBy(d), askedAt: askedAt, touched: t.mtime(file), again: parsed.Again,
	}
	for _, m := range d.Modules {
		if sum, ok := t.byPath[m]; ok {
			s.deps[m] = sum
		}
	}
	s.blame(file)
	s.accept(file, d.DAGs)
	if len(s.errs) > 0 {
		s.mentions = w.mentionsIn(t, file)
	}
	for _, warning := range d.Warnings {
		w.log.Warn("DAG file", "file", file, "warning", warning)
	}
	p.state = s
}

// blame completes the errors of an import and draws the conclusions.
func (s *fileState) blame(file string) {
	for i := range s.errs {
		e := &s.errs[i]
		if e.File == "" {
			e.File = file
		}
		s.broken = s.broken || e.DAGID == ""
	}
}
