"""Why a sweep stops before or at its budget: a pure function of the finished trials, except for the seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from lanelock.sweeps.lanes.decision import in_reserve, ranking
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.reserve import reserve_of
from lanelock.sweeps.lanes.trial import Trial

OPTIMUM = 1e-6  # distance to a proven optimum, relative to it, at which a sweep has nothing left to find
FAILURES = 20  # failed trials in a row after which a sweep ends
IMPROVEMENT = 0.01  # relative to the best value; smaller steps do not count as an improvement


def stopped(history: Sequence[Trial], ledger: Ledger) -> str:
    """Returns why the search has nothing more to do, in words; empty if it goes on."""
    rules = ledger.ground.lane.document.get("stop", {})
    return (
        _failing(history, ledger.ground.lane.document["budget"].get("max_failures", FAILURES))
        or _proven(history, ledger, float(rules.get("optimum", OPTIMUM)))
        or _reached(history, ledger, rules)
        or _idle(history, ledger, rules)
    )


def _failing(history: Sequence[Trial], most: int) -> str:
    failed = list(takewhile(lambda trial: trial.failed, reversed(history)))
    return f"the last {len(failed)} trials failed: {failed[0].record.failure}" if len(failed) >= most else ""


def _proven(history: Sequence[Trial], ledger: Ledger, tolerance: float) -> str:
    """Returns the optimum that is proven and reached, where the lane has one objective: no trial can be better."""
    reserve, best = reserve_of(history, ledger), _best(history, ledger)
    if len(ledger.ground.lane.objectives) > 1 or reserve.ceiling is None or best is None:
        return ""
    value, most = ledger.signed(best)[0], reserve.ceiling.value
    if value < most - tolerance * abs(most):
        return ""
    return f"the proven optimum is reached: {distance(value, most, ledger.ground.lane.objectives[0].name)}"


def distance(value: float, most: float, name: str) -> str:
    """Returns how far a value is from its proven ceiling: `margin 0.139857 of at most 0.139857: 0 % left`."""
    left = max(0.0, most - value) / max(abs(most), 1e-300)
    return f"{name} {value:.6g} of at most {most:.6g}: {100 * left:.2g} % left"


def _reached(history: Sequence[Trial], ledger: Ledger, rules: Any) -> str:
    best, target = _best(history, ledger), rules.get("target")
    if best is None or target is None:
        return ""
    objective, value = _decisive(best, ledger)
    signed = target if objective.maximize else -target
    return f"the target is reached: {objective.name} {abs(value):.4g}, {target:g} was asked" if value >= signed else ""


def _idle(history: Sequence[Trial], ledger: Ledger, rules: Any) -> str:
    """Returns that no trial of the last `patience` improved the best value by more than `improvement`."""
    patience = rules.get("patience")
    if patience is None or len(history) <= patience:
        return ""
    before, now = _best(history[:-patience], ledger), _best(history, ledger)
    if before is None or now is None:
        return ""
    reserve = reserve_of(history, ledger)
    if len(ledger.ground.lane.objectives) > 1 and in_reserve(before, ledger, reserve) != in_reserve(
        now, ledger, reserve
    ):
        return ""
    (objective, old), (_, new) = _decisive(before, ledger), _decisive(now, ledger)
    least = float(rules.get("improvement", IMPROVEMENT))
    if new - old > least * abs(old):
        return ""
    return f"no improvement of {objective.name} by more than {100 * least:g} % in the last {patience} trials"


def _best(history: Sequence[Trial], ledger: Ledger) -> Trial | None:
    """Returns the trial that a decision would take now, if it can be accepted at all."""
    best = next(iter(ranking(history, ledger)), None)
    return best if best is not None and ledger.acceptable(best) else None


def _decisive(trial: Trial, ledger: Ledger) -> tuple[Any, float]:
    """Returns the objective that decides, and its signed value: the second one where the reserve is met."""
    objectives, signed = ledger.ground.lane.objectives, ledger.signed(trial)
    at = 1 if len(objectives) > 1 and in_reserve(trial, ledger, reserve_of([trial], ledger)) else 0
    return objectives[at], signed[at]
