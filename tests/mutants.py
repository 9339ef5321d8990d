"""Documents with one thing changed at random: a value, a field, a row, two places exchanged, the bytes of the file."""

import copy
import json
import math

VALUES = (
    None, True, False, 0, -1, 1.5, 2**60, 10**400, 1e308, "", "x", "\ud800", "../../x", "0" * 64, "certified",
    "rollback", "QUJD", [], {}, [[]],
)  # fmt: skip
FIELDS = ("note", "signed_by", "envelope", "format")
LITERALS = (b"NaN", b"-Infinity", b"1e400", b"[" * 2_000, b"[" * 200_000, b'"\\ud800"', b"01", b"0x1", b"1" * 5_000)


def mutated(document, chance):
    """Returns a copy of a JSON document with one place changed."""
    document = copy.deepcopy(document)
    *above, last = chance.choice([place for place in places(document) if place])
    node = document
    for name in above:
        node = node[name]
    how = chance.random()
    if how < 0.2:
        del node[last]
    elif how < 0.3 and isinstance(node, dict):
        node[chance.choice(FIELDS)] = copy.deepcopy(chance.choice(VALUES))
    elif how < 0.4:
        other = chance.choice([*node] if isinstance(node, dict) else range(len(node)))
        node[last], node[other] = node[other], node[last]
    elif how < 0.5 and isinstance(node, list):
        node.insert(last, copy.deepcopy(node[last]))
    elif how < 0.75:
        node[last] = near(node[last], chance)
    else:
        node[last] = copy.deepcopy(chance.choice(VALUES))
    return document


def near(value, chance):
    """Returns another value that is hard to tell from `value`: of the last bit, of another type, a letter more."""
    if isinstance(value, bool):
        return chance.choice([not value, int(value), float(value), str(value)])
    if isinstance(value, int | float):
        up = math.nextafter(float(value), math.inf)
        return chance.choice([-value, value + 1, up, str(value), bool(value), [value], value * 1.1])
    if isinstance(value, str):
        return chance.choice([f"{value} ", value[:-1], value.swapcase(), value[::-1], f"{value}\n"])
    return {} if isinstance(value, list) else []


def damaged(document, chance):
    """Returns the bytes of a JSON document, changed where a document cannot be: literals, encoding, a byte, the end."""
    text = json.dumps(document).encode()
    at = chance.randrange(len(text))
    holed = copy.deepcopy(document)
    *above, last = chance.choice([place for place in places(holed) if place])
    node = holed
    for name in above:
        node = node[name]
    node[last] = "here"
    return chance.choice([
        json.dumps(holed).encode().replace(b'"here"', chance.choice(LITERALS)),
        text[:at],
        text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :],
        b"\xef\xbb\xbf" + text,
        text.decode().encode("utf-16"),
        text + text,
        text[:-1] + b"," + text[1:],  # every field twice
    ])  # fmt: skip


def differences(one, other, above=""):
    """Yields the addresses, `/a/b`, at which two JSON documents differ. 4 and 4.0 are the same, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from differences(one.get(name, ...), other.get(name, ...), f"{above}/{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{above}/{index}")
    elif one != other or isinstance(one, bool) != isinstance(other, bool):
        yield above or "/"


def places(node, above=()):
    """Yields the path, as a tuple of names and indices, of every value in a document: itself first."""
    yield above
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inner:
        yield from places(value, (*above, name))
