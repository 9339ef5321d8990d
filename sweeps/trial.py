"""One trial: a pack run on the lane's seeds, measured, scored, and ended early by a veto."""

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
    """A trial scored: its objectives, its constraints, and the record that all else is derived from."""

    objectives: tuple[float, ...] | None
    constraints: Mapping[str, float]
    record: TrialRecord


def evaluate(ground: Ground, pack: Pack, seeds: Iterable[int]) -> Outcome:
    """One trial: cheapest proof of failure first. A veto ends it before the seeds that are left."""
    lane, cards = ground.lane, list[Scorecard]()
    measures, worlds = dict[int, Mapping[str, float]](), dict[int, str]()
    spent = {"engine": 0.0, "scoring": 0.0}
    for seed in seeds:
        began = time.perf_counter()
        run = lane.engine.evaluate(pack, seed, world=ground.world, until=lane.until)
        ran = time.perf_counter()
        measures[seed] = lane.measure(run)
        card = score(measures[seed], lane.gates, seed=seed, authority=ground.authority[seed])
        spent["engine"] += ran - began
        spent["scoring"] += time.perf_counter() - ran
        worlds[seed] = run.world_digest
        cards.append(card)
        if card.vetoed:
            break
    policies = {name: policy.digest for name, policy in pack.policies.items()}
    record = TrialRecord(measures, pack.digest, policies, worlds, spent, int(time.time() * 1000))
    return Outcome(_objectives(ground, cards), _constraints(cards), record)


def _objectives(ground: Ground, cards: list[Scorecard]) -> tuple[float, ...] | None:
    """The lane's objectives over the seeds that were run; None where a number is missing."""
    values = []
    for objective in ground.lane.objectives:
        if objective.band is not None:
            skip = ground.unreachable[objective.band]
            values.append(min(card.margin(objective.band, skip) for card in cards))
        else:
            found = [card.metrics.get(objective.metric or "", math.nan) for card in cards]
            values.append(sum(found) / len(found))
    return tuple(values) if all(math.isfinite(value) for value in values) else None


def _constraints(cards: list[Scorecard]) -> dict[str, float]:
    """Each veto's and rail's worst signed violation over the seeds that were run."""
    worst: dict[str, float] = {}
    for card in cards:
        for name, violation in card.violations().items():
            worst[name] = max(worst.get(name, -math.inf), violation)
    return worst
