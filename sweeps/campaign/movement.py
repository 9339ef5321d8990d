"""Materiality: how far a candidate moved a metric toward where it has to be, and whether that is enough for a retry.

A distance is how far outside the passing values a metric is, in its own unit. On both sides the worst seed counts: the
seed that is farthest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lanelock.policies import PolicyError
from lanelock.scoring.gates import GateSet, span

_Metrics = Mapping[int, Mapping[str, float]]  # by seed


@dataclass(frozen=True, slots=True)
class Material:
    """The movement that earns a retry."""

    metric: str
    by: float  # in the metric's unit
    toward: float | str  # a threshold, or the id of a gate
    low: float  # the least value that has arrived
    high: float  # the greatest

    @classmethod
    def of(cls, row: Mapping[str, Any], gates: GateSet) -> Material:
        """Returns what a campaign's file states. Raises PolicyError for an unknown metric or gate."""
        metric, toward = row["metric"], row["toward"]
        if metric not in gates.metrics:
            raise PolicyError(f"/material/metric: {metric!r} is not a metric of {gates.document['id']}")
        if not isinstance(toward, str):
            low, high = span(">=" if gates.metrics[metric].worst_is_lowest else "<=", toward)
        else:
            low, high = _span_of(toward, gates)
        return cls(metric, float(row["by"]), toward, low, high)

    def moved(self, authority: _Metrics, candidate: _Metrics) -> Movement:
        """Returns how far the candidate came, from both sides' metrics on the same seeds."""
        worst = [max(metrics, key=lambda seed: self._distance(metrics[seed])) for metrics in (authority, candidate)]
        before, after = (side[seed] for side, seed in zip((authority, candidate), worst, strict=True))
        moved = round(self._distance(before) - self._distance(after), 12)  # .3 - .2 is .1
        values = [side.get(self.metric, math.nan) for side in (before, after)]
        stated = [value if math.isfinite(value) else None for value in values]
        known = moved if math.isfinite(moved) else None
        return Movement(self.metric, self.toward, self.by, stated[0], stated[1], known)

    def _distance(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self.metric, math.nan)
        return max(self.low - value, value - self.high, 0.0) if math.isfinite(value) else math.inf


def _span_of(gate_id: str, gates: GateSet) -> tuple[float, float]:
    gate = next((gate for gate in gates.gates if gate.id == gate_id), None)
    if gate is None or not gate.thresholds:
        known = ", ".join(gate.id for gate in gates.gates if gate.thresholds)
        raise PolicyError(f"/material/toward: {gate_id!r} is not a gate with a threshold: {known}")
    return span(gate.comparison, next(iter(gate.thresholds.values())))


@dataclass(frozen=True, slots=True)
class Movement:
    """How far a candidate moved a metric, the worst seed of each side compared."""

    metric: str
    toward: float | str
    by: float  # the least that is material
    authority: float | None  # its value on its worst seed; None if it has none
    candidate: float | None
    moved: float | None  # toward, in the metric's unit; below 0: away from it; None: not known

    @property
    def enough(self) -> bool:
        return self.moved is not None and self.moved >= self.by

    def __str__(self) -> str:
        """Returns the movement in words."""
        if self.authority is None or self.candidate is None or self.moved is None:
            return f"{self.metric} is not measured on every seed, so that no movement is known"
        word = "material" if self.enough else "immaterial"
        toward = self.toward if isinstance(self.toward, str) else f"{self.toward:g}"
        return (
            f"{self.metric} {self.authority:.6f} -> {self.candidate:.6f}, worst over seeds: {self.moved:+.6f} toward "
            f"{toward}, {word} (at least {self.by:g})"
        )
