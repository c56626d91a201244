package v2_test

import (
	"context"
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// The commands about assets and backfills are noted like the others.

func (c *commands) AddAssetEvent(_ context.Context, _ string, k dag.AssetKey, extra json.RawMessage) (store.AssetEvent, error) {
	return store.AssetEvent{ID: 1, Key: k, Extra: extra, Source: run.Key{MapIndex: -1}}, c.note(k)
}

func (c *commands) UnqueueAssets(_ context.Context, _, dagID string, asset *dag.AssetKey, before *time.Time) error {
	return c.note([]any{dagID, asset, before})
}

func (c *commands) Materialize(_ context.Context, _ string, k dag.AssetKey, _ scheduler.TriggerRequest) (run.DAGRun, error) {
	return run.DAGRun{}, c.note(k)
}

func (c *commands) CreateBackfill(_ context.Context, _ string, r scheduler.BackfillRequest) (store.Backfill, error) {
	return store.Backfill{ID: 1}, c.note(r)
}

func (c *commands) PlanBackfill(_ context.Context, r scheduler.BackfillRequest) ([]time.Time, error) {
	return []time.Time{r.From}, c.note(r)
}

func (c *commands) PauseBackfill(_ context.Context, _ string, id int64, paused bool) error {
	return c.note([]any{id, paused})
}

func (c *commands) CancelBackfill(_ context.Context, _ string, id int64) error { return c.note(id) }
