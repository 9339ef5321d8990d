"""Documents with one thing changed at random: a value replaced, or a field removed or added."""

import copy

VALUES = (
    None, True, 0, -1, 1.5, 2**60, 1e308, "", "x", "\ud800", "0" * 64, "certified", "rollback", "QUJD", [], {}, [[]],
)  # fmt: skip
FIELDS = ("note", "signed_by", "envelope", "format")


def mutated(document, chance):
    """Returns a copy of a JSON document with one place changed."""
    document = copy.deepcopy(document)
    *above, last = chance.choice([place for place in _places(document) if place])
    node = document
    for name in above:
        node = node[name]
    how = chance.random()
    if how < 0.2:
        del node[last]
    elif how < 0.3 and isinstance(node, dict):
        node[chance.choice(FIELDS)] = copy.deepcopy(chance.choice(VALUES))
    else:
        node[last] = copy.deepcopy(chance.choice(VALUES))
    return document


def _places(node, above=()):
    yield above
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inner:
        yield from _places(value, (*above, name))
