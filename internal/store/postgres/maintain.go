package postgres

import (
	"context"
	"errors"
	"fmt"
)

// Check asks PostgreSQL what it knows of itself: settings that make commits less than durable, indexes that are not valid,
// and gaps in the log. Damage inside a table is pg_amcheck's to find.
func (d *Database) Check(ctx context.Context) (problems []string, err error) {
	rows, err := d.readers.QueryContext(ctx, `
		SELECT 'the server runs with ' || name || ' = off: a crash can damage the database' FROM pg_settings
			WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
		UNION ALL
		SELECT 'index ' || c.relname || ' is not valid; make it again with REINDEX' FROM pg_index i
			JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND NOT i.indisvalid
		UNION ALL
		SELECT 'constraint ' || conname || ' is not validated' FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
			WHERE n.nspname = $1 AND NOT convalidated`, d.o.Schema.name())
	if err != nil {
		return nil, fmt.Errorf("check the database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, fmt.Errorf("check the database: %w", err)
		}
		problems = append(problems, line)
	}
	if err := rows.Err(); err != nil {
		return problems, fmt.Errorf("check the database: %w", err)
	}
	if d.o.Schema != Control {
		return problems, nil
	}
	var missing int64
	err = d.readers.QueryRowContext(ctx, `SELECT coalesce(max(seq) - min(seq) + 1 - count(*), 0) FROM events`).Scan(&missing)
	if err != nil {
		return problems, fmt.Errorf("check the event log: %w", err)
	}
	if missing != 0 {
		problems = append(problems, fmt.Sprintf("%d numbers are missing in the event log", missing))
	}
	return problems, nil
}

// BackupCommand is the command that makes a consistent copy while the database is in use.
func (d *Database) BackupCommand(path string) string {
	return fmt.Sprintf("pg_dump --format=custom --schema='ostro*' --file=%s '%s'", path, Shown(d.o.URL))
}
