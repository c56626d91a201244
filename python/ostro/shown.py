"""The text of a value for a log: what ``str`` makes of it, but no more than a line can hold, and for any value at all."""

LIMIT = 1 << 16
"""The most characters of a value that are shown."""

_BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("frozenset({", "})"), dict: ("{", "}")}


def text_of(value, limit=LIMIT):
    """Return ``str(value)``, cut off after ``limit`` characters; of plain data the rest is not even looked at."""
    if type(value) in _BRACKETS and value:
        return _text_of_collection(value, limit)
    if isinstance(value, (str, bytes, bytearray)) and len(value) > limit:
        return "%s… (%d more)" % (_quiet(str, value[:limit]), len(value) - limit)
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
    levels, inside = [_Level(value)], {id(value)}
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
                levels.append(_Level(item))
                inside.add(id(item))
                yield lead + levels[-1].first
                break
        else:
            levels.pop()
            inside.discard(level.owner)
            yield level.last if level.count != 1 or level.last != ")" else ",)"


class _Level:
    """A collection whose elements are being shown."""

    def __init__(self, value):
        self.keyed, self.owner, self.count = type(value) is dict, id(value), 0
        self.items = iter(value.items() if self.keyed else value)
        self.first, self.last = _BRACKETS[type(value)]


def _short(value, limit):
    if isinstance(value, (str, bytes, bytearray)) and len(value) > limit:
        value = value[:limit + 1]
    return _quiet(repr, value)


def _quiet(show, value):
    """Return the text that a class makes of its value; whatever goes wrong in it, this does not fail."""
    try:
        return show(value)
    except Exception as fault:
        return "<%s that cannot be shown: %s>" % (type(value).__name__, type(fault).__name__)
