"""What a lane's metrics mean to its decision: an objective, and how far a candidate is from what must hold.

The same numbers as `sweeps.trial` and `scoring.scorecard` derive from one trial's metrics, over any number of predicted
trials at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from lanelock.scoring.gates import Gate, Severity, span
from lanelock.scoring.scorecard import MISSING
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import RECORD, TrialRecord
from lanelock.sweeps.search.predicted import over_arrays

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Corridor:
    """One gate in one or all bands: the values that pass, by seed."""

    metric: int
    low: Array  # [seeds] -inf where the side is open; NaN where the threshold is unknown
    high: Array  # [seeds]
    tolerance: float
    scale: float

    @classmethod
    def of(cls, gate: Gate, bands: Sequence[str], ground: Ground, metric: int) -> _Corridor:
        """Returns what passes every one of the bands. The margin in it is the least of the bands' margins."""
        lows, highs = zip(*(_range(gate, bands, ground, seed) for seed in ground.lane.seeds), strict=True)
        return cls(metric, np.array(lows), np.array(highs), gate.tolerance, gate.scale)

    def margin(self, by_seed: Sequence[Array]) -> Array:
        """Returns the least margin [...] over the seeds, in the gate's scale; values [...] by seed."""
        least = np.full(by_seed[0].shape, np.inf)
        for values, low, high in zip(by_seed, self.low, self.high, strict=True):
            inside = values - low if np.isposinf(high) else high - values
            if np.isfinite(low) and np.isfinite(high):
                inside = np.minimum(inside, values - low)
            np.minimum(least, inside, out=least)  # keeps NaN
        least += self.tolerance
        least /= self.scale
        return np.where(np.isnan(least), -MISSING, least)


def _range(gate: Gate, bands: Sequence[str], ground: Ground, seed: int) -> tuple[float, float]:
    if gate.relative is None:
        spans = [span(gate.comparison, gate.thresholds[band]) for band in bands]
    else:
        base = ground.authority[seed].get(gate.relative.followed(gate.metric), math.nan)
        threshold = math.nan if math.isnan(base) else gate.relative.threshold(base)
        spans = [span(gate.comparison, threshold)]
    lows, highs = zip(*spans, strict=True)
    return max(lows), min(highs)


