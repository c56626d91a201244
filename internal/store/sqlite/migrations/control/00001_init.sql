-- +goose Up

-- Times are integers: microseconds since 1970 in UTC. Truth values are 0 and 1. Surrogate keys never leave the store.
-- Conditions on states are chains of OR: SQLite builds a temporary b-tree for a long IN list each time a row is written.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE bundle_versions (
    bundle_version_pk INTEGER PRIMARY KEY,
    bundle            TEXT    NOT NULL,
    version           TEXT    NOT NULL,
    path              TEXT    NOT NULL,
    at                INTEGER NOT NULL,
    UNIQUE (bundle, version)
) STRICT;

CREATE TABLE dags (
    dag_pk         INTEGER PRIMARY KEY,
    dag_id         TEXT    NOT NULL UNIQUE,
    paused         INTEGER NOT NULL CHECK (paused IN (0, 1)),
    removed        INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1)),
    version        INTEGER NOT NULL, -- number of the newest version
    bundle         TEXT    NOT NULL,
    bundle_version TEXT    NOT NULL,
    file           TEXT    NOT NULL,
    last_parsed    INTEGER NOT NULL,
    last_slot      INTEGER,
    next_logical   INTEGER,
    next_start     INTEGER,
    next_end       INTEGER,
    next_run_after INTEGER
) STRICT;

CREATE TABLE dag_versions (
    dag_version_pk INTEGER PRIMARY KEY,
    dag_pk         INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    number         INTEGER NOT NULL CHECK (number > 0),
    hash           TEXT    NOT NULL,
    bundle         TEXT    NOT NULL,
    bundle_version TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    body           BLOB    NOT NULL, -- the DAG as JSON
    UNIQUE (dag_pk, number)
) STRICT;

