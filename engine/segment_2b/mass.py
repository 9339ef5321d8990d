"""Exact mass: shares as integer quanta over a power of two, so that a sum is exactly 1 in any order.

Largest remainder: each share gets the floor of its quanta, and the quanta left over go one by one to the
largest remainders, ties by index. This keeps order: if p_i < p_j then floor(i) <= floor(j), and where
the floors are equal j has the larger remainder and is served first, so quanta(i) <= quanta(j).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.policies import PolicyError

GROUP_BITS = 48  # quantum 2^-48 of S4: far below what any metric sees, and sums stay inside a double's 53 bits


def cumulative(weights: Iterable[float], field: str) -> NDArray[np.float64]:
    """[k] cumulative shares of declared weights, the last one 1. Raises PolicyError where no weight is above 0."""
    listed = [float(weight) for weight in weights]
    total = math.fsum(listed)
    if not total > 0.0:
        raise PolicyError(f"{field}: one weight at least must be above 0")
    upto = np.cumsum(listed) / total
    upto[np.flatnonzero(listed)[-1] :] = 1.0  # whatever rounding left: the last with a weight takes it
    return upto


@compiled
def apportion(shares: Any, total: int, quanta: Any) -> None:
    """Fills `quanta` (int64) with integers that sum to `total` and follow `shares` (which sum to about 1)."""
    n = len(shares)
    left = total
    for i in range(n):
        quanta[i] = np.int64(np.floor(shares[i] * total))
        left -= quanta[i]
    _settle(shares, total, quanta, left)


@compiled
def apportion_rounded(shares: Any, total: int, quanta: Any) -> None:
    """As `apportion`, but S1's law: round half to even first, then settle what is left by remainder."""
    n = len(shares)
    left = total
    for i in range(n):
        quanta[i] = np.int64(np.round(shares[i] * total))
        left -= quanta[i]
    _settle(shares, total, quanta, left)


@compiled
def _settle(shares: Any, total: int, quanta: Any, left: int) -> None:
    """Gives (or takes) `left` quanta one by one where shares are most under- (or over-) served."""
    n = len(shares)
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
    # One pass over a stable order is the same as one by one: no share is ever served twice before all
    # are, because remainders lie within one quantum of each other.
    order = np.argsort(-step * remainder, kind="mergesort")
    for k in range(abs(left)):
        quanta[order[k % n]] += step
