"""The one judge of all contestants: what a history is worth after each of its trials.

A candidate counts if it was run on every seed and is feasible on each. A history is worth the least cost among those
that count; where there are two costs, the hypervolume that they dominate. Values are given so that less is better
(a hypervolume as what it lacks of the largest), and an infinite value says that nothing feasible was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .optima import hypervolume
from .problem import Point, Problem

TIE = 0.001  # of the known optimum


@dataclass(frozen=True)
class Judged:
    """What a history is worth."""

    values: tuple[float, ...]  # after each trial
    first_feasible: int | None  # trials to it, the first is 1


def judge(problem: Problem, history: Sequence[Point | None]) -> Judged:
    """Judges a history; None stands for a trial that was not run on every seed."""
    counting = [point is not None and point.feasible and bool(np.isfinite(point.costs).all()) for point in history]
    first = counting.index(True) + 1 if True in counting else None
    values, costs, best = [], list[tuple[float, ...]](), math.inf
    for point, counts in zip(history, counting, strict=True):
        if counts:
            costs.append(point.costs)
            best = lacking(problem, costs) if problem.areal else min(best, point.costs[0])
        values.append(best)
    return Judged(tuple(values), first)


def lacking(problem: Problem, costs: Sequence[tuple[float, ...]]) -> float:
    """Returns the hypervolume that is left to gain."""
    return problem.optimum - hypervolume(np.array(costs))


def compared(ours: float, theirs: float, yardstick: float) -> int:
    """Returns 1 where ours is better, -1 where theirs is, 0 for a tie: equal, or within 0.1 % of the yardstick."""
    if ours == theirs or abs(ours - theirs) <= TIE * abs(yardstick):
        return 0
    return 1 if ours < theirs else -1


def at(values: Sequence[float], trials: int) -> float:
    """Returns the value at a checkpoint; a search that ended earlier keeps what it had."""
    return values[min(trials, len(values)) - 1]
