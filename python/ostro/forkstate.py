"""What a host prepares before it forks and what a forked child sets right first: environment, native thread
numbers, random state, open files.

Everything that takes a look at the process (which libraries are loaded, whether the file chose a seed) happens once, in
the host; the child only calls what was found.
"""

import ctypes
import gc
import io
import json
import os
import sys

_THREAD_SETTERS = (
    # what the library's file name contains, its functions, the variables that give its thread number (first wins)
    ("gomp", ("omp_set_num_threads",), ("OMP_NUM_THREADS",)),
    ("libomp", ("omp_set_num_threads",), ("OMP_NUM_THREADS",)),
    ("iomp5", ("omp_set_num_threads",), ("OMP_NUM_THREADS",)),
    (
        "openblas",
        (
            "openblas_set_num_threads",
            "openblas_set_num_threads64_",
            "scipy_openblas_set_num_threads",
            "scipy_openblas_set_num_threads64_",
        ),
        ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    ),
    ("mkl_rt", ("MKL_Set_Num_Threads",), ("MKL_NUM_THREADS", "OMP_NUM_THREADS")),
    ("blis", ("bli_thread_set_num_threads",), ("BLIS_NUM_THREADS", "OMP_NUM_THREADS")),
)
_OMP_PAUSE_HARD = 2
_MAX_REGENERATIONS = 2000  # of the Mersenne twister: 624 words each, about 5 µs each


_IMPOSED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
}


class Environment:
    """The variables that are other during the import than in a task: one native thread each.

    A worker that has set them already says in OSTRO_RESTORE_ENV what they were before, as a JSON object, null for a
    variable that was not set. A variable that the file changes itself keeps the file's value.
    """

    def __init__(self, environ):
        try:
            self._before = dict(json.loads(environ.pop("OSTRO_RESTORE_ENV", None) or "{}"))
        except (ValueError, TypeError):
            self._before = {}
        self._imposed = {name: environ.get(name) for name in self._before}

    def impose(self):
        """Set the variables for the import. Call before any library that reads them is loaded."""
        for name, value in _IMPOSED.items():
            now = os.environ.get(name)
            if name not in self._before or now != self._imposed.get(name):
                self._before[name] = now
            self._imposed[name] = os.environ[name] = value

    def get(self, name):
        """Return the value of a variable as the task will see it."""
        value = os.environ.get(name)
        if name in self._before and value == self._imposed[name]:
            return self._before[name]
        return value

    def restore(self):
        """Take back what was set for the import. Call before forking."""
        for name, value in self._before.items():
            if os.environ.get(name) != self._imposed[name]:
                continue
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)


class NativeThreads:
    """The thread numbers of native libraries: one while the file is imported, the user's in every task.

    OpenBLAS ends its threads before a fork and starts them again when there is work, so ``settle`` tells it the user's
    number already; told in the child, it would start threads at once that wait for work with a busy loop.

    OpenMP keeps its idle threads in a pool; a fork copies the pool without the threads, and the next parallel region
    waits for them for ever. So the import runs with one thread, and ``settle`` dissolves a pool that a library has
    built in spite of that. A runtime too old to be told (before GCC 9) keeps its pool: ``stuck`` says so, and such a
    file must not be forked.
    """

    def __init__(self, environment):
        self._environment = environment
        self._setters = []  # (function, number)
        self._pausers = []
        self._lazy = []  # (function, number), for libraries with a fork handler that brings threads back when needed
        self.stuck = ""

    def settle(self):
        """Find the libraries the process has loaded and dissolve their idle pools. Call in the host before forking."""
        self._setters, self._pausers, self._lazy, self.stuck = [], [], [], ""
        for path in _loaded_libraries():
            name = os.path.basename(path)
            for part, functions, variables in _THREAD_SETTERS:
                if part in name:
                    self._add(path, functions, self._number(variables))
        self._add_torch()
        for pause in self._pausers:
            pause(_OMP_PAUSE_HARD)
        for setter, number in self._lazy:
            setter(number)

    def restore(self):
        """Set every library's thread number to what it would have been without us. Call in the child."""
        for setter, number in self._setters:
            setter(number)

    def _add(self, path, functions, number):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            return
        for name in functions:
            setter = getattr(library, name, None)
            if setter is not None:
                setter.argtypes, setter.restype = [ctypes.c_int], None
                (self._lazy if "openblas" in name else self._setters).append((setter, number))
        pause = getattr(library, "omp_pause_resource_all", None)
        if pause is not None:
            pause.argtypes, pause.restype = [ctypes.c_int], ctypes.c_int
            self._pausers.append(pause)
        elif "omp_set_num_threads" in functions:
            self._look_for_pool(library, os.path.basename(path))

    def _look_for_pool(self, library, name):
        """Note a pool that cannot be dissolved: somebody has raised the number of threads above the one we imposed."""
        number = getattr(library, "omp_get_max_threads", None)
        if number is not None and number() > 1:
            self.stuck = "the file has built an OpenMP pool of %d threads with %s, which cannot end it before a fork" % (
                number(),
                name,
            )

    def _add_torch(self):
        setter = getattr(sys.modules.get("torch"), "set_num_threads", None)
        if setter is not None:
            self._setters.append((setter, self._number(("OMP_NUM_THREADS",))))

    def _number(self, variables):
        for variable in variables:
            try:
                number = int((self._environment.get(variable) or "").split(",")[0])
            except ValueError:
                continue
            if number > 0:
                return number
        try:
            return len(os.sched_getaffinity(0))
        except (AttributeError, OSError):
            return os.cpu_count() or 1


