"""All trials of a sweep, running or closed, as one table: a row per trial. Read from the durable study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.workspace import Workspace, usual

_NUMBERS = {int, float}


def trials_frame(sweep: str, workspace: Workspace | Path | str | None = None) -> pd.DataFrame:
    """Returns all trials of a sweep as a DataFrame, by number; a value that a trial does not have is missing.

    Columns: trial, state, verdict, band, vetoed, why; then `knob/…`, `objective/…`, `worst/…` (each metric's worst over
    seeds), `seed_N/…` (each metric on a seed), `constraint/…` (a veto's or rail's violation, feasible where <= 0);
    then pack, `seconds/…`, at. `workspace` defaults to the one that the command line would use. Raises PolicyError
    where it has no such sweep.
    """
    of = recorded(sweep, workspace if isinstance(workspace, Workspace) else usual(workspace))
    ledger = Ledger(of.ground())
    trials = sorted(of.trials.values(), key=lambda trial: trial.number)
    rows = [dict(_row(trial, ledger)) for trial in trials]
    frame = pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in _columns(ledger, rows)})
    frame["at"] = pd.to_datetime(frame["at"], unit="ms", utc=True)
    return frame


def _row(trial: Trial, ledger: Ledger) -> Iterator[tuple[str, Any]]:
    record, lane, vetoed = trial.record, ledger.ground.lane, ledger.vetoed(trial)
    graded = ledger.overall(trial) if record.measures else None
    yield "trial", trial.number
    yield "state", ledger.state(trial)
    yield "verdict", str(graded.verdict) if graded is not None and (vetoed or ledger.complete(trial)) else None
    yield "band", ledger.band(trial)
    yield "vetoed", ", ".join(vetoed) or None
    yield "why", record.failure or record.stopped or None
    yield from _under("knob", trial.values)
    yield from zip((f"objective/{row.name}" for row in lane.objectives), trial.objectives or (), strict=False)
    yield from _under("worst", {} if graded is None else graded.metrics)
    for seed, metrics in record.measures.items():
        yield from _under(f"seed_{seed}", metrics)
    yield from _under("constraint", trial.constraints)
    yield "pack", record.pack
    yield from _under("seconds", record.seconds)
    yield "at", record.at_ms


def _under(head: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{head}/{name}", value) for name, value in values.items())


def _columns(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the columns in order; a metric comes where the gate file lists it, and others after."""
    lane = ledger.ground.lane
    seen = dict.fromkeys(name for row in rows for name in row)
    heads = ("worst", *(f"seed_{seed}" for seed in lane.seeds))
    vetoes = (gate.id for gate in lane.gates.gates if gate.severity.ends_trial)
    measured = [f"{head}/{metric}" for head in heads for metric in lane.gates.metrics if f"{head}/{metric}" in seen]
    measured += [name for head in heads for name in sorted(seen) if name.startswith(f"{head}/")]
    return list(dict.fromkeys((
        "trial", "state", "verdict", "band", "vetoed", "why",
        *(f"knob/{knob.name}" for knob in lane.knobs),
        *(f"objective/{objective.name}" for objective in lane.objectives),
        *measured,
        *(f"constraint/{veto}" for veto in vetoes),
        "pack", "seconds/engine", "seconds/scoring", "at",
    )))  # fmt: skip


def _column(values: list[Any]) -> list[Any]:
    """Returns the values of a column; as text where a knob's choices are of several types: Parquet takes one."""
    types = {type(value) for value in values if value is not None}
    mixed = len(types) > 1 and not types <= _NUMBERS
    return [None if value is None else str(value) for value in values] if mixed else values
