"""A host that forks. The "DAG file" is JSON: what to answer to Describe, and how to misbehave."""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time

from ostro import wire

PRCTL = ctypes.CDLL(None).prctl


def describe(body):
    with open(os.path.join(body["bundle_path"], body["file"])) as f:
        facts = json.load(f)
    sys.preloaded = body.get("preload") or []
    exec(facts.get("at_import", ""), {"os": os, "sys": sys, "time": time})
    return {
        "type": "Described", "dags": [{"dag_id": d, "file": body["file"], "schedule": {"kind": "none"}, "tasks": []}
                                      for d in facts.get("dags", [])],
        "errors": facts.get("errors", []), "modules": [body["file"]],
        "fork_unsafe": facts.get("fork_unsafe", "") or "bad" * ("bad" in sys.preloaded), "import_seconds": 0,
    }, facts


def become_task(channel, fds, facts):
    os.setsid()
    PRCTL(36, 1, 0, 0, 0)
    PRCTL(1, signal.SIGKILL, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel.sock.close()
    os.dup2(fds[1], 1)
    os.dup2(fds[2], 2)
    exec(facts.get("in_fork", ""), {"os": os, "sys": sys, "time": time})
    wire.run(wire.Channel(socket.socket(fileno=fds[0])))


def main():
    PRCTL(36, 1, 0, 0, 0)
    channel = wire.Channel(socket.socket(fileno=int(os.environ["OSTRO_HOST_FD"])))
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    channel.send({"type": "Hello", "protocol": 2, "language": "python", "runtime": "test", "pid": os.getpid()})
    channel.read()
    tasks, facts, poll = {}, {}, select.poll()
    poll.register(channel.sock, select.POLLIN)
    poll.register(r, select.POLLIN)
    while True:
        for fd, _ in [(channel.sock.fileno(), 0)] if channel.whole() else poll.poll():
            if fd == r:
                os.read(r, 512)
                reap(channel, tasks)
                continue
            frame = channel.read()
            if frame is None:
                os._exit(0)
            body, rid = frame["body"], frame["id"]
            if body["type"] == "Describe":
                answer, facts = describe(body)
                sys.stdout.flush()
                channel.send(answer, rid)
            elif body["type"] == "Fork":
                fds, channel.fds = channel.fds[:3], channel.fds[3:]
                pid = os.fork()
                if pid == 0:
                    become_task(channel, fds, facts)
                for f in fds:
                    os.close(f)
                tasks[pid] = body["fork_id"]
                channel.send({"type": "Forked", "pid": pid}, rid)
                reap(channel, tasks)
            elif body["type"] == "Shutdown":
                os._exit(0)


def reap(channel, tasks):
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in tasks:
            orphans = 0
            for p in os.listdir("/proc"):  # what the task left is ours now
                try:
                    with open("/proc/%s/stat" % p) as f:
                        if int(p) not in tasks and int(f.read().rpartition(")")[2].split()[1]) == os.getpid():
                            os.kill(int(p), signal.SIGKILL)
                            orphans += 1
                except (OSError, ValueError):
                    pass
            channel.send({"type": "Exited", "fork_id": tasks.pop(pid), "pid": pid, "status": status, "orphans": orphans,
                          "utime": usage.ru_utime, "stime": usage.ru_stime, "maxrss": usage.ru_maxrss * 1024})


main()
