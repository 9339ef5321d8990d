"""How a sweep begins: what it tries before its sampler proposes, and what it takes from an earlier sweep.

The first candidate is the authority placed in the box, so that a sweep never closes on less than it started from. Only
where the budget is a single trial does an enqueued candidate take its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.sweeps.decision.decision import ranking
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground, corners
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.search.played_by import other_code
from lanelock.sweeps.search.proposals import listed_first
from lanelock.sweeps.search.recorded import Recorded, recorded_in
from lanelock.sweeps.search.samplers import MODELS, sampler_name
from lanelock.sweeps.search.study import Studies, Study
from lanelock.sweeps.workspace import Workspace

_BEST = 8  # candidates of a sweep of other code that are tried again


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a new sweep tries or takes over first."""

    enqueue: Path | None = None  # a file of candidates, besides those of the lane
    source: str | None = None  # an earlier sweep
    other_code: bool = False  # that sweep may have been played by other code: its best candidates are run again
    design: int | None = None  # candidates of a space-filling design; None: as many as the sampler needs
    sampler: str | None = None  # asked for, as opposed to the lane's; so are batch and world
    batch: int | None = None
    world: Path | None = None


NOTHING_FIRST = Beginning()


def first_of(ground: Ground, beginning: Beginning, studies: Studies, workspace: Workspace) -> dict[str, Any]:
    """Returns the attributes with which a study stores its beginning."""
    lane, taken = ground.lane, 0
    enqueued: list[Mapping[str, Value]] = list(lane.enqueued(beginning.enqueue))
    if beginning.source is not None:
        source = _source(beginning.source, lane, studies, workspace)
        differs = other_code(source.begun, lane) or _other_world(source, ground)
        if differs and not beginning.other_code:
            raise LaneError(
                f"lane {lane.id}: --from {source.sweep}: it was {differs}, so its measurements do not count here; "
                "--accept-other-code runs its best candidates again"
            )
        enqueued += _best_of(source, lane) if differs else ()
        taken = 0 if differs else len(list(taken_from(source, ground)))
    usual = max(10, 2 * lane.document["batch"]) if sampler_name(lane) in MODELS else 0
    ends = corners(lane, ground.world)
    left = max(0, usual - len(listed_first(lane, enqueued, ends, 0)))
    design = left if beginning.design is None else beginning.design
    return {"listed": listed_first(lane, enqueued, ends, design), "from": beginning.source, "taken": taken}


def take_over(study: Study, ledger: Ledger, studies: Studies, workspace: Workspace) -> None:
    """Adds the trials that a new study takes from an earlier one; a resumed study only those that a kill left out."""
    if study.attributes.get("taken", 0) <= len(study.history):
        return
    ground = ledger.ground
    source = _source(str(study.attributes["from"]), ground.lane, studies, workspace)
    for values, record in islice(taken_from(source, ground), len(study.history), study.attributes["taken"]):
        cards = [ground.graded(seed, metrics) for seed, metrics in record.measures.items()]
        study.take(values, objectives_of(ground, cards), constraints_of(cards), record)


def _source(name: str, lane: Lane, studies: Studies, workspace: Workspace) -> Recorded:
    """Returns an earlier sweep. Raises LaneError unless it is of the same engine."""
    try:
        missing = f"lane {lane.id}: --from {name}: no such sweep in this workspace"
        source = recorded_in(studies, name, missing, workspace)
    except PolicyError as error:
        raise LaneError(str(error)) from None
    if source.lane.engine.name != lane.engine.name:
        raise LaneError(f"lane {lane.id}: --from {name}: a sweep of engine {source.lane.engine.name}")
    return source


def _other_world(source: Recorded, ground: Ground) -> str:
    """Returns on which world a sweep was played, if it is another; empty if it is the same."""
    kept = source.begun["world"]
    worlds = (None if kept is None else source.workspace.kept(kept), ground.world)
    before, now = ("the engine's own" if world is None else str(world.resolve()) for world in worlds)
    return "" if before == now else f"played on another world ({before}, this lane on {now})"


def taken_from(source: Recorded, ground: Ground) -> Iterator[tuple[Mapping[str, Value], TrialRecord]]:
    """Yields the trials of a sweep that this lane could have run: its own values, and the record as it counts here."""
    lane = ground.lane
    for trial in source.trials.values():
        measures = {seed: trial.record.measures[seed] for seed in lane.seeds if seed in trial.record.measures}
        worlds = {seed: trial.record.worlds[seed] for seed in measures}
        if trial.failed or not measures or any(set(lane.needed) - set(row) for row in measures.values()):
            continue
        values = _admitted(source, trial, lane)
        if values is not None and lane.candidate(values).digest == trial.record.pack:
            name = trial.record.source or f"{source.sweep}/{trial.number}"
            yield values, replace(trial.record, measures=measures, worlds=worlds, source=name, asked_at=0, repeats=0)


def _best_of(source: Recorded, lane: Lane) -> Iterator[Mapping[str, Value]]:
    """Yields the best candidates of a sweep, as far as they fit into this lane."""
    ledger = Ledger(source.ground())
    ranked = (trial for trial in ranking(tuple(source.trials.values()), ledger) if ledger.acceptable(trial))
    fitting = (values for trial in ranked if (values := _admitted(source, trial, lane)) is not None)
    yield from islice(fitting, _BEST)


def _admitted(source: Recorded, trial: Trial, lane: Lane) -> Mapping[str, Value] | None:
    """Returns a trial's candidate as values of this lane; None where it lies outside of it."""
    try:
        return lane.space.canonical(lane.admit(source.lane.candidate(trial.values)))
    except (LaneError, PolicyError):
        return None
