package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Checkpoint copies committed pages from the write-ahead log into the file, without waiting for readers or the writer.
// It returns how many frames the log holds and how many of them are copied.
func (d *Database) Checkpoint(ctx context.Context) (frames, copied int, err error) {
	return d.checkpoint(ctx, "PASSIVE")
}

// RestartLog is a checkpoint that also makes the next writer begin the log anew. It holds up the writer: for a log that
// grows faster than passive checkpoints can follow.
func (d *Database) RestartLog(ctx context.Context) (frames, copied int, err error) {
	return d.checkpoint(ctx, "RESTART")
}

func (d *Database) checkpoint(ctx context.Context, mode string) (frames, copied int, err error) {
	var busy int
	if err := d.side.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &frames, &copied); err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	return frames, copied, nil
}

// Check runs SQLite's own checks and returns what they found, nil for a sound file.
func (d *Database) Check(ctx context.Context) (problems []string, err error) {
	rows, err := d.side.QueryContext(ctx, "PRAGMA integrity_check")
	if err != nil {
		return nil, fmt.Errorf("check integrity: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, fmt.Errorf("check integrity: %w", err)
		}
		if line != "ok" {
			problems = append(problems, line)
		}
	}
	if err := rows.Err(); err != nil {
		return problems, fmt.Errorf("check integrity: %w", err)
	}
	if err := rows.Close(); err != nil {
		return problems, fmt.Errorf("check integrity: %w", err)
	}
	dangling, err := d.foreignKeys(ctx)
	return append(problems, dangling...), err
}

func (d *Database) foreignKeys(ctx context.Context) (problems []string, err error) {
	rows, err := d.side.QueryContext(ctx, `SELECT "table", coalesce(rowid, 0), parent FROM pragma_foreign_key_check`)
	if err != nil {
		return nil, fmt.Errorf("check foreign keys: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var table, parent string
		var row int64
		if err := rows.Scan(&table, &row, &parent); err != nil {
			return nil, fmt.Errorf("check foreign keys: %w", err)
		}
		problems = append(problems, fmt.Sprintf("row %d of %s refers to a row of %s that does not exist", row, table, parent))
	}
	return problems, rows.Err()
}

// Backup writes a consistent copy to path while the database is in use, and returns when the copy is on the disk. The
// file must not exist.
func (d *Database) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write %s: %w", path, os.ErrExist)
	}
	tmp := path + ".partial"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an earlier partial copy: %w", err)
	}
	if _, err := d.side.ExecContext(ctx, "VACUUM INTO ?", tmp); err != nil {
		return errors.Join(fmt.Errorf("copy the database to %s: %w", path, err), removeIfThere(tmp))
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("finish the copy: %w", err)
	}
	return syncPath(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a partial copy: %w", err)
	}
	return nil
}

func syncPath(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
