"""Runs the DAG files of examples/conformance on one system and writes down what came of each.

Genuine Airflow and Ostro answer the same REST API, so both are observed by this one program: standard library only. What
a file wants done is said in its comments:

    # rule: one sentence
    # run: {"conf": {}, "logical_date": "2026-01-01T00:00:00Z", "until": {"task": "state"}}
    # scheduled: 2
    # order: a b c
    # pool: name 2
    # notes: 3
    # refused: NotImplementedError or other words

Each "run" is triggered when the one before it has come to its end (or, with "until", has come to these states and stays
there; then "then" may say {"clear": […]}). "scheduled" waits for that many runs that the schedule brings about. "order"
records in which order these tasks began. "pool" makes a pool with so many slots. "notes" waits for that many lines that
callbacks have written with conformance_notes.note. "refused" says that the file must not be imported, and what the import
error says.
"""

import concurrent.futures
import json
import os
import pathlib
import time
import urllib.error
import urllib.parse
import urllib.request

ENDED = ("success", "failed")


class Scenario:
    """One DAG file and what is to be done with it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.dag_id = self.path.stem
        self.rule, self.runs, self.order, self.pools, self.scheduled, self.notes, self.refused = "", [], [], {}, 0, 0, ""
        for line in self.path.read_text().splitlines():
            name, colon, rest = line[2:].partition(": ")
            if not line.startswith("# ") or not colon:
                continue
            if name == "run":
                self.runs.append(json.loads(rest))
            elif name == "pool":
                pool, slots = rest.split()
                self.pools[pool] = int(slots)
            elif name == "order":
                self.order = rest.split()
            elif name in ("scheduled", "notes"):
                setattr(self, name, int(rest))
            elif name in ("rule", "refused"):
                setattr(self, name, rest)
        if not self.rule:
            raise SystemExit("%s: no '# rule: …'" % path)
        if not (self.runs or self.scheduled or self.refused):
            self.runs = [{}]


def scenarios(folder):
    """Return the scenarios of a folder, in order of name."""
    return [Scenario(path) for path in sorted(pathlib.Path(folder).glob("*.py")) if path.stem != "conformance_notes"]


class Server:
    """A server of Airflow's REST API v2."""

    def __init__(self, url, token, every, settle):
        self.url, self.token, self.every, self.settle = url, token, every, settle

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": "Bearer " + self.token})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            refused.msg = "%s %s: %s" % (method, path, refused.msg)
            raise

    def all(self, path, name):
        """Return a whole list, page by page."""
        found = []
        while True:
            page = self.call("GET", "%s%slimit=100&offset=%d" % (path, "&" if "?" in path else "?", len(found)))
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def until(self, what, probe, seconds=240):
        """Ask until the answer is true."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = probe()
                if answer:
                    return answer
            except urllib.error.HTTPError as refused:
                if refused.code not in (404, 503):
                    raise RuntimeError("%s: %s %s" % (what, refused, refused.read().decode(errors="replace"))) from None
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError("%s: not within %d s" % (what, seconds))
            time.sleep(self.every)


class Observer:
    """Follows one scenario to its end."""

    def __init__(self, server, scenario, notes):
        self.server, self.scenario = server, scenario
        self.notes = pathlib.Path(notes) / (scenario.dag_id + ".txt")
        self.dag = "/api/v2/dags/" + scenario.dag_id

    def observe(self):
        scenario, server = self.scenario, self.server
        if scenario.refused:
            return {"rule": scenario.rule, "refused": self._refused()}
        for name, slots in scenario.pools.items():
            server.call("POST", "/api/v2/pools", {"name": name, "slots": slots})
        server.until("%s: known" % scenario.dag_id, lambda: server.call("PATCH", self.dag, {"is_paused": False}))
        for number, run in enumerate(scenario.runs, 1):
            self._run("r%d" % number, run)
        if scenario.scheduled:
            server.until("%s: its scheduled runs" % scenario.dag_id, self._scheduled_ended)
        out = {"rule": scenario.rule}
        if scenario.notes:
            server.until("%s: the notes of its callbacks" % scenario.dag_id,
                         lambda: len(self._lines()) >= scenario.notes, 60)
            out["notes"] = sorted(self._lines())
        if server.call("GET", self.dag)["is_paused"]:
            out["paused"] = True
        runs = server.all(self.dag + "/dagRuns", "dag_runs")
        out["runs"] = [self._told(run) for run in sorted(runs, key=lambda run: run["dag_run_id"])]
        return out

    def _refused(self):
        def found():
            for error in self.server.all("/api/v2/importErrors", "import_errors"):
                if error["filename"].rsplit("/", 1)[-1] == self.scenario.path.name:
                    return error["stack_trace"]
        trace = self.server.until("%s: an import error" % self.scenario.dag_id, found)
        if any(word in trace for word in self.scenario.refused.split(" or ")):
            return "an import error that says " + self.scenario.refused
        return trace

    def _run(self, run_id, ask):
        body = {"dag_run_id": ask.get("id", run_id), "logical_date": ask.get("logical_date"), "conf": ask.get("conf", {})}
        self.server.call("POST", self.dag + "/dagRuns", body)
        self._await(body["dag_run_id"], ask.get("until"))
        for step in ask.get("then", []):
            if "clear" in step:
                clear = dict(step["clear"], dag_run_id=body["dag_run_id"], dry_run=False)
                self.server.call("POST", self.dag + "/clearTaskInstances", clear)
            self._await(body["dag_run_id"], step.get("until"))

    def _await(self, run_id, until):
        path, what = "%s/dagRuns/%s" % (self.dag, run_id), "%s/%s" % (self.scenario.dag_id, run_id)
        if not until:
            self.server.until(what, lambda: self.server.call("GET", path)["state"] in ENDED)
            return

        def there():
            states = {one["task_id"]: one["state"] for one in self.server.all(path + "/taskInstances", "task_instances")}
            return all(states.get(task) == state for task, state in until.items())
        self.server.until(what, there)
        time.sleep(self.server.settle)  # what must not happen is given the time in which it would

    def _scheduled_ended(self):
        runs = self.server.all(self.dag + "/dagRuns", "dag_runs")
        return len(runs) >= self.scenario.scheduled + len(self.scenario.runs) and all(run["state"] in ENDED for run in runs)

    def _lines(self):
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def _told(self, run):
        path = "%s/dagRuns/%s" % (self.dag, urllib.parse.quote(run["dag_run_id"], safe=""))
        instances = self.server.all(path + "/taskInstances", "task_instances")
        tasks = {_name(one): self._instance(one) for one in instances}
        for entry in self.server.all(path + "/taskInstances/~/xcomEntries", "xcom_entries"):
            value = self.server.call("GET", "%s/taskInstances/%s/xcomEntries/%s?map_index=%d" % (
                path, entry["task_id"], urllib.parse.quote(entry["key"], safe=""), entry["map_index"]))["value"]
            if entry["key"] == "skipmixin_key":  # out of a set
                value = {name: sorted(ids) for name, ids in value.items()}
            tasks[_name(entry)].setdefault("xcoms", {})[entry["key"]] = value
        told = {"run": run["dag_run_id"], "type": run["run_type"], "state": run["state"],
                "tasks": dict(sorted(tasks.items(), key=lambda item: _sortable(item[0])))}
        if self.scenario.order:
            begun = sorted((one["start_date"], _name(one)) for one in instances
                           if one["start_date"] and _name(one) in self.scenario.order)
            told["order"] = [name for _, name in begun]
        late = _too_early(instances, self.server.call("GET", self.dag + "/tasks")["tasks"])
        if late:
            told["began before upstream ended"] = late
        return told

    @staticmethod
    def _instance(one):
        told = {"state": one["state"]}
        if one["state"] != "scheduled":  # Airflow counts a try when it is scheduled, Ostro when it begins
            told["tries"] = one["try_number"]
        for name, usual in (("priority_weight", 1), ("pool", "default_pool"), ("pool_slots", 1)):
            if one[name] != usual:
                told[name] = one[name]
        if one["map_index"] >= 0 and one["rendered_map_index"] not in (None, str(one["map_index"])):
            told["rendered_map_index"] = one["rendered_map_index"]
        return told


def _name(one):
    return one["task_id"] if one["map_index"] < 0 else "%s[%d]" % (one["task_id"], one["map_index"])


def _sortable(name):
    task, _, index = name.rstrip("]").partition("[")
    return task, int(index or -1)


def _too_early(instances, tasks):
    """Return the edges of unmapped tasks whose all_success end began before the other had ended."""
    by_id = {one["task_id"]: one for one in instances if one["map_index"] < 0 and one["try_number"]}
    strict = {task["task_id"] for task in tasks if task["trigger_rule"] == "all_success"}
    found = []
    for task in tasks:
        for below in strict.intersection(task["downstream_task_ids"]):
            up, down = by_id.get(task["task_id"]), by_id.get(below)
            if up and down and down["state"] == "success" and down["start_date"] < up["end_date"]:
                found.append("%s -> %s" % (task["task_id"], below))
    return sorted(found)


def observe_all(server, folder, notes, out, only=None, workers=12):
    """Follow every scenario; write one JSON file each into ``out``. Return the names of those that came to no end."""
    chosen = [one for one in scenarios(folder) if not only or one.dag_id in only]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        following = {pool.submit(Observer(server, one, notes).observe): one for one in chosen}
        for done in concurrent.futures.as_completed(following):
            scenario = following[done]
            try:
                text = json.dumps(done.result(), indent=1, ensure_ascii=False) + "\n"
            except Exception as fault:
                failed.append("%s: %s" % (scenario.dag_id, fault))
                continue
            pathlib.Path(out, scenario.dag_id + ".json").write_text(text)
    return sorted(failed)


def main():
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--token", "--dags", "--notes", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    server = Server(args.url, args.token, every=0.02, settle=0.5)
    failed = observe_all(server, args.dags, args.notes, args.out, set(args.only.split(",")) - {""})
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
