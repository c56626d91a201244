"""The text of a value for a log: what ``str`` makes of it, but no more than a line can hold, and for any value at all.

Nothing the author's value does may fail the task whose work is done: a class may raise when it is shown, and a thread
may go on to change a collection while it is. Only what a signal raises goes through.
"""

import itertools

LIMIT = 1 << 16
"""The most characters of a value that are shown."""

_TRIES = 20  # to read a collection that somebody is changing

_BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("frozenset({", "})"), dict: ("{", "}")}


def text_of(value, limit=LIMIT):
    """Return ``str(value)``, cut off after ``limit`` characters; of plain data the rest is not even looked at."""
    try:
        return _text_of(value, limit)
    except _signalled():
        raise
    except BaseException as fault:  # memory has run out, or a class has no name even
        return "<a value that cannot be shown: %s>" % type(fault).__name__


def repr_of(value):
    """Return ``repr(value)``, or words where its class fails to make it."""
    return _quiet(repr, value)


def _text_of(value, limit):
    if type(value) in _BRACKETS and value:
        return _text_of_collection(value, limit)
    size = _length(value)
    if size > limit:
        return "%s… (%d more)" % (_quiet(str, value[:limit]), size - limit)
    text = _quiet(str, value)
    return text if len(text) <= limit else "%s… (%d more characters)" % (text[:limit], len(text) - limit)


def _text_of_collection(value, limit):
    parts, size = [], 0
    for part in _pieces(value, limit):
        parts.append(part)
        size += len(part)
        if size > limit:
            return "%s… (%d elements in all)" % ("".join(parts)[:limit], len(value))
    return "".join(parts)


def _pieces(value, limit):
    """Yield what ``repr`` is made of, without calling itself: data may be nested deeper than Python can count."""
    levels, inside = [_Level(value, limit)], {id(value)}
    yield levels[0].first
    while levels:
        level = levels[-1]
        for item in level.items:
            lead = ", " if level.count else ""
            level.count += 1
            if level.keyed:
                key, item = item
                lead += _short(key, limit) + ": "
            if type(item) not in _BRACKETS or not item:
                yield lead + _short(item, limit)
            elif id(item) in inside:
                yield lead + "...".join(_BRACKETS[type(item)])
            else:
                levels.append(_Level(item, limit))
                inside.add(id(item))
                yield lead + levels[-1].first
                break
        else:
            levels.pop()
            inside.discard(level.owner)
            yield level.last if level.count != 1 or level.last != ")" else ",)"


class _Level:
    """A collection whose elements are being shown."""

    def __init__(self, value, limit):
        self.value, self.owner, self.count = value, id(value), 0
        self.items = iter(_items(value, limit))
        self.keyed = type(value) is dict
        self.first, self.last = _BRACKETS[type(value)]


def _items(value, limit):
    """Return what can be gone through while another thread changes the collection: no more of it than can be shown."""
    if isinstance(value, (list, tuple)):  # these may be changed meanwhile
        return value
    for _ in range(_TRIES):
        try:
            return list(itertools.islice(value.items() if type(value) is dict else value, limit + 1))
        except RuntimeError:  # it has changed
            pass
    changing = Changing()
    return [(changing, changing)] if type(value) is dict else [changing]


class Changing:
    """Stands for the elements of a collection that is never the same from beginning to end."""

    def __repr__(self):
        return "<changed while it was shown>"


def _length(value):
    """Return the length of text or bytes, whatever a class of the author's makes of it; 0 of anything else."""
    for kind in (str, bytes, bytearray):
        if type(value) is kind:
            return len(value)
    return 0


def _short(value, limit):
    if _length(value) > limit:
        value = value[:limit + 1]
    return _quiet(repr, value)


def _quiet(show, value):
    """Return the text that a class makes of its value; whatever goes wrong in it, this does not fail."""
    try:
        return "".join((show(value),))  # of a class derived from str, the text alone
    except _signalled():
        raise
    except BaseException as fault:
        return "<%s that cannot be shown: %s>" % (type(value).__name__, type(fault).__name__)


def _signalled():
    """Return what a signal handler raises: it comes from outside and has nothing to do with the value."""
    from .exceptions import AirflowTaskTerminated, AirflowTaskTimeout

    return KeyboardInterrupt, AirflowTaskTerminated, AirflowTaskTimeout
