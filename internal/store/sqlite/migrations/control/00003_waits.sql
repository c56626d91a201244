-- +goose Up

-- What deferred task instances wait for. A row lives as long as its instance is deferred.
CREATE TABLE waits (
    ti_pk      INTEGER PRIMARY KEY REFERENCES task_instances (ti_pk) ON DELETE CASCADE,
    wait_id    TEXT    NOT NULL UNIQUE, -- the id of the attempt that gave up its process
    classpath  TEXT    NOT NULL,
    kwargs     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    timeout_at INTEGER,
    alone      INTEGER NOT NULL CHECK (alone IN (0, 1))
) STRICT;

-- Triggerer processes that were started and whose end is not known. wait_id is set for one that runs a single trigger.
CREATE TABLE triggerers (
    attempt_id     TEXT    NOT NULL PRIMARY KEY,
    bundle_version TEXT    NOT NULL,
    wait_id        TEXT    NOT NULL,
    executor       TEXT    NOT NULL,
    instance       TEXT    NOT NULL,
    started_at     INTEGER NOT NULL
) STRICT;

-- +goose Down
SELECT 1;