CREATE TABLE dag_tags (
    dag_pk INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    tag    TEXT    NOT NULL,
    PRIMARY KEY (dag_pk, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE import_errors (
    import_error_pk INTEGER PRIMARY KEY,
    bundle          TEXT    NOT NULL,
    file            TEXT    NOT NULL,
    dag_id          TEXT    NOT NULL,
    line            INTEGER NOT NULL,
    message         TEXT    NOT NULL,
    traceback       TEXT    NOT NULL,
    at              INTEGER NOT NULL
) STRICT;
CREATE INDEX import_errors_file ON import_errors (bundle, file);

-- AUTOINCREMENT here and in task_instances: the writer remembers keys, and another process may delete what they stand
-- for (ostro db clean). A key that is never given twice can then only miss.
CREATE TABLE runs (
    run_pk              INTEGER PRIMARY KEY AUTOINCREMENT,
    dag_pk              INTEGER NOT NULL REFERENCES dags (dag_pk) ON DELETE CASCADE,
    run_id              TEXT    NOT NULL,
    type                TEXT    NOT NULL
        CHECK (
            type = 'scheduled' OR type = 'manual' OR type = 'backfill' OR type = 'asset_triggered'
            OR type = 'asset_materialization'),
    state               TEXT    NOT NULL
        CHECK (state = 'running' OR state = 'success' OR state = 'queued' OR state = 'failed'),
    logical_date        INTEGER,
    data_interval_start INTEGER,
    data_interval_end   INTEGER,
    run_after           INTEGER NOT NULL,
    queued_at           INTEGER NOT NULL,
    start_date          INTEGER,
    end_date            INTEGER,
    conf                TEXT    NOT NULL,
    note                TEXT    NOT NULL,
    triggered_by        TEXT    NOT NULL,
    dag_version         INTEGER NOT NULL,
    bundle_version      TEXT    NOT NULL,
    clear_number        INTEGER NOT NULL,
    backfill_id         INTEGER NOT NULL,
    version             INTEGER NOT NULL CHECK (version > 0),
    UNIQUE (dag_pk, run_id)
) STRICT;
CREATE UNIQUE INDEX runs_logical_date ON runs (dag_pk, logical_date) WHERE logical_date IS NOT NULL;
CREATE INDEX runs_dag_run_after ON runs (dag_pk, run_after);
CREATE INDEX runs_dag_start ON runs (dag_pk, start_date);
CREATE INDEX runs_dag_state ON runs (dag_pk, state);
CREATE INDEX runs_run_after ON runs (run_after);
CREATE INDEX runs_start ON runs (start_date);
CREATE INDEX runs_live ON runs (state) WHERE state = 'queued' OR state = 'running';
CREATE INDEX runs_ended ON runs (end_date) WHERE state = 'success' OR state = 'failed';

CREATE TABLE task_instances (
    ti_pk              INTEGER PRIMARY KEY AUTOINCREMENT,
    run_pk             INTEGER NOT NULL REFERENCES runs (run_pk) ON DELETE CASCADE,
    task_id            TEXT    NOT NULL,
    map_index          INTEGER NOT NULL CHECK (map_index >= -1),
    id                 TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (
        state = 'success' OR state = 'queued' OR state = 'running' OR state = 'scheduled' OR state = ''
        OR state = 'failed' OR state = 'skipped' OR state = 'upstream_failed' OR state = 'up_for_retry'
        OR state = 'up_for_reschedule' OR state = 'deferred' OR state = 'awaiting_input' OR state = 'restarting'
        OR state = 'removed'),
    try_number         INTEGER NOT NULL,
    max_tries          INTEGER NOT NULL,
    infra_retries      INTEGER NOT NULL,
    attempt_id         TEXT    NOT NULL,
    scheduled_at       INTEGER,
    queued_at          INTEGER,
    start_date         INTEGER,
    end_date           INTEGER,
    next_at            INTEGER,
    reason             TEXT    NOT NULL,
    note               TEXT    NOT NULL,
    rendered_map_index TEXT    NOT NULL,
    reschedule_count   INTEGER NOT NULL,
    next_method        TEXT    NOT NULL,
    next_kwargs        TEXT,
    hostname           TEXT    NOT NULL,
    pid                INTEGER NOT NULL,
    version            INTEGER NOT NULL CHECK (version > 0),
    UNIQUE (run_pk, task_id, map_index)
) STRICT;

CREATE TABLE attempts (
    attempt_pk       INTEGER PRIMARY KEY,
    attempt_id       TEXT    NOT NULL UNIQUE,
    ti_pk            INTEGER NOT NULL REFERENCES task_instances (ti_pk) ON DELETE CASCADE,
    try_number       INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (
        state = 'queued' OR state = 'running' OR state = 'success' OR state = 'failed' OR state = 'skipped'
        OR state = 'upstream_failed' OR state = 'up_for_retry' OR state = 'up_for_reschedule' OR state = 'deferred'
        OR state = 'awaiting_input' OR state = 'restarting' OR state = 'removed'),
    instance         TEXT    NOT NULL,
    executor         TEXT    NOT NULL,
    queued_at        INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER,
    pid              INTEGER NOT NULL,
    hostname         TEXT    NOT NULL,
    exit_code        INTEGER,
    signal           TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    infra            INTEGER NOT NULL CHECK (infra = 0 OR infra = 1),
    isolation        TEXT    NOT NULL,
    isolation_reason TEXT    NOT NULL,
    notices          TEXT, -- a JSON array of strings
    max_rss          INTEGER NOT NULL,
    cpu_us           INTEGER NOT NULL,
    rendered         TEXT,
    token_hash       BLOB,
    CHECK ((ended_at IS NULL) = (state = 'queued' OR state = 'running')),
    CHECK (ended_at IS NULL OR token_hash IS NULL)
) STRICT;
CREATE INDEX attempts_ti ON attempts (ti_pk, try_number);
CREATE INDEX attempts_open ON attempts (attempt_pk) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX attempts_token ON attempts (token_hash) WHERE token_hash IS NOT NULL;

CREATE TABLE xcoms (
    xcom_pk    INTEGER PRIMARY KEY,
    run_pk     INTEGER NOT NULL REFERENCES runs (run_pk) ON DELETE CASCADE,
    task_id    TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    map_index  INTEGER NOT NULL,
    value      BLOB, -- NULL when the value lies in the blob folder
    blob       TEXT,
    map_length INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    UNIQUE (run_pk, task_id, key, map_index),
    CHECK ((value IS NULL) <> (blob IS NULL))
) STRICT;
CREATE INDEX xcoms_blob ON xcoms (blob) WHERE blob IS NOT NULL;

CREATE TABLE callbacks (
    callback_pk INTEGER PRIMARY KEY,
    run_pk      INTEGER NOT NULL REFERENCES runs (run_pk) ON DELETE CASCADE,
    task_id     TEXT, -- NULL for a callback of the DAG
    map_index   INTEGER,
    attempt_id  TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    done_at     INTEGER,
    failure     TEXT    NOT NULL
) STRICT;
CREATE INDEX callbacks_owed ON callbacks (callback_pk) WHERE done_at IS NULL;
CREATE INDEX callbacks_run ON callbacks (run_pk);

CREATE TABLE variables (
    key         TEXT    NOT NULL PRIMARY KEY,
    value       BLOB    NOT NULL,
    sealed      INTEGER NOT NULL CHECK (sealed IN (0, 1)),
    description TEXT    NOT NULL
) STRICT;

CREATE TABLE connections (
    id          TEXT    NOT NULL PRIMARY KEY,
    type        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    schema_name TEXT    NOT NULL,
    login       TEXT    NOT NULL,
    port        INTEGER,
    password    BLOB    NOT NULL,
    extra       BLOB    NOT NULL,
    sealed      INTEGER NOT NULL CHECK (sealed IN (0, 1))
) STRICT;

CREATE TABLE pools (
    name             TEXT    NOT NULL PRIMARY KEY,
    description      TEXT    NOT NULL,
    slots            INTEGER NOT NULL CHECK (slots >= -1),
    include_deferred INTEGER NOT NULL CHECK (include_deferred IN (0, 1))
) STRICT;
INSERT INTO pools (name, description, slots, include_deferred) VALUES ('default_pool', 'Default pool', 128, 0);

-- The log. The writer numbers the lines itself, in commit order: cheaper than AUTOINCREMENT, which writes a page of its
-- own in each transaction, and the same on every engine. The newest line is never cleaned away, so that no number is
-- given twice.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    dag_id     TEXT    NOT NULL,
    run_id     TEXT    NOT NULL,
    task_id    TEXT    NOT NULL,
    map_index  INTEGER NOT NULL,
    attempt_id TEXT    NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    detail     TEXT,
    run_pk     INTEGER -- no foreign key: the line outlives its run
) STRICT;
CREATE INDEX events_run ON events (run_pk) WHERE run_pk IS NOT NULL;

-- +goose Down
SELECT 1;
