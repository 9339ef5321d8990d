"""What MLflow takes of names and texts, and how others are written so that it takes them.

Names are letters, digits and `_ - . : /` and spaces, read as a path that is its own shortest form. Another name becomes
a readable form of it and a digest of the whole, so that no two names become one; tag `lanelock.renamed` has the names
as they were. Texts are cut where MLflow would cut them, and lose what no database holds.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from lanelock.sweeps.record.letters import Entry

RENAMED = "lanelock.renamed"
_NAME, _PARAM, _TAG, _SHOWN = 250, 6000, 8000, 20_000  # characters
_ALLOWED, _OTHERS = re.compile(r"[/\w.\- :]+"), re.compile(r"[^A-Za-z0-9_.\- :]+")
_READABLE = 200  # characters that a renamed name keeps
_UNHELD = re.compile("[\x00\ud800-\udfff]")  # NUL and halves of surrogate pairs

Value = TypeVar("Value")


def taken(entry: Entry) -> Entry:
    """Returns an entry with names and params as MLflow takes them; `taken(taken(x)) == taken(x)`."""
    renamed = {
        name_taken(name): _held(name)
        for name in (*entry.metrics, *entry.params, *entry.tags)
        if name_taken(name) != name
    }
    tags = {**_named(entry.tags), **({RENAMED: json.dumps(renamed, sort_keys=True)[:_TAG]} if renamed else {})}
    params = {name: _held(text)[:_PARAM] for name, text in _named(entry.params).items()}
    return replace(entry, name=_held(entry.name), metrics=_named(entry.metrics), params=params, tags=tags)


def name_taken(name: str) -> str:
    """Returns a name that MLflow takes: the same where it does."""
    if _is_taken(name):
        return name
    readable = _OTHERS.sub("_", name).strip("./ ")[:_READABLE]
    return f"{readable or 'name'}.{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def tag_taken(text: str) -> str:
    """Returns the text of a run's tag, as MLflow takes it."""
    return _held(text)[:_TAG]


def shown_taken(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags of an experiment without those that are too long: a view that is cut would be no view."""
    return {name: _held(text) for name, text in tags.items() if len(text) <= _SHOWN}


def _is_taken(name: str) -> bool:
    path = posixpath.normpath(name)
    inside = path == name and path != "." and not path.startswith(("..", "/"))
    return inside and len(name) <= _NAME and _ALLOWED.fullmatch(name) is not None


def _named(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name_taken(name): value for name, value in values.items()}


def _held(text: str) -> str:
    return _UNHELD.sub("\N{REPLACEMENT CHARACTER}", text)
