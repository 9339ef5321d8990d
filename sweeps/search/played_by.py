"""The code and libraries that a sweep is played by.

Other code may propose and measure other things, so it may not continue a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lanelock.engine.chain import upstream_codes
from lanelock.policies.documents import digest
from lanelock.sweeps.lanes.lane import Lane

_LIBRARIES = ("numpy", "optuna", "scipy")  # on which proposals depend
_ROOMS = ("scoring", "sweeps/lanes", "sweeps/decision", "sweeps/search")  # whose sources propose, grade and decide


def played_by(lane: Lane) -> Mapping[str, str]:
    """Returns what determines a sweep's trials besides its lane: digests and versions, by name."""
    libraries = {name: version(name) for name in _LIBRARIES}
    upstream = {f"upstream {name}": code for name, code in upstream_codes(lane.engine).items()}
    return {**upstream, "engine": lane.engine.code_version, "search": _search_code(), **libraries}


def other_code(begun: Mapping[str, object], lane: Lane) -> str:
    """Returns by what the code that began a sweep differs from the installed; empty if it does not."""
    before, now, libraries = begun.get("played_by"), played_by(lane), _LIBRARIES
    if not isinstance(before, Mapping):
        return "played by an older version, which did not store its code"
    for name, installed in now.items():
        if before.get(name) != installed:
            part = name if name in libraries else f"{name} code"
            return f"played by {part} {_short(str(before.get(name)))}, installed is {_short(installed)}"
    return ""


@cache
def _search_code() -> str:
    """Returns a hex64 digest of the sources that propose, grade and decide."""
    root = Path(__file__).resolve().parents[2]
    files = sorted(path for room in _ROOMS for path in (root / room).glob("*.py"))
    return digest({path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files})


def _short(name: str) -> str:
    return name if len(name) < 20 else f"{name[:12]}…"
