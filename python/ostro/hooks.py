"""The hooks of Airflow's standard provider: running a command, and a connection's folder."""

from typing import NamedTuple

from .connection import BaseHook


class SubprocessResult(NamedTuple):
    """How a command ended: its exit code and the last line of its output."""

    exit_code: int
    output: str


class SubprocessHook(BaseHook):
    """Runs a command, whose output goes to the task's log as it comes."""

    hook_name = "Subprocess"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._child = None

    @property
    def sub_process(self):
        """The running command, a subprocess.Popen; None before."""
        return self._child.process if self._child is not None else None

    def run_command(self, command, env=None, output_encoding="utf-8", cwd=None):
        """Run a command, given as a list, to its end, by default in a folder that is removed then."""
        import os
        import tempfile

        from .operators.process import run_streaming
        from .scratch import place

        self.log.info("Running command: %s", command)
        with tempfile.TemporaryDirectory(prefix="airflowtmp", dir=place()) as scratch:
            run_streaming(command, self, cwd=cwd or scratch, env=dict(os.environ) if env is None else env,
                          encoding=output_encoding)
            code, last = self._child.wait()
        self.log.info("Command exited with return code %s", code)
        return SubprocessResult(code, last)

    def send_sigterm(self):
        """End the running command and what it has started."""
        if self._child is not None and self._child.process.poll() is None:
            self.log.info("Sending SIGTERM signal to process group")
            self._child.kill_tree()


class FSHook(BaseHook):
    """A folder: the ``path`` in the extra of a connection."""

    conn_name_attr, default_conn_name, conn_type, hook_name = "fs_conn_id", "fs_default", "fs", "File (path)"

    def __init__(self, fs_conn_id="fs_default", **kwargs):
        super().__init__(**kwargs)
        self.basepath = self.get_connection(fs_conn_id).extra_dejson.get("path", "")
        self.conn = None

    def get_conn(self):
        """Nothing: a folder is not connected to."""

    def get_path(self):
        """Return the folder."""
        return self.basepath
