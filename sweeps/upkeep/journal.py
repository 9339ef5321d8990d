"""How many trials each sweep has, counted in the study journal without opening a study.

Opening one takes a second of imports and takes the journal's lock; who only asks how things stand pays neither.
What a line says is Optuna's affair, so only what counting needs is read of it: a study begun (0) or deleted (1),
an attribute of one set (2), a trial added (4). `tests/sweeps/test_status.py` holds the count to Optuna's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_CREATE, _DELETE, _ATTRIBUTE, _TRIAL = b"0", b"1", b"2", b"4"
_OPERATION = re.compile(rb'^\{"op_code": ?(\d+)')
_STUDY = re.compile(rb'"study_id": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as the journal has it."""

    name: str
    trials: int  # told
    lane: str = ""
    budget: int | None = None  # trials; what it was begun with


def sweeps_in(place: Path | str) -> Mapping[str, Sweep]:
    """Sweeps by name, oldest first, in a journal, or in the database of an address."""
    return _in_database(place) if isinstance(place, str) else _in_journal(place)


def _in_database(url: str) -> Mapping[str, Sweep]:
    from lanelock.sweeps.lanes.study import Studies

    studies = Studies(url)
    found = {}
    for name, trials in studies.counted():
        lane = studies.attributes(name).get("lane", {})
        found[name] = Sweep(name, trials, lane.get("id", ""), lane.get("budget", {}).get("trials"))
    return found


def _in_journal(journal: Path) -> Mapping[str, Sweep]:
    """A last line without an end was told to nobody and is not counted."""
    found: dict[int, Sweep] = {}
    begun = 0
    if not journal.is_file():
        return {}
    with journal.open("rb") as file:
        for line in file:
            operation = _OPERATION.match(line)
            if operation is None or not line.endswith(b"\n"):
                continue
            if operation[1] == _CREATE:
                name = json.loads(line)["study_name"]
                if all(sweep.name != name for sweep in found.values()):
                    found[begun] = Sweep(name, 0)
                    begun += 1
            elif (study := _STUDY.search(line)) and int(study[1]) in found:
                number = int(study[1])
                found[number] = _after(found[number], operation[1], line)
                if operation[1] == _DELETE:
                    del found[number]
    return {sweep.name: sweep for sweep in found.values()}


def _after(sweep: Sweep, operation: bytes, line: bytes) -> Sweep:
    if operation == _TRIAL:
        return replace(sweep, trials=sweep.trials + 1)
    if operation == _ATTRIBUTE and b'"lane":' in line:
        lane = json.loads(line).get("user_attr", {}).get("lane", {})
        return replace(sweep, lane=lane.get("id", ""), budget=lane.get("budget", {}).get("trials"))
    return sweep
