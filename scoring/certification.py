"""Certification: one candidate graded on several seeds, and how much its realism varies between them.

A grade is the highest band that every seed meets and whose cross-seed limits hold: what is realistic on one
seed and another thing on the next is not certified. Limits are data of the gate file (`cross_seed`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from scoring.gates import GateSet, Severity
from scoring.scorecard import Scorecard, Verdict, combine


@dataclass(frozen=True, slots=True)
class Spread:
    """How one metric varies over the seeds."""

    metric: str
    values: Mapping[int, float]  # by seed
    cv: float | None  # standard deviation (ddof 1) over |mean|, no unit; None where it cannot be had
    limits: Mapping[str, float]  # by band
    passed: Mapping[str, bool]  # by band


@dataclass(frozen=True, slots=True)
class Certification:
    """The verdict, and everything it was derived from."""

    verdict: Verdict
    band: str | None
    cards: tuple[Scorecard, ...]  # one a seed
    spreads: tuple[Spread, ...]
    reason: str

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": str(self.verdict),
            "band": self.band,
            "reason": self.reason,
            "seeds": [card.seed for card in self.cards],
            "cards": [card.as_document() for card in self.cards],
            "cv": [
                asdict(spread) | {"values": {str(k): v for k, v in spread.values.items()}} for spread in self.spreads
            ],
        }


def certify(cards: Sequence[Scorecard], gates: GateSet) -> Certification:
    """Grades per-seed scorecards of one candidate; fails closed where a seed could not be graded."""
    overall = combine(cards, gates)
    spreads = tuple(_spread(metric, cards, gates) for metric in gates.cross_seed_metrics)
    if overall.verdict in (Verdict.INVALID_FOR_GRADING, Verdict.FAIL_REALISM):
        return Certification(overall.verdict, None, tuple(cards), spreads, _failed(overall, gates))
    met = list(takewhile(lambda band: _met(band, cards, spreads), gates.bands))
    band = met[-1] if met else None
    wide = ", ".join(f"{row.metric} {row.cv:.4f}" for row in spreads if row.cv is not None)
    reason = f"every gate of band {band} holds on every seed" if band else "the seeds differ too much"
    return Certification(
        Verdict.of_band(band), band, tuple(cards), spreads, f"{reason}; cross-seed CV: {wide or 'none asked'}"
    )


def _spread(metric: str, cards: Sequence[Scorecard], gates: GateSet) -> Spread:
    values = {int(card.seed or 0): card.metrics[metric] for card in cards if metric in card.metrics}
    mean = statistics.fmean(values.values()) if values else 0.0
    known = len(values) == len(cards) and len(cards) > 1 and mean != 0.0
    cv = statistics.stdev(values.values()) / abs(mean) if known else None
    limits = gates.cross_seed_limits
    passed = {band: cv is not None and cv <= limit for band, limit in limits.items()}
    return Spread(metric, values, cv, limits, passed)


def _met(band: str, cards: Sequence[Scorecard], spreads: Sequence[Spread]) -> bool:
    graded = all(row.passed[band] for card in cards for row in card.gates)
    return graded and all(spread.passed.get(band, True) for spread in spreads)


def _failed(overall: Scorecard, gates: GateSet) -> str:
    """The gates that keep the candidate below the lowest band, with value and threshold."""
    lowest = gates.bands[0]
    rows = [row for row in overall.gates if not row.passed[lowest]]
    if overall.verdict is Verdict.INVALID_FOR_GRADING:
        rows = [row for row in rows if row.severity is Severity.PRECONDITION or not row.known] or rows
    told = []
    for row in rows:
        seen = "not measured" if row.value is None else f"{row.value:.6g}"
        threshold = row.thresholds.get(lowest)
        told.append(f"{row.id}: {seen} against {math.nan if threshold is None else threshold:.6g} on seed {row.seed}")
    return "; ".join(told)
