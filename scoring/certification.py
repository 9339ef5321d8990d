"""Certification: grades one candidate on several seeds, and limits how much its metrics vary between them.

A grade is the highest band that every seed meets and whose cross-seed limits hold. The limits are data of the gate file
(`cross_seed`): a coefficient of variation per metric and band, and how far one seed may be from the median over all,
because a single collapsed seed among many hardly changes a coefficient of variation.

The verdict is the worse of two grades, on the requested seeds and on seeds held out of every sweep, so that a candidate
that is tuned to its seeds is detected.

Held-out seeds that all meet the verdict's band support a claim about the seeds that nobody ran: the exact binomial
bound (Clopper and Pearson, one-sided, no failure). If a share p of all seeds met the band, n of them in a row would do
so with probability p^n; the coverage is the greatest p for which that is at most 1 - confidence. Percentages are
counted in tenths, and compared as whole numbers, so that no rounding can raise a claim.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.scoring.gates import GateSet, Severity, Verdict, highest, threshold_text
from lanelock.scoring.scorecard import Scorecard, combine

CONFIDENCE = 95.0  # percent, of a claim for which no other was asked
MOST_HOLDOUT = 4096  # held-out seeds of a certification


@dataclass(frozen=True, slots=True)
class Spread:
    """How one metric varies over the seeds."""

    metric: str
    values: Mapping[int, float]  # by seed
    cv: float | None  # standard deviation (ddof 1) over |mean|, no unit; None if undefined
    limits: Mapping[str, float]  # by band
    passed: Mapping[str, bool]  # by band
    collapsed: tuple[int, ...]  # seeds further from the median than the file's ratio allows

    def as_document(self) -> dict[str, Any]:
        """Returns plain JSON."""
        values = {str(seed): value for seed, value in self.values.items()}
        return asdict(self) | {"values": values, "collapsed": list(self.collapsed)}


@dataclass(frozen=True, slots=True)
class Precondition:
    """A condition without which there is no grade, and the finding (`said`)."""

    name: str
    ok: bool
    said: str


@dataclass(frozen=True, slots=True)
class Certification:
    """A verdict, with everything it was derived from."""

    verdict: Verdict
    cards: tuple[Scorecard, ...]  # one per seed
    spreads: tuple[Spread, ...]
    reason: str

    def as_document(self) -> dict[str, Any]:
        """Returns plain JSON."""
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
    """Returns verdict and reason of a candidate: invalid if a precondition fails, else the worse of two grades."""
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
    """Grades the per-seed scorecards of one candidate. A seed that could not be graded makes it invalid."""
    overall = combine(cards, gates)
    spreads = tuple(_spread(metric, cards, gates) for metric in gates.cross_seed_limits)
    if not overall.verdict.passed:
        return Certification(overall.verdict, tuple(cards), spreads, _failed(overall, gates))
    band = highest(gates.bands, lambda band: _met(band, (*cards, overall), spreads))
    wide = ", ".join(f"{row.metric} {row.cv:.4f}" for row in spreads if row.cv is not None)
    reason = f"every gate of band {band} holds on every seed" if band else _unmet_limit(spreads)
    return Certification(gates.of_band(band), tuple(cards), spreads, f"{reason}; cross-seed CV: {wide or 'none asked'}")


def _spread(metric: str, cards: Sequence[Scorecard], gates: GateSet) -> Spread:
    values = {int(card.seed or 0): card.metrics[metric] for card in cards if metric in card.metrics}
    mean = statistics.fmean(values.values()) if values else 0.0
    known = len(values) == len(cards) and len(cards) > 1 and mean != 0.0
    cv = statistics.stdev(values.values()) / abs(mean) if known else None
    limits = gates.cross_seed_limits[metric]
    collapsed = _collapsed(values, gates.cross_seed_ratio)
    passed = {
        band: (band not in limits or (cv is not None and cv <= limits[band])) and not collapsed for band in gates.bands
    }
    return Spread(metric, values, cv, limits, passed, collapsed)


def _collapsed(values: Mapping[int, float], ratio: float | None) -> tuple[int, ...]:
    """Returns the seeds with |value| below |median| * ratio or above |median| / ratio."""
    if ratio is None or not values:
        return ()
    middle = abs(statistics.median(values.values()))
    return tuple(seed for seed, value in values.items() if not middle * ratio <= abs(value) <= middle / ratio)


def _unmet_limit(spreads: Sequence[Spread]) -> str:
    collapsed = [f"{row.metric} on seed {seed}" for row in spreads for seed in row.collapsed]
    if any(row.cv is None for row in spreads):
        return "one seed shows no spread: two are needed"
    return f"collapsed: {', '.join(collapsed)}" if collapsed else "the seeds differ too much"


def _met(band: str, cards: Sequence[Scorecard], spreads: Sequence[Spread]) -> bool:
    graded = all(row.passed[band] for card in cards for row in card.gates)
    return graded and all(spread.passed[band] for spread in spreads)


def _failed(overall: Scorecard, gates: GateSet) -> str:
    """Returns the gates that fail the lowest band, with value and threshold."""
    lowest = gates.bands[0]
    rows = [row for row in overall.gates if row.holds is None]
    if overall.verdict.invalid:
        rows = [row for row in rows if row.severity is Severity.PRECONDITION or not row.known] or rows
    return "; ".join(
        f"{row.id}: {row.note or 'not measured' if row.value is None else f'{row.value:.6g}'} against "
        f"{threshold_text(row.thresholds.get(lowest))} on {'all seeds' if row.seed is None else f'seed {row.seed}'}"
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about seeds that nobody ran, from held-out seeds that all meet a band."""

    confidence: float  # percent
    coverage: float  # percent of worlds or runs that meet the band, at least
    band: str
    of: str  # "worlds", or "runs" where every seed has the same world
    seeds: int  # held-out seeds that were run
    failures: int = 0  # of these below the band: one is enough that nothing is claimed

    def __str__(self) -> str:
        drawn = "worlds drawn from this policy" if self.of == "worlds" else "runs of this policy"
        return (
            f"with {self.confidence:g} % confidence at least {self.coverage:g} % of {drawn} meet {self.band}"
            f" ({self.seeds} held-out seeds, none below)"
        )


