"""Gates as data: a metric, a comparison, a threshold per band, a severity, a reason.

What a gate says of a value is in `scoring.scorecard`; what a metric is made of is its engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json, resolve, shipped_schema, validate


class Severity(StrEnum):
    """What failing means."""

    GATE = "gate"  # a lower band
    VETO = "veto"  # the end of a trial
    RAIL = "rail"  # the end of a trial: something won before was lost
    PRECONDITION = "precondition"  # no grade at all

    @property
    def ends_trial(self) -> bool:
        return self in (Severity.VETO, Severity.RAIL)


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number's meaning."""

    name: str
    unit: str
    state: str
    worst_is_lowest: bool
    what: str


@dataclass(frozen=True, slots=True)
class Relative:
    """A threshold that follows the authority's own value, or a reference's, clamped to [at_least, at_most]."""

    plus: float = 0.0
    times: float = 1.0
    of: str | None = None  # the reference it follows; None: the authority
    at_least: float | None = None
    at_most: float | None = None

    def followed(self, metric: str) -> str:
        """The name under which the yardstick holds the value that this follows."""
        return metric if self.of is None else f"{self.of}:{metric}"

    def threshold(self, authority: float) -> float:
        found = self.times * authority + self.plus
        found = found if self.at_least is None else max(found, self.at_least)
        return found if self.at_most is None else min(found, self.at_most)


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of a gate file."""

    id: str
    metric: str
    severity: Severity
    comparison: str  # ">=", "<=" or "=="
    thresholds: Mapping[str, float]  # by band; empty where relative
    relative: Relative | None
    tolerance: float  # in the metric's unit
    scale: float  # in the metric's unit; margins are divided by it
    why: str

    def margin(self, value: float, threshold: float) -> float:
        """Signed distance to the threshold over the scale: the gate passes where it is >= 0."""
        match self.comparison:
            case ">=":
                room = value - threshold
            case "<=":
                room = threshold - value
            case _:
                room = -abs(value - threshold)
        return (room + self.tolerance) / self.scale


@dataclass(frozen=True, slots=True)
class GateSet:
    """The gates of a file, or those of them a lane chose."""

    document: Mapping[str, Any]  # in the file's shape: what a lock carries
    bands: tuple[str, ...]  # lowest to highest
    metrics: Mapping[str, Metric]
    gates: tuple[Gate, ...]

    @property
    def cross_seed_metrics(self) -> tuple[str, ...]:
        """Metrics whose variation over seeds is limited."""
        return tuple(self.document.get("cross_seed", {}).get("metrics", ()))

    @property
    def cross_seed_limits(self) -> Mapping[str, float]:
        """By band: the greatest coefficient of variation over seeds."""
        return dict(self.document.get("cross_seed", {}).get("cv_at_most", {}))

    @property
    def cross_seed_ratio(self) -> float | None:
        """How small a part of the median over seeds (or how many times it, inverted) a seed's value may be."""
        found = self.document.get("cross_seed", {}).get("of_median_at_least")
        return None if found is None else float(found)

    @property
    def least_seeds(self) -> int:
        """How many seeds a grade takes: one alone shows no variation that could be limited."""
        return 2 if self.cross_seed_metrics and self.cross_seed_limits else 1

    def select(self, ids: Sequence[str]) -> GateSet:
        """Only these gates, in this order. Raises PolicyError naming one that is not in the file."""
        rows = {row["id"]: row for row in self.document["gates"]}
        if unknown := [name for name in ids if name not in rows]:
            raise PolicyError(f"/gates/grade: {unknown[0]!r} is not a gate of {self.document['id']}: {', '.join(rows)}")
        return _gate_set({**self.document, "gates": [rows[name] for name in ids]}, str(self.document["id"]))

    def with_rails(self, rows: Sequence[Mapping[str, Any]]) -> GateSet:
        """These gates and further rows of the same shape."""
        return _gate_set({**self.document, "gates": [*self.document["gates"], *rows]}, "/gates/rails")


def load_gates(name_or_path: str) -> GateSet:
    """The gate file of a shipped name or a path. Raises PolicyError naming file, field and bound."""
    path = resolve(name_or_path, "gates", ".json")
    return parse_gates(read_json(path), str(path))


def parse_gates(document: Mapping[str, Any], where: str) -> GateSet:
    """A gate file already read, checked whole."""
    return _gate_set(document, where)


def _gate_set(document: Mapping[str, Any], where: str) -> GateSet:
    validate(document, shipped_schema("gates"), where)
    bands = tuple(document["bands"])
    metrics = {
        name: Metric(name, row["unit"], row["state"], row["worst"] == "lowest", row["what"])
        for name, row in document["metrics"].items()
    }
    cross = document.get("cross_seed", {"metrics": (), "cv_at_most": {}})
    if unknown := sorted({*cross["metrics"]} - set(metrics)) + sorted({*cross["cv_at_most"]} - set(bands)):
        raise PolicyError(f"{where}: /cross_seed: {unknown[0]!r} is neither a metric nor a band of the file")
    gates = tuple(_gate(row, bands, metrics, f"{where}: /gates/{row['id']}") for row in document["gates"])
    if len({gate.id for gate in gates}) < len(gates):
        twice = next(gate.id for gate in gates if sum(other.id == gate.id for other in gates) > 1)
        raise PolicyError(f"{where}: /gates/{twice}: the id is given twice")
    return GateSet(document, bands, metrics, gates)


def _gate(row: Mapping[str, Any], bands: tuple[str, ...], metrics: Mapping[str, Metric], where: str) -> Gate:
    if row["metric"] not in metrics:
        raise PolicyError(f"{where}: {row['metric']!r} is not one of the file's metrics")
    thresholds = dict(row.get("thresholds", {}))
    if unknown := sorted(set(thresholds) - set(bands)):
        raise PolicyError(f"{where}: band {unknown[0]!r} is not one of {', '.join(bands)}")
    if "threshold" in row:
        thresholds = dict.fromkeys(bands, row["threshold"])
    relative = Relative(**row["relative_to_authority"]) if "relative_to_authority" in row else None
    lowest = next((thresholds[band] for band in bands if band in thresholds), 0.0)
    scale = row.get("scale", abs(lowest) or 1.0)
    severity, tolerance = Severity(row["severity"]), row.get("tolerance", 0.0)
    return Gate(
        row["id"], row["metric"], severity, row["comparison"], thresholds, relative, tolerance, scale, row["why"]
    )
