-- +goose Up

-- Questions to people and their answers, kept as long as the task instance that asked.
CREATE TABLE inputs (
    input_pk   INTEGER PRIMARY KEY,
    ti_pk      INTEGER NOT NULL REFERENCES task_instances (ti_pk) ON DELETE CASCADE,
    wait_id    TEXT    NOT NULL UNIQUE,
    try_number INTEGER NOT NULL,
    form       TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL,
    timeout_at INTEGER,
    answer     TEXT -- JSON; NULL while there is none
) STRICT;
CREATE INDEX inputs_ti ON inputs (ti_pk);
CREATE INDEX inputs_open ON inputs (input_pk) WHERE answer IS NULL;

-- +goose Down
SELECT 1;
