"""A problem of the bench: a lane as everybody plays it, and one candidate measured on every seed.

Product and peers get the same lane. Peers see it as a plain problem: minimise the last objective's mean over seeds (of
c2dtlz2, both costs), where each gate's margin reaches the reserve and each veto holds, on the worst seed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lanelock.policies.documents import digest
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import MISSING, score
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane, load_lane
from lanelock.sweeps.lanes.survey import Ground, survey

from . import FOLDER
from .optima import LITERATURE, UNDER_SEEDS

Measures = Mapping[int, Mapping[str, float]]  # seed -> metrics
SHIPPED = {"p3_wide": (40, 0.02), "joint": (60, 0.1), "p1": (60, 2.5)}  # trials, reserve
STANDARD = (*LITERATURE,)
NAMES = (*SHIPPED, *STANDARD)
CHECKPOINTS = (20, 40, 60, 100)  # trials


@dataclass(frozen=True)
class Point:
    """One candidate, measured on every seed, as a peer is told of it."""

    values: Mapping[str, Value]
    costs: tuple[float, ...]  # the mean over seeds, least is best; infinite where a number is missing
    violations: Mapping[str, float]  # the worst over seeds, met at 0 or less

    @property
    def feasible(self) -> bool:
        return all(violation <= 0 for violation in self.violations.values())


@dataclass(frozen=True)
class Problem:
    """A lane with its number of trials, and what judges its candidates."""

    name: str
    lane: Lane
    trials: int
    recall: Callable[[str, Callable[[], Any]], Any] = field(default=lambda key, measure: measure())

    @cached_property
    def ground(self) -> Ground:
        return survey(self.lane, None)

    @property
    def optimum(self) -> float | None:
        """The least cost, or the largest hypervolume, that any candidate can have; None where nobody knows it."""
        return UNDER_SEEDS.get(self.name)

    @property
    def areal(self) -> bool:
        """Whether candidates are judged together, by the hypervolume of two costs."""
        return len(self.cost_metrics) > 1

    @property
    def cost_metrics(self) -> tuple[str, ...]:
        return tuple(objective.metric for objective in self.lane.objectives if objective.metric is not None)

    @property
    def stamp(self) -> str:
        """A digest of all that determines a peer's result."""
        lane = self.lane
        knobs = [[knob.name, knob.at, *map(str, knob.extent), knob.step, knob.log] for knob in lane.knobs]
        return digest({
            "knobs": knobs, "fixed": lane.document["fixed"], "authority": lane.authority.digest, "seeds": lane.seeds,
            "gates": lane.gates.document, "costs": self.cost_metrics, "decision": lane.document["decision"],
            "trials": self.trials, "code": lane.engine.code_version,
        })[:16]  # fmt: skip

    def start(self) -> dict[str, Value]:
        """Returns the authority placed in the box, which everybody is given as the first trial."""
        return dict(self.lane.space.start)

    def measured(self, values: Mapping[str, Value]) -> Point:
        """Returns a candidate measured on every seed; taken from what is kept where anybody asked for it before."""
        lane = self.lane
        stepped = {knob.name: knob for knob in lane.knobs if knob.step is not None}  # 0.6, not 0.6000000000000001
        values = {**values, **{name: knob.nearest(values[name]) for name, knob in stepped.items()}}
        pack = lane.candidate(values)

        def measure() -> dict[str, Any]:
            return {
                str(seed): lane.measure(lane.engine.evaluate(pack, seed, world=self.ground.world, until=lane.until))
                for seed in lane.seeds
            }

        kept = self.recall(f"{lane.engine.code_version}/{lane.until}/{lane.seeds}/{pack.digest}", measure)
        return self.point(values, {int(seed): metrics for seed, metrics in kept.items()})

    def point(self, values: Mapping[str, Value], measures: Measures) -> Point:
        """Returns a candidate from its metrics on every seed."""
        violations: dict[str, float] = {}
        for seed, metrics in measures.items():
            for name, violation in self._violations(seed, metrics).items():
                violations[name] = max(violation, violations.get(name, -np.inf))
        rows = [[metrics.get(name, np.inf) for metrics in measures.values()] for name in self.cost_metrics]
        signs = [-1 if objective.maximize else 1 for objective in self.lane.objectives if objective.metric is not None]
        costs = tuple(sign * float(np.mean(row)) for sign, row in zip(signs, rows, strict=True))
        return Point(values, costs, violations)

    @cached_property
    def _alone(self) -> tuple[str, ...]:
        """The constraints that peers are told one by one: all, or of a shipped lane those that matter.

        These are the ones that 32 points of the box, charged to nobody, do not all meet.
        """
        from scipy.stats.qmc import Sobol

        rows = Sobol(len(self.lane.knobs), rng=0).random(32 if self.name in SHIPPED else 1)
        points = [self.measured(spread(self.lane.knobs, row)) for row in rows]
        fails = {name for point in points for name, violation in point.violations.items() if violation > 0}
        return tuple(name for name in points[0].violations if self.name in STANDARD or name in fails)

    def told(self, point: Point) -> dict[str, float]:
        """Returns a point's violations as peers are told: the ones that matter, and the worst of the others as one.

        A model per constraint that never moves would cost the peers seconds per trial, and teach them nothing.
        """
        others = [violation for name, violation in point.violations.items() if name not in self._alone]
        return {name: point.violations[name] for name in self._alone} | ({"others": max(others)} if others else {})

    def _violations(self, seed: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns reserve less margin of each graded gate within reach, and each veto's violation."""
        lane = self.lane
        band = next(objective.band for objective in lane.objectives if objective.band is not None)
        card = score(metrics, lane.gates, seed=seed, authority=self.ground.authority[seed])
        reserve, beyond = lane.document["decision"]["margin_reserve"], self.ground.unreachable[band]
        margins = {
            row.id: row.margins[band]
            for row in card.gates
            if row.severity is Severity.GATE and band in row.margins and row.id not in beyond
        }
        graded = {name: MISSING if margin is None else reserve - margin for name, margin in margins.items()}
        return {**graded, **card.violations()}


def open_problem(name: str, kept: Path | None = None, trials: int | None = None) -> Problem:
    """Returns a problem; `kept` is the database of measured candidates, used where the engine is slow."""
    lane = lane_of(name)
    budget = SHIPPED[name][0] if name in SHIPPED else lane.document["budget"]["trials"]
    recall = {"recall": Kept(kept)} if kept is not None and name in SHIPPED else {}
    return Problem(name, lane, min(budget, trials or budget), **recall)


def lane_of(name: str) -> Lane:
    """Returns a problem's lane. A shipped one has its reserve as a number, so that all sampler seeds have the same."""
    if name not in SHIPPED:
        return load_lane(str(FOLDER / "problems" / "lanes" / f"{name}.json"))
    lane, (_, reserve) = load_lane(name), SHIPPED[name]
    decision = {
        "accept_band": lane.document["decision"]["accept_band"],
        "margin_reserve": reserve,
        "confirm_seeds": 0,  # the judge looks at the trials, not at the lock
    }
    return replace(lane, document={**lane.document, "decision": decision})


class Kept:
    """Measured candidates in a database that several processes share, so that nobody pays for one twice."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, timeout=600)
        self.database.execute("create table if not exists kept (key text primary key, metrics text)")

    def __call__(self, key: str, measure: Callable[[], Any]) -> Any:
        row = self.database.execute("select metrics from kept where key = ?", (key,)).fetchone()
        if row is not None:
            return json.loads(row[0])
        metrics = measure()
        with self.database:
            self.database.execute("insert or replace into kept values (?, ?)", (key, json.dumps(metrics)))
        return metrics


def spread(knobs: Sequence[Knob], units: Sequence[float]) -> dict[str, Value]:
    """Returns the candidate at a place of the unit cube."""
    return {knob.name: knob.along(float(unit)) for knob, unit in zip(knobs, units, strict=True)}
