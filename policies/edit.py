"""Changes values in the text of a JSON document and nothing else.

White space, the order of keys, and the spelling of every value that stays (0.10, 1e-3) are kept byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lanelock.policies.documents import MARK
from lanelock.policies.errors import PolicyError

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Node:
    """One value, and where it stands in the text: text[start:end]."""

    start: int
    end: int
    value: Any  # of a string, a number, true, false or null
    inner: Mapping[str, _Node] | tuple[_Node, ...] | None = None  # of an object or an array


def edited(text: str, document: Any, where: str) -> str:
    """Returns the text with the values of `document`. Law: `json.loads(edited(text, document, where)) == document`.

    `text` must be strict JSON (`documents.parse_json`). Objects must have the same keys on both sides, and an array
    stands where an array stood; one of another length is written anew. Raises PolicyError naming the first field
    that differs in structure.
    """
    ascii_only, parts, at = text.isascii(), list[str](), 0
    begin = _skip(text, len(MARK) if text.startswith(MARK) else 0)
    for start, end, value in _changes(_scan(text, begin), document, "", where):
        parts += [text[at:start], json.dumps(value, ensure_ascii=ascii_only)]
        at = end
    return "".join([*parts, text[at:]])


def _changes(node: _Node, value: Any, pointer: str, where: str) -> Iterator[tuple[int, int, Any]]:
    """Yields start, end and new value of each place that differs, in the order of the text."""
    field = f"{where}: {pointer or '/'}"
    if isinstance(value, Mapping) and isinstance(node.inner, Mapping):
        inner = {name: f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}" for name in (*value, *node.inner)}
        for name, at in inner.items():
            if name not in node.inner or name not in value:
                has = "is missing from the file" if name in value else "is in the file, not in the pack"
                raise PolicyError(f"{where}: {at}: {has}; give both the same fields first")
        for name, child in node.inner.items():
            yield from _changes(child, value[name], inner[name], where)
    elif isinstance(value, list) and isinstance(node.inner, tuple):
        if len(value) != len(node.inner):
            yield node.start, node.end, value
            return
        for place, (child, item) in enumerate(zip(node.inner, value, strict=True)):
            yield from _changes(child, item, f"{pointer}/{place}", where)
    elif isinstance(value, Mapping | list) or node.inner is not None:
        raise PolicyError(f"{field}: is {_kind(node)} in the file, the pack has {json.dumps(value)[:60]}")
    elif value != node.value or isinstance(value, bool) is not isinstance(node.value, bool):
        yield node.start, node.end, value


def _kind(node: _Node) -> str:
    return "a plain value" if node.inner is None else "an object" if isinstance(node.inner, Mapping) else "an array"


def _scan(text: str, start: int) -> _Node:
    """Returns the value that begins at `start`, with the places of all values in it."""
    if text[start] not in "{[":
        value, end = _DECODER.raw_decode(text, start)
        return _Node(start, end, value)
    named, members, items = text[start] == "{", dict[str, _Node](), list[_Node]()
    at = _skip(text, start + 1)
    while text[at] not in "}]":
        if named:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        child = _scan(text, at)
        if named:
            members[name] = child
        items.append(child)
        at = _skip(text, child.end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return _Node(start, at + 1, None, members if named else tuple(items))


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
