package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// An asset's watchers are triggers that no task waits for. They run, in the triggerers, while a DAG declares them and a DAG
// that is not paused is scheduled by the asset, as in Airflow; each of their events updates the asset. Nothing is stored of
// them: which there are follows from the DAGs, and the name of each from what it is made of, so that a server that starts
// again finds them in the triggerer that runs them.

// watcherSpace is the name space of the ids of watchers.
var watcherSpace = uuid.MustParse("5f0c2a54-7d0b-4b6e-9a49-0d0f6f5b7d11")

// watcherID names a trigger by its class and its arguments: assets that are watched by the same one share it, as in Airflow.
func watcherID(x dag.AssetWatcher) string {
	return uuid.NewSHA1(watcherSpace, append([]byte(x.Classpath+"\n"), x.Kwargs...)).String()
}

// wantedWatchers are the triggers that are to run now, by id.
func (s *Scheduler) wantedWatchers(st *state) map[string]*wait {
	wanted := map[string]*wait{}
	if s.cfg.ByHand {
		return wanted
	}
	for _, id := range slices.Sorted(maps.Keys(st.dags)) {
		d := st.dags[id]
		if d.info.Removed {
			continue
		}
		for ref := range d.info.DAG.AssetRefs() {
			k, complete := ref.Key()
			if !complete || len(ref.Watchers) == 0 || !st.startsRuns(k) {
				continue
			}
			for _, x := range ref.Watchers {
				w := wanted[watcherID(x)]
				if w == nil {
					w = &wait{Wait: run.Wait{Key: run.Key{DAGID: id, MapIndex: -1}, ID: watcherID(x), Classpath: x.Classpath, Kwargs: x.Kwargs},
						file: d.info.DAG.File}
					w.group = st.watcherGroup(d.info.BundleVersion, w.ID)
					wanted[w.ID] = w
				}
				if !slices.Contains(w.watched, k) {
					w.watched = append(w.watched, k)
				}
			}
		}
	}
	return wanted
}

// startsRuns tells whether a DAG that is not paused is scheduled by an asset.
func (st *state) startsRuns(k dag.AssetKey) bool {
	for _, id := range st.assets.consumers {
		d := st.dags[id]
		if d == nil || d.info.Paused {
			continue
		}
		for ref := range d.info.DAG.Schedule.Assets.Refs() {
			if ref.Matches(k) {
				return true
			}
		}
	}
	return false
}

// watcherGroup is who runs a watcher: the triggerer of the version of the bundle, or one of its own if it has been set apart.
func (st *state) watcherGroup(version, id string) *triggerGroup {
	if g := st.groups[groupKey{version, id}]; g != nil {
		return g
	}
	return st.group(groupKey{version: version})
}

// setWatchers has the triggerers run the watchers that the DAGs ask for now, and no others.
func (s *Scheduler) setWatchers(st *state) {
	wanted := s.wantedWatchers(st)
	for id, w := range st.watchers {
		if next := wanted[id]; next == nil || next.group != w.group {
			w.group.leave(w, false)
			delete(st.watchers, id)
		}
	}
	for id, next := range wanted {
		if w := st.watchers[id]; w != nil {
			w.Key, w.file, w.watched = next.Key, next.file, next.watched
			continue
		}
		next.Alone = next.group.key.alone != ""
		st.watchers[id] = next
		next.group.enter(next)
	}
	if len(st.watchers) > 0 {
		s.kick() // a triggerer may have to be started
	}
}

// watcherReported folds what a triggerer says of a watcher. It may be one that has just handed it over to the next: what it
// has taken from its source must not be lost.
func (s *Scheduler) watcherReported(b *batch, w *wait, r TriggerReport) error {
	switch {
	case r.Blocks != "":
		s.log.Warn("a watcher's trigger blocks its triggerer", "asset", w.watched[0].Name, "trigger", w.Classpath, "what", r.Blocks)
		if r.Alone && !w.Alone {
			w.group.leave(w, false)
			w.Alone, w.group = true, s.st.group(groupKey{w.group.key.version, w.ID})
			w.group.enter(w)
		}
	case r.Error != "":
		s.log.Warn("a watcher's trigger has failed and is started again", "asset", w.watched[0].Name, "trigger", w.Classpath, "reason", r.Error)
	default:
		extra, err := json.Marshal(struct {
			FromTrigger bool            `json:"from_trigger"`
			Payload     json.RawMessage `json:"payload"` // null: nothing was given
		}{true, r.Payload})
		if err != nil {
			return fmt.Errorf("what a trigger fired is no JSON (%w): %w", err, ErrInvalid)
		}
		for _, k := range w.watched {
			s.addAssetEvent(b, &store.AssetEvent{Key: k, Extra: extra, Source: run.Key{MapIndex: -1}})
		}
	}
	return nil
}

// watcherOrder is what a triggerer is told of a watcher.
func (w *wait) watcherOrder() protocol.TriggerOrder {
	return protocol.TriggerOrder{ID: w.ID, DAGID: w.DAGID, MapIndex: -1, Classpath: w.Classpath, Kwargs: w.Kwargs, File: w.file,
		Asset: w.watched[0].Name}
}
