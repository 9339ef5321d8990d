"""Certification: one candidate graded on several seeds, and how much its realism varies between them.

A grade is the highest band that every seed meets and whose cross-seed limits hold: what is realistic on one
seed and another thing on the next is not certified. Limits are data of the gate file (`cross_seed`): a
coefficient of variation a band, and how far one seed may fall away from the median of all, since among many seeds one
that collapsed hardly moves a coefficient of variation.

What is certified in the end is the worse of two grades: that on the seeds asked for and that on seeds held out of
every sweep, so that a candidate tuned to its seeds is seen.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.scoring.gates import GateSet, Severity, Verdict, highest, threshold_text
from lanelock.scoring.scorecard import Scorecard, combine


@dataclass(frozen=True, slots=True)
class Spread:
    """How one metric varies over the seeds."""

    metric: str
    values: Mapping[int, float]  # by seed
    cv: float | None  # standard deviation (ddof 1) over |mean|, no unit; None where it cannot be had
    limits: Mapping[str, float]  # by band
    passed: Mapping[str, bool]  # by band
    collapsed: tuple[int, ...]  # seeds that fell away from the median of all by more than the file's ratio

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {
            "values": {str(seed): value for seed, value in self.values.items()},
            "collapsed": list(self.collapsed),
        }


@dataclass(frozen=True, slots=True)
class Precondition:
    """Something without which there is no grade, and what was found."""

    name: str
    ok: bool
    said: str


@dataclass(frozen=True, slots=True)
class Certification:
    """The verdict, and everything it was derived from."""

    verdict: Verdict
    cards: tuple[Scorecard, ...]  # one a seed
    spreads: tuple[Spread, ...]
    reason: str

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": str(self.verdict),
            "band": self.verdict.band,
            "reason": self.reason,
            "seeds": [card.seed for card in self.cards],
            "cards": [card.as_document() for card in self.cards],
            "cv": [spread.as_document() for spread in self.spreads],
        }


def conclude(
    graded: Certification, holdout: Certification | None, preconditions: Sequence[Precondition], gates: GateSet
) -> tuple[Verdict, str]:
    """(verdict, why) of a candidate: none without its preconditions, else the worse of its two grades."""
    if unmet := [row for row in preconditions if not row.ok]:
        return gates.invalid, "; ".join(f"{row.name}: {row.said}" for row in unmet)
    if holdout is None:
        return graded.verdict, graded.reason
    worse = min((graded, holdout), key=lambda grade: grade.verdict.rank)
    seeds = "the seeds asked for" if worse is graded else "the seeds held out"
    if not worse.verdict.passed:
        return worse.verdict, f"on {seeds}: {worse.reason}"
    return worse.verdict, f"{graded.reason}; on {len(holdout.cards)} seeds held out: {holdout.reason}"


def certify(cards: Sequence[Scorecard], gates: GateSet) -> Certification:
    """Grades per-seed scorecards of one candidate; fails closed where a seed could not be graded."""
    overall = combine(cards, gates)
    spreads = tuple(_spread(metric, cards, gates) for metric in gates.cross_seed_metrics)
    if not overall.verdict.passed:
        return Certification(overall.verdict, tuple(cards), spreads, _failed(overall, gates))
    band = highest(gates.bands, lambda band: _met(band, cards, spreads))
    wide = ", ".join(f"{row.metric} {row.cv:.4f}" for row in spreads if row.cv is not None)
    reason = f"every gate of band {band} holds on every seed" if band else _apart(spreads)
    return Certification(gates.of_band(band), tuple(cards), spreads, f"{reason}; cross-seed CV: {wide or 'none asked'}")


def _spread(metric: str, cards: Sequence[Scorecard], gates: GateSet) -> Spread:
    values = {int(card.seed or 0): card.metrics[metric] for card in cards if metric in card.metrics}
    mean = statistics.fmean(values.values()) if values else 0.0
    known = len(values) == len(cards) and len(cards) > 1 and mean != 0.0
    cv = statistics.stdev(values.values()) / abs(mean) if known else None
    limits = gates.cross_seed_limits
    collapsed = _collapsed(values, gates.cross_seed_ratio)
    passed = {band: cv is not None and cv <= limit and not collapsed for band, limit in limits.items()}
    return Spread(metric, values, cv, limits, passed, collapsed)


def _collapsed(values: Mapping[int, float], ratio: float | None) -> tuple[int, ...]:
    """Seeds whose value is less than `ratio` times the median's size, or more than the median's over `ratio`."""
    if ratio is None or not values:
        return ()
    middle = abs(statistics.median(values.values()))
    return tuple(seed for seed, value in values.items() if not middle * ratio <= abs(value) <= middle / ratio)


def _apart(spreads: Sequence[Spread]) -> str:
    fallen = [f"{row.metric} on seed {seed}" for row in spreads for seed in row.collapsed]
    if any(row.cv is None for row in spreads):
        return "one seed shows no spread: two are needed"
    return f"collapsed: {', '.join(fallen)}" if fallen else "the seeds differ too much"


def _met(band: str, cards: Sequence[Scorecard], spreads: Sequence[Spread]) -> bool:
    graded = all(row.passed[band] for card in cards for row in card.gates)
    return graded and all(spread.passed.get(band, True) for spread in spreads)


def _failed(overall: Scorecard, gates: GateSet) -> str:
    """The gates that keep the candidate below the lowest band, with value and threshold."""
    lowest = gates.bands[0]
    rows = [row for row in overall.gates if row.holds is None]
    if overall.verdict.invalid:
        rows = [row for row in rows if row.severity is Severity.PRECONDITION or not row.known] or rows
    return "; ".join(
        f"{row.id}: {'not measured' if row.value is None else f'{row.value:.6g}'} against "
        f"{threshold_text(row.thresholds.get(lowest))} on seed {row.seed}"
        for row in rows
    )
