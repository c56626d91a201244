package store

const (
	assetColumns      = `s.asset_id, s.name, s.uri, s.asset_group, s.extra, s.created_at, s.updated_at`
	assetEventColumns = `v.asset_event_id, v.asset_id, s.name, s.uri, s.asset_group, s.extra, v.at, v.extra, v.dag_id, v.run_id, v.task_id, v.map_index`
	fromAssetEvents   = ` FROM asset_events v JOIN assets s ON s.asset_id = v.asset_id`
	queuedColumns     = `d.dag_id, s.asset_id, s.name, s.uri, q.at`
	fromAssetQueue    = ` FROM asset_queue q JOIN dags d ON d.dag_pk = q.dag_pk JOIN assets s ON s.asset_id = q.asset_id`
	// newAssetEvents are the events a DAG that is scheduled by assets has not consumed.
	newAssetEvents = ` AND v.asset_event_id > (SELECT c.consumed FROM asset_consumers c WHERE c.dag_pk = ?) ON CONFLICT DO NOTHING`
)

// addAssetStatements fills in the statements about assets.
func addAssetStatements(texts []string) {
	texts[putAsset] = `INSERT INTO assets (name, uri, asset_group, extra, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name, uri) DO UPDATE SET asset_group = excluded.asset_group, extra = excluded.extra,
		updated_at = excluded.updated_at WHERE assets.asset_group <> excluded.asset_group OR assets.extra <> excluded.extra`
	texts[getAssetID] = `SELECT asset_id FROM assets WHERE name = ? AND uri = ?`
	texts[getAsset] = `SELECT ` + assetColumns + ` FROM assets s WHERE s.asset_id = ?`
	texts[assetKeys] = `SELECT name, uri FROM assets ORDER BY asset_id`
	texts[putAssetAlias] = `INSERT INTO asset_aliases (name, asset_group) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`
	texts[getAssetAliasID] = `SELECT alias_id FROM asset_aliases WHERE name = ?`
	texts[getAssetAlias] = `SELECT alias_id, name, asset_group FROM asset_aliases WHERE alias_id = ?`
	texts[linkAssetAlias] = `INSERT INTO asset_alias_assets (alias_id, asset_id) VALUES (?, ?) ON CONFLICT DO NOTHING`
	texts[assetAliasLinks] = `SELECT l.name, s.name, s.uri FROM asset_alias_assets z JOIN asset_aliases l ON l.alias_id = z.alias_id
		JOIN assets s ON s.asset_id = z.asset_id ORDER BY l.alias_id, s.asset_id`
	texts[aliasesOfAsset] = `SELECT l.alias_id, l.name, l.asset_group FROM asset_alias_assets x
		JOIN asset_aliases l ON l.alias_id = x.alias_id WHERE x.asset_id = ? ORDER BY l.alias_id`
	texts[assetUsesOfDAG] = `SELECT kind, task_id, asset_id FROM asset_uses WHERE dag_pk = ?`
	texts[putAssetUse] = `INSERT INTO asset_uses (dag_pk, kind, task_id, asset_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (dag_pk, kind, task_id, asset_id) DO UPDATE SET updated_at = excluded.updated_at`
	texts[deleteAssetUse] = `DELETE FROM asset_uses WHERE dag_pk = ? AND kind = ? AND task_id = ? AND asset_id = ?`
	texts[usesOfAsset] = `SELECT u.kind, d.dag_id, u.task_id, u.created_at, u.updated_at FROM asset_uses u
		JOIN dags d ON d.dag_pk = u.dag_pk WHERE u.asset_id = ? AND d.removed = 0 ORDER BY d.dag_id, u.task_id`
	texts[lastEventOfAsset] = `SELECT asset_event_id, at FROM asset_events WHERE asset_id = ? ORDER BY asset_event_id DESC LIMIT 1`

	texts[insertAssetEvent] = `INSERT INTO asset_events (asset_id, at, extra, dag_id, run_id, task_id, map_index)
		VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING asset_event_id`
	texts[linkAssetEvent] = `INSERT INTO asset_event_aliases (alias_id, asset_event_id) VALUES (?, ?) ON CONFLICT DO NOTHING`
	texts[aliasesOfEvent] = `SELECT l.name FROM asset_event_aliases x JOIN asset_aliases l ON l.alias_id = x.alias_id
		WHERE x.asset_event_id = ? ORDER BY l.name`
	texts[runsOfEvent] = `SELECT ` + runColumns + fromRuns + ` JOIN run_asset_events x ON x.run_pk = r.run_pk
		WHERE x.asset_event_id = ? ORDER BY r.run_pk`
	texts[eventsOfRun] = `SELECT ` + assetEventColumns + fromAssetEvents + ` JOIN run_asset_events x
		ON x.asset_event_id = v.asset_event_id WHERE x.run_pk = ` + runKeyOf + ` ORDER BY v.asset_event_id`
	texts[newestAssetEvent] = `SELECT coalesce(max(asset_event_id), 0) FROM asset_events`

	texts[queueAsset] = `INSERT INTO asset_queue (dag_pk, asset_id, at) VALUES (?, ?, ?) ON CONFLICT (dag_pk, asset_id) DO NOTHING`
	texts[unqueueAsset] = `DELETE FROM asset_queue WHERE dag_pk = ? AND asset_id = ?`
	texts[unqueueAssets] = `DELETE FROM asset_queue WHERE dag_pk = ?`
	texts[queuedAssets] = `SELECT ` + queuedColumns + fromAssetQueue + ` ORDER BY d.dag_id, s.asset_id`
	texts[putConsumer] = `INSERT INTO asset_consumers (dag_pk, consumed) VALUES (?, ?) ON CONFLICT (dag_pk) DO NOTHING`
	texts[deleteConsumer] = `DELETE FROM asset_consumers WHERE dag_pk = ?`
	texts[moveConsumer] = `UPDATE asset_consumers SET consumed = ? WHERE dag_pk = ?`
	const consume = `INSERT INTO run_asset_events (run_pk, asset_event_id) SELECT ?, v.asset_event_id FROM `
	texts[consumeAsset] = consume + `asset_events v JOIN assets s ON s.asset_id = v.asset_id WHERE s.name = ? AND s.uri = ?` + newAssetEvents
	texts[consumeAssetByName] = consume + `asset_events v JOIN assets s ON s.asset_id = v.asset_id WHERE s.name = ?` + newAssetEvents
	texts[consumeAssetByURI] = consume + `asset_events v JOIN assets s ON s.asset_id = v.asset_id WHERE s.uri = ?` + newAssetEvents
	texts[consumeAlias] = consume + `asset_event_aliases v JOIN asset_aliases l ON l.alias_id = v.alias_id WHERE l.name = ?` + newAssetEvents
	texts[oldAssetEvents] = `SELECT count(*) FROM asset_events v WHERE v.at < ? AND ` + unneededAssetEvent
	texts[deleteOldAssetEvents] = `DELETE FROM asset_events WHERE asset_event_id IN (SELECT v.asset_event_id FROM asset_events v
		WHERE v.at < ? AND ` + unneededAssetEvent + ` LIMIT ?)`
}

// unneededAssetEvent is true of an event that no DAG waits to consume and no run there is has consumed.
const unneededAssetEvent = `v.asset_event_id <= coalesce((SELECT min(c.consumed) FROM asset_consumers c
	JOIN dags d ON d.dag_pk = c.dag_pk WHERE d.removed = 0), v.asset_event_id)
	AND NOT EXISTS (SELECT 1 FROM run_asset_events x WHERE x.asset_event_id = v.asset_event_id)`