class LaneComposite:
    """The outputs of a lane's trials: each metric that its gates or objectives use, on each of its seeds.

    The objective is the lane's second one, under the constraint that the first one reaches the reserve; with `front`,
    and where there is only one, the objectives are all of them and there is no reserve. Smaller is better. The
    violation sums those of vetoes, rails and preconditions, what the first objective lacks to the reserve, and what the
    gates lack to `band`.
    """

    def __init__(self, ground: Ground, reserve: float, front: bool = False, band: str | None = None) -> None:
        lane = ground.lane
        self._objectives = lane.objectives
        self._reserve, self._front = reserve, front or len(lane.objectives) == 1
        gates = [gate for gate in lane.gates.gates if gate.thresholds or gate.relative]
        self._behind = {_output(gate): gate for gate in gates if not gate.plain}
        named = [_output(gate) for gate in gates] + [name for row in lane.objectives for name in row.names]
        self._metrics = tuple(dict.fromkeys(named))
        self._seeds = lane.seeds
        self._stages = [stage.name for stage, _ in ground.stages]
        must = [gate for gate in gates if gate.severity is not Severity.GATE]
        self._must = [self._corridor(gate, _bands_that_count(gate, ground), ground) for gate in must]
        self._graded = {
            name: [
                self._corridor(gate, (name,), ground)
                for gate in gates
                if gate.severity is Severity.GATE and gate.id not in ground.unreachable[name]
                and (gate.relative or name in gate.thresholds)
            ]
            for name in (*(row.band for row in lane.objectives), band)
            if name
        }  # fmt: skip
        self._band = band

    def _corridor(self, gate: Gate, bands: Sequence[str], ground: Ground) -> _Corridor:
        return _Corridor.of(gate, bands, ground, self._metrics.index(_output(gate)))

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Returns the outputs of each metric over the seeds."""
        count = len(self._seeds)
        return [range(at * count, (at + 1) * count) for at in range(len(self._metrics))]

    def outputs(self, trial: FrozenTrial) -> Array | None:
        """Returns each metric on each seed [metrics * seeds], NaN on seeds that were not run; None if the trial failed.

        A metric that is missing on a seed that was run means that the trial cannot be graded: it failed. Of a trial
        that a stage ended, what the stages measured stands for the full run: it guides proposals, and decides nothing.
        """
        document = trial.user_attrs.get(RECORD)
        if document is None or document.get("failure"):
            return None
        record = TrialRecord.of(document)
        if not (measures := record.measures):  # a stage ended it
            staged = [record.staged[name].items() for name in self._stages if name in record.staged]
            return self.of_measures(dict(chain.from_iterable(staged))) if record.staged else None
        if any(self._value(name, row) is None for row in measures.values() for name in self._metrics):
            return None
        return self.of_measures(measures)

    def of_measures(self, measures: Mapping[int, Mapping[str, float]]) -> Array:
        """Returns the outputs of seed -> metrics; NaN where a metric is missing."""
        rows = [measures.get(seed, {}) for seed in self._seeds]
        values = (self._value(name, row) for name in self._metrics for row in rows)
        return np.array([math.nan if value is None else value for value in values], float)

    def _value(self, output: str, metrics: Mapping[str, float]) -> float | None:
        """Returns a metric, or the number that a gate compares where that is not its metric's own."""
        gate = self._behind.get(output)
        return metrics.get(output) if gate is None else gate.compared(metrics)[0]

    def score(self, outputs: Array) -> tuple[Array, Array]:
        """Returns the objectives [..., k] and the violation [...] of outputs [..., metrics * seeds].

        A gate whose metric is missing is taken to miss its threshold by `MISSING` scales.
        """
        by_metric = [[outputs[..., at] for at in group] for group in self.groups]
        violation = np.zeros(outputs.shape[:-1])
        for corridor in self._must:
            violation += np.maximum(-corridor.margin(by_metric[corridor.metric]), 0.0)
        if self._band is not None:
            violation += np.maximum(-self._margin(self._band, by_metric), 0.0)
        if self._front:
            return np.stack([-self._signed(row, by_metric) for row in self._objectives], axis=-1), violation
        lacking = self._reserve - self._signed(self._objectives[0], by_metric)
        objective = -self._signed(self._objectives[1], by_metric)
        return objective[..., None], violation + np.maximum(lacking, 0.0)

    def _signed(self, objective: Objective, by_metric: Sequence[Sequence[Array]]) -> Array:
        """Returns an objective [...], greater is better."""
        if objective.band is None:
            mean = self._mean(objective, by_metric)
            return mean if objective.maximize else -mean
        return self._margin(objective.band, by_metric)

    def _mean(self, objective: Objective, by_metric: Sequence[Sequence[Array]]) -> Array:
        """Returns the mean over seeds of an objective that is no margin [...]."""
        named = {name: by_metric[self._metrics.index(name)] for name in objective.names}
        if objective.expression is None:
            (values,) = named.values()
        else:
            rows = [{name: of_seeds[seed] for name, of_seeds in named.items()} for seed in range(len(self._seeds))]
            values = [over_arrays(objective.expression, row) for row in rows]
        return np.asarray(sum(values) / len(values))

    def _margin(self, band: str, by_metric: Sequence[Sequence[Array]]) -> Array:
        least = np.full(by_metric[0][0].shape, MISSING)  # as good as no gate asks for anything
        for row in self._graded[band]:
            least = np.minimum(least, row.margin(by_metric[row.metric]))
        return least


def _output(gate: Gate) -> str:
    """Returns the name of the number that a gate compares: its metric, or its own where more lies behind it."""
    return gate.metric if gate.plain else f"gate {gate.id}"


def _bands_that_count(gate: Gate, ground: Ground) -> Sequence[str]:
    """Returns the bands that a gate must meet: a precondition its lowest, a veto or rail all that it has."""
    bands = [band for band in ground.lane.gates.bands if gate.relative or band in gate.thresholds]
    return bands[:1] if gate.severity is Severity.PRECONDITION else bands
