"""BashOperator."""

import os

from ..baseoperator import BaseOperator
from ..exceptions import AirflowException, AirflowSkipException
from .process import run_streaming


class BashOperator(BaseOperator):
    """Runs a command with bash; the last line of its output is the XCom."""

    template_fields = ("bash_command", "env", "cwd")
    template_fields_renderers = {"bash_command": "bash", "env": "json"}
    template_ext = (".sh", ".bash")
    ui_color = "#f0ede4"
    shown_module = "airflow.providers.standard.operators.bash"
    runtime_modules = ("subprocess", "shutil", "tempfile", "threading")

    def __init__(self, *, bash_command, env=None, append_env=False, output_encoding="utf-8", skip_exit_code=None,
                 skip_on_exit_code=99, cwd=None, output_processor=None, **kwargs):
        super().__init__(**kwargs)
        self.bash_command, self.env, self.append_env = bash_command, env, append_env
        self.output_encoding, self.cwd, self.output_processor = output_encoding, cwd, output_processor
        if skip_exit_code is not None:
            skip_on_exit_code = skip_exit_code
        self.skip_on_exit_code = (list(skip_on_exit_code) if isinstance(skip_on_exit_code, (list, tuple, set))
                                  else [skip_on_exit_code] if skip_on_exit_code is not None else [])
        self._child = None

    def _environment(self, context):
        env = dict(os.environ) if self.env is None or self.append_env else {}
        env.update(self.env or {})
        from ..context import context_to_env

        env.update(context_to_env(context))
        return env

    def execute(self, context):
        import shutil
        import tempfile

        from ..scratch import place

        if self.cwd is not None and not os.path.isdir(self.cwd):
            raise AirflowException("cannot find the cwd: %s" % self.cwd if not os.path.exists(self.cwd)
                                   else "the cwd %s must be a directory" % self.cwd)
        bash = shutil.which("bash") or "sh"
        with tempfile.TemporaryDirectory(prefix="airflowtmp", dir=place()) as scratch:
            self.log.info("Running command: %s", [bash, "-c", self.bash_command])
            run_streaming([bash, "-c", self.bash_command], self, cwd=self.cwd or scratch,
                          env=self._environment(context), encoding=self.output_encoding)
            code, last = self._child.wait()
        self.log.info("Command exited with return code %d", code)
        if code in self.skip_on_exit_code:
            raise AirflowSkipException("Bash command returned exit code %d. Skipping." % code)
        if code != 0:
            raise AirflowException("Bash command failed. The command returned a non-zero exit code %s."
                                   % self._child.describe_exit(code))
        return self.output_processor(last) if self.output_processor else last

    def on_kill(self):
        if self._child is not None:
            self.log.info("Sending SIGTERM signal to process group")
            self._child.kill_tree()
