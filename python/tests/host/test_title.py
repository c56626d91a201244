"""What ps shows of a task process."""

import subprocess
import sys

PROGRAM = """
import sys
from ostro import kernel
kernel.set_title("ostro task d.t")
print(open("/proc/self/cmdline").read().rstrip("\\0"))
kernel.set_title("x" * 10000)
print(len(open("/proc/self/cmdline").read()) <= 4096)
print(b"MARK=kept" in open("/proc/self/environ", "rb").read())
"""


def test_a_task_process_shows_its_task_and_keeps_its_environment_readable():
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p), "MARK": "kept", "PYTHONDONTWRITEBYTECODE": "1"}
    args = [sys.executable, "-c", PROGRAM, "some", "arguments"]
    out = subprocess.run(args, env=env, capture_output=True, text=True, timeout=30)
    assert out.stdout.split("\n")[:3] == ["ostro task d.t", "True", "True"], out.stderr
