"""The reserve: the value of the first objective from which a decision weighs the others.

A lane declares it as a number, or by its purpose: the share of all worlds that the candidate shall hold (coverage) and
the confidence of that statement. It then follows from the spread of the margin over the lane's seeds, as a one-sided
tolerance bound of a normal distribution. A reserve never exceeds what is proven to be possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, variance

from lanelock.scoring.gates import WITHIN, Gate, Severity, span
from lanelock.scoring.scorecard import Scorecard, score
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial

NEAREST = 8  # candidates at the edge, from which the spread over seeds is estimated
_BELOW = 1e-9  # how far below a proven ceiling the reserve stays, relative to it: a trial on the ceiling must meet it


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The proven upper bound of an objective over all trials of a lane."""

    value: float
    gate: str
    proof: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """The reserve in use, with the greater-is-better sign of the first objective."""

    value: float
    asked: float  # before the ceiling
    why: str  # how `asked` follows, for people; empty where the lane declares the number
    ceiling: Ceiling | None

    @property
    def capped(self) -> bool:
        return self.value < self.asked


def ceiling_of(ground: Ground) -> Ceiling | None:
    """Returns the least bound on the margin over the gates that it counts; None for a metric or without a bound."""
    band, reach = ground.lane.objectives[0].band, {row.gate: row for row in ground.reach}
    if band is None:
        return None
    rows = (
        reach[gate.id]
        for gate in ground.lane.gates.gates
        if gate.severity is Severity.GATE and gate.id in reach and gate.id not in ground.unreachable[band]
    )
    ceilings = (Ceiling(row.margins[band], row.gate, row.proof) for row in rows if band in row.margins)
    return min(ceilings, key=lambda ceiling: ceiling.value, default=None)


def reserve_of(history: Sequence[Trial], ledger: Ledger) -> Reserve:
    """Returns the reserve after these trials."""
    decision, ceiling = ledger.ground.lane.document["decision"], ceiling_of(ledger.ground)
    sign = 1.0 if ledger.ground.lane.objectives[0].maximize else -1.0
    asked, why = sign * float(decision.get("margin_reserve", 0.0)), ""
    if "reserve" in decision:
        asked, why = _tolerated(history, ledger, **decision["reserve"])
    most = math.inf if ceiling is None else ceiling.value - _BELOW * abs(ceiling.value)
    return Reserve(min(asked, most), asked, why, ceiling)


@cache
def tolerance_factor(count: int, coverage: float, confidence: float) -> float:
    """Returns k such that mean - k s of `count` normal values is, with `confidence`, below the share `coverage`.

    The one-sided factor by the noncentral t distribution (ISO 16269-6); `s` has the divisor count - 1.
    """
    from scipy.stats import nct, norm  # slow to import, and rarely needed

    quantile = nct.ppf(confidence, count - 1, norm.ppf(coverage) * math.sqrt(count))
    return float(quantile) / math.sqrt(count)


def _tolerated(history: Sequence[Trial], ledger: Ledger, coverage: float, confidence: float) -> tuple[float, str]:
    """Returns the least margin on the worst seed at which the mean is k spreads above zero, and why."""
    seeds = len(ledger.ground.lane.seeds)
    samples = list(_margins_at_the_edge(history, ledger)) or [_of_authority(ledger.ground)]
    spread = math.sqrt(fmean(map(variance, samples)))
    below = fmean(fmean(margins) - min(margins) for margins in samples)  # the worst seed stands below the mean already
    k = tolerance_factor(seeds, coverage, confidence)
    why = (
        f"{coverage:.4g} of all seeds with confidence {confidence:.4g}: {k:.3g} times the spread {spread:.3g} over "
        f"{seeds} seeds, less the {below:.3g} by which the worst seed is below their mean"
    )
    return max(0.0, round(k * spread - below, 12)), why  # without the rounding of equal margins


def _margins_at_the_edge(history: Sequence[Trial], ledger: Ledger) -> Iterator[list[float]]:
    """Yields the margins over seeds of the candidates that a reserve would separate.

    They are the ones that hold the objective's band and are best in the other objectives; where none holds it yet,
    those with the greatest margin.
    """
    trials = [trial for trial in history if ledger.acceptable(trial)]
    holding = [trial for trial in trials if ledger.signed(trial)[0] >= 0]

    def others_first(trial: Trial) -> tuple[float, ...]:
        first, *others = ledger.signed(trial)
        return (*others, first)

    nearest = sorted(holding, key=others_first, reverse=True) or sorted(trials, key=ledger.signed, reverse=True)
    for trial in nearest[:NEAREST]:
        yield _margins(ledger.ground, ledger.cards(trial).values())


def _of_authority(ground: Ground) -> list[float]:
    """Returns the authority's margins over seeds, for the time before the first trial."""
    gates = ground.lane.gates
    cards = [score(metrics, gates, seed=seed, authority=metrics) for seed, metrics in ground.authority.items()]
    margins = _margins(ground, cards)
    return margins if all(map(math.isfinite, margins)) else [0.0] * len(margins)


def _margins(ground: Ground, cards: Iterable[Scorecard]) -> list[float]:
    band = str(ground.lane.objectives[0].band)
    return [card.margin(band, ground.unreachable[band]) for card in cards]


def asked_of_gates(lane: Lane, reserve: float) -> tuple[str, ...]:
    """Returns what a reserve asks of each graded gate, in the metric's own unit: `fill_rate >= 0.984`."""
    band = lane.objectives[0].band
    if band is None:
        return ()
    graded = (gate for gate in lane.gates.gates if gate.severity is Severity.GATE and band in gate.thresholds)
    return tuple(_asked(gate, band, reserve * gate.scale - gate.tolerance) for gate in graded)


def _asked(gate: Gate, band: str, further: float) -> str:
    low, high = span(gate.comparison, gate.thresholds[band])
    low, high = low + further, high - further
    if gate.comparison == WITHIN:
        return f"{gate.metric} within {low:.6g} … {high:.6g}"
    return f"{gate.metric} {gate.comparison} {low if math.isinf(high) else high:.6g}"
