"""A spawned task."""

import ctypes
import os
import socket

from ostro import wire

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # subreaper
    wire.run(wire.Channel(socket.socket(fileno=int(os.environ.pop("OSTRO_TASK_FD")))))
