-- +goose Up

-- What an attempt holds of the machine's GPUs, and what it was seen to use of them; JSON, NULL for most.
ALTER TABLE attempts ADD COLUMN gpus TEXT;
ALTER TABLE attempts ADD COLUMN gpu_use TEXT;

-- +goose Down
SELECT 1;
