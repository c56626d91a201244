-- +goose Up

-- Assets are known by name and URI. Their numbers, and those of events, aliases and backfills, are shown to people.
CREATE TABLE assets (
    asset_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    uri        TEXT    NOT NULL,
    asset_group TEXT   NOT NULL,
    extra      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (name, uri)
) STRICT;
CREATE INDEX assets_uri ON assets (uri);

CREATE TABLE asset_aliases (
    alias_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    asset_group TEXT NOT NULL
) STRICT;

-- The assets that events have come to by way of an alias.
CREATE TABLE asset_alias_assets (
    alias_id INTEGER NOT NULL REFERENCES asset_aliases (alias_id) ON DELETE CASCADE,
    asset_id INTEGER NOT NULL REFERENCES assets (asset_id) ON DELETE CASCADE,
    PRIMARY KEY (alias_id, asset_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_alias_assets_asset ON asset_alias_assets (asset_id);

-- Who names an asset: a DAG's schedule (task_id is empty), a task's inlets, a task's outlets.
CREATE TABLE asset_uses (
    dag_pk     INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    kind       TEXT    NOT NULL CHECK (kind = 'schedule' OR kind = 'inlet' OR kind = 'outlet'),
    task_id    TEXT    NOT NULL,
    asset_id   INTEGER NOT NULL REFERENCES assets (asset_id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (dag_pk, kind, task_id, asset_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_uses_asset ON asset_uses (asset_id);

-- The source is names, not keys: an event outlives the run it came from.
CREATE TABLE asset_events (
    asset_event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    asset_id       INTEGER NOT NULL REFERENCES assets (asset_id) ON DELETE CASCADE,
    at             INTEGER NOT NULL,
    extra          TEXT    NOT NULL,
    dag_id         TEXT    NOT NULL,
    run_id         TEXT    NOT NULL,
    task_id        TEXT    NOT NULL,
    map_index      INTEGER NOT NULL
) STRICT;
CREATE INDEX asset_events_asset ON asset_events (asset_id, asset_event_id);
CREATE INDEX asset_events_source ON asset_events (dag_id, run_id);
CREATE INDEX asset_events_at ON asset_events (at);

CREATE TABLE asset_event_aliases (
    alias_id       INTEGER NOT NULL REFERENCES asset_aliases (alias_id) ON DELETE CASCADE,
    asset_event_id INTEGER NOT NULL REFERENCES asset_events (asset_event_id) ON DELETE CASCADE,
    PRIMARY KEY (alias_id, asset_event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_event_aliases_event ON asset_event_aliases (asset_event_id);

-- A DAG that is scheduled by assets, and the newest event that its runs have consumed or that was there before it.
CREATE TABLE asset_consumers (
    dag_pk   INTEGER NOT NULL PRIMARY KEY REFERENCES dags (dag_pk) ON DELETE CASCADE,
    consumed INTEGER NOT NULL
) STRICT;

-- What has been updated since a DAG's last run by assets.
CREATE TABLE asset_queue (
    dag_pk   INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    asset_id INTEGER NOT NULL REFERENCES assets (asset_id) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    PRIMARY KEY (dag_pk, asset_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_queue_asset ON asset_queue (asset_id);

CREATE TABLE run_asset_events (
    run_pk         INTEGER NOT NULL REFERENCES runs (run_pk) ON DELETE CASCADE,
    asset_event_id INTEGER NOT NULL REFERENCES asset_events (asset_event_id) ON DELETE CASCADE,
    PRIMARY KEY (run_pk, asset_event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_asset_events_event ON run_asset_events (asset_event_id);

CREATE TABLE backfills (
    backfill_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    dag_pk          INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    from_date       INTEGER NOT NULL,
    to_date         INTEGER NOT NULL,
    conf            TEXT    NOT NULL,
    reprocess       TEXT    NOT NULL CHECK (reprocess = 'none' OR reprocess = 'failed' OR reprocess = 'completed'),
    max_active_runs INTEGER NOT NULL CHECK (max_active_runs > 0),
    reverse         INTEGER NOT NULL CHECK (reverse IN (0, 1)),
    paused          INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_by      TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    completed_at    INTEGER
) STRICT;
CREATE INDEX backfills_dag ON backfills (dag_pk, backfill_id);
CREATE INDEX backfills_open ON backfills (backfill_id) WHERE completed_at IS NULL;

-- The dates of a backfill in their order: the run of each, or why it got none.
CREATE TABLE backfill_runs (
    backfill_id  INTEGER NOT NULL REFERENCES backfills (backfill_id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL CHECK (ordinal > 0),
    logical_date INTEGER NOT NULL,
    run_pk       INTEGER REFERENCES runs (run_pk) ON DELETE SET NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (backfill_id, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX backfill_runs_run ON backfill_runs (run_pk) WHERE run_pk IS NOT NULL;

-- +goose Down
SELECT 1;
