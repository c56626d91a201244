package store

// statement is the number of a prepared statement.
type statement int

// The statements of the control database. They are SQL that every engine understands, with ? for parameters; what
// only one engine can do is in its own package. They never ask for the time.
const (
	getRunKey statement = iota
	insertRun
	updateRun
	deleteRun
	liveRuns
	liveInstances
	getRun
	countLiveRuns
	runStats
	latestRuns

	insertTask
	updateTask
	moveTask
	getTaskKey
	getTask
	taskCounts

	insertAttempt
	startAttempt
	endAttempt
	moveOpenAttempts
	setAttemptGPUs
	setAttemptGPUUse
	getAttemptState
	countAtWork
	getAttempt
	getAttemptByToken
	openAttempts
	attemptsOfTask
	attemptsOfRun

	putXCom
	deleteXCom
	deleteXComs
	getXCom
	xcomsOfInstance
	xcomsOfTask
	mappedXCom
	countMappedXComs
	blobInUse
	blobsInUse

	oweCallback
	callbackDone
	callbackTried
	getCallback
	owedCallbacks

	putWait
	deleteWait
	setWaitAlone
	moveWaits
	waits
	insertInput
	answerInput
	moveOpenInputs
	openInputs
	allInputs
	inputsOfRun
	insertTriggerer
	deleteTriggerer
	triggerers

	putBundleVersion
	getBundleVersion
	bundleVersions
	getDAGKey
	insertDAG
	updateDAG
	insertDAGVersion
	moveDAGVersion
	getNewestHash
	deleteTags
	insertTag
	removeDAG
	deleteDAG
	setPaused
	setNextRun
	getDAG
	getDAGVersion
	getDAGBody
	dagVersions
	deleteImportErrors
	insertImportError
	importErrorsOfFile
	importErrors

	putVariable
	deleteVariable
	getVariable
	variables
	variablesLike
	putConnection
	deleteConnection
	getConnection
	connections
	putPool
	deletePool
	pools

	putAsset
	getAssetID
	getAsset
	assetKeys
	putAssetAlias
	getAssetAliasID
	getAssetAlias
	linkAssetAlias
	assetAliasLinks
	aliasesOfAsset
	assetUsesOfDAG
	putAssetUse
	deleteAssetUse
	usesOfAsset
	lastEventOfAsset
	insertAssetEvent
	linkAssetEvent
	aliasesOfEvent
	runsOfEvent
	eventsOfRun
	newestAssetEvent
	queueAsset
	unqueueAsset
	unqueueAssets
	queuedAssets
	putConsumer
	deleteConsumer
	moveConsumer
	consumeAsset
	consumeAssetByName
	consumeAssetByURI
	consumeAlias
	oldAssetEvents
	deleteOldAssetEvents

	insertBackfill
	insertBackfillRun
	pauseBackfill
	completeBackfill
	newestBackfill
	getBackfill
	openBackfills
	backfillRuns

	insertEvent
	eventsAfter
	newestEvent
	oldestEvent
	eventTime
	deleteEvents

	putMeta
	getMeta
	oldRuns
	countOldRuns
	deleteRunByKey
)

