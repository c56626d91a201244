"""How much a process has printed, as its log records say it."""

import json
import os
import subprocess
import sys

PROGRAM = """
import json, os, sys, threading
from ostro import outputs
outputs.prepare()
def stamp():
    record = {}
    outputs.stamp(record)
    return record
seen = [stamp()]
outputs.reset()
seen.append(stamp())
print("a line")
seen.append(stamp())
print("\\u20ac", end="")
sys.stderr.write("error\\n")
seen.append(stamp())
print()
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
seen.append(stamp())
stop.set()
thread.join()
if os.fork() == 0:
    os._exit(1 if stamp() else 0)
seen.append(os.wait()[1])
sys.stdout.buffer.raw.write(memoryview(b"raw\\n").cast("B"))
seen.append(stamp())
with open(sys.argv[1], "w") as f:
    json.dump(seen, f)
"""


def test_a_record_says_how_much_was_printed_before_it(tmp_path):
    env = dict(os.environ, PYTHONPATH=":".join(p for p in sys.path if p), PYTHONDONTWRITEBYTECODE="1")
    seen = str(tmp_path / "seen")
    out = subprocess.run([sys.executable, "-c", PROGRAM, seen], env=env, capture_output=True, timeout=30)
    assert out.stdout.decode("utf-8") == "a line\n\u20ac\nraw\n", out.stderr
    with open(seen) as f:
        assert json.load(f) == [
            {},
            {"alone": True, "after": [0, 0]},
            {"alone": True, "after": [7, 0]},
            {"alone": True, "after": [10, 6], "begun": [True, False]},
            {"after": [11, 6]},
            0,
            {"alone": True, "after": [15, 6]},
        ]
