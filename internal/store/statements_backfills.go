package store

const (
	backfillColumns = `b.backfill_id, d.dag_id, b.from_date, b.to_date, b.conf, b.reprocess, b.max_active_runs, b.reverse, b.paused,
	b.created_by, b.created_at, b.updated_at, b.completed_at`
	fromBackfills = ` FROM backfills b JOIN dags d ON d.dag_pk = b.dag_pk`
)

// addBackfillStatements fills in the statements about backfills.
func addBackfillStatements(texts []string) {
	texts[insertBackfill] = `INSERT INTO backfills (backfill_id, dag_pk, from_date, to_date, conf, reprocess, max_active_runs, reverse,
		paused, created_by, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	texts[insertBackfillRun] = `INSERT INTO backfill_runs (backfill_id, ordinal, logical_date, run_pk, reason) VALUES (?, ?, ?, ?, ?)`
	texts[pauseBackfill] = `UPDATE backfills SET paused = ?, updated_at = ? WHERE backfill_id = ? AND completed_at IS NULL`
	texts[completeBackfill] = `UPDATE backfills SET completed_at = ?, updated_at = ? WHERE backfill_id = ? AND completed_at IS NULL`
	texts[newestBackfill] = `SELECT coalesce(max(backfill_id), 0) FROM backfills`
	texts[getBackfill] = `SELECT ` + backfillColumns + fromBackfills + ` WHERE b.backfill_id = ?`
	texts[openBackfills] = `SELECT ` + backfillColumns + fromBackfills + ` WHERE b.completed_at IS NULL ORDER BY b.backfill_id`
	texts[backfillRuns] = `SELECT z.ordinal, z.logical_date, coalesce(r.run_id, ''), coalesce(r.state, ''), z.reason
		FROM backfill_runs z LEFT JOIN runs r ON r.run_pk = z.run_pk WHERE z.backfill_id = ? ORDER BY z.ordinal`
}