const (
	fromRuns     = ` FROM runs r JOIN dags d ON d.dag_pk = r.dag_pk`
	fromTasks    = ` FROM task_instances t JOIN runs r ON r.run_pk = t.run_pk JOIN dags d ON d.dag_pk = r.dag_pk`
	fromAttempts = ` FROM attempts a JOIN task_instances t ON t.ti_pk = a.ti_pk JOIN runs r ON r.run_pk = t.run_pk
		JOIN dags d ON d.dag_pk = r.dag_pk`
	fromXComs     = ` FROM xcoms x JOIN runs r ON r.run_pk = x.run_pk JOIN dags d ON d.dag_pk = r.dag_pk`
	fromCallbacks = ` FROM callbacks c JOIN runs r ON r.run_pk = c.run_pk JOIN dags d ON d.dag_pk = r.dag_pk`
	inputColumns  = `d.dag_id, r.run_id, t.task_id, t.map_index, i.wait_id, i.try_number, i.form, i.created_at, i.timeout_at, i.answer`
	fromInputs    = ` FROM inputs i JOIN task_instances t ON t.ti_pk = i.ti_pk JOIN runs r ON r.run_pk = t.run_pk
		JOIN dags d ON d.dag_pk = r.dag_pk`
	fromWaits = ` FROM waits w JOIN task_instances t ON t.ti_pk = w.ti_pk JOIN runs r ON r.run_pk = t.run_pk
		JOIN dags d ON d.dag_pk = r.dag_pk`
	fromVersions = ` FROM dag_versions v JOIN dags d ON d.dag_pk = v.dag_pk`

	isLive     = `(r.state = 'queued' OR r.state = 'running')`
	isEnded    = `(r.state = 'success' OR r.state = 'failed')`
	isInstance = ` WHERE d.dag_id = ? AND r.run_id = ? AND t.task_id = ? AND t.map_index = ?`
)

