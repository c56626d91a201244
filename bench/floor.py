"""The least that the same work can cost on this machine: what no orchestrator that forks a process a task gets below.

One Python process with nothing in it but the imports of the case forks a child a task, in a session of its own, reads what
it says through a pipe and waits for it, with a durable write before (the task is queued) and after (it has ended). No
scheduler, no database, no log, no templates, no second process to talk to. Prints milliseconds a task without the function.
"""

import os
import sys
import time

import dags


def fibo(n):
    return n if n < 2 else fibo(n - 1) + fibo(n - 2)


def task(n):
    """Run the function in a child and return how long it alone took."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        started = time.perf_counter()
        fibo(n)
        os.write(into, b"%.9f" % (time.perf_counter() - started))
        os._exit(0)
    os.close(into)
    said = b""
    while piece := os.read(out, 4096):
        said += piece
    os.close(out)
    os.waitpid(pid, 0)
    return float(said)


def main():
    folder, dag_id = sys.argv[1:]
    case = dags.CASES[dag_id]
    exec(case["preload"], {})
    path = os.path.join(folder, "floor")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)

    def durable(i):
        os.pwrite(fd, b"x" * 4096, (i % 256) * 4096)
        os.fdatasync(fd)

    task(1)
    alone, started = 0.0, time.perf_counter()
    for i in range(case["tasks"]):
        durable(2 * i)
        alone += task(case["n"])
        durable(2 * i + 1)
    print((time.perf_counter() - started - alone) / case["tasks"] * 1000)
    os.unlink(path)


if __name__ == "__main__":
    main()
