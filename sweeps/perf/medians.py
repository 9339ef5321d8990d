"""The median of repeated measurements, with an interval that assumes nothing of how they are distributed.

Seconds have a floor and a long tail, so their mean and its error say little. Between the k-th smallest and the k-th
largest of n independent rounds lies the true median with a probability that is the binomial distribution's alone
(order statistics). The interval taken is the narrowest of these that still has `LEVEL`; with too few rounds for that it
is from the smallest to the largest, and states the probability that it has.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Median:
    """A median, and the interval in which the true one lies with probability `coverage`."""

    value: float
    low: float
    high: float
    coverage: float  # 1 - 2 ** (1 - n) at most: 0 of one round, .75 of three, .9375 of five
    least: float  # the smallest value: what a busy machine added nothing to, or least


def median_of(values: Iterable[float]) -> Median:
    """Returns the median of at least one value."""
    ordered = sorted(values)
    ranks = range(1, (len(ordered) + 1) // 2 + 1)
    rank = max((one for one in ranks if coverage(len(ordered), one) >= LEVEL), default=1)
    return Median(
        statistics.median(ordered), ordered[rank - 1], ordered[-rank], coverage(len(ordered), rank), ordered[0]
    )


def coverage(rounds: int, rank: int) -> float:
    """Returns the probability that the true median lies between the rank-th smallest and rank-th largest value."""
    outside = sum(math.comb(rounds, below) for below in range(rank))
    return max(0.0, 1.0 - 2.0 * outside / float(1 << rounds))
