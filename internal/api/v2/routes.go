package v2

import "slices"

// Why a route is not served.
const (
	noPlugins   = "Ostro has no Airflow plugins"
	noProviders = "Ostro carries the operators itself and has no Airflow providers"
	noJobs      = "Ostro keeps no job records; GET /api/v2/monitor/health tells how its parts are"
	noLogin     = "There is no login page: send the token from the file HOME/token as a bearer token"
	noFavorites = "Favourites are not served by this version of Ostro"
	noParse     = "DAG files are read when their content changes; a file with an import error also when it is touched; there is nothing to ask for"
	noDeleteTI  = "Deleting a task instance is not served; clear it or delete its DAG run"
	noBulkTIs   = "Changing task instances in bulk is not served"
	noBulkRuns  = "Changing DAG runs in bulk is not served"
	noState     = "State stores are not served by this version of Ostro"
	noLinks     = "Extra links are not served by this version of Ostro"
	noRemoteLog = "Logs are kept by Ostro itself; there is no external log"
	noParts     = "Partitions are not served by this version of Ostro"
	noGroups    = "Changing a task group as a whole is not served; address its tasks"
	noDefaults  = "Ostro makes no default connections"
)

// get, post, patch, put and del make a served route; public and unserved change it.
func get(path string, h func(*request) error) Route {
	return Route{Method: "GET", Path: path, handle: h}
}
func post(path string, h func(*request) error) Route {
	return Route{Method: "POST", Path: path, handle: h}
}
func patch(path string, h func(*request) error) Route {
	return Route{Method: "PATCH", Path: path, handle: h}
}
func del(path string, h func(*request) error) Route {
	return Route{Method: "DELETE", Path: path, handle: h}
}

func unserved(reason string, methods ...string) func(paths ...string) []Route {
	return func(paths ...string) []Route {
		var out []Route
		for _, p := range paths {
			for _, m := range methods {
				out = append(out, Route{Method: m, Path: p, Unserved: reason})
			}
		}
		return out
	}
}

const (
	dr = "/dags/{dag_id}/dagRuns"
	ti = dr + "/{dag_run_id}/taskInstances"
)

// routes is the whole API: every path of Airflow 3.3, served or not.
func (a *API) routes() []Route {
	return slices.Concat(a.systemRoutes(), a.adminRoutes(), a.dagRoutes(), a.runRoutes(), a.instanceRoutes(), a.xcomRoutes(), a.assetRoutes(),
		a.backfillRoutes(), unservedRoutes())
}

func (a *API) systemRoutes() []Route {
	health, version := get("/monitor/health", a.getHealth), get("/version", a.getVersion)
	health.Public, version.Public = true, true
	return []Route{
		health, version,
		get("/config", getConfig),
		get("/config/section/{section}/option/{option}", getConfig),
		get("/importErrors", a.listImportErrors),
		get("/importErrors/{import_error_id}", a.getImportError),
		get("/dagWarnings", a.listWarnings),
		get("/eventLogs", a.listEventLogs),
		get("/eventLogs/{event_log_id}", a.getEventLog),
	}
}

func (a *API) adminRoutes() []Route {
	return []Route{
		get("/variables", a.listVariables),
		post("/variables", a.createVariable),
		patch("/variables", a.bulkVariables),
		get("/variables/{variable_key...}", a.getVariable),
		patch("/variables/{variable_key...}", a.patchVariable),
		del("/variables/{variable_key...}", a.deleteVariable),

		get("/connections", a.listConnections),
		post("/connections", a.createConnection),
		patch("/connections", a.bulkConnections),
		post("/connections/test", testConnection),
		get("/connections/{connection_id}", a.getConnection),
		patch("/connections/{connection_id}", a.patchConnection),
		del("/connections/{connection_id}", a.deleteConnection),

		get("/pools", a.listPools),
		post("/pools", a.createPool),
		patch("/pools", a.bulkPools),
		get("/pools/{pool_name...}", a.getPool),
		patch("/pools/{pool_name...}", a.patchPool),
		del("/pools/{pool_name...}", a.deletePool),
	}
}

func (a *API) dagRoutes() []Route {
	return []Route{
		get("/dags", a.listDAGs),
		patch("/dags", a.patchDAGs),
		get("/dags/{dag_id}", a.getDAG),
		patch("/dags/{dag_id}", a.patchDAG),
		del("/dags/{dag_id}", a.deleteDAG),
		get("/dags/{dag_id}/details", a.dagDetails),
		get("/dags/{dag_id}/dagVersions", a.listDagVersions),
		get("/dags/{dag_id}/dagVersions/{version_number}", a.getDagVersion),
		get("/dags/{dag_id}/tasks", a.listTasks),
		get("/dags/{dag_id}/tasks/{task_id}", a.getTask),
		post("/dags/{dag_id}/clearTaskInstances", a.clearTIs),
		get("/dagSources/{dag_id}", a.dagSource),
		get("/dagStats", a.dagStats),
		get("/dagTags", a.dagTags),
	}
}

