"""A control plane in memory, for tests and for running a DAG without a server."""

import json

from . import masking
from .exceptions import error_for


class LocalComms:
    """Answers what a task asks from dicts, and keeps every message it sends.

    ``sent`` lists notifications and terminal messages in order; ``xcoms`` maps (dag, run, task, map index, key) to JSON.
    What is secret of the answers is told to ``masker`` before they are given, as the worker does.
    """

    # Records of the logging framework go where the test or the terminal wants them, not through here.
    takes_logs = False
    TERMINAL = ("SucceedTask", "TaskState", "RetryTask", "RescheduleTask", "DeferTask")

    def __init__(self, variables=None, connections=None, runs=None, shared=None, masker=None):
        self.masker = masker if masker is not None else shared.masker if shared is not None else masking.Masker()
        self.sent, self.asked = [], []
        self.xcoms = shared.xcoms if shared is not None else {}
        self.lengths = shared.lengths if shared is not None else {}
        self.variables = dict(variables or {}) if shared is None else shared.variables
        self.connections = dict(connections or {}) if shared is None else shared.connections
        self.runs = dict(runs or {}) if shared is None else shared.runs
        self.triggered = [] if shared is None else shared.triggered
        self.on_send = None
        self.instances = None  # function that returns the task instances of the local run, as GetTaskInstances answers

    def send(self, message):
        message = json.loads(json.dumps(message))
        self.sent.append(message)
        if self.on_send is not None:
            self.on_send(message)

    def request(self, message):
        message = json.loads(json.dumps(message))
        self.asked.append(message)
        handler = getattr(self, "_" + message["type"], None)
        if handler is None:
            raise error_for("NOT_SUPPORTED", "%s is not answered without a server" % message["type"])
        return json.loads(json.dumps(handler(message)))

    @property
    def terminal(self):
        """The message that ended the attempt, None so far."""
        return next((message for message in reversed(self.sent) if message["type"] in self.TERMINAL), None)

    def of(self, kind):
        """Return the messages of one type."""
        return [message for message in self.sent if message["type"] == kind]

    def store(self, ref, xcoms):
        """Keep the XComs of a terminal message."""
        for one in xcoms or ():
            key = (ref["dag_id"], ref["run_id"], ref["task_id"], ref.get("map_index", -1), one["key"])
            self.xcoms[key] = one["value"]
            self.lengths[key] = one.get("map_length", -1)

    # ---- answers ----

    @staticmethod
    def _where(message):
        index = message.get("map_index")
        return (message["dag_id"], message["run_id"], message["task_id"], -1 if index is None else index,
                message["key"])

    def _GetXCom(self, message):
        where = self._where(message)
        return {"type": "XComResult", "key": message["key"], "value": self.xcoms.get(where),
                "found": where in self.xcoms}

    def _sequence(self, message):
        head = (message["dag_id"], message["run_id"], message["task_id"])
        found = [(where[3], value) for where, value in self.xcoms.items()
                 if where[:3] == head and where[4] == message["key"] and where[3] >= 0]
        return [value for _, value in sorted(found, key=lambda pair: pair[0])]

    def _GetXComCount(self, message):
        return {"type": "XComCountResponse", "len": len(self._sequence(message))}

    def _GetXComSequenceItem(self, message):
        items = self._sequence(message)
        if not -len(items) <= message["offset"] < len(items):
            raise error_for("XCOM_NOT_FOUND", "no element %d" % message["offset"])
        return {"type": "XComResult", "key": message["key"], "value": items[message["offset"]], "found": True}

    def _GetXComSequenceSlice(self, message):
        part = slice(message.get("start"), message.get("stop"), message.get("step"))
        return {"type": "XComSequenceSliceResult", "root": self._sequence(message)[part]}

    def _SetXCom(self, message):
        self.xcoms[self._where(message)] = message["value"]
        self.lengths[self._where(message)] = message.get("map_length", -1)
        return {"type": "OKResponse", "ok": True}

    def _DeleteXCom(self, message):
        self.xcoms.pop(self._where(message), None)
        return {"type": "OKResponse", "ok": True}

    def _GetVariable(self, message):
        if message["key"] not in self.variables:
            raise error_for("VARIABLE_NOT_FOUND", "there is no variable %r" % message["key"])
        value = self.variables[message["key"]]
        text = value if isinstance(value, str) else json.dumps(value)
        self.masker.add(*masking.find(message["key"], text))
        return {"type": "VariableResult", "key": message["key"], "value": text}

    def _MaskSecret(self, message):
        self.masker.add(message["value"], least=1)
        return {"type": "OKResponse", "ok": True}

    def _PutVariable(self, message):
        self.variables[message["key"]] = message["value"]
        return {"type": "OKResponse", "ok": True}

    def _DeleteVariable(self, message):
        self.variables.pop(message["key"], None)
        return {"type": "OKResponse", "ok": True}

    def _GetConnection(self, message):
        found = self.connections.get(message["conn_id"])
        if found is None:
            raise error_for("CONNECTION_NOT_FOUND", "there is no connection %r" % message["conn_id"])
        if isinstance(found, str):
            from .connection import Connection

            made = (Connection.from_json(found, message["conn_id"]) if found.lstrip().startswith("{")
                    else Connection(message["conn_id"], uri=found))
            found = made.to_dict()
        found = dict(found)
        if isinstance(found.get("extra"), dict):
            found["extra"] = json.dumps(found["extra"])
        self.masker.add(*filter(None, (found.get("password"), *masking.find("", found.get("extra") or ""))))
        return dict({"type": "ConnectionResult", "conn_id": message["conn_id"]}, **found)

    def _TriggerDagRun(self, message):
        run_id = message.get("run_id") or "manual__%d" % (len(self.triggered) + 1)
        if (message["dag_id"], run_id) in self.runs and not message.get("reset_dag_run"):
            raise error_for("DAGRUN_ALREADY_EXISTS", "run %r of DAG %r exists already" % (run_id, message["dag_id"]))
        self.triggered.append(dict(message, run_id=run_id))
        self.runs[(message["dag_id"], run_id)] = "success"
        return {"type": "TriggerDagRunResult", "run_id": run_id}

    def _GetDagRunState(self, message):
        state = self.runs.get((message["dag_id"], message["run_id"]))
        if state is None:
            raise error_for("NOT_FOUND", "there is no run %r of DAG %r" % (message["run_id"], message["dag_id"]))
        return {"type": "DagRunStateResult", "state": state}

    def _GetDag(self, message):
        return {"type": "DagResult", "dag_id": message["dag_id"], "is_paused": False}

    def _GetPreviousDagRun(self, message):
        return {"type": "PreviousDagRunResult", "dag_run": None}

    def _GetPrevSuccessfulDagRun(self, message):
        return {"type": "PrevSuccessfulDagRunResult", "data_interval_start": None, "data_interval_end": None,
                "start_date": None, "end_date": None}

    def _GetTICount(self, message):
        return {"type": "TICount", "count": 0}

    def _GetDRCount(self, message):
        states = message.get("states") or []
        return {"type": "DRCount", "count": sum(1 for (dag_id, _), state in self.runs.items()
                                                if dag_id == message["dag_id"] and (not states or state in states))}

    def _GetAssetEventByAsset(self, message):
        return {"type": "AssetEventsResult", "asset_events": []}

    _GetAssetEventByAssetAlias = _GetAssetEventByAsset

    def _GetAssetByName(self, message):
        return {"type": "AssetResult", "name": message["name"], "uri": message["name"], "group": "asset", "extra": {}}

    def _GetTaskInstances(self, message):
        found = self.instances(message["dag_id"], message["run_id"]) if self.instances is not None else []
        states, tasks = message.get("states"), message.get("task_ids")
        found = [one for one in found if (states is None or (one["state"] or "null") in states)
                 and (tasks is None or one["task_id"] in tasks)]
        part = found[message.get("offset", 0):][:message.get("limit") or None]
        return {"type": "TaskInstancesResult", "task_instances": part, "total": len(found)}

    def _GetTaskStates(self, message):
        return {"type": "TaskStatesResult", "task_states": {}}
