"""One trial: a pack run on the lane's seeds, measured and scored; a veto ends it early."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lanelock.policies import Pack
from lanelock.scoring.scorecard import Scorecard, score
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored trial: its objectives, its constraints, and its record."""

    objectives: tuple[float, ...] | None
    constraints: Mapping[str, float]
    record: TrialRecord


def evaluate(ground: Ground, pack: Pack, seeds: Iterable[int]) -> Outcome:
    """Runs one trial on the seeds in the given order. A veto ends it before the remaining seeds."""
    lane, cards = ground.lane, list[Scorecard]()
    measures, worlds = dict[int, Mapping[str, float]](), dict[int, str]()
    seconds = {"engine": 0.0, "scoring": 0.0}
    for seed in seeds:
        began = time.perf_counter()
        run = lane.engine.evaluate(pack, seed, world=ground.world, until=lane.until)
        ran = time.perf_counter()
        measures[seed] = lane.measure(run)
        card = score(measures[seed], lane.gates, seed=seed, authority=ground.authority[seed])
        seconds["engine"] += ran - began
        seconds["scoring"] += time.perf_counter() - ran
        worlds[seed] = run.world_digest
        cards.append(card)
        if card.vetoed:
            break
    policies = {name: policy.digest for name, policy in pack.policies.items()}
    record = TrialRecord(measures, pack.digest, policies, worlds, seconds, int(time.time() * 1000))
    return Outcome(_objectives(ground, cards), _constraints(cards), record)


def _objectives(ground: Ground, cards: list[Scorecard]) -> tuple[float, ...] | None:
    """Returns the lane's objectives over the seeds that were run; None where a number is missing."""
    values = []
    for objective in ground.lane.objectives:
        if objective.band is not None:
            skip = ground.unreachable[objective.band]
            values.append(min(card.margin(objective.band, skip) for card in cards))
        else:
            metrics = [card.metrics.get(objective.metric or "", math.nan) for card in cards]
            values.append(sum(metrics) / len(metrics))
    return tuple(values) if all(map(math.isfinite, values)) else None


def _constraints(cards: list[Scorecard]) -> dict[str, float]:
    """Returns each veto's and rail's worst signed violation over the seeds that were run."""
    violations = [card.violations() for card in cards]
    return {name: max(by_gate[name] for by_gate in violations) for name in violations[0]}
