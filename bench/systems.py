"""Starting, asking and stopping the systems under measurement, each in a folder of its own."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, probe, seconds, every=0.01):
    """Poll probe until it returns something true; OSErrors mean not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = probe()
            if found:
                return found
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {seconds} s")
        time.sleep(every)


def family(members):
    """The processes and all their descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    seen, todo = [], list(members)
    while todo:
        pid = todo.pop(0)
        if pid not in seen:
            seen.append(pid)
            todo += children.get(pid, [])
    return seen


def pss_of_group(members):
    """Proportional set size in bytes of processes and all their descendants."""
    total = 0
    for pid in family(members):
        try:
            for line in pathlib.Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def command(pid):
    """The arguments of a process; none of one that is gone."""
    try:
        return pathlib.Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def own_time(pid):
    """Milliseconds of processor time of a process and of its children that have ended."""
    fields = pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()
    user, system, ended_user, ended_system = (int(one) * 1000 / os.sysconf("SC_CLK_TCK") for one in fields[11:15])
    return user + system, ended_user + ended_system


def send(pid, signum):
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def start_postgres(programs, root, name):
    """Start a PostgreSQL server of its own, with a user and a database of a name; return its process and port."""
    data, port = root / "pg", free_port()
    as_user = []
    if os.getuid() == 0:
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        for folder in [root, *root.parents]:
            if not os.stat(folder).st_mode & 0o001:
                os.chmod(folder, os.stat(folder).st_mode | 0o011)
        as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_user, programs / "initdb", "-D", data, "-U", name, "-A", "trust"], check=True,
                   stdout=subprocess.DEVNULL, cwd="/")
    out = open(root / "postgres.log", "ab")
    server = subprocess.Popen([*as_user, programs / "postgres", "-D", data, "-p", str(port), "-k", "", "-h", "127.0.0.1"],
                              stdout=out, stderr=out, cwd="/", start_new_session=True)
    psql = [programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", name, "-d", "postgres", "-c"]
    wait_for("PostgreSQL", lambda: subprocess.run([*psql, f"create database {name}"], capture_output=True).returncode == 0,
             30, every=0.1)
    return server, port


class System:
    """One orchestrator behind Airflow's REST API v2, which both speak."""

    name = ""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.dags = self.root / "dags"
        self.dags.mkdir(parents=True)
        self.port = free_port()
        self.processes, self.frozen = [], []
        self.token = None

    def spawn(self, args, env, log):
        out = open(self.root / log, "ab")
        process = subprocess.Popen(args, env=env, stdout=out, stderr=out, cwd=self.root, start_new_session=True)
        self.processes.append(process)
        return process

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def unpause(self, dag_id):
        def probe():
            try:
                return self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
            except urllib.error.HTTPError as refused:
                if refused.code == 404:
                    return None
                raise
        wait_for(f"{self.name}: DAG {dag_id} known", probe, 180, every=0.02)

    def run(self, dag_id, seconds=600):
        """Trigger, wait for the end, and return (run id, task instances)."""
        run_id = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        ended = wait_for(
            f"{self.name}: end of {dag_id}",
            lambda: (r := self.call("GET", path))["state"] in ("success", "failed") and r,
            seconds, every=0.05,
        )
        if ended["state"] != "success":
            raise SystemExit(f"{self.name}: {dag_id} ended as {ended['state']}; see {self.root}")
        return run_id, self.call("GET", path + "/taskInstances?limit=100")["task_instances"]

    def roots(self):
        return [p.pid for p in self.processes]

    def pss(self):
        return pss_of_group(self.roots())

    def freeze(self):
        """Have every process stand still, parents first."""
        self.frozen = []
        while fresh := [pid for pid in family(self.roots()) if pid not in self.frozen]:  # some were made meanwhile
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            self.frozen += fresh

    def thaw(self):
        """Let them go on, children first."""
        for pid in reversed(self.frozen):
            send(pid, signal.SIGCONT)
        self.frozen = []

    def stop(self):
        self.thaw()
        for process in reversed(self.processes):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Ostro(System):
    name = "ostro"

    def __init__(self, root, binary, python, settings=None):
        super().__init__(root)
        self.binary, self.python = binary, python
        self.home = self.root / "home"
        self.settings = settings or {}  # more variables of its environment

    def start(self):
        env = {**os.environ, "OSTRO_PYTHON": self.python, **self.settings}
        self.spawn([self.binary, "standalone", "--home", str(self.home), "--dags", str(self.dags), "--port", str(self.port)],
                   env, "server.log")
        self.token = wait_for("ostro's token", lambda: (self.home / "token").read_text().strip(), 30)
        wait_for("ostro's API", lambda: self.call("GET", "/api/v2/version"), 30, every=0.002)

    def roots(self):
        # The worker is a session of its own: found by the marker in its command line.
        found = super().roots()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            args = command(int(entry))
            if b"worker" in args and str(self.home).encode() in args:
                found.append(int(entry))
        return found

    def processor(self):
        """Milliseconds of processor time used so far by the server, the worker, the hosts and the task processes."""
        server, *workers = self.roots()
        hosts = [pid for pid in family(workers) if b"ostro.host" in command(pid)]
        return {
            "server": own_time(server)[0],
            "worker": sum(own_time(pid)[0] for pid in workers),
            "hosts": sum(own_time(pid)[0] for pid in hosts),
            "tasks": sum(own_time(pid)[1] for pid in hosts),
        }

    def commits(self):
        """Durable commits of the control database since the server started."""
        return self.call("GET", "/api/v2/monitor/health")["ostro"]["commits"]


class Airflow(System):
    """Airflow at its best setting here: LocalExecutor, PostgreSQL, scheduler_idle_sleep_time=0.1, one API worker."""

    name = "airflow"

    def __init__(self, root, env_dir, postgres):
        super().__init__(root)
        self.bin = pathlib.Path(env_dir) / "bin"
        self.postgres = pathlib.Path(postgres)
        self.env = None

    def start(self):
        server, port = start_postgres(self.postgres, self.root, "airflow")
        self.processes.append(server)
        dsn = f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
        self.env = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.root / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "benchmark-only-secret-of-sufficient-length-for-hs512-0123456789abcdef",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "2",
        }
        subprocess.run([self.bin / "airflow", "db", "migrate"], env=self.env, check=True,
                       stdout=open(self.root / "migrate.log", "wb"), stderr=subprocess.STDOUT)
        self.started = time.monotonic()
        for part in (["api-server"], ["scheduler"], ["dag-processor"]):
            self.spawn([self.bin / "airflow", *part], self.env, part[0] + ".log")
        self.token = wait_for("airflow's API", self._fetch_token, 180, every=0.05)

    def _fetch_token(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/auth/token", timeout=5) as answer:
            return json.load(answer)["access_token"]