def claim_of(
    holdout: Certification | None, verdict: Verdict, confidence: float = CONFIDENCE, of: str = "worlds"
) -> Claim | None:
    """Returns what the held-out seeds of a certification support; None without them, or if its verdict is no pass."""
    if holdout is None or verdict.band is None:
        return None
    count, tenths = len(holdout.cards), _tenths(confidence)
    return Claim(_percent(tenths), _percent(_supported(count, tenths)), verdict.band, of, count)


def seeds_for(confidence: float, coverage: float) -> int:
    """Returns how many held-out seeds a claim needs if none fails; `MOST_HOLDOUT` + 1 if so many are not enough."""
    counts, wanted = range(1, MOST_HOLDOUT + 1), (_tenths(confidence), _tenths(coverage))
    return 1 + bisect_left(counts, True, key=lambda count: _supports(count, *wanted))


def _supports(count: int, confidence: int, coverage: int) -> bool:
    """Whether coverage^count <= 1 - confidence; both in tenths of a percent."""
    return bool(coverage**count * 1000 <= (1000 - confidence) * 1000**count)


def _supported(count: int, confidence: int) -> int:
    """Returns the greatest coverage that `count` seeds without a failure support; in tenths of a percent."""
    return bisect_right(range(1000), False, key=lambda coverage: not _supports(count, confidence, coverage)) - 1


def _tenths(percent: float) -> int:
    return round(percent * 10)


def _percent(tenths: int) -> float:
    return tenths // 10 if tenths % 10 == 0 else tenths / 10
