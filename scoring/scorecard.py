"""Scoring: what a set of gates says of a run's metrics. Pure, and fail-closed.

A number that is missing never passes: its gate fails and there is no grade. A failed veto or rail fails the run
whatever the other gates say. Otherwise the grade is the highest band that every gate meets with every lower one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lanelock.engine.protocol import Run
from lanelock.policies.documents import shipped_schema, validate
from lanelock.scoring.feasibility import Bound, Box
from lanelock.scoring.gates import Gate, GateSet, Severity, Threshold, Verdict, highest

MISSING = 10.0  # the violation of a veto without a value: ten scales past its threshold


class MetricSource(Protocol):
    """Measures the runs of one engine. Found under the entry-point group `lanelock.metrics`."""

    name: str
    gates_file: str | Path  # the engine's own gate file: a shipped name or a path

    def measure(self, run: Run) -> Mapping[str, float]:
        """Metrics by name; one that cannot be measured on this run is left out or NaN."""
        ...


@runtime_checkable
class Bounding(Protocol):
    """A metric source that can prove bounds; without, only values that a lane leaves frozen are known beforehand."""

    def bounds(self, box: Box) -> Iterable[Bound]:
        """What no trial of a lane can pass on one seed, proved from the frozen upstream and the knob box."""
        ...


@runtime_checkable
class ShardMetrics(Protocol):
    """A metric source that can measure a run from its shards, exactly: `measure(run) == reduce([sample(run)])`."""

    def sample(self, run: Run) -> Any:
        """What the metrics need of one shard; small, so that the shard's surfaces may go."""
        ...

    def reduce(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """The metrics of the run from the samples of all its shards in order."""
        ...


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate said. The numbers it used are all here, by band where bands differ."""

    id: str
    metric: str
    severity: Severity
    comparison: str
    value: float | None
    thresholds: Mapping[str, Threshold | None]  # only the bands that ask
    margins: Mapping[str, float | None]  # over the gate's scale; passing where >= 0; None where unknown
    passed: Mapping[str, bool]  # every band, lowest first
    seed: int | None

    @classmethod
    def read(cls, row: Mapping[str, Any], bands: Sequence[str]) -> GateResult:
        """A row of a scorecard's document, its bands in their order again."""
        by_band = {
            part: {band: row[part][band] for band in bands if band in row[part]}
            for part in ("thresholds", "margins", "passed")
        }
        return cls(**{**row, **by_band, "severity": Severity(row["severity"])})

    @property
    def holds(self) -> str | None:
        """The highest band it meets with every lower one; None where it meets none."""
        return highest(self.passed, self.passed.__getitem__)

    @property
    def level(self) -> int:
        """How many bands it holds, counted from the lowest."""
        return [None, *self.passed].index(self.holds)

    @property
    def full(self) -> bool:
        """Whether it meets every band: of a veto or rail, whether it passes at all."""
        return all(self.passed.values())

    @property
    def known(self) -> bool:
        """Whether there was a value and a threshold to compare."""
        return None not in self.margins.values()

    @property
    def worst_margin(self) -> float:
        """The least margin over the bands; -inf where unknown."""
        return min((-math.inf if margin is None else margin for margin in self.margins.values()), default=math.inf)

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        thresholds = {band: plain(threshold) for band, threshold in self.thresholds.items()}
        return {**asdict(self), "severity": str(self.severity), "thresholds": thresholds}


def plain(threshold: Threshold | None) -> float | list[float] | None:
    """Returns a threshold as JSON has it."""
    return list(threshold) if isinstance(threshold, Sequence) else threshold


def worst(results: Sequence[GateResult]) -> GateResult:
    """Returns the one result of a gate on several seeds that decides: the lowest band held, then the least margin.

    Margins alone would not do: of two values outside a corridor's inner band the nearer may be outside the outer one.
    """
    return min(results, key=lambda row: (row.level, row.worst_margin))


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Every gate's result on one run, or the worst of several seeds (`seed` None)."""

    verdict: Verdict
    metrics: Mapping[str, float]
    gates: tuple[GateResult, ...]
    seed: int | None

    @property
    def vetoed(self) -> tuple[str, ...]:
        """Ids of the vetoes and rails that failed."""
        return tuple(row.id for row in self.gates if row.severity.ends_trial and not row.full)

    def violations(self) -> dict[str, float]:
        """Each veto's and rail's signed violation, feasible where <= 0: the sign that Optuna's constraints have."""
        rows = (row for row in self.gates if row.severity.ends_trial)
        return {row.id: -row.worst_margin if row.known else MISSING for row in rows}

    def margin(self, band: str, skip: Collection[str] = ()) -> float:
        """The least margin of the graded gates in a band, those of `skip` left out; -inf where one is unknown."""
        rows = (
            row for row in self.gates if row.severity == Severity.GATE and band in row.margins and row.id not in skip
        )
        margins = (row.margins[band] for row in rows)
        return min((-math.inf if margin is None else margin for margin in margins), default=math.inf)

    def as_document(self) -> dict[str, Any]:
        """JSON under `scorecard.schema.json`."""
        document = {
            "verdict": str(self.verdict),
            "seed": self.seed,
            "metrics": dict(self.metrics),
            "gates": [row.as_document() for row in self.gates],
            "vetoed": list(self.vetoed),
        }
        validate(document, shipped_schema("scorecard"), "scorecard")
        return document


def score(
    measures: Mapping[str, float], gates: GateSet, *, seed: int | None, authority: Mapping[str, float] | None
) -> Scorecard:
    """Grades a run's metrics. Rails need the `authority`'s metrics on the same seed; without, they stay unknown."""
    finite = {name: float(value) for name, value in measures.items() if math.isfinite(value)}
    rows = tuple(_judge(gate, gates.bands, finite, authority, seed) for gate in gates.gates)
    return Scorecard(_verdict(rows, gates), finite, rows, seed)


def combine(cards: Sequence[Scorecard], gates: GateSet) -> Scorecard:
    """The worst of several seeds: per gate its worst result, per metric its worst value."""
    rows = tuple(map(worst, zip(*(card.gates for card in cards), strict=True)))
    metrics = {}
    for name in sorted({name for card in cards for name in card.metrics}):
        found = [card.metrics[name] for card in cards if name in card.metrics]
        known = gates.metrics.get(name)
        metrics[name] = min(found) if known is not None and known.worst_is_lowest else max(found)
    seed = cards[0].seed if len(cards) == 1 else None
    return Scorecard(_verdict(rows, gates), metrics, rows, seed)


def _judge(
    gate: Gate,
    bands: tuple[str, ...],
    measures: Mapping[str, float],
    authority: Mapping[str, float] | None,
    seed: int | None,
) -> GateResult:
    value = measures.get(gate.metric)
    thresholds: dict[str, Threshold | None] = dict(gate.thresholds)
    if gate.relative is not None:
        base = None if authority is None else authority.get(gate.relative.followed(gate.metric))
        thresholds = dict.fromkeys(bands, None if base is None else gate.relative.threshold(base))
    margins = {
        band: None if value is None or threshold is None else gate.margin(value, threshold)
        for band, threshold in thresholds.items()
    }
    passed = {band: _passes(margins.get(band, math.inf if value is not None else None)) for band in bands}
    return GateResult(gate.id, gate.metric, gate.severity, gate.comparison, value, thresholds, margins, passed, seed)


def _passes(margin: float | None) -> bool:
    return margin is not None and margin >= 0.0


def _verdict(rows: Sequence[GateResult], gates: GateSet) -> Verdict:
    unmet = (row for row in rows if row.severity is Severity.PRECONDITION and row.holds is None)
    if any(not row.known for row in rows) or any(unmet):
        return gates.invalid
    if any(row.severity.ends_trial and not row.full for row in rows):
        return gates.of_band(None)
    return gates.of_band(highest(gates.bands, lambda band: all(row.passed[band] for row in rows)))
