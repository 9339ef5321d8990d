"""One trial: a candidate run on the lane's seeds, measured and scored.

A veto ends it early, and so does a seed on which it is too far behind the best candidate so far. Whatever an engine
raises is a result: the trial failed, for that reason, and the sweep goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.policies import IntegrityError, WorkspaceError
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.race import Race
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished trial: its objectives, its constraints, and its record."""

    objectives: tuple[float, ...] | None
    constraints: Mapping[str, float]
    record: TrialRecord


class _Failed(Exception):
    """The candidate has no result; the message says why."""


def evaluate(ground: Ground, values: Mapping[str, Value], seeds: Iterable[int], race: Race | None = None) -> Outcome:
    """Runs one trial on the seeds in the given order. A veto or the race ends it before the remaining seeds."""
    lane, cards = ground.lane, list[Scorecard]()
    measures, worlds, packed = dict[int, Mapping[str, float]](), dict[int, str](), dict[str, Any]()
    seconds = {"engine": 0.0, "scoring": 0.0}
    stopped = failure = ""
    try:
        pack = _attempted("the candidate is not a valid pack", lane.candidate, values)
        packed = {"pack": pack.digest, "policies": {name: policy.digest for name, policy in pack.policies.items()}}
        for seed in seeds:
            began = time.perf_counter()
            run = _attempted(f"seed {seed}", lane.engine.evaluate, pack, seed, world=ground.world, until=lane.until)
            ran = time.perf_counter()
            seconds["engine"] += ran - began
            measures[seed], worlds[seed] = _measured(lane, run, seed)
            card = ground.graded(seed, measures[seed])
            seconds["scoring"] += time.perf_counter() - ran
            cards.append(card)
            stopped = "" if race is None or card.vetoed else race.lost(card)
            if card.vetoed or stopped:
                break
        objectives = objectives_of(ground, cards)
        if objectives is None:
            failure = "an objective is not finite"
    except _Failed as error:
        objectives, failure = None, str(error)
    stopped = stopped if len(cards) < len(lane.seeds) else ""  # behind on the last seed is not an early end
    record = TrialRecord(
        measures, packed.get("pack", ""), packed.get("policies", {}), worlds, seconds, int(time.time() * 1000),
        stopped=stopped, failure=failure,
    )  # fmt: skip
    return Outcome(objectives, constraints_of(cards), record)


def _attempted(where: str, call: Any, *arguments: Any, **keywords: Any) -> Any:
    """Calls what belongs to the engine. Raises _Failed for what it raises, except where the sweep cannot go on."""
    try:
        return call(*arguments, **keywords)
    except (IntegrityError, WorkspaceError):
        raise
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        kind = "" if type(error).__module__.startswith("lanelock.") else f"{type(error).__name__}: "
        raise _Failed(f"{where}: {kind if str(error).strip() else ''}{lines[0]}"[:500]) from error


def _measured(lane: Lane, run: object, seed: int) -> tuple[dict[str, float], str]:
    """Returns the metrics and the world's digest of a run. Raises _Failed where it gives no number for a gate."""
    if not isinstance(run, Run):
        raise _Failed(f"seed {seed}: the engine returned {type(run).__name__} instead of a run")
    metrics = _attempted(f"seed {seed}: its metrics", lane.measure, run)
    if missing := [name for name in lane.needed if name not in metrics]:
        raise _Failed(f"seed {seed}: {missing[0]} is missing or not finite")
    return metrics, run.world_digest