class RandomStates:
    """The global random generators of Python, numpy and torch.

    Forks of one process would all draw the same numbers, so every child reseeds; except where the file itself has
    chosen a seed (``random.seed(42)`` at module level): then every task starts from that seed, as it would in a process
    that imports the file.
    """

    def __init__(self):
        import random

        self._random = random
        random.seed()
        self._fresh = random.getstate()
        self._restorers = []

    def capture(self):
        """Note which generators the file has seeded. Call in the host before forking."""
        self._restorers = []
        state = self._random.getstate()
        if state != self._fresh and not _descends_from(self._fresh, state):
            self._restorers.append(lambda: self._random.setstate(state))  # else: module random reseeds every fork itself
        numpy_random = sys.modules.get("numpy.random")
        generator = getattr(getattr(numpy_random, "mtrand", None), "_rand", None)
        if generator is not None:
            bits = getattr(generator, "_bit_generator", None)
            if getattr(bits, "_seed_seq", True) is not None:
                frombuffer = sys.modules["numpy"].frombuffer  # seed() without an argument takes twenty times as long
                self._restorers.append(lambda: numpy_random.seed(frombuffer(os.urandom(32), dtype="uint32")))
        torch = sys.modules.get("torch")
        generator = getattr(torch, "default_generator", None)
        if generator is not None and generator.initial_seed() >> 32:  # people choose smaller ones
            self._restorers.append(generator.seed)

    def restore(self):
        """Reseed, or go back to the seed the file chose. Call in the child."""
        for restorer in self._restorers:
            restorer()


class OpenFiles:
    """Files with a write buffer. A fork copies what the buffer holds; os._exit forgets it.

    The host flushes before it forks, so that nothing is written twice; a task flushes before it exits, so that nothing
    is lost, as at the end of any Python program.
    """

    _TYPES = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    _SCAN_LIMIT = 500000

    def __init__(self):
        self._files = []

    def capture(self):
        """Find the files that are open and flush them. Call in the host before gc.freeze(), which hides them."""
        types = self._TYPES
        self._files = [one for one in gc.get_objects() if type(one) in types]
        self.flush()

    def flush(self):
        """Flush the files found by capture."""
        for file in self._files:
            _flush(file)

    def flush_all(self):
        """Flush the files found by capture and those opened since."""
        types = self._TYPES
        self.flush()
        recent = gc.get_objects()
        if len(recent) < self._SCAN_LIMIT:
            for one in recent:
                if type(one) in types:
                    _flush(one)


def _flush(file):
    try:
        if not file.closed and file.writable():
            file.flush()
    except (OSError, ValueError):
        pass


def _descends_from(fresh, state):
    """Tell whether generator state ``state`` was reached from ``fresh`` by drawing numbers (and not by seeding)."""
    import random

    walker = random.Random()
    walker.setstate(fresh)
    words = state[1][:-1]
    for _ in range(_MAX_REGENERATIONS):
        if walker.getstate()[1][:-1] == words:
            return True
        walker.getrandbits(32 * 624)
    return False


def _loaded_libraries():
    found = []
    try:
        with open("/proc/self/maps") as file:
            for line in file:
                fields = line.split(None, 5)
                path = fields[5].strip() if len(fields) == 6 else ""
                if ".so" in path and path not in found:
                    found.append(path)
    except OSError:
        pass
    return found
