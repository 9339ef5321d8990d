"""The stages of a lane: cheaper runs that choose which candidates are worth the full run.

A stage is the same lane, cut down: to an earlier state, fewer or other seeds, cheaper settings, a part of the world. It
grades by the gates that can be measured there, and only to rank the candidates of a batch. Its results are recorded,
but they are no grade: what is decided is decided on full runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lanelock.engine.protocol import Run, Sharding
from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, Pack, PolicyError
from lanelock.scoring.gates import GateSet
from lanelock.sweeps.lanes.lane import Lane, Objective


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage before the full run."""

    name: str
    lane: Lane  # as the stage runs it
    keep: float  # below 1: the share of a batch that goes on; else their number
    exact: bool  # what it measures is what the full run measures: it sets nothing and runs the whole world

    def kept(self, count: int) -> int:
        """Returns how many of so many candidates go on, at least one."""
        return max(1, math.ceil(self.keep * count)) if self.keep < 1 else min(int(self.keep), count)


class _FirstPart(Resolved):
    """An engine that runs the first part of its world instead of the whole."""

    def __init__(self, engine: Resolved, size: int) -> None:
        super().__init__(engine.own)
        self._cut = Resolved(engine.part(Sharding, "/stages/part").sharded(size, 1))

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None,
        feeds: Mapping[str, Path] = MappingProxyType({}),
    ) -> Run:  # fmt: skip
        return next(iter(self._cut.evaluate_shards(pack, seed, world=world)))


def stages_of(lane: Lane) -> tuple[Stage, ...]:
    """Returns the stages before a lane's full run, in order. Raises LaneError naming the field that cannot be."""
    *cheaper, last = lane.document.get("stages") or ({},)
    if "keep" in last:
        raise LaneError(f"{_at(lane, last)}: the last stage is the full run, which states nothing but its name")
    names = [row["name"] for row in lane.document.get("stages", ())]
    if twice := [name for name in names if names.count(name) > 1]:
        raise LaneError(f"lane {lane.id}: /stages: two of them are named {twice[0]}")
    return tuple(_stage(lane, row) for row in cheaper)


def _at(lane: Lane, row: Mapping[str, Any]) -> str:
    return f"lane {lane.id}: /stages/{row['name']}"


def _stage(lane: Lane, row: Mapping[str, Any]) -> Stage:
    where, settings = _at(lane, row), row.get("set", {})
    if "keep" not in row:
        raise LaneError(f"{where}: keep: missing; only the last stage, the full run, keeps nothing back")
    fixed, until = {**lane.document["fixed"], **settings}, row.get("until", lane.until)
    seeds = [int(seed) for seed in row.get("seeds", lane.seeds[:1])]
    document = {**lane.document, "fixed": fixed, "seeds": seeds, "until": until}
    exact = not settings and "part" not in row
    cut = replace(lane, document=document, stage=row["name"])
    for why in _cannot_be(lane, cut, row):
        raise LaneError(f"{where}/{why}")
    gates = _measurable(lane, until, exact and {*seeds} <= {*lane.seeds})
    if not gates.gates:
        raise LaneError(f"{where}/until: none of the lane's gates can be measured at {until}, so it ranks nothing")
    engine = _FirstPart(lane.engine, int(row["part"])) if "part" in row else lane.engine
    cut = replace(cut, engine=engine, gates=gates, objectives=_objectives(lane, gates))
    return Stage(row["name"], cut, float(row["keep"]), exact)


def _cannot_be(lane: Lane, cut: Lane, row: Mapping[str, Any]) -> Iterator[str]:
    """Yields why a stage cannot be, after the name of its field."""
    if cut.until not in lane.engine.states:
        yield f"until: {cut.until!r} is not a state of {lane.engine.name}: {', '.join(lane.engine.states)}"
    if moved := [knob.at for knob in lane.knobs if knob.at in row.get("set", {})]:
        yield f"set/{moved[0]}: a knob of the lane moves it"
    if "part" in row and "until" in row:
        yield "part: a part of the world runs to the last state; leave out until"
    try:
        same = cut.start.digest == lane.start.digest
    except PolicyError as error:
        yield f"set: {error}"
        return
    if row.get("set") and same:
        yield "set: these are the values that the full run has"
    whole = same and "part" not in row and cut.until == lane.until
    if whole and {*cut.seeds} >= {*lane.seeds}:
        yield "seeds: it runs all that the full run runs, so it saves nothing; give it fewer seeds or an earlier until"


def _measurable(lane: Lane, until: str, like_the_full_run: bool) -> GateSet:
    """Returns the gates whose metric is computed at a state; those that follow the authority only where it counts."""
    states = lane.engine.states
    later = {*states[states.index(until) + 1 :]}
    gates = lane.gates
    kept = [
        gate.id
        for gate in gates.gates
        if gates.metrics[gate.metric].state not in later and (like_the_full_run or gate.relative is None)
    ]
    return replace(gates, gates=tuple(gate for gate in gates.gates if gate.id in kept))


def _objectives(lane: Lane, gates: GateSet) -> tuple[Objective, ...]:
    """Returns the objectives that a stage can tell; without one, the margin of the band that the decision accepts."""
    measured = {gate.metric for gate in gates.gates}
    known = tuple(row for row in lane.objectives if row.metric is None or row.metric in measured)
    return known or (Objective("margin", True, lane.document["decision"]["accept_band"], None),)
