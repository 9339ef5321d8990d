"""Gates as data: a metric, a comparison, a threshold per band, a severity, a reason; and the names of the verdicts.

Bands are nested: a higher one asks at least as much as every lower one, or the file is refused. What a gate says of a
value is in `scoring.scorecard`; what a metric is made of is its engine's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, takewhile
from typing import Any

from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json, resolve, shipped_schema, validate

WITHIN = "within"  # the comparison with a corridor
Threshold = float | Sequence[float]  # in the metric's unit; a corridor's low and high where the comparison is WITHIN


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
class Verdict:
    """What the gates say of one candidate, under the name that the gate file has for it."""

    name: str
    rank: int  # 0: cannot be graded; 1: does not meet the lowest band; then one per band, lowest first
    band: str | None  # the highest band met; None where it is no pass

    @property
    def passed(self) -> bool:
        return self.band is not None

    @property
    def invalid(self) -> bool:
        """Whether there is no grade at all."""
        return self.rank == 0

    def __str__(self) -> str:
        return self.name


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
    comparison: str  # ">=", "<=", "==" or WITHIN
    thresholds: Mapping[str, Threshold]  # by band, lowest first; empty where relative
    relative: Relative | None
    tolerance: float  # in the metric's unit
    scale: float  # in the metric's unit; margins are divided by it
    why: str

    def margin(self, value: float, threshold: Threshold) -> float:
        """Signed distance to the nearer end of what passes, over the scale: the gate passes where it is >= 0."""
        low, high = span(self.comparison, threshold)
        return (min(value - low, high - value) + self.tolerance) / self.scale


@dataclass(frozen=True, slots=True)
class GateSet:
    """The gates of a file, or those of them a lane chose."""

    document: Mapping[str, Any]  # in the file's shape: what a lock carries
    bands: tuple[str, ...]  # lowest to highest
    metrics: Mapping[str, Metric]
    gates: tuple[Gate, ...]
    verdicts: tuple[Verdict, ...]  # worst to best: no grade, the lowest band not met, then one per band

    @property
    def invalid(self) -> Verdict:
        """The verdict where there is no grade at all."""
        return self.verdicts[0]

    def of_band(self, band: str | None) -> Verdict:
        """The verdict of a candidate that meets `band` and no higher one; None: not even the lowest."""
        return next(verdict for verdict in self.verdicts[1:] if verdict.band == band)

    def verdict(self, name: str) -> Verdict:
        """The verdict of that name. Raises PolicyError where the file has no such name."""
        if (verdict := next((one for one in self.verdicts if one.name == name), None)) is None:
            known = ", ".join(map(str, self.verdicts))
            raise PolicyError(f"gates {self.document['id']}: {name!r} is not one of their verdicts: {known}")
        return verdict

    @property
    def cross_seed_metrics(self) -> tuple[str, ...]:
        """Metrics whose variation over seeds is limited."""
        return tuple(self.document.get("cross_seed", {}).get("metrics", ()))

    @property
    def cross_seed_limits(self) -> Mapping[str, float]:
        """By band: the greatest coefficient of variation over seeds."""
        return _in_order(self.document.get("cross_seed", {}).get("cv_at_most", {}), self.bands)

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


def highest(bands: Iterable[str], met: Callable[[str], bool]) -> str | None:
    """Returns the highest band that is met together with every lower one; None where the lowest is not met."""
    held = list(takewhile(met, bands))
    return held[-1] if held else None


def spelled(band: str) -> str:
    """Returns a band as part of a longer name: B+ as BPLUS."""
    return band.replace("+", "PLUS")


def ends(threshold: Threshold) -> tuple[float, ...]:
    """Returns the places on the metric's axis where a threshold is marked: one, or a corridor's two."""
    return tuple(threshold) if isinstance(threshold, Sequence) else (threshold,)


def span(comparison: str, threshold: Threshold) -> tuple[float, float]:
    """Returns the least and the greatest value that passes; infinite where a comparison leaves a side open."""
    low, high = ends(threshold)[0], ends(threshold)[-1]
    return (-math.inf if comparison == "<=" else low), (math.inf if comparison == ">=" else high)


def threshold_text(threshold: Threshold | None, missing: str = "unknown") -> str:
    """Returns a threshold for people; `missing` where there is none."""
    return missing if threshold is None else " … ".join(f"{end:.6g}" for end in ends(threshold))


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
    _check_cross_seed(document.get("cross_seed", {"metrics": (), "cv_at_most": {}}), bands, metrics, where)
    gates = tuple(_gate(row, bands, metrics, f"{where}: /gates/{row['id']}") for row in document["gates"])
    if len({gate.id for gate in gates}) < len(gates):
        twice = next(gate.id for gate in gates if sum(other.id == gate.id for other in gates) > 1)
        raise PolicyError(f"{where}: /gates/{twice}: the id is given twice")
    return GateSet(document, bands, metrics, gates, _verdicts(document.get("verdicts", {}), bands, where))


def _verdicts(names: Mapping[str, Any], bands: tuple[str, ...], where: str) -> tuple[Verdict, ...]:
    """The verdicts, worst first, under the names that the file has for them or, without, the usual ones."""
    passes = names.get("pass", {})
    _known_bands(passes, bands, f"{where}: /verdicts/pass")
    verdicts = (
        Verdict(names.get("invalid", "INVALID"), 0, None),
        Verdict(names.get("fail", "FAIL"), 1, None),
        *(Verdict(passes.get(band, f"PASS_{spelled(band)}"), rank, band) for rank, band in enumerate(bands, start=2)),
    )
    for number, verdict in enumerate(verdicts):
        if verdict.name in {other.name for other in verdicts[:number]}:
            raise PolicyError(f"{where}: /verdicts: {verdict.name} would name two verdicts")
    return verdicts


def _check_cross_seed(
    cross: Mapping[str, Any], bands: tuple[str, ...], metrics: Mapping[str, Metric], where: str
) -> None:
    if unknown := sorted({*cross["metrics"]} - set(metrics)) + sorted({*cross["cv_at_most"]} - set(bands)):
        raise PolicyError(f"{where}: /cross_seed: {unknown[0]!r} is neither a metric nor a band of the file")
    _check_nested("<=", _in_order(cross["cv_at_most"], bands), f"{where}: /cross_seed/cv_at_most")


def _gate(row: Mapping[str, Any], bands: tuple[str, ...], metrics: Mapping[str, Metric], where: str) -> Gate:
    if row["metric"] not in metrics:
        raise PolicyError(f"{where}: {row['metric']!r} is not one of the file's metrics")
    thresholds = _thresholds(row, bands, where)
    _check_nested(row["comparison"], thresholds, where)
    relative = Relative(**row["relative_to_authority"]) if "relative_to_authority" in row else None
    lowest = ends(next(iter(thresholds.values()), 0.0))
    size = abs(lowest[0]) if row["comparison"] != WITHIN else lowest[1] - lowest[0]
    severity, tolerance = Severity(row["severity"]), row.get("tolerance", 0.0)
    scale = row.get("scale", size or 1.0)
    return Gate(
        row["id"], row["metric"], severity, row["comparison"], thresholds, relative, tolerance, scale, row["why"]
    )


_ONE, _PER_BAND, _CORRIDORS = ("threshold", "corridor"), ("thresholds", "corridors"), ("corridor", "corridors")


def _thresholds(row: Mapping[str, Any], bands: tuple[str, ...], where: str) -> dict[str, Threshold]:
    """What a gate asks, by band and lowest first; nothing where it follows the authority."""
    given = next(name for name in (*_ONE, *_PER_BAND, "relative_to_authority") if name in row)
    if (row["comparison"] == WITHIN) != (given in _CORRIDORS):
        needed = " or ".join(_CORRIDORS if row["comparison"] == WITHIN else ("threshold", "thresholds"))
        raise PolicyError(f"{where}/{given}: comparison {row['comparison']!r} takes {needed} instead")
    if given == "relative_to_authority":
        return {}
    asked = dict.fromkeys(bands, row[given]) if given in _ONE else row[given]
    _known_bands(asked, bands, where)
    if given in _CORRIDORS:
        asked = {band: _corridor(pair, f"{where}/{given}: band {band}") for band, pair in asked.items()}
    return _in_order(asked, bands)


def _corridor(pair: Sequence[float], where: str) -> tuple[float, float]:
    low, high = pair
    if low > high:
        raise PolicyError(f"{where}: low {low:g} is above high {high:g}")
    return low, high


def _known_bands(asked: Iterable[str], bands: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(asked) - set(bands)):
        raise PolicyError(f"{where}: band {unknown[0]!r} is not one of {', '.join(bands)}")


def _in_order(by_band: Mapping[str, Any], bands: tuple[str, ...]) -> dict[str, Any]:
    """The same, lowest band first: documents are stored with their keys sorted."""
    return {band: by_band[band] for band in bands if band in by_band}


def _check_nested(comparison: str, thresholds: Mapping[str, Threshold], where: str) -> None:
    """Raises PolicyError where a higher band lets something pass that a lower one does not."""
    for (lower, wide), (higher, narrow) in pairwise(thresholds.items()):
        (low, high), (least, most) = span(comparison, wide), span(comparison, narrow)
        if least < low or most > high:
            raise PolicyError(
                f"{where}: band {higher} asks {comparison} {threshold_text(narrow)}, which passes where {lower} fails "
                f"({comparison} {threshold_text(wide)}): a higher band must ask at least as much as a lower one"
            )
