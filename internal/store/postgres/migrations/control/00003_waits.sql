-- +goose Up

-- What deferred task instances wait for. A row lives as long as its instance is deferred.
CREATE TABLE waits (
    ti_pk BIGINT PRIMARY KEY REFERENCES task_instances (ti_pk) ON DELETE CASCADE,
    wait_id TEXT COLLATE "C" NOT NULL UNIQUE, -- the id of the attempt that gave up its process
    classpath TEXT COLLATE "C" NOT NULL,
    kwargs TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    timeout_at BIGINT,
    alone BIGINT NOT NULL CHECK (alone IN (0, 1))
);

-- Triggerer processes that were started and whose end is not known. wait_id is set for one that runs a single trigger.
CREATE TABLE triggerers (
    attempt_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bundle_version TEXT COLLATE "C" NOT NULL,
    wait_id TEXT COLLATE "C" NOT NULL,
    executor TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL
);

-- +goose Down
SELECT 1;
