"""Whole runs: a candidate run to its engine's last state, audited by the engine, and bundled.

A lane may stop its trials at an earlier state. What it locks is run to the end all the same, where the engine publishes
runs: published in a scratch folder that is removed, every file checked against the receipt, and known afterwards by one
digest. That is the digest of `files` in the receipt of the same run, wherever somebody publishes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lanelock.engine.keep.published import receipt_in
from lanelock.engine.protocol import Publishing, Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import EngineError, Pack
from lanelock.policies.documents import digest
from lanelock.policies.errors import blamed
from lanelock.sweeps.provenance import here

WRITER = "pyarrow"  # the library that writes tables; another version may write other bytes of the same tables


@dataclass(frozen=True, slots=True)
class WholeRun:
    """What a lock states of its candidate's run to the last state, on one seed."""

    audit: bool | None  # whether the engine's own audit passed; None: it has none
    bundle: str  # hex64, see `bundle_of`


def whole_runs(engine: Resolved, pack: Pack, seeds: Sequence[int], world: Path | None) -> dict[int, WholeRun]:
    """Returns the whole run of each seed; none at all for an engine that does not publish runs."""
    if not isinstance(engine.own, Publishing):
        return {}
    runs = (engine.evaluate(pack, seed, world=world) for seed in seeds)
    return {run.seed: WholeRun(audit_of(run), bundle_of(engine, run)) for run in runs}


def other_files(made_by: Mapping[str, Any]) -> str:
    """Returns by which other library files were written than here, in words: their bytes are its. Empty if by none."""
    stated, installed = made_by.get("libraries", {}).get(WRITER), here().libraries.get(WRITER)
    return "" if stated == installed else f"written by {WRITER} {stated}, here {installed}"


def audit_of(run: Run) -> bool | None:
    return None if run.audit is None else bool(run.audit.passed)


def bundle_of(engine: Resolved, run: Run) -> str:
    """Returns the digest (hex64) over path and SHA-256 of every file that a run publishes.

    Raises EngineError if what was published is not what its receipt states, LaneError if the engine publishes nothing.
    """
    publishing = engine.part(Publishing)
    where = f"engine {engine.name}: bundle of pack {run.pack.name}, seed {run.seed}"
    with TemporaryDirectory(prefix="lanelock-bundle-") as scratch, blamed(where):
        folder = publishing.publish(run, Path(scratch)).folder
        for name, fault in publishing.faults(folder):
            raise EngineError(where, f"{name}: {fault}")
        files: Mapping[str, str] = receipt_in(folder)["files"]
        return digest(dict(files))
