"""Which values are secrets, and keeping them out of what is printed where no worker does that: in local runs.

The rules are those of Go's package ``secret``, which masks the logs of a server's tasks.
"""

import io
import json
import re
import threading
from contextlib import contextmanager

HIDDEN = "***"
MIN_LENGTH = 5
"""A shorter value is not masked unless a program names it: hiding every "1" makes a log unreadable and hides nothing."""

_SENSITIVE = ("access_key", "access_token", "api_key", "apikey", "authorization", "connection_string", "keyfile_dict",
              "passphrase", "passwd", "password", "private_key", "proxies", "proxy", "secret", "service_account", "token")
_HARMLESS = re.compile("tokeniz|max_token|num_token|n_tokens|new_tokens")


def looks_secret(name):
    """Say whether a name is that of something to mask."""
    name = _HARMLESS.sub("", str(name).strip().lower().replace("-", "_"))
    return any(word in name for word in _SENSITIVE)


def find(name, text):
    """Return what is secret of a text that stands under a name: all of it, or what is under sensitive keys in its JSON."""
    whole = looks_secret(name)
    out = [text] if whole else []
    if text and text.lstrip()[:1] in ("{", "[", '"'):
        try:
            _collect(out, whole, json.loads(text))
        except ValueError:
            pass
    return out


def _collect(out, whole, value):
    if isinstance(value, dict):
        for key, item in value.items():
            _collect(out, whole or looks_secret(key), item)
    elif isinstance(value, list):
        for item in value:
            _collect(out, whole, item)
    elif whole and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        out.append(str(value))


def _forms(value):
    """Return how a value can show up in text: by line, in JSON, in a repr, in a URI."""
    from urllib.parse import quote, quote_plus

    out = {value, value.strip(), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    out.update(line.strip() for line in value.splitlines() if len(line.strip()) >= MIN_LENGTH)
    for one in list(out):
        try:
            out.update((quote(one, safe=""), quote(one), quote_plus(one)))
        except UnicodeEncodeError:
            pass
    return out


class Masker:
    """Replaces the secrets it was told. Any thread may use it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._values, self._compiled = set(), None  # the pattern, None while it has to be made
        self._begins = {}  # first character of values → those values
        self.relay = None  # called with the values and ``least``, before they can be printed

    def add(self, *values, least=MIN_LENGTH):
        """Hide values from now on, except for those shorter than ``least``."""
        if self.relay is not None and values:
            self.relay(values, least)
        self.add_all([(values, least)])

    def add_all(self, told):
        """Add pairs of values and the least length."""
        with self._lock:
            for values, least in told:
                for value in values:
                    for form in _forms(value):
                        if len(form) >= least and form != HIDDEN and form not in self._values:
                            self._values.add(form)
                            self._begins.setdefault(form[0], []).append(form)
                            self._compiled = None

    def _pattern(self):
        """Return the pattern of all values, the longest first; it is made when it is used first."""
        with self._lock:
            if self._compiled is None and self._values:
                self._compiled = re.compile("|".join(map(re.escape, sorted(self._values, key=len, reverse=True))))
            return self._compiled

    def mask(self, text):
        """Return a text without the secrets."""
        pattern = self._pattern()
        return pattern.sub(HIDDEN, text) if pattern is not None else text

    def begun(self, text):
        """Return how many characters at the end of a text may be the beginning of a secret."""
        with self._lock:
            most = 0
            for first, values in self._begins.items():
                longest = max(map(len, values)) - 1
                at = text.find(first, max(len(text) - longest, 0))
                while at >= 0 and len(text) - at > most:
                    if any(len(text) - at < len(value) and value.startswith(text[at:]) for value in values):
                        most = len(text) - at
                        break
                    at = text.find(first, at + 1)
            return most

    def safe(self, text):
        """Return how much of the beginning of a text can be passed on before more of it is there.

        What is kept back may be the beginning of a secret; it begins with a whole one where that would be cut in two.
        """
        size, pattern = len(text) - self.begun(text), self._pattern()
        if size < len(text):
            size = next((one.start() for one in pattern.finditer(text) if one.start() < size < one.end()), size)
        return size


class MaskedStream(io.TextIOBase):
    """Writes to another text stream, without the secrets. A line is passed on when it is complete or flushed."""

    def __init__(self, target, masker):
        super().__init__()
        self._target, self._masker = target, masker
        self._held, self._guard = "", threading.RLock()
        self.buffer = _Bytes(self)

    def __getattr__(self, name):  # all else that people ask of sys.stdout: name, mode, line_buffering …
        return getattr(self.__dict__["_target"], name)

    encoding = property(lambda self: self._target.encoding)
    errors = property(lambda self: self._target.errors)
    newlines = property(lambda self: self._target.newlines)

    def reconfigure(self, **settings):
        """Change the stream this one writes to."""
        self.flush()
        self._target.reconfigure(**settings)

    def detach(self):
        """Return the bytes side; this stream goes on as before, unlike Python's."""
        self.flush()
        return self.buffer

    def writable(self):
        return True

    def fileno(self):
        return self._target.fileno()

    def isatty(self):
        return self._target.isatty()

    def write(self, text):
        with self._guard:
            self._held += text
            self._pass_on(self._held.rfind("\n") + 1)
        return len(text)

    def flush(self):
        if self._target.closed:  # this is the end of the program
            return
        with self._guard:
            self._pass_on(self._masker.safe(self._held))
            self._target.flush()

    def finish(self):
        """Pass on what is left."""
        with self._guard:
            self._pass_on(len(self._held))
            self._target.flush()

    def _pass_on(self, size):
        if size:
            text, self._held = self._held[:size], self._held[size:]
            self._target.write(self._masker.mask(text))


class _Bytes(io.RawIOBase):
    """The bytes side of a MaskedStream."""

    def __init__(self, stream):
        super().__init__()
        self._stream = stream

    def writable(self):
        return True

    def write(self, data):
        self._stream.write(bytes(data).decode(self._stream.encoding or "utf-8", "backslashreplace"))
        return len(data)

    def flush(self):
        self._stream.flush()


@contextmanager
def masked_output(masker):
    """Keep secrets out of what this process prints and logs, for the time of the block."""
    import logging
    import sys

    before = sys.stdout, sys.stderr
    made = {id(stream): MaskedStream(stream, masker) for stream in before if stream is not None}
    known = [reference() for reference in logging._handlerList]  # of every logger, not of the root alone
    handlers = [one for one in known if isinstance(one, logging.StreamHandler)
                and not isinstance(one, logging._StderrHandler) and id(one.stream) in made]
    kept = [(one, one.setStream(made[id(one.stream)])) for one in handlers]
    sys.stdout, sys.stderr = [made.get(id(stream)) for stream in before]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for handler, stream in kept:
            handler.setStream(stream)
        for stream in made.values():
            stream.finish()