func (a *API) runRoutes() []Route {
	return []Route{
		get(dr, a.listRuns),
		post(dr, a.triggerRun),
		post(dr+"/list", a.batchRuns),
		get(dr+"/{dag_run_id}", a.getRun),
		patch(dr+"/{dag_run_id}", a.patchRun),
		del(dr+"/{dag_run_id}", a.deleteRun),
		post(dr+"/{dag_run_id}/clear", a.clearRun),
		get(dr+"/{dag_run_id}/wait", a.waitRun),
	}
}

func (a *API) instanceRoutes() []Route {
	return []Route{
		get(ti, a.listTIs),
		post(ti+"/list", a.batchTIs),
		get(ti+"/{task_id}", a.getTI),
		patch(ti+"/{task_id}", a.patchTI),
		patch(ti+"/{task_id}/dry_run", a.dryPatchTI),
		get(ti+"/{task_id}/dependencies", a.dependencies),
		get(ti+"/{task_id}/listMapped", a.listMapped),
		get(dr+"/{dag_run_id}/hitlDetails", a.listHITL),
		get(ti+"/{task_id}/{map_index}/hitlDetails", a.getHITL),
		patch(ti+"/{task_id}/{map_index}/hitlDetails", a.patchHITL),
		get(ti+"/{task_id}/{map_index}/hitlDetails/tries/{try_number}", a.getHITLTry),
		get(ti+"/{task_id}/tries", a.listTries),
		get(ti+"/{task_id}/tries/{task_try_number}", a.getTry),
		get(ti+"/{task_id}/logs/{try_number}", a.getLog),
		get(ti+"/{task_id}/{map_index}", a.getMappedTI),
		patch(ti+"/{task_id}/{map_index}", a.patchTI),
		patch(ti+"/{task_id}/{map_index}/dry_run", a.dryPatchTI),
		get(ti+"/{task_id}/{map_index}/dependencies", a.dependencies),
		get(ti+"/{task_id}/{map_index}/tries", a.listTries),
		get(ti+"/{task_id}/{map_index}/tries/{task_try_number}", a.getTry),
	}
}

func (a *API) xcomRoutes() []Route {
	return []Route{
		get(ti+"/{task_id}/xcomEntries", a.listXComs),
		post(ti+"/{task_id}/xcomEntries", a.createXCom),
		get(ti+"/{task_id}/xcomEntries/{xcom_key...}", a.getXCom),
		patch(ti+"/{task_id}/xcomEntries/{xcom_key...}", a.patchXCom),
		del(ti+"/{task_id}/xcomEntries/{xcom_key...}", a.deleteXCom),
	}
}

func unservedRoutes() []Route {
	return slices.Concat(
		unserved(noPlugins, "GET")("/plugins", "/plugins/importErrors"),
		unserved(noProviders, "GET")("/providers"),
		unserved(noJobs, "GET")("/jobs"),
		unserved(noLogin, "GET")("/auth/login", "/auth/logout"),
		unserved(noFavorites, "POST")("/dags/{dag_id}/favorite", "/dags/{dag_id}/unfavorite"),
		unserved(noParse, "PUT")("/parseDagFile/{file_token}"),
		unserved(noDeleteTI, "DELETE")(ti+"/{task_id}"),
		unserved(noBulkTIs, "PATCH")(ti),
		unserved(noBulkRuns, "PATCH")(dr),
		unserved(noBulkRuns, "POST")("/dags/{dag_id}/clearDagRuns"),
		unserved(noLinks, "GET")(ti+"/{task_id}/links"),
		unserved(noRemoteLog, "GET")(ti+"/{task_id}/externalLogUrl/{try_number}"),
		unserved(noDefaults, "POST")("/connections/defaults"),
		unserved(noDefaults, "GET", "POST")("/connections/enqueue-test"),
		unserved(noParts, "POST")("/dags/{dag_id}/clearPartitions"),
		unserved(noGroups, "PATCH")(dr+"/{dag_run_id}/taskGroupInstances/{group_id}", dr+"/{dag_run_id}/taskGroupInstances/{group_id}/dry_run"),
		unserved(noState, "GET", "DELETE")("/assets/{asset_id}/state-store", ti+"/{task_id}/state-store"),
		unserved(noState, "GET", "PUT", "DELETE")("/assets/{asset_id}/state-store/{key}"),
		unserved(noState, "GET", "PUT", "PATCH", "DELETE")(ti+"/{task_id}/state-store/{key}"),
	)
}
