"""Prints what a fork costs: from the Fork frame to user code, and from there to the process being reaped.

    python python/tests/host/bench_fork.py [COUNT]

Medians in milliseconds on the wall clock: "fork" from sending Fork to the answer Forked, "user" from sending Fork to user
code, "end" from user code's last line to the Exited message, "all" from Fork to Exited. The second line
of each file is with a pause before each Fork, in which the host gets a fork ready. "floor" is os.fork, os._exit and
os.waitpid alone in a process with the same imports. Files that import numpy and pandas are measured where those exist.
"""

import gc
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(os.path.dirname(HERE))]

from harness import Channel, Host, environment, startup  # noqa: E402

TASK = """
import time
def task(comms):
    return time.monotonic()
"""
FILES = {"bare": "", "numpy+pandas": "import numpy, pandas\n", "sklearn": "import sklearn.ensemble\n"}


def measure(imports, count, pause):
    """Run ``count`` tasks one after the other; return the medians of each part."""
    parts = {"fork": [], "user": [], "end": [], "all": []}
    null = os.open(os.devnull, os.O_WRONLY)
    with tempfile.TemporaryDirectory() as bundle, Host(bundle, imports + TASK) as host:
        host.describe()
        for _ in range(count):
            time.sleep(pause)
            ours, theirs = socket.socketpair()
            channel = Channel(ours)
            channel.send(startup("task", bundle, "dag.py"))
            gc.disable()
            began = time.monotonic()
            host.channel.request({"type": "Fork", "fork_id": "a"}, (theirs.fileno(), null, null))
            forked = time.monotonic()
            host.channel.note("Exited")
            ended = time.monotonic()
            gc.enable()
            user = channel.note("SucceedTask")["xcoms"][0]["value"]
            theirs.close()
            ours.close()
            for name, value in zip(parts, (forked - began, user - began, ended - user, ended - began)):
                parts[name].append(value * 1000)
    os.close(null)
    return {name: statistics.median(values) for name, values in parts.items()}


FLOOR = """
import gc, os, statistics, time
gc.freeze(); gc.disable()
def once():
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return time.monotonic() - began
print(statistics.median(once() for _ in range(%d)) * 1000)
"""


def floor(imports, count):
    """Return what the kernel alone takes, in milliseconds."""
    command = [sys.executable, "-c", imports + FLOOR % count]
    return float(subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True).stdout)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(
        "%-14s %8s %8s %8s %8s %8s   (ms, median of %d, Python %s)"
        % ("file imports", "fork", "user", "end", "all", "floor", count, sys.version.split()[0])
    )
    for name, imports in FILES.items():
        wanted = imports.replace("import ", "").replace(" ", "").strip().split(",") if imports else []
        if any(importlib.util.find_spec(module.partition(".")[0]) is None for module in wanted):
            print("%-14s not installed here" % name)
            continue
        kernel = floor(imports, count)
        for pause, label in ((0.0, name), (0.003, " after 3 ms")):
            found = measure(imports, count, pause)
            print(
                "%-14s %8.3f %8.3f %8.3f %8.3f %8.3f" % (label, found["fork"], found["user"], found["end"], found["all"], kernel)
            )


if __name__ == "__main__":
    main()
