package bundle

import (
	"maps"
	"slices"
	"time"
)

// A Warning is what a DAG file makes of itself that is accepted and worth knowing: an argument without effect, an outdated
// spelling. Warnings are of the files as they are now and live in memory: every start reads all files.
type Warning struct {
	File    string
	DAGIDs  []string // the DAGs the file declares
	Message string
	At      time.Time // when it was first published
}

// Warnings lists the warnings of the last publication by file.
func (w *Watcher) Warnings() []Warning {
	if said := w.said.Load(); said != nil {
		return slices.Clone(*said)
	}
	return nil
}

// Republish has everything written once more, also when no file has changed: a DAG was deleted whose file is still there.
// It does not block.
func (w *Watcher) Republish() {
	w.again.Store(true)
	select {
	case w.names.wake <- struct{}{}:
	default:
	}
}

// keepWarnings takes the warnings of all files as they are now. A warning that was there before keeps its time.
func (w *Watcher) keepWarnings(now time.Time) {
	type identity struct{ file, message string }
	since := map[identity]time.Time{}
	for _, old := range w.Warnings() {
		since[identity{old.File, old.Message}] = old.At
	}
	said := []Warning{}
	for _, file := range slices.Sorted(maps.Keys(w.files)) {
		var ids []string
		for _, d := range w.files[file].dags {
			ids = append(ids, d.ID)
		}
		for _, text := range w.files[file].warnings {
			at, ok := since[identity{file, text}]
			if !ok {
				at = now
			}
			said = append(said, Warning{File: file, DAGIDs: ids, Message: text, At: at})
		}
	}
	w.said.Store(&said)
}
