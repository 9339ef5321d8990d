"""Why a sweep stops before or at its budget: a pure function of the finished trials, except for the seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from lanelock.sweeps.decision.aim import accepted, aims_at_front
from lanelock.sweeps.decision.decision import in_reserve, leader
from lanelock.sweeps.decision.reserve import ceiling_of, reserve_of
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground, objective_row
from lanelock.sweeps.lanes.trial import Trial

OPTIMUM = 1e-6  # distance to a proven optimum, relative to it, at which a sweep has nothing left to find
FAILURES = 20  # failed trials in a row after which a sweep ends
_TINY = 1e-300
_LARGE = 1000  # distance to a proven optimum, relative to it, beyond which it is not given in percent
IMPROVEMENT = 0.01  # relative to the best value; smaller steps do not count as an improvement


def stopped(history: Sequence[Trial], ledger: Ledger) -> str:
    """Returns why the search has nothing more to do, in words; empty if it goes on."""
    rules, best = ledger.ground.lane.document.get("stop", {}), _best(history, ledger)
    failing = _failing(history, ledger.ground.lane.document["budget"].get("max_failures", FAILURES))
    if failing or best is None:
        return failing
    return (
        _proven(best, history, ledger, float(rules.get("optimum", OPTIMUM)))
        or _reached(best, history, ledger, rules)
        or _idle(best, history, ledger, rules)
    )


def _failing(history: Sequence[Trial], most: int) -> str:
    failed = list(takewhile(lambda trial: trial.failed, reversed(history)))
    return f"the last {len(failed)} trials failed: {failed[0].record.failure}" if len(failed) >= most else ""


def _proven(best: Trial, history: Sequence[Trial], ledger: Ledger, tolerance: float) -> str:
    """Returns the optimum that is proven and reached, of the objective that decides: no trial can be better."""
    objectives = ledger.ground.lane.objectives
    if ledger.band(best, reachable_only=True) != ledger.ground.lane.gates.bands[-1]:
        return ""  # a candidate of a higher band would be preferred, whatever its objectives
    if aims_at_front(ledger.ground.lane) and len(objectives) > 1:
        return ""
    at = _deciding(best, history, ledger)
    limit = provable(ledger.ground).get(objectives[at].name)
    if limit is None or at + 1 < len(objectives):
        return ""
    value = (best.objectives or ())[at]
    if abs(value - limit) > tolerance * max(abs(limit), _TINY):
        return ""
    return f"the proven optimum is reached: {distance(value, limit, objectives[at])}"


def provable(ground: Ground) -> dict[str, float]:
    """Returns objective -> the best value that any trial can have, where that is proven."""
    ceiling = ceiling_of(ground)
    rows = {row.gate: row.bound for row in ground.reach if row.bound is not None}
    limits = {
        row.name: rows[objective_row(row.name)] for row in ground.lane.objectives if objective_row(row.name) in rows
    }
    first = ground.lane.objectives[0]
    return {**limits, **({first.name: ceiling.value} if ceiling is not None and first.maximize else {})}


def distance(value: float, limit: float, objective: Objective) -> str:
    """Returns how far a value is from what is proven: `margin 0.139857 of at most 0.139857: 0 % left`."""
    side, left = "most" if objective.maximize else "least", round(abs(limit - value), 12)
    text = f"{objective.name} {value:.6g} of at {side} {limit:.6g}"
    relative = left <= _LARGE * abs(limit)  # a percentage of next to nothing says nothing
    return f"{text}: {100 * left / max(abs(limit), _TINY):.3g} % left" if relative else text


def _reached(best: Trial, history: Sequence[Trial], ledger: Ledger, rules: Any) -> str:
    target = rules.get("target")
    if target is None:
        return ""
    at = _deciding(best, history, ledger)
    objective, value = ledger.ground.lane.objectives[at], (best.objectives or ())[at]
    reached = value >= target if objective.maximize else value <= target
    last = at + 1 == len(ledger.ground.lane.objectives)
    return f"the target is reached: {objective.name} {value:.4g}, {target:g} was asked" if last and reached else ""


def _idle(now: Trial, history: Sequence[Trial], ledger: Ledger, rules: Any) -> str:
    """Returns that no trial of the last `patience` improved the best value by more than `improvement`."""
    patience = rules.get("patience")
    if patience is None or len(history) <= patience:
        return ""
    before, at = _best(history[:-patience], ledger), _deciding(now, history, ledger)
    if before is None or _deciding(before, history, ledger) != at:
        return ""
    objective, old, new = ledger.ground.lane.objectives[at], ledger.signed(before)[at], ledger.signed(now)[at]
    least = float(rules.get("improvement", IMPROVEMENT))
    if new - old > least * abs(old):
        return ""
    return f"no improvement of {objective.name} by more than {100 * least:g} % in the last {patience} trials"


def _best(history: Sequence[Trial], ledger: Ledger) -> Trial | None:
    """Returns the trial that a decision would take now, if it holds the accept band in every gate that can."""
    best = leader(history, ledger)
    return best if best is not None and ledger.held(best) >= accepted(ledger.ground.lane) else None


def _deciding(trial: Trial, history: Sequence[Trial], ledger: Ledger) -> int:
    """Returns the place of the objective that decides: the first, or the second where the reserve is met."""
    several = len(ledger.ground.lane.objectives) > 1
    return 1 if several and in_reserve(trial, ledger, reserve_of(history, ledger)) else 0
