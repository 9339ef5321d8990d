"""Exact mass: shares as integer quanta over a power of two, so that they sum to exactly 1 in any order.

Largest remainder: each share gets the floor of its quanta, and the remaining quanta go one by one to the
largest remainders, ties by index. This keeps order: if p_i < p_j then floor(i) <= floor(j), and if the
floors are equal, j has the larger remainder and is served first, so quanta(i) <= quanta(j).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.policies import PolicyError

GROUP_BITS = 48  # S4's quantum is 2^-48: far below what any metric resolves, and sums fit a double's 53 bits


def cumulative(weights: Iterable[float], field: str) -> NDArray[np.float64]:
    """Returns [k] cumulative shares of declared weights, ending at 1. Raises PolicyError if no weight is above 0."""
    listed = [float(weight) for weight in weights]
    total = math.fsum(listed)
    if not total > 0.0:
        raise PolicyError(f"{field}: one weight at least must be above 0")
    upto = np.cumsum(listed) / total
    upto[np.flatnonzero(listed)[-1] :] = 1.0  # the last item with a weight absorbs the rounding error
    return upto


@compiled
def apportion(shares: Any, total: int, quanta: Any, rounded: bool = False) -> None:
    """Fills `quanta` (int64) with integers that sum to `total` and follow `shares` (which sum to about 1).

    With `rounded` (S1's law) a share starts from its nearest integer, half to even, instead of its floor. The
    difference to `total` is then given, or taken back, one by one where shares are most under- or over-served.
    """
    n = len(shares)
    left = total
    for i in range(n):
        exact = shares[i] * total
        quanta[i] = np.int64(np.round(exact) if rounded else np.floor(exact))
        left -= quanta[i]
    if left == 0:
        return
    remainder = np.empty(n)
    for i in range(n):
        remainder[i] = shares[i] * total - quanta[i]
    step = 1 if left > 0 else -1
    if n <= 32:
        for _ in range(abs(left)):
            best = 0
            for i in range(1, n):
                if step * remainder[i] > step * remainder[best]:
                    best = i
            quanta[best] += step
            remainder[best] -= step
        return
    # One pass in a stable order serves the same shares: remainders lie within one quantum of each other, so
    # none is served twice before all are served once.
    order = np.argsort(-step * remainder, kind="mergesort")
    for k in range(abs(left)):
        quanta[order[k % n]] += step
