"""The transcript of a search: a chain of digests in which every finished trial holds all trials before it.

The chain starts from what the sweep began with: lane, packs, gates, first candidates, code and libraries. It leaves out
clocks and places, so it does not depend on the number of workers. A lock carries the head of the chain and its length:
no trial before it can be altered, dropped or moved unseen, and "the best of N" can be proved by whoever has the study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lanelock.policies import IntegrityError
from lanelock.sweeps.lanes.trial import Trial

_FREE = ("seconds", "used", "at_ms", "chain")  # of a record: what may differ between two plays of one sweep
_BUDGET = ("budget", "$schema")  # of a lane: what a resumed sweep may change
_CONSTRAINTS = "constraints"  # the beginning of the attributes that repeat a trial's constraints


def origin_of(begun: Mapping[str, Any]) -> str:
    """Returns the digest (hex64) of what a sweep began with, as its study stores it."""
    return _digest({
        "lane": {name: value for name, value in begun["lane"].items() if name not in _BUDGET},
        "packs": [begun["authority"]["digest"], {name: row["digest"] for name, row in begun["references"].items()}],
        "gates": begun["gates"],
        "first": [begun.get("listed"), begun.get("from"), begun.get("taken")],
        "reach": begun.get("reach"),
        "played_by": begun.get("played_by"),
    })  # fmt: skip


def link(before: str, trial: Trial, attributes: Mapping[str, Any]) -> str:
    """Returns the head (hex64) of a transcript after one more trial. `attributes` are what its sampler keeps of it."""
    return _digest({
        "before": before,
        "number": trial.number,
        "values": trial.values,
        "objectives": trial.objectives,
        "constraints": trial.constraints,
        "record": {name: value for name, value in trial.record.document.items() if name not in _FREE},
        "sampler": {name: value for name, value in attributes.items() if not name.startswith(_CONSTRAINTS)},
    })  # fmt: skip


def follows(sweep: str, trial: Trial, head: str) -> None:
    """Raises IntegrityError unless a stored trial states the head that its content and the trials before it give."""
    if trial.record.chain != head:
        before = "what the sweep began with" if trial.number == 0 else f"trial {trial.number - 1}"
        raise IntegrityError(
            f"study {sweep}: trial {trial.number} does not follow from {before}: it states "
            f"{trial.record.chain[:12] or 'no head'} as head of the transcript, its content gives {head[:12]}; the "
            "study was changed"
        )


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(body), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Returns JSON in which every number has one form, since storages return 4 as 4.0."""
    if isinstance(value, Mapping):
        return {str(name): _plain(row) for name, row in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(row) for row in value]
    if isinstance(value, bool | str) or value is None:
        return value
    whole = isinstance(value, int) or float(value).is_integer()
    return str(int(value)) if whole else float(value).hex()
