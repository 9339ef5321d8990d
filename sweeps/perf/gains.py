"""What two sides took, round by round: the gain of each state and of all, with an interval, and what got slower.

A round runs both sides one after the other, so that what disturbs the machine for a while disturbs both. The gain is
the median over the rounds of the differences, and of the ratios. Its interval is that of `medians`: it follows from the
rounds alone, without random numbers, so that anyone derives it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.sweeps.perf.medians import Median, median_of

ALL = "all"  # in place of a state: the sum of all
LOADING = "loading"  # in place of a state: importing and opening the pack; once in a process, and in no sum
_JITTER = 10.0  # times the seconds of the limit, on the wall clock and on loading: what else a machine does delays it
_TICK = 1e-6  # seconds: finer than what a processor's clock shows


@dataclass(frozen=True, slots=True)
class Limit:
    """How much slower a state may get: both have to be exceeded."""

    share: float  # of what it took before
    seconds: float

    def exceeded(self, saved: Median, ratio: Median, times: float = 1.0) -> bool:
        """Whether the whole of both intervals lies beyond it; `times`: as many more seconds are allowed."""
        return ratio.low > 1 + self.share and saved.high < -self.seconds * times


@dataclass(frozen=True, slots=True)
class Gain:
    """What one state, or `ALL`, took on both sides: seconds of the processor, and beside them of the wall clock."""

    state: str
    before: Median
    after: Median
    saved: Median  # seconds, before - after
    ratio: Median  # after / before
    wall_before: Median
    wall_after: Median
    wall_saved: Median
    wall_ratio: Median
    slower: bool  # by more than the limit, on either clock: a state that waits takes no processor

    @property
    def faster(self) -> bool:
        """Whether the interval of what is saved excludes zero."""
        return self.saved.low > 0

    @property
    def weight(self) -> float:
        """Seconds that make it stand before others."""
        return max(abs(self.saved.value), abs(self.wall_saved.value))

    @property
    def worst(self) -> Median:
        """The ratio of the clock on which it got slower most."""
        return max(self.ratio, self.wall_ratio, key=lambda ratio: ratio.low)

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


Seconds = Mapping[str, Sequence[float]]  # state -> a value per round
Sides = tuple[Seconds, Seconds]  # before and after


def gains(order: Sequence[str], processor: Sides, wall: Sides, limit: Limit) -> tuple[Gain, ...]:
    """Returns the gain of every state that both sides have, in `order`, and of all together at the end."""
    known = [[state for state in order if state in side] for side in processor]
    rows = [
        _gain(state, *(side[state] for side in (*processor, *wall)), limit=limit)
        for state in known[1] if state in known[0]
    ]  # fmt: skip
    summed = [[state for state in states if state != LOADING] for states in known]
    sums = (_summed(side, states) for clock in (processor, wall) for side, states in zip(clock, summed, strict=True))
    return (*rows, _gain(ALL, *sums, limit=limit))


def _summed(seconds: Seconds, states: Sequence[str]) -> list[float]:
    return [sum(values) for values in zip(*(seconds[state] for state in states), strict=True)]


def _gain(
    state: str, before: Sequence[float], after: Sequence[float], wall_before: Sequence[float],
    wall_after: Sequence[float], *, limit: Limit,
) -> Gain:  # fmt: skip
    processor, wall = _clock(before, after), _clock(wall_before, wall_after)
    times = _JITTER if state == LOADING else 1.0
    slower = limit.exceeded(*processor[2:], times) or limit.exceeded(*wall[2:], _JITTER)
    return Gain(state, *processor, *wall, slower)


def _clock(before: Sequence[float], after: Sequence[float]) -> tuple[Median, Median, Median, Median]:
    """Returns what one clock shows before and after, what is saved, and the ratio."""
    pairs = [*zip(before, after, strict=True)]
    saved, ratio = median_of(was - now for was, now in pairs), median_of(_ratio(was, now) for was, now in pairs)
    return median_of(before), median_of(after), saved, ratio


def _ratio(was: float, now: float) -> float:
    """Returns how many times as long it takes now; 1 where the clock saw neither."""
    return max(now, _TICK) / max(was, _TICK)
