"""How a sweep begins: what it tries before its sampler proposes, and what it takes from an earlier sweep.

The first candidate is the authority placed in the box, so that a sweep never closes on less than it started from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.pack import CarriedPack
from lanelock.sweeps.lanes.decision import ranking
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.played_by import other_code
from lanelock.sweeps.lanes.proposals import listed_first
from lanelock.sweeps.lanes.samplers import MODELS, sampler_name
from lanelock.sweeps.lanes.study import Studies, Study
from lanelock.sweeps.lanes.survey import Ground, corners
from lanelock.sweeps.lanes.trial import Trial

_BEST = 8  # candidates of a sweep of other code that are tried again


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a new sweep tries or takes over first."""

    enqueue: Path | None = None  # a file of candidates, besides those of the lane
    source: str | None = None  # an earlier sweep
    other_code: bool = False  # that sweep may have been played by other code: its best candidates are run again
    design: int | None = None  # candidates of a space-filling design; None: as many as the sampler needs


NOTHING_FIRST = Beginning()


def first_of(ground: Ground, beginning: Beginning, studies: Studies) -> dict[str, Any]:
    """Returns the attributes with which a study stores its beginning."""
    lane = ground.lane
    enqueued: list[Mapping[str, Value]]
    enqueued, taken = list(lane.enqueued(beginning.enqueue)), 0
    if beginning.source is not None:
        differs = _differs(beginning, studies, lane)
        if differs:
            enqueued += _best_of(beginning.source, studies, lane)
        else:
            taken = len(list(_taken(beginning.source, studies, ground)))
    design = max(10, 2 * lane.document["batch"]) if sampler_name(lane) in MODELS else 0
    listed = listed_first(lane, enqueued, corners(lane, ground.world), beginning.design or design)
    if beginning.design is None and design:
        listed = listed[: max(design, len(listed) - design)]  # the design fills up what else is tried first
    return {"listed": listed, "from": beginning.source, "taken": taken}


def take_over(study: Study, ledger: Ledger, studies: Studies) -> None:
    """Adds the trials that a new study takes from an earlier one; a resumed study only those that a kill left out."""
    source, count = str(study.attributes.get("from")), study.attributes.get("taken", 0)
    if count <= len(study.history):
        return
    for values, trial in list(_taken(source, studies, ledger.ground))[len(study.history) :]:
        ground = ledger.ground
        cards = [ground.graded(seed, metrics) for seed, metrics in trial.record.measures.items()]
        study.take(values, objectives_of(ground, cards), constraints_of(cards), trial.record)


def _differs(beginning: Beginning, studies: Studies, lane: Lane) -> str:
    source = str(beginning.source)
    if source not in studies.names():
        known = ", ".join(studies.names()) or "none"
        raise LaneError(f"lane {lane.id}: --from {source}: no such sweep in this workspace (known: {known})")
    begun = studies.attributes(source)
    if begun["lane"]["engine"] != lane.engine.name:
        raise LaneError(f"lane {lane.id}: --from {source}: a sweep of engine {begun['lane']['engine']}")
    differs = other_code(begun, lane)
    if differs and not beginning.other_code:
        raise LaneError(
            f"lane {lane.id}: --from {source}: it was {differs}, so its measurements do not count here; "
            "--accept-other-code runs its best candidates again"
        )
    return differs


def _lane_of(source: str, studies: Studies) -> Lane:
    begun = studies.attributes(source)
    references = {key: CarriedPack.of(pack) for key, pack in begun["references"].items()}
    return lane_of(begun["lane"], CarriedPack.of(begun["authority"]), references, begun["gates"], source)


def _taken(source: str, studies: Studies, ground: Ground) -> Iterator[tuple[Mapping[str, Value], Trial]]:
    """Yields the trials of a sweep that this lane could have run: its own values, and the record as it counts here."""
    lane, earlier, begun = ground.lane, _lane_of(source, studies), studies.attributes(source)
    same_world = begun["world"] == (None if ground.world is None else str(ground.world))
    for trial in studies.trials(source) if same_world else ():
        measures = {seed: trial.record.measures[seed] for seed in lane.seeds if seed in trial.record.measures}
        if trial.failed or not measures or any(set(lane.needed) - set(row) for row in measures.values()):
            continue
        try:
            values = lane.admit(earlier.candidate(trial.values))
        except (LaneError, PolicyError):
            continue  # it lies outside this lane
        if lane.candidate(lane.space.canonical(values)).digest == trial.record.pack:
            record = replace(trial.record, measures=measures, source=f"{source}/{trial.number}", asked_at=0, repeats=0)
            yield lane.space.canonical(values), replace(trial, record=record)


def _best_of(source: str, studies: Studies, lane: Lane) -> list[Mapping[str, Value]]:
    """Returns the best candidates of a sweep, as far as they fit into this lane."""
    earlier = _lane_of(source, studies)
    world = studies.attributes(source)["world"]
    folder = Path(world) if world else None
    ledger = Ledger(Ground(earlier, folder, {seed: earlier.yardstick(seed, folder) for seed in earlier.seeds}, ()))
    best = list[Mapping[str, Value]]()
    for trial in ranking(studies.trials(source), ledger):
        if ledger.acceptable(trial) and len(best) < _BEST:
            try:
                best.append(lane.space.canonical(lane.admit(earlier.candidate(trial.values))))
            except (LaneError, PolicyError):
                continue
    return best
