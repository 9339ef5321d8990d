"""Why a trial is not the one that the decision takes: the first thing in which it is behind, in that order."""

from __future__ import annotations

from dataclasses import dataclass

from lanelock.sweeps.decision.decision import in_reserve
from lanelock.sweeps.decision.reserve import Reserve
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

FIRST = "first"


@dataclass(frozen=True, slots=True)
class Behind:
    """The first thing in which a trial is behind the first of the ranking."""

    kind: str  # FIRST, "failed", "ungraded", "vetoed", "stopped", "band", "reserve", "objective" or "later"
    text: str


def behind(trial: Trial, best: Trial, ledger: Ledger, reserve: Reserve) -> Behind:
    """Returns in what a trial is behind `best`, the first of `ranking` over the same trials."""
    if trial.number == best.number:
        return Behind(FIRST, "first in the decision's order")
    if trial.failed:
        return Behind("failed", f"failed: {trial.record.failure}")
    if vetoed := ledger.vetoed(trial):
        return Behind("vetoed", f"vetoed by {', '.join(vetoed)}")
    if not ledger.complete(trial):
        return Behind("stopped", f"stopped early: {trial.record.stopped or 'it was behind on the first seeds'}")
    if trial.objectives is None:
        return Behind("ungraded", "could not be graded on every seed")
    return _graded(trial, best, ledger, reserve)


def _graded(trial: Trial, best: Trial, ledger: Ledger, reserve: Reserve) -> Behind:
    """Returns in what a trial that can be accepted is behind another such trial."""
    bands = [ledger.band(one, reachable_only=True) for one in (trial, best)]
    if bands[0] != bands[1]:
        return Behind("band", f"holds {bands[0] or 'no band'}, the first holds {bands[1]}")
    first, *others = ledger.ground.lane.objectives
    if others and not in_reserve(trial, ledger, reserve) and ledger.signed(best)[0] > ledger.signed(trial)[0]:
        return Behind("reserve", _below(first, trial, best, reserve))
    for objective in (*others, first):
        at = ledger.ground.lane.objectives.index(objective)
        if ledger.signed(trial)[at] != ledger.signed(best)[at]:
            return Behind("objective", _worse(objective, _score(trial, at), _score(best, at)))
    return Behind("later", f"equal to trial {best.number}, but later")


def _below(first: Objective, trial: Trial, best: Trial, reserve: Reserve) -> str:
    """Returns how far the first objective is from the reserve, or from the best where that does not reach it either."""
    asked, side = (reserve.value, "below") if first.maximize else (-reserve.value, "above")
    ours, theirs = _score(trial, 0), _score(best, 0)
    if (theirs if first.maximize else -theirs) < reserve.value:
        return f"{first.name} {ours:.4g} against {theirs:.4g}; no trial reaches the reserve {asked:.4g}"
    return f"{first.name} {ours:.4g} is {side} the reserve {asked:.4g}"


def _score(trial: Trial, at: int) -> float:
    assert trial.objectives is not None  # only graded trials come here
    return trial.objectives[at]


def _worse(objective: Objective, ours: float, theirs: float) -> str:
    """Returns by how much an objective is worse, in percent where the better value is not 0."""
    word = "lower" if objective.maximize else "higher"
    if theirs == 0 or (ours > 0) != (theirs > 0):
        return f"{objective.name} {ours:.4g} against {theirs:.4g}, {abs(ours - theirs):.4g} {word}"
    return f"{objective.name} {ours:.4g} against {theirs:.4g}, {word} by {100 * abs(ours / theirs - 1):.3g} %"