func controlStatements() []string {
	texts := []string{
		getRunKey: `SELECT r.run_pk` + fromRuns + ` WHERE d.dag_id = ? AND r.run_id = ?`,
		insertRun: `INSERT INTO runs (dag_pk, run_id, type, state, logical_date, data_interval_start, data_interval_end,
			run_after, queued_at, start_date, end_date, conf, note, triggered_by, dag_version, bundle_version, clear_number,
			backfill_id, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING run_pk`,
		updateRun: `UPDATE runs SET type = ?, state = ?, logical_date = ?, data_interval_start = ?, data_interval_end = ?, run_after = ?,
			queued_at = ?, start_date = ?, end_date = ?, conf = ?, note = ?, triggered_by = ?, dag_version = ?,
			bundle_version = ?, clear_number = ?, backfill_id = ?, version = version + 1 WHERE run_pk = ? AND version = ?`,
		deleteRun: `DELETE FROM runs WHERE run_pk = ? AND (state = 'success' OR state = 'failed')`,
		liveRuns:  `SELECT r.run_pk, ` + runColumns + fromRuns + ` WHERE ` + isLive + ` ORDER BY r.run_pk`,
		// CROSS JOIN: the few live runs come first, whatever the planner thinks of the order.
		liveInstances: `SELECT t.run_pk, ` + taskColumns + ` FROM runs r CROSS JOIN dags d CROSS JOIN task_instances t
			WHERE ` + isLive + ` AND d.dag_pk = r.dag_pk AND t.run_pk = r.run_pk ORDER BY r.run_pk, t.ti_pk`,
		getRun:        `SELECT ` + runColumns + fromRuns + ` WHERE d.dag_id = ? AND r.run_id = ?`,
		countLiveRuns: `SELECT count(*) FROM runs r WHERE r.dag_pk = ? AND ` + isLive,
		runStats:      `SELECT r.state, count(*)` + fromRuns + ` WHERE d.dag_id = ? GROUP BY r.state`,
		latestRuns: `SELECT ` + runColumns + ` FROM dags d JOIN runs r ON r.run_pk = (SELECT l.run_pk FROM runs l
			WHERE l.dag_pk = d.dag_pk ORDER BY l.run_after DESC, l.run_pk DESC LIMIT 1)`,

		insertTask: `INSERT INTO task_instances (run_pk, task_id, map_index, id, state, try_number, max_tries, infra_retries,
			attempt_id, scheduled_at, queued_at, start_date, end_date, next_at, reason, note, rendered_map_index,
			reschedule_count, next_method, next_kwargs, hostname, pid, version)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`,
		updateTask: `UPDATE task_instances SET map_index = ?, id = ?, state = ?, try_number = ?, max_tries = ?, infra_retries = ?,
			attempt_id = ?, scheduled_at = ?, queued_at = ?, start_date = ?, end_date = ?, next_at = ?, reason = ?, note = ?,
			rendered_map_index = ?, reschedule_count = ?, next_method = ?, next_kwargs = ?, hostname = ?, pid = ?,
			version = version + 1 WHERE ti_pk = ? AND version = ?`,
		moveTask: `UPDATE task_instances SET state = ?, try_number = ?, attempt_id = ?, scheduled_at = ?, queued_at = ?,
			start_date = ?, end_date = ?, reason = ?, hostname = ?, pid = ?, version = version + 1 WHERE ti_pk = ? AND version = ?`,
		getTaskKey: `SELECT ti_pk FROM task_instances WHERE run_pk = ? AND task_id = ? AND map_index = ?`,
		getTask:    `SELECT ` + taskColumns + fromTasks + isInstance,
		taskCounts: `SELECT t.state, count(*)` + fromTasks + ` WHERE d.dag_id = ? AND r.run_id = ? GROUP BY t.state`,

		insertAttempt: `INSERT INTO attempts (ti_pk, attempt_id, try_number, state, instance, executor, queued_at, pid, hostname,
			signal, reason, infra, isolation, isolation_reason, max_rss, cpu_us, token_hash)
			VALUES (?, ?, ?, 'queued', ?, ?, ?, 0, '', '', '', 0, '', '', 0, 0, ?)`,
		startAttempt: `UPDATE attempts SET state = 'running', started_at = ?, pid = ?, hostname = ?, isolation = ?,
			isolation_reason = ? WHERE attempt_id = ? AND state = 'queued'`,
		endAttempt: `UPDATE attempts SET state = ?, started_at = coalesce(?, started_at), ended_at = ?,
			pid = coalesce(nullif(?, 0), pid), hostname = coalesce(nullif(?, ''), hostname), exit_code = ?, signal = ?, reason = ?,
			infra = ?, isolation = coalesce(nullif(?, ''), isolation),
			isolation_reason = coalesce(nullif(?, ''), isolation_reason), notices = ?, max_rss = ?, cpu_us = ?, rendered = ?,
			token_hash = NULL WHERE attempt_id = ? AND ended_at IS NULL`,
		moveOpenAttempts: `UPDATE attempts SET queued_at = queued_at + ?, started_at = started_at + ? WHERE ended_at IS NULL`,
		setAttemptGPUs:   `UPDATE attempts SET gpus = ? WHERE attempt_id = ?`,
		setAttemptGPUUse: `UPDATE attempts SET gpu_use = ? WHERE attempt_id = ?`,
		getAttemptState: `SELECT a.state, d.dag_id, r.run_id, t.task_id, t.map_index, r.run_pk` + fromAttempts +
			` WHERE a.attempt_id = ?`,
		// What a worker may be at: open attempts, and callbacks that were begun.
		countAtWork: `SELECT (SELECT count(*) FROM attempts WHERE ended_at IS NULL)
			+ (SELECT count(*) FROM callbacks WHERE done_at IS NULL AND tries > 0)`,
		getAttempt:        `SELECT ` + attemptColumns + fromAttempts + ` WHERE a.attempt_id = ?`,
		getAttemptByToken: `SELECT ` + attemptColumns + fromAttempts + ` WHERE a.token_hash = ?`,
		openAttempts:      `SELECT ` + attemptColumns + fromAttempts + ` WHERE a.ended_at IS NULL ORDER BY a.attempt_pk`,
		attemptsOfTask:    `SELECT ` + attemptColumns + fromAttempts + isInstance + ` ORDER BY a.try_number, a.attempt_pk`,
		attemptsOfRun: `SELECT ` + attemptColumns + fromAttempts + ` WHERE d.dag_id = ? AND r.run_id = ?
			ORDER BY t.ti_pk, a.try_number, a.attempt_pk`,

		putXCom: `INSERT INTO xcoms (run_pk, task_id, key, map_index, value, blob, map_length, size, at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_pk, task_id, key, map_index) DO UPDATE SET
			value = excluded.value, blob = excluded.blob, map_length = excluded.map_length, size = excluded.size,
			at = excluded.at`,
		deleteXCom:  `DELETE FROM xcoms WHERE run_pk = ? AND task_id = ? AND key = ? AND map_index = ?`,
		deleteXComs: `DELETE FROM xcoms WHERE run_pk = ? AND task_id = ? AND map_index = ?`,
		getXCom: `SELECT ` + xcomColumns + fromXComs +
			` WHERE d.dag_id = ? AND r.run_id = ? AND x.task_id = ? AND x.key = ? AND x.map_index = ?`,
		xcomsOfInstance: `SELECT ` + xcomColumns + fromXComs +
			` WHERE d.dag_id = ? AND r.run_id = ? AND x.task_id = ? AND x.map_index = ? ORDER BY x.key`,
		xcomsOfTask: `SELECT ` + xcomColumns + fromXComs +
			` WHERE d.dag_id = ? AND r.run_id = ? AND x.task_id = ? AND x.key = ? ORDER BY x.map_index`,
		mappedXCom: `SELECT ` + xcomColumns + fromXComs + ` WHERE d.dag_id = ? AND r.run_id = ? AND x.task_id = ?
			AND x.key = ? AND x.map_index >= 0 ORDER BY x.map_index LIMIT 1 OFFSET ?`,
		countMappedXComs: `SELECT count(*)` + fromXComs + ` WHERE d.dag_id = ? AND r.run_id = ? AND x.task_id = ?
			AND x.key = ? AND x.map_index >= 0`,
		blobInUse:  `SELECT count(*) FROM xcoms WHERE blob = ?`,
		blobsInUse: `SELECT DISTINCT blob FROM xcoms WHERE blob IS NOT NULL ORDER BY blob`,

		oweCallback: `INSERT INTO callbacks (run_pk, task_id, map_index, attempt_id, kind, reason, created_at, tries, failure)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, '') RETURNING callback_pk`,
		callbackDone: `UPDATE callbacks SET done_at = ?, failure = ?, tries = tries + 1
			WHERE callback_pk = ? AND done_at IS NULL`,
		callbackTried: `UPDATE callbacks SET tries = tries + 1 WHERE callback_pk = ? AND done_at IS NULL`,
		getCallback: `SELECT d.dag_id, r.run_id, coalesce(c.task_id, ''), coalesce(c.map_index, -1), c.attempt_id, c.kind, c.tries,
			r.run_pk` + fromCallbacks + ` WHERE c.callback_pk = ?`,
		owedCallbacks: `SELECT c.callback_pk, d.dag_id, r.run_id, c.task_id, c.map_index, c.attempt_id, c.kind, c.reason, c.tries,
			c.created_at` + fromCallbacks + ` WHERE c.done_at IS NULL ORDER BY c.callback_pk`,

		putWait: `INSERT INTO waits (ti_pk, wait_id, classpath, kwargs, created_at, timeout_at, alone) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (ti_pk) DO UPDATE SET wait_id = excluded.wait_id, classpath = excluded.classpath,
			kwargs = excluded.kwargs, created_at = excluded.created_at, timeout_at = excluded.timeout_at, alone = excluded.alone`,
		deleteWait:   `DELETE FROM waits WHERE ti_pk = ?`,
		setWaitAlone: `UPDATE waits SET alone = 1 WHERE ti_pk = ? AND wait_id = ?`,
		moveWaits:    `UPDATE waits SET created_at = created_at + ?, timeout_at = timeout_at + ?`,
		waits: `SELECT d.dag_id, r.run_id, t.task_id, t.map_index, w.wait_id, w.classpath, w.kwargs, w.created_at, w.timeout_at, w.alone` +
			fromWaits + ` ORDER BY w.ti_pk`,
		insertInput:    `INSERT INTO inputs (ti_pk, wait_id, try_number, form, created_at, timeout_at) VALUES (?, ?, ?, ?, ?, ?)`,
		answerInput:    `UPDATE inputs SET answer = ? WHERE wait_id = ? AND answer IS NULL`,
		moveOpenInputs: `UPDATE inputs SET created_at = created_at + ?, timeout_at = timeout_at + ? WHERE answer IS NULL`,
		openInputs:     `SELECT ` + inputColumns + fromInputs + ` WHERE i.answer IS NULL ORDER BY i.input_pk`,
		allInputs:      `SELECT ` + inputColumns + fromInputs + ` ORDER BY i.input_pk`,
		inputsOfRun:    `SELECT ` + inputColumns + fromInputs + ` WHERE d.dag_id = ? AND r.run_id = ? ORDER BY i.input_pk`,
		insertTriggerer: `INSERT INTO triggerers (attempt_id, bundle_version, wait_id, executor, instance, started_at)
			VALUES (?, ?, ?, ?, ?, ?)`,
		deleteTriggerer: `DELETE FROM triggerers WHERE attempt_id = ?`,
		triggerers:      `SELECT attempt_id, bundle_version, wait_id, executor, instance, started_at FROM triggerers ORDER BY started_at`,

		putBundleVersion: `INSERT INTO bundle_versions (bundle, version, path, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (bundle, version) DO NOTHING`,
		getBundleVersion: `SELECT bundle, version, path, at FROM bundle_versions WHERE bundle = ? AND version = ?`,
		bundleVersions:   `SELECT bundle, version, path, at FROM bundle_versions ORDER BY bundle_version_pk DESC`,
		getDAGKey:        `SELECT dag_pk, paused, removed, version, bundle, bundle_version FROM dags WHERE dag_id = ?`,
		insertDAG: `INSERT INTO dags (dag_id, paused, version, bundle, bundle_version, file, last_parsed)
			VALUES (?, ?, 1, ?, ?, ?, ?) RETURNING dag_pk`,
		updateDAG: `UPDATE dags SET version = ?, bundle = ?, bundle_version = ?, file = ?, last_parsed = ?, removed = 0
			WHERE dag_pk = ?`,
		insertDAGVersion: `INSERT INTO dag_versions (dag_pk, number, hash, bundle, bundle_version, created_at, body)
			VALUES (?, ?, ?, ?, ?, ?, ?)`,
		moveDAGVersion: `UPDATE dag_versions SET bundle = ?, bundle_version = ? WHERE dag_pk = ? AND number = ?`,
		getNewestHash:  `SELECT hash FROM dag_versions WHERE dag_pk = ? AND number = ?`,
		deleteTags:     `DELETE FROM dag_tags WHERE dag_pk = ?`,
		insertTag:      `INSERT INTO dag_tags (dag_pk, tag) VALUES (?, ?) ON CONFLICT DO NOTHING`,
		removeDAG:      `UPDATE dags SET removed = 1 WHERE dag_id = ? AND removed = 0`,
		deleteDAG:      `DELETE FROM dags WHERE dag_pk = ?`,
		setPaused:      `UPDATE dags SET paused = ? WHERE dag_id = ?`,
		setNextRun: `UPDATE dags SET last_slot = ?, next_logical = ?, next_start = ?, next_end = ?, next_run_after = ?
			WHERE dag_id = ?`,
		getDAG: selectDAGs + ` WHERE d.dag_id = ?`,
		getDAGVersion: `SELECT v.dag_version_pk, v.number, v.hash, v.bundle, v.bundle_version, v.created_at` + fromVersions +
			` WHERE d.dag_id = ? AND v.number = CASE WHEN ? = 0 THEN d.version ELSE ? END`,
		getDAGBody: `SELECT body FROM dag_versions WHERE dag_version_pk = ?`,
		dagVersions: `SELECT v.number, v.hash, v.bundle, v.bundle_version, v.created_at` + fromVersions +
			` WHERE d.dag_id = ? ORDER BY v.number DESC`,
		deleteImportErrors: `DELETE FROM import_errors WHERE bundle = ? AND file = ?`,
		insertImportError: `INSERT INTO import_errors (bundle, file, dag_id, line, message, traceback, at)
			VALUES (?, ?, ?, ?, ?, ?, ?)`,
		importErrorsOfFile: `SELECT ` + importErrorColumns + ` FROM import_errors WHERE bundle = ? AND file = ?
			ORDER BY import_error_pk`,
		importErrors: `SELECT ` + importErrorColumns + ` FROM import_errors ORDER BY bundle, file, import_error_pk`,

		putVariable: `INSERT INTO variables (key, value, sealed, description) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
			value = excluded.value, sealed = excluded.sealed, description = excluded.description`,
		deleteVariable: `DELETE FROM variables WHERE key = ?`,
		getVariable:    `SELECT key, value, sealed, description FROM variables WHERE key = ?`,
		variables:      `SELECT key, value, sealed, description FROM variables ORDER BY key`,
		variablesLike:  `SELECT key, value, sealed, description FROM variables WHERE lower(key) LIKE lower(?) ORDER BY key`,
		putConnection: `INSERT INTO connections (` + connectionColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET type = excluded.type, description = excluded.description, host = excluded.host,
			schema_name = excluded.schema_name, login = excluded.login, port = excluded.port, password = excluded.password,
			extra = excluded.extra, sealed = excluded.sealed`,
		deleteConnection: `DELETE FROM connections WHERE id = ?`,
		getConnection:    `SELECT ` + connectionColumns + ` FROM connections WHERE id = ?`,
		connections:      `SELECT ` + connectionColumns + ` FROM connections ORDER BY id`,
		putPool: `INSERT INTO pools (name, description, slots, include_deferred) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
			SET description = excluded.description, slots = excluded.slots, include_deferred = excluded.include_deferred`,
		deletePool: `DELETE FROM pools WHERE name = ?`,
		pools:      `SELECT name, description, slots, include_deferred FROM pools ORDER BY name`,

		insertEvent: `INSERT INTO events (seq, at, actor, kind, dag_id, run_id, task_id, map_index, attempt_id, from_state, to_state,
			detail, run_pk) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		eventsAfter:  `SELECT ` + eventColumns + ` FROM events e WHERE e.seq > ? ORDER BY e.seq LIMIT ?`,
		newestEvent:  `SELECT coalesce(max(seq), 0) FROM events`,
		oldestEvent:  `SELECT coalesce(min(seq), 0) FROM events`,
		eventTime:    `SELECT seq, at FROM events WHERE seq >= ? ORDER BY seq LIMIT 1`,
		deleteEvents: `DELETE FROM events WHERE seq < ?`,

		putMeta: `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		getMeta: `SELECT value FROM meta WHERE key = ?`,
		oldRuns: `SELECT r.run_pk, d.dag_id, r.run_id` + fromRuns + ` WHERE ` + isEnded +
			` AND r.end_date < ? ORDER BY r.end_date LIMIT ?`,
		countOldRuns: `SELECT count(*), coalesce(sum((SELECT count(*) FROM task_instances t WHERE t.run_pk = r.run_pk)), 0),
			coalesce(sum((SELECT count(*) FROM task_instances t JOIN attempts a ON a.ti_pk = t.ti_pk WHERE t.run_pk = r.run_pk)), 0),
			coalesce(sum((SELECT count(*) FROM xcoms x WHERE x.run_pk = r.run_pk)), 0)
			FROM runs r WHERE ` + isEnded + ` AND r.end_date < ?`,
		deleteRunByKey: `DELETE FROM runs WHERE run_pk = ?`,
	}
	addAssetStatements(texts)
	addBackfillStatements(texts)
	return texts
}
